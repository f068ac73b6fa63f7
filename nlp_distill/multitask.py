"""Rows of several tasks in one training set, and the order in which they are seen.

A sampler yields row numbers of the joined set, so that any ``DataLoader`` takes it. All of them are seeded by the
epoch, never by the global random state: a resumed run sees the batches of an uninterrupted one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.utils.data import Sampler

from data_augment.errors import InputError
from nlp_distill.batching import POOL_BATCHES, TASK_IDS, TEACHER_LOGITS
from nlp_distill.limits import check_whole

BAM_EXPONENT = 0.75  # Clark et al. 2019, section 4.1: P(task) ~ |D|^0.75


class MultiTaskRows(torch.utils.data.Dataset):
    """Encoded rows of several tasks, one task after the other; each row says in ``task_ids`` which it belongs to.

    Args:
        rows: encoded rows by task name, in the order of the model's tasks.

    Raises:
        InputError: if there is no task, a task without rows, or tasks with different numbers of teachers.
    """

    def __init__(self, rows: Mapping[str, Any]):
        if not rows:
            raise InputError("there are no tasks; give the rows of one or more")
        for name, own in rows.items():
            if not len(own):
                raise InputError(f"task {name} has no rows to learn from")
        self.names = list(rows)
        self.parts = list(rows.values())
        self.sizes = np.array([len(part) for part in self.parts])
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        shapes = [part.teacher_logits.shape[1:] for part in self.parts if part.teacher_logits is not None]
        if len({shape[:-1] for shape in shapes}) > 1:
            raise InputError(f"the tasks have different numbers of teachers: {shapes}; give each as many")
        # (classes,) or (teachers, classes) of the widest task, so that rows of several tasks fit one batch
        self.logits_shape = (*shapes[0][:-1], max(shape[-1] for shape in shapes)) if shapes else None

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of every row, special tokens included: (rows,)."""
        return np.concatenate([part.lengths for part in self.parts])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        task = int(np.searchsorted(self.starts, index, side="right")) - 1
        row = {**self.parts[task][int(index - self.starts[task])], TASK_IDS: task}
        if "label" not in row:
            row.setdefault("labels", None)  # of a task without any, beside others
        row.setdefault("token_type_ids", np.zeros(len(row["input_ids"]), dtype=np.int32))  # beside pairs
        if self.logits_shape is not None:
            row[TEACHER_LOGITS] = self._widen(row.get(TEACHER_LOGITS))
        return row

    def _widen(self, logits: np.ndarray | None) -> np.ndarray:
        """One task's logits in the shape that all tasks share, NaN where it has none."""
        assert self.logits_shape is not None
        widened = np.full(self.logits_shape, np.nan, dtype=np.float32)
        if logits is not None:
            widened[..., : logits.shape[-1]] = logits
        return widened


