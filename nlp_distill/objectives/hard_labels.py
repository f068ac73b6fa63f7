"""Learning from the gold labels: the part of every mixture that needs no teacher."""

import torch
from torch import Tensor
from torch.nn import functional as F

from data_augment.errors import InputError
from nlp_distill.objectives.objective import Objective, mean_over
from nlp_distill.schedules import Schedule, value_at

UNLABELLED = -100  # the label of a row without one, as in torch's cross-entropy; NaN in regression


def fit_labels(labels: Tensor, logits: Tensor) -> Tensor:
    """Labels of the type that the logits ask for: values for one logit a row, class indices for several.

    The type that they come in says little: where a class is missing, pandas makes floats of the indices (0.0, NaN), and
    ratings may be whole numbers.

    Args:
        labels: (batch,) or (batch, seq), -100 or NaN for "no label"; of a regression (batch, 1) too.
        logits: (batch, classes) or (batch, seq, classes).

    Returns:
        float with NaN where ``classes`` is 1, else int64 with -100.

    Raises:
        InputError: for values where there are classes, or several labels a row.
    """
    if labels.dim() == logits.dim():
        if logits.shape[-1] > 1:
            raise InputError(
                f"the labels are {tuple(labels.shape)} for logits {tuple(logits.shape)}, several a row; a row has one "
                "label here: its class"
            )
        labels = labels.squeeze(-1)
    if logits.shape[-1] == 1:
        wide = torch.promote_types(logits.dtype, torch.float32)  # half precision would round large values
        return labels if labels.is_floating_point() else _leave_out(labels.to(wide), labels)
    if not labels.is_floating_point():
        return labels
    indices = torch.where(torch.isnan(labels), UNLABELLED, labels)
    if not torch.equal(indices, indices.round()):
        raise InputError(
            f"the labels are values such as {labels[indices != indices.round()][0].item():g}, but the model has "
            f"{logits.shape[-1]} classes; give class indices, or a model with one label for a regression"
        )
    return indices.long()


def _leave_out(values: Tensor, labels: Tensor) -> Tensor:
    return values.masked_fill(labels == UNLABELLED, float("nan"))


class HardLabels(Objective):
    """weight * CE(y, z_S), or weight * (y - z_S)^2 for a regression (one logit).

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
        labels: (batch,), class indices with -100 for "no label", or values with NaN for "no label"; (batch, seq) class
            indices for tokens, all of which count alike.

    Returns:
        A scalar; 0 if no row has a label.

    Raises:
        InputError: for labels that are none of these, as :func:`fit_labels`.
    """
    labels = fit_labels(labels, student_logits)
    if labels.is_floating_point():
        labelled = ~torch.isnan(labels)
        # Masked before the square: the gradient of a NaN would be NaN even where its weight is 0.
        targets = torch.where(labelled, labels, torch.zeros_like(labels))
        return mean_over((student_logits.squeeze(-1) - targets).square(), labelled)
    if labels.dim() == 2:
        student_logits, labels = student_logits.flatten(0, 1), labels.flatten()
    losses = F.cross_entropy(student_logits, labels, reduction="none", ignore_index=UNLABELLED)
    return mean_over(losses, labels != UNLABELLED)
