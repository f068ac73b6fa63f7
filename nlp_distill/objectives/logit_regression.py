"""Regression on the teacher's logits.

Ba and Caruana 2014, "Do Deep Nets Really Need to be Deep?", arXiv 1312.6184, section 2.3; Tang et al. 2019,
"Distilling Task-Specific Knowledge from BERT into Simple Neural Networks", arXiv 1903.12136, section 3.2.
"""

from torch import Tensor

from nlp_distill.objectives.objective import Objective, check_same_classes, require_teacher_logits
from nlp_distill.schedules import Schedule, value_at


class LogitRegression(Objective):
    """weight * ||z_T - z_S||^2, mean over rows: the squared distance of the logits, summed over classes.

    Tang et al. mix it with labels as L = alpha * CE(y, z_S) + (1 - alpha) * ||z_T - z_S||^2 and find alpha = 0 best,
    so it stands alone by default; the mixture is ``LogitRegression(1 - alpha) + HardLabels(alpha)``. For a
    regression task it is the squared error to the teacher's value. Several teachers: the target is the mean of
    their logits.

    Args:
        weight: a number, or a schedule over progress.
        name: name of the term in the logs.
    """

    def __init__(self, weight: float | Schedule = 1.0, name: str = "logit_regression"):
        super().__init__()
        self.weight = weight
        self.name = name

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        teacher_logits = require_teacher_logits(teacher_outputs, "LogitRegression")
        loss = logit_regression_loss(student_outputs.logits, teacher_logits)
        return {self.name: value_at(self.weight, progress) * loss}


def logit_regression_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """||z_T - z_S||^2, summed over classes, mean over rows.

    ``torch.nn.MSELoss``, which many copies use, divides by the number of classes as well; the paper's norm does not.

    Args:
        student_logits: (batch, classes).
        teacher_logits: (batch, classes) or (batch, teachers, classes).

    Returns:
        A scalar >= 0, in squared logits.
    """
    check_same_classes(student_logits, teacher_logits)
    if teacher_logits.dim() == student_logits.dim() + 1:
        teacher_logits = teacher_logits.mean(dim=-2)
    return (student_logits - teacher_logits).square().sum(dim=-1).mean()