class MixedTaskSampler(Sampler[int]):
    """Each row of each batch is of a task drawn with P(task) = |D|^exponent / sum |D|^exponent.

    BAM's sampling (exponent 0.75: large tasks lead, but less than by their size), with tasks mixed inside a batch.
    Exponent 1 is proportional, 0 uniform; exponent 1/T is sampling at temperature T (mT5's and XLM's). Inside a task
    rows come in shuffled rounds: in an epoch none is seen twice before all were seen once (with ``lengths``, give or
    take the ``POOL_BATCHES`` steps within which rows change places).

    An epoch has as many draws as there are rows in all tasks together. BAM's own code copies data sets instead, and
    hard-codes their sizes.

    Args:
        sizes: rows of every task.
        exponent: 0 to 1 usually; see above.
        seed: seed of the order.
        lengths: tokens of every row, to give a batch rows of similar length of each task: the model runs a batch task
            by task, so that padding is what differs inside one. Without them batches are random.
        batch_size: rows in one optimiser step, over all processes and accumulation steps; needed with ``lengths``.

    Raises:
        InputError: for sizes below 1, an exponent that is negative or too large to compute with, or lengths without a
            batch size.
    """

    def __init__(
        self,
        sizes: ArrayLike,
        exponent: float = BAM_EXPONENT,
        seed: int = 0,
        lengths: ArrayLike | None = None,
        batch_size: int | None = None,
    ):
        self.sizes = _check_sizes(sizes)
        self.lengths = None if lengths is None else np.asarray(lengths)
        if self.lengths is not None:
            check_whole("batch_size", batch_size, at_least=1)
        self.batch_size = batch_size
        if not exponent >= 0:
            raise InputError(f"the exponent of task sampling is {exponent}; give 0 (uniform) or more")
        with np.errstate(over="ignore"):
            weights = self.sizes.astype(np.float64) ** exponent
        if not np.isfinite(weights.sum()):
            raise InputError(
                f"the exponent of task sampling is {exponent}, too large for {self.sizes.tolist()} rows"
            )
        self.probabilities = weights / weights.sum()
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Select the order of this epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        tasks = random.choice(len(self.sizes), size=len(self), p=self.probabilities)
        counts = np.bincount(tasks, minlength=len(self.sizes))
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        order = np.empty(len(self), dtype=np.int64)
        for task, count in enumerate(counts):
            rounds = -(-count // self.sizes[task])
            drawn = [random.permutation(self.sizes[task]) for _ in range(rounds)]
            rows = starts[task] + (np.concatenate(drawn)[:count] if drawn else np.empty(0, dtype=np.int64))
            order[tasks == task] = self._group(rows, np.flatnonzero(tasks == task), random)
        yield from order.tolist()

    def _group(self, rows: np.ndarray, places: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """One task's rows for its places in the epoch, those of similar length in the places of one step."""
        if self.lengths is None or self.batch_size is None:
            return rows
        steps = places // self.batch_size
        grouped = np.empty_like(rows)
        for first in range(0, len(self) // self.batch_size + 1, POOL_BATCHES):
            pool = np.flatnonzero((steps >= first) & (steps < first + POOL_BATCHES))
            visited = random.permutation(POOL_BATCHES)[
                steps[pool] - first
            ]  # so that no epoch goes from long to short
            ordered = order_by_length(rows[pool], self.lengths)
            grouped[pool[np.argsort(visited, kind="stable")]] = ordered
        return grouped


class SingleTaskSampler(Sampler[int]):
    """Each batch is of one task, and an epoch visits every batch of every task once, in random order: MT-DNN's.

    Liu et al. 2019, arXiv 1901.11504, Algorithm 1: tasks are visited in proportion to their size. The last batch of a
    task is filled up with rows of the same task that were seen before, so that every batch is full and of one task
    whatever the number of processes that share it.

    Args:
        sizes: rows of every task.
        batch_size: rows in one optimiser step, over all processes and accumulation steps.
        seed: seed of the order.
        lengths: tokens of every row, to put rows of similar length into one batch; without them batches are random.

    Raises:
        InputError: for sizes below 1.
    """

    def __init__(self, sizes: ArrayLike, batch_size: int, seed: int = 0, lengths: ArrayLike | None = None):
        check_whole("batch_size", batch_size, at_least=1)
        self.sizes = _check_sizes(sizes)
        self.batch_size = batch_size
        self.seed = seed
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Select the order of this epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return int((-(-self.sizes // self.batch_size)).sum()) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        start, batches = 0, []
        for size in self.sizes:
            order = start + random.permutation(size)
            missing = -size % self.batch_size
            order = np.concatenate([order, np.resize(order, missing)])  # np.resize repeats a short task
            batches.append(self._group(order, random))
            start += size
        joined = np.concatenate(batches)
        yield from joined[random.permutation(len(joined))].ravel().tolist()

    def _group(self, order: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Rows of one task as batches: (batches, batch size)."""
        if self.lengths is None:
            return order.reshape(-1, self.batch_size)
        pool = POOL_BATCHES * self.batch_size
        parts = [order[start : start + pool] for start in range(0, len(order), pool)]
        grouped = [order_by_length(part, self.lengths) for part in parts]
        return np.concatenate(grouped).reshape(-1, self.batch_size)


def order_by_length(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Row numbers longest first, and all of them once before any comes again: copies of a row stay out of its batch.

    Args:
        rows: row numbers, some of them several times.
        lengths: tokens by row number.
    """
    by_row = np.argsort(rows, kind="stable")
    first = np.searchsorted(rows[by_row], rows[by_row])  # where each row's own run begins
    copies = np.empty(len(rows), dtype=np.int64)
    copies[by_row] = np.arange(len(rows)) - first
    return rows[np.lexsort((-lengths[rows], copies))]


def _check_sizes(sizes: ArrayLike) -> np.ndarray:
    checked = np.asarray(sizes, dtype=np.int64)
    if not checked.size or checked.min() < 1:
        raise InputError(f"the tasks have {checked.tolist()} rows; every task needs one or more")
    return checked
