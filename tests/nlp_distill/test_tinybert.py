"""TinyBERT's task stage on a tiny teacher: the two trainings, the baselines, resume, per-task settings, bad input."""

import json
import random
import re

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, BertConfig

from nlp_distill.hashes import hash_weights
from nlp_distill.pipelines import tinybert_stages
from nlp_distill.pipelines.general_student import read_general_record
from nlp_distill.pipelines.tinybert import distill_tinybert
from nlp_distill.pipelines.tinybert_config import PER_TASK, TinyBERTDistillation, WordReplacement
from nlp_distill.students import Shape
from nlp_distill.tasks import TaskData
from nlp_distill.tasks.glue import GLUE
from nlp_distill.tasks.splits import Row, to_dataset

SMALL = ["--layers", 1, "--hidden-size", 8, "--heads", 2, "--ffn-size", 12]
FAST = ["--num-train-epochs", 1, "--intermediate-epochs", 1, "--learning-rate", "1e-3", "--max-length", 32]
TRANSFER = ["--n-iter", 2, "--p-replace", 0.9]


@pytest.fixture(scope="module")
def glove_file(tmp_path_factory):
    """Vectors of the words that the texts are made of."""
    source, path = random.Random(0), tmp_path_factory.mktemp("glove") / "glove.txt"
    words = ["film", "movie", "plot", "story", "good", "great", "fine", "bad", "dull", "trainword"]
    path.write_text("\n".join(f"{word} {source.gauss(0, 1)} {source.gauss(0, 1)}" for word in words) + "\n")
    return path


@pytest.fixture
def distill(run_cli, data_options, teacher_folder, glove_file, tmp_path):
    def run(*more, output=tmp_path / "run", data=data_options, teacher=teacher_folder, shape=SMALL):
        given = [*data, "--teacher", teacher, "--output", output, *TRANSFER, *FAST]
        given += ["--glove-file", glove_file]
        return run_cli("distill", "tinybert", *given, *shape, *more)

    return run


def read(folder):
    return json.loads((folder / "results.json").read_text())


def test_a_run_shows_the_student_beside_its_teacher_and_every_baseline(distill, tmp_path, capsys):
    assert distill("--results-dir", tmp_path / "results", "--seeds", 0, 1) == 0
    results = read(tmp_path / "run")
    arms = ["teacher", "student_without_teacher", "general_only", "intermediate_only", "student"]
    assert list(results["models"]) == arms
    assert results["shape"] == {"layers": 1, "hidden": 8, "heads": 2, "ffn": 12}
    assert len(results["models"]["student"]["scores"]) == 2
    assert results["transfer_set"]["rows"] > 40 and results["retention"] > 0
    printed = capsys.readouterr().out
    assert "general student, without the teacher" in printed and re.search(
        r"\d× (faster|slower)\*\*", printed
    )
    for method in ("", "_without_teacher", "_general_only", "_intermediate_only"):
        for seed in (0, 1):
            path = tmp_path / "results" / f"tinybert_1x8{method}" / "mine" / f"{seed}.json"
            entry = json.loads(path.read_text())
            assert 0 <= entry["score"] <= 1 and entry["wall_time_s"] >= 0
            assert (entry["transfer_set"] is None) == (method in ("_without_teacher", "_general_only"))
    student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "student-seed0")
    assert student.config.id2label == {0: "negative", 1: "positive"}
    AutoTokenizer.from_pretrained(tmp_path / "run" / "student-seed0")

    assert distill("--results-dir", tmp_path / "results", "--seeds", 0, 1) == 0
    # Teacher, transfer set, labels; of a seed four arms, and the intermediate stage twice.
    assert capsys.readouterr().err.count("reusing") == 3 + 2 * 6


def test_the_prediction_stage_starts_from_the_intermediate_one_and_learns_from_cached_logits(
    distill, tmp_path, monkeypatch
):
    started, teachers = {}, {}
    original = tinybert_stages.DistillationTrainer

    class Spy(original):
        def __init__(self, model, teacher=None, objective=None, args=None, **more):
            name = args.output_dir.split("/")[-2]
            started[name], teachers[name] = hash_weights(model), teacher
            super().__init__(model, teacher, objective, args, **more)

    monkeypatch.setattr(tinybert_stages, "DistillationTrainer", Spy)
    assert distill() == 0
    intermediate = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "intermediate-seed0")
    assert started["student-seed0"] == started["intermediate_only-seed0"] == hash_weights(intermediate)
    assert (
        started["general_only-seed0"]
        == started["intermediate-seed0"]
        != started["student_without_teacher-seed0"]
    )
    assert teachers["intermediate-seed0"] is not None and teachers["student-seed0"] is None


