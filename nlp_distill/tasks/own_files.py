"""Tasks from your own rows: CSV, TSV, JSONL or Parquet files, or a saved ``datasets`` directory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_augment.errors import InputError
from nlp_distill.tasks.labels import infer_labels, list_whole_numbers
from nlp_distill.tasks.own_rows import OwnReader, open_split, open_splits
from nlp_distill.tasks.splits import Row, drop_known, hold_out, to_dataset
from nlp_distill.tasks.task import Task, TaskData

if TYPE_CHECKING:
    from datasets import Dataset

OWN_SHARE = 0.10  # of train, for each of validation and test where you give none

# What every split has besides its texts, and what augmenting and labelling add.
OUR_COLUMNS = ("id", "label", "source_id", "rules", "teacher_logits")


def load_own_files(
    train_file: str | Path,
    *,
    text_column: str,
    label_column: str = "label",
    text_pair_column: str | None = None,
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    unlabelled_file: str | Path | None = None,
    labels: Sequence[str] | None = None,
    name: str | None = None,
    skip_bad_rows: bool = False,
) -> TaskData:
    """Load a task from files of your own, or from a ``datasets`` directory.

    Labels may be names or integers; numbers with a fraction make the task a regression. A validation or test
    set that you do not give is held out of train by hash, a tenth each. Train rows whose normalised text is
    in the test or validation set, validation rows that are in test, and unlabelled rows that are in either,
    are dropped and counted.

    Args:
        train_file: ``.csv``, ``.tsv`` (unquoted), ``.jsonl`` or ``.parquet``; or a directory written by
            ``save_to_disk``, whose splits ``validation`` and ``test`` are used unless files are given for
            them.
        text_column: column of the (first) text.
        label_column: column of the label.
        text_pair_column: column of the second text of a pair.
        validation_file: rows to select on; ``None`` to hold some out of train.
        test_file: reported rows; ``None`` to hold some out of train.
        unlabelled_file: in-domain rows with the text columns; ids are its ``id`` column's or
            ``unlabelled-N``.
        labels: label names in index order; ``None`` takes the sorted labels of train. A label that is an
            integer and no name is an index into them.
        name: the task's name; ``None`` for the name of ``train_file`` without its suffix.
        skip_bad_rows: drop and count bad rows instead of raising.

    Raises:
        InputError: for a missing file or column, a bad row (by its number), labels outside the task, fewer
            than two labels, or too few rows to hold some out.
    """
    columns = (text_column,) if text_pair_column is None else (text_column, text_pair_column)
    _check_columns(columns, label_column)
    reader = OwnReader(columns, label_column, skip_bad_rows)
    sources = {"train": open_split(train_file, "train")}
    for split, file in (("validation", validation_file), ("test", test_file)):
        if file is not None:
            sources[split] = open_split(file, split)
        elif split in (splits := open_splits(train_file)):
            sources[split] = splits[split]

    raw = {split: reader.read(source) for split, source in sources.items()}
    if labels is None:
        labels = _class_names(sources["train"], label_column)
    names = infer_labels([row.label for row in raw["train"]]) if labels is None else _checked(labels)
    if labels is None and not names:
        _say_if_classes(row.label for row in raw["train"])
    metrics = ("accuracy", "macro_f1") if names else ("spearmanr", "pearson")
    task = Task(
        Path(train_file).stem if name is None else name, text_column, text_pair_column, names, metrics
    )
    where = {
        "train": train_file,
        "validation": validation_file or train_file,
        "test": test_file or train_file,
    }
    rows = {split: reader.label(raw[split], task, where[split], by_index=labels is not None) for split in raw}

    # A part held out of train keeps train's ids, which name the file that their numbers count in.
    file_of = {split: split if split in rows else "train" for split in ("train", "validation", "test")}
    rows = _separate(rows, reader.counts)
    unlabelled = None
    if unlabelled_file is not None:
        unlabelled = _read_unlabelled(reader, task, unlabelled_file, rows["validation"] + rows["test"])
    return TaskData(
        task=task,
        unlabelled=unlabelled,
        source=f"{Path(train_file).name}, {_describe(names)}",
        selected_on="train" if file_of["validation"] == "train" else "validation",
        counts=dict(+reader.counts),
        **{split: to_dataset(task, file_of[split], rows[split]) for split in ("train", "validation", "test")},
    )


def add_unlabelled(data: TaskData, unlabelled_file: str | Path, *, skip_bad_rows: bool = False) -> TaskData:
    """Return ``data`` with the rows of a file, those of its validation and test sets excepted, as unlabelled.

    Args:
        data: any task; its own unlabelled rows are replaced.
        unlabelled_file: a file (or ``datasets`` directory) with the task's text columns; for single sentences also
            a ``.txt`` file, one text a line.
        skip_bad_rows: drop and count bad rows instead of raising.

    Raises:
        InputError: for a missing file or column, or a bad row.
    """
    task = data.task
    reader = OwnReader(task.text_columns, "label", skip_bad_rows, Counter(data.counts))
    reported = [
        Row(0, tuple(record[column] for column in task.text_columns))
        for split in (data.validation, data.test, *data.extra_tests.values())
        for record in split
    ]
    unlabelled = _read_unlabelled(reader, task, unlabelled_file, reported)
    source = f"{data.source}; unlabelled rows from {Path(unlabelled_file).name}"
    return replace(data, unlabelled=unlabelled, source=source, counts=dict(+reader.counts))


def _separate(given: Mapping[str, list[Row]], counts: Counter[str]) -> dict[str, list[Row]]:
    """Drop rows that a more important split has too (test, validation, train); hold out what is missing."""
    rows = dict(given)
    for less, more in (("train", "test"), ("train", "validation"), ("validation", "test")):
        if less in rows and more in rows:
            rows[less], dropped = drop_known(rows[less], {row.key for row in rows[more]})
            counts[f"{less}_rows_found_in_{more}"] += dropped
            if not rows[less]:
                raise InputError(f"all {dropped} rows of {less} are in {more} too; none is left to use")
    for split in ("test", "validation"):
        if split not in rows:
            rows["train"], rows[split] = hold_out(rows["train"], OWN_SHARE, salt=split)
    return rows


def _read_unlabelled(reader: OwnReader, task: Task, path: str | Path, known: list[Row]) -> Dataset:
    if Path(path).suffix.lower() == ".txt":  # one text a line, whatever the task calls its text column
        if task.is_pair:
            raise InputError(
                f"{path} holds one text a line; for a pair task give columns {task.text_columns}"
            )
        reader = replace(reader, text_columns=("text",))
    rows, dropped = drop_known(
        reader.read(open_split(path, "unlabelled"), labelled=False), {row.key for row in known}
    )
    reader.counts["unlabelled_rows_found_in_test_or_validation"] += dropped
    if not rows:
        raise InputError(f"{path} holds no row that is not in the validation or test set too")
    dataset = to_dataset(task, "unlabelled", rows, labelled=False)
    own_ids = [row.label for row in rows]  # the reader leaves an id column there
    if None in own_ids:
        return dataset
    ids = [str(own) for own in own_ids]
    if len(set(ids)) < len(ids):
        raise InputError(
            f"{path}: its id column repeats {Counter(ids).most_common(1)[0][0]!r}; ids must differ"
        )
    return dataset.remove_columns("id").add_column("id", ids).select_columns(dataset.column_names)


def _say_if_classes(values: Iterable[Any]) -> None:
    """Say of a regression on a few whole numbers that they may be classes."""
    from nlp_distill.stages import announce  # torch comes with it

    if whole := list_whole_numbers(values):
        announce(
            f"WARNING: the labels are the numbers {', '.join(whole)}, written with a fraction, and so this is a "
            f"regression; where they are classes, add --labels {' '.join(whole)}"
        )


def _check_columns(text_columns: tuple[str, ...], label_column: str) -> None:
    given = (*text_columns, label_column)
    if len(set(given)) < len(given):
        raise InputError(
            f"the text and label columns are {', '.join(map(repr, given))}; each must be another one"
        )
    for name in text_columns:
        if name in OUR_COLUMNS:
            raise InputError(
                f"the text column is called {name!r}, as a column of our own is; rename it in the file"
            )


def _class_names(source: str | Path | Dataset, label_column: str) -> Sequence[str] | None:
    """The names that a ``datasets`` directory's label column carries, if it does."""
    from datasets import ClassLabel

    if isinstance(source, str | Path):
        return None
    feature = source.features.get(label_column)
    return feature.names if isinstance(feature, ClassLabel) else None


def _checked(labels: Sequence[str]) -> tuple[str, ...]:
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise InputError(f"labels are {', '.join(labels) or 'empty'}; give two or more different names")
    return tuple(labels)


def _describe(labels: tuple[str, ...]) -> str:
    return f"labels {', '.join(labels)}" if labels else "a regression"
