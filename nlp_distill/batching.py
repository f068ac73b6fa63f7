"""Batches without waste: rows of similar length together, in an order that survives a resume; and their collator."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from data_augment.errors import InputError
from nlp_distill.objectives.hard_labels import UNLABELLED
from nlp_distill.objectives.over_tokens import TOKEN_MASK

TEACHER_PREFIX = "teacher_"  # a column teacher_input_ids is the teacher's own encoding of the row
TEACHER_LOGITS = "teacher_logits"
TEACHER_STATES = "teacher_states"  # see nlp_distill.teacher_states
TASK_IDS = "task_ids"  # which task of a multi-task model a row belongs to
OF_TEACHER = frozenset({TEACHER_LOGITS, TEACHER_STATES})  # what the teacher said, not what it reads
POOL_BATCHES = 64  # batches are formed inside random pools of this many: enough to leave little padding


class LengthGroupedSampler(Sampler[int]):
    """Random order in which each batch holds rows of similar length.

    Each epoch the rows are shuffled, cut into pools of ``POOL_BATCHES`` batches, sorted by length inside the pool,
    and the batches are shuffled again, so that batch lengths come in no order. The order depends on ``seed`` and the
    epoch alone, never on the global random state: a run resumed in the middle of an epoch sees the same batches as
    one that was not interrupted, which the Trainer's own length-grouped sampler does not give.

    Args:
        lengths: length in tokens of every row.
        batch_size: rows in one optimiser step over all processes and accumulation steps, so that every process and
            micro-batch of a step gets rows of the same length, and so that the rows of a step do not depend on how
            many processes share it.
        seed: seed of the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int = 0):
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Select the order of this epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.lengths))
        pool_rows = POOL_BATCHES * self.batch_size
        pools = (order[start : start + pool_rows] for start in range(0, len(order), pool_rows))
        grouped = np.concatenate([pool[np.argsort(-self.lengths[pool], kind="stable")] for pool in pools])
        full, last = np.split(grouped, [len(grouped) - len(grouped) % self.batch_size])
        batches = full.reshape(-1, self.batch_size)
        yield from batches[random.permutation(len(batches))].ravel().tolist()
        yield from last.tolist()  # an incomplete batch comes last, as loaders expect


