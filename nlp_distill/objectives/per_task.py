"""An objective for each task of a multi-task model."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import ModelOutput, SequenceClassifierOutput

from nlp_distill.objectives.objective import Objective, check_weights


class PerTask(Objective):
    """The rows of each task under that task's own objective; the batch's loss is a mean over all its rows.

    A task with n of the batch's N rows weighs n / N, so that every row counts the same whatever the mixture. There is a
    term for each task, 0 where the batch holds none of its rows.

    Args:
        objectives: one for each task, in the order of ``task_ids``. They read logits only.
        num_labels: classes of each task, 0 for a regression (whose output has one column).
        names: of the tasks, and so of the terms.

    Raises:
        ValueError: for an objective that reads hidden states or attention, one whose weights are all 0, or lengths that
            differ.
    """

    def __init__(
        self, objectives: Sequence[Objective], num_labels: Sequence[int], names: Sequence[str] | None = None
    ):
        super().__init__()
        if len(objectives) != len(num_labels):
            raise ValueError(f"{len(objectives)} objectives for {len(num_labels)} tasks; give one for each")
        if needs := sorted(set().union(*(objective.needs for objective in objectives))):
            raise ValueError(f"an objective reads {', '.join(needs)}; a multi-task model returns logits only")
        self.objectives = torch.nn.ModuleList(objectives)
        self.num_labels = list(num_labels)
        self.names = [f"task_{number}" for number in range(len(num_labels))] if names is None else list(names)
        self.needs_teacher = any(objective.needs_teacher for objective in objectives)
        for name, objective in zip(self.names, objectives, strict=True):
            check_weights(objective, f"task {name}")

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        task_ids = batch["task_ids"]
        terms = {name: student_outputs["logits"].sum() * 0.0 for name in self.names}
        for task in task_ids.unique().tolist():
            rows = task_ids == task
            objective: Any = self.objectives[task]
            own = self._select(task, rows, student_outputs, teacher_outputs, batch)
            share = rows.sum() / len(rows)
            terms[self.names[task]] = share * sum(objective(*own, progress).values())
        return terms

    def _select(
        self,
        task: int,
        rows: Tensor,
        student: ModelOutput,
        teacher: ModelOutput | None,
        batch: Mapping[str, Any],
    ) -> tuple[ModelOutput, ModelOutput | None, dict[str, Tensor]]:
        """Outputs and labels of one task's rows, cut to its classes."""
        width, objective = max(self.num_labels[task], 1), self.objectives[task]
        own = SequenceClassifierOutput(logits=student["logits"][rows][:, :width])
        other = None
        if objective.needs_teacher and teacher is not None:
            other = SequenceClassifierOutput(logits=teacher["logits"][rows][..., :width])
        # Beside a regression class indices travel as floats; the objectives know by the logits what they are.
        picked = {"labels": batch["labels"][rows]} if "labels" in batch else {}
        return own, other, picked
