"""Read what a run left behind."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_augment.errors import InputError
from nlp_distill.evaluation import load_logits
from nlp_distill.results import ROW_NAMES
from nlp_distill.tasks import TaskData

EXAMPLES = 10  # rows that are shown where teacher and student disagree
BINS = 10  # of the calibration plot
NEEDED = ("metric", "data", "seeds", "timings_s", "versions")
NEEDED_OF_MODELS = ("score", "metrics", "parameters", "bytes")


@dataclass(frozen=True)
class Example:
    """A reported row on which teacher and student disagree: their answers, with the probability of each."""

    text: str
    label: str
    teacher: tuple[str, float]
    student: tuple[str, float]


@dataclass(frozen=True)
class Details:
    """What needs the reported rows themselves.

    Args:
        labels: class names.
        per_class: for ``teacher`` and ``student``: precision, recall, F1 and rows of each class.
        confusion: for both: (true class, answered class) counts.
        calibration: for both: (mean confidence, accuracy, rows) of each bin that holds rows.
        examples: where they disagree most, by the student's confidence.
        disagreements: how many rows they disagree on.
        rows: how many rows there are.
    """

    labels: tuple[str, ...]
    per_class: Mapping[str, list[dict[str, float]]]
    confusion: Mapping[str, np.ndarray]
    calibration: Mapping[str, list[tuple[float, float, int]]]
    examples: list[Example]
    disagreements: int
    rows: int


@dataclass(frozen=True)
class Run:
    """One run of a task.

    Args:
        name: its folder.
        results: its ``results.json``.
        curves: (epoch, validation score) of every model that was trained with the first seed.
        details: see :class:`Details`; ``None`` without the rows, or of a regression.
    """

    name: str
    results: Mapping[str, Any]
    curves: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)
    details: Details | None = None

    @property
    def labels_tokens(self) -> bool:
        """Whether it is about taggers, which label words."""
        return bool(self.results.get("labels_tokens"))


def collect_run(folder: str | Path, data: TaskData | None = None) -> Run:
    """A run from its folder.

    Args:
        folder: holds ``results.json``, as the task pipelines write it.
        data: the task, for what needs its rows; they must be the run's own.

    Raises:
        InputError: for a folder without results, results of several tasks, or other rows than the run reported on.
    """
    path = Path(folder)
    if not (path / "results.json").is_file():
        raise InputError(
            f"{folder} holds no results.json; give the --output folder of a distill or finetune run"
        )
    try:
        results = json.loads((path / "results.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path / 'results.json'} is no JSON ({error}); run the command that made it again"
        ) from None
    if not isinstance(results, dict) or "models" not in results or "task" not in results:
        raise InputError(
            f"{folder} holds results of several tasks or of none; give the folder of a run of one task"
        )
    _check_complete(path / "results.json", results)
    curves = {arm: _read_curve(path, arm, results) for arm in results["models"] if arm != "teacher"}
    details = None
    if data is not None:
        if data.fingerprints()["test"] != results["data"]["test"]:
            raise InputError(
                f"{folder} reported on other rows than the {len(data.test)} given ones; give the run's data options"
            )
        if not data.task.is_regression:
            details = _collect_details(path, results, data)
    return Run(path.name, results, {arm: curve for arm, curve in curves.items() if len(curve) > 1}, details)


def _check_complete(path: Path, results: Mapping[str, Any]) -> None:
    """Refuse results without what a page shows."""
    missing = [name for name in NEEDED if name not in results]
    for arm, model in results["models"].items() if isinstance(results["models"], dict) else ():
        missing += [f"models.{arm}.{name}" for name in NEEDED_OF_MODELS if name not in model]
    if missing or not results["models"]:
        raise InputError(
            f"{path} lacks {missing[0] if missing else 'models'}; give the --output folder of a finished run"
        )


def _read_curve(path: Path, arm: str, results: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Validation scores of an arm's first seed, from its own stage."""
    model = results["models"][arm].get("path")
    candidates = []
    if model:  # an ablation's models lie a folder deeper
        parts = Path(model).parts
        is_ablation = len(parts) > 1 and parts[-2].startswith("without_")
        candidates = [path / parts[-2] / parts[-1] if is_ablation else path / parts[-1]]
    for folder in candidates:
        finished = folder / "stage_finished.json"
        if finished.is_file():
            result = json.loads(finished.read_text(encoding="utf-8"))["result"]
            history = result.get("training", result).get("history", [])
            return [(entry["epoch"], entry["eval_score"]) for entry in history if "epoch" in entry]
    return []


def _collect_details(path: Path, results: Mapping[str, Any], data: TaskData) -> Details | None:
    student = results["models"].get("student", {}).get("path")
    files = {
        "teacher": path / "teacher_scores" / "logits.npz",
        "student": path / Path(student or "none").name / "logits.npz",
    }
    if not all(file.is_file() for file in files.values()):
        return None
    logits = {side: load_logits(file)["test"] for side, file in files.items()}
    truth, names = np.asarray(data.test["label"]), data.task.labels
    answers = {side: own.argmax(axis=1) for side, own in logits.items()}
    probabilities = {side: _softmax(own) for side, own in logits.items()}
    confusion = {side: _count_confusion(truth, own, len(names)) for side, own in answers.items()}
    differing = np.flatnonzero(answers["teacher"] != answers["student"])
    sure = probabilities["student"].max(axis=1) + probabilities["teacher"].max(axis=1)
    chosen = differing[np.argsort(-sure[differing], kind="stable")][:EXAMPLES]
    return Details(
        labels=names,
        per_class={side: _score_classes(own) for side, own in confusion.items()},
        confusion=confusion,
        calibration={side: _bin_confidence(own, truth) for side, own in probabilities.items()},
        examples=[_make_example(int(row), data, names, truth, answers, probabilities) for row in chosen],
        disagreements=len(differing),
        rows=len(truth),
    )


def _make_example(
    row: int,
    data: TaskData,
    names: Sequence[str],
    truth: np.ndarray,
    answers: Mapping[str, np.ndarray],
    probabilities: Mapping[str, np.ndarray],
) -> Example:
    said = {
        side: (names[answers[side][row]], float(probabilities[side][row].max()))
        for side in ("teacher", "student")
    }
    text = " ¶ ".join(str(data.test[row][column]) for column in data.task.text_columns)
    return Example(text, names[truth[row]], said["teacher"], said["student"])


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def _count_confusion(truth: np.ndarray, answers: np.ndarray, classes: int) -> np.ndarray:
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth, answers), 1)
    return counts


def _score_classes(confusion: np.ndarray) -> list[dict[str, float]]:
    """Precision, recall and F1 of each class; 0 where nothing is there to divide by."""
    right = confusion.diagonal().astype(float)
    precision = right / np.maximum(confusion.sum(axis=0), 1)
    recall = right / np.maximum(confusion.sum(axis=1), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return [
        {"precision": float(p), "recall": float(r), "f1": float(f), "rows": int(rows)}
        for p, r, f, rows in zip(precision, recall, f1, confusion.sum(axis=1), strict=True)
    ]


def _bin_confidence(probabilities: np.ndarray, truth: np.ndarray) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, rows) of the bins of confidence that hold rows."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        (
            float(confidence[bins == number].mean()),
            float(right[bins == number].mean()),
            int((bins == number).sum()),
        )
        for number in range(BINS)
        if (bins == number).any()
    ]


def name_model(arm: str) -> str:
    """How people call an arm."""
    return ROW_NAMES.get(arm, arm.replace("_", " "))
