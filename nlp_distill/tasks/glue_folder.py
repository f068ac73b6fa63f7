"""Read the classic GLUE folder: one directory a task, TSV whose quotes are ordinary characters."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_augment.errors import InputError
from nlp_distill.tasks.glue import GLUE, GlueTask, glue_task
from nlp_distill.tasks.glue_splits import assemble_glue, check_select_on
from nlp_distill.tasks.splits import Row
from nlp_distill.tasks.task import TaskData


def load_glue_folder(
    name: str, data_dir: str | Path, *, select_on: str = "train", skip_bad_rows: bool = False
) -> TaskData:
    """Load a GLUE task from a classic GLUE folder.

    ``test`` is the official development set (the official test labels are not public); ``validation`` is a
    part of train held out by hash. Train rows whose normalised text occurs among the reported rows are
    dropped and counted. SST-2's train holds phrases of the same sentences on both sides of that cut, so its
    validation score is optimistic: it ranks checkpoints, and it is not a result.

    Args:
        name: a name of the GLUE table.
        data_dir: the folder that holds ``SST-2/``, ``MRPC/``, ...
        select_on: ``"train"``, or ``"dev"`` to select on the reported rows as many papers do (the result says
            so).
        skip_bad_rows: drop and count rows with missing fields, an empty text or an unknown label.

    Raises:
        InputError: for an unknown task, a missing file or column, or a bad row (named by its number).
    """
    entry = glue_task(name)
    check_select_on(select_on)
    folder = Path(data_dir) / entry.folder
    if not folder.is_dir():
        raise InputError(
            f"no folder {entry.folder} in {data_dir}; --data-dir must hold {entry.folder}/train.tsv"
        )
    counts: Counter[str] = Counter()

    def read(task: GlueTask, path: Path) -> list[Row]:
        return read_glue_rows(task, path, counts, skip_bad_rows=skip_bad_rows)

    train_entry = GLUE["mnli"] if name == "ax" else entry
    train = read(train_entry, folder / "train.tsv")
    test = read(entry, Path(os.path.normpath(folder / entry.dev_file)))  # the diagnostic set lies beside
    extra = {}
    for other_name in entry.extra_tests:
        other = GLUE[other_name]
        path = Path(os.path.normpath(folder / other.dev_file))
        if path.is_file():
            extra[other_name] = read(other, path)
    return assemble_glue(entry, train, test, extra, select_on=select_on, counts=counts, source="GLUE folder")


def read_glue_rows(entry: GlueTask, path: Path, counts: Counter[str], *, skip_bad_rows: bool) -> list[Row]:
    """Read one labelled file of a GLUE folder.

    Args:
        entry: the task whose columns and label spelling hold for the file.
        path: the TSV file.
        counts: ``skipped_bad_rows`` is raised here by the rows skipped.
        skip_bad_rows: skip bad rows rather than raise.

    Raises:
        InputError: for a missing or empty file, a missing column or a bad row.
    """
    lines = _read_lines(path)
    header = list(entry.header) if entry.header is not None else next(lines, "").split("\t")
    missing = [column for column in (*entry.columns, entry.label_column) if column not in header]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}; its columns are {', '.join(header)}")
    text_at = [header.index(column) for column in entry.columns]
    label_at = header.index(entry.label_column)
    labels = {spelled: index for index, spelled in enumerate(entry.spelling)}

    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        try:
            if len(fields) != len(header):  # more is as bad as fewer: which text is whose?
                raise InputError(f"has {len(fields)} fields for {len(header)} columns")
            texts = tuple(fields[position].strip() for position in text_at)
            if not all(texts):
                raise InputError("has an empty text")
            rows.append(Row(number, texts, _parse_label(fields[label_at].strip(), labels)))
        except InputError as error:
            if not skip_bad_rows:
                raise InputError(f"{path}: row {number} {error}; --skip-bad-rows drops such rows") from None
            counts["skipped_bad_rows"] += 1
    if not rows:
        raise InputError(f"{path} holds no rows")
    return rows


def _parse_label(text: str, labels: dict[str, int]) -> int | float:
    """Return the class index, or the number where there are no labels (0 to 5, STS-B's scale)."""
    if labels:
        if text not in labels:
            raise InputError(f"has the label {text!r}; the task's labels are {', '.join(labels)}")
        return labels[text]
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 5.0:  # also false for nan
        raise InputError(f"has the score {text!r}; it must be a number from 0 to 5")
    return value


def _read_lines(path: Path) -> Iterator[str]:
    """Yield lines without their end. Only a line feed ends one: texts may hold other line separators."""
    if not path.is_file():
        raise InputError(f"no file {path}; a classic GLUE folder holds it")
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        try:
            for line in file:
                yield line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 ({error.reason}); convert it first") from None
