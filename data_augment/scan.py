"""The first pass over the rows: count their tags, find duplicates, check the ids, find the column types."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from data_augment.augmenter import Augmenter
from data_augment.errors import InputError
from data_augment.fingerprints import (
    combine_fingerprints,
    find_first_occurrences,
    hash_strings,
)
from data_augment.rows import Row
from data_augment.sources import Source, SourceReader
from data_augment.spool import TokenSpool
from data_augment.tag_counts import TagTable
from data_augment.texts import Texts
from data_augment.writers import check_booleans

BLOCK_ROWS = 1024
BLOCK_WORDS = 400_000  # words in the variants of a block, about: bounds its memory whatever n_iter is
RESERVED_ID = re.compile(r"~\d+$")


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of one source, and their ids."""

    rows: list[Row]
    ids: list[str]


@dataclass(frozen=True)
class Scan:
    """What the first pass found out.

    Attributes:
        rows: rows of each source.
        is_kept: bool, shape (rows of all sources,), false for a row whose texts an earlier row has too.
        fingerprints: uint64, shape (kept rows,).
        conflicting_labels: dropped rows whose label differs from that of the row kept in their place.
        skipped: bad rows dropped.
        schema: the output's columns and their Arrow types.
    """

    rows: list[int]
    is_kept: np.ndarray
    fingerprints: np.ndarray
    conflicting_labels: int
    skipped: int
    schema: pa.Schema


def read_blocks(
    source: Source, *, is_unlabelled: bool, n_iter: int, reader: SourceReader | None = None
) -> Iterator[RowBlock]:
    """Cut a source into blocks. The cuts depend on the texts and on ``n_iter`` alone.

    Raises:
        InputError: a bad row, or an id that is missing or reserved.
    """
    reader = reader or source.read()
    has_id = "id" in source.columns
    prefix = "unlabelled-" if is_unlabelled else ""
    rows: list[Row] = []
    ids: list[str] = []
    characters = 0
    for row in reader:
        rows.append(row)
        ids.append(_get_id(row, source, reader.row_number) if has_id else f"{prefix}{reader.row_number}")
        characters += sum(len(row[column]) for column in source.text_columns)
        if len(rows) == BLOCK_ROWS or characters * n_iter >= 6 * BLOCK_WORDS:  # a word has about 6 characters
            yield RowBlock(rows, ids)
            rows, ids, characters = [], [], 0
    if rows:
        yield RowBlock(rows, ids)


def _get_id(row: Row, source: Source, row_number: int) -> str:
    value = row.get("id")
    text = "" if value is None or value != value else str(value)
    if not text:
        raise InputError(
            f"{source.name} row {row_number}: column 'id' is empty; every row needs an id of its own"
        )
    if RESERVED_ID.search(text):
        raise InputError(
            f"{source.name} row {row_number}: id {text!r} ends like that of an augmented copy; rename the "
            "id, or give the rows that have not been augmented yet"
        )
    return text


def scan_sources(
    sources: Sequence[Source],
    augmenter: Augmenter,
    spool: TokenSpool,
    *,
    label_column: str | None,
    iterations: Sequence[int],
    advance: Callable[[int], object],
) -> Scan:
    """Fit ``augmenter`` on all rows, fill the spool, and describe the rows.

    Args:
        sources: the labelled rows, then, if any, the unlabelled ones.
        augmenter: learns the tag distributions.
        spool: receives one block of numbered texts for each block of rows.
        label_column: where to look for conflicting labels.
        iterations: n_iter of each source.
        advance: called with the number of rows just read.

    Raises:
        InputError: a bad row, an id that is missing, repeated or reserved, or a column whose values have no
            common type.
    """
    ids: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    skipped = 0
    rows = [0] * len(sources)
    types = _ColumnTypes(sources[0])
    augmenter.start_fit()
    for position, (source, n_iter) in enumerate(zip(sources, iterations, strict=True)):
        reader = source.read()
        for block in read_blocks(source, is_unlabelled=position > 0, n_iter=n_iter, reader=reader):
            spool.append(
                [augmenter.learn([row[column] for row in block.rows]) for column in source.text_columns]
            )
            ids.append(hash_strings(block.ids))
            labels.append(_hash_labels(block.rows, label_column if position == 0 else None))
            if position == 0:
                types.look_at(block.rows)
            rows[position] += len(block.rows)
            advance(len(block.rows))
        skipped += reader.skipped
    _check_ids(np.concatenate(ids), sources, iterations)
    prints = np.concatenate([fingerprint_block(sides, augmenter.table) for sides in spool.read()])
    firsts = find_first_occurrences(prints)
    is_kept = firsts == np.arange(len(firsts))
    all_labels = np.concatenate(labels)
    conflicts = (all_labels != all_labels[firsts]) & (all_labels != 0) & (all_labels[firsts] != 0)
    return Scan(rows, is_kept, prints[is_kept], int(conflicts.sum()), skipped, types.make_schema())


