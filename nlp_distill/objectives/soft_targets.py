"""Soft targets: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531."""

import torch
from torch import Tensor
from torch.nn import functional as F

from nlp_distill.losses import widen
from nlp_distill.objectives.objective import Objective, check_same_classes, require_teacher_logits
from nlp_distill.schedules import Schedule, value_at


class SoftTargets(Objective):
    """weight * tau^2 * KL(softmax(z_T / tau) || softmax(z_S / tau)), mean over rows (section 2 of the paper).

    The paper's mixture with labels is ``SoftTargets(tau, weight=1 - w) + HardLabels(weight=w)``. The factor tau^2
    keeps the gradient's scale when tau changes: the gradients of the soft targets shrink as 1 / tau^2. The sum runs
    over classes and the mean over rows only; dividing by the number of classes as well, as some public code does,
    makes the weight depend on the task.

    KL differs from the paper's cross-entropy by the teacher's entropy, which has no gradient, and is 0 when the
    student agrees with the teacher.

    Args:
        temperature: tau > 0, dimensionless, a number or a schedule. 1-20 in the paper; at inference it is 1.
        weight: a number, or a schedule over progress.
        name: name of the term in the logs.

    Raises:
        ValueError: for a temperature that is not positive, or for a regression (one logit has no distribution).
    """

    def __init__(
        self, temperature: float | Schedule = 1.0, weight: float | Schedule = 1.0, name: str = "soft_targets"
    ):
        super().__init__()
        self.temperature = temperature
        self.weight = weight
        self.name = name

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        teacher_logits = require_teacher_logits(teacher_outputs, "SoftTargets")
        temperature = value_at(self.temperature, progress)
        loss = soft_target_loss(student_outputs.logits, teacher_logits, temperature)
        return {self.name: value_at(self.weight, progress) * loss}


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """tau^2 * KL(Q || P) in nats, mean over rows, with P = softmax(z_S / tau) and Q the teacher's distribution.

    Several teachers: Q is the mean of their *probabilities*, not of their logits (Liu et al. 2019, arXiv
    1904.09482, section 3).

    Args:
        student_logits: (batch, classes).
        teacher_logits: (batch, classes) or (batch, teachers, classes).
        temperature: tau > 0.

    Returns:
        A scalar >= 0.
    """
    if temperature <= 0:
        raise ValueError(f"the temperature is {temperature}; it must be positive (1-20 in the paper)")
    if student_logits.shape[-1] < 2:
        raise ValueError("soft targets need two classes or more; for a regression use LogitRegression")
    check_same_classes(student_logits, teacher_logits)
    teacher_probabilities = torch.softmax(widen(teacher_logits) / temperature, dim=-1)
    if teacher_logits.dim() == student_logits.dim() + 1:
        teacher_probabilities = teacher_probabilities.mean(dim=-2)
    student_log_probabilities = torch.log_softmax(widen(student_logits) / temperature, dim=-1)
    return temperature**2 * F.kl_div(student_log_probabilities, teacher_probabilities, reduction="batchmean")
