"""The contract of tasks and their data, and the fingerprint."""

import dataclasses
import subprocess
import sys

import pytest
from datasets import Dataset

from nlp_distill.tasks import Task, TaskData, data_fingerprint

SINGLE = Task("s", "text", None, ("no", "yes"), ("accuracy",))
PAIR = Task("p", "a", "b", (), ("spearmanr",))


def test_properties_follow_from_columns_and_labels():
    assert (SINGLE.text_columns, SINGLE.is_pair, SINGLE.is_regression, SINGLE.num_labels) == (
        ("text",), False, False, 2,
    )  # fmt: skip
    assert (PAIR.text_columns, PAIR.is_pair, PAIR.is_regression, PAIR.num_labels) == (
        ("a", "b"),
        True,
        True,
        1,
    )
    assert SINGLE.id2label == {0: "no", 1: "yes"}
    assert SINGLE.label2id == {"no": 0, "yes": 1}
    assert PAIR.id2label == {}


def test_a_task_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SINGLE.name = "other"


def rows(*texts):
    return Dataset.from_dict({"id": [f"t-{i}" for i in range(len(texts))], "text": list(texts)})


def test_splits_are_all_data_sets_by_name():
    data = TaskData(SINGLE, rows("a"), rows("b"), rows("c"), rows("d"), extra_tests={"x": rows("e")})
    assert {name: split["text"][0] for name, split in data.splits().items()} == {
        "train": "a", "validation": "b", "test": "c", "unlabelled": "d", "x": "e",
    }  # fmt: skip
    assert data.fingerprints()["x"] == data_fingerprint(rows("e"))
    assert "unlabelled" not in TaskData(SINGLE, rows("a"), rows("b"), rows("c")).splits()


def test_fingerprint_is_that_of_the_content_and_not_of_how_it_is_stored(tmp_path):
    dataset = rows("a", "b", "c")
    dataset.save_to_disk(tmp_path / "saved")
    expected = data_fingerprint(dataset)
    assert expected["rows"] == 3
    assert data_fingerprint(Dataset.load_from_disk(tmp_path / "saved")) == expected
    assert data_fingerprint(rows("x", "c", "a", "b").select([2, 3, 1])) != expected  # ids differ
    assert data_fingerprint(dataset.select([0, 1, 2])) == expected
    assert data_fingerprint(dataset.select_columns(["text", "id"])) == expected
    assert data_fingerprint(dataset.with_format("numpy")) == expected


@pytest.mark.parametrize("other", [("a", "b"), ("a", "b", "d"), ("b", "a", "c"), ("ab", "", "c")])
def test_fingerprint_differs_where_content_or_order_does(other):
    assert data_fingerprint(rows(*other))["sha256"] != data_fingerprint(rows("a", "b", "c"))["sha256"]


def test_fingerprint_of_chosen_columns_ignores_the_others():
    plain = rows("a", "b")
    labelled = plain.add_column("label", [0, 1])
    assert data_fingerprint(labelled, ("id", "text")) == data_fingerprint(plain)
    assert data_fingerprint(labelled) != data_fingerprint(plain)


def test_fingerprint_is_the_same_in_another_process_and_release():
    # A literal value: a change of the definition would silently orphan every published result file.
    assert data_fingerprint(rows("a", "b"))["sha256"] == (
        "2ec650774a43f60dbe3691561701b1717603766d90a8f3ee6345706de7e824c0"
    )


def test_importing_tasks_and_metrics_loads_nothing_heavy():
    code = (
        "import sys, nlp_distill.tasks, nlp_distill.metrics;"
        "print(*[m for m in ('torch', 'transformers', 'datasets', 'sklearn', 'scipy', 'evaluate', 'pandas')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
