"""Write rows, or whole Arrow tables, as csv, tsv, jsonl or parquet; the file appears only when it is
complete.

Nothing is changed to fit a format: a value that it cannot hold is refused with the row's number. Null is an
empty value in csv and tsv, ``null`` in jsonl and parquet.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from data_augment.atomic import check_output_path, open_atomically
from data_augment.errors import InputError

if TYPE_CHECKING:
    import pyarrow

ROW_GROUP = 65_536  # rows a parquet row group: large enough to compress well, a few MB in memory
BYTE_ORDER_MARK = "\ufeff"
INFERENCE_ROWS = 10_000  # rows looked at to find the parquet types when the caller names none


class Writer(Protocol):
    """What :func:`open_writer` yields."""

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows; a column that a row lacks is null there."""

    def write_table(self, table: pyarrow.Table) -> None:
        """Append a table whose columns are exactly the writer's, in its order."""


def check_suffix(path: str | Path) -> str:
    """The suffix of an output file, in small letters.

    Raises:
        InputError: for one that no format here has.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in OUTPUT_FORMATS:
        raise InputError(f"output {path}: unknown suffix {suffix!r}; known are {' '.join(OUTPUT_FORMATS)}")
    return suffix


@contextmanager
def open_writer(
    path: str | Path, columns: Sequence[str] | pyarrow.Schema, *, overwrite: bool = False
) -> Iterator[Writer]:
    """Open ``path`` for writing; on leaving the block without an exception the finished file takes its name.

    Args:
        path: a ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file. It appears all at once, at the end.
        columns: the column names in order, or an Arrow schema, which also fixes the parquet types. With names
            alone parquet types are inferred from the first 10,000 rows.
        overwrite: replace a file that exists.

    Raises:
        InputError: an unknown suffix, an existing file, a row with an unknown column or a value the format
            cannot hold.

    Example:
        >>> with open_writer("rows.tsv", ["id", "text"]) as writer:  # doctest: +SKIP
        ...     writer.write([{"id": "1", "text": "a fine film"}])
    """
    path = Path(path)
    suffix = check_suffix(path)
    names = tuple(columns if isinstance(columns, Sequence) else columns.names)
    if suffix in (".csv", ".tsv") and names and names[0].startswith(BYTE_ORDER_MARK):
        raise InputError(
            f"output {path}: the first column's name {names[0]!r} begins with a byte order mark, which readers drop; "
            "rename it"
        )
    check_output_path(path, overwrite=overwrite)
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"output {path} would have two columns {twice[0]!r}; give each its own name")
    with open_atomically(path) as temporary:
        writer: _TextWriter | _ParquetWriter
        if suffix == ".parquet":
            writer = _ParquetWriter(
                path, temporary, names, None if isinstance(columns, Sequence) else columns
            )
        else:
            writer = _TextWriter(
                path, temporary, names, TEXT_FORMATS[suffix](names), header=suffix != ".jsonl"
            )
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()


class _TextWriter:
    """The three text formats: ``format_row`` turns the values of a row, in column order, into its line."""

    def __init__(
        self,
        path: Path,
        temporary: Path,
        columns: tuple[str, ...],
        format_row: Callable[[Sequence[Any]], str],
        header: bool,
    ):
        self._path = path
        self._columns = columns
        self._format_row = format_row
        self._rows = -1 if header else 0
        self._file = open(temporary, "w", encoding="utf-8", newline="")  # noqa: SIM115
        if header:
            try:
                self._write_values([columns])
            except InputError:
                self.close()
                raise

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._write_values(_order_values(row, self._columns, self._path) for row in rows)

    def write_table(self, table: pyarrow.Table) -> None:
        self._write_values(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def _write_values(self, rows: Iterable[Sequence[Any]]) -> None:
        for values in rows:
            self._rows += 1
            try:
                self._file.write(self._format_row(values))
            except (ValueError, TypeError, csv.Error) as error:  # a UnicodeEncodeError is a ValueError
                reason = "its text is not Unicode" if isinstance(error, UnicodeError) else str(error)
                where = f"row {self._rows}" if self._rows else "header"
                if self._rows and "id" in self._columns:
                    where += f" (id {values[self._columns.index('id')]})"
                raise InputError(f"{self._path} {where} cannot be written: {reason}") from None

    def finish(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _order_values(row: Mapping[str, Any], columns: tuple[str, ...], path: Path) -> list[Any]:
    for name in row:
        if name not in columns:
            raise InputError(
                f"{path}: a row has the unknown column {name!r}; the columns are {', '.join(columns)}"
            )
    return [row.get(name) for name in columns]


def _format_cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return repr(value)
    raise TypeError(f"a {type(value).__name__} does not fit into one cell; write jsonl or parquet instead")


def _make_tsv_format(columns: tuple[str, ...]) -> Callable[[Sequence[Any]], str]:
    def format_row(values: Sequence[Any]) -> str:
        cells = [_format_cell(value) for value in values]
        line = "\t".join(cells)
        if line.count("\t") >= len(cells) or "\n" in line or "\r" in line:
            name = next(
                name for name, cell in zip(columns, cells, strict=True) if re.search("[\t\n\r]", cell)
            )
            raise ValueError(
                f"column {name!r} holds a tab or a line end, which unquoted tsv cannot; write csv instead"
            )
        return line + "\n"

    return format_row


def _make_csv_format(columns: tuple[str, ...]) -> Callable[[Sequence[Any]], str]:
    sink = io.StringIO(newline="")
    # The module quotes just those line ends that its own terminator has, and both kinds need quotes.
    writer = csv.writer(sink, lineterminator="\r\n")

    def format_row(values: Sequence[Any]) -> str:
        sink.seek(0)
        sink.truncate()
        writer.writerow([_format_cell(value) for value in values])
        return sink.getvalue().removesuffix("\r\n") + "\n"

    return format_row


def _make_jsonl_format(columns: tuple[str, ...]) -> Callable[[Sequence[Any]], str]:
    def format_row(values: Sequence[Any]) -> str:
        row = dict(zip(columns, values, strict=True))
        return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"

    return format_row


TEXT_FORMATS = {".csv": _make_csv_format, ".tsv": _make_tsv_format, ".jsonl": _make_jsonl_format}
OUTPUT_FORMATS = (*TEXT_FORMATS, ".parquet")


def check_booleans(name: str, rows: Sequence[Mapping[str, Any]], schema: pyarrow.Schema) -> None:
    """Refuse what Arrow would turn into 0.0 and 1.0 in silence.

    Args:
        name: of the file or rows, for the message.
        rows: rows that were, or will be, converted.
        schema: the types that they get; columns that are not in it are left alone.

    Raises:
        InputError: for a column of numbers that has a boolean.
    """
    for column, kind in zip(schema.names, schema.types, strict=True):
        if str(kind) in ("float", "double") and any(isinstance(row.get(column), bool) for row in rows):
            raise InputError(
                f"{name}: rows cannot be written with one type a column: {column!r} has numbers and booleans"
            )


def check_exact(name: str, rows: Sequence[Mapping[str, Any]], table: pyarrow.Table) -> None:
    """Refuse what Arrow changed to fit a column's type: 1.5 cut to 1, keys of an object dropped or added.

    Args:
        name: of the file or rows, for the message.
        rows: what was converted.
        table: what came of it.

    Raises:
        InputError: for such a column.
    """
    from pyarrow import types

    check_booleans(name, rows, table.schema)
    for column, kind in zip(table.schema.names, table.schema.types, strict=True):
        if types.is_integer(kind):
            for value in (row.get(column) for row in rows):
                if isinstance(value, float) and not value.is_integer():
                    raise InputError(
                        f"{name}: rows cannot be written with one type a column: {column!r} has {value!r}, and whole "
                        "numbers before"
                    )
        elif types.is_nested(kind):
            for row, after in zip(rows, table[column].to_pylist(), strict=True):
                if not is_same(row.get(column), after):
                    raise InputError(
                        f"{name}: rows cannot be written with one type a column: {column!r} has another structure in "
                        f"some rows, such as {str(row.get(column))[:80]}"
                    )


def is_same(before: Any, after: Any) -> bool:
    """Equality of nested values in which NaN equals NaN, and true is not 1."""
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(is_same(before[key], after[key]) for key in before)
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        return len(before) == len(after) and all(map(is_same, before, after))
    if isinstance(before, bool) is not isinstance(after, bool):
        return False
    return bool(before == after) or (before != before and after != after)


class _ParquetWriter:
    """Collects rows into row groups; without a schema, the first rows decide the types."""

    def __init__(self, path: Path, temporary: Path, columns: tuple[str, ...], schema: pyarrow.Schema | None):
        self._path = path
        self._temporary = temporary
        self._columns = columns
        self._schema = schema
        self._rows: list[dict[str, Any]] = []
        self._tables: list[pyarrow.Table] = []
        self._file: Any = None

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self._rows.append(
                dict(zip(self._columns, _order_values(row, self._columns, self._path), strict=True))
            )
            if len(self._rows) >= INFERENCE_ROWS:
                self._convert_rows()

    def write_table(self, table: pyarrow.Table) -> None:
        self._convert_rows()
        self._add_table(table)

    def _convert_rows(self) -> None:
        if not self._rows:
            return
        import pyarrow

        rows, self._rows = self._rows, []
        try:
            table = pyarrow.Table.from_pylist(rows, schema=self._schema)
        except (pyarrow.ArrowException, UnicodeError, TypeError, OverflowError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{self._path}: rows cannot be written with one type a column: {reason}"
            ) from None
        check_exact(str(self._path), rows, table)
        self._add_table(table)

    def _add_table(self, table: pyarrow.Table) -> None:
        self._schema = self._schema or table.schema
        self._tables.append(table)
        if sum(table.num_rows for table in self._tables) >= ROW_GROUP:
            self._write_row_group()

    def _write_row_group(self) -> None:
        import pyarrow
        import pyarrow.parquet as parquet

        if self._file is None:
            if self._schema is None:
                self._schema = pyarrow.schema([(name, pyarrow.null()) for name in self._columns])
            self._file = parquet.ParquetWriter(self._temporary, self._schema)
        if self._tables:
            self._file.write_table(pyarrow.concat_tables(self._tables), row_group_size=2 * ROW_GROUP)
            self._tables = []

    def finish(self) -> None:
        self._convert_rows()
        self._write_row_group()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
