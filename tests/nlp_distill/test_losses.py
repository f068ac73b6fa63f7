"""Masked losses against values worked out by hand, loops written from the papers' equations, and invariants."""

import math

import pytest
import torch

from nlp_distill.losses import (
    attention_distribution_loss,
    attention_score_loss,
    cosine_loss,
    hidden_state_loss,
    relation_loss,
    scale_scores,
    split_heads_again,
)

LENGTHS = [5, 3, 1]
SEQ, HEADS, SIZE = 5, 4, 6


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_mask(lengths=LENGTHS, width=SEQ):
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


# ---- naive versions, written from the equations, one row and one number at a time ------------------------------------


def naive_attention_scores(student, teacher, lengths):
    """TinyBERT, equation 7: 1/h sum_i MSE(A_i^S, A_i^T), of each row's real tokens; mean over rows."""
    rows = []
    for own, other, length in zip(student.tolist(), teacher.tolist(), lengths, strict=True):
        heads = []
        for own_head, other_head in zip(own, other, strict=True):
            squares = [(own_head[i][j] - other_head[i][j]) ** 2 for i in range(length) for j in range(length)]
            heads.append(sum(squares) / length**2)
        rows.append(sum(heads) / len(heads))
    return sum(rows) / len(rows)


def naive_hidden_states(student, teacher, lengths):
    rows = []
    for own, other, length in zip(student.tolist(), teacher.tolist(), lengths, strict=True):
        squares = [(a - b) ** 2 for i in range(length) for a, b in zip(own[i], other[i], strict=True)]
        rows.append(sum(squares) / len(squares))
    return sum(rows) / len(rows)


def naive_softmax(values):
    exponentials = [math.exp(value - max(values)) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def naive_distributions(student, teacher, lengths):
    """MiniLM, equation 6: 1 / (A_h |x|) sum over heads and positions of KL(A_T || A_S)."""
    rows = []
    for own, other, length in zip(student.tolist(), teacher.tolist(), lengths, strict=True):
        total = 0.0
        for own_head, other_head in zip(own, other, strict=True):
            for i in range(length):
                p, q = naive_softmax(own_head[i][:length]), naive_softmax(other_head[i][:length])
                total += sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
        rows.append(total / (len(own) * length))
    return sum(rows) / len(rows)


def naive_relations(student, teacher, lengths, heads):
    """MiniLMv2, equation 5: vectors of all heads side by side, cut into relation heads, softmax(X X^T / sqrt(d_r))."""

    def scores(vectors):
        batch, _, seq, _ = vectors.shape
        joined = [[torch.cat(list(row[:, i])) for i in range(seq)] for row in vectors]
        size = len(joined[0][0]) // heads
        result = torch.empty(batch, heads, seq, seq)
        for b in range(batch):
            for head in range(heads):
                for i in range(seq):
                    for j in range(seq):
                        part = slice(head * size, (head + 1) * size)
                        result[b, head, i, j] = joined[b][i][part] @ joined[b][j][part] / math.sqrt(size)
        return result

    return naive_distributions(scores(student), scores(teacher), lengths)


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_attention_scores_equal_the_value_worked_out_by_hand():
    # One row of two real tokens and one of padding, two heads. Head 1 differs by 1, 2, 3, 4 on the real pairs:
    # (1 + 4 + 9 + 16) / 4 = 7.5; head 2 agrees; (7.5 + 0) / 2 = 3.75. The 100s belong to padding.
    teacher = torch.zeros(1, 2, 3, 3)
    student = torch.full((1, 2, 3, 3), 100.0)
    student[0, 0, :2, :2] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    student[0, 1, :2, :2] = 0.0
    assert attention_score_loss(student, teacher, make_mask([2], 3)).item() == pytest.approx(3.75)


def test_hidden_states_equal_the_value_worked_out_by_hand():
    # Row 1, two real tokens of width 2: (1 + 4 + 9 + 16) / 4 = 7.5. Row 2, one: (0 + 4) / 2 = 2. Mean 4.75.
    student = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 2.0], [50.0, 50.0]]])
    loss = hidden_state_loss(student, torch.zeros(2, 2, 2), make_mask([2, 1], 2))
    assert loss.item() == pytest.approx(4.75)


def test_distributions_equal_the_value_worked_out_by_hand():
    # Student (1/2, 1/2) and teacher (3/4, 1/4) for both queries: KL = 0.130812 nats, as its mean over them.
    student = torch.zeros(1, 1, 2, 2)
    teacher = torch.tensor([[[[math.log(3.0), 0.0], [math.log(3.0), 0.0]]]])
    loss = attention_distribution_loss(student, teacher, make_mask([2], 2))
    assert loss.item() == pytest.approx(0.130812, abs=1e-6)


def test_cosine_equals_the_value_worked_out_by_hand():
    # Same direction 0, right angle 1, opposite 2: mean 1. A fourth token is padding.
    student = torch.tensor([[[2.0, 0.0], [1.0, 0.0], [1.0, 1.0], [9.0, 1.0]]])
    teacher = torch.tensor([[[5.0, 0.0], [0.0, 3.0], [-2.0, -2.0], [1.0, 2.0]]])
    assert cosine_loss(student, teacher, make_mask([3], 4)).item() == pytest.approx(1.0)


def test_scores_are_scaled_by_the_root_of_the_head_size():
    queries, keys = draw(2, 3, 4, 9), draw(2, 3, 4, 9, seed=1)
    expected = torch.einsum("bhid,bhjd->bhij", queries, keys) / 3
    torch.testing.assert_close(scale_scores(queries, keys), expected)


