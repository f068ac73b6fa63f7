"""An objective for each task of a multi-task model."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import ModelOutput, SequenceClassifierOutput

from nlp_distill.objectives.hard_labels import UNLABELLED
from nlp_distill.objectives.objective import Objective


class PerTask(Objective):
    """The rows of each task under that task's own objective; the batch's loss is a mean over all its rows.

    A task with n of the batch's N rows weighs n / N, so that every row counts the same whatever the mixture. Terms of
    the same name add up over tasks.

    Args:
        objectives: one for each task, in the order of ``task_ids``. They read logits only.
        num_labels: classes of each task, 0 for a regression (whose output has one column).

    Raises:
        ValueError: for an objective that reads hidden states or attention, or lengths that differ.
    """

    def __init__(self, objectives: Sequence[Objective], num_labels: Sequence[int]):
        super().__init__()
        if len(objectives) != len(num_labels):
            raise ValueError(f"{len(objectives)} objectives for {len(num_labels)} tasks; give one for each")
        if needs := sorted(set().union(*(objective.needs for objective in objectives))):
            raise ValueError(f"an objective reads {', '.join(needs)}; a multi-task model returns logits only")
        self.objectives = torch.nn.ModuleList(objectives)
        self.num_labels = list(num_labels)
        self.needs_teacher = any(objective.needs_teacher for objective in objectives)

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        task_ids = batch["task_ids"]
        terms: dict[str, Tensor] = {}
        for task in task_ids.unique().tolist():
            rows = task_ids == task
            objective: Any = self.objectives[task]
            own = self._select(task, rows, student_outputs, teacher_outputs, batch)
            share = rows.sum() / len(rows)
            for name, value in objective(*own, progress).items():
                terms[name] = terms.get(name, 0.0) + share * value
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
        classes, objective = self.num_labels[task], self.objectives[task]
        width = max(classes, 1)
        own = SequenceClassifierOutput(logits=student["logits"][rows][:, :width])
        other = None
        if objective.needs_teacher and teacher is not None:
            other = SequenceClassifierOutput(logits=teacher["logits"][rows][..., :width])
        picked = {}
        if "labels" in batch:
            labels = batch["labels"][rows]
            if classes and labels.is_floating_point():  # beside a regression, class indices travel as floats
                labels = torch.where(torch.isnan(labels), float(UNLABELLED), labels).long()
            picked["labels"] = labels if classes else labels.float()
        return own, other, picked
