"""Losses that TextBrewer 0.2.1 has too: equal where it computes the same thing, else how the two differ."""

import pytest
import torch

from nlp_distill.losses import attention_score_loss, cosine_loss, hidden_state_loss
from nlp_distill.objectives.flow import flow_matrix
from nlp_distill.objectives.logit_regression import logit_regression_loss
from nlp_distill.objectives.patient import patient_loss
from nlp_distill.objectives.soft_targets import soft_target_loss

losses = pytest.importorskip(
    "textbrewer.losses", reason="textbrewer is not installed (it is in the test extra)"
)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


SCORES = (draw(3, 4, 5, 5), draw(3, 4, 5, 5, seed=1))
STATES = (draw(3, 5, 6), draw(3, 5, 6, seed=1))
FULL, RAGGED = torch.ones(3, 5), (torch.arange(5) < torch.tensor([5, 3, 1])[:, None]).float()


def test_attention_scores_of_rows_of_one_length_are_the_same():
    mask = (torch.arange(5) < 3).float().expand(3, 5)
    for same in (FULL, mask):
        torch.testing.assert_close(attention_score_loss(*SCORES, same), losses.att_mse_loss(*SCORES, same))


def test_hidden_states_of_rows_of_one_length_are_the_same():
    torch.testing.assert_close(hidden_state_loss(*STATES, FULL), losses.hid_mse_loss(*STATES, FULL))
    torch.testing.assert_close(cosine_loss(*STATES, FULL), losses.cos_loss(*STATES, FULL))


@pytest.mark.parametrize(
    ("ours", "theirs", "sides", "weigh"),
    [
        (attention_score_loss, losses.att_mse_loss, SCORES, lambda lengths: lengths.square()),
        (hidden_state_loss, losses.hid_mse_loss, STATES, lambda lengths: lengths),
        (cosine_loss, losses.cos_loss, STATES, lambda lengths: lengths),
    ],
)
def test_rows_of_different_lengths_count_alike_here_and_by_their_tokens_there(ours, theirs, sides, weigh):
    """Their mean runs over the tokens (for attention: pairs of tokens) of the batch, ours over rows of such means."""
    rows = torch.stack([ours(*(side[i : i + 1] for side in sides), RAGGED[i : i + 1]) for i in range(3)])
    weights = weigh(RAGGED.sum(1))
    torch.testing.assert_close(ours(*sides, RAGGED), rows.mean())
    torch.testing.assert_close(theirs(*sides, RAGGED), (rows * weights).sum() / weights.sum())
    assert not torch.isclose(ours(*sides, RAGGED), theirs(*sides, RAGGED))


def test_without_a_mask_it_sets_scores_up_to_a_thousandth_below_zero_to_zero_real_ones_included():
    student, teacher = (
        -side.abs() - 0.1 for side in SCORES
    )  # all of them negative, as real scores often are
    assert losses.att_mse_loss(student, teacher).item() == 0.0
    assert attention_score_loss(student, teacher, FULL).item() > 0.1


def test_without_a_mask_it_divides_by_padding_too():
    student, teacher = (side.abs() for side in SCORES)  # none below zero
    padded = [
        torch.nn.functional.pad(side, (0, 5, 0, 5)) for side in (student, teacher)
    ]  # as zeros on both sides
    mask = torch.nn.functional.pad(FULL, (0, 5))
    torch.testing.assert_close(losses.att_mse_loss(*padded) * 4, losses.att_mse_loss(student, teacher))
    torch.testing.assert_close(
        attention_score_loss(*padded, mask), attention_score_loss(student, teacher, FULL)
    )


def test_soft_cross_entropy_is_the_divergence_and_the_teachers_entropy():
    """And tau^2 is left to its caller."""
    student, teacher = draw(4, 3), draw(4, 3, seed=1)
    probabilities = torch.softmax(teacher / 2, -1)
    entropy = -(probabilities * probabilities.log()).sum(-1).mean()
    divergence = soft_target_loss(student, teacher, 2.0) / 4
    torch.testing.assert_close(losses.kd_ce_loss(student, teacher, 2.0), divergence + entropy)


def test_its_logit_regression_divides_by_the_number_of_classes():
    student, teacher = draw(4, 3), draw(4, 3, seed=1)
    torch.testing.assert_close(
        losses.kd_mse_loss(student, teacher) * 3, logit_regression_loss(student, teacher)
    )


def test_patient_and_flow_losses_are_the_same_on_rows_of_one_length():
    student, teacher = STATES
    torch.testing.assert_close(patient_loss(student[:, 0], teacher[:, 0]), losses.pkd_loss(student, teacher))
    more = (draw(3, 5, 6, seed=2), draw(3, 5, 6, seed=3))
    ours = (flow_matrix(student, more[0], FULL) - flow_matrix(teacher, more[1], FULL)).square().mean()
    torch.testing.assert_close(ours, losses.fsp_loss([student, more[0]], [teacher, more[1]]))


def test_flow_of_ragged_rows_is_the_same():
    student, teacher = STATES
    ours = (flow_matrix(student, student, RAGGED) - flow_matrix(teacher, teacher, RAGGED)).square().mean()
    torch.testing.assert_close(ours, losses.fsp_loss([student, student], [teacher, teacher], RAGGED))
