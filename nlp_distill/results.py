"""Result files: ``results.json`` and its Markdown table of a run, and one small published file per trained model."""

import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Any

from data_augment.errors import InputError
from nlp_distill.stages import FINISHED, write_json, write_whole

PACKAGES = (
    "nlp_distill",
    "torch",
    "transformers",
    "datasets",
    "tokenizers",
    "accelerate",
    "nltk",
    "textblob",
    "numpy",
    "spacy",
)
ROW_NAMES = {
    "teacher": "teacher",
    "student_without_teacher": "student, without the teacher",
    "general_only": "general student, without the teacher",
    "intermediate_only": "after the intermediate stage, without the teacher's predictions",
    "student": "student, distilled",
    "student_without_attention": "distilled, without the attention term",
    "student_without_hidden": "distilled, without the hidden-state term",
    "student_without_embedding": "distilled, without the embedding term",
    "student_without_intermediate": "distilled, without the intermediate stage",
    "student_without_prediction": "distilled, without the prediction stage",
    "student_without_general": "distilled, from random weights",
    "student_without_augmentation": "distilled, without augmented rows",
}


def collect_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result; those not installed are left out."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def describe_command(arguments: Sequence[str]) -> str:
    """The command line as result files keep it, absolute paths by their last part."""
    parts = (argument.rpartition("=") for argument in arguments)
    return shlex.join(
        ["nlp-distill", *(f"{option}{sign}{drop_place(value)}" for option, sign, value in parts)]
    )


def drop_place(value: str) -> str:
    """An absolute path as its last part, all else as it is: published files name no place on one machine."""
    return Path(value).name if Path(value).is_absolute() else value


def say_ratio(ratio: float, better: str, worse: str) -> str:
    """How many times better, or worse where it is below 1: ``2.0× faster`` and, of 0.5, ``2.0× slower``."""
    return f"{ratio:.1f}× {better}" if ratio >= 1 else f"{1 / ratio:.1f}× {worse}"


def merge_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One entry for a model trained with several seeds: means of the scores, the scores of each, the first's path.

    Args:
        runs: entries with ``score``, ``metrics``, ``agreement`` and the size fields, one a seed.
    """
    merged = dict(runs[0])
    merged["score"] = fmean(run["score"] for run in runs)
    merged["scores"] = [run["score"] for run in runs]
    merged["metrics"] = {name: fmean(run["metrics"][name] for run in runs) for name in runs[0]["metrics"]}
    for name in ("agreement", "validation_score"):
        if runs[0].get(name) is not None:
            merged[name] = fmean(run[name] for run in runs)
    if collapsed := [run["collapsed_to"] for run in runs if "collapsed_to" in run]:
        merged["collapsed_to"] = collapsed[0]
        merged["collapsed_seeds"] = len(collapsed)
    if "extra_tests" in runs[0]:
        names = runs[0]["extra_tests"]
        merged["extra_tests"] = {
            name: merge_seeds([run["extra_tests"][name] for run in runs]) for name in names
        }
    return merged


def _count_seeds(entry: Mapping[str, Any]) -> str:
    """With how many seeds, where it is some of several."""
    few, several = entry.get("collapsed_seeds", 1), len(entry.get("scores", [1]))
    return f" with {few} of its {several} seeds" if few < several else ""


def compute_retention(models: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """``retention`` = student / teacher, ``gap_closed`` = (student - without) / (teacher - without).

    Each is ``None`` where it means nothing: a teacher score of 0 or less, no student without a teacher, a teacher that
    is no better than it, or a student that gives one answer to every row.
    """
    teacher, student = models["teacher"]["score"], models["student"]["score"]
    without = models.get("student_without_teacher", {}).get("score")
    collapsed = any("collapsed_to" in models.get(name, {}) for name in ("student", "student_without_teacher"))
    gap_closed = None
    if without is not None and teacher > without and not collapsed:
        gap_closed = (student - without) / (teacher - without)
    return {"retention": student / teacher if teacher > 0 else None, "gap_closed": gap_closed}


def list_warnings(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a reader of the scores must know: models that learnt nothing, and a comparison that may not be fair yet."""
    names = {name: ROW_NAMES.get(name, name.replace("_", " ")) for name in models}
    shown = {name: f"{row[:1].upper()}{row[1:]}" for name, row in names.items()}
    said = [
        f"{shown[name]} answers {entry['collapsed_to']!r} to every test row{_count_seeds(entry)}: it learnt nothing, "
        "whatever its score; give it more epochs, or another learning rate."
        for name, entry in models.items()
        if "collapsed_to" in entry
    ]
    said += [
        f"{entry['warning'][:1].upper()}{entry['warning'][1:]}."
        for entry in models.values()
        if "warning" in entry
    ]
    return said + [
        f"{shown[name]} was best on validation after its last epoch, so it may not have learnt all that it can; give "
        "it more epochs before the gap is believed."
        for name, entry in models.items()
        if entry.get("still_rising")
    ]


def is_still_rising(training: Mapping[str, Any]) -> bool:
    """Whether of several evaluations of a training the last was the best.

    Args:
        training: ``history`` with an ``eval_score`` a time, as every training here returns it.
    """
    scores = [entry["eval_score"] for entry in training.get("history", ()) if "eval_score" in entry]
    return len(scores) > 1 and scores[-1] > max(scores[:-1])


def write_results(folder: Path, results: Mapping[str, Any]) -> str:
    """Write ``results.json`` and ``results.md`` into ``folder``; returns the Markdown."""
    table = render_results(results)
    write_json(folder / "results.json", results)
    write_whole(folder / "results.md", table)
    return table


