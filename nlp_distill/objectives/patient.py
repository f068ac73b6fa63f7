"""Patient knowledge distillation: Sun et al. 2019, "Patient Knowledge Distillation for BERT Model Compression", arXiv
1908.09355, section 3.2.

    L_PT = sum over layers m || h_S^m / ||h_S^m|| - h_T^g(m) / ||h_T^g(m)|| ||^2      (equation 7)

of the ``[CLS]`` states h, mean over rows. The last layers take no part: they have the soft targets. The paper's
student learns from ``(1 - a) CE + a soft targets + beta L_PT``, that is
``HardLabels(1 - a) + SoftTargets(tau, weight=a) + PatientKD(..., weight=beta)``, with beta searched for each task.

Deviation from the paper: a student of another width gets a learnable projection a layer; the paper keeps the width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig

from data_augment.errors import InputError
from nlp_distill.layer_map import LayerMap, uniform
from nlp_distill.losses import widen
from nlp_distill.objectives.objective import (
    Objective,
    check_transformers,
    get_teacher_mask,
    make_projection,
    require_parts,
)
from nlp_distill.schedules import Schedule, value_at


def take_first(states: Tensor, mask: Tensor) -> Tensor:
    """The state of each row's first real token, ``[CLS]``, wherever padding stands: (batch, hidden).

    Args:
        states: (batch, seq, hidden).
        mask: (batch, seq), 1 for real tokens.
    """
    first = mask.to(torch.long).argmax(dim=1)
    return widen(states[torch.arange(len(states), device=states.device), first])


def patient_loss(student_states: Tensor, teacher_states: Tensor) -> Tensor:
    """Squared distance of the normalised vectors, mean over rows: a scalar in [0, 4].

    Args:
        student_states: (batch, hidden), already projected to the teacher's width.
        teacher_states: the same shape.
    """
    distance = F.normalize(student_states, dim=-1) - F.normalize(teacher_states, dim=-1)
    return distance.square().sum(dim=-1).mean()


class PatientKD(Objective):
    """weight * L_PT: term ``patient``.

    Args:
        student: the student's config.
        teacher: the teacher's config.
        layer_map: ``uniform`` is the paper's PKD-Skip, ``last`` its PKD-Last; the embeddings and the student's last
            layer are left out of either.
        weight: beta; a number, or a schedule over progress.
        name: name of the term in the logs.

    Raises:
        InputError: for a student of one layer, which has none but the last.
    """

    needs = frozenset({"hidden_states"})

    def __init__(
        self,
        student: PreTrainedConfig,
        teacher: PreTrainedConfig,
        layer_map: LayerMap = uniform,
        weight: float | Schedule = 1.0,
        name: str = "patient",
    ):
        super().__init__()
        check_transformers("PatientKD", student, teacher)
        self.name = name
        pairs = layer_map(student.num_hidden_layers, teacher.num_hidden_layers)
        self.pairs = [pair for pair in pairs if 0 < pair[0] < student.num_hidden_layers]
        if not self.pairs:
            raise InputError(
                f"PatientKD compares the layers between the embeddings and the last, and of the student's "
                f"{student.num_hidden_layers} none is in the layer map; give a deeper student or another map"
            )
        self.weight = weight
        widths = student.hidden_size, teacher.hidden_size
        self.projections = nn.ModuleList(make_projection(*widths) for _ in self.pairs)

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        teacher = require_parts(teacher_outputs, self.needs, "PatientKD")
        losses = [
            patient_loss(
                project(take_first(student_outputs["hidden_states"][own], batch["attention_mask"])),
                take_first(teacher["hidden_states"][other], get_teacher_mask(batch)),
            )
            for project, (own, other) in zip(self.projections, self.pairs, strict=True)
        ]
        return {self.name: value_at(self.weight, progress) * sum(losses[1:], losses[0])}
