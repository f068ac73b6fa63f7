"""MT-DNN and BAM from the command line, on a made-up GLUE folder: what is trained, averaged, published and refused."""

import dataclasses
import json
import random
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from data_augment.errors import InputError
from nlp_distill.commands import bam as bam_commands
from nlp_distill.commands import mt_dnn as mt_dnn_commands
from nlp_distill.commands import suite as suite_commands
from nlp_distill.evaluation import load_logits
from nlp_distill.multitask_trainer import MultiTaskTrainer
from nlp_distill.pipelines import bam, mt_dnn
from nlp_distill.pipelines.multitask import score_task
from nlp_distill.pipelines.multitask_labels import Labels, label_tasks
from nlp_distill.pipelines.suite import Suite
from nlp_distill.students import MultiTaskModel, TaskHead
from nlp_distill.tasks import load_task

WORDS = ["film", "movie", "plot", "story", "it", "was", "a", "the"]
FAST = ["--max-length", 32, "--num-train-epochs", 1, "--per-device-train-batch-size", 16]


def write(folder, name, header, lines):
    (folder / name).mkdir(parents=True)
    for split, size in {"train": 40, "dev": 12}.items():
        rows = [header] if header else []
        rows += ["\t".join(map(str, lines(split, number))) for number in range(size)]
        (folder / name / f"{split}.tsv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    """CoLA (single sentences), RTE (pairs), STS-B (values) and WNLI, in the archive's own forms."""
    folder, source = tmp_path_factory.mktemp("glue"), random.Random(0)

    def text(split, number):
        return " ".join([*source.choices(WORDS, k=4), ("good", "bad")[number % 2], split, str(number)])

    write(folder, "CoLA", "", lambda s, n: ("x", n % 2, "", text(s, n)))
    pair = "index\tsentence1\tsentence2\tlabel"
    write(
        folder, "RTE", pair, lambda s, n: (n, text(s, n), text(s, n), ("entailment", "not_entailment")[n % 2])
    )
    write(folder, "WNLI", pair, lambda s, n: (n, text(s, n), text(s, n), n % 2))
    header = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"
    write(
        folder,
        "STS-B",
        header,
        lambda s, n: (n, "g", "f", "y", n, "s", "s", text(s, n), text(s, n), round(n % 6 * 0.9, 1)),
    )
    return folder


@pytest.fixture
def distill(run_cli, glue, encoder_folder, tmp_path):
    def run(method, *more, tasks=("cola", "rte", "stsb"), output=tmp_path / "run"):
        data = ["--tasks", *tasks, "--data-dir", glue, "--encoder", encoder_folder]
        return run_cli("distill", method, *data, "--output", output, *FAST, *more)

    return run


def read(folder):
    return json.loads((folder / "results.json").read_text())


# ---- MT-DNN ---------------------------------------------------------------------------------------------------------


def test_mt_dnn_trains_averages_and_distils(distill, tmp_path, capsys):
    results_dir = tmp_path / "results"
    command = ["mt-dnn", "--num-teachers", 3, "--keep", 2, "--san", "rte", "--seeds", 0, 1]
    command += ["--results-dir", results_dir]
    assert distill(*command) == 0
    results = read(tmp_path / "run")
    for name in ("cola", "rte", "stsb"):
        models = results["tasks"][name]["models"]
        assert list(models) == ["multitask", "ensemble", "student"]
        assert len(models["multitask"]["scores"]) == 3 and len(models["student"]["scores"]) == 2
    scores = [results["tasks"][name]["models"]["student"]["scores"] for name in results["averaged_over"]]
    assert results["averages"]["student"]["scores"] == pytest.approx(np.mean(scores, axis=0).tolist())
    assert "| student |" in capsys.readouterr().out
    for method, seeds in {"multitask": (100, 101, 102), "mt_dnn_ensemble": (0,), "mt_dnn_kd": (0, 1)}.items():
        for seed in seeds:
            entry = json.loads((results_dir / method / "rte" / f"{seed}.json").read_text())
            assert entry["tasks"] == ["cola", "rte", "stsb"] and -1 <= entry["score"] <= 1
            assert str(tmp_path) not in json.dumps(entry)
    run = tmp_path / "run"
    dropouts = [
        AutoModel.from_pretrained(folder).config.encoder["hidden_dropout_prob"]
        for folder in sorted(run.glob("teacher-?-seed???"))
    ]
    assert dropouts == [0.1, 0.2, 0.3]
    assert (
        len(list(run.glob("teacher-*-seed???-*-seed???"))) == 2 * 3
    )  # kept ones, further trained on each task
    student = AutoModel.from_pretrained(run / "student-seed0")
    assert isinstance(student, MultiTaskModel) and student.tasks[1].head == "san"
    assert distill(*command) == 0  # everything is reused
    capsys.readouterr()
    assert distill(*command, "--seeds", 0, 1, 5) == 0  # one student more, of the same teachers
    made = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.startswith("• ") and "reusing" not in line
    ]
    assert [line for line in made if "training" in line] == ["• training the student, seed 5"]


