"""Similarity between the rows of a batch: Tung and Mori 2019, "Similarity-Preserving Knowledge Distillation", arXiv
1907.09682, section 3.1.

    G = Q Q^T with every row divided by its norm, Q the batch's vectors       (equations 1 and 2)
    L_SP = 1/b^2 ||G_T - G_S||_F^2                                            (equation 4)

It needs neither equal widths nor a projection. Q holds the mean of each row's token states in one layer, or its logits.
The loss looks across the rows of a micro-batch, so that 4 x 1 accumulated rows are not 2 x 2.

Deviation from the paper: one pair of layers, where the paper sums over several; objectives of different names add.
"""

from torch import Tensor
from torch.nn import functional as F

from nlp_distill.losses import multiply_widely
from nlp_distill.objectives.objective import Objective, represent_rows
from nlp_distill.schedules import Schedule, value_at


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1/b^2 ||G_T - G_S||_F^2 of the row-normalised similarity matrices of the batch.

    Args:
        student: (batch b, any width).
        teacher: (batch b, any width).
    """
    own, other = (F.normalize(multiply_widely(rows, rows.T), dim=1) for rows in (student, teacher))
    return (own - other).square().mean()


class SimilarityPreserving(Objective):
    """weight * L_SP: term ``similarity``.

    Args:
        layers: as in :class:`nlp_distill.objectives.RelationalKD`.
        weight: a number, or a schedule over progress.
        name: name of the term in the logs.
    """

    def __init__(
        self,
        layers: tuple[int, int] | None = (-1, -1),
        weight: float | Schedule = 1.0,
        name: str = "similarity",
    ):
        super().__init__()
        self.name = name
        self.layers, self.weight = layers, weight
        self.needs = frozenset() if layers is None else frozenset({"hidden_states"})

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        own, other = represent_rows(
            self.layers, student_outputs, teacher_outputs, batch, "SimilarityPreserving"
        )
        return {self.name: value_at(self.weight, progress) * similarity_loss(own, other)}
