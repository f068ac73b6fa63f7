"""The page as Markdown."""

from collections.abc import Sequence

from nlp_distill.report.collect import Details, Run
from nlp_distill.results import render_model_table, render_results

ESCAPED = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>|#"})


def render_markdown(runs: Sequence[Run]) -> str:
    """The whole report; text that comes from data is escaped."""
    parts = []
    for run in runs:
        results, metric = run.results, str(run.results["metric"])
        if "retention" in results:
            page = render_results(results)
        else:  # of a fine-tuning, which has no student
            table = render_model_table(results["models"], metric)
            page = f"# {run.name}: {metric} on the test split\n\n{table}"
        parts.append(page.rstrip())
        if run.details:
            parts.append(render_details(run.details))
    return "\n\n".join(parts) + "\n"


def render_details(details: Details) -> str:
    """Per-class scores, confusion, and the rows where teacher and student disagree most."""
    lines = ["## By class", "", "| class | rows | teacher F1 | student F1 |", "|---|---:|---:|---:|"]
    for number, label in enumerate(details.labels):
        teacher, student = (details.per_class[side][number] for side in ("teacher", "student"))
        cells = [escape(label), str(student["rows"]), f"{teacher['f1']:.3f}", f"{student['f1']:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    for side in ("teacher", "student"):
        header = " | ".join(escape(label) for label in details.labels)
        lines += ["", f"What the {side} answers (columns) for each true class (rows):", ""]
        lines += [f"| | {header} |", "|---|" + "---:|" * len(details.labels)]
        for label, counts in zip(details.labels, details.confusion[side], strict=True):
            lines.append(f"| {escape(label)} | " + " | ".join(map(str, counts)) + " |")
    share = details.disagreements / details.rows
    lines += ["", "## Where they disagree", ""]
    lines.append(
        f"Teacher and student disagree on {details.disagreements} of {details.rows} rows ({share:.1%})."
    )
    if details.examples:
        lines += ["The surest of these:", "", "| text | label | teacher | student |", "|---|---|---|---|"]
    for example in details.examples:
        said = [f"{escape(answer)} ({sure:.0%})" for answer, sure in (example.teacher, example.student)]
        lines.append(f"| {escape(example.text)} | {escape(example.label)} | {said[0]} | {said[1]} |")
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text from data as plain text in a Markdown table."""
    return " ".join(text.translate(ESCAPED).split())