# ---- against the naive versions --------------------------------------------------------------------------------------


def test_attention_scores_equal_a_loop_over_the_equation():
    student, teacher = draw(3, HEADS, SEQ, SEQ), draw(3, HEADS, SEQ, SEQ, seed=1)
    expected = naive_attention_scores(student, teacher, LENGTHS)
    assert attention_score_loss(student, teacher, make_mask()).item() == pytest.approx(expected, rel=1e-5)


def test_hidden_states_equal_a_loop_over_the_equation():
    student, teacher = draw(3, SEQ, 7), draw(3, SEQ, 7, seed=1)
    expected = naive_hidden_states(student, teacher, LENGTHS)
    assert hidden_state_loss(student, teacher, make_mask()).item() == pytest.approx(expected, rel=1e-5)


def test_distributions_equal_a_loop_over_the_equation():
    student, teacher = draw(3, HEADS, SEQ, SEQ), draw(3, HEADS, SEQ, SEQ, seed=1)
    expected = naive_distributions(student, teacher, LENGTHS)
    loss = attention_distribution_loss(student, teacher, make_mask())
    assert loss.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("heads", [1, 2, 4, 12])
def test_relations_equal_a_loop_over_the_equation(heads):
    # Another number of heads and another width on either side.
    student, teacher = draw(3, 2, SEQ, 12), draw(3, HEADS, SEQ, 9, seed=1)
    expected = naive_relations(student, teacher, LENGTHS, heads)
    loss = relation_loss(student, teacher, make_mask(), heads)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_splitting_into_the_same_heads_changes_nothing():
    vectors = draw(2, HEADS, SEQ, SIZE)
    torch.testing.assert_close(split_heads_again(vectors, HEADS), vectors)


# ---- invariants ------------------------------------------------------------------------------------------------------

PAIRS = {
    attention_score_loss: (HEADS, SEQ, SEQ),
    attention_distribution_loss: (HEADS, SEQ, SEQ),
    hidden_state_loss: (SEQ, SIZE),
    cosine_loss: (SEQ, SIZE),
    lambda *args: relation_loss(*args, heads=2): (HEADS, SEQ, SIZE),
}
each_loss = pytest.mark.parametrize(
    ("loss", "shape"), PAIRS.items(), ids=lambda v: getattr(v, "__name__", "")
)


@each_loss
def test_equal_sides_give_zero(loss, shape):
    values = draw(3, *shape)
    assert loss(values, values, make_mask()).item() == pytest.approx(0.0, abs=1e-6)


@each_loss
def test_padding_contributes_nothing_to_loss_or_gradient(loss, shape):
    student, teacher, mask = draw(3, *shape), draw(3, *shape, seed=1), make_mask()
    clean = loss(student, teacher, mask)
    padded = ~mask.bool()
    real = (~padded).reshape(3, *[1] * (len(shape) - 2), SEQ, 1)
    if shape[-1] == SEQ:
        real = real & real.transpose(-1, -2)
    for rubbish in (1e4, -1e4):
        dirty = torch.where(real, student, torch.full_like(student, rubbish)).requires_grad_()
        torch.testing.assert_close(loss(dirty, teacher, mask), clean)
        (gradient,) = torch.autograd.grad(loss(dirty, teacher, mask), dirty)
        assert (gradient.masked_select(~real.expand_as(gradient)) == 0).all()
        assert gradient.masked_select(real.expand_as(gradient)).abs().sum() > 0


@each_loss
def test_wider_padding_changes_nothing(loss, shape):
    def widen(values):
        seq_axes = [axis for axis, size in enumerate(values.shape) if axis > 0 and size == SEQ]
        for axis in seq_axes:
            more = torch.full((*values.shape[:axis], 3, *values.shape[axis + 1 :]), 7.0)
            values = torch.cat([values, more], dim=axis)
        return values

    student, teacher = draw(3, *shape), draw(3, *shape, seed=1)
    wide = loss(widen(student), widen(teacher), make_mask(width=SEQ + 3))
    torch.testing.assert_close(wide, loss(student, teacher, make_mask()))


@each_loss
def test_a_batch_is_the_mean_of_its_rows(loss, shape):
    student, teacher, mask = draw(3, *shape), draw(3, *shape, seed=1), make_mask()
    rows = [loss(student[i : i + 1], teacher[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(loss(student, teacher, mask), torch.stack(rows).mean())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_teacher_in_half_precision_is_compared_in_the_students(dtype):
    student, teacher = draw(3, HEADS, SEQ, SEQ), draw(3, HEADS, SEQ, SEQ, seed=1).to(dtype)
    expected = attention_distribution_loss(student, teacher.float(), make_mask())
    found = attention_distribution_loss(student, teacher, make_mask())
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_single(dtype):
    """256 x 256 pairs, and the lowest float16 minus a maximum, are beyond float16."""
    ones, zeros, mask = torch.ones(1, 1, 256, 256), torch.zeros(1, 1, 256, 256), torch.ones(1, 256)
    assert attention_score_loss(ones.to(dtype), zeros.to(dtype), mask).item() == 1
    assert hidden_state_loss(300 * ones[0].to(dtype), zeros[0].to(dtype), mask).item() == pytest.approx(9e4)
    scores = torch.full((1, 1, 3, 3), 20.0)
    scores[0, 0, 0, 0] = 30
    same = scores.to(dtype)
    assert attention_distribution_loss(same, same, torch.tensor([[1, 1, 0]])).item() == 0