def test_the_ensemble_s_score_is_that_of_the_mean_of_probabilities(distill, glue, tmp_path):
    assert distill("mt-dnn", "--num-teachers", 2, "--no-fine-tuning", tasks=("rte", "stsb")) == 0
    run = tmp_path / "run"
    found = [
        load_logits(folder / "logits_rte.npz")["test"] for folder in sorted(run.glob("teacher-?-seed???"))
    ]
    probabilities = np.mean([torch.softmax(torch.tensor(own), -1).numpy() for own in found], axis=0)
    labels = np.asarray(load_task("rte", data_dir=glue).test["label"])
    accuracy = (probabilities.argmax(1) == labels).mean()
    assert read(run)["tasks"]["rte"]["models"]["ensemble"]["score"] == pytest.approx(accuracy)


def test_averages_against_numpy():
    source = np.random.default_rng(0)
    outputs = [source.normal(size=(5, 3)) * 3 for _ in range(4)]
    mean = np.zeros((5, 3))
    for own in outputs:
        for row in range(5):
            exponents = np.exp(own[row])
            mean[row] += exponents / exponents.sum() / 4
    averaged = mt_dnn.average_outputs(outputs, is_regression=False)
    np.testing.assert_allclose(np.exp(averaged), mean, rtol=1e-6)
    of_logits = np.mean(outputs, axis=0)
    softmax = np.exp(of_logits) / np.exp(of_logits).sum(1, keepdims=True)
    assert np.abs(softmax - mean).max() > 0.01  # averaging logits is something else
    values = [np.array([[1.0], [2.0]]), np.array([[3.0], [0.0]])]
    assert mt_dnn.average_outputs(values, is_regression=True).tolist() == [[2.0], [1.0]]


def test_tasks_without_a_teacher_learn_from_labels_and_teachers_can_be_given(
    distill, run_cli, glue, encoder_folder, tmp_path, monkeypatch
):
    for seed in (0, 1):
        data = ["--task", "rte", "--data-dir", glue, "--model", encoder_folder, "--seed", seed]
        assert run_cli("finetune", *data, "--output", tmp_path / f"rte{seed}", *FAST) == 0
    seen = []
    original = mt_dnn.train_model

    def spy(suite, recipe, encoder, labels, *rest, **more):
        seen.append((recipe, labels))
        return original(suite, recipe, encoder, labels, *rest, **more)

    monkeypatch.setattr(mt_dnn, "train_model", spy)
    given = [f"rte={tmp_path / 'rte0'}", f"rte={tmp_path / 'rte1'}"]
    assert distill("mt-dnn", "--teachers", *given) == 0
    [(recipe, labels)] = seen
    assert labels.logits["rte"].shape[1:] == (2, 2) and set(labels.logits) == {"rte"}
    assert recipe.objectives["rte"].needs_teacher and not recipe.objectives["cola"].needs_teacher
    assert list(read(tmp_path / "run")["tasks"]["rte"]["models"]) == ["student"]


