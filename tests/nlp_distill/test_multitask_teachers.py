"""A multi-task model as a teacher: each command takes the classifier of one task out of it, and no other task's."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from data_augment.errors import InputError
from nlp_distill.evaluation import load_logits, predict_logits
from nlp_distill.models import load_classifier, read_tasks
from nlp_distill.students import MultiTaskModel, TaskHead
from nlp_distill.tasks import load_own_files

FAST = ["--max-length", 32, "--num-train-epochs", 1]
STUDENT = [
    "--hidden-size",
    6,
    "--head-size",
    5,
    "--embedding-size",
    8,
    "--n-iter",
    1,
    "--pos-tagger",
    "textblob",
]
SMALL = [
    "--layers",
    1,
    "--hidden-size",
    8,
    "--heads",
    2,
    "--ffn-size",
    8,
    "--n-iter",
    0,
    "--intermediate-epochs",
    1,
]


@pytest.fixture(scope="module")
def bam_student(run_cli, suite_file, encoder_folder, tmp_path_factory):
    """The student of a BAM run over films, pairs and words."""
    folder = tmp_path_factory.mktemp("runs")
    data = ["--suite", suite_file, "--encoder", encoder_folder, "--output", folder / "bam"]
    training = ["--combination", "multi", "--learning-rate", "1e-2", "--per-device-train-batch-size", 16]
    assert run_cli("distill", "bam", *data, *training, *FAST) == 0
    return folder / "bam" / "student-all-seed0"


@pytest.fixture
def of_task(own_files):
    """``of_task("films")``: the data options of one of its tasks as a task of its own."""
    columns = {"films": [], "pairs": ["--text-pair-column", "second"]}
    columns["words"] = [*columns["pairs"], "--label-column", "score"]

    def make(name, called=None):
        files = [
            part for s in ("train", "validation", "test") for part in (f"--{s}-file", own_files / f"{s}.csv")
        ]
        return ["--task", called or name, "--text-column", "text", *files, *columns[name]]

    return make


def read_error(capsys):
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("name", ["films", "words"])
def test_a_bilstm_learns_from_one_task_of_it(bam_student, of_task, own_files, run_cli, tmp_path, name):
    output = tmp_path / "run"
    given = [*of_task(name), "--teacher", bam_student, "--output", output, *STUDENT, *FAST]
    assert run_cli("distill", "bilstm", *given, "--results-dir", tmp_path / "published") == 0
    published = {path.parts[-3] for path in (tmp_path / "published").glob("*/*/0.json")}
    assert published == {"bilstm_distilled_of_multitask", "bilstm_without_teacher"}
    results = json.loads((output / "results.json").read_text())
    columns = {} if name == "films" else {"text_pair_column": "second", "label_column": "score"}
    data = load_own_files(
        own_files / "train.csv", text_column="text", test_file=own_files / "test.csv", **columns
    )
    single = AutoModel.from_pretrained(bam_student).for_task(name)
    expected = predict_logits(single, AutoTokenizer.from_pretrained(bam_student), data.test, data.task, 32)
    np.testing.assert_allclose(
        load_logits(output / "teacher_scores" / "logits.npz")["test"], expected, atol=1e-5
    )
    teacher = results["models"]["teacher"]
    weights = sum(p.numel() for p in single.parameters())
    assert teacher["parameters"] == weights and teacher["bytes"] == 4 * weights  # of the one task
    assert "teacher_task" not in results["config"]
    assert (output / "student-seed0" / "model.safetensors").exists()


def test_a_smaller_bert_learns_its_layers_and_answers(bam_student, of_task, run_cli, tmp_path, capsys):
    output = tmp_path / "run"
    data = of_task("pairs", called="mine")
    given = [*data, "--output", output, "--teacher", bam_student, *SMALL, "--no-baseline", *FAST]
    assert run_cli("distill", "tinybert", *given) == 2
    said = read_error(capsys)
    assert "was not trained on mine; give --teacher-task, one of films, pairs, words" in said
    assert not output.exists()
    publish = ["--results-dir", tmp_path / "published"]
    assert run_cli("distill", "tinybert", *given, "--teacher-task", "pairs", *publish) == 0
    assert [path.parts[-3] for path in (tmp_path / "published").glob("*/*/0.json")] == [
        "tinybert_1x8_of_multitask"
    ]
    results = json.loads((output / "results.json").read_text())
    assert results["config"]["teacher_task"] == "pairs" and results["task"] == "mine"
    student = load_classifier(output / "student-seed0")
    assert student.config.hidden_size == 8 and student.config.num_hidden_layers == 1
    assert "name_or_path" not in (output / "student-seed0" / "config.json").read_text()


def test_rows_are_labelled_by_the_task_that_is_named(bam_student, own_files, run_cli, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"id": str(n), "text": "a good film"[: 4 + n]}) for n in range(5)))
    given = ["--teacher", bam_student, "--input", rows, "--text-column", "text", "--max-length", 32]
    assert run_cli("label", *given, "--output", tmp_path / "out.parquet") == 2
    assert "is a multi-task model; give --teacher-task, one of films" in read_error(capsys)
    assert run_cli("label", *given, "--teacher-task", "films", "--output", tmp_path / "out.parquet") == 0
    logits = np.array(pq.read_table(tmp_path / "out.parquet")["teacher_logits"].to_pylist())
    model, tokenizer = load_classifier(bam_student, "films"), AutoTokenizer.from_pretrained(bam_student)
    encoded = tokenizer(["a good film"[: 4 + n] for n in range(5)], padding=True, return_tensors="pt")
    with torch.no_grad():
        np.testing.assert_allclose(logits, model(**encoded).logits, atol=1e-4)


def test_evaluation_scores_its_task_and_refuses_one_it_was_not_trained_on(
    bam_student, of_task, teacher_folder, run_cli, capsys
):
    model = ["--model", teacher_folder, bam_student, "--max-length", 32]
    assert run_cli("evaluate", *of_task("films"), *model) == 0
    table = capsys.readouterr().out
    results = json.loads((bam_student.parent / "results.json").read_text())
    score = results["tasks"]["films"]["models"]["multi"]["score"]
    [row] = [line for line in table.splitlines() if str(bam_student) in line]
    assert f"| {score:.4f} |" in row
    assert run_cli("evaluate", *of_task("films", called="mine"), *model) == 2
    assert "was not trained on mine; give --model-task, one of films, pairs, words" in read_error(capsys)
    assert run_cli("evaluate", *of_task("films", called="mine"), *model, "--model-task", "films") == 0
    capsys.readouterr()
    assert run_cli("evaluate", *of_task("films"), *model, "--model-task", "words") == 2
    assert "compares two texts; name the column of the second with --text-pair-column" in read_error(capsys)
    alone = ["--model", teacher_folder, "--max-length", 32, "--model-task", "films"]
    assert run_cli("evaluate", *of_task("films"), *alone) == 2
    assert "no multi-task model; leave out --model-task" in read_error(capsys)


def test_a_task_of_it_is_measured_beside_other_models(bam_student, teacher_folder, run_cli, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    given = [teacher_folder, bam_student, "--lengths", 8, "--threads", 1, "--repeats", 3, "--seconds", 0]
    assert run_cli("benchmark", *given) == 2
    assert "give --task, one of films" in read_error(capsys)
    assert run_cli("benchmark", *given, "--task", "films", "--json", figures) == 0
    models = json.loads(figures.read_text())["models"]
    assert [model["name"] for model in models] == [str(teacher_folder), str(bam_student)]
    assert all(model["latency"][0]["p50_ms"] > 0 and model["load_s"] > 0 for model in models)


def test_a_teacher_with_a_san_head_has_logits_and_no_layers_to_give(
    make_bert, tokenizer, of_task, run_cli, tmp_path, capsys
):
    heads = [TaskHead("pairs", ("negative", "positive"), is_pair=True, head="san")]
    MultiTaskModel.from_encoder(make_bert(), heads).save_pretrained(tmp_path / "san")
    tokenizer.save_pretrained(tmp_path / "san")
    given = [*of_task("pairs"), "--teacher", tmp_path / "san"]
    small = [*SMALL, "--output", tmp_path / "small", *FAST]
    assert run_cli("distill", "tinybert", *given, *small) == 2
    assert "has no transformer layers that a student could learn from" in read_error(capsys)
    bilstm = [*STUDENT, "--no-baseline", "--output", tmp_path / "bilstm", *FAST]
    assert run_cli("distill", "bilstm", *given, *bilstm) == 0


def test_models_know_their_tasks_and_hand_out_copies(bam_student, teacher_folder):
    assert read_tasks(bam_student) == ("films", "pairs", "words") and read_tasks(teacher_folder) == ()
    whole, films = AutoModel.from_pretrained(bam_student), load_classifier(bam_student, "films")
    assert type(films).__name__ == "BertForSequenceClassification"
    assert torch.equal(films.classifier.weight, whole.get_classifier("films").classifier.weight)
    assert load_classifier(teacher_folder, "anything").num_labels == 2  # one task, whatever it is called
    with pytest.raises(
        InputError, match="was not trained on mnli; name one of its tasks: films, pairs, words"
    ):
        load_classifier(bam_student, "mnli")
    with pytest.raises(InputError, match="is a multi-task model; name one of its tasks"):
        load_classifier(bam_student)
