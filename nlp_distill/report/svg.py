"""Plots as inline SVG, drawn by hand: no script, no font and no network, and colours that follow the page's."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 440, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 44
Point = tuple[float, float, str, str]  # x, y, name, css class


def scatter(points: Sequence[Point], x_label: str, y_label: str) -> str:
    """Points on a logarithmic x axis with the frontier: what no other point beats in both."""
    xs, ys = [math.log10(point[0]) for point in points], [point[1] for point in points]
    x_range, y_range = _widen(xs), _widen(ys)
    parts = [_axes(x_range, y_range, x_label, y_label, is_log=True)]
    edge = find_frontier(points)
    if len(edge) > 1:
        path = " ".join(f"{_x(math.log10(x), x_range):.1f},{_y(y, y_range):.1f}" for x, y, *_ in edge)
        parts.append(f'<polyline class="frontier" points="{path}"/>')
    taken: list[float] = []
    for (_, y, name, kind), x in sorted(zip(points, xs, strict=True), key=lambda item: -item[0][1]):
        cx, cy = _x(x, x_range), _y(y, y_range)
        at = cy
        while any(abs(at - other) < 13 for other in taken):  # labels under each other, not over
            at += 4
        taken.append(at)
        side, shift = ("end", -8) if cx > WIDTH / 2 else ("start", 8)
        parts.append(f'<circle class="{kind}" cx="{cx:.1f}" cy="{cy:.1f}" r="5"/>')
        parts.append(
            f'<text x="{cx + shift:.1f}" y="{at + 4:.1f}" text-anchor="{side}">{escape(name)}</text>'
        )
    return _wrap(parts, f"{y_label} against {x_label}")


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str, highlight: str = ""
) -> str:
    """One line a series, the highlighted one in the student's colour; their names stand above."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    low, high = _widen(ys)
    head = 14 * len(series) + 8  # room for the names above the lines
    x_range, y_range = _widen(xs), (low, low + (high - low) / (1 - head / (HEIGHT - TOP - BOTTOM)))
    parts = [_axes(x_range, y_range, x_label, y_label)]
    others = iter((2, 3, 4, 0))
    for row, (name, points) in enumerate(series.items(), start=1):
        number = 1 if name == highlight else next(others, 2)
        path = " ".join(f"{_x(x, x_range):.1f},{_y(y, y_range):.1f}" for x, y in points)
        parts.append(f'<polyline class="line s{number}" points="{path}"/>')
        y = TOP + 14 * row
        parts.append(
            f'<line class="line s{number}" x1="{LEFT + 8}" x2="{LEFT + 26}" y1="{y - 4}" y2="{y - 4}"/>'
        )
        parts.append(f'<text x="{LEFT + 32}" y="{y}">{escape(name)}</text>')
    return _wrap(parts, f"{y_label} by {x_label}")


def calibration(sides: Mapping[str, Sequence[tuple[float, float, int]]]) -> str:
    """Accuracy against confidence; the diagonal is where they agree."""
    full = (0.0, 1.0)
    parts = [_axes(full, full, "confidence", "share that is right")]
    parts.append(
        f'<line class="diagonal" x1="{_x(0, full)}" y1="{_y(0, full)}" x2="{_x(1, full)}" y2="{_y(1, full)}"/>'
    )
    for number, (name, bins) in enumerate(sides.items()):
        path = " ".join(f"{_x(sure, full):.1f},{_y(right, full):.1f}" for sure, right, _ in bins)
        parts.append(f'<polyline class="line s{number}" points="{path}"/>')
        for sure, right, rows in bins:
            cx, cy = _x(sure, full), _y(right, full)
            parts.append(
                f'<circle class="s{number}" cx="{cx:.1f}" cy="{cy:.1f}" r="3"><title>{rows} rows</title></circle>'
            )
        y = TOP + 14 * (number + 1)
        parts.append(
            f'<line class="line s{number}" x1="{LEFT + 8}" x2="{LEFT + 26}" y1="{y - 4}" y2="{y - 4}"/>'
        )
        parts.append(f'<text x="{LEFT + 32}" y="{y}">{escape(name)}</text>')
    return _wrap(parts, "calibration")


def find_frontier(points: Sequence[Point]) -> list[Point]:
    """The points that none beats in both: cheaper to the left, better upwards; from left to right."""
    best, edge = -math.inf, []
    for point in sorted(points, key=lambda one: (one[0], -one[1])):
        if point[1] > best:
            best = point[1]
            edge.append(point)
    return edge


def find_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from ``low`` to ``high``, ``most`` at most: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** (math.floor(math.log10(high - low)) - 1)
    for step in (factor * power for factor in (1, 2, 5, 10, 20, 50)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def find_log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two powers of ten: 1, 2 and 5 of each decade; fewer where there are many decades."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    found: list[float] = []
    for digits in ((1, 2, 5), (1, 3), (1,)):
        marks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        found = [mark for mark in marks if low <= math.log10(mark) <= high]
        if len(found) <= most:
            break
    return found if len(found) > 2 else find_ticks(10**low, 10**high, most)


def _widen(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.1 * (high - low) or max(0.05 * abs(high), 0.01)
    return low - margin, high + margin


def _x(value: float, limits: tuple[float, float]) -> float:
    return LEFT + (value - limits[0]) / (limits[1] - limits[0]) * (WIDTH - LEFT - RIGHT)


def _y(value: float, limits: tuple[float, float]) -> float:
    return HEIGHT - BOTTOM - (value - limits[0]) / (limits[1] - limits[0]) * (HEIGHT - TOP - BOTTOM)


def _axes(
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_label: str,
    y_label: str,
    is_log: bool = False,
) -> str:
    parts = []
    for y in find_ticks(*y_range):
        at = _y(y, y_range)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in find_log_ticks(*x_range) if is_log else find_ticks(*x_range):
        at = _x(math.log10(x) if is_log else x, x_range)
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="label" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
    )
    side = f'x="14" y="{HEIGHT / 2}" transform="rotate(-90 14 {HEIGHT / 2})" text-anchor="middle"'
    parts.append(f'<text class="label" {side}>{escape(y_label)}</text>')
    return "".join(parts)


def _wrap(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