# ---- BAM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("combination", "arms", "folders"),
    [
        ("single", ["single"], {"student-rte-seed0", "student-stsb-seed0"}),
        ("multi", ["multi"], {"student-all-seed0"}),
        (
            "single-single",
            ["single_teacher", "student"],
            {"teacher-rte-seed0", "teacher-stsb-seed0", "student-rte-seed0", "student-stsb-seed0"},
        ),
        ("multi-multi", ["multi_teacher", "student"], {"teacher-all-seed0", "student-all-seed0"}),
        (
            "single-multi",
            ["single_teacher", "student"],
            {"teacher-rte-seed0", "teacher-stsb-seed0", "student-all-seed0"},
        ),
    ],
)
def test_each_combination_trains_what_it_says(distill, tmp_path, combination, arms, folders):
    results_dir = tmp_path / "results"
    options = ["--combination", combination, "--results-dir", results_dir]
    options += ["--single-epochs", 1] if "single" in combination else []
    assert distill("bam", *options, tasks=("rte", "stsb")) == 0
    results = read(tmp_path / "run")
    assert list(results["tasks"]["rte"]["models"]) == arms and set(results["averages"]) == set(arms)
    made = {path.name for path in (tmp_path / "run").iterdir() if path.is_dir()}
    assert made - {"labels"} == folders
    assert results["config"]["doubled"] == ["stsb"]
    name = {"single-multi": "bam"}.get(combination, f"bam_{combination.replace('-', '_')}")
    assert (results_dir / name / "rte" / "0.json").exists()


def test_ablations_have_names_and_reach_the_training(distill, tmp_path, monkeypatch):
    recipes = []
    original = bam.train_model

    def spy(suite, recipe, *rest, **more):
        recipes.append(recipe)
        return original(suite, recipe, *rest, **more)

    monkeypatch.setattr(bam, "train_model", spy)
    options = [
        "--no-annealing",
        "--layerwise-decay",
        1,
        "--single-epochs",
        1,
        "--results-dir",
        tmp_path / "r",
    ]
    assert distill("bam", *options, tasks=("rte", "stsb")) == 0
    assert (tmp_path / "r" / "bam_without_annealing_without_layerwise_rates" / "stsb" / "0.json").exists()
    student = recipes[-1]
    assert student.layerwise_decay == 1
    assert [type(student.objectives[name]).__name__ for name in ("rte", "stsb")] == [
        "SoftTargets",
        "LogitRegression",
    ]
    assert recipes[0].training["learning_rate"] == 5e-5 and student.training["learning_rate"] == 1e-4


def test_swapped_rows_are_the_same_pairs_the_other_way_round(glue, encoder_folder):
    data = {"stsb": load_task("stsb", data_dir=glue)}
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    suite = Suite(data, tokenizer, 32, frozenset({"stsb"}))
    rows, size = suite.list_train("stsb"), len(data["stsb"].train)
    first, second = data["stsb"].task.text_columns
    assert len(rows) == 2 * size
    assert rows[size + 3][first] == rows[3][second] and rows[size + 3][second] == rows[3][first]
    assert rows[size + 3]["label"] == rows[3]["label"] and rows.features == data["stsb"].train.features
    with pytest.raises(InputError, match="nothing to swap"):
        Suite({"cola": load_task("cola", data_dir=glue)}, tokenizer, 32, frozenset({"cola"}))


def test_the_student_is_a_plain_model_of_each_task(distill, tmp_path):
    assert distill("bam", "--combination", "multi", tasks=("cola", "rte")) == 0
    folder = tmp_path / "run" / "student-all-seed0"
    model = AutoModel.from_pretrained(folder).for_task("cola")
    model.save_pretrained(tmp_path / "cola")
    assert type(AutoModelForSequenceClassification.from_pretrained(tmp_path / "cola")).__name__ == (
        "BertForSequenceClassification"
    )


def test_wnli_is_reported_and_never_averaged(distill, tmp_path):
    assert distill("bam", "--combination", "multi", tasks=("rte", "wnli")) == 0
    results = read(tmp_path / "run")
    assert results["averaged_over"] == ["rte"] and "wnli" in results["tasks"]
    rte = results["tasks"]["rte"]["models"]["multi"]["score"]
    assert results["averages"]["multi"]["score"] == pytest.approx(rte)


