"""What every task pipeline does with its models: logits of all reported splits, scores, and the teacher's stage."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from nlp_distill.evaluation import (
    describe_scores,
    describe_size,
    load_logits,
    make_answer,
    measure_speed,
    predict_logits,
    save_logits,
    score_majority,
)
from nlp_distill.hashes import hash_tokenizer, hash_weights
from nlp_distill.models import load_pretrained
from nlp_distill.stages import announce, run_stage
from nlp_distill.tasks import TaskData
from nlp_distill.teachers import read_labels, warn_if_not_fine_tuned

TEACHER_FOLDER = "teacher_scores"
SPEED_TEXTS = 200  # test texts that teacher and student are timed on


def predict_splits(
    model: PreTrainedModel, tokenizer: Any, data: TaskData, max_length: int
) -> dict[str, np.ndarray]:
    """Logits (rows, classes) of validation, test, and the further reported sets."""
    splits = {"validation": data.validation, "test": data.test, **data.extra_tests}
    return {
        name: predict_logits(model, tokenizer, rows, data.task, max_length) for name, rows in splits.items()
    }


def describe_test(
    data: TaskData, logits: Mapping[str, np.ndarray], teacher_logits: Mapping[str, np.ndarray] | None = None
) -> dict[str, Any]:
    """Scores on test, and under ``extra_tests`` on further reported sets, such as MNLI mismatched.

    Sets without public labels are left out.
    """
    reference = None if teacher_logits is None else teacher_logits["test"]
    scores = describe_scores(data.task, logits["test"], data.test["label"], reference)
    extra = {}
    for name, rows in data.extra_tests.items():
        labels = np.asarray(rows["label"])
        if data.task.is_regression or (labels >= 0).all():
            reference = None if teacher_logits is None else teacher_logits[name]
            extra[name] = describe_scores(data.task, logits[name], labels, reference)
    return scores | ({"extra_tests": extra} if extra else {})


def score_teacher(
    teacher: PreTrainedModel,
    tokenizer: Any,
    data: TaskData,
    max_length: int,
    output: Path,
    prints: Mapping[str, Any],
    overwrite: bool = False,
) -> dict[str, Any]:
    """The stage that keeps the teacher's logits on the reported splits, scores them, and checks that it was fine-tuned.

    Returns:
        ``{"entry", "warning"}``: the teacher's place in the results, and a warning or ``None``.
    """

    def build(folder: Path) -> dict[str, Any]:
        logits = predict_splits(teacher, tokenizer, data, max_length)
        save_logits(folder / "logits.npz", logits)
        labels = np.asarray(data.validation["label"])
        validation = describe_scores(data.task, logits["validation"], labels)["score"]
        warning = warn_if_not_fine_tuned(validation, score_majority(data.task, labels), "validation")
        entry = describe_test(data, logits) | {"validation_score": validation}
        return {"entry": entry | describe_size(teacher, str(teacher.config.name_or_path)), "warning": warning}

    inputs = {"teacher": describe_teacher(teacher, tokenizer, max_length), "data": prints}
    result = run_stage("scoring the teacher", output / TEACHER_FOLDER, inputs, build, overwrite)
    if not result["warning"]:
        return result
    announce(f"WARNING: {result['warning']}")
    return {**result, "entry": {**result["entry"], "warning": result["warning"]}}


def describe_teacher(teacher: PreTrainedModel, tokenizer: Any, max_length: int) -> dict[str, Any]:
    """What a stage's result depends on of the teacher."""
    return {
        "weights": hash_weights(teacher),
        "labels": list(read_labels(teacher.config)),
        "tokenizer": hash_tokenizer(tokenizer),
        "max_length": max_length,
    }


def load_teacher_logits(output: Path) -> dict[str, np.ndarray]:
    """The teacher's logits on the reported splits, kept by :func:`score_teacher`."""
    return load_logits(output / TEACHER_FOLDER / "logits.npz")


def compare_speed(
    teacher: PreTrainedModel, tokenizer: Any, student_folder: Path, data: TaskData, max_length: int
) -> dict[str, Any]:
    """Teacher and saved student side by side on test texts, one at a time, on the CPU or accelerator at hand."""
    student = load_pretrained(AutoModelForSequenceClassification, student_folder).to(teacher.device)
    student_tokenizer = load_pretrained(AutoTokenizer, student_folder)
    answers = {
        "teacher": make_answer(teacher, tokenizer, max_length),
        "student": make_answer(student, student_tokenizer, max_length),
    }
    return time_models(answers, data)


def time_models(answers: Mapping[str, Callable[[tuple[str, ...]], Any]], data: TaskData) -> dict[str, Any]:
    """Median milliseconds of each model's answer to test texts, and how many there were."""
    rows = data.test.select(range(min(SPEED_TEXTS, len(data.test))))
    texts = [tuple(row[column] for column in data.task.text_columns) for row in rows]
    return {
        "median_ms": measure_speed(answers, texts),
        "texts": len(texts),
        "threads": torch.get_num_threads(),
    }
