"""Several tasks at once: their rows, and how they become tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from data_augment.errors import InputError
from nlp_distill.encoding import EncodedRows, encode_rows
from nlp_distill.hashes import hash_tokenizer
from nlp_distill.limits import check_whole
from nlp_distill.students import TaskHead
from nlp_distill.students.multitask import check_task_name
from nlp_distill.tasks import TaskData
from nlp_distill.training import MIN_LENGTH

NEVER_AVERAGED = frozenset({"wnli"})  # its dev set contradicts its train set; papers leave it out
# What the Trainer logs: a task of that name would write over it.
LOGGED = frozenset({"loss", "score", "learning_rate", "grad_norm", "epoch", "step"})


@dataclass(frozen=True)
class Suite:
    """Several tasks and how their rows become tokens.

    Args:
        data: every task's rows, by name.
        tokenizer: of the shared encoder.
        max_length: tokens a row.
        doubled: pair tasks whose order means nothing, learnt in both orders (BAM, section 4.1).
        trust_remote_code: run code that comes with encoders and teachers.

    Raises:
        InputError: for no task, a name that no task can have, a doubled task that has no pairs, or a task without rows
            to select on.
    """

    data: Mapping[str, TaskData]
    tokenizer: Any
    max_length: int = 128
    doubled: frozenset[str] = frozenset()
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not self.data:
            raise InputError("there are no tasks; give one or more")
        check_whole("max_length", self.max_length, at_least=MIN_LENGTH)
        for name, data in self.data.items():
            check_task_name(name)
            if name in LOGGED:
                raise InputError(f"a task cannot be called {name}, which training logs; give it another name")
            if not len(data.validation):
                raise InputError(f"task {name} has no rows to select on; give it a validation split")
        for name in sorted(self.doubled):
            if name not in self.data:
                raise InputError(
                    f"task {name} is to be doubled, but is none here; give any of {', '.join(self.data)}"
                )
            if not self.data[name].task.is_pair:
                raise InputError(
                    f"task {name} has one text a row, so there is nothing to swap; do not double it"
                )

    @property
    def code(self) -> dict[str, bool]:
        """What loading a model is told."""
        return {"trust_remote_code": self.trust_remote_code}

    @property
    def averaged(self) -> frozenset[str]:
        """Tasks whose scores count in an average: all but WNLI, unless it is alone."""
        return frozenset(set(self.data) - NEVER_AVERAGED or set(self.data))

    def list_train(self, name: str) -> Dataset:
        """The task's train rows, once more with the texts swapped where it is doubled."""
        data = self.data[name]
        if name not in self.doubled:
            return data.train
        first, second = data.task.text_columns
        swapped = data.train.rename_columns({first: second, second: first}).select_columns(
            data.train.column_names
        )
        return concatenate_datasets([data.train, swapped.cast(data.train.features)])

    def encode(self, name: str, rows: Dataset, logits: np.ndarray | None = None) -> EncodedRows:
        """Rows of a task as tokens, with teachers' outputs beside them."""
        columns = self.data[name].task.text_columns
        return encode_rows(rows, self.tokenizer, columns, self.max_length, logits)

    def make_head(self, name: str, head: str = "plain") -> TaskHead:
        """What the task needs of a model."""
        task = self.data[name].task
        return TaskHead(name, task.labels, task.is_pair, head)

    def describe(self, names: Sequence[str]) -> dict[str, Any]:
        """What a result depends on of these tasks, as plain values."""
        return {
            "data": {name: self.data[name].fingerprints() for name in names},
            "columns": {name: list(self.data[name].task.text_columns) for name in names},
            "doubled": sorted(self.doubled & set(names)),
            "max_length": self.max_length,
            "tokenizer": hash_tokenizer(self.tokenizer),
        }
