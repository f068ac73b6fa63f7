"""Schedules: numbers as a function of training progress."""

import pytest

from nlp_distill.schedules import linear, value_at


@pytest.mark.parametrize(("progress", "value"), [(0.0, 4.0), (0.25, 3.25), (0.5, 2.5), (1.0, 1.0)])
def test_linear_moves_from_start_to_end_in_proportion_to_progress(progress, value):
    assert linear(4.0, 1.0)(progress) == pytest.approx(value)


def test_value_at_gives_a_number_at_every_progress_and_asks_a_schedule():
    assert value_at(0.3, 0.9) == 0.3
    assert value_at(lambda progress: progress**2, 0.5) == 0.25


def test_value_at_gives_a_plain_float_for_an_integer():
    assert isinstance(value_at(4, 0.0), float)