def fingerprint_block(sides: Sequence[Texts], table: TagTable) -> np.ndarray:
    """Fingerprints of the rows of a block in token numbers: uint64, shape (rows,)."""
    prints = [table.fingerprint(texts) for texts in sides]
    return prints[0] if len(prints) == 1 else combine_fingerprints(*prints)


def _hash_labels(rows: Iterable[Row], column: str | None) -> np.ndarray:
    """A hash of each row's label, 0 where it has none."""
    values = [None if column is None else row.get(column) for row in rows]
    is_missing = np.array([value is None or value == "" or value != value for value in values], dtype=bool)
    return np.where(is_missing, np.uint64(0), hash_strings(map(repr, values)) | np.uint64(1))


def _check_ids(ids: np.ndarray, sources: Sequence[Source], iterations: Sequence[int]) -> None:
    """Raise if two rows have one id, naming where they are; rows are read once more to find its name."""
    firsts = find_first_occurrences(ids)
    repeated = np.flatnonzero(firsts != np.arange(len(firsts)))
    if not len(repeated):
        return
    first, wanted = int(firsts[repeated[0]]), int(repeated[0])
    owner = ""
    for position, source in enumerate(sources):
        for block in read_blocks(source, is_unlabelled=position > 0, n_iter=iterations[position]):
            if 0 <= first < len(block.ids):
                owner = source.name
            if wanted < len(block.ids):
                if owner == source.name:
                    said = f"{owner}: the id {block.ids[wanted]!r} occurs twice; ids must be unique"
                else:
                    said = (
                        f"the id {block.ids[wanted]!r} is in {owner} (the number of its row, where it has no ids) "
                        f"and in {source.name}; rename the ids of one of them"
                    )
                raise InputError(said)
            first, wanted = first - len(block.ids), wanted - len(block.ids)


def _as_plain(kind: pa.DataType) -> pa.DataType:
    """The type without a view, of which Arrow cannot take rows."""
    views = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    return views.get(kind, kind)


class _ColumnTypes:
    """Finds the Arrow types of the output's columns; texts and ids are strings whatever the input's types."""

    def __init__(self, source: Source):
        self._source = source
        strings = {*source.text_columns, "id"}
        self._others = [column for column in source.columns if column not in strings]
        self._found: dict[str, pa.DataType] = dict.fromkeys(self._others, pa.null())
        if source.schema is not None:
            self._found = {column: _as_plain(source.schema.field(column).type) for column in self._others}

    def look_at(self, rows: Sequence[Row]) -> None:
        """Widen the types so that they hold the values of ``rows`` too."""
        if self._source.schema is not None:
            return
        for column in self._others:
            values: list[Any] = [row.get(column) for row in rows]
            try:
                schemas = [
                    pa.schema([(column, self._found[column])]),
                    pa.schema([(column, pa.array(values).type)]),
                ]
                self._found[column] = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
            except (pa.ArrowException, UnicodeError, OverflowError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"{self._source.name}: column {column!r} has values of no common type: {reason}"
                ) from None
        check_booleans(self._source.name, rows, pa.schema(self._found.items()))

    def make_schema(self) -> pa.Schema:
        """Input columns in their order, then ``id`` if the input has none, ``source_id`` and ``rules``."""
        fields = [(column, self._found.get(column, pa.string())) for column in self._source.columns]
        added = [column for column in ("id", "source_id", "rules") if column not in self._source.columns]
        return pa.schema([*fields, *((column, pa.string()) for column in added)])
