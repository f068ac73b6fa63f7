"""Where the rows of a transfer set come from: a file, a ``datasets.Dataset``, or rows in memory.

Each kind can be read twice, once to count its tags and once to augment it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_augment.errors import InputError
from data_augment.parsing import list_columns
from data_augment.readers import TXT_COLUMN
from data_augment.rows import Row, find_problem, is_unicode, read_rows

if TYPE_CHECKING:
    import pyarrow

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")  # formats whose values are all strings
Rows = str | Path | Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Source:
    """Rows that can be read again and again.

    Attributes:
        name: what errors call it: the file name, or "the rows".
        rows: the file, a ``datasets.Dataset``, or a sequence of dicts.
        text_columns: the one or two columns to augment; every row must have a text there.
        skip_bad_rows: drop and count rows without a text instead of raising.
        columns: all columns, in order.
        schema: their Arrow types where they are known beforehand, else ``None``.
    """

    name: str
    rows: Any
    text_columns: tuple[str, ...]
    skip_bad_rows: bool
    columns: tuple[str, ...]
    schema: pyarrow.Schema | None

    def read(self) -> SourceReader:
        """Start reading from the first row."""
        return SourceReader(self)


class SourceReader:
    """One pass over a :class:`Source`; iterating yields rows whose text columns hold text.

    Attributes:
        row_number: the number of the row yielded last, counted from 1, bad rows included.
        skipped: how many bad rows were dropped so far.
    """

    def __init__(self, source: Source):
        self._source = source
        self.row_number = 0
        self.skipped = 0

    def __iter__(self) -> Iterator[Row]:
        rows = self._read_file() if isinstance(self._source.rows, Path) else self._read_memory()
        for row in rows:
            for column in self._source.text_columns:
                if not isinstance(row[column], str):
                    where = f"{self._source.name} row {self.row_number}: column {column!r}"
                    raise InputError(f"{where} holds a {type(row[column]).__name__}; texts must be strings")
            yield row

    def _read_file(self) -> Iterator[Row]:
        source = self._source
        is_txt = source.rows.suffix.lower() == ".txt"
        required = (TXT_COLUMN,) if is_txt else source.text_columns
        reader = read_rows(
            source.rows,
            required_columns=required,
            text_columns=() if is_txt else required,
            skip_bad_rows=source.skip_bad_rows,
        )
        for row in reader:
            self.row_number, self.skipped = reader.row_number, reader.skipped
            yield {source.text_columns[0]: row[TXT_COLUMN]} if is_txt else row
        self.skipped = reader.skipped

    def _read_memory(self) -> Iterator[Row]:
        source = self._source
        for row in _iterate_rows(source.rows):
            self.row_number += 1
            problem = find_problem(row, source.text_columns)
            if not problem and not row.keys() <= set(source.columns):
                problem = f"it has other columns than the first row, {', '.join(map(str, source.columns))}"
            if not problem:
                broken = [
                    name for name, value in row.items() if isinstance(value, str) and not is_unicode(value)
                ]
                problem = f"column {broken[0]!r} holds half of a surrogate pair" if broken else ""
            if not problem:
                yield row
                continue
            if not source.skip_bad_rows:
                where = f"{source.name}: row {self.row_number}"
                raise InputError(f"{where}: {problem}; mend it, or drop such rows (skip_bad_rows)")
            self.skipped += 1
        if self.row_number == self.skipped:
            raise InputError(f"{source.name}: all {self.skipped} rows are bad, none is left")


def open_source(
    rows: Rows, text_columns: tuple[str, ...], skip_bad_rows: bool, name: str = "the rows"
) -> Source:
    """Prepare rows for reading. A one-shot iterator is read into memory, since it is needed twice.

    Raises:
        InputError: a missing, empty or unknown file, no rows, or a missing text column.
    """
    if isinstance(rows, (str, Path)):
        return _open_file(Path(rows), text_columns, skip_bad_rows)
    schema = None
    if hasattr(rows, "features"):  # a datasets.Dataset
        schema = rows.features.arrow_schema
        columns = tuple(rows.features)
    else:
        rows = rows if isinstance(rows, Sequence) else list(rows)
        columns = tuple(rows[0]) if len(rows) else ()
    if not len(rows):  # type: ignore[arg-type]
        raise InputError(f"{name}: there are none; give at least one row")
    _check_columns(name, columns, text_columns)
    return Source(name, rows, text_columns, skip_bad_rows, columns, schema)


def _open_file(path: Path, text_columns: tuple[str, ...], skip_bad_rows: bool) -> Source:
    import pyarrow

    reader = read_rows(path, skip_bad_rows=skip_bad_rows)
    if not reader.columns:
        next(reader)  # a jsonl file without one good row: this says what is wrong with them
    columns, schema = reader.columns, reader.schema
    if path.suffix.lower() == ".txt":
        if len(text_columns) > 1:
            raise InputError(
                f"{path} holds one text a line; for sentence pairs give a csv, tsv, jsonl or parquet file"
            )
        columns = text_columns
    _check_columns(str(path), columns, text_columns)
    if path.suffix.lower() in TEXT_SUFFIXES:
        schema = pyarrow.schema([(column, pyarrow.string()) for column in columns])
    return Source(str(path), path, text_columns, skip_bad_rows, columns, schema)


def _check_columns(name: str, columns: tuple[str, ...], wanted: Iterable[str]) -> None:
    for column in wanted:
        if column not in columns:
            raise InputError(f"{name} has no column {column!r}; its columns are {list_columns(columns)}")


def _iterate_rows(rows: Any) -> Iterator[Row]:
    """Rows one by one; a Dataset is read in batches, which is much faster, and without its output format."""
    if not hasattr(rows, "features"):
        for row in rows:
            yield dict(row)
        return
    for batch in rows.with_format(None).iter(batch_size=1024):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))
