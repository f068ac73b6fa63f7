"""The GLUE table, and folders in the layouts of the official archives with their quirks."""

import os
from pathlib import Path

import pytest

from data_augment.errors import InputError
from nlp_distill.tasks import GLUE, glue_task, load_glue_folder


def check_contract(data):
    ids = [row_id for split in data.splits().values() for row_id in split["id"]]
    assert len(ids) == len(set(ids))
    for split in data.splits().values():
        assert split.column_names == ["id", *data.task.text_columns, "label"]


@pytest.mark.parametrize("name", GLUE)
def test_every_task_loads_from_its_classic_layout(name, tmp_path, write_task):
    write_task(tmp_path, name)
    data = load_glue_folder(name, tmp_path)
    check_contract(data)
    assert len(data.train) + len(data.validation) == 40
    assert len(data.test) == 6
    assert data.selected_on == "train"
    number, first = 1000, data.test[0]
    expected = f"sentence {number}" if len(data.task.text_columns) == 1 else f"first {number}"
    assert first[data.task.text_column] == expected
    assert data.test["label"][:3] == (
        [0.0, 2.5, 5.0]
        if name == "stsb"
        else [n % len(GLUE[name].spelling or ("0.000", "2.500", "5.000")) for n in range(3)]
    )


def test_label_order_is_the_official_one():
    derived = {"mnli_mm": "mnli", "ax": "mnli", "sst2_10k": "sst2"}
    labels = {name: entry.task.labels for name, entry in GLUE.items()}
    assert all(labels.pop(name) == labels[base] for name, base in derived.items())
    assert labels == {
        "cola": ("unacceptable", "acceptable"),
        "sst2": ("negative", "positive"),
        "mrpc": ("not_equivalent", "equivalent"),
        "qqp": ("not_duplicate", "duplicate"),
        "stsb": (),
        "mnli": ("entailment", "neutral", "contradiction"),
        "qnli": ("entailment", "not_entailment"),
        "rte": ("entailment", "not_entailment"),
        "wnli": ("not_entailment", "entailment"),
    }  # fmt: skip


def test_score_is_matthews_for_cola_spearman_for_stsb_and_accuracy_elsewhere():
    scores = {name: entry.task.metrics[0] for name, entry in GLUE.items()}
    assert scores.pop("cola") == "matthews_correlation"
    assert scores.pop("stsb") == "spearmanr"
    assert set(scores.values()) == {"accuracy"}
    assert GLUE["mrpc"].task.metrics == GLUE["qqp"].task.metrics == ("accuracy", "f1")


def test_quotes_are_ordinary_characters_and_only_a_line_feed_ends_a_row(tmp_path, write_task):
    write_task(tmp_path, "sst2")
    path = tmp_path / "SST-2" / "dev.tsv"
    path.write_text(
        'sentence\tlabel\r\n"an open quote\t1\r\nline\u2028separator \x85 inside\t0\n', encoding="utf-8"
    )
    test = load_glue_folder("sst2", tmp_path).test
    assert test["sentence"][:] == ['"an open quote', "line\u2028separator \x85 inside"]
    assert test["label"][:] == [1, 0]


def test_ids_are_the_split_and_the_row_number_of_the_file(tmp_path, write_task):
    write_task(tmp_path, "sst2")
    data = load_glue_folder("sst2", tmp_path)
    for split in (data.train, data.validation):
        for row in split:
            # The fixture writes "sentence n" into row n + 1.
            assert row["id"] == f"train-{int(row['sentence'].split()[1]) + 1}"
    assert data.test["id"][0] == "test-1"


def test_train_rows_that_are_reported_rows_but_for_punctuation_are_dropped_and_counted(tmp_path, write_task):
    write_task(tmp_path, "sst2")
    with (tmp_path / "SST-2" / "train.tsv").open("a") as file:
        file.write("Sentence 1000 !\t0\nsentence  1001\t1\n")
    data = load_glue_folder("sst2", tmp_path)
    assert data.counts == {"train_rows_found_in_test": 2}
    assert len(data.train) + len(data.validation) == 40


def test_the_reported_rows_do_not_change_what_is_held_out(tmp_path, write_task, write_rows):
    write_task(tmp_path, "rte")
    before = load_glue_folder("rte", tmp_path).validation["id"][:]
    write_rows(tmp_path / "RTE" / "dev.tsv", "rte", [(5000, "entailment"), (5001, "not_entailment")])
    assert load_glue_folder("rte", tmp_path).validation["id"][:] == before


def test_selecting_on_dev_is_marked_and_leaves_train_whole(tmp_path, write_task):
    write_task(tmp_path, "rte")
    data = load_glue_folder("rte", tmp_path, select_on="dev")
    check_contract(data)
    assert data.selected_on == "dev"
    assert len(data.train) == 40
    assert data.validation["sentence1"][:] == data.test["sentence1"][:]


