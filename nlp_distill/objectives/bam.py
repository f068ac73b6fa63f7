"""Teacher annealing: Clark et al. 2019, "BAM! Born-Again Multi-Task Networks for Natural Language Understanding",
arXiv 1907.04829, section 3.

    target = lambda * onehot(y) + (1 - lambda) * softmax(z_T),   loss = CE(target, softmax(z_S))

with lambda from 0 to 1 as training goes on: early on the student imitates the teacher, at the end it learns from the
labels, so that it can become better than the teacher. A regression mixes the values and takes the squared error.
"""

import torch
from torch import Tensor

from nlp_distill.losses import widen
from nlp_distill.objectives.hard_labels import UNLABELLED, fit_labels
from nlp_distill.objectives.objective import Objective, check_same_classes, require_teacher_logits
from nlp_distill.schedules import Schedule, linear, value_at


class TeacherAnnealing(Objective):
    """weight * CE(lambda * onehot(y) + (1 - lambda) * Q, P), in nats, mean over rows.

    Its gradient is that of ``SoftTargets(weight=1 - lambda) + HardLabels(weight=lambda)``, of which it is the form in
    the paper. A row without a label keeps the teacher's target throughout. Several teachers: Q is the mean of their
    probabilities, for a regression of their values.

    Args:
        label_share: lambda, a number or a schedule over progress; the paper's is ``linear(0, 1)``. A constant 0 is
            plain distillation, the paper's ablation.
        weight: a number, or a schedule over progress.
        name: name of the term in the logs.

    Example:
        >>> objective = TeacherAnnealing(linear(0.0, 1.0))
    """

    def __init__(
        self,
        label_share: float | Schedule | None = None,
        weight: float | Schedule = 1.0,
        name: str = "annealed",
    ):
        super().__init__()
        self.label_share = linear(0.0, 1.0) if label_share is None else label_share
        self.weight = weight
        self.name = name

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        if "labels" not in batch:
            raise ValueError("TeacherAnnealing needs a 'labels' column in the batch; the rows have none")
        teacher_logits = require_teacher_logits(teacher_outputs, "TeacherAnnealing")
        share = value_at(self.label_share, progress)
        loss = annealed_loss(student_outputs.logits, teacher_logits, batch["labels"], share)
        return {self.name: value_at(self.weight, progress) * loss}


def annealed_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, label_share: float
) -> Tensor:
    """Cross-entropy with, or squared error to, a target between teacher and label.

    Args:
        student_logits: (batch, classes); (batch, 1) for a regression.
        teacher_logits: (batch, classes) or (batch, teachers, classes).
        labels: (batch,), class indices with -100 for "no label", or values with NaN for "no label".
        label_share: lambda in [0, 1].

    Returns:
        A scalar.

    Raises:
        ValueError: for a share outside [0, 1], or different classes.
        InputError: for labels that do not fit the logits, as :func:`nlp_distill.objectives.hard_labels.fit_labels`.
    """
    if not 0 <= label_share <= 1:
        raise ValueError(
            f"the share of the labels is {label_share}; it must be between 0 (teacher) and 1 (labels)"
        )
    check_same_classes(student_logits, teacher_logits)
    student_logits, teacher_logits = widen(student_logits), widen(teacher_logits)
    has_several = teacher_logits.dim() == student_logits.dim() + 1
    labels = fit_labels(labels, student_logits)
    if labels.is_floating_point():
        values = teacher_logits.mean(dim=1) if has_several else teacher_logits
        target = mix_targets(values.squeeze(-1), labels, ~torch.isnan(labels), label_share)
        return (student_logits.squeeze(-1) - target).square().mean()
    teacher = torch.softmax(teacher_logits, dim=-1)
    teacher = teacher.mean(dim=1) if has_several else teacher
    labelled = labels != UNLABELLED
    indices = torch.where(labelled, labels, 0)
    gold = torch.nn.functional.one_hot(indices, student_logits.shape[-1]).to(teacher.dtype)
    target = mix_targets(teacher, gold, labelled[:, None], label_share)
    return -(target * torch.log_softmax(student_logits, dim=-1)).sum(dim=-1).mean()


def mix_targets(teacher: Tensor, gold: Tensor, labelled: Tensor, label_share: float) -> Tensor:
    """lambda * gold + (1 - lambda) * teacher where there is a label, the teacher elsewhere; all of one shape."""
    return torch.where(labelled, label_share * torch.nan_to_num(gold) + (1 - label_share) * teacher, teacher)
