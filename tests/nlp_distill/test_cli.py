"""The command line, end to end on tiny models and rows: help, options, and what each command leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from data_augment.errors import InputError
from nlp_distill.checkpoints import find_last_checkpoint
from nlp_distill.cli import main
from nlp_distill.commands.inputs import parse_training_arguments
from nlp_distill.labelled_files import read_fingerprint
from nlp_distill.pipelines.bilstm_config import TRAINING
from nlp_distill.stages import FINISHED
from nlp_distill.tasks import load_task

COMMANDS = [
    ["demo"],
    ["finetune"],
    ["finetune-tagger"],
    ["label"],
    ["distill", "bilstm"],
    ["distill", "cnn"],
    ["distill", "general"],
    ["distill", "tinybert"],
    ["distill", "mt-dnn"],
    ["distill", "bam"],
    ["distill", "tagger"],
    ["fit"],
    ["distill", "spacy"],
    ["hand-over"],
    ["export"],
    ["serve"],
    ["benchmark"],
    ["report"],
    ["evaluate"],
]
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "100"}

SPLITS = ("train", "validation", "test")


def run_process(*command: object, **settings) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=ENVIRONMENT, **settings
    )


# ---- help -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["nlp_distill", "data_augment"])
def test_the_module_and_the_console_script_print_the_same_help(package: str) -> None:
    script = Path(sys.executable).parent / package.replace("_", "-")
    if not script.exists():
        pytest.skip(f"the console script {script.name} is not installed beside this Python")
    by_script, by_module = run_process(script, "--help"), run_process(sys.executable, "-m", package, "--help")
    assert by_script.returncode == by_module.returncode == 0
    assert by_script.stdout == by_module.stdout
    assert by_script.stdout.startswith(f"usage: {script.name}")


def test_help_costs_less_than_a_second_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from nlp_distill.cli import main\n"
        "try: main(['distill', 'bilstm', '--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'numpy', 'nltk', 'sklearn'}\n"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    before = os.times()
    result = run_process(sys.executable, "-c", code)
    after = os.times()
    assert result.returncode == 0, result.stderr
    # Processor time, because the wall clock of a busy machine says nothing about the command.
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert seconds < 1.0


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    out, err = capsys.readouterr()
    assert stop.value.code == 0 and err == ""
    assert out.startswith(f"usage: nlp-distill {' '.join(command)}")
    loads_code = command not in (
        ["hand-over"],
        ["benchmark"],
        ["report"],
    )  # they take what is of our own making
    assert ("--trust-remote-code" in out) == loads_code


def test_the_bare_command_lists_the_commands(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(f"nlp-distill {' '.join(command)}" in out for command in COMMANDS)


# ---- training arguments ---------------------------------------------------------------------------------------------


def test_training_arguments_have_their_usual_names_and_types() -> None:
    tokens = ["--learning-rate", "3e-5", "--num_train_epochs=4", "--bf16", "--save-total-limit", "1"]
    parsed = parse_training_arguments([*tokens, "--optim", "adamw_torch"])
    assert parsed == {
        "learning_rate": 3e-5,
        "num_train_epochs": 4.0,
        "bf16": True,
        "save_total_limit": 1,
        "optim": "adamw_torch",
    }
    assert type(parsed["save_total_limit"]) is int and type(parsed["num_train_epochs"]) is float


def test_training_arguments_left_out_are_left_out() -> None:
    assert parse_training_arguments([]) == {}
    assert parse_training_arguments(["--learning_rate=1"]) == {"learning_rate": 1.0}


def test_several_trackers_are_named_in_one_option() -> None:
    parsed = parse_training_arguments(["--report-to", "wandb", "trackio", "--seed", "3"])
    assert parsed == {"report_to": ["wandb", "trackio"], "seed": 3}
    assert parse_training_arguments(["--report_to=none"]) == {"report_to": ["none"]}


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["--report-to"], "expected at least one argument"),
        (
            ["--report-to", "wandb", "none"],
            "report_to is wandb none; give none, all, or the names of trackers",
        ),
        (["--learning-rat", "1"], "unknown option --learning-rat (did you mean --learning-rate?)"),
        (["--learning-rate", "fast"], "invalid float value: 'fast'"),
        (["--learning-rate"], "expected one argument"),
        (["--learning-rate", "1", "2"], "2 belongs to no option"),
        (["--bf16", "maybe"], "Truthy value expected: got maybe"),
        (["--optim", "adadelta"], "invalid choice: 'adadelta'"),
        (["stray"], "unknown option stray;"),
        (["--output-dir", "elsewhere"], "unknown option --output-dir;"),
        (["--hub-token", "hf_x"], "--hub-token is not taken: a token on the command line"),
        (["--hub_strategy=every_save"], "--hub-strategy is not taken: the finished model is uploaded once"),
    ],
)
def test_wrong_training_arguments_are_named(tokens: list[str], message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_training_arguments(tokens)
    assert message in str(error.value) and "\n" not in str(error.value)


# ---- finetune, label, evaluate --------------------------------------------------------------------------------------


def test_finetune_saves_a_model_that_knows_its_labels(teacher_folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(teacher_folder)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.config.problem_type == "single_label_classification"
    assert AutoTokenizer.from_pretrained(teacher_folder)("a fine film")["input_ids"]
    assert not list(teacher_folder.glob("checkpoints*")) and not list(teacher_folder.glob("*.bin"))


def test_finetune_reuses_its_result_and_names_a_changed_setting(
    fine_tune,
    run_cli,
    own_files,
    encoder_folder,
    teacher_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    output, results = tmp_path / "teacher", tmp_path / "results"
    assert fine_tune(output, "--results-dir", results) == 0
    published = json.loads((results / "teacher" / "mine" / "0.json").read_text())
    assert published["method"] == "teacher" and published["task"] == "mine" and 0 <= published["score"] <= 1
    weights = (output / "model.safetensors").read_bytes()
    assert weights == (teacher_folder / "model.safetensors").read_bytes()  # the same seed, the same weights
    capsys.readouterr()

    assert fine_tune(output) == 0
    assert f"reusing {output} (finished earlier)" in capsys.readouterr().err

    assert fine_tune(output, "--seed", 1) == 2
    message = capsys.readouterr().err
    assert f"{output} was made with other settings (config.seed: 0 there, 1 now)" in message
    assert (output / "model.safetensors").read_bytes() == weights

    other = ["--train-file", own_files / "validation.csv", "--text-column", "text", "--task", "mine"]
    command = ["finetune", "--model", encoder_folder, "--output", tmp_path / "other", "--max-length", 32]
    before = (results / "teacher" / "mine" / "0.json").read_bytes()
    assert run_cli(*command, *other, "--results-dir", results) == 2
    assert "holds the result of other rows (train, validation, test differ)" in capsys.readouterr().err
    assert (results / "teacher" / "mine" / "0.json").read_bytes() == before

    assert fine_tune(output, "--seed", 1, "--overwrite") == 0
    assert (output / "model.safetensors").read_bytes() != weights
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "teacher"]


def test_a_failed_overwrite_brings_the_old_result_back(fine_tune, tmp_path: Path) -> None:
    assert fine_tune(tmp_path / "teacher") == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "teacher").iterdir()}
    assert fine_tune(tmp_path / "teacher", "--overwrite", "--num-train-epochs", -1) == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "teacher").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


def test_wrong_settings_do_not_occupy_the_output(fine_tune, tmp_path: Path) -> None:
    assert fine_tune(tmp_path / "teacher", "--num-train-epochs", -1) == 2
    assert fine_tune(tmp_path / "teacher") == 0


def test_a_diverging_run_says_so_in_one_line(
    fine_tune, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert fine_tune(tmp_path / "teacher", "--learning-rate", "1e30") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: the ")  # loss, or outputs, are NaN
    assert "lower the learning rate" in lines[-1].lower()


def test_finetune_keeps_the_best_of_several_rates(
    run_cli, encoder_folder: Path, data_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output, published = tmp_path / "t", tmp_path / "published"
    options = ["--max-length", 32, "--num-train-epochs", 2, "--results-dir", published]
    rates = ["--learning-rates", "1e-9", "1e-2"]
    command = ["finetune", "--model", encoder_folder, "--output", output, *data_options, *options, *rates]
    assert run_cli(*command) == 0
    result = json.loads((published / "teacher" / "mine" / "0.json").read_text())
    tried = {
        rate: json.loads((tmp_path / f"t-lr{rate}" / FINISHED).read_text())["result"]["validation_score"]
        for rate in ("1e-09", "0.01")
    }
    assert tried["0.01"] > tried["1e-09"]
    assert result["tuning"] == {"learning_rate": 0.01, "validation_scores": tried}
    assert json.loads((output / "results.json").read_text())["tuning"] == result["tuning"]
    assert result["config"]["training"]["learning_rate"] == [1e-9, 1e-2]
    best, kept = (load_file(folder / "model.safetensors") for folder in (tmp_path / "t-lr0.01", output))
    assert all((best[name] == kept[name]).all() for name in best)
    assert AutoTokenizer.from_pretrained(output)
    assert run_cli(*command) == 0  # everything is reused
    unpublished = [part for part in command if part not in ("--results-dir", published)]
    capsys.readouterr()
    assert run_cli(*unpublished, "1e-3") == 2  # before it is trained
    assert f"{output} holds the best of the learning rates 1e-09, 0.01, and other" in capsys.readouterr().err
    assert not (tmp_path / "t-lr0.001").exists()


def test_finetune_replaces_a_head_of_another_size(
    run_cli, teacher_folder: Path, own_files: Path, tmp_path: Path
) -> None:
    data = ["--train-file", own_files / "train.csv", "--text-column", "text", "--label-column", "score"]
    options = ["--output", tmp_path / "regressor", "--max-length", 32, "--num-train-epochs", 1]
    assert run_cli("finetune", "--model", teacher_folder, *data, *options) == 0
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "regressor")
    assert model.config.num_labels == 1 and model.config.problem_type == "regression"


def test_label_adds_logits_by_id_and_reuses_them(
    run_cli, teacher_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "rows.csv").write_text("id,text\nb,a good film\na,a dull plot with a long story\n")
    options = ["--teacher", teacher_folder, "--input", tmp_path / "rows.csv", "--text-column", "text"]
    options += ["--output", tmp_path / "new" / "labelled.parquet", "--max-length", 32]
    assert run_cli("label", *options) == 0
    assert "labelled 2 rows" in capsys.readouterr().out
    rows = {row["id"]: row for row in pq.read_table(options[-3]).to_pylist()}
    assert rows["a"]["text"] == "a dull plot with a long story" and set(rows) == {"a", "b"}

    tokenizer = AutoTokenizer.from_pretrained(teacher_folder)
    model = AutoModelForSequenceClassification.from_pretrained(teacher_folder)
    for row in rows.values():
        wanted = model(**tokenizer(row["text"], return_tensors="pt")).logits[0].tolist()
        assert row["teacher_logits"] == pytest.approx(wanted, abs=1e-5)
    assert read_fingerprint(options[-3])["labels"] == ["negative", "positive"]

    assert run_cli("label", *options) == 0
    assert "reused the logits of 2 rows" in capsys.readouterr().out


def test_a_model_of_other_label_names_is_not_reused(fine_tune, own_files, tmp_path, capsys) -> None:
    for split in ("train", "validation", "test"):
        text = (own_files / f"{split}.csv").read_text(encoding="utf-8")
        (tmp_path / f"{split}.csv").write_text(
            text.replace(",negative", ",bad").replace(",positive", ",good")
        )
    assert fine_tune(tmp_path / "teacher") == 0
    files = [part for split in SPLITS for part in (f"--{split}-file", tmp_path / f"{split}.csv")]
    assert fine_tune(tmp_path / "teacher", *files) == 2
    assert "labels" in capsys.readouterr().err.splitlines()[-1]
    assert fine_tune(tmp_path / "teacher", *files, "--overwrite") == 0
    config = json.loads((tmp_path / "teacher" / "config.json").read_text())
    assert list(config["id2label"].values()) == ["bad", "good"]


def test_rows_that_lack_a_class_are_of_the_classes_that_are_named(
    run_cli, fine_tune, own_files, tmp_path, capsys
) -> None:
    rows = (own_files / "train.csv").read_text(encoding="utf-8").splitlines()
    three = [
        row.replace(",negative,", ",awful,") if number % 4 == 1 else row for number, row in enumerate(rows)
    ]
    (tmp_path / "three.csv").write_text("\n".join(three))
    fewer = [row for row in three if ",awful," not in row]
    (tmp_path / "fewer.csv").write_text("\n".join(fewer))
    columns = ["--text-column", "text", "--max-length", 32]
    assert fine_tune(tmp_path / "teacher", "--train-file", tmp_path / "three.csv") == 0
    given = ["evaluate", "--model", tmp_path / "teacher", "--train-file", tmp_path / "fewer.csv", *columns]
    assert run_cli(*given) == 2
    assert "name all classes with --labels where the rows lack one" in capsys.readouterr().err
    assert run_cli(*given, "--labels", "awful", "negative", "positive") == 0
    assert run_cli("evaluate", "--model", tmp_path / "teacher", "--labels", "a", "b", "--max-length", 32) == 2
    assert "--labels describes files of your own" in capsys.readouterr().err


def test_the_version_is_the_package_s(run_cli, capsys: pytest.CaptureFixture) -> None:
    assert run_cli("--version") == 0
    assert capsys.readouterr().out == f"nlp-distill {metadata.version('nlp_distill')}\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["distill", "general", "--text", "x", "--output", "y", "--hidden", "8"],
            "did you mean --hidden-size?",
        ),
        (["finetune", "--output", "y", "--num-train-epoch", "3"], "did you mean --num-train-epochs?"),
        (["finetune", "--output", "y", "--epochs", "3"], "did you mean --num-train-epochs?"),
        (["finetune", "--output", "y", "--device", "cuda"], "an accelerator is used where torch finds one"),
        (
            ["evaluate", "--model", "x", "--max-lenght", "3"],
            "did you mean --max-length?); see nlp-distill evaluate",
        ),
        (
            ["finetune", "--output", "y", "--qqq", "3"],
            "unknown option --qqq; nlp-distill finetune --help lists",
        ),
    ],
)
def test_an_unknown_option_gets_a_word_about_what_was_meant(run_cli, capsys, given, said) -> None:
    assert run_cli(*given) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_an_unknown_option_of_no_command_is_refused(run_cli, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_cli("--bogus")
    assert stopped.value.code == 2 and "unknown option --bogus" in capsys.readouterr().err


def test_several_numbers_are_separated_by_spaces(run_cli, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run_cli("distill", "bilstm", "--teacher", "x", "--output", "y", "--seeds", "0,1,2")
    assert "invalid int value: '0,1,2' (separate several by spaces)" in capsys.readouterr().err


def test_evaluate_compares_models_with_the_first(
    run_cli, data_options, teacher_folder: Path, encoder_folder: Path, tmp_path, capsys: pytest.CaptureFixture
) -> None:
    models, file = ["--model", teacher_folder, encoder_folder], tmp_path / "scores.json"
    assert run_cli("evaluate", *models, *data_options, "--max-length", 32, "--json", file) == 0
    header, _, first, second = capsys.readouterr().out.splitlines()
    assert header.startswith("| model | accuracy | macro_f1 | agrees with teacher |")
    assert (
        first.startswith(f"| {teacher_folder} |") and "|  |" in first
    )  # it agrees with itself: nothing to say
    assert second.startswith(f"| {encoder_folder} |") and "%" in second
    scored = json.loads(file.read_text())
    assert list(scored["models"]) == [str(teacher_folder), str(encoder_folder)]
    assert f"{scored['models'][str(teacher_folder)]['score']:.4f}" in first
    assert scored["data"]["test"]["rows"] == 12 and scored["command"].startswith("nlp-distill evaluate")
    assert run_cli("evaluate", *models, *data_options, "--json", tmp_path / "none" / "scores.json") == 2
    assert "none" in capsys.readouterr().err


def test_bad_rows_are_skipped_and_counted_where_asked_for(
    run_cli, encoder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    good = [("a good film", "positive"), ("a bad plot", "negative"), ("it was great", "positive")] * 4
    lines = ["text,label", *(f"{text} number {i},{label}" for i, (text, label) in enumerate(good))]
    lines[3:3] = [" ,positive", "a film,"]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    data = ["--train-file", tmp_path / "rows.csv", "--text-column", "text", "--skip-bad-rows"]
    assert run_cli("evaluate", "--model", encoder_folder, *data, "--max-length", 32) == 0
    assert "skipped bad rows: 2" in capsys.readouterr().err


# ---- distill --------------------------------------------------------------------------------------------------------


class Distilled:
    """One distillation through the command line: where it is, and what its trainers were given."""

    def __init__(self, folder: Path):
        self.folder, self.output, self.published = folder, folder / "run", folder / "published"
        self.trainers: list = []
        self.code: int | None = None

    @property
    def results(self) -> dict:
        return json.loads((self.output / "results.json").read_text(encoding="utf-8"))


def record_trainers(patch: pytest.MonkeyPatch) -> list:
    from nlp_distill.pipelines import bilstm

    trainers: list = []

    class Recorded(bilstm.DistillationTrainer):
        def __init__(self, *arguments, **given):
            super().__init__(*arguments, **given)
            trainers.append(self)

    patch.setattr(bilstm, "DistillationTrainer", Recorded)
    return trainers


@pytest.fixture(scope="module")
def distilled(distill, own_files: Path, tmp_path_factory) -> Distilled:
    run = Distilled(tmp_path_factory.mktemp("distilled"))
    options = [
        "--unlabelled-file",
        own_files / "unlabelled.csv",
        "--seeds",
        0,
        1,
        "--results-dir",
        run.published,
    ]
    with pytest.MonkeyPatch.context() as patch:
        run.trainers = record_trainers(patch)
        run.code = distill(run.output, *options)
    return run


def test_results_json_has_every_promised_key(distilled: Distilled, own_files: Path) -> None:
    results = distilled.results
    assert distilled.code == 0
    assert results["task"] == "mine" and results["metric"] == "accuracy" and results["seeds"] == [0, 1]
    assert set(results["models"]) == {"teacher", "student_without_teacher", "student"}
    for name, model in results["models"].items():
        assert {"score", "metrics", "parameters", "bytes", "path"} <= set(model)
        assert ("agreement" in model) == (name != "teacher")
        assert Path(model["path"]).is_dir()
    teacher, without, student = (results["models"][name]["score"] for name in results["models"])
    assert (
        results["retention"] == pytest.approx(student / teacher) if teacher else results["retention"] is None
    )
    collapsed = {name for name, model in results["models"].items() if "collapsed_to" in model}
    if teacher > without and not collapsed & {"student", "student_without_teacher"}:
        assert results["gap_closed"] == pytest.approx((student - without) / (teacher - without))
    else:
        assert results["gap_closed"] is None
    assert results["models"]["student"]["score"] == pytest.approx(
        np.mean(results["models"]["student"]["scores"])
    )
    rows = {name: part["rows"] for name, part in results["data"].items()}
    assert rows == {"train": 40, "validation": 10, "test": 12, "unlabelled": 15}
    assert all(len(part["sha256"]) == 64 for part in (*results["data"].values(), results["transfer_set"]))
    assert results["transfer_set"]["rows"] > 55 and set(results["transfer_set"]["rules"]) == {
        "mask",
        "pos",
        "ngram",
    }
    assert {"transfer_set", "labelling", "student", "student_without_teacher"} <= set(results["timings_s"])
    assert {"python", "torch", "transformers", "nlp_distill"} <= set(results["versions"])
    config = results["config"]
    assert (config["hidden_size"], config["head_size"], config["transfer_set"]["n_iter"]) == (6, 5, 1)
    # Every setting is there, those that were left out with their defaults.
    assert config["training"] == {**TRAINING, "num_train_epochs": 1.0} == config["baseline_training"]
    assert config["adadelta_rho"] == 0.95
    assert results["command"].startswith("nlp-distill distill bilstm --task mine")
    assert results["selected_on"] == "validation"


def test_the_report_shows_the_scores_of_results_json(distilled: Distilled) -> None:
    page = (distilled.output / "results.md").read_text(encoding="utf-8")
    assert page.startswith("# mine: accuracy on the test split")
    for model in distilled.results["models"].values():
        assert f"| {model['score']:.4f}" in page and f"{model['parameters']:,}" in page


def test_one_result_file_is_published_for_each_student_and_seed(distilled: Distilled) -> None:
    files = sorted(str(path.relative_to(distilled.published)) for path in distilled.published.rglob("*.json"))
    methods = ("bilstm_distilled", "bilstm_without_teacher")
    assert files == [f"{method}/mine/{seed}.json" for method in methods for seed in (0, 1)]
    for name in files:
        entry = json.loads((distilled.published / name).read_text(encoding="utf-8"))
        wanted = {
            "method",
            "task",
            "seed",
            "score",
            "metrics",
            "config",
            "versions",
            "data",
            "wall_time_s",
            "command",
        }
        assert wanted <= set(entry)
        assert f"{entry['method']}/{entry['task']}/{entry['seed']}.json" == name
        assert entry["score"] == entry["metrics"]["accuracy"] and 0 <= entry["score"] <= 1
    arms = {"student": "bilstm_distilled", "student_without_teacher": "bilstm_without_teacher"}
    for arm, method in arms.items():
        scores = [
            json.loads((distilled.published / method / "mine" / f"{seed}.json").read_text())["score"]
            for seed in (0, 1)
        ]
        assert distilled.results["models"][arm]["scores"] == scores


@pytest.mark.parametrize("is_pair", [False, True])
def test_a_cnn_is_distilled_in_the_same_way(
    distill, data_options, own_files: Path, teacher_folder, tmp_path: Path, is_pair: bool
) -> None:
    pair = ["--text-pair-column", "second"] if is_pair else []
    options = ["--results-dir", tmp_path / "published", "--embedding-channels", 2]
    assert distill(tmp_path / "run", *options, kind="cnn", data=[*data_options, *pair]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert set(results["models"]) == {"teacher", "student_without_teacher", "student"}
    config = results["config"]
    assert (config["filters"], config["widths"], config["dropout"]) == (4, [2, 3], 0.5)
    assert "hidden_size" not in config and "head_size" not in config and "cnn" not in config
    files = sorted(path.relative_to(tmp_path / "published") for path in tmp_path.glob("published/**/*.json"))
    assert list(map(str, files)) == ["cnn_distilled/mine/0.json", "cnn_without_teacher/mine/0.json"]
    folder = tmp_path / "run" / "student-seed0"
    student = AutoModelForSequenceClassification.from_pretrained(folder)
    assert type(student).__name__ == "CNNForSequenceClassification" and student.config.pair == is_pair
    assert student.config.widths == [2, 3] and student.config.embedding_channels == 2
    assert "import nlp_distill.students" in (folder / "README.md").read_text(encoding="utf-8")
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert distill(tmp_path / "run", *options, kind="cnn", data=[*data_options, *pair]) == 0  # reused
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_the_transfer_set_is_labelled_by_the_teacher_row_by_row(
    distilled: Distilled, teacher_folder: Path
) -> None:
    rows = pq.read_table(distilled.output / "labels" / "labelled.parquet").to_pylist()
    tokenizer = AutoTokenizer.from_pretrained(teacher_folder)
    model = AutoModelForSequenceClassification.from_pretrained(teacher_folder)
    assert len(rows) == distilled.results["transfer_set"]["rows"]
    for row in rows[::10]:
        wanted = model(**tokenizer(row["text"], return_tensors="pt")).logits[0].tolist()
        assert row["teacher_logits"] == pytest.approx(wanted, abs=1e-5)
    assert all(row["label"] is None for row in rows if row["rules"] or row["id"].startswith("unlabelled"))


def texts_of(rows, tokenizer) -> Counter:
    return Counter(tokenizer.decode(row["input_ids"], skip_special_tokens=True) for row in rows)


def encoded(dataset, tokenizer) -> Counter:
    ids = tokenizer(list(dataset["text"]), truncation=True, max_length=32)["input_ids"]
    return texts_of([{"input_ids": row} for row in ids], tokenizer)


@pytest.fixture(scope="module")
def own_task(own_files: Path):
    files = {
        f"{split}_file": own_files / f"{split}.csv" for split in ("train", "validation", "test", "unlabelled")
    }
    return load_task("mine", text_column="text", **files)


def test_the_student_without_the_teacher_sees_labelled_rows_alone(distilled: Distilled, own_task) -> None:
    for trainer in distilled.trainers[:2]:
        rows = trainer.train_dataset
        assert not trainer.model.objective.needs_teacher and trainer.teacher is None
        assert rows.teacher_logits is None and "teacher_logits" not in rows[0]
        assert set(rows.labels.tolist()) == {0, 1}
        assert texts_of(rows, trainer.processing_class) == encoded(own_task.train, trainer.processing_class)


def test_the_distilled_student_sees_the_whole_transfer_set_and_its_logits(distilled: Distilled) -> None:
    table = pq.read_table(distilled.output / "labels" / "labelled.parquet")
    for trainer in distilled.trainers[2:]:
        assert trainer.model.objective.needs_teacher
        assert trainer.train_dataset.teacher_logits.tolist() == table["teacher_logits"].to_pylist()
        wanted = encoded(Dataset(table), trainer.processing_class)
        assert texts_of(trainer.train_dataset, trainer.processing_class) == wanted


def test_both_students_are_selected_on_validation_and_never_on_test(distilled: Distilled, own_task) -> None:
    assert len(distilled.trainers) == 4
    for trainer in distilled.trainers:
        seen = texts_of(trainer.eval_dataset, trainer.processing_class)
        assert seen == encoded(own_task.validation, trainer.processing_class)
        assert trainer.args.load_best_model_at_end and trainer.args.metric_for_best_model == "score"


def test_the_vocabulary_comes_from_train_and_unlabelled_rows_alone(distilled: Distilled) -> None:
    for trainer in distilled.trainers:
        vocabulary = trainer.processing_class.get_vocab()
        assert {"trainword", "unlabelledword", "good"} <= set(vocabulary)
        assert not {"validationword", "testword"} & set(vocabulary)


def test_seeds_differ_and_both_arms_have_the_same_student(distilled: Distilled) -> None:
    weights = {
        folder.name: load_file(folder / "model.safetensors")
        for folder in distilled.output.glob("student*-seed*")
    }
    shapes = {name: {key: value.shape for key, value in tensors.items()} for name, tensors in weights.items()}
    assert len(weights) == 4 and len({str(shape) for shape in shapes.values()}) == 1
    assert not weights["student-seed0"]["classifier.weight"].equal(
        weights["student-seed1"]["classifier.weight"]
    )


def test_a_saved_student_loads_in_a_fresh_process(distilled: Distilled) -> None:
    code = (
        "import sys, nlp_distill.students\n"
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline\n"
        "folder = sys.argv[1]\n"
        "model = AutoModelForSequenceClassification.from_pretrained(folder)\n"
        "logits = model(**AutoTokenizer.from_pretrained(folder)('a fine film', return_tensors='pt')).logits\n"
        "[answer] = pipeline('text-classification', model=folder, top_k=None)(['a fine film'])\n"
        "assert {entry['label'] for entry in answer} == {'negative', 'positive'}, answer\n"
        "share = {entry['label']: entry['score'] for entry in answer}['positive']\n"
        "assert abs(share - logits.softmax(1)[0, 1].item()) < 1e-6\n"
        "print(type(model).__name__)"
    )
    folder = distilled.output / "student-seed0"
    assert not list(folder.glob("checkpoint*")) and not list(folder.glob("*.bin"))
    result = run_process(sys.executable, "-c", code, folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "BiLSTMForSequenceClassification"


def test_a_second_run_reuses_every_stage(
    distill,
    distilled: Distilled,
    own_files: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainers, before = record_trainers(monkeypatch), distilled.results
    options = ["--unlabelled-file", own_files / "unlabelled.csv", "--seeds", 0, 1, "--num-workers", 2]
    assert distill(distilled.output, *options) == 0
    lines = capsys.readouterr().err.splitlines()
    assert sum("reusing" in line for line in lines) == 7 and trainers == []
    after = json.loads((distilled.output / "results.json").read_text())
    differing = {name for name in before if before[name] != after[name]}
    assert differing <= {"command", "config", "speed"}  # speed is measured anew


def test_a_pair_task_is_distilled(
    run_cli, distill, encoder_folder: Path, own_files: Path, data_options: list[str], tmp_path: Path
) -> None:
    data = [*data_options, "--text-pair-column", "second"]
    training = ["--num-train-epochs", 1, "--max-length", 32]
    assert run_cli("finetune", "--model", encoder_folder, "--output", tmp_path / "t", *data, *training) == 0
    options = ["--no-baseline", "--embeddings", "random", "--embedding-channels", 2]
    assert distill(tmp_path / "d", *options, teacher=tmp_path / "t", data=data) == 0
    results = json.loads((tmp_path / "d" / "results.json").read_text())
    assert set(results["models"]) == {"teacher", "student"} and results["gap_closed"] is None
    student = json.loads((tmp_path / "d" / "student-seed0" / "config.json").read_text())
    assert student["pair"] is True and student["embedding_channels"] == 2


def test_a_regression_is_distilled_with_labels_mixed_in(
    run_cli, distill, encoder_folder: Path, own_files: Path, tmp_path: Path
) -> None:
    data = ["--train-file", own_files / "train.csv", "--text-column", "text", "--label-column", "score"]
    training = ["--num-train-epochs", 1, "--max-length", 32]
    assert run_cli("finetune", "--model", encoder_folder, "--output", tmp_path / "t", *data, *training) == 0
    mixed = ["--hard-weight", 0.5, "--unlabelled-file", own_files / "unlabelled.csv"]
    adam = ["--optimizer", "adamw", "--learning-rate", "1e-2"]
    assert distill(tmp_path / "d", *mixed, *adam, teacher=tmp_path / "t", data=data) == 0
    results = json.loads((tmp_path / "d" / "results.json").read_text())
    assert results["metric"] == "spearmanr" and results["task"] == "train"
    assert set(results["models"]["student"]["metrics"]) == {"spearmanr", "pearson"}
    assert -1 <= results["models"]["student"]["score"] <= 1


def test_glove_vectors_of_a_text_file_become_the_students_words(
    distill, tmp_path: Path, own_files: Path
) -> None:
    vectors = {"good": [1.5, -2.5, 0.5], "bad": [-1.0, 2.0, 0.25], "film": [0.125, 0.5, -0.75]}
    lines = [" ".join([word, *map(str, vector)]) for word, vector in vectors.items()]
    (tmp_path / "glove.txt").write_text("\n".join(lines) + "\n")
    frozen = [
        "--learning-rate",
        "1e-12",
        "--glove-file",
        tmp_path / "glove.txt",
    ]  # so that the vectors are seen
    assert distill(tmp_path / "d", "--no-baseline", *frozen) == 0
    words = AutoTokenizer.from_pretrained(tmp_path / "d" / "student-seed0").get_vocab()
    matrix = load_file(tmp_path / "d" / "student-seed0" / "model.safetensors")["embeddings.weight"]
    assert {"trainword", "good", "bad", "film"} <= set(words) and "testword" not in words
    for word, vector in vectors.items():
        assert matrix[words[word]].tolist() == pytest.approx(vector, abs=1e-6)


# ---- interruption ---------------------------------------------------------------------------------------------------


def test_a_killed_run_continues_to_the_same_weights(
    distill,
    distill_arguments,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGKILL in the middle of the student's training; the second run ends where an uninterrupted one does."""
    options = ["--no-baseline", "--num-train-epochs", 40, "--save-total-limit", 40]
    assert distill(tmp_path / "whole", *options) == 0

    command = [sys.executable, "-m", "nlp_distill", *distill_arguments(tmp_path / "killed", *options)]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, cwd=tmp_path)
    student = tmp_path / "killed" / "student-seed0"
    deadline = time.monotonic() + 300
    while len(list(student.glob("checkpoints/*/checkpoint_complete"))) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, f"it ended before it could be killed: {(tmp_path / 'log').read_text()}"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (student / FINISHED).exists() and not (tmp_path / "killed" / "results.json").exists()

    resumed_from: list = []

    def find(folder):
        resumed_from.append(find_last_checkpoint(folder))
        return resumed_from[-1]

    monkeypatch.setattr("nlp_distill.training.find_last_checkpoint", find)
    capsys.readouterr()
    assert distill(tmp_path / "killed", *options) == 0
    messages = capsys.readouterr().err
    assert messages.count("reusing") == 3 and f"continuing in {student}" in messages
    assert len(resumed_from) == 1 and "checkpoint-" in str(resumed_from[0])
    killed, whole = student, tmp_path / "whole" / "student-seed0"
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    entries = [json.loads((folder / FINISHED).read_text())["result"] for folder in (killed, whole)]
    assert entries[0]["training"]["steps"] == entries[1]["training"]["steps"]
    assert entries[0]["entry"]["metrics"] == entries[1]["entry"]["metrics"]


def test_what_training_logs_is_a_line_for_people_on_standard_error(
    run_cli, data_options, encoder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    training = ["--num-train-epochs", 1, "--max-length", 32, "--logging-steps", 1]
    assert (
        run_cli("finetune", "--model", encoder_folder, "--output", tmp_path / "t", *data_options, *training)
        == 0
    )
    printed = capsys.readouterr()
    assert "loss" not in printed.out and "| teacher" in printed.out
    assert re.search(r"epoch 1\.00: eval loss \d\.\d+, eval score \d", printed.err)
    assert re.search(r"epoch 0\.\d\d: loss \d\.\d+, grad norm ", printed.err)