def render_results(results: Mapping[str, Any]) -> str:
    """The Markdown page of a run: the table of models, retention and gap closed, data, times."""
    lines = [f"# {results['task']}: {results['metric']} on the test split", ""]
    lines += [
        f"{results['data_source']}; checkpoints were selected on {describe_selection(results['selected_on'])}.",
        "",
    ]
    lines += [render_model_table(results["models"], results["metric"]), ""]
    if results["retention"] is not None:
        lines.append(f"- The student keeps **{results['retention']:.1%}** of the teacher's score.")
    if results["gap_closed"] is not None:
        lines.append(
            f"- Distillation closes **{results['gap_closed']:.0%}** of the gap between the same student trained "
            "without a teacher and the teacher."
        )
    lines += [f"- **{text}**" for text in list_warnings(results["models"])]
    for name in results["models"]["teacher"].get("extra_tests", {}):
        scores = ", ".join(
            f"{ROW_NAMES.get(key, key)} {_format_scores(model['extra_tests'][name])}"
            for key, model in results["models"].items()
        )
        lines.append(f"- On {name}: {scores}.")
    if "speed" in results:
        speed, median = results["speed"], results["speed"]["median_ms"]
        lines.append(
            f"- One text at a time, from text to logits, side by side on {speed['threads']} thread(s): teacher "
            f"{median['teacher']:.1f} ms, student {median['student']:.1f} ms, "
            f"**{say_ratio(median['teacher'] / median['student'], 'faster', 'slower')}** (median of {speed['texts']} "
            "test texts)."
        )
    transfer, unit = results["transfer_set"], name_unit(results)
    lines.append(
        f"- Seeds of the students: {', '.join(map(str, results['seeds']))}. Labelled {unit}: "
        f"{results['data']['train']['rows']:,}; transfer set: {transfer['rows']:,} {unit}; "
        f"test: {results['data']['test']['rows']:,} {unit}."
    )
    if cut := describe_cut_words(results):
        lines.append(f"- {cut}")
    times = ", ".join(
        f"{name.replace('_', ' ')} {seconds:,.0f} s" for name, seconds in results["timings_s"].items()
    )
    lines.append(f"- Time: {times}.")
    return "\n".join(lines) + "\n"


def name_unit(results: Mapping[str, Any]) -> str:
    """What a row of the task is: taggers read sentences."""
    return "sentences" if results.get("labels_tokens") else "rows"


def describe_cut_words(results: Mapping[str, Any]) -> str:
    """How many words a tagger's run left out, by split; "" where it is none."""
    cut = {split: count for split, count in results.get("cut_words", {}).items() if count}
    counts = ", ".join(f"{split} {count:,}" for split, count in cut.items())
    return f"Words that do not fit and are left out, of scores too: {counts}." if cut else ""


def show_agreement(entry: Mapping[str, Any]) -> str:
    """How far a model's answers are the teacher's: a share of the rows, of a regression the correlation."""
    if "agreement" not in entry:
        return ""
    is_regression = "pearson" in entry["metrics"]
    return f"r = {entry['agreement']:.3f}" if is_regression else f"{entry['agreement']:.1%}"


def render_model_table(models: Mapping[str, Mapping[str, Any]], metric: str) -> str:
    """Markdown table of the models of one run; the first of them is the reference for size (the teacher's place)."""
    reference = next(iter(models.values()))
    extra = [
        name for name in reference["metrics"] if name not in (metric, "calibration_error", "kl_to_teacher")
    ]
    header = [
        "model",
        metric,
        *extra,
        "agrees with teacher",
        "calibration error",
        "parameters",
        "of them not embeddings",
        "MB",
        "smaller",
    ]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for key, model in models.items():
        metrics = model["metrics"]
        cells = [
            ROW_NAMES.get(key, key),
            _format_scores(model),
            *(f"{metrics[name]:.4f}" for name in extra),
            show_agreement(model),
            f"{metrics['calibration_error']:.3f}" if "calibration_error" in metrics else "",
            f"{model['parameters']:,}",
            f"{model['parameters_without_embeddings']:,}",
            f"{model['bytes'] / 1e6:.1f}",
            f"{reference['bytes'] / model['bytes']:.1f}×" if model["bytes"] else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def check_results_are_ours(folder: Path, overwrite: bool, name: str = "results") -> None:
    """Refuse a folder that is a model's own, or whose ``<name>.json`` or ``<name>.md`` somebody else wrote.

    Raises:
        InputError: naming the file.
    """
    if (folder / FINISHED).exists():
        raise InputError(
            f"{folder} is a model's own folder, or another stage's, whose results these would replace; give another "
            "output, or a folder in it"
        )
    if overwrite:
        return
    page = folder / f"{name}.json"
    if page.exists():
        try:
            content = json.loads(page.read_text(encoding="utf-8"))
        except ValueError:
            content = None
        if isinstance(content, dict) and ("models" in content or {"tasks", "averages"} <= content.keys()):
            return
    for path in (page, folder / f"{name}.md"):
        if path.exists():
            raise InputError(
                f"{path} exists and was not made by this command; choose another output, or --overwrite to replace it"
            )


def _format_scores(model: Mapping[str, Any]) -> str:
    scores = model.get("scores", [])
    spread = f" ({min(scores):.4f}–{max(scores):.4f})" if len(scores) > 1 else ""
    return f"{model['score']:.4f}{spread}"


def describe_selection(selected_on: str) -> str:
    """The rows that checkpoints were selected on, in words."""
    return {
        "train": "rows held out of train",
        "dev": "**the reported rows themselves**, as many papers do: these scores are optimistic",
    }.get(selected_on, f"the {selected_on} rows")
