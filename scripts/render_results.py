"""Render the result tables of the README from the files under ``scripts/results``.

    python scripts/render_results.py            # rewrite README.md between its markers
    python scripts/render_results.py --check    # exit 1 if README.md is not up to date

Every file is one trained model, ``scripts/results/<method>/<task>/<seed>.json``; a row of a table is one method on one
task, averaged over its seeds. ``scripts/comparisons/<task>.json`` is what ``scripts/compare_models.py`` measured;
``scripts/compressions/tweets.json`` is the ``compress.json`` of one run, ``scripts/fits/tweets.json`` the ``fit.json``.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from result_rows import Methods, Results, read_results
from table_of_several import is_multitask, render_multitask
from tables_by_student import FAMILIES, find_family, render_family
from tables_by_task import render_task

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: begin, rendered by scripts/render_results.py -->", "<!-- results: end -->"
COMPARE_BEGIN = "<!-- compare: begin, rendered by scripts/render_results.py -->"
COMPARE_END = "<!-- compare: end -->"
COMPRESS_BEGIN = "<!-- compress: begin, rendered by scripts/render_results.py -->"
COMPRESS_END = "<!-- compress: end -->"
FIT_BEGIN, FIT_END = "<!-- fit: begin, rendered by scripts/render_results.py -->", "<!-- fit: end -->"
ALL_KINDS = ("sst2",)  # tasks in whose own table small BERTs stand too, beside the other students


def render_tables(tasks: Results) -> str:
    """A table a task for the methods of one task; then a table a student with the tasks side by side."""
    own = {
        task: {
            method: entries
            for method, entries in methods.items()
            if (task in ALL_KINDS or find_family(method) is None) and not is_multitask(method)
        }
        for task, methods in tasks.items()
    }
    # A teacher alone says nothing that the tables side by side do not say.
    shown = {
        task: methods
        for task, methods in own.items()
        if methods and (set(methods) != {"teacher"} or len(tasks[task]) == 1)
    }
    compared = {task: methods for task, methods in tasks.items() if task not in ALL_KINDS}
    families = {find_family(method) for methods in compared.values() for method in methods} - {None}
    tables = [
        render_task(task, keep_teachers(methods), tasks[task].get("mt_dnn_kd", []))
        for task, methods in sorted(shown.items())
    ]
    tables += [
        render_family(family, _keep_family(family, compared)) for family in FAMILIES if family in families
    ]
    tables += [table] if (table := render_multitask(tasks)) else []
    return "\n\n".join(tables)


def keep_teachers(methods: Methods) -> Methods:
    """The methods of a table, without teachers from whom no student in it learnt.

    A teacher is known by the folder that its command made and a student's command names; where none is named, by a seed
    that some student has. All teachers stay where neither leaves one.
    """
    teachers = methods.get("teacher", [])
    students = [entry for name, entries in methods.items() if name != "teacher" for entry in entries]
    named = {_read_option(entry, "--teacher") for entry in students} - {None}
    seeds = {entry["seed"] for entry in students}
    kept = [entry for entry in teachers if _read_option(entry, "--output") in named]
    kept = kept or [entry for entry in teachers if entry["seed"] in seeds]
    return methods | {"teacher": kept} if kept else methods


def _read_option(entry: dict[str, Any], option: str) -> str | None:
    """The value of an option in the command that made a result; ``None`` where it has none."""
    words = shlex.split(entry.get("command", ""))
    return words[words.index(option) + 1] if option in words else None


def _keep_family(family: str, tasks: Results) -> Results:
    """The methods of one student and the teachers, by task."""
    return {
        task: keep_teachers(
            {name: own for name, own in methods.items() if name == "teacher" or find_family(name) == family}
        )
        for task, methods in tasks.items()
        if any(find_family(name) == family for name in methods)
    }


def render_comparisons(folder: Path) -> str:
    """A table a file of ``compare_models.py``: scores and price of models in several forms, from one run."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return "\n\n".join(render_comparison(report) for report in reports)


def render_comparison(report: dict[str, Any]) -> str:
    """One table, the form that a model runs in beside it."""
    metric = report["metric"].replace("_", " ")
    without = report.get("int8_instructions") is False
    kind = ", on a processor without int8 instructions (VNNI)" if without else ""
    lines = [
        f"**{report['task']}**, {report['tokens']} tokens, {report['threads']} thread{kind}",
        "",
        f"| model | runs in | {metric} | of the teacher's | ms, median | ms, p95 | faster | MB | smaller | frontier |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|:-:|",
    ]
    for row in report["rows"]:
        cells = [
            row["name"],
            row["runs_in"],
            f"{100 * row['score']:.1f}",
            "" if row["retention"] is None else f"{row['retention']:.1%}",
            f"{row['p50_ms']:.2f}",
            f"{row['p95_ms']:.2f}",
            f"{row['faster']:.1f}×",
            f"{row['mb']:.1f}",
            f"{row['smaller']:.1f}×",
            "●" if row["frontier"] else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def render_compression(path: Path) -> str:
    """The page of one run of ``nlp-distill compress`` as the command wrote it, its title left out."""
    from nlp_distill.pipelines.compress_report import render_compression as render

    page = render(json.loads(path.read_text(encoding="utf-8")))
    return page.partition("\n")[2].strip()


def render_fit(path: Path) -> str:
    """The page of one run of ``nlp-distill fit`` as the command wrote it, its title left out."""
    from nlp_distill.pipelines.fit_report import render_report

    page = render_report(json.loads(path.read_text(encoding="utf-8")))
    return page.partition("\n")[2].strip()


def replace_block(text: str, block: str, begin: str = BEGIN, end: str = END) -> str:
    """``text`` with ``block`` between the markers."""
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"error: README.md lacks the markers {begin} and {end}")
    inside = f"\n{block}\n\n" if block else ""
    return f"{before}{begin}\n{inside}{end}{after}"


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
    results = ROOT / "scripts" / "results"
    new = replace_block(old, render_tables(read_results(results)))
    if COMPARE_BEGIN in new:
        new = replace_block(
            new, render_comparisons(ROOT / "scripts" / "comparisons"), COMPARE_BEGIN, COMPARE_END
        )
    if COMPRESS_BEGIN in new:
        page = render_compression(ROOT / "scripts" / "compressions" / "tweets.json")
        new = replace_block(new, page, COMPRESS_BEGIN, COMPRESS_END)
    if FIT_BEGIN in new:
        new = replace_block(new, render_fit(ROOT / "scripts" / "fits" / "tweets.json"), FIT_BEGIN, FIT_END)
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
