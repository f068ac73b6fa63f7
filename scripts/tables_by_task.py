"""The tables of one task each: a row a method, with its size and its share of the teacher's score."""

import re
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from result_rows import Methods, describe_sample, find_teachers, mark_selection, pair_scores
from tables_by_student import FAMILIES, PARTS, find_family

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
ALL_KINDS = ("sst2",)  # tasks in whose table small BERTs stand too, beside the other students
TAGGER = re.compile(r"tagger_(\d+)x(\d+)(_without_teacher)?")  # what `distill tagger` publishes


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
        f"**{task}**{describe_sample(methods)}",
        "",
        "| " + " | ".join(header) + " |",
        "|---|" + "---:|" * (len(header) - 1),
    ]
    for name in sorted(methods, key=order_methods):
        entries = methods[name]
        own = _mean_teacher(methods, name, of_several)
        scores = [entry["score"] for entry in entries]
        spread = f" ({100 * min(scores):.1f}–{100 * max(scores):.1f})" if len(scores) > 1 else ""
        cells = [
            name_method(name) + mark_selection(entries),
            f"{100 * fmean(scores):.1f}{spread}",
            f"{fmean(scores) / own:.1%}{f' of {100 * own:.1f}' if own != teacher else ''}" if own else "",
            f"{entries[0]['parameters'] / 1e6:.2f} M",
            f"{entries[0]['parameters_without_embeddings'] / 1e6:.2f} M",
            f"{entries[0]['bytes'] / 1e6:.1f}",
            ", ".join(str(entry["seed"]) for entry in entries),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if gaps := _list_gaps_closed(methods):
        lines += ["", f"Gap closed: (student − without) / (teacher − without) = {', '.join(gaps)}."]
    return "\n".join(lines)


def _mean_teacher(methods: Methods, name: str, of_several: Sequence[dict[str, Any]]) -> float | None:
    """The mean score of those who taught a method's students; of one without a teacher, of all."""
    taught = "_without_teacher" not in name and "_general_only" not in name
    own = of_several if _learnt_of(name) and of_several else None
    teachers = own or (find_teachers(methods, name) if taught else methods.get("teacher", []))
    return fmean(entry["score"] for entry in teachers) if teachers else None


def _list_gaps_closed(methods: Methods) -> list[str]:
    """The share of the gap that each student closes, with its name where there are several."""
    found = {}
    for student, without in list_baselines(methods).items():
        if "teacher" in methods and without in methods:
            teacher, low, high = pair_scores(methods, without, student)
            if teacher > low:
                found[name_method(student)] = f"{(high - low) / (teacher - low):.0%}"
    return [f"{share} ({name})" for name, share in found.items()] if len(found) > 1 else list(found.values())


def list_baselines(methods: Methods) -> dict[str, str]:
    """The distilled students of a table in its order, and the name of each without the teacher.

    Of a small BERT the whole method, or where that is missing, the one without the intermediate stage.
    """
    small = {name for family in FAMILIES for name in (family, f"{family}_without_intermediate")}
    small -= {f"{family}_without_intermediate" for family in FAMILIES if family in methods}
    return {
        name: f"{name.removesuffix('_distilled').removesuffix('_without_intermediate')}_without_teacher"
        for name in sorted(methods, key=order_methods)
        if name.endswith("_distilled") or name in small or TAGGER.fullmatch(name)
    }


def _learnt_of(method: str) -> bool:
    """Whether a method's teacher was a multi-task model."""
    return method.endswith("_of_multitask")


def name_method(method: str) -> str:
    """A method's name in the table of a task."""
    if found := TAGGER.fullmatch(method):
        ending = "without the teacher" if found[3] else "distilled"
        return f"tagger of {found[1]} layers of {found[2]}, {ending}"
    if family := find_family(method):
        layers, hidden = family.removeprefix("tinybert_").split("x")
        part = method.removeprefix(family)
        endings = PARTS | {"": "distilled", "_without_teacher": "without the teacher"}
        return f"BERT of {layers} layers of {hidden}, {endings.get(part, part)}"
    return TITLES.get(method, method)


def order_methods(method: str) -> tuple[int, str, int]:
    """Sorts as ``ORDER``; then small BERTs and taggers by shape, the one without the teacher first; others by name."""
    if method in ORDER:
        return (ORDER.index(method), "", 0)
    if found := TAGGER.fullmatch(method):
        return (len(ORDER), f"tagger_{found[1]}x{found[2]}", not found[3])
    if family := find_family(method):
        parts = list(PARTS)
        part = method.removeprefix(family)
        return (len(ORDER), family, parts.index(part) if part in parts else len(parts))
    return (len(ORDER), method, 0)
