"""Relations between the rows of a batch instead of the rows: Park et al. 2019, "Relational Knowledge Distillation",
arXiv 1904.05068, section 3.2.

    distance  psi_D(i, j) = ||v_i - v_j|| / mu,   mu the mean distance of the batch's pairs       (equations 5 and 6)
    angle     psi_A(i, j, k) = cos of the angle at v_j between v_i and v_k                        (equation 8)
    L_D = sum over pairs of Huber(psi_D^T, psi_D^S),  L_A = sum over triplets of Huber(psi_A^T, psi_A^S)

It needs neither equal widths nor a projection. v is the mean of a row's token states in one layer, or its logits: those
every student has, and cached teacher logits are enough.

Deviations: L_D and L_A are means over pairs and triplets of different rows instead of sums, so that a weight does not
depend on the batch size. Both look across the rows of a micro-batch, so that 4 x 1 accumulated rows are not 2 x 2: give
batches of dozens of rows. A batch of too few rows for a relation gives 0.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from data_augment.errors import InputError
from nlp_distill.losses import widen
from nlp_distill.objectives.objective import Objective, represent_rows
from nlp_distill.schedules import Schedule, value_at

SMALLEST = 1e-12  # squared distance: the gradient of the root at 0, between equal rows, is not finite


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss (delta 1) of the pairwise distances divided by their mean, mean over pairs of different rows.

    Args:
        student: (batch, any width).
        teacher: (batch, any width).
    """
    own, other = _relative_distances(student), _relative_distances(teacher)
    return F.smooth_l1_loss(own, other) if own.numel() else student.sum() * 0.0


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss (delta 1) of the cosines of the angles in all triplets of different rows, mean over triplets.

    Args:
        student: (batch, any width).
        teacher: (batch, any width).
    """
    own, other = _cosines(student), _cosines(teacher)
    return F.smooth_l1_loss(own, other) if own.numel() else student.sum() * 0.0


def _relative_distances(rows: Tensor) -> Tensor:
    """Distances of all pairs of different rows over their mean: (pairs,)."""
    rows = widen(rows)
    first, second = torch.triu_indices(len(rows), len(rows), offset=1)
    distances = (rows[first] - rows[second]).square().sum(dim=-1).clamp(min=SMALLEST).sqrt()
    return distances / distances.mean() if len(distances) else distances


def _cosines(rows: Tensor) -> Tensor:
    """cos of the angle at j between i and k, for all triplets of different rows with i < k: (triplets,)."""
    rows = widen(rows)
    differences = rows[:, None] - rows[None, :]  # (i, j, width): from j to i
    lengths = differences.square().sum(dim=-1, keepdim=True).clamp(min=SMALLEST).sqrt()
    unit = (differences / lengths).transpose(0, 1)  # (j, i, width)
    cosines = unit @ unit.transpose(1, 2)  # (j, i, k)
    others = ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    ordered = torch.ones_like(others).triu(1)  # i < k
    return cosines[others[:, :, None] & others[:, None, :] & ordered]


class RelationalKD(Objective):
    """weight * (distance * L_D + angle * L_A): terms ``distance`` and ``angle``, those that have a weight.

    For several pairs of layers, or layers and logits, add objectives of different names.

    Args:
        layers: (student layer, teacher layer) whose states are compared, 0 the embeddings, negative from the end;
            ``None`` compares logits.
        distance: weight of L_D.
        angle: weight of L_A; twice that of the distances as in the paper's section 4.1.
        weight: of both; a number, or a schedule over progress.
        names: of the two terms in the logs.

    Raises:
        InputError: if neither distances nor angles have a weight.
    """

    def __init__(
        self,
        layers: tuple[int, int] | None = (-1, -1),
        distance: float = 1.0,
        angle: float = 2.0,
        weight: float | Schedule = 1.0,
        names: tuple[str, str] = ("distance", "angle"),
    ):
        super().__init__()
        if not distance and not angle:
            raise InputError("distance and angle weigh 0, so nothing is learnt; give one a weight")
        self.layers, self.weight = layers, weight
        self.distance, self.angle = distance, angle
        self.names = names
        self.needs = frozenset() if layers is None else frozenset({"hidden_states"})

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        own, other = represent_rows(self.layers, student_outputs, teacher_outputs, batch, "RelationalKD")
        weight = value_at(self.weight, progress)
        terms = zip(self.names, (self.distance, self.angle), (distance_loss, angle_loss), strict=True)
        return {name: weight * factor * loss(own, other) for name, factor, loss in terms if factor}
