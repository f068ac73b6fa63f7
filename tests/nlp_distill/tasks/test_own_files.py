"""Own files: formats, meaning of labels, held-out parts, duplicates across files, bad input by row number."""

import json

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_from_disk

from data_augment.errors import InputError
from nlp_distill.tasks import add_unlabelled, load_own_files
from nlp_distill.tasks.labels import infer_labels, list_whole_numbers, parse_label


def rows(count, labels=("bad", "good"), start=0):
    return [
        {"text": f"text number {n}", "label": labels[n % len(labels)]} for n in range(start, start + count)
    ]


def write(path, records):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    elif path.suffix == ".parquet":
        Dataset.from_list(records).to_parquet(path)
    else:
        separator = "," if path.suffix == ".csv" else "\t"
        lines = [separator.join(records[0])] + [separator.join(map(str, r.values())) for r in records]
        path.write_text("\n".join(lines) + "\n")
    return path


def load(path, **kwargs):
    return load_own_files(path, **({"text_column": "text"} | kwargs))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_task(suffix, tmp_path):
    data = load(write(tmp_path / f"reviews{suffix}", rows(60)))
    assert data.task.name == "reviews"
    assert data.task.labels == ("bad", "good")
    assert data.task.metrics == ("accuracy", "macro_f1")
    assert data.selected_on == "train"
    found = {row["id"]: row for split in data.splits().values() for row in split}
    assert found == {
        f"train-{n + 1}": {"id": f"train-{n + 1}", "text": f"text number {n}", "label": n % 2}
        for n in range(60)
    }
    assert len(data.validation) and len(data.test)


def test_a_datasets_directory_brings_its_splits_and_its_label_names(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["7", "3"])})
    splits = {
        split: Dataset.from_list(
            [{"text": f"{split} {n}", "label": n % 2} for n in range(6)], features=features
        )
        for split in ("train", "validation", "test")
    }
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    data = load(tmp_path / "saved")
    assert data.task.labels == ("7", "3")  # in index order, not sorted, and not taken for indices
    assert data.test["id"][:3] == ["test-1", "test-2", "test-3"]
    assert data.test["label"][:] == [0, 1, 0, 1, 0, 1]
    assert data.selected_on == "validation"
    splits["train"].save_to_disk(tmp_path / "single")
    mixed = load(tmp_path / "single", test_file=tmp_path / "saved")  # its test split, not its first
    assert mixed.test["text"][:] == data.test["text"][:]
    assert mixed.selected_on == "train"


def test_a_class_label_of_minus_one_is_no_label(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    records = [{"text": f"text {n}", "label": -1 if n == 3 else n % 2} for n in range(20)]
    Dataset.from_list(records, features=features).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match="row 4 has no 'label'"):
        load(tmp_path / "saved")
    assert load(tmp_path / "saved", skip_bad_rows=True).counts == {"skipped_bad_rows": 1}
    assert load_from_disk(tmp_path / "saved")[3]["label"] == -1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["b", "a", "b"], ("a", "b")),
        (["1", "0"], ("0", "1")),
        ([10, 2, 9], ("2", "9", "10")),
        ([0.5, 1.0], ()),
        (["1", "2.5"], ()),
        (["1.0", "2.0"], ()),
        (["1", "2.5", "x"], ("1", "2.5", "x")),
        (["nan", "inf"], ("inf", "nan")),
        ([True, False], ("False", "True")),
        (["1e400", "2"], ()),
        (["0.5", "n/a", "1.5"], ()),
        ([0, 1, float("nan")], ("0", "1")),
        (["1", "NULL", "2"], ("1", "2")),
        (["0.5", "inf", "-Infinity", "1.5"], ()),
        (["good", "n/a", "bad"], ("bad", "good", "n/a")),
        (["0", "n/a", "x"], ("0", "n/a", "x")),
        (["010", "001", "1", "10"], ("001", "010", "1", "10")),  # codes
        (["0", "1", "-1"], ("-1", "0", "1")),
    ],
)
def test_what_label_values_mean(values, expected):
    assert infer_labels(values) == expected


@pytest.mark.parametrize("values", [[], ["a", "a"], [1.0]])
def test_a_single_label_is_no_task(values):
    with pytest.raises(InputError, match="needs two or more"):
        infer_labels(values)


