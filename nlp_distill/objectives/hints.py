"""FitNets' hints: Romero et al. 2014, "FitNets: Hints for Thin Deep Nets", arXiv 1412.6550, section 2.2.

    L_hint = 1/2 ||u_T(x) - r(u_S(x))||^2                                   (equation 3)

where u_T is the output of a middle layer of the teacher (the hint), u_S that of a middle layer of the student (the
guided layer) and r a regressor from one width to the other, learnt with the student.

The paper trains the layers up to the guided one on the hint alone, then the whole student on soft targets: two
trainings, ``DistillationTrainer(objective=Hints(...))`` and one with ``SoftTargets`` on what came out. Later work adds
the two up, ``SoftTargets(4.0) + Hints(..., weight=0.5)``; a hint that weighs too much makes the student imitate the
layer and forget the task.

Deviations from the paper: the squared norm is a mean over real tokens and over dimensions instead of a sum, so that a
weight means the same for every length and width; the regressor is linear (the paper's are convolutions, of images),
and there is none where the widths agree.
"""

from torch import Tensor
from transformers import PreTrainedConfig

from nlp_distill.limits import check_whole
from nlp_distill.losses import hidden_state_loss, widen
from nlp_distill.objectives.objective import (
    Objective,
    check_same_tokens,
    check_transformers,
    make_projection,
    require_parts,
)
from nlp_distill.schedules import Schedule, value_at


class Hints(Objective):
    """weight * 1/2 * MSE(H_T^n, r(H_S^m)) over real tokens: term ``hint``. Several hints add under different names.

    Args:
        student: the student's config.
        teacher: the teacher's config.
        student_layer: m, the guided layer; 0 is the embeddings. Default the middle, rounded up (paper, section 3.1).
        teacher_layer: n, the hint layer. Default the middle, rounded up.
        weight: a number, or a schedule over progress.
        name: name of the term in the logs.

    Raises:
        InputError: for a layer that the model does not have; at a batch, for a teacher that reads other tokens.
    """

    needs = frozenset({"hidden_states"})

    def __init__(
        self,
        student: PreTrainedConfig,
        teacher: PreTrainedConfig,
        student_layer: int | None = None,
        teacher_layer: int | None = None,
        weight: float | Schedule = 1.0,
        name: str = "hint",
    ):
        super().__init__()
        check_transformers("Hints", student, teacher)
        self.name = name
        self.student_layer = -(-student.num_hidden_layers // 2) if student_layer is None else student_layer
        self.teacher_layer = -(-teacher.num_hidden_layers // 2) if teacher_layer is None else teacher_layer
        check_whole("student_layer", self.student_layer, at_least=0, at_most=student.num_hidden_layers)
        check_whole("teacher_layer", self.teacher_layer, at_least=0, at_most=teacher.num_hidden_layers)
        self.weight = weight
        self.regressor = make_projection(student.hidden_size, teacher.hidden_size, bias=True)

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        teacher = require_parts(teacher_outputs, self.needs, "Hints")
        check_same_tokens(batch, "Hints")
        guided = self.regressor(widen(student_outputs["hidden_states"][self.student_layer]))
        hint = teacher["hidden_states"][self.teacher_layer]
        loss = hidden_state_loss(guided, hint, batch["attention_mask"]) / 2
        return {self.name: value_at(self.weight, progress) * loss}
