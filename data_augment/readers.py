"""One reader for each file format: the column names, and the rows one at a time."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_augment.errors import InputError

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

Row = dict[str, Any]
TXT_COLUMN = "text"  # the one column of a .txt file


@dataclass(frozen=True)
class Record:
    """A row, or what is wrong with it, and the line of the file where it starts (parquet has none)."""

    line: int | None
    row: Row | None = None
    problem: str = ""


@dataclass(frozen=True)
class OpenFile:
    """An opened file: its columns, its records, and of a parquet file the column types."""

    columns: tuple[str, ...]
    records: Iterator[Record]
    schema: pyarrow.Schema | None = None


NOT_UTF8 = "it is not UTF-8"
CARRIAGE_RETURNS = "its lines end in carriage returns alone, as on old Macs; convert them to line feeds"
LINE_END = "\n"


def decode_lines(path: Path) -> Iterator[str | None]:
    """The lines of a file with their line ends, ``None`` for one that is not UTF-8.

    Only a line feed ends a line, so one broken line is one broken row, and none of the other characters that
    Python takes for a line end cuts a row in two. A byte order mark at the start is dropped.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file):
            try:
                yield line.decode("utf-8" if number else "utf-8-sig")
            except UnicodeDecodeError:
                yield None


def _strip_line_end(line: str) -> str:
    return line[:-2] if line.endswith("\r\n") else line.removesuffix("\n")


def _check_header(path: Path, header: str | None) -> str:
    if header is None:
        raise InputError(f"{path}: its first line is not UTF-8; convert the file to UTF-8")
    if "\r" in _strip_line_end(header).removesuffix("\r"):
        raise InputError(f"{path}: {CARRIAGE_RETURNS}")
    return header


def _zip_row(columns: tuple[str, ...], values: list[str], line: int) -> Record:
    if len(values) != len(columns):
        return Record(line, problem=f"it has {len(values)} values for {len(columns)} columns")
    return Record(line, dict(zip(columns, values, strict=True)))


def open_tsv(path: Path) -> OpenFile:
    """Tab separated, never quoted."""
    lines = decode_lines(path)
    columns = tuple(_strip_line_end(_check_header(path, next(lines))).split("\t"))

    def read() -> Iterator[Record]:
        for number, line in enumerate(lines, start=2):
            if line is None:
                yield Record(number, problem=NOT_UTF8)
            else:
                yield _zip_row(columns, _strip_line_end(line).split("\t"), number)

    return OpenFile(columns, read())


def open_csv(path: Path) -> OpenFile:
    """The csv module's default dialect; values may hold line ends."""
    csv.field_size_limit(
        sys.maxsize
    )  # the module refuses values over 128 KiB by default, but texts may be long
    broken_lines: list[int] = []  # since the last row that was read

    def decode() -> Iterator[str]:
        for number, line in enumerate(decode_lines(path), start=1):
            if line is None:
                broken_lines.append(number)
            yield line or "\n"

    reader = csv.reader(decode(), strict=True)
    try:
        columns = tuple(next(reader, ()))
    except csv.Error as error:
        said = CARRIAGE_RETURNS if "new-line" in str(error) else f"its header is not valid csv ({error})"
        raise InputError(f"{path}: {said}") from None
    _check_header(path, None if broken_lines else "")

    def read() -> Iterator[Record]:
        while True:
            line = reader.line_num + 1
            try:
                record = _zip_row(columns, next(reader), line)
            except StopIteration:
                return
            except csv.Error as error:
                # All lines behind such a quote are in this one row: too many to skip.
                if "unexpected end" in str(error):
                    raise InputError(
                        f"{path}: a quote that opens on line {line}, or in the row that starts there, is never "
                        "closed; close it, or write a quote that is part of a text twice"
                    ) from None
                record = Record(line, problem=f"it is not valid csv ({error})")
            if broken_lines:
                broken_lines.clear()
                record = Record(line, problem=NOT_UTF8)
            yield record

    return OpenFile(columns, read())


def open_jsonl(path: Path) -> OpenFile:
    """One JSON object a line; the keys of the first good row are the columns."""
    records = (_parse_json(line, number) for number, line in enumerate(decode_lines(path), start=1))
    head: list[Record] = []
    for record in records:
        head.append(record)
        if record.row is not None:
            break
    columns = tuple(head[-1].row or ())

    def read() -> Iterator[Record]:
        for record in chain(head, records):
            extra = [key for key in record.row or () if key not in columns]
            if extra:
                problem = f"it has the key {extra[0]!r}, which the first row lacks; add it there, as null"
                record = Record(record.line, problem=problem)
            yield record

    return OpenFile(columns, read())


def _parse_json(line: str | None, number: int) -> Record:
    if line is None:
        return Record(number, problem=NOT_UTF8)
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return Record(number, problem="it holds half of a surrogate pair, which is no Unicode text")
    except (ValueError, RecursionError) as error:
        return Record(number, problem=f"it is not valid JSON ({error})")
    if not isinstance(row, dict):
        return Record(number, problem=f"it is a JSON {type(row).__name__}, not an object")
    return Record(number, row)


def open_txt(path: Path) -> OpenFile:
    """One text a line, in the column ``text``."""

    def read() -> Iterator[Record]:
        for number, line in enumerate(decode_lines(path), start=1):
            if line is None:
                yield Record(number, problem=NOT_UTF8)
            else:
                yield Record(number, {TXT_COLUMN: _strip_line_end(line)})

    return OpenFile((TXT_COLUMN,), read())


def open_parquet(path: Path) -> OpenFile:
    """Columns of any Arrow type."""
    with _open_parquet_file(path) as file:
        try:
            schema = file.schema_arrow.remove_metadata()
            names = tuple(schema.names)
        except ValueError as error:  # names that are not UTF-8
            raise InputError(f"{path} is a damaged parquet file ({error})") from None

    return OpenFile(names, _read_parquet(path), schema)


def _read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow

    with _open_parquet_file(path) as file:
        try:
            for batch in file.iter_batches(batch_size=2048):
                for row in batch.to_pylist():
                    yield Record(None, row)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise InputError(
                f"{path} is a damaged parquet file ({str(error).partition(LINE_END)[0]})"
            ) from None


def _open_parquet_file(path: Path) -> pyarrow.parquet.ParquetFile:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # the last for names that are not UTF-8
        raise InputError(
            f"{path} is not a readable parquet file ({str(error).partition(LINE_END)[0]}); write it again, or give "
            "another file"
        ) from None


FORMATS: dict[str, Callable[[Path], OpenFile]] = {
    ".csv": open_csv,
    ".tsv": open_tsv,
    ".jsonl": open_jsonl,
    ".parquet": open_parquet,
    ".txt": open_txt,
}