@pytest.mark.parametrize(
    ("value", "labels", "expected"),
    [
        ("b", ("a", "b"), 1),
        (" b ", ("a", "b"), 1),
        (1, ("a", "b"), 1),
        ("0", ("a", "b"), 0),
        (1, ("1", "2", "3"), 0),
        ("03", ("1", "2", "3"), 2),
        (1.0, ("0", "1"), 1),
        ("2.0", ("1", "2", "3"), 1),
        ("2.5", (), 2.5),
        (-3, (), -3.0),
    ],
)
def test_a_label_becomes_its_index_or_number(value, labels, expected):
    assert parse_label(value, labels) == expected


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ("c", ("a", "b")),
        (2, ("a", "b")),
        (-1, ("a", "b")),
        (0, ("1", "2")),
        (1.0, ("a", "b")),
        ("x", ()),
        ("1e400", ()),
        (1e39, ()),
        ("-inf", ()),
        (1.5, ("1", "2")),
        (4.0, ("1", "2")),
        ("1e400", ("1", "2")),
    ],
)
def test_a_label_outside_the_task_is_refused(value, labels):
    with pytest.raises(InputError, match="has the label"):
        parse_label(value, labels)


def test_a_number_is_no_name_where_nobody_gave_the_names_an_order(tmp_path):
    for name, labels in (("train", ("yes", "no")), ("validation", ("no", "yes")), ("test", ("0", "1"))):
        records = [{"text": f"{name} text number {n}", "label": labels[n % 2]} for n in range(6)]
        write(tmp_path / f"{name}.jsonl", records)
    files = {f"{name}_file": tmp_path / f"{name}.jsonl" for name in ("train", "validation", "test")}
    with pytest.raises(InputError, match="has the label '0'; the task's labels are no, yes.*--labels"):
        load_own_files(text_column="text", **files)
    data = load_own_files(text_column="text", labels=("yes", "no"), **files)
    assert data.test["label"][:2] == [0, 1]


def test_floats_make_a_regression(tmp_path):
    data = load(write(tmp_path / "scores.csv", rows(40, labels=(0.5, 2.0, 4.5))))
    assert data.task.is_regression
    assert data.task.metrics == ("spearmanr", "pearson")
    assert sorted(set(data.train["label"])) == [0.5, 2.0, 4.5]


def test_pairs_have_both_columns(tmp_path):
    records = [{"q": f"question {n}", "a": f"answer {n}", "y": ["no", "yes"][n % 2]} for n in range(30)]
    path = write(tmp_path / "pairs.tsv", records)
    data = load_own_files(path, text_column="q", text_pair_column="a", label_column="y", name="mine")
    assert data.task.text_columns == ("q", "a")
    assert data.task.name == "mine"
    assert data.train.column_names == ["id", "q", "a", "label"]


def test_rows_that_are_in_two_files_stay_in_the_one_that_is_reported(tmp_path):
    train, validation, test = rows(20), rows(5, start=18), rows(5, start=22)
    validation[0]["text"] = "Text number 18!"
    data = load(
        write(tmp_path / "train.csv", train),
        validation_file=write(tmp_path / "validation.csv", validation),
        test_file=write(tmp_path / "test.csv", test),
    )
    assert data.counts == {"train_rows_found_in_validation": 2, "validation_rows_found_in_test": 1}
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 4, 5)
    assert data.selected_on == "validation"
    assert data.validation["id"][0] == "validation-1"


def test_given_test_file_leaves_only_validation_to_hold_out(tmp_path):
    train = write(tmp_path / "train.csv", rows(60))
    data = load(train, test_file=write(tmp_path / "test.csv", rows(4, start=500)))
    assert len(data.train) + len(data.validation) == 60
    assert all(row_id.startswith("train-") for row_id in data.validation["id"])
    assert data.test["id"][:] == [f"test-{n}" for n in range(1, 5)]


@pytest.mark.parametrize("which", ["validation_file", "test_file"])
def test_a_label_that_train_does_not_have_is_named_with_its_row_and_the_allowed_ones(which, tmp_path):
    other = rows(4, start=500)
    other[2]["label"] = "ugly"
    arguments = {which: write(tmp_path / "other.csv", other)}
    train = write(tmp_path / "train.csv", rows(20))
    with pytest.raises(
        InputError, match=r"other\.csv: row 3 has the label 'ugly'; the task's labels are bad, good"
    ):
        load(train, **arguments)
    assert load(train, **arguments, skip_bad_rows=True).counts["skipped_bad_rows"] == 1


def test_given_labels_fix_the_order_and_integers_index_them(tmp_path):
    train = write(tmp_path / "train.csv", rows(20, labels=("1", "0")))
    data = load(train, labels=["good", "bad"])
    assert data.task.labels == ("good", "bad")
    by_text = {r["text"]: r["label"] for split in data.splits().values() for r in split}
    assert by_text["text number 0"] == 1
    with pytest.raises(InputError, match="give two or more different names"):
        load(train, labels=["good", "good"])


