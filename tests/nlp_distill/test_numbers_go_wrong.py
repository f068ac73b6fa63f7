"""Results that are no results are said to be so: collapsed students, leaked rows, transfer sets of duplicates."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from nlp_distill.evaluation import describe_scores
from nlp_distill.pipelines.runs import warn
from nlp_distill.results import is_still_rising, list_warnings, merge_seeds
from nlp_distill.tasks import Task

TASK = Task("mine", "text", None, ("negative", "positive"), ("accuracy",))
VALUES = Task("values", "text", None, (), ("spearmanr",))


def test_a_model_that_answers_every_row_alike_has_collapsed() -> None:
    logits, labels = np.array([[0.0, 1.0], [2.0, 3.0], [-1.0, 5.0]]), [1, 0, 1]
    assert describe_scores(TASK, logits, labels)["collapsed_to"] == "positive"
    logits[1] = [4.0, 3.0]
    assert "collapsed_to" not in describe_scores(TASK, logits, labels)
    assert "collapsed_to" not in describe_scores(TASK, logits[:1], labels[:1])  # one row has one answer


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_a_regression_that_gives_one_value_has_collapsed() -> None:
    assert describe_scores(VALUES, np.full((3, 1), 2.5), [1.0, 2.0, 3.0])["collapsed_to"] == 2.5


@pytest.mark.parametrize(
    ("scores", "rising"),
    [([0.5, 0.6], True), ([0.5, 0.6, 0.6], False), ([0.7, 0.6], False), ([0.6], False), ([], False)],
)
def test_a_training_whose_last_evaluation_is_the_best_is_still_rising(scores, rising) -> None:
    history = [{"step": step, "eval_score": score} for step, score in enumerate(scores)]
    assert is_still_rising({"history": history}) is rising


def test_a_comparison_with_a_baseline_that_still_rises_is_no_measure() -> None:
    models = {"teacher": {"score": 0.9}, "student_without_teacher": {"score": 0.6, "still_rising": True}}
    (said,) = list_warnings(models)
    assert said.startswith("Student, without the teacher was best on validation after its last epoch")
    del models["student_without_teacher"]["still_rising"]
    assert list_warnings(models) == []


def test_one_collapsed_seed_is_enough_to_be_warned(capsys) -> None:
    run = {"score": 0.5, "metrics": {"accuracy": 0.5}}
    merged = merge_seeds([run, run | {"collapsed_to": "positive"}])
    warn({"teacher": run, "student_without_teacher": merged})
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert "without the teacher answers 'positive' to every test row with 1 of its 2 seeds: it" in error[0]
    (said,) = list_warnings({"student": merge_seeds([run | {"collapsed_to": "positive"}] * 2)})
    assert "to every test row: it learnt nothing" in said


def test_a_teacher_that_answers_every_row_alike_is_warned_of_when_it_is_made(
    fine_tune, tmp_path, capsys
) -> None:
    assert fine_tune(tmp_path / "teacher", "--learning-rate", "1e-9") == 0
    collapsed = json.loads((tmp_path / "teacher" / "results.json").read_text())["models"]["teacher"]
    assert "collapsed_to" in collapsed
    assert "WARNING: The teacher answers" in capsys.readouterr().err


def read_transfer(output: Path) -> dict:
    return json.loads((output / "results.json").read_text())["transfer_set"]


def test_rows_of_the_test_split_among_unlabelled_texts_are_left_out(distill, own_files, tmp_path) -> None:
    with open(own_files / "test.csv", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:2]
    unlabelled = tmp_path / "more.txt"
    unlabelled.write_text("\n".join([texts[0].upper(), texts[1] + " !", "a film of its own"]) + "\n")
    options = ["--no-baseline", "--unlabelled-file", unlabelled, "--unlabelled-n-iter", 0, "--n-iter", 0]
    assert distill(tmp_path / "run", *options) == 0
    made = read_transfer(tmp_path / "run")
    assert made["unlabelled_rows_in"] == 1 and made["leaked_rows"] == 0


def test_variants_that_hit_upon_a_held_out_text_are_counted_and_said(
    distill, tmp_path, capsys, monkeypatch
) -> None:
    from nlp_distill.pipelines import transfer

    original = transfer.write_transfer_set

    def write(rows, path, **settings):
        summary = original(rows, path, **settings)
        table = pq.read_table(path)
        texts = ["FILM, of the test split!", *table["text"].to_pylist()[1:]]
        position = table.column_names.index("text")
        pq.write_table(table.set_column(position, table.schema.field("text"), [texts]), path)
        return summary

    monkeypatch.setattr(transfer, "write_transfer_set", write)
    (tmp_path / "test.csv").write_text("text,label\nfilm of the test split,positive\nbad,negative\n")
    options = ["--no-baseline", "--test-file", tmp_path / "test.csv"]
    assert distill(tmp_path / "run", *options) == 0
    assert read_transfer(tmp_path / "run")["leaked_rows"] == 1
    warning = "WARNING: 1 of "
    assert warning in capsys.readouterr().err
    assert distill(tmp_path / "run", *options) == 0  # a reused stage still says it
    assert warning in capsys.readouterr().err
    # Other test rows: the same transfer set, of which other rows are leaked, or none.
    (tmp_path / "test.csv").write_text("text,label\nanother film,positive\nbad,negative\n")
    assert distill(tmp_path / "run", *options, "--overwrite") == 0
    said = capsys.readouterr().err
    assert warning not in said and "reusing" in said


def test_a_transfer_set_of_duplicates_is_said_to_be_one(distill, tmp_path, capsys) -> None:
    rules = ["--p-mask", 0, "--p-pos", 0, "--p-ngram", 0]
    assert distill(tmp_path / "run", "--no-baseline", *rules) == 0
    assert "WARNING: 100% of the variants were unchanged or duplicates" in capsys.readouterr().err
    assert read_transfer(tmp_path / "run")["leaked_rows"] == 0
