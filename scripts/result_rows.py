"""Published results as the tables read them: one entry a trained model, grouped by task and method."""

import json
import re
import shlex
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

Methods = dict[str, list[dict[str, Any]]]
Results = dict[str, Methods]


def read_results(folder: Path) -> Results:
    """Result files as ``{task: {method: [one entry a seed]}}``, seeds in order."""
    tasks: Results = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("*/*/*.json"), key=lambda path: (path.parts[:-1], int(path.stem))):
        entry = json.loads(path.read_text(encoding="utf-8"))
        tasks[entry["task"]][entry["method"]].append(entry)
    return tasks


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


def find_teachers(methods: Methods, method: str) -> list[dict[str, Any]]:
    """The teachers that a method's students learnt from: of the folders they name, else of their seeds, else all."""
    kept = keep_teachers({name: methods[name] for name in ("teacher", method) if name in methods})
    return kept.get("teacher", [])


def pair_scores(methods: Methods, without: str, student: str) -> tuple[float, float, float]:
    """Mean scores of a student's teachers, of the same student without one, and its own.

    Of the student without a teacher those seeds count that the distilled one has, where it has any of them.
    """
    seeds = {entry["seed"] for entry in methods[student]}
    alone = [entry for entry in methods[without] if entry["seed"] in seeds] or methods[without]
    teacher, low, high = (
        fmean(entry["score"] for entry in entries)
        for entries in (find_teachers(methods, student), alone, methods[student])
    )
    return teacher, low, high


def _read_option(entry: dict[str, Any], option: str) -> str | None:
    """The value of an option in the command that made a result; ``None`` where it has none."""
    words = shlex.split(entry.get("command", ""))
    return words[words.index(option) + 1] if option in words else None


def mean_scores(row: str, columns: list[str], tasks: Results) -> list[float | None]:
    """A method's mean score on each task; ``None`` where it has none."""
    scores = ([entry["score"] for entry in tasks[task].get(row, [])] for task in columns)
    return [fmean(found) if found else None for found in scores]


def count_a_task(numbers: list[int]) -> str:
    """How many seeds the tasks have, of sorted numbers: from the fewest to the most."""
    return f"{numbers[0]}–{numbers[-1]} a task" if numbers[0] < numbers[-1] else f"{numbers[0]} a task"


def describe_sample(methods: dict[str, list[dict[str, Any]]]) -> str:
    """Say where rows are a sample of the official ones: such scores are no official scores."""
    sources = [entry.get("data_source", "") for entries in methods.values() for entry in entries]
    found = [re.search(r"\([^)]*sample[^)]*\)", source) for source in sources]
    return next((f" {match[0]}" for match in found if match), "")


def mark_selection(entries: list[dict[str, Any]]) -> str:
    """A mark for scores whose checkpoints were selected on the reported rows, as many papers do."""
    return (
        " (selected on the reported rows)"
        if any(entry.get("selected_on") == "dev" for entry in entries)
        else ""
    )
