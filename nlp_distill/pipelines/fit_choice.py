"""Which candidates are distilled, in what order, and which of them is taken: rules over measurements, no models."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from data_augment.errors import InputError
from nlp_distill.pipelines.fit_config import Budget


@dataclass(frozen=True)
class Measured:
    """What a candidate costs, which its weights do not change.

    Args:
        name: the candidate's name.
        p50_ms: median time of an answer.
        p95_ms: the time that one answer in twenty exceeds.
        mb: megabytes of its weights on disk.
        parameters: how many it has.
    """

    name: str
    p50_ms: float
    p95_ms: float
    mb: float
    parameters: int


def is_within(measured: Measured, budget: Budget) -> bool:
    """Whether a candidate meets the budget's latency (by its median) and size."""
    return measured.p50_ms <= budget.latency_ms and (budget.max_mb is None or measured.mb <= budget.max_mb)


def order_by_promise(measured: Sequence[Measured]) -> list[Measured]:
    """Slowest first, and of equally slow ones the largest: what computes more usually knows more."""
    return sorted(measured, key=lambda one: (-one.p50_ms, -one.parameters, one.name))


def explain_over_budget(measured: Sequence[Measured], budget: Budget) -> str | None:
    """One line that names the nearest candidate, where none meets latency and size; else ``None``."""
    if any(is_within(one, budget) for one in measured):
        return None
    fast = [one for one in measured if one.p50_ms <= budget.latency_ms]
    if not fast:
        nearest = min(measured, key=lambda one: one.p50_ms)
        needed = round_up(nearest.p50_ms)
        return (
            f"no candidate answers within {budget.latency_ms:g} ms; the fastest is {nearest.name} at {needed:g} ms; "
            f"give --latency-ms {needed:g} or more, or smaller --shapes"
        )
    nearest = min(fast, key=lambda one: one.mb)
    needed = round_up(nearest.mb)
    return (
        f"no candidate that answers within {budget.latency_ms:g} ms has at most {budget.max_mb:g} MB; the smallest of "
        f"them is {nearest.name} with {needed:g} MB; give --max-mb {needed:g} or more, or smaller --shapes"
    )


def try_candidates(
    order: Sequence[Measured],
    finished: Collection[str],
    compute_drop: Callable[[str], float],
    max_drop: float,
    at_most: int,
) -> dict[str, float]:
    """Distil candidates until one satisfies, and return the drop of each that was.

    Those that an earlier run distilled come first, all of them, for they cost nothing: a budget that was loosened
    trains nothing where one of them satisfies.

    Args:
        order: the candidates within the budget, most promising first.
        finished: names of those that were distilled before.
        compute_drop: distils a candidate, or finds it again, and returns the points that it loses.
        max_drop: points that it may lose.
        at_most: how many candidates may be distilled, those of earlier runs included.
    """
    drops = {one.name: compute_drop(one.name) for one in order if one.name in finished}
    for one in order:
        if choose(order, drops, max_drop) or len(drops) >= at_most:
            break
        if one.name not in drops:
            drops[one.name] = compute_drop(one.name)
    return drops


def choose(order: Sequence[Measured], drops: Mapping[str, float], max_drop: float) -> str | None:
    """The candidate that loses least of those that lose at most ``max_drop``, and of equals the fastest.

    Args:
        order: the candidates within the budget.
        drops: points that each loses, of those that were distilled.
        max_drop: points that it may lose.

    Returns:
        Its name, or ``None`` where none satisfies.
    """
    good = [one for one in order if one.name in drops and drops[one.name] <= max_drop]
    best = min(good, key=lambda one: (drops[one.name], one.p50_ms), default=None)
    return best.name if best else None


def explain_drops(order: Sequence[Measured], drops: Mapping[str, float], budget: Budget) -> str:
    """One line for a run in which every distilled candidate loses too much."""
    nearest = min(drops, key=lambda name: drops[name])
    needed = round_up(drops[nearest])
    said = (
        f"no distilled candidate stays within {budget.max_drop:g} points of the teacher; the nearest is {nearest}, "
        f"{needed:g} points below; give --max-drop {needed:g} or more, a larger --latency-ms, more epochs or more rows"
    )
    if left := len(order) - len(drops):
        said += f", or --max-candidates {len(order)} to try the {left} left"
    return said


def measure_drop(teacher_score: float, student_score: float) -> float:
    """Points (hundredths) that a student loses, free of the noise of subtracting floats."""
    return round(100 * (teacher_score - student_score), 6)


def round_up(value: float) -> float:
    """``value`` with two digits after the point, never below it: a number that can be asked for."""
    return math.ceil(round(value * 100, 6)) / 100


def find_frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of the points (cost, score) are beaten by none: no other is as cheap and as good, and better in one.

    Args:
        points: cost (less is better) and score (more is better) of each.

    Raises:
        InputError: for a number that is NaN, which beats nothing and is beaten by nothing.
    """
    if any(math.isnan(number) for point in points for number in point):
        raise InputError("a latency or a score is no number; measure again")
    # By rising cost, of equal costs the best first: a point is beaten by a better score of any point before it, or by
    # the same score at a lower cost.
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1]))
    best, cost_of_best = -math.inf, math.inf
    on_frontier = [False] * len(points)
    for index in order:
        cost, score = points[index]
        if score > best:
            best, cost_of_best = score, cost
            on_frontier[index] = True
        else:
            on_frontier[index] = score == best and cost == cost_of_best
    return on_frontier
