"""The table of methods that learn several tasks at once: a row a method, a column a task."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from result_rows import Results, count_a_task, describe_sample, mark_selection, mean_scores

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


def is_multitask(method: str) -> bool:
    """Whether a method trains one model for all tasks, or is the like of one: its table has a column a task."""
    return method != "teacher" and (method in MULTITASK or method.startswith("bam_"))


def render_multitask(tasks: Results) -> str:
    """The methods that learn several tasks at once: one row a method, means over its seeds; "" without any.

    A row stands there once the method has a result on each of the averaged tasks, and of teachers those seeds count
    that have one on each.
    """
    tasks = keep_complete(tasks)
    methods = {method for task in AVERAGED for method in tasks.get(task, {}) if is_multitask(method)}
    names = [*(name for name in MULTITASK if name == "teacher" or name in methods)]
    names += sorted(methods - set(names))
    rows = [name for name in names if all(name in tasks.get(task, {}) for task in AVERAGED)]
    if set(rows) <= {"teacher"}:
        return ""
    beside = [task for task in BESIDE if any(row in tasks.get(task, {}) for row in rows)]
    columns = [*AVERAGED, *beside]
    samples = {task: describe_sample({row: tasks[task].get(row, []) for row in rows}) for task in columns}
    heads = [_name_column(task, tasks[task], samples[task]) for task in columns]
    heads.insert(len(AVERAGED), "average")
    lines = [
        "**Several tasks at once**",
        "",
        "| model | " + " | ".join([*heads, "seeds"]) + " |",
        "|---|" + "---:|" * (len(heads) + 1),
    ]
    for row in rows:
        means = mean_scores(row, columns, tasks)
        cells = ["" if score is None else f"{100 * score:.1f}" for score in means]
        average = fmean(score for score in means[: len(AVERAGED)] if score is not None)
        cells.insert(len(AVERAGED), f"**{100 * average:.1f}**")
        entries = [entry for task in AVERAGED for entry in tasks[task][row]]
        title = MULTITASK.get(row, row) + mark_selection(entries)
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


def keep_complete(tasks: Results) -> Results:
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
        return count_a_task(numbers)
    return f"{numbers[0]} ({', '.join(map(str, min(seeds)))})"
