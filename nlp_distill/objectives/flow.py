"""The flow of the solution procedure: Yim et al. 2017, "A Gift from Knowledge Distillation: Fast Optimization, Network
Minimization and Transfer Learning", CVPR 2017, section 3.

    G(x) = F1^T F2 / positions                    (equation 1)
    L_FSP = mean over pairs of layers of ||G_T(x) - G_S(x)||^2      (equation 2)

F1 and F2 are what two layers put out, (positions, channels); for text the positions are the real tokens. G says how a
network goes from the one to the other, and is as large as their widths whatever the length.

Deviations from the paper: the squared norm is a mean over the entries of G, so that a weight does not depend on the
width; a narrower student's states are projected to the teacher's width, by one learnable matrix a layer (the paper's
nets have equal widths); and the two parts are one loss, where the paper trains on the flow first and the task then.
"""

import itertools

from torch import Tensor, nn
from transformers import PreTrainedConfig

from data_augment.errors import InputError
from nlp_distill.layer_map import LayerMap, uniform
from nlp_distill.losses import multiply_widely, widen
from nlp_distill.objectives.objective import (
    Objective,
    check_transformers,
    get_teacher_mask,
    make_projection,
    require_parts,
)
from nlp_distill.schedules import Schedule, value_at


def flow_matrix(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """G = F1^T F2 / real tokens, (batch, hidden 1, hidden 2).

    Args:
        first: (batch, seq, hidden 1).
        second: (batch, seq, hidden 2).
        mask: (batch, seq), 1 for real tokens.
    """
    first, second = widen(first), widen(second)
    real = mask.to(first.dtype)[..., None]
    mean = first * real / real.sum(dim=1, keepdim=True).clamp(min=1)
    return multiply_widely(mean.transpose(1, 2), second)


class Flow(Objective):
    """weight * MSE of the flow matrices between neighbouring layers of the layer map: term ``flow``.

    A student layer m - 1 -> m learns the teacher's way g(m - 1) -> g(m): with 3 layers of 6, from 0 to 2, 2 to 4, 4 to
    6.

    Args:
        student: the student's config.
        teacher: the teacher's config.
        layer_map: which layers; at least two pairs.
        weight: a number, or a schedule over progress.
        name: name of the term in the logs.

    Raises:
        InputError: for a layer map of fewer than two pairs.
    """

    needs = frozenset({"hidden_states"})

    def __init__(
        self,
        student: PreTrainedConfig,
        teacher: PreTrainedConfig,
        layer_map: LayerMap = uniform,
        weight: float | Schedule = 1.0,
        name: str = "flow",
    ):
        super().__init__()
        check_transformers("Flow", student, teacher)
        self.name = name
        self.pairs = layer_map(student.num_hidden_layers, teacher.num_hidden_layers)
        if len(self.pairs) < 2:
            raise InputError(
                f"a flow goes from one layer to another, and the layer map has {self.pairs} only; give two"
            )
        self.weight = weight
        widths = student.hidden_size, teacher.hidden_size
        self.projections = nn.ModuleList(make_projection(*widths) for _ in self.pairs)

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        teacher = require_parts(teacher_outputs, self.needs, "Flow")["hidden_states"]
        own = [
            project(widen(student_outputs["hidden_states"][layer]))
            for project, (layer, _) in zip(self.projections, self.pairs, strict=True)
        ]
        other = [teacher[layer] for _, layer in self.pairs]
        flows = [
            [flow_matrix(first, second, mask) for first, second in itertools.pairwise(states)]
            for states, mask in ((own, batch["attention_mask"]), (other, get_teacher_mask(batch)))
        ]
        losses = [(ours - theirs).square().mean() for ours, theirs in zip(*flows, strict=True)]
        return {self.name: value_at(self.weight, progress) * sum(losses[1:], losses[0]) / len(losses)}
