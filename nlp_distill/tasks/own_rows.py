"""Read the rows of files or ``datasets`` directories as texts and labels, naming or counting the bad ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_augment.errors import InputError
from data_augment.rows import find_problem, read_rows
from nlp_distill.tasks.labels import parse_label
from nlp_distill.tasks.splits import Row
from nlp_distill.tasks.task import Task

if TYPE_CHECKING:
    from datasets import Dataset

PLAIN = (str, int, float, Decimal, date)  # what can be a text or a label; a list or bytes cannot
DATASET_FILES = ("state.json", "dataset_dict.json")  # one of them is in what save_to_disk wrote


@dataclass
class OwnReader:
    """Reads the columns of one job from any number of files, and counts what it skips."""

    text_columns: tuple[str, ...]
    label_column: str
    skip_bad_rows: bool
    counts: Counter[str] = field(default_factory=Counter)

    def read(self, source: str | Path | Dataset, *, labelled: bool = True) -> list[Row]:
        """Return the rows of a file or data set; labels are as they stand there.

        Raises:
            InputError: for a missing file or column, an empty file, or a row without a text or a label.
        """
        needed = (*self.text_columns, self.label_column) if labelled else self.text_columns
        rows = []
        where = f"{source} " if isinstance(source, str | Path) else ""
        for number, record in self._records(source, needed):
            if unusable := [name for name in needed if not isinstance(record[name], PLAIN)]:
                if not self.skip_bad_rows:
                    raise InputError(
                        f"{where}row {number}: column {unusable[0]!r} holds a {type(record[unusable[0]]).__name__}, "
                        "which is no text, label or number; --skip-bad-rows drops such rows"
                    )
                self.counts["skipped_bad_rows"] += 1
                continue
            texts = tuple(str(record[column]).strip() for column in self.text_columns)
            rows.append(Row(number, texts, record[self.label_column] if labelled else record.get("id")))
        return rows

    def _records(
        self, source: str | Path | Dataset, needed: Sequence[str]
    ) -> Iterator[tuple[int, Mapping[str, Any]]]:
        if isinstance(source, str | Path):
            reader = read_rows(source, required_columns=needed, skip_bad_rows=self.skip_bad_rows)
            for record in reader:
                yield reader.row_number, record
            self.counts["skipped_bad_rows"] += reader.skipped
            return
        missing = [column for column in needed if column not in source.column_names]
        if missing:
            raise InputError(
                f"the data set has no column {missing[0]!r}; it has {', '.join(source.column_names)}"
            )
        for number, record in enumerate(_name_classes(source, self.label_column), start=1):
            empty = [name for name in needed if find_problem(record, [name])]
            if not empty:
                yield number, record
            elif self.skip_bad_rows:
                self.counts["skipped_bad_rows"] += 1
            else:
                raise InputError(f"row {number} has no {empty[0]!r}; --skip-bad-rows drops such rows")

    def label(self, rows: list[Row], task: Task, where: str | Path, *, by_index: bool = True) -> list[Row]:
        """Return the rows with their labels as class indices, or numbers for a regression.

        Args:
            rows: with the labels that the file has.
            task: names the classes.
            where: the file, for an error.
            by_index: whether a number may stand for a class's name by its place.

        Raises:
            InputError: for a label outside the task, by row number.
        """
        names_all = ", and --labels names all classes, where some are missing in train" if task.labels else ""
        labelled = []
        known: dict[str, int | float] = {}  # there are far fewer labels than rows
        for row in rows:
            try:
                text = str(row.label).strip()
                if text not in known:
                    known[text] = parse_label(text, task.labels, by_index=by_index)
                labelled.append(row._replace(label=known[text]))
            except InputError as error:
                if not self.skip_bad_rows:
                    raise InputError(
                        f"{where}: row {row.number} {error}; --skip-bad-rows drops such rows{names_all}"
                    ) from None
                self.counts["skipped_bad_rows"] += 1
        if not labelled:
            raise InputError(f"{where} holds no row that can be used")
        return labelled


def open_splits(path: str | Path) -> Mapping[str, str | Path | Dataset]:
    """Return a file as ``{"train": path}``, a ``datasets`` directory as its splits (a nameless one as train).

    Raises:
        InputError: if the path is a directory that ``save_to_disk`` did not write, or a damaged one.
    """
    if not Path(path).is_dir():
        return {"train": path}
    from datasets import DatasetDict, load_from_disk

    if not any((Path(path) / name).is_file() for name in DATASET_FILES):
        raise InputError(f"{path} is no datasets directory; give a file, or what save_to_disk wrote")
    try:
        loaded = load_from_disk(str(path))
    except Exception as error:  # a damaged directory makes datasets and pyarrow fail in ways without number
        reason = str(error).partition("\n")[0]
        raise InputError(f"the datasets directory {path} cannot be read ({reason}); save it again") from error
    return loaded if isinstance(loaded, DatasetDict) else {"train": loaded}


def open_split(path: str | Path, split: str) -> str | Path | Dataset:
    """Return a file, or the named split of a ``datasets`` directory, or its only one.

    Raises:
        InputError: if a directory has several splits and none of that name.
    """
    splits = open_splits(path)
    if split not in splits and len(splits) > 1:
        raise InputError(f"{path} has no {split} split; its splits are {', '.join(splits)}")
    return splits[split] if split in splits else next(iter(splits.values()))


def _name_classes(source: Dataset, label_column: str) -> Iterator[dict[str, Any]]:
    """Yield the rows, a ``ClassLabel`` index replaced by its class name (-1, "no label", by ``None``)."""
    from datasets import ClassLabel

    feature = source.features.get(label_column)
    for record in source:
        if isinstance(feature, ClassLabel) and record[label_column] is not None:
            index = record[label_column]
            record = record | {label_column: feature.int2str(index) if index >= 0 else None}
        yield record
