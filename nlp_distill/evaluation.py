"""Score a model on a split: the task's metrics, calibration, agreement with the teacher, size."""

import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from data_augment.errors import InputError
from nlp_distill.batching import DistillationCollator
from nlp_distill.encoding import encode_rows
from nlp_distill.labelling import compute_logits
from nlp_distill.manifest import replacing
from nlp_distill.metrics import agreement, compute_metrics, expected_calibration_error, kl_to_teacher
from nlp_distill.students import count_parameters
from nlp_distill.tasks import Task
from nlp_distill.teachers import Teacher, match_labels, read_labels

MIN_ANSWERS = 50  # of each model, when answers are timed: fewer say little


def predict_logits(model: PreTrainedModel, tokenizer, rows, task: Task, max_length: int) -> np.ndarray:
    """Logits of every row in row order, (rows, classes), with the classes in the order of the task's labels.

    Args:
        model: any sequence classifier; it is put in eval mode and its gradients are stopped.
        tokenizer: its tokenizer.
        rows: a ``datasets.Dataset`` with the task's text columns.
        task: the task.
        max_length: tokens a row.

    Raises:
        InputError: for answers that are no numbers, or labels other than the task's.
    """
    encoded = encode_rows(
        rows.select_columns(list(task.text_columns)), tokenizer, task.text_columns, max_length
    )
    logits, _ = compute_logits(Teacher(model), encoded, DistillationCollator(tokenizer))
    if not np.isfinite(logits).all():
        rows_lost = int((~np.isfinite(logits)).any(axis=1).sum())
        raise InputError(
            f"{model.config.name_or_path or 'the model'} answers {rows_lost} of {len(logits)} rows with NaN or "
            "infinity; check its weights, or train it at a lower learning rate"
        )
    order = match_labels(task.labels, read_labels(model.config))
    return logits if order is None else logits[:, order]


def describe_scores(
    task: Task, logits: np.ndarray, labels: Any, teacher_logits: np.ndarray | None = None
) -> dict:
    """Metrics of one model as plain values.

    Returns:
        ``{"score", "metrics", "agreement"}``: the task's first metric, all of them with ``calibration_error`` (and
        ``kl_to_teacher``, nats) for classifications, and agreement with the teacher where its logits are given. A model
        that answers every row alike has ``collapsed_to`` too, that answer.
    """
    metrics = compute_metrics(task, logits, labels)
    score = metrics[task.metrics[0]]
    if not task.is_regression:
        metrics["calibration_error"] = expected_calibration_error(logits, labels)
    described: dict[str, Any] = {"score": score, "metrics": metrics}
    if (answer := find_only_answer(task, logits)) is not None:
        described["collapsed_to"] = answer
    if teacher_logits is not None:
        described["agreement"] = agreement(logits, teacher_logits)
        if not task.is_regression:
            metrics["kl_to_teacher"] = kl_to_teacher(logits, teacher_logits)
    return described


def find_only_answer(task: Task, logits: np.ndarray) -> str | float | None:
    """What a model answers where it answers all of several rows alike: a label, a value; else None."""
    answers = logits[:, 0] if task.is_regression else logits.argmax(axis=1)
    if len(answers) < 2 or (answers != answers[0]).any():
        return None
    return float(answers[0]) if task.is_regression else task.labels[int(answers[0])]


def describe_size(model: PreTrainedModel, folder: str | Path) -> dict[str, int]:
    """``{"parameters", "parameters_without_embeddings", "bytes"}``: bytes are those of the saved weights.

    Where ``folder`` holds none (a hub name, an old format), they are the bytes of the weights in memory.
    """
    parameters, without_embeddings = count_parameters(model)
    weights = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    weights = weights or sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return {"parameters": parameters, "parameters_without_embeddings": without_embeddings, "bytes": weights}


def score_majority(task: Task, labels: Any) -> float:
    """The task's score of always answering the most frequent class; 0 for a regression."""
    if task.is_regression:
        return 0.0
    counts = np.bincount(np.asarray(labels), minlength=task.num_labels)
    logits = np.tile(np.eye(task.num_labels)[counts.argmax()], (len(labels), 1))
    return compute_metrics(task, logits, labels)[task.metrics[0]]


def save_logits(path: Path, logits: Mapping[str, np.ndarray]) -> None:
    """Keep logits by split, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **logits)  # type: ignore[arg-type]


def load_logits(path: Path) -> dict[str, np.ndarray]:
    """What :func:`save_logits` kept.

    Raises:
        InputError: for a damaged file.
    """
    try:
        with np.load(path, allow_pickle=False) as logits:
            return {name: logits[name] for name in logits.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is damaged ({error}); remove its folder, and run the command that made it again"
        ) from error


def make_answer(model: PreTrainedModel, tokenizer: Any, max_length: int) -> Callable[[tuple[str, ...]], Any]:
    """A function from one text (or pair) to its logits, tokenisation included."""

    def answer(texts: tuple[str, ...]) -> Any:
        encoded = tokenizer(*texts, truncation=True, max_length=max_length, return_tensors="pt").to(
            model.device
        )
        accepted = {key: value for key, value in encoded.items() if key in tokenizer.model_input_names}
        return model.eval()(**accepted).logits.cpu()

    return answer


def measure_speed(
    answers: Mapping[str, Callable[[tuple[str, ...]], Any]], texts: Sequence[tuple[str, ...]]
) -> dict[str, float]:
    """Median milliseconds of an answer, for each model.

    The models take turns on every text, twice, and the better of the two counts, in one process with its current number
    of threads, so that their ratios hold on a machine that is busy with other things too.

    Args:
        answers: by the model's name, what answers one text or pair; of :func:`make_answer`, for example.
        texts: the texts, asked again from the first where they are fewer than ``MIN_ANSWERS``; the first tenth warms up
            and is not counted.
    """
    asked = [texts[number % len(texts)] for number in range(max(len(texts), MIN_ANSWERS))]
    times: dict[str, list[float]] = {name: [] for name in answers}
    with torch.inference_mode():
        for text in asked:
            tries = [(name, _time_answer(answer, text)) for _ in range(2) for name, answer in answers.items()]
            for name in answers:
                times[name].append(min(seconds for tried, seconds in tries if tried == name))
    warm_up = len(asked) // 10
    return {name: 1000 * median(values[warm_up:]) for name, values in times.items()}


def _time_answer(answer: Callable[[tuple[str, ...]], Any], text: tuple[str, ...]) -> float:
    started = time.perf_counter()
    answer(text)
    return time.perf_counter() - started
