"""Tasks of your own, several at once: the suite file of the multi-task commands."""

import json

import pytest
from transformers import AutoModel

from data_augment.errors import InputError
from nlp_distill.tasks import load_own_files, read_suite_file

FAST = ["--max-length", 32, "--num-train-epochs", 1, "--per-device-train-batch-size", 16]
FILMS = '[films]\ntrain_file = "{own}/train.csv"\ntext_column = "text"\n'


@pytest.fixture
def distill(run_cli, encoder_folder, tmp_path):
    def run(method, *more, output=tmp_path / "run"):
        return run_cli("distill", method, "--encoder", encoder_folder, "--output", output, *FAST, *more)

    return run


def test_a_suite_of_own_files_is_distilled(distill, suite_file, own_files, tmp_path):
    """Classes, classes of pairs, and values; each task has its own labels, files and metric."""
    results_dir = tmp_path / "results"
    given = ["--suite", suite_file, "--doubled", "pairs", "--single-epochs", 1, "--results-dir", results_dir]
    assert distill("bam", *given) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {name: block["metric"] for name, block in results["tasks"].items()} == {
        "films": "accuracy",
        "pairs": "accuracy",
        "words": "spearmanr",
    }
    assert results["averaged_over"] == ["films", "pairs", "words"]
    config = results["config"]
    assert config["tasks"] == ["films", "pairs", "words"] and config["doubled"] == ["pairs"]
    assert config["own_files"]["words"] == {
        "train_file": "train.csv",
        "validation_file": "validation.csv",
        "test_file": "test.csv",
        "text_column": "text",
        "text_pair_column": "second",
        "label_column": "score",
    }
    assert results["selected_on"] == dict.fromkeys(results["tasks"], "validation")
    alone = load_own_files(
        own_files / "train.csv",
        text_column="text",
        validation_file=own_files / "validation.csv",
        test_file=own_files / "test.csv",
    )
    assert results["data"]["films"] == alone.fingerprints()  # the rows of the same task on its own
    model = AutoModel.from_pretrained(tmp_path / "run" / "student-all-seed0")
    assert [(task.name, task.labels, task.is_pair) for task in model.tasks] == [
        ("films", ("negative", "positive"), False),
        ("pairs", ("negative", "positive"), True),
        ("words", (), True),
    ]
    assert (results_dir / "bam" / "words" / "0.json").exists()
    assert str(tmp_path) not in (results_dir / "bam" / "words" / "0.json").read_text()
    assert distill("bam", *given) == 0  # everything is reused, and may be published again


def test_labels_name_the_classes_that_train_lacks(own_files, tmp_path):
    path = tmp_path / "suite.toml"
    labels = ["negative", "neutral", "positive"]
    path.write_text(FILMS.format(own=own_files) + f"labels = {json.dumps(labels)}\n")
    fields = read_suite_file(path)["films"]
    assert load_own_files(**fields).task.labels == tuple(labels)


def test_mt_dnn_takes_one_too_beside_other_tasks(distill, suite_file, tmp_path):
    folder = tmp_path / "glue" / "RTE"
    folder.mkdir(parents=True)
    for split, size in (("train", 30), ("dev", 8)):
        lines = [
            f"{n}\tgood film {n} {split}\tbad plot\t{('entailment', 'not_entailment')[n % 2]}"
            for n in range(size)
        ]
        (folder / f"{split}.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *lines]) + "\n")
    given = ["--suite", suite_file, "--tasks", "rte", "--data-dir", tmp_path / "glue", "--san", "pairs"]
    assert distill("mt-dnn", *given, "--num-teachers", 1, "--no-fine-tuning") == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results["tasks"]) == ["rte", "films", "pairs", "words"] == results["config"]["tasks"]
    heads = {task.name: task for task in AutoModel.from_pretrained(tmp_path / "run" / "student-seed0").tasks}
    assert heads["pairs"].head == "san"
    # Two tasks with other names for their classes do not meddle with each other.
    assert heads["rte"].labels == ("entailment", "not_entailment")
    assert heads["films"].labels == ("negative", "positive")


