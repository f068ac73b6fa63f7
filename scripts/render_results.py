"""Render the result tables of the README from the files under ``scripts/results``.

    python scripts/render_results.py            # rewrite README.md between its markers
    python scripts/render_results.py --check    # exit 1 if README.md is not up to date

Every file is one trained model, ``scripts/results/<method>/<task>/<seed>.json``; a row of a table is one method on one
task, averaged over its seeds. ``scripts/comparisons/<task>.json`` is what ``scripts/compare_models.py`` measured;
``scripts/compressions/tweets.json`` is the ``compress.json`` of one run, ``scripts/fits/tweets.json`` the ``fit.json``.
"""

import argparse
import json
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: begin, rendered by scripts/render_results.py -->", "<!-- results: end -->"
COMPARE_BEGIN = "<!-- compare: begin, rendered by scripts/render_results.py -->"
COMPARE_END = "<!-- compare: end -->"
COMPRESS_BEGIN = "<!-- compress: begin, rendered by scripts/render_results.py -->"
COMPRESS_END = "<!-- compress: end -->"
FIT_BEGIN, FIT_END = "<!-- fit: begin, rendered by scripts/render_results.py -->", "<!-- fit: end -->"
ORDER = (
    "teacher",
    "bilstm_without_teacher",
    "bilstm_distilled",
    "bilstm_distilled_of_multitask",
    "cnn_without_teacher",
    "cnn_distilled",
    "cnn_distilled_of_multitask",
    "spacy_without_teacher",
    "spacy_distilled",
    "spacy_bow_without_teacher",
    "spacy_bow_distilled",
)
TITLES = {
    "teacher": "teacher, fine-tuned",
    "bilstm_without_teacher": "BiLSTM, without the teacher",
    "bilstm_distilled": "BiLSTM, distilled",
    "bilstm_distilled_of_multitask": "BiLSTM, distilled from a multi-task model",
    "cnn_without_teacher": "CNN, without the teacher",
    "cnn_distilled": "CNN, distilled",
    "cnn_distilled_of_multitask": "CNN, distilled from a multi-task model",
    "spacy_without_teacher": "spaCy, without the teacher",
    "spacy_distilled": "spaCy, distilled",
    "spacy_bow_without_teacher": "spaCy's bag of words, without the teacher",
    "spacy_bow_distilled": "spaCy's bag of words, distilled",
}
TAGGER = re.compile(r"tagger_(\d+)x(\d+)(_without_teacher)?")  # what `distill tagger` publishes
FAMILIES = {
    "tinybert_3x312": "TinyBERT, 3 layers of 312",
    "tinybert_2x128": "TinyBERT, 2 layers of 128",
}
PARTS = {
    "_without_teacher": "student, from random weights on labels",
    "_general_only": "general student on labels",
    "_intermediate_only": "+ intermediate stage, then labels",
    "": "+ prediction stage: **distilled**",
    "_of_multitask": "distilled from a multi-task model",
    "_intermediate_only_of_multitask": "+ its intermediate stage, then labels",
    "_without_general": "distilled, without general distillation",
    "_without_intermediate": "distilled, without the intermediate stage",
    "_without_prediction": "distilled, without the prediction stage",
    "_without_augmentation": "distilled, without augmented rows",
    "_without_attention": "distilled, without the attention term",
    "_without_hidden": "distilled, without the hidden-state term",
    "_without_embedding": "distilled, without the embedding term",
}
# What `distill mt-dnn` and `distill bam` publish, beside the teachers of single tasks; other bam_* follow.
MULTITASK = {
    "teacher": "teachers, one a task",
    "multitask": "multi-task, on labels",
    "mt_dnn_ensemble": "MT-DNN's ensemble, the teachers' mean",
    "mt_dnn_kd": "MT-DNN, **distilled** from it",
    "bam_multi": "the model of BAM's student, on labels",
    "bam": "BAM, **distilled** from one teacher a task",
    "bam_without_annealing": "BAM, without teacher annealing",
    "bam_without_layerwise_rates": "BAM, without layerwise rates",
}
AVERAGED = ("cola", "sst2_10k", "mrpc", "stsb", "rte", "qnli")
BESIDE = ("wnli", "mnli")  # reported and never averaged
COMPARED = ["average", "of the teachers'", "without CoLA"]
TASK_ORDER = (
    "cola",
    "sst2",
    "sst2_10k",
    "mrpc",
    "stsb",
    "qqp",
    "mnli",
    "qnli",
    "rte",
    "wnli",
    "tweets",
)


