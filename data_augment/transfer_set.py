"""Build a transfer set: originals and variants, each with an id, its source and the rules that made it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from data_augment.atomic import check_output_path
from data_augment.augmenter import Augmenter
from data_augment.builder import TransferSetBuilder
from data_augment.candidates import CandidateSource
from data_augment.errors import InputError
from data_augment.rows import open_writer
from data_augment.rules import (
    DEFAULT_ITERATIONS,
    DEFAULT_PAIR_ITERATIONS,
    DEFAULT_RULES,
    Rule,
    check_iterations,
)
from data_augment.sources import Rows, open_source
from data_augment.tagging import Tagger
from data_augment.writers import check_suffix

if TYPE_CHECKING:
    import datasets


MANY_DUPLICATES = 0.9


@dataclass(frozen=True)
class TransferSetSummary:
    """What happened while a transfer set was built.

    Attributes:
        rows_in: rows read, bad ones excluded; ``unlabelled_rows_in`` of them from the unlabelled file.
        rows_out: rows written, ``originals`` + ``copies``.
        skipped_rows: bad rows dropped.
        duplicate_originals: input rows dropped because an earlier one has the same words.
        conflicting_labels: how many of those had another label than the row that was kept.
        copies_drawn: variants made; ``duplicate_copies`` of them equal an original or an earlier variant.
        rules: for each rule, in how many written copies it shows.
        tagger: the part-of-speech tagger used.
        candidates: where replacements came from, for word replacement.
        seconds: wall time.
    """

    rows_in: int
    unlabelled_rows_in: int
    rows_out: int
    originals: int
    copies: int
    skipped_rows: int
    duplicate_originals: int
    conflicting_labels: int
    copies_drawn: int
    duplicate_copies: int
    rules: dict[str, int]
    tagger: str
    seconds: float
    candidates: str | None = None

    @property
    def warning(self) -> str | None:
        """What is likely wrong with the transfer set, if anything."""
        if self.copies_drawn and self.duplicate_copies > MANY_DUPLICATES * self.copies_drawn:
            share = self.duplicate_copies / self.copies_drawn
            return (
                f"{share:.0%} of the variants were unchanged or duplicates, and dropped; draw fewer of them (n_iter), "
                "or raise the rules' probabilities"
            )
        return None

    def to_dict(self) -> dict[str, Any]:
        """The same as a plain dict, ready for json."""
        return asdict(self)


def write_transfer_set(
    rows: Rows,
    output: str | Path,
    *,
    text_column: str = "sentence",
    text_pair_column: str | None = None,
    label_column: str | None = None,
    rules: Iterable[Rule] = DEFAULT_RULES,
    n_iter: int | None = None,
    seed: int = 0,
    num_workers: int = 1,
    pos_tagger: str | Tagger = "auto",
    candidates: CandidateSource | None = None,
    unlabelled: Rows | None = None,
    unlabelled_n_iter: int | None = None,
    skip_bad_rows: bool = False,
    overwrite: bool = False,
    show_progress: bool = False,
) -> TransferSetSummary:
    """Write the transfer set of Tang et al. 2019 (arXiv 1903.12136, §3.3): originals and their variants.

    The output has the input's columns and ``id``, ``source_id``, ``rules``, all strings. An original keeps its ``id``
    (without an ``id`` column: its row number, counted from 1), has itself as source and no rules. Variant k
    of row R has the id ``R~k``; all its columns other than the texts are null, because its label is the
    teacher's to give. Rows with the same words as an earlier row are dropped, and an original wins over a
    variant wherever it stands. The same input and seed give the same bytes, whatever ``num_workers``.

    Args:
        rows: a csv, tsv, jsonl or parquet file, a ``datasets.Dataset``, or dicts.
        output: a file of one of these formats; it appears when it is complete.
        text_column: the texts.
        text_pair_column: the second texts of pairs; variants change the first, the second, both, in a cycle.
        label_column: where conflicting labels of duplicates are counted; a column ``label`` is found by
            itself.
        rules: the rules, at most one of each kind.
        n_iter: variants a row; 20, or 10 for pairs, if not given (Tang 2019, §4.2).
        seed: of all randomness, at least 0.
        num_workers: processes that make variants; 1 works in this process.
        pos_tagger: ``auto``, ``nltk``, ``textblob``, or an object with ``name`` and ``tag``.
        candidates: where ``ReplaceRule`` takes its words from; the packaged GloVe vectors if not given.
        unlabelled: more rows of the domain, without labels: the same kinds as ``rows`` and the same text
            columns (other columns but ``id`` are not used), or for single sentences a ``.txt`` file. Ids are
            ``unlabelled-N``.
        unlabelled_n_iter: variants of each of those; as ``n_iter`` if not given.
        skip_bad_rows: drop and count rows with a null or blank text instead of raising.
        overwrite: replace an existing output.
        show_progress: draw progress bars on standard error.

    Raises:
        InputError: anything wrong with the arguments or the rows; the output is then left as it was.
    """
    started = time.perf_counter()
    check_output_path(output, overwrite=overwrite)
    for source in (rows, unlabelled):
        if isinstance(source, (str, Path)) and Path(source).resolve() == Path(output).resolve():
            raise InputError(f"output {output} is also an input, which it would replace; choose another name")
    check_suffix(output)
    columns = (text_column,) if text_pair_column is None else (text_column, text_pair_column)
    n_iter, unlabelled_n_iter = _choose_iterations(n_iter, unlabelled_n_iter, is_pair=len(columns) > 1)
    sources = [open_source(rows, columns, skip_bad_rows)]
    if unlabelled is not None:
        sources.append(open_source(unlabelled, columns, skip_bad_rows, name="the unlabelled rows"))
    builder = TransferSetBuilder(
        Augmenter(rules, pos_tagger=pos_tagger, candidates=candidates),
        sources,
        (n_iter, unlabelled_n_iter)[: len(sources)],
        label_column=label_column,
        seed=seed,
        num_workers=num_workers,
        show_progress=show_progress,
    )
    with builder:
        builder.scan()
        with open_writer(output, builder.schema, overwrite=overwrite) as writer:
            for table in builder.build():
                writer.write_table(table)
    return _summarise(builder, time.perf_counter() - started)


def build_dataset(
    dataset: datasets.Dataset,
    augmenter: Augmenter,
    text_columns: tuple[str, ...],
    label_column: str | None,
    n_iter: int | None,
    seed: int,
    num_workers: int,
) -> datasets.Dataset:
    """The transfer set of a ``datasets.Dataset``, in memory: the core of ``Augmenter.augment_dataset``."""
    import datasets

    n_iter, _ = _choose_iterations(n_iter, None, is_pair=len(text_columns) > 1)
    sources = [open_source(dataset, text_columns, False, name="the dataset")]
    builder = TransferSetBuilder(
        augmenter, sources, (n_iter,), label_column=label_column, seed=seed, num_workers=num_workers
    )
    with builder:
        builder.scan()
        table = pa.concat_tables(builder.build())
    strings = {name: datasets.Value("string") for name in table.column_names}
    features = {name: dataset.features.get(name, strings[name]) for name in table.column_names}
    features |= {name: strings[name] for name in (*text_columns, "id")}
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=datasets.Features(features)))


def _choose_iterations(
    n_iter: int | None, unlabelled_n_iter: int | None, *, is_pair: bool
) -> tuple[int, int]:
    if n_iter is None:
        n_iter = DEFAULT_PAIR_ITERATIONS if is_pair else DEFAULT_ITERATIONS
    check_iterations(n_iter)
    if unlabelled_n_iter is None:
        return n_iter, n_iter
    return n_iter, check_iterations(unlabelled_n_iter, "unlabelled_n_iter")


def _list_rules(augmenter: Augmenter) -> tuple[str, ...]:
    return ("replace",) if augmenter.settings.p_replace else ("mask", "pos", "ngram")


def _summarise(builder: TransferSetBuilder, seconds: float) -> TransferSetSummary:
    counts = builder.counts
    return TransferSetSummary(
        rows_in=sum(counts.rows_in),
        unlabelled_rows_in=sum(counts.rows_in[1:]),
        rows_out=counts.originals + counts.copies,
        originals=counts.originals,
        copies=counts.copies,
        skipped_rows=counts.skipped,
        duplicate_originals=sum(counts.rows_in) - counts.originals,
        conflicting_labels=counts.conflicting_labels,
        copies_drawn=counts.copies_drawn,
        duplicate_copies=counts.copies_drawn - counts.copies,
        rules={name: count for name, count in counts.rules.items() if name in _list_rules(builder.augmenter)},
        tagger=builder.augmenter.tagger.name,
        seconds=round(seconds, 3),
        candidates=builder.augmenter.candidates.name if builder.augmenter.candidates else None,
    )