def test_labels_of_a_task_are_made_once_and_follow_its_teacher(glue, encoder_folder, distill, tmp_path):
    assert distill("bam", "--combination", "multi", tasks=("cola", "rte")) == 0
    teacher = tmp_path / "run" / "student-all-seed0"
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    suite = Suite({"rte": load_task("rte", data_dir=glue)}, tokenizer, 32)
    labels = label_tasks(suite, {"rte": [teacher]}, tmp_path / "labels")
    encoded = suite.encode("rte", suite.list_train("rte"))
    single = AutoModel.from_pretrained(teacher).for_task("rte").eval()
    row = {"input_ids": torch.tensor([encoded[4]["input_ids"].tolist()])}
    row["token_type_ids"] = torch.tensor([encoded[4]["token_type_ids"].tolist()])
    np.testing.assert_allclose(
        labels.logits["rte"][4, 0], single(**row).logits[0].detach(), rtol=1e-3, atol=1e-5
    )
    before = (tmp_path / "labels" / "rte" / "logits.npz").stat().st_mtime_ns
    label_tasks(suite, {"rte": [teacher]}, tmp_path / "labels")
    assert (tmp_path / "labels" / "rte" / "logits.npz").stat().st_mtime_ns == before


def test_teachers_and_students_that_learnt_nothing_are_warned_of(distill, capsys):
    given = ["--learning-rate", "1e-9", "--single-learning-rate", "1e-9", "--single-epochs", 1]
    assert distill("bam", *given, tasks=("cola", "rte")) == 0
    error = capsys.readouterr().err
    results = [line for line in error.splitlines() if "WARNING" in line]
    assert any("no better than always answering the most frequent class" in line for line in results)
    assert any("of cola answers" in line or "of rte answers" in line for line in results)


# ---- evaluation and selection ---------------------------------------------------------------------------------------


def test_without_evaluation_nothing_is_selected_and_the_results_are_whole(distill, tmp_path):
    none = ["--eval-strategy", "no", "--load-best-model-at-end", "false"]
    assert distill("bam", "--combination", "multi", *none, tasks=("cola", "rte")) == 0
    results = read(tmp_path / "run")
    assert set(results["averages"]) == {"multi"}
    assert results["tasks"]["rte"]["models"]["multi"]["validation_score"] is None
    given = ["--num-teachers", 2, "--no-fine-tuning", *none]
    assert distill("mt-dnn", *given, "--keep", 2, tasks=("cola", "rte"), output=tmp_path / "kept") == 0
    assert list(read(tmp_path / "kept")["averages"]) == ["multitask", "ensemble", "student"]


def test_a_tie_of_averages_keeps_the_scores_of_the_weights_that_are_kept(glue, encoder_folder, tmp_path):
    """Of two evaluations with one average, the last one's scores belong to the last weights."""
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    suite = Suite({"rte": load_task("rte", data_dir=glue)}, tokenizer, 32)
    model = MultiTaskModel.from_encoder(encoder_folder, [suite.make_head("rte")])
    history = [{"step": step, "eval_score": 0.5, "eval_rte": score} for step, score in ((10, 0.4), (20, 0.6))]
    trained = {"history": history, "selected_step": 20, "validation_score": 0.5, "seconds": 0.0}
    assert score_task(suite, model, "rte", tmp_path, trained)["validation_score"] == 0.6


# ---- stages and what they depend on ---------------------------------------------------------------------------------


def swap_columns(folder, encoder):
    suite = folder / "suite.toml"
    text = suite.read_text().replace('text_column = "text"', 'text_column = "x"')
    text = text.replace('pair_column = "second"', 'pair_column = "text"').replace('"x"', '"second"')
    suite.write_text(text)


def rename_labels(folder, encoder):
    for path in folder.glob("*.csv"):
        path.write_text(path.read_text().replace(",negative,", ",NO,").replace(",positive,", ",YES,"))


def swap_tasks(folder, encoder):
    first, _, second = (folder / "suite.toml").read_text().partition("[second]")
    (folder / "suite.toml").write_text(f"[second]{second}\n{first}")


def change_dropout(folder, encoder):
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.4}))


@pytest.mark.parametrize("change", [swap_columns, rename_labels, swap_tasks, change_dropout])
def test_a_model_of_other_inputs_is_not_used_again(
    run_cli, own_files, encoder_folder, tmp_path, capsys, change
):
    data, encoder = shutil.copytree(own_files, tmp_path / "data"), tmp_path / "encoder"
    shutil.copytree(encoder_folder, encoder)
    files = "".join(f'{split}_file = "{split}.csv"\n' for split in ("train", "validation", "test"))
    columns = 'text_column = "text"\ntext_pair_column = "second"\nlabel_column = "label"\n'
    (data / "suite.toml").write_text(f"[first]\n{files}{columns}[second]\n{files}{columns}")
    given = ["distill", "bam", "--combination", "multi", "--suite", data / "suite.toml", "--encoder", encoder]
    given += ["--output", tmp_path / "run", *FAST]
    assert run_cli(*given) == 0
    assert run_cli(*given) == 0
    change(data, encoder)
    capsys.readouterr()
    assert run_cli(*given) == 2
    assert "student-all-seed0 was made with other settings" in capsys.readouterr().err


