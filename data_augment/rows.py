"""Read rows as dicts from csv, tsv, jsonl, parquet and txt files, one at a time, and write them back.

Rows are numbered from 1, the header not counted, and each error names its row. A file is refused at its first
invalid row, so a broken file costs no more memory or time than a good one.
"""

from __future__ import annotations

import codecs
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data_augment.errors import InputError
from data_augment.parsing import list_columns
from data_augment.readers import FORMATS, Row
from data_augment.writers import check_booleans, check_exact, open_writer

__all__ = [
    "Row",
    "RowReader",
    "check_booleans",
    "check_exact",
    "find_problem",
    "is_unicode",
    "open_writer",
    "read_rows",
]


def read_rows(
    path: str | Path,
    *,
    required_columns: Sequence[str] = (),
    text_columns: Sequence[str] = (),
    skip_bad_rows: bool = False,
) -> RowReader:
    """Open a file of rows; iterate over the result to get one dict a row, read as it is needed.

    The suffix tells the format: ``.csv`` (the csv module's default dialect), ``.tsv`` (unquoted: a quote is
    an ordinary character, and a value cannot hold a tab or a line end), ``.jsonl`` (one object a line),
    ``.parquet`` (types kept), ``.txt`` (one text a line, in the column ``text``). Text is UTF-8, with or
    without a byte order mark.

    Args:
        path: the file.
        required_columns: columns that must exist and hold, in every row, neither null, infinity nor a blank string.
        text_columns: those of them that must hold text: a number or a list, of jsonl or parquet, is none.
        skip_bad_rows: drop and count (``reader.skipped``) the rows that break a rule instead of raising.

    Raises:
        InputError: when opening, for a missing or empty file, an unknown suffix or a missing column; while
            iterating, for the first bad row, or at the end if no row was left.

    Example:
        >>> for row in read_rows("train.tsv", required_columns=["sentence"]):  # doctest: +SKIP
        ...     print(row["sentence"])
    """
    return RowReader(path, required_columns, skip_bad_rows, text_columns)


class RowReader:
    """An iterator over the rows of one file; made by :func:`read_rows`.

    Attributes:
        path: the file.
        columns: the column names in file order (of a jsonl file: the keys of its first row).
        schema: the Arrow schema of a parquet file, else ``None``.
        row_number: the number of the row yielded last, bad rows included.
        skipped: how many bad rows were dropped so far.
    """

    def __init__(
        self,
        path: str | Path,
        required_columns: Sequence[str] = (),
        skip_bad_rows: bool = False,
        text_columns: Sequence[str] = (),
    ):
        self.path = Path(path)
        self.row_number = 0
        self.skipped = 0
        self._required = tuple(required_columns)
        self._texts = tuple(text_columns)
        self._skip_bad_rows = skip_bad_rows
        _check_file(self.path)
        file = FORMATS[self.path.suffix.lower()](self.path)
        self._records = file.records
        self.columns = file.columns
        self.schema = file.schema
        self._check_columns()

    def __iter__(self) -> RowReader:
        return self

    def __next__(self) -> Row:
        for record in self._records:
            self.row_number += 1
            problem = record.problem or self._find_problem(record.row or {})
            if not problem and record.row is not None:
                return record.row
            if not self._skip_bad_rows:
                where = f"row {self.row_number}" + (f" (line {record.line})" if record.line else "")
                raise InputError(
                    f"{self.path} {where}: {problem}; mend it, or drop such rows with --skip-bad-rows"
                )
            self.skipped += 1
        if self.row_number == 0:
            raise InputError(f"{self.path} has no rows; it needs at least one")
        if self.row_number == self.skipped:
            raise InputError(f"{self.path}: all {self.skipped} rows are bad, none is left")
        raise StopIteration

    def _find_problem(self, row: Row) -> str:
        if problem := find_problem(row, self._required):
            return problem
        for name in self._texts:
            if not isinstance(row[name], str):
                return f"column {name!r} holds {_shorten(row[name])}, which is no text"
        return ""

    def _check_columns(self) -> None:
        twice = [name for name, count in Counter(self.columns).items() if count > 1]
        if twice:
            raise InputError(f"{self.path} has two columns {twice[0]!r}; give each its own name")
        if not self.columns:
            return  # a jsonl file without one good row; reading it says so
        for name in self._required:
            if name not in self.columns:
                advice = "; number its rows, as `data-augment` does" if name == "id" else ""
                raise InputError(
                    f"{self.path} has no column {name!r}; its columns are {list_columns(self.columns)}{advice}"
                )


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _check_file(path: Path) -> None:
    if not path.is_file():
        found = (
            "is a folder" if path.is_dir() else "is no ordinary file" if path.exists() else "does not exist"
        )
        raise InputError(f"{path} {found}; give a file of rows")
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: unknown suffix {path.suffix!r}; known are {' '.join(FORMATS)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; it needs at least one row")
    with open(path, "rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise InputError(f"{path} is UTF-16; convert it to UTF-8")


def is_unicode(text: str) -> bool:
    """Whether a text can be written: Python's strings may hold half of a surrogate pair, which is no character."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def find_problem(row: Row, required_columns: Sequence[str]) -> str:
    """What is wrong with a row whose ``required_columns`` must not be null, infinite or blank; "" if nothing."""
    for name in required_columns:
        value = row.get(name)
        if value is None or value != value:  # only a NaN differs from itself
            return f"column {name!r} is null"
        if isinstance(value, float) and math.isinf(value):
            return f"column {name!r} is infinite"
        if isinstance(value, str) and not value.strip():
            return f"column {name!r} is empty"
    return ""