@pytest.mark.parametrize("field", ["text", "label"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_empty_text_or_label_is_named_by_its_row(field, suffix, tmp_path):
    records = rows(20)
    records[6][field] = None if suffix != ".csv" else ""
    path = write(tmp_path / f"train{suffix}", records)
    with pytest.raises(InputError, match="row 7") as caught:
        load(path)
    assert field in str(caught.value)
    data = load(path, skip_bad_rows=True)
    assert data.counts == {"skipped_bad_rows": 1}
    assert "train-7" not in {row_id for split in data.splits().values() for row_id in split["id"]}


def test_missing_files_columns_and_rows_are_named(tmp_path):
    path = write(tmp_path / "train.csv", rows(20))
    with pytest.raises(InputError, match="no column 'sentence'"):
        load(path, text_column="sentence")
    with pytest.raises(InputError, match="no column 'stars'"):
        load(path, label_column="stars")
    with pytest.raises(InputError, match=r"absent\.csv"):
        load(tmp_path / "absent.csv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="no datasets directory"):
        load(tmp_path / "folder")
    with pytest.raises(InputError, match="all 20 rows of train are in test too"):
        load(path, test_file=path)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match=r"empty\.csv"):
        load(tmp_path / "empty.csv")


def test_a_datasets_directory_without_a_column_or_train_split_is_an_error(tmp_path):
    dataset = Dataset.from_list(rows(10))
    DatasetDict(dev=dataset, dev2=dataset).save_to_disk(tmp_path / "no_train")
    with pytest.raises(InputError, match="no train split; its splits are dev, dev2"):
        load(tmp_path / "no_train")
    dataset.save_to_disk(tmp_path / "single")
    with pytest.raises(InputError, match="no column 'sentence'; it has text, label"):
        load(tmp_path / "single", text_column="sentence")


def test_unlabelled_rows_have_no_label_and_none_of_the_reported_texts(tmp_path):
    train, test = write(tmp_path / "train.csv", rows(20)), write(tmp_path / "test.csv", rows(3, start=500))
    records = [{"text": "text number 500"}, {"text": "new"}, {"text": "newer"}]
    data = load(train, test_file=test, unlabelled_file=write(tmp_path / "more.jsonl", records))
    assert data.unlabelled.to_dict() == {"id": ["unlabelled-2", "unlabelled-3"], "text": ["new", "newer"]}
    assert data.counts == {"unlabelled_rows_found_in_test_or_validation": 1}


def test_unlabelled_rows_keep_ids_of_their_own_which_must_differ(tmp_path):
    train = write(tmp_path / "train.csv", rows(20))
    own = write(tmp_path / "own.csv", [{"id": 7, "text": "new"}, {"id": 9, "text": "newer"}])
    data = load(train, unlabelled_file=own)
    assert data.unlabelled.to_dict() == {"id": ["7", "9"], "text": ["new", "newer"]}
    twice = write(tmp_path / "twice.csv", [{"id": 7, "text": "new"}, {"id": 7, "text": "newer"}])
    with pytest.raises(InputError, match="id column repeats '7'"):
        load(train, unlabelled_file=twice)


def test_add_unlabelled_leaves_its_argument_alone(tmp_path):
    data = load(write(tmp_path / "train.csv", rows(20)))
    more = add_unlabelled(data, write(tmp_path / "more.csv", [{"text": "new"}]))
    assert data.unlabelled is None
    assert more.unlabelled["text"][:] == ["new"]
    assert more.train[:] == data.train[:]
    with pytest.raises(InputError, match="holds no row that is not in the validation or test set"):
        add_unlabelled(data, write(tmp_path / "known.csv", [{"text": data.test["text"][0]}]))


def test_unlabelled_text_may_come_as_one_text_a_line(tmp_path):
    train = tmp_path / "train.csv"
    train.write_text("review,stars\n" + "".join(f"text {n},{n % 2}\n" for n in range(40)), encoding="utf-8")
    more = tmp_path / "more.txt"
    more.write_text("another text\nyet another one\n", encoding="utf-8")
    data = load_own_files(train, text_column="review", label_column="stars", unlabelled_file=more)
    assert data.unlabelled is not None
    assert data.unlabelled["review"][:] == ["another text", "yet another one"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0, float("nan")], ["0", "1"]),  # as pandas writes classes where one is missing
        (["1", "1.0", "2", "2.0"], ["1", "2"]),
        ([0.5, 1.0], []),
        ([float(number) for number in range(30)], []),
    ],
)
def test_whole_numbers_with_a_fraction_may_be_classes(values, expected):
    assert list_whole_numbers(values) == expected


def test_a_regression_on_what_may_be_classes_is_said(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"film {n},{n % 2}.0\n" for n in range(20)))
    assert load_own_files(path, text_column="text").task.is_regression
    assert "where they are classes, add --labels 0 1" in capsys.readouterr().err
    assert load_own_files(path, text_column="text", labels=("0", "1")).task.labels == ("0", "1")
    assert capsys.readouterr().err == ""
