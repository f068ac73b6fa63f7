"""Render the tables of the README, and of those beside the result files, from the files under ``scripts``.

    python scripts/render_results.py            # rewrite the pages between their markers
    python scripts/render_results.py --check    # exit 1 if one is not up to date

Every file of ``scripts/results/<method>/<task>/<seed>.json`` is one trained model; a row of a table is one method on
one task, averaged over its seeds; those of ``scripts/results_longer`` are of the same methods with a larger budget, and
have tables of their own. ``scripts/comparisons/<task>.json`` is what ``scripts/compare_models.py`` measured;
``scripts/compressions/tweets.json`` is the ``compress.json`` of one run, ``scripts/fits/tweets.json`` the ``fit.json``.
The README has students beside their teachers and one comparison; ``scripts/results/README.md`` has all results, and
``scripts/comparisons/README.md`` all comparisons.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from result_rows import Results, keep_teachers, read_results
from table_at_a_glance import render_glance
from table_of_several import is_multitask, render_multitask
from tables_by_student import FAMILIES, find_family, keep_family, render_family
from tables_by_task import ALL_KINDS, render_task

ROOT = Path(__file__).resolve().parent.parent
SHOWN = "sst2.json"  # the comparison that the README has


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
        render_family(family, keep_family(family, compared)) for family in FAMILIES if family in families
    ]
    tables += [table] if (table := render_multitask(tasks)) else []
    return "\n\n".join(tables)


def render_longer(longer: Results, tasks: Results) -> str:
    """The students that trained longer, a table a kind, beside the teachers of ``tasks``; "" without any."""
    compared = {
        task: {**methods, "teacher": tasks[task]["teacher"]}
        for task, methods in longer.items()
        if task in tasks
    }
    families = {find_family(method) for methods in longer.values() for method in methods}
    tables = [
        render_family(family, keep_family(family, compared)) for family in FAMILIES if family in families
    ]
    tables += [table] if (table := render_multitask(compared)) else []
    return "\n\n".join(tables)


def render_comparisons(paths: Iterable[Path]) -> str:
    """A table a file of ``compare_models.py``: scores and price of models in several forms, from one run."""
    return "\n\n".join(render_comparison(json.loads(path.read_text(encoding="utf-8"))) for path in paths)


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


def mark(name: str) -> tuple[str, str]:
    """The markers of a block."""
    return f"<!-- {name}: begin, rendered by scripts/render_results.py -->", f"<!-- {name}: end -->"


def replace_block(text: str, name: str, block: str) -> str:
    """``text`` with ``block`` between the markers of that name."""
    begin, end = mark(name)
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"error: there are no markers {begin} and {end}")
    inside = f"\n{block}\n\n" if block else ""
    return f"{before}{begin}\n{inside}{end}{after}"


def render_pages(root: Path) -> dict[Path, str]:
    """Every page as it should be."""
    scripts = root / "scripts"
    tasks = read_results(scripts / "results")
    blocks = {
        root / "README.md": {
            "glance": render_glance(tasks),
            "compare": render_comparisons([scripts / "comparisons" / SHOWN]),
            "fit": render_fit(scripts / "fits" / "tweets.json"),
            "compress": render_compression(scripts / "compressions" / "tweets.json"),
        },
        scripts / "results" / "README.md": {
            "results": render_tables(tasks),
            "longer": render_longer(read_results(scripts / "results_longer"), tasks),
        },
        scripts / "comparisons" / "README.md": {
            "comparisons": render_comparisons(sorted((scripts / "comparisons").glob("*.json")))
        },
    }
    pages = {}
    for path, own in blocks.items():
        pages[path] = path.read_text(encoding="utf-8")
        for name, block in own.items():
            pages[path] = replace_block(pages[path], name, block)
    return pages


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if a page is out of date"
    )
    options = parser.parse_args()
    old = []
    for path, page in render_pages(ROOT).items():
        if path.read_text(encoding="utf-8") != page:
            old.append(str(path.relative_to(ROOT)))
            if not options.check:
                path.write_text(page, encoding="utf-8")
    if options.check:
        said = (
            f"out of date: {', '.join(old)}; run scripts/render_results.py"
            if old
            else "every page is up to date"
        )
        print(said)
    return int(options.check and bool(old))


if __name__ == "__main__":
    sys.exit(main())