def test_a_student_of_averaged_logits_knows_its_teachers():
    labels = Labels({"rte": np.zeros((4, 2, 3))}, {"rte": {"teachers": ["a", "b"], "labels": [["x"], ["x"]]}})
    averaged = mt_dnn.average_labels(labels, "logits")
    assert averaged.logits["rte"].shape == (4, 1, 3)
    assert averaged.fingerprints["rte"] == labels.fingerprints["rte"] | {"average": "logits"}


@pytest.mark.parametrize(("options", "kind"), [([], "Adamax"), (["--optim", "sgd"], "SGD")])
def test_mt_dnn_takes_adamax_or_the_optimiser_that_is_asked_for(distill, monkeypatch, options, kind):
    made = []
    original = MultiTaskTrainer.create_optimizer

    def spy(self, model=None):
        optimizer = original(self, model)
        made.append((type(optimizer).__name__, optimizer.param_groups[0].get("betas", (0.5, 0.999))))
        return optimizer

    monkeypatch.setattr(MultiTaskTrainer, "create_optimizer", spy)
    given = ["--num-teachers", 1, "--no-fine-tuning", "--adam-beta1", 0.5, *options]
    assert distill("mt-dnn", *given, tasks=("cola", "rte")) == 0
    assert set(made) == {(kind, (0.5, 0.999))}


def test_each_training_of_mt_dnn_has_the_optimiser_of_its_own_settings(monkeypatch, tmp_path):
    seen = {}

    def keep(suite, recipe, encoder, labels, seed, folder, title, overwrite):
        seen[folder.name] = (recipe.adamax, recipe.training.get("optim"))
        return {"path": str(folder), "entries": {"rte": {"seed": seed}}}

    monkeypatch.setattr(mt_dnn, "train_model", keep)
    suite = SimpleNamespace(data={"rte": None}, make_head=lambda name, head: TaskHead(name, ("no", "yes")))
    monkeypatch.setattr(mt_dnn._Stages, "_make_objective", lambda *_: None)
    for given in ({"fine_tuning": {"optim": "sgd"}}, {"training": {"optim": "sgd"}}):
        stages = mt_dnn._Stages(mt_dnn.MTDNN(teachers=1, kept=1, **given), suite, "encoder", tmp_path, False)
        [run] = stages.train_teachers()
        stages.fine_tune(run, "rte")
        trained, tuned = seen.pop("teacher-0-seed100"), seen.pop("teacher-0-seed100-rte-seed100")
        assert {trained, tuned} == {(True, None), (False, "sgd")}
        assert (tuned if "fine_tuning" in given else trained) == (False, "sgd")


