"""The two passes that make a transfer set: scan the rows, then vary them block by block into Arrow tables."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from data_augment.augmenter import Augmenter, number_candidates, split_words
from data_augment.blocks import Block, BlockVarier, Variants, vary_blocks
from data_augment.errors import InputError
from data_augment.fingerprints import FingerprintSet
from data_augment.rows import Row
from data_augment.rules import check_whole_number
from data_augment.scan import RowBlock, Scan, read_blocks, scan_sources
from data_augment.sources import Source
from data_augment.spool import TokenSpool
from data_augment.tag_counts import TagTable
from data_augment.variation import RULE_NAMES, RULES
from data_augment.writers import is_same


@dataclass
class Counts:
    """Running totals; the names are those of :class:`data_augment.TransferSetSummary`."""

    rows_in: list[int] = field(default_factory=list)
    originals: int = 0
    copies: int = 0
    copies_drawn: int = 0
    skipped: int = 0
    conflicting_labels: int = 0
    rules: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RULES, 0))


class TransferSetBuilder:
    """Call :meth:`scan`, then iterate over :meth:`build`, in a ``with`` block that holds a temporary file.

    Args:
        augmenter: the rules and the tagger; fitted on the rows by :meth:`scan`.
        sources: the rows, then, if any, the unlabelled rows.
        iterations: variants a row, for each source.
        label_column: where conflicting labels are counted; ``None`` takes a column ``label`` if there is one.
        seed: of all randomness.
        num_workers: processes that make variants.
        show_progress: draw progress bars on standard error.
    """

    def __init__(
        self,
        augmenter: Augmenter,
        sources: Sequence[Source],
        iterations: Sequence[int],
        *,
        label_column: str | None = None,
        seed: int = 0,
        num_workers: int = 1,
        show_progress: bool = False,
    ):
        check_whole_number("seed", seed)
        check_whole_number("num_workers", num_workers, at_least=1)
        _check_names_are_free(sources[0])
        self.augmenter = augmenter
        self.counts = Counts()
        self.schema: pa.Schema
        self._sources = sources
        self._iterations = iterations
        self._label_column = _choose_label_column(label_column, sources[0])
        self._seed = seed
        self._num_workers = num_workers
        self._show_progress = show_progress
        self._spool = TokenSpool(len(sources[0].text_columns))
        self._scan: Scan
        self._candidate_words: np.ndarray  # numbers of the words that the source of candidates proposes

    def __enter__(self) -> TransferSetBuilder:
        return self

    def __exit__(self, *exception: object) -> None:
        self._spool.close()

    def scan(self) -> None:
        """First pass: tag the rows, count the tags, find the duplicates and the column types."""
        with self._show("tagging", None) as bar:
            self._scan = scan_sources(
                self._sources,
                self.augmenter,
                self._spool,
                label_column=self._label_column,
                iterations=self._iterations,
                advance=bar.update,
            )
        self.schema = self._scan.schema
        self.counts.rows_in = self._scan.rows
        self.counts.skipped = self._scan.skipped
        self.counts.conflicting_labels = self._scan.conflicting_labels

    def build(self) -> Iterator[pa.Table]:
        """Second pass: the originals and their variants, one table for each block of rows."""
        known = FingerprintSet(self._scan.fingerprints)
        table = self._prepare_candidates()
        varier = BlockVarier(table, self.augmenter.settings, self._seed)
        waiting: deque[RowBlock] = deque()  # rows whose variants are being made
        blocks = self._make_blocks(waiting.append)
        with self._show("augmenting", int(self._scan.is_kept.sum())) as bar:
            for variants in vary_blocks(blocks, varier, self._num_workers):
                block = waiting.popleft()
                is_new = known.add(variants.fingerprints)
                self._count(variants.flags[is_new], len(block.rows))
                yield self._assemble(block, variants, is_new)
                bar.update(len(block.rows))

    def _make_blocks(self, remember: Callable[[RowBlock], None]) -> Iterator[Block]:
        """Blocks of the rows that are kept, their rows handed to ``remember``."""
        spooled = self._spool.read()
        start = 0
        for number, (source, n_iter, block) in enumerate(self._read_rows()):
            sides = next(spooled, ())
            if not sides or len(sides[0].lengths) != len(block.rows):
                raise InputError(f"{source.name} changed while it was read; run again")
            is_kept = self._scan.is_kept[start : start + len(block.rows)]
            start += len(block.rows)
            rows = [row for row, keep in zip(block.rows, is_kept, strict=True) if keep]
            ids = [row_id for row_id, keep in zip(block.ids, is_kept, strict=True) if keep]
            remember(RowBlock(rows, ids))
            self.counts.copies_drawn += n_iter * len(rows)
            originals: tuple[pa.Array, ...] = ()
            if len(sides) > 1:
                originals = tuple(
                    pa.array([row[c] for row in rows], pa.string()) for c in source.text_columns
                )
            kept = tuple(texts.select(is_kept) for texts in sides)
            candidates = tuple(self._propose(source, rows, side) for side in range(len(sides)))
            yield Block(number, n_iter, kept, originals, candidates)

    def _prepare_candidates(self) -> TagTable:
        """The table of words, with those that may replace others where that is the rule."""
        table, source = self.augmenter.table, self.augmenter.candidates
        if source is None:
            return table
        words = source.prepare(table.words, self._show_progress)
        table, self._candidate_words = table.add_words(words)
        return table

    def _propose(self, source: Source, rows: Sequence[Row], side: int) -> np.ndarray | None:
        if self.augmenter.candidates is None:
            return None
        texts = [split_words(row[source.text_columns[side]]) for row in rows]
        return number_candidates(self.augmenter.candidates.propose(texts), self._candidate_words)

    def _read_rows(self) -> Iterator[tuple[Source, int, RowBlock]]:
        for position, (source, n_iter) in enumerate(zip(self._sources, self._iterations, strict=True)):
            for block in read_blocks(source, is_unlabelled=position > 0, n_iter=n_iter):
                if position > 0:  # nothing but the texts and the id is taken over from unlabelled rows
                    rows = [{column: row[column] for column in source.text_columns} for row in block.rows]
                    block = RowBlock(rows, block.ids)
                yield source, n_iter, block

    def _count(self, flags: np.ndarray, originals: int) -> None:
        self.counts.originals += originals
        self.counts.copies += len(flags)
        for bit, name in enumerate(self.counts.rules):
            self.counts.rules[name] += int(np.count_nonzero(flags & (1 << bit)))

    def _assemble(self, block: RowBlock, variants: Variants, is_new: np.ndarray) -> pa.Table:
        """One table: each original followed by its new variants."""
        n = len(block.rows)
        sources = variants.sources[is_new]
        order = np.argsort(np.concatenate([np.arange(n), sources]), kind="stable")
        place = pa.array(order)
        original_or_null = pa.array(order, mask=order >= n)
        picked = pa.array(np.flatnonzero(is_new))
        ids = pa.array(block.ids, pa.string())
        sources_ids = ids.take(pa.array(sources))
        numbers = pa.array(variants.iterations[is_new]).cast(pa.string())
        copy_ids = pc.binary_join_element_wise(sources_ids, numbers, "~")
        rule_names = pa.array(RULE_NAMES).take(pa.array(variants.flags[is_new]))
        columns = {
            "id": pa.concat_arrays([ids, copy_ids]).take(place),
            "source_id": pa.concat_arrays([ids, sources_ids]).take(place),
            "rules": pa.concat_arrays([pa.array([""] * n, pa.string()), rule_names]).take(place),
        }
        for column, texts in zip(self._sources[0].text_columns, variants.texts, strict=True):
            originals = pa.array([row[column] for row in block.rows], pa.string())
            columns[column] = pa.concat_arrays([originals, texts.take(picked)]).take(place)
        for column in self.schema.names:
            if column not in columns:
                values = [row.get(column) for row in block.rows]
                columns[column] = _convert(values, self.schema.field(column), block).take(original_or_null)
        return pa.table([columns[name] for name in self.schema.names], schema=self.schema)

    def _show(self, what: str, total: int | None) -> tqdm:
        return tqdm(desc=what, total=total, unit=" rows", disable=not self._show_progress)


def _convert(values: list, field: pa.Field, block: RowBlock) -> pa.Array:
    """An Arrow array of ``values``; refuses what would come out changed, like objects whose keys differ."""
    result = pa.array(values, type=field.type)
    if pa.types.is_nested(field.type):
        for row_id, before, after in zip(block.ids, values, result.to_pylist(), strict=True):
            if not is_same(before, after):
                raise InputError(
                    f"row {row_id}: column {field.name!r} has another structure than in other rows"
                )
    return result


def _choose_label_column(column: str | None, source: Source) -> str | None:
    if column is None:
        return "label" if "label" in source.columns else None
    if column not in source.columns:
        raise InputError(
            f"{source.name} has no column {column!r}; its columns are {', '.join(source.columns)}"
        )
    return column


def _check_names_are_free(source: Source) -> None:
    for column in ("source_id", "rules"):
        if column in source.columns:
            raise InputError(
                f"{source.name} already has a column {column!r}, which the output adds; rename it"
            )
    for column in source.text_columns:
        if column == "id":
            raise InputError("the column 'id' names rows and cannot be augmented; choose another text column")
    if len(set(source.text_columns)) < len(source.text_columns):
        raise InputError(f"both texts are the column {source.text_columns[0]!r}; give two different columns")
