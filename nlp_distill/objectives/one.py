"""ONE: Lan, Zhu and Gong 2018, "Knowledge Distillation by On-the-Fly Native Ensemble", arXiv 1806.04606, section 3.

    z_e = sum_i g_i z_i                                                              (the gate mixes the branches)
    L = sum_i CE(y, z_i) + CE(y, z_e) + T^2 sum_i KL(softmax(z_e / T) || softmax(z_i / T))

There is no teacher before the training: branches on a shared trunk learn from the labels, their gated ensemble is the
teacher of each of them, and all are trained at once. The student is a ``students.BranchedForSequenceClassification``;
in the end one branch is taken (the paper's ONE), or all of them (ONE-E).

The ensemble is a constant in the KL, as in the authors' code (loss/kl_loss.py in github.com/Lan1991Xu/ONE_NeurIPS2018):
the branches move towards it and it does not move towards them, so the gate learns from CE(y, z_e) alone. That code
raises the weight of the KL over the first 80 of 300 epochs as well, exp(-5 (1 - epoch / 80)^2) (Laine and Aila 2017),
which the paper's loss does not have: here a schedule does it, ``distillation=lambda p: math.exp(-5 * max(0, 1 - p * 300
/ 80) ** 2)``.

Deviations from the paper: rows without a label (-100) take part in the KL alone; and the gate's (see
``students.branches``).
"""

from torch import Tensor

from data_augment.errors import InputError
from nlp_distill.limits import check_positive
from nlp_distill.objectives.hard_labels import hard_label_loss
from nlp_distill.objectives.objective import PROGRESS, Objective
from nlp_distill.objectives.soft_targets import soft_target_loss
from nlp_distill.schedules import Schedule, value_at


class ONE(Objective):
    """weight * L: terms ``branches``, ``ensemble`` and ``distillation``, sums over branches of means over rows.

    Args:
        temperature: T > 0, of both sides; 3 as in the paper's section 4.
        distillation: of the KL beside the labels; a number, or a schedule over progress. 1 in the paper.
        weight: of everything; a number, or a schedule over progress.

    Raises:
        InputError: for a temperature that is not above 0, or a distillation below 0; at the first batch, for a student
            without branches, a regression, or rows without a column of labels.

    Example:
        >>> model = BranchedForSequenceClassification.from_classifier(bert)  # doctest: +SKIP
        >>> DistillationTrainer(model=model, objective=ONE(), ...).train()  # doctest: +SKIP
    """

    needs_teacher = False

    def __init__(
        self,
        temperature: float = 3.0,
        distillation: float | Schedule = 1.0,
        weight: float | Schedule = 1.0,
    ):
        super().__init__()
        check_positive("temperature", temperature)
        for value in (value_at(distillation, progress) for progress in PROGRESS):
            if not value >= 0:  # NaN as well
                raise InputError(
                    f"distillation is {value}; it must be 0 or more, or branches leave their ensemble"
                )
        self.temperature, self.distillation, self.weight = temperature, distillation, weight

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        ensemble, branches = student_outputs["logits"], student_outputs.get("branch_logits")
        if branches is None:
            raise InputError(
                "ONE trains a model with branches, and this student has none; give "
                "BranchedForSequenceClassification.from_classifier(student)"
            )
        if branches.shape[-1] < 2:
            raise InputError(
                "ONE needs two classes or more, and the student is a regression; use HardLabels for it"
            )
        if "labels" not in batch:
            raise InputError("ONE needs a 'labels' column in the batch; the rows have none")
        labels, target = batch["labels"], ensemble.detach()
        weight = value_at(self.weight, progress)
        weight_of_kl = weight * value_at(self.distillation, progress)
        own = branches.unbind(dim=1)
        gaps = [soft_target_loss(logits, target, self.temperature) for logits in own]
        return {
            "branches": weight * _add([hard_label_loss(logits, labels) for logits in own]),
            "ensemble": weight * hard_label_loss(ensemble, labels),
            "distillation": weight_of_kl * _add(gaps),
        }


def _add(losses: list[Tensor]) -> Tensor:
    return sum(losses[1:], losses[0])