def test_a_general_student_is_where_it_starts(distill, run_cli, encoder_folder, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the film was good\nthe plot was dull\n" * 20)
    general = [
        "distill",
        "general",
        "--text",
        text,
        "--teacher",
        encoder_folder,
        "--output",
        tmp_path / "general",
    ]
    assert run_cli(*general, *SMALL, "--max-length", 16, "--max-steps", 2) == 0
    folder = tmp_path / "general" / "student"
    assert distill("--general", folder, "--results-dir", tmp_path / "results", shape=[]) == 0
    results, made = read(tmp_path / "run"), read(tmp_path / "general")
    published = json.loads((tmp_path / "results/tinybert_1x8/mine/0.json").read_text())
    for record in (results["general_student"], published["general_student"]):  # how the start was made
        assert record["command"].startswith("nlp-distill distill general") and record["seconds"] >= 0
        assert record["config"] == made["config"] and record["config"]["training"]["max_steps"] == 2
        assert record["text"] == {"tokens": made["text"]["tokens"], "sha256": made["text"]["sha256"]}
    assert results["shape"] == results["config"]["shape"] == published["config"]["shape"]
    assert results["shape"]["hidden"] == 8 and results["config"]["general"] == "student"
    assert AutoModel.from_pretrained(tmp_path / "run" / "student-seed0").config.hidden_size == 8


def test_a_general_student_of_which_nothing_is_told_has_no_record(tmp_path):
    assert read_general_record(tmp_path / "none" / "student") is None
    (tmp_path / "results.json").write_text('{"models": {}}')
    assert read_general_record(tmp_path / "student") is None


def test_a_transfer_set_is_made_again_from_other_vectors_of_the_same_name(
    distill, glove_file, tmp_path, capsys
):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text(glove_file.read_text())
    assert distill("--glove-file", vectors, "--no-baseline") == 0
    moved = vectors.rename(tmp_path / "moved.txt")
    assert distill("--glove-file", moved, "--no-baseline") == 0  # the same vectors elsewhere
    moved.write_text("".join(reversed(glove_file.read_text().splitlines(keepends=True))))
    capsys.readouterr()
    assert distill("--glove-file", moved, "--no-baseline") == 2
    error = capsys.readouterr().err
    assert "transfer_set was made with other settings (settings.glove_file: " in error, error


def test_candidates_depend_on_the_model_in_a_folder_and_not_on_its_place(make_bert, tokenizer, tmp_path):
    def hash_it(name, seed):
        make_bert(seed).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return WordReplacement(mlm=str(tmp_path / name)).hash_sources()

    first = hash_it("one", 0)
    assert first == hash_it("two", 0) and first.keys() == {"mlm"}
    assert first != hash_it("one", 1)
    assert WordReplacement(mlm="bert-base-uncased").hash_sources() == {} == WordReplacement().hash_sources()


@pytest.mark.parametrize(
    ("part", "arms"),
    [
        ("attention", ["general_only", "intermediate_only", "student"]),
        ("intermediate", ["general_only", "student"]),
        ("prediction", ["general_only", "student"]),
        ("general", ["intermediate_only", "student"]),
        ("augmentation", ["general_only", "intermediate_only", "student"]),
    ],
)
def test_what_an_ablation_leaves_out_is_left_out(distill, tmp_path, part, arms):
    assert distill("--without", part, "--results-dir", tmp_path / "results") == 0
    results = read(tmp_path / "run")
    assert list(results["models"])[2:] == arms and results["config"]["without"] == [part]
    assert (tmp_path / "run" / "intermediate-seed0").exists() == (part != "intermediate")
    assert (tmp_path / "results" / f"tinybert_1x8_without_{part}" / "mine" / "0.json").exists()
    assert (results["transfer_set"]["copies"] == 0) == (part == "augmentation")
    if part == "attention":
        finished = json.loads((tmp_path / "run" / "intermediate-seed0" / "stage_finished.json").read_text())
        assert finished["inputs"]["settings"]["without"] == ["attention"]


def test_baselines_can_have_epochs_of_their_own(distill, tmp_path):
    assert distill("--baseline-epochs", 3) == 0
    folders = ("general_only-seed0", "intermediate_only-seed0", "student-seed0")
    epochs = [
        json.loads((tmp_path / "run" / folder / "stage_finished.json").read_text())["result"]["training"][
            "epochs"
        ]
        for folder in folders
    ]
    assert epochs == [3, 3, 1]


def test_ablations_of_a_run_share_its_rows_and_what_the_teacher_computed(
    distill, tmp_path, monkeypatch, capsys
):
    written, kept = [], tinybert_stages.write_states
    monkeypatch.setattr(tinybert_stages, "write_states", lambda *given: written.append(given) or kept(*given))
    parts = ["attention", "prediction", "general", "augmentation"]
    command = ["--ablations", *parts, "--seeds", 0, 1, "--results-dir", tmp_path / "results"]
    assert distill(*command) == 0
    assert len(written) == 2  # the run's rows, and those without augmentation
    models = read(tmp_path / "run")["models"]
    assert list(models)[-4:] == [f"student_without_{part}" for part in parts]
    assert models["student_without_prediction"]["scores"] == models["intermediate_only"]["scores"]
    shown = capsys.readouterr().out
    assert "distilled, without the attention term" in shown and "distilled, from random weights" in shown
    for part in parts:
        path = tmp_path / "results" / f"tinybert_1x8_without_{part}" / "mine" / "1.json"
        entry = json.loads(path.read_text())
        assert entry["config"]["without"] == [part]
        assert (entry["transfer_set"]["rows"] == 40) == (part == "augmentation")
    run = tmp_path / "run"
    assert not list(run.rglob("*.f16"))  # gigabytes that are not left behind
    full, ablated = (
        json.loads((folder / "intermediate-seed0" / "stage_finished.json").read_text())["inputs"]
        for folder in (run, run / "without_attention")
    )
    assert full["labels"] == ablated["labels"] and full["start"] == ablated["start"]
    assert distill(*command) == 0  # everything is reused, and published again
    assert len(written) == 2


def test_a_teacher_that_is_not_kept_gives_nearly_the_same_student(distill, tmp_path):
    logits = []
    for gigabytes in (0, 8):
        output = tmp_path / f"run{gigabytes}"
        options = ["--no-baseline", "--intermediate-epochs", 3, "--teacher-cache-gb", gigabytes]
        assert distill(*options, output=output) == 0
        model = AutoModelForSequenceClassification.from_pretrained(output / "student-seed0").eval()
        logits.append(model(torch.arange(6)[None]).logits)
    torch.testing.assert_close(*logits, rtol=0.02, atol=0.02)


def test_an_ablation_is_published_beside_the_full_run_and_other_settings_are_refused(
    distill, tmp_path, capsys
):
    results = ["--results-dir", tmp_path / "results", "--no-baseline"]
    assert distill(*results, output=tmp_path / "full") == 0
    before = (tmp_path / "results" / "tinybert_1x8" / "mine" / "0.json").read_bytes()
    assert distill(*results, "--without", "hidden", output=tmp_path / "ablation") == 0
    assert (tmp_path / "results" / "tinybert_1x8_without_hidden" / "mine" / "0.json").exists()
    assert (tmp_path / "results" / "tinybert_1x8" / "mine" / "0.json").read_bytes() == before
    capsys.readouterr()
    assert distill(*results, "--temperature", 2, output=tmp_path / "other") == 2
    assert "holds the result of other settings (temperature: 1.0 there, 2.0 now" in capsys.readouterr().err


def test_another_teacher_makes_every_arm_again(distill, fine_tune, tmp_path, capsys):
    """The one without a teacher too: it has the teacher's vocabulary and is compared with its logits."""
    assert distill() == 0 and fine_tune(tmp_path / "other", "--seed", 1) == 0
    capsys.readouterr()
    assert distill("--overwrite", teacher=tmp_path / "other") == 0
    reused = [line for line in capsys.readouterr().err.splitlines() if "reusing" in line]
    # The rows did not change; and the intermediate stage is asked for twice, made anew the first time.
    assert [line.partition(":")[0] for line in reused] == [
        "• building the transfer set",
        "• intermediate distillation, seed 0",
    ]


def test_regressions_learn_the_teachers_values(distill, run_cli, own_files, encoder_folder, tmp_path):
    data = ["--task", "mine", "--text-column", "text", "--label-column", "score"]
    for split in ("train", "validation", "test"):
        data += [f"--{split}-file", own_files / f"{split}.csv"]
    teacher = tmp_path / "teacher"
    training = ["--num-train-epochs", 1, "--learning-rate", "1e-2", "--max-length", 32]
    assert run_cli("finetune", "--model", encoder_folder, "--output", teacher, *data, *training) == 0
    assert distill("--no-baseline", data=data, teacher=teacher) == 0
    results = read(tmp_path / "run")
    assert list(results["models"]) == ["teacher", "student"] and results["metric"] == "spearmanr"


def test_mnli_is_selected_on_matched_rows_and_reported_on_both_sets(
    distill, run_cli, encoder_folder, tmp_path, capsys
):
    folder, source = tmp_path / "glue" / "MNLI", random.Random(0)
    folder.mkdir(parents=True)
    labels = ("entailment", "neutral", "contradiction")
    for name, size in (("train", 60), ("dev_matched", 12), ("dev_mismatched", 15)):
        lines = ["index\tsentence1\tsentence2\tlabel1\tgold_label"]
        for number in range(size):
            words = " ".join(source.choices(["film", "movie", "good", "bad", "dull"], k=5))
            lines.append(f"{number}\t{words} {name} {number}\t{words}\tneutral\t{labels[number % 3]}")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    data = ["--task", "mnli", "--data-dir", folder.parent]
    training = ["--num-train-epochs", 1, "--max-length", 32]
    teacher = tmp_path / "teacher"
    assert run_cli("finetune", *data, "--model", encoder_folder, "--output", teacher, *training) == 0
    assert distill("--results-dir", tmp_path / "results", data=data, teacher=teacher) == 0
    results = read(tmp_path / "run")
    assert results["data"]["test"]["rows"] == 12 and results["data"]["mnli_mm"]["rows"] == 15
    assert results["data"]["train"]["rows"] + results["data"]["validation"]["rows"] == 60
    for model in results["models"].values():
        assert 0 <= model["extra_tests"]["mnli_mm"]["score"] <= 1
    assert "On mnli_mm:" in capsys.readouterr().out
    entry = json.loads((tmp_path / "results" / "tinybert_1x8" / "mnli" / "0.json").read_text())
    own = results["models"]["student"]
    assert entry["score"] == pytest.approx(own["score"]) and entry["selected_on"] == "train"
    mismatched = entry["extra_tests"]["mnli_mm"]
    assert mismatched["score"] == pytest.approx(own["extra_tests"]["mnli_mm"]["score"])
    # What validation saw are rows of train: neither of the reported sets.
    finished = json.loads((tmp_path / "run" / "student-seed0" / "stage_finished.json").read_text())
    assert finished["inputs"]["data"]["validation"] == results["data"]["validation"]


def test_an_interrupted_run_ends_at_the_same_student(distill, tmp_path, monkeypatch):
    assert distill("--no-baseline", output=tmp_path / "whole") == 0
    step, taken = tinybert_stages.DistillationTrainer.training_step, []

    def interrupt(*args, **kwargs):
        taken.append(1)
        if len(taken) == 12:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(tinybert_stages.DistillationTrainer, "training_step", interrupt)
    batches = ["--per-device-train-batch-size", 4, "--no-baseline"]
    assert distill(*batches, output=tmp_path / "torn") == 130
    monkeypatch.setattr(tinybert_stages.DistillationTrainer, "training_step", step)
    assert distill(*batches, output=tmp_path / "torn") == 0
    assert distill(*batches, output=tmp_path / "again") == 0
    torn, again = (AutoModel.from_pretrained(tmp_path / name / "student-seed0") for name in ("torn", "again"))
    assert hash_weights(torn) == hash_weights(again)


# ---- per-task settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PER_TASK))
def test_each_tasks_epochs_lengths_and_learning_rates_reach_the_trainer(
    name, make_bert, tokenizer, glove_file, tmp_path, monkeypatch
):
    """Through the pipeline itself, up to the point where training would begin."""
    papers = {
        "cola": (50, 64, 30),
        "sst2": (10, 64, 20),
        "sst2_10k": (10, 64, 20),
        "mrpc": (20, 128, 30),
        "stsb": (20, 128, 30),
        "qqp": (5, 128, 10),
        "mnli": (5, 128, 10),
        "qnli": (10, 128, 20),
        "rte": (20, 128, 30),
        "wnli": (20, 128, 30),
    }
    task = GLUE[name].task
    label = 0.5 if task.is_regression else 0
    long = "good film " * 100
    rows = to_dataset(
        task, "train", [Row(i, (f"{long} {i}",) * len(task.text_columns), label) for i in range(3)]
    )
    data = TaskData(task=task, train=rows, validation=rows, test=rows, source="made here")
    teacher = make_bert(labels=task.labels, max_position_embeddings=128)
    teacher.save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    reached = []

    def stop(trainer, output):
        reached.append((trainer.args, trainer.train_dataset, type(trainer.model.objective).__name__))
        trainer.save_model(str(output))
        (output / "training_args.bin").unlink(missing_ok=True)
        return {"validation_score": 0.0, "seconds": 0.0}

    monkeypatch.setattr(tinybert_stages, "train_and_save", stop)
    replacement = WordReplacement(glove_file=str(glove_file))
    config = TinyBERTDistillation(shape=Shape(1, 8, 2, 12), baselines=(), transfer_set=replacement)
    results = distill_tinybert(config, data, str(tmp_path / "teacher"), tmp_path / "run", {})
    (layers, layer_rows, layer_objective), (predictions, rows, objective) = reached
    epochs, max_length, copies = papers[name]
    assert results["transfer_set"]["copies_drawn"] == 3 * copies
    assert layer_objective == "TinyBERTLayers"
    assert (layers.num_train_epochs, layers.learning_rate, layers.lr_scheduler_type) == (
        epochs,
        5e-5,
        "constant",
    )
    assert layers.per_device_train_batch_size == predictions.per_device_train_batch_size == 32
    assert objective == ("LogitRegression" if task.is_regression else "SoftTargets")
    assert (predictions.num_train_epochs, predictions.learning_rate) == (3, 3e-5)
    assert (predictions.lr_scheduler_type, predictions.warmup_steps) == ("linear", 0.1)
    assert layers.weight_decay == predictions.weight_decay == 0.01
    assert max(layer_rows.lengths) == max(rows.lengths) == max_length


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--without", "everything"], "there is no such part; give any of attention"),
        (["--without", "attention", "hidden", "embedding"], "leave out intermediate itself"),
        (["--without", "intermediate", "prediction"], "without both stages nothing is distilled"),
        (["--heads", 4], "student has 4 attention heads and the teacher 2"),
        (["--layers", 5], "layers is 5 but the teacher has 2"),
        (["--temperature", 0], "temperature is 0.0; it must be a number above 0"),
        (["--general", "missing-folder"], "do not go with --general"),
        (["--seeds", 1, 1], "give one or more, each once"),
        (["--relation-heads", 3], "relation_heads is 3, which does not divide"),
        (["--p-replace", 1.5], "p_replace is 1.5; a probability lies between 0 and 1"),
        (["--num-candidates", 0], "num_candidates is 0"),
        (["--glove-file", "nowhere.txt"], "no file nowhere.txt"),
        (["--mlm", "nowhere"], "cannot load the masked language model 'nowhere'"),
    ],
)
def test_settings_that_do_not_fit_get_one_line(distill, tmp_path, capsys, more, message):
    assert distill(*more) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "run" / "labels").exists()


