"""Learning from the gold labels: the part of every mixture that needs no teacher."""

import torch
from torch import Tensor
from torch.nn import functional as F

from nlp_distill.objectives.objective import Objective, mean_over
from nlp_distill.schedules import Schedule, value_at

UNLABELLED = -100  # the label of a row without one, as in torch's cross-entropy; NaN in regression


class HardLabels(Objective):
    """weight * CE(y, z_S), or weight * (y - z_S)^2 for a regression (one logit, float labels).

    The mean runs over the labelled rows of the batch: a transfer set mixes rows with labels and rows without
    (label -100, or NaN in a regression). A batch without any labelled row contributes 0.

    Args:
        weight: a number, or a schedule over progress.
        name: name of the term in the logs.
    """

    needs_teacher = False

    def __init__(self, weight: float | Schedule = 1.0, name: str = "hard_labels"):
        super().__init__()
        self.weight = weight
        self.name = name

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        if "labels" not in batch:
            raise ValueError("HardLabels needs a 'labels' column in the batch; the rows have none")
        loss = hard_label_loss(student_outputs.logits, batch["labels"])
        return {self.name: value_at(self.weight, progress) * loss}


def hard_label_loss(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy (nats) or squared error over the labelled rows.

    Args:
        student_logits: (batch, classes); (batch, 1) for a regression; (batch, seq, classes) of a token classifier.
        labels: (batch,), class indices with -100 for "no label", or floats with NaN for "no label"; (batch, seq) class
            indices for tokens, all of which count alike.

    Returns:
        A scalar; 0 if no row has a label.
    """
    if labels.is_floating_point():
        labelled = ~torch.isnan(labels)
        # Masked before the square: the gradient of a NaN would be NaN even where its weight is 0.
        targets = torch.where(labelled, labels, torch.zeros_like(labels))
        return mean_over((student_logits.squeeze(-1) - targets).square(), labelled)
    if labels.dim() == 2:
        student_logits, labels = student_logits.flatten(0, 1), labels.flatten()
    losses = F.cross_entropy(student_logits, labels, reduction="none", ignore_index=UNLABELLED)
    return mean_over(losses, labels != UNLABELLED)