def test_mnli_brings_the_mismatched_and_diagnostic_sets_where_they_are(tmp_path, write_task, write_rows):
    write_task(tmp_path, "mnli")
    assert load_glue_folder("mnli", tmp_path).extra_tests == {}
    write_rows(tmp_path / "MNLI" / "dev_mismatched.tsv", "mnli", [(1, "neutral"), (2000, "contradiction")])
    write_rows(tmp_path / "diagnostic" / "diagnostic-full.tsv", "ax", [(3000, "entailment")])
    data = load_glue_folder("mnli", tmp_path)
    check_contract(data)
    assert {name: split["label"][:] for name, split in data.extra_tests.items()} == {
        "mnli_mm": [1, 2],
        "ax": [0],
    }
    assert data.extra_tests["mnli_mm"]["id"][0] == "mnli_mm-1"
    assert data.counts == {"train_rows_found_in_test": 1}  # row 1 is reported in the mismatched set
    assert load_glue_folder("mnli_mm", tmp_path).test["premise"][:] == ["first 1", "first 2000"]
    assert load_glue_folder("ax", tmp_path).test["premise"][:] == ["first 3000"]


def test_small_files_are_called_samples(tmp_path, write_task):
    write_task(tmp_path, "qqp")
    source = load_glue_folder("qqp", tmp_path).source
    assert "train is a sample, 40 of 363,846 rows; test is a sample, 6 of 40,430 rows" in source
    assert str(tmp_path) not in source


def test_sst2_10k_is_a_part_of_sst2_train_with_the_same_reported_rows(tmp_path, write_task):
    write_task(tmp_path, "sst2", train=10_300)
    whole, subset = load_glue_folder("sst2", tmp_path), load_glue_folder("sst2_10k", tmp_path)
    chosen = set(subset.train["id"]) | set(subset.validation["id"])
    assert len(chosen) == 10_000
    assert chosen < set(whole.train["id"]) | set(whole.validation["id"])
    assert subset.test[:] == whole.test[:]
    assert subset.task.name == "sst2_10k"


BAD_ROWS = [
    ("only one field", "row 2 has 1 fields for 2 columns"),
    ("one\ttoo\tmany", "row 2 has 3 fields for 2 columns"),
    ("  \t1", "row 2 has an empty text"),
    ("fine\t2", "row 2 has the label '2'; the task's labels are 0, 1"),
    ("fine\t", "row 2 has the label ''"),
]


@pytest.mark.parametrize(("line", "message"), BAD_ROWS)
def test_a_bad_row_is_named_by_its_number_or_skipped_and_counted(line, message, tmp_path, write_task):
    write_task(tmp_path, "sst2")
    path = tmp_path / "SST-2" / "dev.tsv"
    path.write_text(f"sentence\tlabel\ngood\t1\n{line}\nbetter\t0\n")
    with pytest.raises(InputError, match=message) as caught:
        load_glue_folder("sst2", tmp_path)
    assert "--skip-bad-rows" in str(caught.value)
    assert "\n" not in str(caught.value)
    data = load_glue_folder("sst2", tmp_path, skip_bad_rows=True)
    assert data.test["id"][:] == ["test-1", "test-3"]
    assert data.counts == {"skipped_bad_rows": 1}


@pytest.mark.parametrize("score", ["5.1", "-0.5", "nan", "high"])
def test_a_similarity_outside_its_scale_is_an_error(score, tmp_path, write_task, write_rows):
    write_task(tmp_path, "stsb")
    write_rows(tmp_path / "STS-B" / "dev.tsv", "stsb", [(1, "1.0"), (2, score)])
    with pytest.raises(InputError, match=f"row 2 has the score '{score}'; it must be a number from 0 to 5"):
        load_glue_folder("stsb", tmp_path)


def test_missing_things_are_named(tmp_path, write_task):
    with pytest.raises(InputError, match="unknown GLUE task 'sst'; the tasks are cola, sst2,"):
        glue_task("sst")
    with pytest.raises(InputError, match="no folder SST-2 in"):
        load_glue_folder("sst2", tmp_path)
    write_task(tmp_path, "sst2")
    with pytest.raises(InputError, match="select_on is 'test'"):
        load_glue_folder("sst2", tmp_path, select_on="test")
    (tmp_path / "SST-2" / "dev.tsv").write_text("text\tlabel\nx\t1\n")
    with pytest.raises(InputError, match="has no column 'sentence'; its columns are text, label"):
        load_glue_folder("sst2", tmp_path)
    (tmp_path / "SST-2" / "dev.tsv").write_text("sentence\tlabel\n")
    with pytest.raises(InputError, match="holds no rows"):
        load_glue_folder("sst2", tmp_path)
    (tmp_path / "SST-2" / "dev.tsv").write_bytes(b"sentence\tlabel\ncaf\xe9\t1\n")
    with pytest.raises(InputError, match="is not UTF-8"):
        load_glue_folder("sst2", tmp_path)
    (tmp_path / "SST-2" / "dev.tsv").unlink()
    with pytest.raises(InputError, match=r"no file .*dev\.tsv"):
        load_glue_folder("sst2", tmp_path)


@pytest.mark.skipif("GLUE_DIR" not in os.environ, reason="set GLUE_DIR to a classic GLUE folder")
def test_the_official_sst2_has_its_rows():
    data = load_glue_folder("sst2", Path(os.environ["GLUE_DIR"]))
    assert len(data.test) == 872
    assert len(data.train) + len(data.validation) + data.counts["train_rows_found_in_test"] == 67_349
    assert data.counts["train_rows_found_in_test"] == 5