Methods = dict[str, list[dict[str, Any]]]
Results = dict[str, Methods]


def read_results(folder: Path) -> Results:
    """Result files as ``{task: {method: [one entry a seed]}}``, seeds in order."""
    tasks: Results = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("*/*/*.json"), key=lambda path: (path.parts[:-1], int(path.stem))):
        entry = json.loads(path.read_text(encoding="utf-8"))
        tasks[entry["task"]][entry["method"]].append(entry)
    return tasks


def render_tables(tasks: Results) -> str:
    """A table a task for the methods of one task; then a table a student with the tasks side by side."""
    own = {
        task: {
            method: entries
            for method, entries in methods.items()
            if find_family(method) is None and not is_multitask(method)
        }
        for task, methods in tasks.items()
    }
    # A teacher alone says nothing that the tables side by side do not say.
    shown = {
        task: methods
        for task, methods in own.items()
        if methods and (set(methods) != {"teacher"} or len(tasks[task]) == 1)
    }
    families = {find_family(method) for methods in tasks.values() for method in methods} - {None}
    tables = [
        render_task(task, keep_teachers(methods), tasks[task].get("mt_dnn_kd", []))
        for task, methods in sorted(shown.items())
    ]
    tables += [
        render_family(family, _keep_family(family, tasks)) for family in FAMILIES if family in families
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


def is_multitask(method: str) -> bool:
    """Whether a method trains one model for all tasks, or is the like of one: its table has a column a task."""
    return method != "teacher" and (method in MULTITASK or method.startswith("bam_"))


def render_multitask(tasks: Results) -> str:
    """The methods that learn several tasks at once: one row a method, means over its seeds; "" without any.

    A row stands there once the method has a result on each of the averaged tasks, and of teachers those seeds count
    that have one on each.
    """
    tasks = _keep_complete(tasks)
    methods = {method for task in AVERAGED for method in tasks.get(task, {}) if is_multitask(method)}
    names = [*(name for name in MULTITASK if name == "teacher" or name in methods)]
    names += sorted(methods - set(names))
    rows = [name for name in names if all(name in tasks.get(task, {}) for task in AVERAGED)]
    if set(rows) <= {"teacher"}:
        return ""
    beside = [task for task in BESIDE if any(row in tasks.get(task, {}) for row in rows)]
    columns = [*AVERAGED, *beside]
    samples = {task: _describe_sample({row: tasks[task].get(row, []) for row in rows}) for task in columns}
    heads = [_name_column(task, tasks[task], samples[task]) for task in columns]
    heads.insert(len(AVERAGED), "average")
    lines = [
        "**Several tasks at once**",
        "",
        "| model | " + " | ".join([*heads, "seeds"]) + " |",
        "|---|" + "---:|" * (len(heads) + 1),
    ]
    for row in rows:
        means = _mean_scores(row, columns, tasks)
        cells = ["" if score is None else f"{100 * score:.1f}" for score in means]
        average = fmean(score for score in means[: len(AVERAGED)] if score is not None)
        cells.insert(len(AVERAGED), f"**{100 * average:.1f}**")
        entries = [entry for task in AVERAGED for entry in tasks[task][row]]
        title = MULTITASK.get(row, row) + _mark_selection(entries)
        lines.append(f"| {title} | " + " | ".join([*cells, _count_seeds(row, tasks)]) + " |")
    lines += ["", f"The average is over {', '.join(AVERAGED)}."]
    lines += _render_curves(rows, tasks)
    lines += [f"{task}: {sample.strip(' ()')}." for task, sample in samples.items() if sample]
    return "\n".join(lines)


def _render_curves(rows: Sequence[str], tasks: Results) -> list[str]:
    """A sentence a method whose files hold its learning curve: averages by epoch on rows held out of train."""
    sentences = []
    for row in rows:
        curves = {
            task: [entry.get("validation_by_epoch", []) for entry in tasks[task][row]] for task in AVERAGED
        }
        lengths = {len(curve) for own in curves.values() for curve in own}
        if len(lengths) > 1 or not max(lengths):
            continue
        means = {
            task: [fmean(points) for points in zip(*map(_take_scores, own), strict=True)]
            for task, own in curves.items()
        }
        averages = (f"{100 * fmean(points):.1f}" for points in zip(*means.values(), strict=True))
        cola = (f"{100 * score:.1f}" for score in means["cola"])
        name = MULTITASK.get(row, row)
        sentences.append(f"{name}: {', '.join(averages)} (CoLA alone {', '.join(cola)})")
    return [f"On rows held out of train, by epoch: {'; '.join(sentences)}."] if sentences else []


def _take_scores(curve: Sequence[Sequence[float]]) -> list[float]:
    return [score for _, score in curve]


def _keep_complete(tasks: Results) -> Results:
    """The results without teachers of seeds that some averaged task has none of, where there is a seed for all.

    Of those, where BAM's student has some of the seeds, the teachers of its seeds: it learnt from them.
    """
    complete = set.intersection(*(_list_seeds(tasks, task, "teacher") for task in AVERAGED))
    complete = complete & set.union(*(_list_seeds(tasks, task, "bam") for task in AVERAGED)) or complete
    if not complete:
        return tasks
    kept = {
        task: [entry for entry in tasks[task]["teacher"] if entry["seed"] in complete]
        for task in (*AVERAGED, *BESIDE)
        if _list_seeds(tasks, task, "teacher") & complete
    }
    return tasks | {task: tasks[task] | {"teacher": teachers} for task, teachers in kept.items()}


def _list_seeds(tasks: Results, task: str, method: str) -> set[int]:
    return {entry["seed"] for entry in tasks.get(task, {}).get(method, [])}


def _name_column(task: str, methods: dict[str, list[dict[str, Any]]], sample: str) -> str:
    """A column's head: the task, whether its rows are a sample, and its metric."""
    metric = next(iter(next(iter(methods.values()))[0]["metrics"])).replace("_", " ")
    return f"{task}{', sample' if sample else ''} ({metric})"


def _count_seeds(row: str, tasks: Results) -> str:
    """How many seeds a row's averages are over, and which; from the fewest to the most where tasks differ."""
    seeds = {tuple(entry["seed"] for entry in tasks[task][row]) for task in AVERAGED}
    numbers = sorted(len(found) for found in seeds)
    if len(seeds) > 1:
        return _count_a_task(numbers)
    return f"{numbers[0]} ({', '.join(map(str, min(seeds)))})"


def _count_a_task(numbers: list[int]) -> str:
    """How many seeds the tasks have, of sorted numbers: from the fewest to the most."""
    return f"{numbers[0]}–{numbers[-1]} a task" if numbers[0] < numbers[-1] else f"{numbers[0]} a task"


def find_family(method: str) -> str | None:
    """The student whose table a method belongs to; ``None`` for those with a table a task."""
    return next(
        (name for name in FAMILIES if method == name or method.startswith((f"{name}_", f"{name} "))), None
    )


def render_family(family: str, tasks: Results) -> str:
    """One row a method, one column a task: the means over seeds, and what is kept of the teachers' average."""
    columns = [
        task for task in TASK_ORDER if any(find_family(method) == family for method in tasks.get(task, {}))
    ]
    methods = {method for task in columns for method in tasks[task] if find_family(method) == family}
    rows = [
        name
        for name in ("teacher", *(family + part for part in PARTS))
        if name == "teacher" or name in methods
    ]
    rows += sorted(methods - set(rows))
    metrics = [next(iter(next(iter(tasks[task].values()))[0]["metrics"])) for task in columns]
    header = [f"{task} ({metric.replace('_', ' ')})" for task, metric in zip(columns, metrics, strict=True)]
    lines = [
        f"**{FAMILIES[family]}**",
        "",
        "| model | "
        + " | ".join([*header, *(COMPARED if len(columns) > 1 else COMPARED[1:2]), "seeds"])
        + " |",
        "|---|" + "---:|" * (len(columns) + (4 if len(columns) > 1 else 2)),
    ]
    means = {row: _mean_scores(row, columns, tasks) for row in rows}
    for row in rows:
        found = means[row]
        cells = ["" if score is None else f"{100 * score:.1f}" for score in found]
        cells += _compare_averages(columns, found, means["teacher"])
        seeds = {tuple(entry["seed"] for entry in tasks[task][row]) for task in columns if row in tasks[task]}
        numbers = sorted(len(found) for found in seeds)
        shown = _count_a_task(numbers) if len(seeds) > 1 else ", ".join(map(str, min(seeds)))
        title = TITLES.get(row) or PARTS.get(row.removeprefix(family), row)
        lines.append(f"| {title} | " + " | ".join([*cells, shown]) + " |")
    return "\n".join(lines)


def _mean_scores(row: str, columns: list[str], tasks: Results) -> list[float | None]:
    """A method's mean score on each task; ``None`` where it has none."""
    scores = ([entry["score"] for entry in tasks[task].get(row, [])] for task in columns)
    return [fmean(found) if found else None for found in scores]


def _compare_averages(columns: list[str], own: list[float | None], teacher: list[float | None]) -> list[str]:
    """Average, share of the teachers' average, and that share without CoLA; blank where a task is missing.

    Of one task, the share alone.
    """
    if len(columns) == 1:
        return [f"{own[0] / teacher[0]:.1%}" if own[0] is not None and teacher[0] else ""]
    pairs = [(task, a, b) for task, a, b in zip(columns, own, teacher, strict=True)]
    if any(a is None or b is None for _, a, b in pairs):
        return ["", "", ""]
    known = [(task, float(a or 0.0), float(b or 0.0)) for task, a, b in pairs]
    average, reference = (fmean(score[index] for score in known) for index in (1, 2))
    rest = [score for score in known if score[0] != "cola"]
    kept = sum(score[1] for score in rest) / sum(score[2] for score in rest)
    return [
        f"**{100 * average:.1f}**",
        f"{average / reference:.1%}",
        f"{kept:.1%}" if len(rest) < len(known) else "",
    ]


def render_task(
    task: str, methods: dict[str, list[dict[str, Any]]], of_several: Sequence[dict[str, Any]] = ()
) -> str:
    """The table of one task.

    Args:
        task: its name.
        methods: the entries of each.
        of_several: the multi-task student on this task, which teaches the students "of a multi-task model".
    """
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
    names = [name for name in ORDER if name in methods]
    for name in names + sorted(set(methods) - set(ORDER), key=order_tagger):
        entries = methods[name]
        own = fmean(entry["score"] for entry in of_several) if _learnt_of(name) and of_several else teacher
        scores = [entry["score"] for entry in entries]
        spread = f" ({100 * min(scores):.1f}–{100 * max(scores):.1f})" if len(scores) > 1 else ""
        cells = [
            name_method(name) + _mark_selection(entries),
            f"{100 * fmean(scores):.1f}{spread}",
            f"{fmean(scores) / own:.1%}{f' of {100 * own:.1f}' if own is not teacher else ''}" if own else "",
            f"{entries[0]['parameters'] / 1e6:.2f} M",
            f"{entries[0]['parameters_without_embeddings'] / 1e6:.2f} M",
            f"{entries[0]['bytes'] / 1e6:.1f}",
            ", ".join(str(entry["seed"]) for entry in entries),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    pairs = [("bilstm_without_teacher", "bilstm_distilled")]
    pairs += [(f"{name}_without_teacher", name) for name in sorted(methods) if TAGGER.fullmatch(name)]
    for without, student in pairs:
        if teacher and without in methods and student in methods:
            low, high = (fmean(entry["score"] for entry in methods[name]) for name in (without, student))
            if teacher > low:
                share = (high - low) / (teacher - low)
                lines += ["", f"Gap closed: (student − without) / (teacher − without) = {share:.0%}."]
    return "\n".join(lines)


def _learnt_of(method: str) -> bool:
    """Whether a method's teacher was a multi-task model."""
    return method.endswith("_of_multitask")


def name_method(method: str) -> str:
    """A method's name in the table of a task."""
    if found := TAGGER.fullmatch(method):
        ending = "without the teacher" if found[3] else "distilled"
        return f"tagger of {found[1]} layers of {found[2]}, {ending}"
    return TITLES.get(method, method)


def order_tagger(method: str) -> tuple[str, bool]:
    """Sorts taggers by their shape, and as in other tables the one without the teacher first; others by name."""
    found = TAGGER.fullmatch(method)
    return (f"tagger_{found[1]}x{found[2]}", not found[3]) if found else (method, False)


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
