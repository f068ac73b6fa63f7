"""Read rows as dicts from csv, tsv, jsonl, parquet and txt files, one at a time; write them back (`open_writer`).

Rows are numbered from 1, the header not counted, and each error names its row. A file is refused at its first
invalid row, so a broken file costs no more memory or time than a good one.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from data_augment.writers import open_writer

__all__ = ["FORMATS", "RowReader", "open_writer", "read_rows"]

Row = dict[str, Any]
# What a format reader yields after the column names: the line number (None: unknown) and a row, or what is wrong.
Record = tuple[int | None, "Row | str"]


def read_rows(
    path: str | Path, *, required_columns: Sequence[str] = (), skip_bad_rows: bool = False
) -> RowReader:
    """Open a file of rows; iterate over the result to get one dict a row, read as it is needed.

    The suffix tells the format: ``.csv`` (the csv module's default dialect), ``.tsv`` (unquoted: a quote is an
    ordinary character, and a value cannot hold a tab or a line end), ``.jsonl`` (one object a line), ``.parquet``
    (types kept), ``.txt`` (one text a line, in the column ``text``). Text is UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        required_columns: columns that must exist and hold, in every row, a value that is neither null nor blank.
        skip_bad_rows: drop and count (``reader.skipped``) the rows that break a rule instead of raising.

    Raises:
        InputError: when opening, for a missing or empty file, an unknown suffix or a missing column; while iterating,
            for the first bad row, or at the end if no row was left.
    """
    return RowReader(path, required_columns, skip_bad_rows)


class RowReader:
    """The rows of one file.

    Attributes:
        path: the file.
        columns: the column names in file order (of a jsonl file: the keys of its first row).
        schema: the Arrow schema of a parquet file, else ``None``.
        row_number: the number of the row yielded last.
        skipped: how many bad rows were dropped so far.
    """

    def __init__(self, path: str | Path, required_columns: Sequence[str] = (), skip_bad_rows: bool = False):
        self.path = Path(path)
        self.row_number = 0
        self.skipped = 0
        self._required = tuple(required_columns)
        self._skip_bad_rows = skip_bad_rows
        read = FORMATS.get(self.path.suffix.lower())
        if not self.path.is_file():
            raise InputError(f"{self.path} {'is a folder' if self.path.is_dir() else 'does not exist'}; give a file of rows")
        if read is None:
            raise InputError(f"{self.path}: unknown suffix {self.path.suffix!r}; known are {' '.join(FORMATS)}")
        if self.path.stat().st_size == 0:
            raise InputError(f"{self.path} is empty; it needs at least one row")
        self.schema = _read_schema(self.path) if self.path.suffix.lower() == ".parquet" else None
        self._records = read(self.path)
        self.columns: tuple[str, ...] = next(self._records)  # type: ignore[assignment]
        self._check_columns()

    def __iter__(self) -> RowReader:
        return self

    def __next__(self) -> Row:
        for line, row in self._records:  # type: ignore[misc]
            self.row_number += 1
            problem = row if isinstance(row, str) else find_problem(row, self._required)
            if problem is None:
                return row
            if not self._skip_bad_rows:
                where = f"row {self.row_number}" + (f" (line {line})" if line else "")
                raise InputError(f"{self.path} {where}: {problem}; mend it, or drop such rows with --skip-bad-rows")
            self.skipped += 1
        if self.row_number == 0:
            raise InputError(f"{self.path} has no rows; it needs at least one")
        if self.row_number == self.skipped:
            raise InputError(f"{self.path}: all {self.skipped} rows are bad, none is left")
        raise StopIteration

    def _check_columns(self) -> None:
        duplicates = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if duplicates:
            raise InputError(f"{self.path} has the column {duplicates[0]!r} twice; give each column its own name")
        for name in self._required:
            if name not in self.columns:
                raise InputError(f"{self.path} has no column {name!r}; its columns are {', '.join(self.columns)}")


def find_problem(row: Row, required_columns: Sequence[str]) -> str | None:
    """What is wrong with a row whose ``required_columns`` must not be null or blank; ``None`` if nothing is."""
    for name in required_columns:
        value = row.get(name)
        if value is None or value != value:  # only a NaN differs from itself
            return f"column {name!r} is null"
        if isinstance(value, str) and not value.strip():
            return f"column {name!r} is empty"
    return None


def _decode_lines(path: Path) -> Iterator[str | None]:
    """The lines of a file with their line ends; ``None`` for a line that is not UTF-8."""
    with open(path, "rb") as file:
        for number, line in enumerate(file):
            if number == 0:
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                yield None


def _strip_line_end(line: str) -> str:
    return line[:-2] if line.endswith("\r\n") else line.removesuffix("\n")


def _read_header(path: Path, header: str | None) -> str:
    if header is None:
        raise InputError(f"{path} is not UTF-8 text: its first line cannot be decoded; convert it to UTF-8")
    return header


def _read_tsv(path: Path) -> Iterator[tuple[str, ...] | Record]:
    lines = _decode_lines(path)
    columns = tuple(_strip_line_end(_read_header(path, next(lines))).split("\t"))
    yield columns
    for number, line in enumerate(lines, start=2):
        values = [] if line is None else _strip_line_end(line).split("\t")
        if line is None:
            yield number, "it is not UTF-8"
        elif len(values) != len(columns):
            yield number, f"it has {len(values)} values for {len(columns)} columns"
        else:
            yield number, dict(zip(columns, values, strict=True))


def _read_csv(path: Path) -> Iterator[tuple[str, ...] | Record]:
    csv.field_size_limit(sys.maxsize)  # the module refuses values over 128 KiB by default; long texts are valid here
    broken: list[int] = []  # numbers of the lines that are not UTF-8, until their row has been reported

    def decode() -> Iterator[str]:
        for number, line in enumerate(_decode_lines(path), start=1):
            if line is None:
                broken.append(number)
            yield line or "\n"

    reader = csv.reader(decode(), strict=True)
    try:
        columns = tuple(next(reader, ()))
    except csv.Error as error:
        raise InputError(f"{path}: its header is not valid csv ({error})") from None
    _read_header(path, None if broken else "")
    yield columns
    while True:
        start = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield start, f"it is not valid csv ({error})"
            continue
        if broken:
            broken.clear()
            yield start, "it is not UTF-8"
        elif len(values) != len(columns):
            yield start, f"it has {len(values)} values for {len(columns)} columns"
        else:
            yield start, dict(zip(columns, values, strict=True))


def _read_jsonl(path: Path) -> Iterator[tuple[str, ...] | Record]:
    columns: tuple[str, ...] | None = None
    waiting: list[Record] = []  # bad rows met before the first good one, whose keys are the columns
    for number, line in enumerate(_decode_lines(path), start=1):
        row = _parse_json_row(line)
        if columns is None and isinstance(row, dict):
            columns = tuple(row)
            yield columns
            yield from waiting
        if columns is None:
            waiting = [*waiting[:1], (number, row)]  # two tell as much as all, and cannot fill the memory
        elif isinstance(row, dict) and not row.keys() <= set(columns):
            extra = next(key for key in row if key not in columns)
            yield number, f"it has the key {extra!r}, which the first row lacks (a null there would do)"
        else:
            yield number, row
    if columns is None:
        yield ()
        yield from waiting


def _parse_json_row(line: str | None) -> Row | str:
    if line is None:
        return "it is not UTF-8"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"it is not valid JSON ({error})"
    if not isinstance(row, dict):
        return f"it is a JSON {type(row).__name__}, not an object"
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair, which is no Unicode text"
    return row


def _read_txt(path: Path) -> Iterator[tuple[str, ...] | Record]:
    yield ("text",)
    for number, line in enumerate(_decode_lines(path), start=1):
        yield number, "it is not UTF-8" if line is None else {"text": _strip_line_end(line)}


def _open_parquet(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        return parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a readable parquet file ({str(error).splitlines()[0]})") from None


def _read_schema(path: Path) -> Any:
    with _open_parquet(path) as file:
        return file.schema_arrow.remove_metadata()


def _read_parquet(path: Path) -> Iterator[tuple[str, ...] | Record]:
    with _open_parquet(path) as file:
        yield tuple(file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=2048):
            for row in batch.to_pylist():
                yield None, row


FORMATS = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}
