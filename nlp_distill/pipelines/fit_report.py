"""The report of ``nlp-distill fit``: every candidate beside the teacher, and the frontier."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.pipelines.fit_choice import find_frontier
from nlp_distill.results import describe_selection
from nlp_distill.stages import write_json, write_whole

REPORT, PAGE = "fit.json", "fit.md"


@dataclass(frozen=True)
class Row:
    """One model of the report.

    Args:
        name: the candidate's name; of the student without the teacher with that in words.
        status: ``over budget``, ``not tried``, ``distilled`` (it loses too much) or ``satisfies``; of the others
            ``teacher`` or ``for comparison``.
        p50_ms, p95_ms, mb, parameters: its cost.
        validation, test: its scores, where it was trained.
        drop: points that it loses to the teacher on validation.
        path: where it lies.
        on_frontier: no other model with a score is as fast and as good, and better in one.
    """

    name: str
    status: str
    p50_ms: float
    p95_ms: float
    mb: float
    parameters: int
    validation: float | None = None
    test: float | None = None
    drop: float | None = None
    path: str | None = None
    on_frontier: bool = False


def mark_frontier(rows: Sequence[Row]) -> list[Row]:
    """The rows, those that are beaten by none marked: by median latency and validation score."""
    scored = [row for row in rows if row.validation is not None]
    marks = find_frontier([(row.p50_ms, row.validation) for row in scored if row.validation is not None])
    marked = {row.name for row, mark in zip(scored, marks, strict=True) if mark}
    return [replace(row, on_frontier=row.name in marked) for row in rows]


def check_report_is_ours(folder: Path, overwrite: bool) -> None:
    """Refuse a folder whose ``fit.json`` or ``fit.md`` somebody else wrote.

    Raises:
        InputError: naming the file.
    """
    if overwrite:
        return
    try:
        content = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if isinstance(content, dict) and "budget" in content:
        return
    for path in (folder / REPORT, folder / PAGE):
        if path.exists():
            raise InputError(
                f"{path} exists and was not made by this command; choose another output, or --overwrite to replace it"
            )


def write_report(folder: Path, results: Mapping[str, Any]) -> None:
    """Write ``fit.json`` and ``fit.md``."""
    write_json(folder / REPORT, results)
    write_whole(folder / PAGE, render_report(results))


def render_report(results: Mapping[str, Any]) -> str:
    """The report as Markdown: the table, the choice, the frontier, and how it was found."""
    budget, conditions, rows = results["budget"], results["conditions"], results["rows"]
    size = "" if budget["max_mb"] is None else f", at most {budget['max_mb']:g} MB"
    lines = [
        f"# {results['task']}: a student that answers within {budget['latency_ms']:g} ms",
        "",
        f"Asked for: a median of at most {budget['latency_ms']:g} ms{size}, and at most {budget['max_drop']:g} points "
        f"of {results['metric']} below the teacher on validation.",
        "",
        "| model | p50 ms | p95 ms | MB | parameters | validation | drop | test | status | frontier |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|---|",
        *(_render_row(row) for row in rows),
        "",
    ]
    chosen = next((row for row in rows if row["name"] == results["chosen"]), None)
    if chosen:
        lines.append(
            f"- **{chosen['name']} satisfies both**: {chosen['p50_ms']:.2f} ms, {describe_drop(chosen['drop'])} on "
            f"validation. It lies in `{chosen['path']}`."
        )
    else:
        lines.append(f"- **None satisfies**: {results['refusal']}.")
    frontier = [f"{row['name']} ({row['p50_ms']:.2f} ms)" for row in rows if row["on_frontier"]]
    if frontier:
        lines.append(
            f"- The frontier, where no other scored model is as fast and as good: {', '.join(frontier)}."
        )
    selected_on = results["selected_on"]
    selection = "" if selected_on == "validation" else f", {describe_selection(selected_on)}"
    lines += [
        f"- Times: {conditions['repeats']} answers to a text of {conditions['measured_tokens']} tokens, one at a time, "
        f"from text to probabilities, on {conditions['threads']} thread(s), the models taking turns; candidates in "
        f"{conditions['runtime']} with untrained weights, the teacher in torch. The median decides.",
        f"- Candidates within the budget are distilled slowest first, at most {results['max_candidates']}; those of "
        "earlier runs are looked at before any is trained. Scores are of the form that ships.",
        f"- Validation decides: {results['data']['validation']['rows']:,} rows{selection}. Test is only reported: "
        f"{results['data']['test']['rows']:,} rows.",
    ]
    return "\n".join(lines) + "\n"


def describe_drop(drop: float) -> str:
    """Points below, or above, the teacher in words."""
    return f"{drop:.2f} points below the teacher" if drop >= 0 else f"{-drop:.2f} points above the teacher"


def _render_row(row: Mapping[str, Any]) -> str:
    score = {name: "" if row[name] is None else f"{row[name]:.4f}" for name in ("validation", "test")}
    cells = [
        row["name"],
        f"{row['p50_ms']:.2f}",
        f"{row['p95_ms']:.2f}",
        f"{row['mb']:.1f}",
        f"{row['parameters']:,}",
        score["validation"],
        "" if row["drop"] is None else f"{row['drop']:.2f}",
        score["test"],
        row["status"],
        "yes" if row["on_frontier"] else "",
    ]
    return "| " + " | ".join(cells) + " |"
