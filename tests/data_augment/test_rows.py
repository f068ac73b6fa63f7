"""Readers and writers: what goes in comes out, or is refused by name."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_augment import InputError, open_writer, read_rows
from data_augment.writers import INFERENCE_ROWS

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
ROWS = [
    {"text": 'a "fine" film', "label": "1"},
    {"text": "l'été, « naïve »", "label": "0"},
    {"text": '"', "label": ""},
    {"text": " spaces  kept ", "label": "1,5"},
]
# Everything that is Unicode text, line ends and quotes included.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def write(path: Path, rows: list[dict]) -> None:
    with open_writer(path, list(rows[0]), overwrite=True) as writer:
        writer.write(rows)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_come_back_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"rows{suffix}", ROWS)
    reader = read_rows(tmp_path / f"rows{suffix}")
    assert reader.columns == ("text", "label")
    assert list(reader) == ROWS


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@given(texts=st.lists(TEXTS, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_text_survives_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("round") / f"rows{suffix}"
    rows = [{"id": str(i), "text": text} for i, text in enumerate(texts)]
    write(path, rows)
    assert list(read_rows(path)) == rows


@given(text=TEXTS)
@settings(max_examples=100, deadline=None)
def test_tsv_keeps_a_text_or_refuses_it(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("tsv") / "rows.tsv"
    rows = [{"id": "7", "text": text}]
    if set(text) & set("\t\n\r"):
        with pytest.raises(InputError, match=r"row 1 \(id 7\) cannot be written: column 'text' holds a tab"):
            write(path, rows)
        assert os.listdir(path.parent) == []
    else:
        write(path, rows)
        assert list(read_rows(path)) == rows


def test_typed_values_survive_jsonl_and_parquet(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "label": 3, "score": 0.1, "ok": True, "tags": ["x", "y"], "none": None},
        {"text": "b", "label": -1, "score": 1e300, "ok": False, "tags": [], "none": None},
    ]
    for suffix in (".jsonl", ".parquet"):
        write(tmp_path / f"rows{suffix}", rows)
        assert list(read_rows(tmp_path / f"rows{suffix}")) == rows


def test_a_schema_fixes_the_parquet_types(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string()), ("label", pa.int8())])
    with open_writer(tmp_path / "rows.parquet", schema) as writer:
        writer.write([{"text": "a", "label": None}])
        writer.write_table(pa.table({"text": ["b"], "label": pa.array([3], pa.int8())}, schema=schema))
    assert pq.read_schema(tmp_path / "rows.parquet") == schema
    assert list(read_rows(tmp_path / "rows.parquet")) == [
        {"text": "a", "label": None},
        {"text": "b", "label": 3},
    ]


def test_csv_is_what_the_csv_module_reads(tmp_path: Path) -> None:
    rows = [{"text": 'two\nlines, "quoted"', "label": None}]
    write(tmp_path / "rows.csv", rows)
    with open(tmp_path / "rows.csv", newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [{"text": 'two\nlines, "quoted"', "label": ""}]


def test_tsv_quotes_are_ordinary_characters_and_a_bom_and_crlf_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_bytes('\ufefftext\tlabel\r\n"open quote\t1\r\nsays "hi" twice\t0'.encode())
    assert list(read_rows(path)) == [
        {"text": '"open quote', "label": "1"},
        {"text": 'says "hi" twice', "label": "0"},
    ]


def test_long_csv_values_are_read(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv", [{"text": "word " * 50_000}])
    assert len(next(read_rows(tmp_path / "rows.csv"))["text"]) == 250_000


@pytest.mark.parametrize("skip", [False, True])
def test_a_quote_that_is_never_closed_is_no_single_bad_row(tmp_path: Path, skip: bool) -> None:
    lines = ["text,label", *(f"text {i},1" for i in range(50))]
    lines[20] = '"text 19,1'
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    reader = read_rows(tmp_path / "rows.csv", skip_bad_rows=skip)
    with pytest.raises(InputError, match="a quote that opens on line 21, .* is never closed"):
        list(reader)


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_line_ends_of_old_macs_are_named(tmp_path: Path, name: str) -> None:
    mark = "," if name.endswith("csv") else "\t"
    (tmp_path / name).write_bytes(f"text{mark}label\rone{mark}1\rtwo{mark}0\r".encode())
    with pytest.raises(InputError, match="lines end in carriage returns alone"):
        list(read_rows(tmp_path / name))


def test_txt_is_one_text_a_line(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("one text\nanother\x85text\n", encoding="utf-8")
    assert list(read_rows(tmp_path / "rows.txt")) == [{"text": "one text"}, {"text": "another\x85text"}]


BAD_FILES = [
    ("rows.tsv", "text\tlabel\na\t1\n\t0\nb\t1\n", r"row 2 \(line 3\): column 'text' is empty"),
    ("rows.tsv", "text\tlabel\na\t1\n  \t0\nb\t1\n", r"row 2 \(line 3\): column 'text' is empty"),
    ("rows.tsv", "text\tlabel\na\t1\nx\nb\t1\n", r"row 2 \(line 3\): it has 1 values for 2 columns"),
    ("rows.csv", 'text,label\n"a\n",1\n,0\nb,1\n', r"row 2 \(line 4\): column 'text' is empty"),
    ("rows.csv", "text,label\na,1\nx,0,1\nb,1\n", r"row 2 \(line 3\): it has 3 values for 2 columns"),
    ("rows.csv", 'text,label\na,1\n"x"y,0\nb,1\n', r"row 2 \(line 3\): it is not valid csv"),
    (
        "rows.jsonl",
        '{"text": "a"}\n{"text": null}\n{"text": "b"}\n',
        r"row 2 \(line 2\): column 'text' is null",
    ),
    ("rows.jsonl", '{"text": "a"}\n{}\n{"text": "b"}\n', r"row 2 \(line 2\): column 'text' is null"),
    (
        "rows.jsonl",
        '{"text": "a"}\n{"text": NaN}\n{"text": "b"}\n',
        r"row 2 \(line 2\): column 'text' is null",
    ),
    ("rows.jsonl", '{"text": "a"}\n{"text"\n{"text": "b"}\n', r"row 2 \(line 2\): it is not valid JSON"),
    ("rows.jsonl", '{"text": "a"}\n["x"]\n{"text": "b"}\n', r"row 2 \(line 2\): it is a JSON list"),
    ("rows.jsonl", '{"text": "a"}\n{"txt": "x"}\n{"text": "b"}\n', r"row 2 \(line 2\): it has the key 'txt'"),
    ("rows.jsonl", '{"text": "a"}\n{"text": "\\ud800"}\n{"text": "b"}\n', r"row 2 \(line 2\): .* surrogate"),
    ("rows.txt", "a\n\nb\n", r"row 2 \(line 2\): column 'text' is empty"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_a_bad_row_is_named_or_skipped_and_counted(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        list(read_rows(path, required_columns=["text"]))
    reader = read_rows(path, required_columns=["text"], skip_bad_rows=True)
    assert [row["text"].strip() for row in reader] == ["a", "b"]
    assert (reader.skipped, reader.row_number) == (1, 3)


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".txt"])
def test_bytes_that_are_not_utf8_are_one_bad_row(tmp_path: Path, suffix: str) -> None:
    lines = [b"text", b"a", b"\xe9t\xe9", b"b"]
    if suffix == ".jsonl":
        lines = [b'{"text": "%s"}' % line for line in lines[1:]]
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(b"\n".join(lines[1:] if suffix == ".txt" else lines))
    with pytest.raises(InputError, match="row 2 .*: it is not UTF-8"):
        list(read_rows(path))
    assert [row["text"] for row in read_rows(path, skip_bad_rows=True)] == ["a", "b"]


def test_a_null_in_parquet_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", None, "b"]}), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="row 2: column 'text' is null"):
        list(read_rows(tmp_path / "rows.parquet", required_columns=["text"]))


def test_a_broken_file_is_refused_at_its_first_bad_row_without_reading_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("text\nfirst\n\n" + "more\n" * 200_000, encoding="utf-8")
    reader = read_rows(path, required_columns=["text"])
    assert next(reader) == {"text": "first"}
    with pytest.raises(InputError, match="row 2"):
        next(reader)
    assert reader.row_number == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.tsv", "", "is empty"),
        ("rows.tsv", "text\tlabel\n", "has no rows"),
        ("rows.tsv", "text\n\n", "row 1"),
        ("rows.tsv", "text\ttext\na\tb\n", "two columns 'text'"),
        ("rows.tsv", "words\tlabel\na\t1\n", "has no column 'text'; its columns are words, label"),
        ("rows.parquet", "text", "is not a readable parquet file"),
        ("rows.xlsx", "text", "unknown suffix '.xlsx'; known are .csv .tsv .jsonl .parquet .txt"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        list(read_rows(tmp_path / name, required_columns=["text"]))


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.tsv does not exist"):
        read_rows(tmp_path / "nowhere.tsv")
    with pytest.raises(InputError, match="is a folder"):
        read_rows(tmp_path)


def test_a_file_of_bad_rows_only_is_refused_even_when_skipping(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("text\n\n\n", encoding="utf-8")
    with pytest.raises(InputError, match="all 2 rows are bad"):
        list(read_rows(tmp_path / "rows.tsv", required_columns=["text"], skip_bad_rows=True))
    (tmp_path / "rows.jsonl").write_text("x\ny\n", encoding="utf-8")
    with pytest.raises(InputError, match="all 2 rows are bad"):
        list(read_rows(tmp_path / "rows.jsonl", required_columns=["text"], skip_bad_rows=True))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), open_writer(path, ["text"], overwrite=True) as writer:
        writer.write([{"text": "new"}])
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


def test_an_existing_file_needs_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("old")
    with pytest.raises(InputError, match="already exists"), open_writer(path, ["text"]):
        pass
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("suffix", "row", "message"),
    [
        (".csv", {"text": ["a"]}, "a list does not fit into one cell"),
        (".tsv", {"text": {"a": 1}}, "a dict does not fit into one cell"),
        (".jsonl", {"text": float("nan")}, "not JSON compliant"),
        (".jsonl", {"text": b"x"}, "bytes is not JSON"),
        (".csv", {"text": "\ud800"}, "its text is not Unicode"),
        (".parquet", {"text": "\ud800"}, "rows cannot be written"),
        (".jsonl", {"other": "x"}, "unknown column 'other'; the columns are text"),
    ],
)
def test_values_a_format_cannot_hold_are_refused(
    tmp_path: Path, suffix: str, row: dict, message: str
) -> None:
    with (
        pytest.raises(InputError, match=message),
        open_writer(tmp_path / f"rows{suffix}", ["text"]) as writer,
    ):
        writer.write([row])
    assert os.listdir(tmp_path) == []


def test_parquet_rows_of_two_types_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="one type a column"),
        open_writer(tmp_path / "rows.parquet", ["label"]) as writer,
    ):
        writer.write([{"label": 1}, {"label": "one"}])


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        (1, 1.5, "'v' has 1.5, and whole numbers before"),
        ({"a": 1}, {"a": 1, "b": 2}, "another structure"),
        ({"a": 1}, {"b": 2}, "another structure"),
        ([1], [1.5], "another structure"),
        ([1.0], [True], "one type a column"),
    ],
)
def test_parquet_changes_no_value_of_later_rows(tmp_path: Path, first, last, message: str) -> None:
    rows = [{"v": first}] * INFERENCE_ROWS + [{"v": last}]
    with pytest.raises(InputError, match=message), open_writer(tmp_path / "w.parquet", ["v"]) as writer:
        writer.write(rows)
    assert not (tmp_path / "w.parquet").exists()


def test_null_is_empty_in_cells_and_null_in_jsonl(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": None}]
    write(tmp_path / "rows.tsv", rows)
    write(tmp_path / "rows.csv", rows)
    write(tmp_path / "rows.jsonl", rows)
    assert (tmp_path / "rows.tsv").read_text() == "text\tlabel\na\t\n"
    assert (tmp_path / "rows.csv").read_text() == "text,label\na,\n"
    assert json.loads((tmp_path / "rows.jsonl").read_text()) == {"text": "a", "label": None}


def test_a_number_or_a_list_is_no_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine"}\n{"text": 12345}\n{"text": ["a", "b"]}\n{"text": "dull"}\n')
    with pytest.raises(InputError, match=r"row 2 \(line 2\): column 'text' holds 12345, which is no text"):
        list(read_rows(path, required_columns=["text"], text_columns=["text"]))
    reader = read_rows(path, required_columns=["text"], text_columns=["text"], skip_bad_rows=True)
    assert [row["text"] for row in reader] == ["fine", "dull"] and reader.skipped == 2
    assert len(list(read_rows(path, required_columns=["text"]))) == 4
