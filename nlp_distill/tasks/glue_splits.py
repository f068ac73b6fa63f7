"""Turn the official rows of a GLUE task into splits of which the reported one is never selected on."""

from __future__ import annotations

from collections import Counter

from data_augment.errors import InputError
from nlp_distill.tasks.glue import GLUE, GlueTask
from nlp_distill.tasks.splits import Row, drop_known, fixed_subset, hold_out, to_dataset
from nlp_distill.tasks.task import TaskData

SAMPLE_BELOW = 0.99  # of the official rows; a few may be missing because they were bad


def assemble_glue(
    entry: GlueTask,
    train: list[Row],
    test: list[Row],
    extra: dict[str, list[Row]],
    *,
    select_on: str,
    counts: Counter[str],
    source: str,
) -> TaskData:
    """Make the splits of a GLUE task: drop what is reported from train, hold out a part of the rest for
    selection.

    Args:
        entry: the task.
        train: official train rows.
        test: the reported rows, the official development set.
        extra: further reported rows by task name.
        select_on: ``"train"`` or ``"dev"``, see :func:`nlp_distill.tasks.load_glue_folder`.
        counts: rows dropped so far, by reason; the result has them and this function's own.
        source: where the rows come from; the task's name and what is a sample are added.

    Raises:
        InputError: if nothing can be held out.
    """
    source = f"{source}, {entry.task.name}{_describe_sample(entry, len(train), len(test))}"
    reported = {row.key for rows in (test, *extra.values()) for row in rows}
    train, in_test = drop_known(train, reported)
    if entry.subset is not None:
        train = fixed_subset(train, entry.subset)
        source += f" (fixed subset of {len(train):,} train rows)"
    task = entry.task
    if select_on == "dev":
        validation = to_dataset(task, "validation", test)
    else:
        train, held = hold_out(train)
        # Held-out rows keep the name of the file that their number counts in.
        validation = to_dataset(task, "train", held)
    return TaskData(
        task=task,
        train=to_dataset(task, "train", train),
        validation=validation,
        test=to_dataset(task, "test", test),
        extra_tests={name: to_dataset(GLUE[name].task, name, rows) for name, rows in extra.items()},
        source=source,
        selected_on=select_on,
        counts=dict(counts + Counter(train_rows_found_in_test=in_test)),
    )


def check_select_on(select_on: str) -> None:
    """Raise ``InputError`` unless ``select_on`` is ``"train"`` or ``"dev"``."""
    if select_on not in ("train", "dev"):
        raise InputError(f"select_on is {select_on!r}; it must be 'train' (a held-out part of it) or 'dev'")


def _describe_sample(entry: GlueTask, train_rows: int, test_rows: int) -> str:
    """Say which splits hold fewer rows than the official ones: their scores are no official GLUE scores."""
    official_train, official_test = entry.official_rows
    parts = []
    if train_rows < SAMPLE_BELOW * official_train:
        parts.append(f"train is a sample, {train_rows:,} of {official_train:,} rows")
    if test_rows < SAMPLE_BELOW * official_test:
        parts.append(f"test is a sample, {test_rows:,} of {official_test:,} rows")
    return f" ({'; '.join(parts)})" if parts else ""