def test_a_general_student_with_another_tokenizer_is_refused(distill, other_tokenizer, tmp_path, capsys):
    folder = tmp_path / "general"
    config = BertConfig(
        vocab_size=len(other_tokenizer),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
    )
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    other_tokenizer.save_pretrained(folder)
    assert distill("--general", folder, shape=[]) == 2
    assert "has another tokenizer than the teacher" in capsys.readouterr().err


def test_a_teacher_with_its_labels_in_another_order_teaches_the_same(distill, teacher_folder, tmp_path):
    turned = tmp_path / "turned"
    model = AutoModelForSequenceClassification.from_pretrained(teacher_folder)
    with torch.no_grad():
        for weight in model.classifier.parameters():
            weight.copy_(weight.flip(0))
    model.config.id2label = {0: "positive", 1: "negative"}
    model.config.label2id = {"positive": 0, "negative": 1}
    model.save_pretrained(turned)
    AutoTokenizer.from_pretrained(teacher_folder).save_pretrained(turned)
    scores, students = [], []
    for teacher in (teacher_folder, turned):
        output = tmp_path / f"run-{teacher.name}"
        assert distill(teacher=teacher, output=output) == 0
        scores.append({name: entry["metrics"] for name, entry in read(output)["models"].items()})
        student = AutoModelForSequenceClassification.from_pretrained(output / "student-seed0")
        assert student.config.id2label == {0: "negative", 1: "positive"}  # the task's order
        students.append(hash_weights(student))
    assert scores[0] == scores[1]
    assert students[0] == students[1]
