"""Render the result tables of the README from the files under ``scripts/results``.

    python scripts/render_results.py            # rewrite README.md between its markers
    python scripts/render_results.py --check    # exit 1 if README.md is not up to date

Every file is one trained model, ``scripts/results/<method>/<task>/<seed>.json``; a row of a table is one method on one
task, averaged over its seeds.
"""

import argparse
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: begin, rendered by scripts/render_results.py -->", "<!-- results: end -->"
ORDER = ("teacher", "bilstm_without_teacher", "bilstm_distilled")
TITLES = {
    "teacher": "teacher, fine-tuned",
    "bilstm_without_teacher": "BiLSTM, without the teacher",
    "bilstm_distilled": "BiLSTM, distilled",
}


def read_results(folder: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Result files as ``{task: {method: [one entry a seed]}}``, seeds in order."""
    tasks: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("*/*/*.json"), key=lambda path: (path.parts[:-1], int(path.stem))):
        entry = json.loads(path.read_text(encoding="utf-8"))
        tasks[entry["task"]][entry["method"]].append(entry)
    return tasks


def render_tables(tasks: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """One Markdown table a task, and below it the share of the gap that distillation closed."""
    return "\n\n".join(render_task(task, methods) for task, methods in sorted(tasks.items()))


def render_task(task: str, methods: dict[str, list[dict[str, Any]]]) -> str:
    """The table of one task."""
    metric = next(iter(next(iter(methods.values()))[0]["metrics"]))
    teacher = fmean(entry["score"] for entry in methods["teacher"]) if "teacher" in methods else None
    header = [
        "model",
        metric.replace("_", " "),
        "of the teacher's",
        "parameters",
        "not embeddings",
        "MB",
        "seeds",
    ]
    lines = [
        f"**{task}**{_describe_sample(methods)}",
        "",
        "| " + " | ".join(header) + " |",
        "|---|" + "---:|" * (len(header) - 1),
    ]
    names = [name for name in ORDER if name in methods] + sorted(set(methods) - set(ORDER))
    for name in names:
        entries = methods[name]
        scores = [entry["score"] for entry in entries]
        spread = f" ({100 * min(scores):.1f}–{100 * max(scores):.1f})" if len(scores) > 1 else ""
        cells = [
            TITLES.get(name, name) + _mark_selection(entries),
            f"{100 * fmean(scores):.1f}{spread}",
            f"{fmean(scores) / teacher:.1%}" if teacher else "",
            f"{entries[0]['parameters'] / 1e6:.2f} M",
            f"{entries[0]['parameters_without_embeddings'] / 1e6:.2f} M",
            f"{entries[0]['bytes'] / 1e6:.1f}",
            ", ".join(str(entry["seed"]) for entry in entries),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    without, student = (methods.get(f"bilstm_{arm}") for arm in ("without_teacher", "distilled"))
    if teacher and without and student:
        low, high = (fmean(entry["score"] for entry in entries) for entries in (without, student))
        if teacher > low:
            share = (high - low) / (teacher - low)
            lines += ["", f"Gap closed: (student − without) / (teacher − without) = {share:.0%}."]
    return "\n".join(lines)


def _describe_sample(methods: dict[str, list[dict[str, Any]]]) -> str:
    """Say where rows are a sample of the official ones: such scores are no official scores."""
    sources = [entry.get("data_source", "") for entries in methods.values() for entry in entries]
    found = [re.search(r"\([^)]*sample[^)]*\)", source) for source in sources]
    return next((f" {match[0]}" for match in found if match), "")


def _mark_selection(entries: list[dict[str, Any]]) -> str:
    """A mark for scores whose checkpoints were selected on the reported rows, as many papers do."""
    return (
        " (selected on the reported rows)"
        if any(entry.get("selected_on") == "dev" for entry in entries)
        else ""
    )


def replace_block(text: str, block: str) -> str:
    """``text`` with ``block`` between the markers."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"error: README.md lacks the markers {BEGIN} and {END}")
    inside = f"\n{block}\n\n" if block else ""
    return f"{before}{BEGIN}\n{inside}{END}{after}"


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if the README is out of date"
    )
    options = parser.parse_args()
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = replace_block(old, render_tables(read_results(ROOT / "scripts" / "results")))
    if options.check:
        print(
            "README.md is up to date"
            if new == old
            else "README.md is out of date; run scripts/render_results.py"
        )
        return int(new != old)
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
