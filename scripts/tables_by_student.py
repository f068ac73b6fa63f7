"""The tables of small BERTs: one a shape, a row a method, the tasks side by side."""

from statistics import fmean

from result_rows import Results, count_a_task, keep_teachers, mean_scores

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

COMPARED = ["average", "of the teachers'", "without CoLA"]
TASK_ORDER = (
    "cola",
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


def find_family(method: str) -> str | None:
    """The student whose table a method belongs to; ``None`` for those with a table a task."""
    return next(
        (name for name in FAMILIES if method == name or method.startswith((f"{name}_", f"{name} "))), None
    )


def keep_family(family: str, tasks: Results) -> Results:
    """The methods of one student and the teachers, by task."""
    return {
        task: keep_teachers(
            {name: own for name, own in methods.items() if name == "teacher" or find_family(name) == family}
        )
        for task, methods in tasks.items()
        if any(find_family(name) == family for name in methods)
    }


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
    means = {row: mean_scores(row, columns, tasks) for row in rows}
    for row in rows:
        found = means[row]
        cells = ["" if score is None else f"{100 * score:.1f}" for score in found]
        cells += _compare_averages(columns, found, means["teacher"])
        seeds = {tuple(entry["seed"] for entry in tasks[task][row]) for task in columns if row in tasks[task]}
        numbers = sorted(len(found) for found in seeds)
        shown = count_a_task(numbers) if len(seeds) > 1 else ", ".join(map(str, min(seeds)))
        title = "teacher, fine-tuned" if row == "teacher" else PARTS.get(row.removeprefix(family), row)
        lines.append(f"| {title} | " + " | ".join([*cells, shown]) + " |")
    return "\n".join(lines)


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