# ---- published results ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            ["mt-dnn", "--num-teachers", 2, "--no-fine-tuning", "--seeds", 0, 3],
            {"multitask": {100, 101}, "mt_dnn_ensemble": {0}, "mt_dnn_kd": {0, 3}},
        ),
        (["bam", "--single-epochs", 1, "--seeds", 1, 2], {"bam_single_teacher": {1}, "bam": {1, 2}}),
    ],
)
def test_results_of_other_settings_are_refused_before_the_work_whoever_s_seed_they_have(
    distill, tmp_path, capsys, monkeypatch, command, expected
):
    results_dir = tmp_path / "results"
    planned = []
    original = suite_commands.check_suite_unpublished

    def spy(options, plan, config):
        planned[:] = plan
        return original(options, plan, config)

    for module in (bam_commands, mt_dnn_commands):
        monkeypatch.setattr(module, "check_suite_unpublished", spy)
    given = [*command, "--results-dir", results_dir]
    assert distill(*given, tasks=("cola", "rte")) == 0
    written = {path.relative_to(results_dir).with_suffix("").parts for path in results_dir.rglob("*.json")}
    assert written == {(method, task, str(seed)) for method, task, seed in planned}
    assert written == {
        (m, t, str(s)) for m, seeds in expected.items() for t in ("cola", "rte") for s in seeds
    }

    for path in results_dir.rglob("*.json"):
        entry = json.loads(path.read_text())
        if entry["method"] != "mt_dnn_ensemble":  # nobody trained it
            assert entry["validation_by_epoch"] == [[1.0, entry["validation_score"]]]

    # Any one of them of other settings is enough; one of a seed that the run does not write is none of its business.
    other = ["--learning-rate", "2e-4", "--output", tmp_path / "other"]
    for method, seeds in expected.items():
        for seed in seeds:
            only = tmp_path / f"{method}-{seed}"
            (only / method / "rte").mkdir(parents=True)
            published = (results_dir / method / "rte" / f"{seed}.json").read_text()
            (only / method / "rte" / f"{seed}.json").write_text(published)
            capsys.readouterr()
            assert distill(*command, "--results-dir", only, *other, tasks=("cola", "rte")) == 2
            assert f"{seed}.json holds the result of other settings" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_result_that_the_run_does_not_write_is_no_obstacle(glue, tmp_path):
    """Teachers that are given publish nothing, and a seed that is not asked for stays."""
    config = bam.BAM(teachers={"rte": "somewhere"}, seeds=(0, 1))
    assert bam_commands.plan_results(config, ["rte", "cola"]) == [
        ("bam", "rte", 0),
        ("bam", "rte", 1),
        ("bam_single_teacher", "cola", 0),
        ("bam", "cola", 0),
        ("bam", "cola", 1),
    ]
    given = mt_dnn.MTDNN(given={"rte": ["somewhere"]})
    assert mt_dnn_commands.plan_results(given, ["rte"]) == [("mt_dnn_kd", "rte", 0)]


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_a_multi_task_teacher_of_other_tasks_is_refused_with_those_it_has(distill, tmp_path, capsys):
    assert distill("bam", "--combination", "multi", tasks=("cola", "stsb")) == 0
    model = tmp_path / "run" / "student-all-seed0"
    for method in ("bam", "mt-dnn"):
        capsys.readouterr()
        given = ["--teachers", f"rte={model}", f"cola={model}", "--single-epochs", 1][
            : 3 + 2 * (method == "bam")
        ]
        assert distill(method, *given, tasks=("rte", "cola"), output=tmp_path / method) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error == f"error: {model} was not trained on rte; name one of its tasks: cola, stsb"
        assert not list((tmp_path / method).glob("student*"))


