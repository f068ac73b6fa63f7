"""Sobolev training: Czarnecki et al. 2017, "Sobolev Training for Neural Networks", arXiv 1706.04859, section 2.

    L = l(m(x), f(x)) + E_v ||D_x <m(x), v> - D_x <f(x), v>||^2,    v uniform on the unit sphere      (figure 1b)

The student m learns the teacher's f by its values and by its derivatives D_x with respect to the input. The Jacobian of
all outputs is too much to compute, so each row draws one direction v in the space of its logits and compares the
gradient of the logit in that direction, one more backward pass a side. This objective is the second term; l is
whichever objective stands beside it: ``SoftTargets() + Sobolev()``, ``LogitRegression() + Sobolev()``.

A text has no derivative, but its word embeddings e_t have, one a token. What is compared is, a token t,

    d/ds_t <z(s_1 e_1, s_2 e_2, ...), v> at s = 1  =  e_t . D_{e_t} <z, v>                  (``full=False``, default)

how much the logits change when the token is turned up: one number a token, which any two models have that read the same
tokens, whatever their widths and whatever a number in their embeddings stands for. ``full=True`` compares the whole
D_{e_t} <z, v>, as the paper does; that says something only where both sides' embeddings are of one width and mean the
same, a student that starts from its teacher's embeddings and keeps them, say.

Deviations from the paper: the derivative by a token's scale (above); the mean over a row's real tokens instead of the
sum, so that a weight means the same for every length; first derivatives only (K = 1).

Each v is drawn on the processor, row by row, from torch's global generator, which the trainer seeds and saves: a run
that is resumed draws what it would have drawn, and without dropout, which draws from there too, 4 x 1 accumulated rows
are 2 x 2. The biases of the last layer get no gradient from it: a derivative does not see them. The cost is a forward
and a backward pass of the teacher and about two backward passes of the student, with attention on the slower ``math``
kernel, since the fused ones cannot be differentiated twice; ``flash_attention_2`` cannot either: train with ``sdpa`` or
``eager``.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import ModelOutput

from data_augment.errors import InputError
from nlp_distill.internals import ATTACHED_LOGITS, INPUT_EMBEDDINGS
from nlp_distill.losses import hidden_state_loss
from nlp_distill.objectives.objective import Objective, check_same_classes, check_same_tokens, require_parts
from nlp_distill.schedules import Schedule, value_at


class Sobolev(Objective):
    """weight * squared distance of the derivatives, mean over real tokens and rows: term ``sobolev``.

    Args:
        full: compare the whole derivative by the embeddings, squares summed over their width, instead of the derivative
            by each token's scale.
        weight: a number, or a schedule over progress.

    Raises:
        InputError: at the first batch, for a teacher that reads other tokens, for embeddings of two widths where the
            whole derivative is compared, for models without a derivative by their words (BiLSTM, CNN), and for
            activation checkpointing with ``sdpa``.
        ValueError: without a teacher in the loop: cached logits have no derivative.

    Example:
        >>> SoftTargets(2.0) + Sobolev(weight=0.1)  # doctest: +SKIP
    """

    needs = frozenset({INPUT_EMBEDDINGS})

    def __init__(self, full: bool = False, weight: float | Schedule = 1.0):
        super().__init__()
        self.full, self.weight = full, weight

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        teacher_outputs = require_parts(teacher_outputs, self.needs, "Sobolev")
        self._check(student_outputs, teacher_outputs, batch)
        directions = draw_directions(*student_outputs[ATTACHED_LOGITS].shape).to(student_outputs["logits"])
        own = differentiate(student_outputs, directions, is_trained=True)
        other = differentiate(teacher_outputs, directions, is_trained=False)
        if not self.full:
            own = scale_derivative(student_outputs[INPUT_EMBEDDINGS], own)
            other = scale_derivative(teacher_outputs[INPUT_EMBEDDINGS].detach(), other)
        loss = hidden_state_loss(own, other, batch["attention_mask"]) * own.shape[-1]
        return {"sobolev": value_at(self.weight, progress) * loss}

    def _check(self, student: ModelOutput, teacher: ModelOutput, batch: Mapping[str, Any]) -> None:
        logits = student[ATTACHED_LOGITS]
        if logits.dim() != 2:
            raise InputError(
                f"the student's logits are {tuple(logits.shape)}; Sobolev compares classifiers of texts, whose logits "
                "are (batch, classes)"
            )
        check_same_classes(logits, teacher[ATTACHED_LOGITS])
        check_same_tokens(batch, "Sobolev")
        own, other = student[INPUT_EMBEDDINGS], teacher[INPUT_EMBEDDINGS]
        if self.full and own.shape[-1] != other.shape[-1]:
            raise InputError(
                f"full=True compares whole derivatives, but the student's word embeddings are {own.shape[-1]} wide and "
                f"the teacher's {other.shape[-1]}; leave it out, or take a student with the teacher's embeddings"
            )


def draw_directions(rows: int, classes: int) -> Tensor:
    """Uniform on the unit sphere, (rows, classes), drawn row by row so that a batch in two halves draws the same."""
    normal = torch.stack([torch.randn(classes) for _ in range(rows)])
    return normal / normal.norm(dim=-1, keepdim=True)


def differentiate(outputs: ModelOutput, directions: Tensor, is_trained: bool) -> Tensor:
    """D_e <z, v>: (batch, seq, embedding size).

    Args:
        outputs: with ``attached_logits`` z (batch, classes) and ``input_embeddings`` e (batch, seq, embedding size).
        directions: v, (batch, classes).
        is_trained: whether the derivative shall have a gradient itself, as the student's must.
    """
    [derivative] = torch.autograd.grad(
        outputs[ATTACHED_LOGITS],
        outputs[INPUT_EMBEDDINGS],
        directions.to(outputs[ATTACHED_LOGITS].dtype),
        create_graph=is_trained,
    )
    return derivative


def scale_derivative(embeddings: Tensor, derivative: Tensor) -> Tensor:
    """e_t . D_{e_t}, (batch, seq, 1), of embeddings and derivative, both (batch, seq, embedding size)."""
    return (embeddings * derivative).sum(dim=-1, keepdim=True)
