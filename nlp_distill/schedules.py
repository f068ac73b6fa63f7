"""A weight or a temperature as a function of training progress.

A schedule is any callable from progress in [0, 1] (the share of optimiser steps done) to a float. Wherever an
objective takes a weight or a temperature it takes a plain number or a schedule.
"""

from collections.abc import Callable

Schedule = Callable[[float], float]


def linear(start: float, end: float) -> Schedule:
    """Move from ``start`` at the first step towards ``end``, a step short of it at the last: start + (end - start) *
    progress, of which the last of n steps sees (n - 1) / n.

    ``linear(0.0, 1.0)`` is BAM's teacher annealing of the label weight (Clark et al. 2019, section 3).

    Example:
        >>> linear(1.0, 0.0)(0.25)
        0.75
    """
    return lambda progress: start + (end - start) * progress


def value_at(value: float | Schedule, progress: float) -> float:
    """The value of a number or schedule at ``progress`` in [0, 1]."""
    return float(value(progress)) if callable(value) else float(value)