def test_a_task_without_rows_to_select_on_is_refused(glue, encoder_folder):
    data = load_task("rte", data_dir=glue)
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    without = dataclasses.replace(data, validation=data.validation.select([]))
    with pytest.raises(InputError, match="task rte has no rows to select on; give it a validation split"):
        Suite({"rte": without}, tokenizer, 32)
    with pytest.raises(InputError, match="there are no tasks"):
        Suite({}, tokenizer, 32)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["bam", "--tasks", "mars"], "unknown task 'mars'"),
        (["bam", "--tasks", "rte", "rte"], "give each once"),
        (["bam", "--doubled", "cola"], "nothing to swap"),
        (["bam", "--layerwise-decay", 0], "give a factor above 0 and up to 1"),
        (["bam", "--sampling-exponent", -1], "give 0 (uniform) or more"),
        (["bam", "--sampling-exponent", "nan"], "give 0 (uniform) or more"),
        (["bam", "--teachers", "rte"], "give TASK=DIR"),
        (["bam", "--teachers", "mnli={encoder}"], "which is no task here; give cola, rte, stsb"),
        (["bam", "--teachers", "rte={encoder}", "rte={encoder}"], "BAM takes one a task"),
        (["bam", "--teachers", "stsb={encoder}"], "labels"),
        (["bam", "--combination", "multi", "--teachers", "rte={encoder}"], "multi has none; leave them out"),
        (["bam", "--combination", "multi", "--no-annealing"], "multi has no teacher"),
        (
            ["bam", "--combination", "multi-multi", "--single-epochs", 3],
            "multi-multi has none; leave them out",
        ),
        (["bam", "--teachers", "rte=/nowhere/teacher"], "no folder /nowhere/teacher"),
        (["bam", "--max-length", 200], "reads at most 64 tokens; give --max-length 64 or less"),
        (["mt-dnn", "--max-length", 200], "reads at most 64 tokens; give --max-length 64 or less"),
        (
            ["mt-dnn", "--teachers", "rte={encoder}", "--keep", 1],
            "--keep is of teachers that are trained here",
        ),
        (["mt-dnn", "--teachers", "rte={encoder}", "--no-fine-tuning"], "--no-fine-tuning is of teachers"),
        (["mt-dnn", "--num-teachers", 0], "the number of teachers is 0"),
        (["mt-dnn", "--num-teachers", 2, "--keep", 3], "the number of teachers that are kept is 3"),
        (["mt-dnn", "--dropouts", 1.5], "give one or more rates from 0 up to 1"),
        (["mt-dnn", "--teacher-tasks", "mnli"], "mnli is no task of this run"),
        (["mt-dnn", "--san", "cola"], "made for pairs of texts with classes"),
        (["mt-dnn", "--seeds", 0, 0], "give one or more, each once"),
        (["bam", "--metric-for-best-model", "loss"], "give score, the average of their scores"),
        (["mt-dnn", "--metric-for-best-model", "rte"], "give score, the average of their scores"),
        (["bam", "--learning-rate", 0], "learning_rate is 0"),
        (
            [
                "mt-dnn",
                "--num-teachers",
                2,
                "--keep",
                1,
                "--eval-strategy",
                "no",
                "--load-best-model-at-end",
                "no",
            ],
            "the best 1 on validation are kept",
        ),
        (
            ["bam", "--eval-strategy", "no"],
            "add --load-best-model-at-end false to keep the last weights",
        ),
        (["bam", "--doubled", "mnli"], "task mnli is to be doubled, but is none here"),
    ],
)
def test_settings_that_do_not_fit_get_one_line(distill, encoder_folder, tmp_path, capsys, command, message):
    given = [str(part).replace("{encoder}", str(encoder_folder)) for part in command]
    assert distill(*given) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not list((tmp_path / "run").glob("student*")) and not list((tmp_path / "run").glob("teacher-*"))


def test_results_that_somebody_else_wrote_are_not_replaced(distill, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.md").write_text("mine")
    assert distill("bam", "--combination", "multi", tasks=("cola", "rte")) == 2
    assert "results.md exists and was not made by this command" in capsys.readouterr().err
    assert (tmp_path / "run" / "results.md").read_text() == "mine"


def test_the_student_of_all_tasks_goes_to_the_hub_with_its_card(fake_hub, distill, tmp_path):
    import yaml

    given = ["--combination", "multi", "--seeds", 0, 1, "--push-to-hub", "me/multi"]
    assert distill("bam", *given, tasks=("cola", "rte")) == 0
    [(repo, files)] = fake_hub.uploads
    _, front, body = files["README.md"].decode().split("---\n", 2)
    fields = yaml.safe_load(front)
    assert repo == "me/multi" and "model.safetensors" in files and not [n for n in files if n.endswith("npz")]
    assert [result["dataset"]["config"] for result in fields["model-index"][0]["results"]] == ["cola", "rte"]
    assert fields["datasets"] == ["nyu-mll/glue"] and str(tmp_path) not in body
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    scores = [
        json.loads((tmp_path / "run" / f"student-all-seed{seed}" / "stage_finished.json").read_text())
        for seed in (0, 1)
    ]
    means = [
        np.mean([entry["validation_score"] for entry in found["result"]["entries"].values()])
        for found in scores
    ]
    best = tmp_path / "run" / f"student-all-seed{int(np.argmax(means))}"
    assert files["model.safetensors"] == (best / "model.safetensors").read_bytes()
    for seed in (0, 1):
        assert f"seed {seed}" in (tmp_path / "run" / f"student-all-seed{seed}" / "README.md").read_text()
    assert results["config"]["combination"] == "multi"


def test_a_model_for_each_task_is_no_one_model_to_push(fake_hub, distill, tmp_path, capsys):
    assert distill("bam", "--combination", "single", "--push-to-hub", "me/x", tasks=("cola", "rte")) == 2
    assert "makes a model for each task" in capsys.readouterr().err and not (tmp_path / "run").exists()
