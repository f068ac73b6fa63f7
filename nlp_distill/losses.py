"""Masked formulas that several methods share. Masking and reduction live here, once.

Every loss is a mean over the rows of the batch of a mean over a row's **real** tokens: padding contributes nothing,
short rows count as much as long ones, and a step over 2 x 2 accumulated rows equals one over 4. Student first.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def widen(tensor: Tensor) -> Tensor:
    """Half precision as float32, in which squares and sums are taken: 256 squared is beyond float16."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def multiply_widely(first: Tensor, second: Tensor) -> Tensor:
    """A matrix product in float32 at least, also where mixed precision would make it one in half precision.

    For products that are compared themselves: of vectors with norms in the hundreds they are beyond float16.
    """
    with torch.autocast(first.device.type, enabled=False):
        return widen(first) @ widen(second)


def scale_scores(queries: Tensor, keys: Tensor) -> Tensor:
    """Attention scores before the softmax, Q K^T / sqrt(d) (Vaswani et al. 2017, section 3.2.1); no mask is added.

    Args:
        queries: (batch, heads, seq, head size d).
        keys: the same shape.

    Returns:
        (batch, heads, seq, seq).
    """
    return queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5


def attention_score_loss(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> Tensor:
    """1/h * sum over heads of MSE(A_S, A_T) on scores before the softmax: TinyBERT's L_attn (section 3.1, equation 7).

    The mean runs over the (query, key) pairs in which both tokens are real. TinyBERT's own code and TextBrewer instead
    set every score below a threshold (-100 and -1e-3) to zero on both sides, to get rid of the added mask, and divide
    by padded positions too: real negative scores are lost in the second, and the loss shrinks with padding in both.

    Args:
        student_scores: (batch, heads, seq, seq).
        teacher_scores: the same shape.
        mask: (batch, seq), 1 for real tokens.

    Returns:
        A scalar >= 0.
    """
    squares = (widen(student_scores) - widen(teacher_scores)).square().mean(dim=1)
    real = mask.to(squares.dtype)
    return _mean_over_rows(squares, real[:, :, None] * real[:, None, :])


def hidden_state_loss(student_states: Tensor, teacher_states: Tensor, mask: Tensor) -> Tensor:
    """MSE(H_S, H_T) over real tokens and dimensions: TinyBERT's L_hidn and L_embd (section 3.1, equations 8 and 9).

    Args:
        student_states: (batch, seq, hidden), already projected to the teacher's width.
        teacher_states: the same shape.
        mask: (batch, seq), 1 for real tokens.

    Returns:
        A scalar >= 0.
    """
    squares = (widen(student_states) - widen(teacher_states)).square().mean(dim=-1)
    return _mean_over_rows(squares, mask.to(squares.dtype))


def cosine_loss(student_states: Tensor, teacher_states: Tensor, mask: Tensor) -> Tensor:
    """1 - cos(H_S, H_T), mean over real tokens (DistilBERT: Sanh et al. 2019, section 2).

    Args:
        student_states: (batch, seq, hidden).
        teacher_states: the same shape.
        mask: (batch, seq), 1 for real tokens.

    Returns:
        A scalar in [0, 2].
    """
    distances = 1 - F.cosine_similarity(widen(student_states), widen(teacher_states), dim=-1)
    return _mean_over_rows(distances, mask.to(distances.dtype))


def attention_distribution_loss(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> Tensor:
    """KL(softmax(A_T) || softmax(A_S)) over real keys, mean over heads and real queries, in nats.

    MiniLM's L_AT when the scores are Q K^T / sqrt(d) and its L_VR when they are V V^T / sqrt(d) (Wang et al. 2020,
    arXiv 2002.10957, section 3.1 and 3.2).

    Args:
        student_scores: (batch, heads, seq, seq), no mask added.
        teacher_scores: the same shape.
        mask: (batch, seq), 1 for real tokens.

    Returns:
        A scalar >= 0.
    """
    padding = ~mask.bool()[:, None, None, :]
    student_scores, teacher_scores = widen(student_scores), widen(teacher_scores)
    # The most negative finite number, not -inf: the KL of padded queries would be NaN before it is masked.
    lowest = torch.finfo(student_scores.dtype).min
    student = torch.log_softmax(student_scores.masked_fill(padding, lowest), dim=-1)
    teacher = torch.log_softmax(teacher_scores.masked_fill(padding, lowest), dim=-1)
    divergence = (teacher.exp() * (teacher - student)).sum(dim=-1).mean(dim=1)
    return _mean_over_rows(divergence, mask.to(divergence.dtype))


def relation_loss(student_vectors: Tensor, teacher_vectors: Tensor, mask: Tensor, heads: int) -> Tensor:
    """KL of the relations softmax(X X^T / sqrt(d_r)) of teacher and student, for X the queries, keys or values.

    MiniLMv2 (Wang et al. 2021, arXiv 2012.15828, section 3.1): the heads are put together and split again into
    ``heads`` relation heads, so that the two sides need neither as many attention heads nor the same width.

    Args:
        student_vectors: (batch, student heads, seq, head size).
        teacher_vectors: (batch, teacher heads, seq, head size).
        mask: (batch, seq), 1 for real tokens.
        heads: relation heads; it must divide both widths.

    Returns:
        A scalar >= 0, in nats.
    """
    student, teacher = (split_heads_again(vectors, heads) for vectors in (student_vectors, teacher_vectors))
    return attention_distribution_loss(scale_scores(student, student), scale_scores(teacher, teacher), mask)


def split_heads_again(vectors: Tensor, heads: int) -> Tensor:
    """(batch, any heads, seq, size) -> (batch, heads, seq, width / heads): the same numbers, cut elsewhere."""
    return vectors.transpose(1, 2).flatten(2).unflatten(-1, (heads, -1)).transpose(1, 2)


def mean_of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of each row's real tokens: (batch, hidden) of states (batch, seq, hidden) and mask (batch, seq)."""
    states = widen(states)
    real = mask.to(states.dtype)[..., None]
    return (states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


def _mean_over_rows(values: Tensor, real: Tensor) -> Tensor:
    """Mean over rows of the mean over a row's real places; values and real: (batch, ...). Rows without any give 0."""
    sums = (values * real).flatten(1).sum(dim=1)
    return (sums / real.flatten(1).sum(dim=1).clamp(min=1)).mean()
