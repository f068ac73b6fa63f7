"""Load GLUE from the hub, or a copy of it on this machine; say soon and plainly when there is neither."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from data_augment.errors import InputError
from nlp_distill.hub import hub_is_reachable
from nlp_distill.tasks.glue import GLUE, HUB_DATASET, GlueTask, glue_task
from nlp_distill.tasks.glue_splits import assemble_glue, check_select_on
from nlp_distill.tasks.splits import Row
from nlp_distill.tasks.task import TaskData

if TYPE_CHECKING:
    from datasets import Dataset


def load_glue_hub(name: str, *, select_on: str = "train", skip_bad_rows: bool = False) -> TaskData:
    """Load a GLUE task from the hub data set ``nyu-mll/glue``. Splits are those of :func:`load_glue_folder`.

    Without a network, or with ``HF_HUB_OFFLINE`` set, a copy that was downloaded before is used.

    Args:
        name: a name of the GLUE table. ``ax`` has no public labels on the hub.
        select_on: ``"train"`` or ``"dev"``.
        skip_bad_rows: drop and count rows with an empty text or no label.

    Raises:
        InputError: for an unknown task, no network and no local copy, or a bad row.
    """
    entry = glue_task(name)
    check_select_on(select_on)
    if name == "ax":
        raise InputError(
            "the hub's copy of ax has no labels; use --data-dir with diagnostic/diagnostic-full.tsv in it"
        )
    counts: Counter[str] = Counter()

    def read(task: GlueTask, split: str) -> list[Row]:
        return _hub_rows(task, splits[split], f"{HUB_DATASET} {split}", counts, skip_bad_rows=skip_bad_rows)

    splits = _download(entry)
    train = read(entry, "train")
    test = read(entry, entry.hub_dev_split)
    extra = {
        other: read(GLUE[other], GLUE[other].hub_dev_split)
        for other in entry.extra_tests
        if GLUE[other].hub_dev_split in splits and other != "ax"
    }
    source = f"hub data set {HUB_DATASET}"
    return assemble_glue(entry, train, test, extra, select_on=select_on, counts=counts, source=source)


def _hub_rows(
    entry: GlueTask, split: Dataset, where: str, counts: Counter[str], *, skip_bad_rows: bool
) -> list[Row]:
    rows = []
    columns = [split[column] for column in (*entry.task.text_columns, "label")]
    for number, (*texts, label) in enumerate(zip(*columns, strict=True), start=1):
        stripped = tuple((text or "").strip() for text in texts)
        if all(stripped) and label is not None and label >= 0:
            rows.append(Row(number, stripped, label))
        elif skip_bad_rows:
            counts["skipped_bad_rows"] += 1
        else:
            fault = "no label" if all(stripped) else "an empty text"
            raise InputError(f"{where}: row {number} has {fault}; --skip-bad-rows drops such rows")
    return rows


def _download(entry: GlueTask) -> dict[str, Dataset]:
    from datasets import load_dataset

    reachable = hub_is_reachable()
    try:
        with _local_copies_only(not reachable):
            return load_dataset(HUB_DATASET, entry.hub_config)
    except Exception as error:
        # Without a network the client's errors are of many kinds; with one, an OSError (ConnectionError and
        # DatasetNotFoundError are such) is the hub's, and anything else a fault to be seen whole.
        if reachable and not isinstance(error, OSError):
            raise
        reason = type(error).__name__ if reachable else "no network, and no copy of it on this machine"
        raise InputError(
            f"cannot load {entry.task.name} from the hub ({HUB_DATASET}): {reason}; use --data-dir FOLDER "
            "with a classic GLUE folder, or --train-file with rows of your own"
        ) from error


@contextmanager
def _local_copies_only(yes: bool) -> Iterator[None]:
    """Keep ``datasets`` from the network inside the block, if ``yes``: it looks in its cache at once."""
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = before or yes
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before