def plan_batches(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Indices of the rows of each batch: longest first, each batch at most ``batch_tokens`` padded tokens."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // max(int(lengths[order[start]]), 1))
        yield order[start : start + rows]
        start += rows


class DistillationCollator:
    """Pad a batch of encoded rows for the student, and for an online teacher that tokenises differently.

    Columns without a prefix are the student's encoding; columns that begin with ``teacher_`` (except
    ``teacher_logits``) are the teacher's. ``labels`` (or ``label``) may be ``None`` in unlabelled rows; a token
    classifier's are a list a row, as long as ``input_ids``, and ``token_mask`` may say which tokens count. The
    attention mask is made here from the lengths; where rows were padded before and carry their own, that one is kept.

    Args:
        tokenizer: the student's tokenizer; it says how to pad ``input_ids`` and what belongs to them.
        teacher_tokenizer: the teacher's, where rows carry the teacher's own encoding.
        pad_to_multiple_of: round padded lengths up to a multiple of this (8 suits GPUs with mixed precision).

    Raises:
        InputError: if a tokenizer has no padding token.
    """

    def __init__(self, tokenizer, teacher_tokenizer=None, pad_to_multiple_of: int = 1):
        for given in filter(None, (tokenizer, teacher_tokenizer)):
            if given.pad_token_id is None:
                raise InputError(
                    f"the tokenizer {given.name_or_path or type(given).__name__} has no padding token; "
                    "set one, for example tokenizer.pad_token = tokenizer.eos_token"
                )
        self.tokenizer = tokenizer
        self.teacher_tokenizer = teacher_tokenizer or tokenizer
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        rows = fill_token_labels(flatten_labels(rows))
        batch: dict[str, Any] = self._pad(rows, self.tokenizer, prefix="")
        if f"{TEACHER_PREFIX}input_ids" in rows[0]:
            batch |= self._pad(rows, self.teacher_tokenizer, prefix=TEACHER_PREFIX)
        if TEACHER_LOGITS in rows[0]:
            logits = np.asarray([row[TEACHER_LOGITS] for row in rows], dtype=np.float32)
            batch[TEACHER_LOGITS] = torch.from_numpy(logits)
        if TASK_IDS in rows[0]:
            batch[TASK_IDS] = torch.tensor([row[TASK_IDS] for row in rows])
        if TEACHER_STATES in rows[0]:
            batch[TEACHER_STATES] = collate_states(
                [row[TEACHER_STATES] for row in rows], batch["attention_mask"]
            )
        label_name = next((name for name in ("labels", "label") if name in rows[0]), None)
        if label_name and "labels" not in batch:  # else they are one a token, padded above
            batch["labels"] = collate_labels([row[label_name] for row in rows])
        return batch

    def _pad(self, rows: Sequence[Mapping[str, Any]], tokenizer, prefix: str) -> dict[str, Tensor]:
        if f"{prefix}input_ids" not in rows[0]:
            raise InputError(
                f"the rows have no {prefix}input_ids but {', '.join(rows[0]) or 'nothing'}; encode their texts first, "
                "with nlp_distill.encoding.encode_rows or the tokenizer"
            )
        lengths = np.array([len(row[f"{prefix}input_ids"]) for row in rows])
        width = max(int(-(-lengths.max() // self.pad_to_multiple_of)) * self.pad_to_multiple_of, 1)
        positions = np.arange(width)
        right = tokenizer.padding_side == "right"
        real = positions < lengths[:, None] if right else positions >= width - lengths[:, None]
        padding = {
            "input_ids": tokenizer.pad_token_id,
            "token_type_ids": tokenizer.pad_token_type_id,
            "attention_mask": 0,
            "labels": UNLABELLED,  # of a token classifier
            TOKEN_MASK: 0,
        }
        batch = {f"{prefix}attention_mask": torch.from_numpy(real.astype(np.int64))}
        for name, value in padding.items():
            if prefix + name in rows[0] and np.ndim(rows[0][prefix + name]):
                _check_lengths(prefix + name, rows, lengths)
                padded = np.full((len(rows), width), value, dtype=np.int64)
                padded[real] = np.concatenate([row[prefix + name] for row in rows])
                batch[prefix + name] = torch.from_numpy(padded)
        return batch


def _check_lengths(name: str, rows: Sequence[Mapping[str, Any]], lengths: np.ndarray) -> None:
    for row, length in zip(rows, lengths, strict=True):
        if len(row[name]) != length:
            raise InputError(
                f"a row has {length} tokens and {len(row[name])} {name}; they are one a token"
                + (", or one a row" if name == "labels" else "")
            )


def flatten_labels(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Rows whose label is a list of one, as scikit-learn's targets are, with the label itself."""
    # Of a single token, a list of one is a token's label.
    has_lists = all(np.shape(row.get("labels", ())) == (1,) and len(row["input_ids"]) > 1 for row in rows)
    return [{**row, "labels": row["labels"][0]} for row in rows] if has_lists else rows


def fill_token_labels(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Rows of a token classifier, those without labels with -100 at every token; any others as they are."""
    if not any(row.get("labels") is not None and np.ndim(row["labels"]) for row in rows):
        return rows
    return [
        {**row, "labels": [UNLABELLED] * len(row["input_ids"])} if row.get("labels") is None else row
        for row in rows
    ]


def collate_states(states: Sequence[Mapping[str, np.ndarray]], mask: Tensor) -> dict[str, Tensor]:
    """Pad the states of a batch's rows: {part: (batch, seq, ...)} float16, zeros where ``mask`` (batch, seq) is 0."""
    real = mask.bool().numpy()
    batch = {}
    for name in states[0]:
        flat = np.concatenate([row[name] for row in states])
        padded = np.zeros((*real.shape, *flat.shape[1:]), dtype=np.float16)
        padded[real] = flat
        batch[name] = torch.from_numpy(padded)
    return batch


def collate_labels(labels: Sequence[Any]) -> Tensor:
    """Labels as (batch,) int64, or float32 for a regression; ``None`` and a whole -100 become NaN among floats."""
    labels = [label.item() if hasattr(label, "item") else label for label in labels]  # of numpy, of torch
    if any(isinstance(label, float) for label in labels):
        missing = [label is None or (label == UNLABELLED and isinstance(label, int)) for label in labels]
        return torch.tensor(
            [float("nan" if none else label) for none, label in zip(missing, labels, strict=True)]
        )
    return torch.tensor([UNLABELLED if label is None else int(label) for label in labels])