def test_settings_without_a_suite_are_what_they_were(run_cli, distill, tmp_path, monkeypatch):
    """Result files know nothing of an option that was not used."""
    from nlp_distill.cli import build_parser
    from nlp_distill.commands.suite import describe_suite, read_own_tasks

    options = build_parser().parse_args(
        ["distill", "bam", "--tasks", "rte", "wnli", "--output", str(tmp_path)]
    )
    assert read_own_tasks(options) == {}
    assert json.dumps(describe_suite(options, {})) == json.dumps(
        {
            "encoder": "packaged",
            "tasks": ["rte", "wnli"],
            "max_length": 128,
            "select_on": "train",
            "given_teachers": {},
        }
    )


def test_paths_start_from_the_file_s_own_folder(tmp_path):
    path = tmp_path / "deep" / "suite.toml"
    path.parent.mkdir()
    path.write_text('[a]\ntrain_file = "x.csv"\ntest_file = "/y.csv"\ntext_column = "t"\n')
    assert read_suite_file(path) == {
        "a": {"train_file": str(tmp_path / "deep" / "x.csv"), "test_file": "/y.csv", "text_column": "t"}
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[films\n", "is no TOML: Expected ']'"),
        (FILMS + FILMS, "Cannot declare ('films',) twice"),
        ("", "holds no task; give each a table, [NAME], with train_file and text_column"),
        ('films = "train.csv"\n', "films is no table; give each task one, [NAME]"),
        (FILMS + 'text = "a"\n', "task films has the unknown key 'text'; give any of train_file"),
        (FILMS + 'labels = "good"\n', "task films has labels = 'good'; give a list of names in quotes"),
        (FILMS + "labels = [1, 2]\n", "task films has labels = [1, 2]; give a list of names"),
        (FILMS + "label_column = 3\n", "task films has label_column = 3; give a text in quotes"),
        ('[films]\ntrain_file = "a.csv"\n', "task films lacks text_column"),
        ('[films]\ntext_column = "a"\n', "task films lacks train_file"),
        (FILMS.replace("films", "rte"), "task rte has the name of a known data set"),
        (FILMS.replace("films", "tweets"), "task tweets has the name of a known data set"),
        (FILMS.replace("[films]", '["a.b"]'), "a task cannot be called 'a.b'"),
        (FILMS.replace("films", "values"), "a task cannot be called 'values'"),
        (FILMS.replace("films", "score"), "a task cannot be called score, which training logs"),
        (FILMS.replace("train.csv", "nowhere.csv"), "task films: "),
        (FILMS + 'label_column = "gold"\n', "no column 'gold'; its columns are text, second, label, score"),
        (FILMS + 'text_pair_column = "other"\n', "no column 'other'"),
        (FILMS + 'validation_file = "{empty}"\n', "header.csv has no rows"),
        (FILMS + 'validation_file = "{own}/train.csv"\n', "rows of train are in validation too"),
        (
            FILMS + 'label_column = "second"\nvalidation_file = "{own}/validation.csv"\n',
            "validation.csv: row",
        ),
    ],
)
def test_a_suite_that_does_not_fit_gets_one_line(distill, own_files, tmp_path, capsys, text, message):
    (tmp_path / "header.csv").write_text("text,label\n")
    suite = tmp_path / "suite.toml"
    suite.write_text(text.replace("{own}", str(own_files)).replace("{empty}", str(tmp_path / "header.csv")))
    assert distill("bam", "--suite", suite) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "there are no tasks; name some with --tasks, or give files of your own with --suite"),
        (["--suite", "nowhere.toml"], "cannot read nowhere.toml"),
        (["--suite", "{suite}", "--select-on", "dev"], "--select-on dev is a habit with GLUE's splits"),
        (["--suite", "{suite}", "--data-dir", "glue"], "no task of GLUE is given; leave it out"),
        (
            ["--suite", "{suite}", "--doubled", "film"],
            "task film is to be doubled, but is none here; give any of films",
        ),
        (["--suite", "{suite}", "--teachers", "rte=x"], "a teacher is given for rte, which is no task here"),
    ],
)
def test_options_that_do_not_go_with_a_suite_get_one_line(
    distill, suite_file, tmp_path, capsys, options, message
):
    given = [str(suite_file) if part == "{suite}" else part for part in options]
    assert distill("bam", *given) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_missing_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_suite_file(tmp_path)
