"""What a task is (columns, labels, metrics) and what its data is (named splits with stable row ids)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from data_augment.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

LONGEST_NAME = 100  # bytes of a task's name
FINGERPRINT_BATCH = 10_000  # rows hashed at a time; part of the definition of the fingerprint


@dataclass(frozen=True)
class Task:
    """One text classification or regression task.

    Args:
        name: the task's name, as it appears in result files (``sst2``, ``tweets``, ...).
        text_column: column of the (first) text.
        text_pair_column: column of the second text, ``None`` for single sentences.
        labels: label names in index order; ``()`` makes the task a regression.
        metrics: metric names of :mod:`nlp_distill.metrics`; the first one is the task's score.

    Raises:
        InputError: for a name that is no file name.
    """

    name: str
    text_column: str
    text_pair_column: str | None
    labels: tuple[str, ...]
    metrics: tuple[str, ...]

    def __post_init__(self) -> None:
        is_path = self.name in ("", ".", "..") or not set("/\\").isdisjoint(self.name)
        if is_path or not self.name.isprintable() or len(self.name.encode()) > LONGEST_NAME:
            raise InputError(
                f"the task is called {self.name!r}; files are named after it, so give --task a name without slashes "
                f"and of at most {LONGEST_NAME} letters"
            )

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The one or two text columns, first sentence first."""
        pair = self.text_pair_column
        return (self.text_column,) if pair is None else (self.text_column, pair)

    @property
    def is_pair(self) -> bool:
        """Whether a row holds two texts."""
        return self.text_pair_column is not None

    def read_texts(self, rows: Dataset) -> list[str] | list[tuple[str, str]]:
        """The texts of some rows, or the pairs of them, in row order."""
        columns = [list(rows[column]) for column in self.text_columns]
        return list(zip(*columns, strict=True)) if self.is_pair else columns[0]

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number rather than a class."""
        return not self.labels

    @property
    def num_labels(self) -> int:
        """Width of the model's output: the number of classes, 1 for a regression."""
        return len(self.labels) or 1

    @property
    def id2label(self) -> dict[int, str]:
        """Class index -> label name, as a model's config wants it (``{}`` for a regression)."""
        return dict(enumerate(self.labels))

    @property
    def label2id(self) -> dict[str, int]:
        """Label name -> class index (``{}`` for a regression)."""
        return {name: index for index, name in enumerate(self.labels)}


@dataclass(frozen=True)
class TaskData:
    """The splits of a task.

    Every split has the columns ``id`` (string, unique over all splits: the split and the row's number in its
    source file, counted from 1, such as ``train-17``), the task's text columns, and ``label`` (int64 class
    index, or float32 for a regression). ``unlabelled`` has no ``label`` column.

    Args:
        task: the task.
        train: rows to learn from.
        validation: rows that early stopping, checkpoint choice and tuning may look at.
        test: the reported rows. Nothing is selected on them, unless ``selected_on`` is ``"dev"``.
        unlabelled: in-domain rows without labels for the transfer set, or ``None``.
        extra_tests: further reported sets by task name (``mnli_mm``, ``ax``).
        source: where the rows come from, one line for people.
        selected_on: ``"train"`` (a held-out part of train), ``"dev"`` (the reported rows themselves, the
            habit of many papers) or ``"validation"`` (a validation file of the user's).
        counts: rows dropped or skipped on the way, by reason; a reason with no rows is absent.
    """

    task: Task
    train: Dataset
    validation: Dataset
    test: Dataset
    unlabelled: Dataset | None = None
    extra_tests: Mapping[str, Dataset] = field(default_factory=dict)
    source: str = ""
    selected_on: str = "train"
    counts: Mapping[str, int] = field(default_factory=dict)

    def splits(self) -> dict[str, Dataset]:
        """Every split under its name, ``unlabelled`` and the extra test sets included where there are any."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        if self.unlabelled is not None:
            splits["unlabelled"] = self.unlabelled
        return splits | dict(self.extra_tests)

    def fingerprints(self) -> dict[str, dict[str, int | str]]:
        """``{split: {"rows", "sha256"}}`` of every split, the ``data`` entry of a result file."""
        return {name: data_fingerprint(split) for name, split in self.splits().items()}


def data_fingerprint(dataset: Dataset, columns: tuple[str, ...] | None = None) -> dict[str, int | str]:
    """Return ``{"rows": number of rows, "sha256": hash of their content}`` of a data set.

    The hash covers column names and values in row order, and nothing else: not the file, the cache or the
    machine.

    Args:
        dataset: any data set whose values JSON can hold.
        columns: the columns to cover; ``None`` for all. Their order does not matter.
    """
    chosen = sorted(dataset.column_names if columns is None else columns)
    digest = hashlib.sha256(json.dumps(chosen).encode())
    selected = dataset.select_columns(chosen).with_format(None)
    for batch in selected.iter(batch_size=FINGERPRINT_BATCH):
        digest.update(json.dumps([batch[column] for column in chosen]).encode())
    return {"rows": len(dataset), "sha256": digest.hexdigest()}
