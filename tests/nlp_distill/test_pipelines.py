"""The pipelines' defaults are the papers', options arrive where they should, and the demo runs on its real inputs."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from data_augment.errors import InputError
from nlp_distill.cli import build_parser
from nlp_distill.commands.bilstm import configure_bilstm
from nlp_distill.objectives import HardLabels, LogitRegression
from nlp_distill.pipelines import bilstm, demo, finetune, transfer
from nlp_distill.pipelines.bilstm_config import (
    TRAINING,
    BiLSTMShape,
    CNNShape,
    TransferSetConfig,
    WordStudentDistillation,
    describe_student,
    plan_cnn,
)
from nlp_distill.pipelines.word_vectors import GloveWords, RandomWordPieces, TeacherWordPieces
from nlp_distill.schedules import value_at
from nlp_distill.stages import FINISHED
from nlp_distill.training import make_training_arguments


class Stop(Exception):
    """Ends a run where its arguments are seen."""


def stop_at(monkeypatch: pytest.MonkeyPatch, module, name: str) -> dict:
    """Replace ``module.name`` by something that keeps its arguments and stops."""
    seen: dict = {}

    def keep(*arguments, **named):
        seen.update(named, arguments=arguments)
        raise Stop

    monkeypatch.setattr(module, name, keep)
    return seen


# ---- the papers' settings -------------------------------------------------------------------------------------------


def test_the_bilstm_defaults_are_those_of_tang_et_al() -> None:
    config = WordStudentDistillation()
    assert config.shape == BiLSTMShape(
        hidden_size=150, head_size=None
    )  # section 4.3: 150 units, a head of 200
    assert config.hard_weight == 0.0  # section 3.2: MSE on logits alone is best
    assert config.adadelta and bilstm.ADADELTA_RHO == 0.95  # section 4.2
    assert bilstm.TRAINING["learning_rate"] == 1.0 and bilstm.TRAINING["num_train_epochs"] == 30
    assert (
        bilstm.TRAINING["per_device_train_batch_size"] == 50
        and bilstm.TRAINING["lr_scheduler_type"] == "constant"
    )
    assert config.word_vectors == TeacherWordPieces(300)  # 300 numbers a word, as the paper's word2vec
    assert config.baseline and config.seeds == (0,) and config.training == {} == config.baseline_training


def test_word_vectors_are_known_by_what_their_file_holds(tmp_path: Path) -> None:
    def describe(name, text):
        (tmp_path / name).write_text(text)
        return describe_student(WordStudentDistillation(word_vectors=GloveWords(str(tmp_path / name))))

    first = describe("one", "film 1 2")
    assert first == describe("two", "film 1 2") != describe("one", "film 2 1")


def test_the_cnn_defaults_are_those_of_kim() -> None:
    config = plan_cnn()
    assert config.shape == CNNShape(filters=100, widths=(3, 4, 5)) and config.dropout == 0.5  # section 3.1
    assert config == WordStudentDistillation(shape=CNNShape(), dropout=0.5)  # all else as for the BiLSTM


def test_the_transfer_set_defaults_are_those_of_tang_et_al() -> None:
    settings = TransferSetConfig()
    assert (settings.p_mask, settings.p_pos, settings.p_ngram, settings.max_ngram) == (0.1, 0.1, 0.25, 5)
    assert settings.n_iter is None  # the augmenter's own: 20, and 10 for pairs


def test_the_augmenter_iterates_as_often_as_the_paper() -> None:
    from data_augment.rules import DEFAULT_ITERATIONS, DEFAULT_PAIR_ITERATIONS

    assert (DEFAULT_ITERATIONS, DEFAULT_PAIR_ITERATIONS) == (20, 10)


def test_the_fine_tuning_defaults_lie_in_the_ranges_of_bert() -> None:
    training = finetune.TRAINING
    assert training["learning_rate"] in (2e-5, 3e-5, 5e-5) and training["num_train_epochs"] in (2, 3, 4)
    assert training["per_device_train_batch_size"] in (16, 32)
    assert training["warmup_steps"] == 0.1 and training["weight_decay"] == 0.01
    assert finetune.FinetuneConfig("x").max_length == 128


def test_the_defaults_are_training_arguments_that_select_the_best_epoch(tmp_path: Path) -> None:
    for defaults in (bilstm.TRAINING, finetune.TRAINING):
        args = make_training_arguments(defaults, {}, tmp_path, seed=3)
        assert args.seed == 3 and args.load_best_model_at_end and args.metric_for_best_model == "score"
        assert args.eval_strategy == args.save_strategy == "epoch" and not (args.bf16 or args.fp16)


def test_scoring_every_so_many_steps_saves_as_often(tmp_path: Path) -> None:
    args = make_training_arguments({}, {"eval_strategy": "steps", "eval_steps": 7}, tmp_path, seed=0)
    assert args.save_strategy == "steps" and args.save_steps == args.eval_steps == 7


@pytest.mark.parametrize("full", [False, True])
def test_the_demo_is_the_same_pipeline_on_a_smaller_budget(full: bool) -> None:
    budget = demo.plan_demo(full)
    assert 1_000 <= budget.labelled_rows <= 10_000 and (budget.unlabelled_rows is None) == full
    assert isinstance(budget.distillation, WordStudentDistillation)
    assert budget.distillation.baseline and budget.distillation.hard_weight == 0.0


# ---- checked settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: BiLSTMShape(hidden_size=0),
        lambda: BiLSTMShape(hidden_size=1.5),
        lambda: BiLSTMShape(hidden_size=True),
        lambda: BiLSTMShape(head_size=0),
        lambda: WordStudentDistillation(embedding_channels=3),
        lambda: CNNShape(filters=0),
        lambda: CNNShape(widths=()),
        lambda: CNNShape(widths=(3, 0)),
        lambda: CNNShape(widths=(3, 3)),
        lambda: WordStudentDistillation(dropout=1.0),
        lambda: WordStudentDistillation(hard_weight=-0.1),
        lambda: WordStudentDistillation(seeds=()),
        lambda: WordStudentDistillation(seeds=(2**32,)),
        lambda: WordStudentDistillation(baseline_learning_rates=(0.0,)),
        lambda: TeacherWordPieces(0),
        lambda: RandomWordPieces(-1),
        lambda: GloveWords("no such file"),
        lambda: TransferSetConfig(n_iter=-1),
        lambda: TransferSetConfig(p_mask=0.6, p_pos=0.6),
        lambda: TransferSetConfig(seed=-1),
        lambda: finetune.FinetuneConfig("x", max_length=4),
        lambda: finetune.FinetuneConfig("x", seed=-1),
    ],
)
def test_a_setting_out_of_range_is_refused_where_it_is_made(make) -> None:
    with pytest.raises(InputError):
        make()


def test_settings_at_the_ends_of_their_ranges_are_taken() -> None:
    WordStudentDistillation(
        shape=BiLSTMShape(hidden_size=1, head_size=1),
        dropout=0.0,
        hard_weight=1.0,
        seeds=(0, 2**32 - 1),
        max_length=8,
    )
    TransferSetConfig(n_iter=0, unlabelled_n_iter=0, p_mask=0.5, p_pos=0.5, p_ngram=1.0, max_ngram=1)


# ---- options --------------------------------------------------------------------------------------------------------


def test_finetune_options_reach_the_trainer(
    run_cli, data_options, encoder_folder: Path, tmp_path, monkeypatch
) -> None:
    seen = stop_at(monkeypatch, finetune, "DistillationTrainer")
    options = ["--learning-rate", "3e-4", "--weight_decay=0.2", "--seed", 5, "--max-length", 9]
    with pytest.raises(Stop):
        run_cli("finetune", "--model", encoder_folder, "--output", tmp_path / "t", *data_options, *options)
    args = seen["args"]
    assert (args.learning_rate, args.weight_decay, args.seed) == (3e-4, 0.2, 5)
    assert args.per_device_train_batch_size == finetune.TRAINING["per_device_train_batch_size"]
    assert seen["train_dataset"].lengths.max() <= 9 and len(seen["train_dataset"]) == 40
    assert len(seen["eval_dataset"]) == 10 and "objective" not in seen


def test_transfer_set_options_reach_the_augmenter(
    distill, own_files: Path, tmp_path: Path, monkeypatch
) -> None:
    seen = stop_at(monkeypatch, transfer, "write_transfer_set")
    rules = ["--p-mask", 0.2, "--p-pos", 0.3, "--p-ngram", 0.5, "--max-ngram", 3]
    copies = ["--n-iter", 4, "--unlabelled-n-iter", 1, "--num-workers", 2]
    with pytest.raises(Stop):
        distill(tmp_path / "d", *rules, *copies, "--unlabelled-file", own_files / "unlabelled.csv")
    assert [str(rule) for rule in seen["rules"]] == [
        "MaskRule(p=0.2)",
        "PosRule(p=0.3)",
        "NgramRule(p=0.5, max_n=3)",
    ]
    assert (seen["n_iter"], seen["unlabelled_n_iter"], seen["num_workers"]) == (4, 1, 2)
    assert seen["pos_tagger"] == "textblob" and seen["seed"] == 0
    assert len(seen["arguments"][0]) == 40 and len(seen["unlabelled"]) == 15
    assert (
        seen["text_column"] == "text" and seen["text_pair_column"] is None and seen["label_column"] == "label"
    )


@pytest.mark.parametrize("optimizer", ["adadelta", "adamw"])
def test_student_options_reach_the_trainer(distill, tmp_path: Path, monkeypatch, optimizer: str) -> None:
    seen = stop_at(monkeypatch, bilstm, "DistillationTrainer")
    student = ["--hidden-size", 7, "--head-size", 3, "--embedding-size", 4, "--dropout", 0.1, "--seeds", 9]
    training = ["--optimizer", optimizer, "--learning-rate", 0.25, "--hard-weight", 0.25, "--no-baseline"]
    with pytest.raises(Stop):
        distill(tmp_path / "d", *student, *training)
    config = seen["model"].config
    assert (config.hidden_size, config.head_size, config.embedding_size, config.dropout) == (7, 3, 4, 0.1)
    assert config.id2label == {0: "negative", 1: "positive"} and not config.pair
    assert seen["args"].seed == 9 and seen["args"].learning_rate == 0.25
    if optimizer == "adadelta":
        kind, settings = seen["optimizer_cls_and_kwargs"]
        assert kind.__name__ == "Adadelta" and settings == {"lr": 0.25, "rho": 0.95}
    else:
        assert seen["optimizer_cls_and_kwargs"] is None
    weights = {type(part): value_at(part.weight, 0.5) for part in seen["objective"].parts}
    assert weights == {LogitRegression: 0.75, HardLabels: 0.25}


def test_the_students_of_the_paper_have_its_heads(distill, tmp_path: Path, monkeypatch) -> None:
    seen = stop_at(monkeypatch, bilstm, "build_bilstm")
    with pytest.raises(Stop):
        distill(tmp_path / "d", "--hidden-size", 300)
    assert seen["hidden_size"] == 300 and seen["seed"] == 0


def test_the_baseline_may_have_epochs_of_its_own(distill, tmp_path: Path, monkeypatch) -> None:
    seen = stop_at(monkeypatch, bilstm, "DistillationTrainer")
    with pytest.raises(Stop):  # the baseline is trained first
        distill(tmp_path / "d", "--baseline-epochs", 6)
    assert seen["args"].num_train_epochs == 6 and isinstance(seen["objective"], HardLabels)


def test_the_baseline_takes_the_rate_that_is_best_on_validation(distill, tmp_path: Path) -> None:
    """Both rates are trained, the first seed decides for all, and every score tried is kept."""
    options = ["--baseline-learning-rates", 1e-6, 1.0, "--seeds", 0, 1, "--num-train-epochs", 3]
    assert distill(tmp_path / "d", *options, "--results-dir", tmp_path / "r") == 0

    def validation_score(folder: str) -> float:
        return json.loads((tmp_path / "d" / folder / FINISHED).read_text())["result"]["entry"][
            "validation_score"
        ]

    tried = {rate: validation_score(f"student_without_teacher-lr{rate:g}-seed0") for rate in (1e-6, 1.0)}
    best = max(tried, key=lambda rate: tried[rate])
    published = json.loads((tmp_path / "r" / "bilstm_without_teacher" / "mine" / "1.json").read_text())
    assert published["tuning"].pop("other_rates_s") >= 0
    assert published["tuning"] == {
        "learning_rate": best,
        "validation_scores": {str(rate): score for rate, score in tried.items()},
    }
    assert published["validation_score"] == validation_score(f"student_without_teacher-lr{best:g}-seed1")


def test_the_students_own_rate_is_always_among_those_tried(distill, tmp_path: Path) -> None:
    assert distill(tmp_path / "d", "--baseline-learning-rates", 1e-6, "--learning-rate", 0.5) == 0
    tuning = json.loads((tmp_path / "d" / "results.json").read_text())["baseline_tuning"][
        "student_without_teacher"
    ]
    assert set(tuning["validation_scores"]) == {"1e-06", "0.5"}


def test_more_epochs_for_the_student_are_more_for_its_baseline_too() -> None:
    options = build_parser().parse_args(["demo"])
    options.training = {"num_train_epochs": 20.0}
    config = configure_bilstm(demo.plan_demo(False).distillation, options)
    assert config.baseline_training["num_train_epochs"] == config.training["num_train_epochs"] == 20
    options.training = {"num_train_epochs": 2.0}
    config = configure_bilstm(demo.plan_demo(False).distillation, options)
    assert config.baseline_training["num_train_epochs"] == 12 and config.training["num_train_epochs"] == 2


def test_a_teacher_whose_labels_change_places_makes_every_stage_again(
    distill, fine_tune, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Same weights, other answers: the names of the labels are part of what a stage depends on."""
    teacher = tmp_path / "teacher"
    assert fine_tune(teacher) == 0 and distill(tmp_path / "d", teacher=teacher) == 0
    config = json.loads((teacher / "config.json").read_text())
    config["id2label"] = {"0": config["id2label"]["1"], "1": config["id2label"]["0"]}
    config["label2id"] = {name: int(index) for index, name in config["id2label"].items()}
    (teacher / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert distill(tmp_path / "d", teacher=teacher) == 2
    assert "teacher.labels" in capsys.readouterr().err


def test_a_changed_teacher_makes_every_stage_that_knew_it_again(
    distill, fine_tune, teacher_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The student without the teacher too: it has the teacher's word pieces and is compared with its logits."""
    assert distill(tmp_path / "d") == 0
    assert fine_tune(tmp_path / "other", "--seed", 1) == 0
    capsys.readouterr()
    assert distill(tmp_path / "d", teacher=tmp_path / "other") == 2
    assert "teacher.weights" in capsys.readouterr().err
    assert distill(tmp_path / "d", "--overwrite", teacher=tmp_path / "other") == 0
    reused = [line for line in capsys.readouterr().err.splitlines() if "reusing" in line]
    assert len(reused) == 1 and "building the transfer set" in reused[0]


class Options:
    """What the command line gives where no option is used."""

    def __init__(self, **given):
        self.given = {"training": {}, "trust_remote_code": False, "no_baseline": False, **given}

    def __getattr__(self, name: str):
        return self.given.get(name)


def test_options_left_out_change_nothing() -> None:
    for config in (WordStudentDistillation(), demo.plan_demo(False).distillation):
        assert configure_bilstm(config, Options()) == config


@pytest.mark.parametrize(
    ("given", "vectors"),
    [
        ({"embeddings": "random"}, RandomWordPieces(300)),
        ({"embeddings": "random", "embedding_size": 50}, RandomWordPieces(50)),
        ({"embeddings": "teacher", "embedding_size": 50}, TeacherWordPieces(50)),
        ({"embedding_size": 50}, TeacherWordPieces(50)),
        ({"embeddings": "glove"}, GloveWords()),
        ({"glove_file": __file__}, GloveWords(__file__)),
    ],
)
def test_embedding_options_choose_the_word_vectors(given: dict, vectors) -> None:
    assert configure_bilstm(WordStudentDistillation(), Options(**given)).word_vectors == vectors


@pytest.mark.parametrize(
    ("config", "given", "adadelta", "rate"),
    [
        (WordStudentDistillation(), {"optimizer": "adamw"}, False, 2e-3),
        (WordStudentDistillation(), {"training": {"optim": "sgd"}}, False, 2e-3),
        (WordStudentDistillation(), {"training": {"optim": "sgd", "learning_rate": 0.1}}, False, 0.1),
        (WordStudentDistillation(), {"optimizer": "adamw", "training": {"learning_rate": 1e-3}}, False, 1e-3),
        (WordStudentDistillation(), {"optimizer": "adadelta"}, True, 1.0),
        (demo.plan_demo(False).distillation, {"optimizer": "adadelta"}, True, 1.0),
    ],
)
def test_a_rate_goes_with_its_optimiser(config, given, adadelta, rate) -> None:
    configured = configure_bilstm(config, Options(**given))
    assert configured.adadelta is adadelta
    assert {**TRAINING, **configured.training}["learning_rate"] == rate


def test_an_optimiser_that_adadelta_would_replace_is_refused() -> None:
    with pytest.raises(InputError, match="optim is sgd, which has no effect on Adadelta"):
        configure_bilstm(WordStudentDistillation(), Options(optimizer="adadelta", training={"optim": "sgd"}))


# ---- the embedded default -------------------------------------------------------------------------------------------


@pytest.mark.packaged
def test_the_demo_runs_end_to_end_and_its_second_run_trains_nothing(
    run_cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The real teacher and tweets, with fewer rows and one epoch."""
    plan = demo.plan_demo(False)
    student = dataclasses.replace(
        plan.distillation,
        word_vectors=TeacherWordPieces(8),
        shape=BiLSTMShape(8),
        training={**plan.distillation.training, "num_train_epochs": 1},
        baseline_training={},
        max_length=32,
    )
    small = dataclasses.replace(
        plan,
        labelled_rows=200,
        unlabelled_rows=100,
        teacher_training={**plan.teacher_training, "num_train_epochs": 1},
        distillation=student,
    )
    monkeypatch.setattr(demo, "plan_demo", lambda *arguments, **named: small)
    monkeypatch.setattr("nlp_distill.tasks.packaged.TEST_ROWS", 60)
    monkeypatch.setattr("nlp_distill.tasks.packaged.VALIDATION_ROWS", 40)
    output = tmp_path / "demo"
    assert run_cli("demo", "--output", output) == 0
    out, _ = capsys.readouterr()
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    assert (output / "results.md").read_text(encoding="utf-8").strip() in out
    rows = {name: part["rows"] for name, part in results["data"].items()}
    assert rows == {"train": 200, "validation": 40, "test": 60, "unlabelled": 100}
    assert results["task"] == "tweets" and results["models"]["teacher"]["parameters"] > 22_000_000
    assert results["models"]["student"]["bytes"] < results["models"]["teacher"]["bytes"] / 20
    folders = [
        "labels",
        "student-seed0",
        "student_without_teacher-seed0",
        "teacher",
        "teacher_scores",
        "transfer_set",
    ]
    assert sorted(path.name for path in output.iterdir() if path.is_dir()) == folders
    assert all((output / folder / FINISHED).exists() for folder in folders)

    def train(*arguments, **named):
        raise AssertionError("a second run takes no training step")

    monkeypatch.setattr("nlp_distill.trainer.DistillationTrainer.training_step", train)
    assert run_cli("demo", "--output", output) == 0
    out, err = capsys.readouterr()
    assert sum("reusing" in line for line in err.splitlines()) == len(folders)
    assert (output / "results.md").read_text(encoding="utf-8").strip() in out


def test_more_seeds_and_a_left_out_baseline_are_no_other_settings(
    distill, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    results = ["--results-dir", tmp_path / "r"]
    assert distill(tmp_path / "d", *results) == 0
    assert distill(tmp_path / "d", *results, "--seeds", 0, 1, "--no-baseline") == 0
    assert sorted(path.stem for path in (tmp_path / "r" / "bilstm_distilled" / "mine").iterdir()) == [
        "0",
        "1",
    ]
    # A baseline of other settings is not in the way of a run that trains none.
    other = [*results, "--dropout", 0.1, "--seeds", 2]
    assert distill(tmp_path / "e", *other, "--no-baseline") == 0
    capsys.readouterr()
    assert distill(tmp_path / "f", *results, "--dropout", 0.1) == 2
    assert "holds the result of other settings (dropout: 0.3 there, 0.1 now" in capsys.readouterr().err


# ---- sets that are reported beside test -----------------------------------------------------------------------------

MNLI = ("entailment", "neutral", "contradiction")


def write_mnli(folder: Path, mismatched: list[str]) -> None:
    """MNLI's files with a few rows, and these labels of the mismatched ones."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = {"train": MNLI * 20, "dev_matched": MNLI * 4, "dev_mismatched": mismatched}
    for name, own in labels.items():
        lines = ["index\tsentence1\tsentence2\tlabel1\tgold_label"]
        lines += [f"{n}\tgood film {name} {n}\tbad film\tneutral\t{label}" for n, label in enumerate(own)]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")


def test_another_set_of_reported_rows_is_scored_anew(run_cli, encoder_folder: Path, tmp_path: Path) -> None:
    """Each student is scored against labels that are its own answers; what was scored before is not kept."""
    folder, teacher, data = (
        tmp_path / "MNLI",
        tmp_path / "teacher",
        ["--task", "mnli", "--data-dir", tmp_path],
    )
    write_mnli(folder, list(MNLI) * 3)
    short = [*data, "--num-train-epochs", 1, "--max-length", 32]
    assert run_cli("finetune", *short, "--model", encoder_folder, "--output", teacher) == 0
    bert = ["tinybert", "--layers", 1, "--hidden-size", 8, "--heads", 2, "--ffn-size", 12]
    commands = {
        "bilstm": ["distill", "bilstm", "--hidden-size", 4, "--embedding-size", 4, "--no-baseline"],
        "tinybert": ["distill", *bert, "--intermediate-epochs", 1, "--no-baseline"],
        "compress": ["compress", teacher, "--prune-ffn", 0.5],
    }
    for name, command in commands.items():
        output = tmp_path / name
        step, result = {"compress": ("prune-ffn", "compress.json")}.get(
            name, ("student-seed0", "results.json")
        )
        given = [*command, *short, "--teacher", teacher, "--output", output, "--n-iter", 0]
        write_mnli(folder, list(MNLI) * 3)
        assert run_cli(*given) == 0
        answers = np.load(output / step / "logits.npz")["mnli_mm"].argmax(axis=1)
        write_mnli(folder, [MNLI[answer] for answer in answers])
        assert run_cli(*given, "--overwrite") == 0
        models = json.loads((output / result).read_text())["models"]
        model = models["prune-ffn" if name == "compress" else "student"]
        assert model["extra_tests"]["mnli_mm"]["score"] == 1.0, name
