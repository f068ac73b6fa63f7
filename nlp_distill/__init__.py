"""Distil a fine-tuned BERT into a student ten to a hundred times cheaper, with the evidence.

    from nlp_distill import BiLSTMConfig, BiLSTMForSequenceClassification, DistillationTrainer
    from nlp_distill.objectives import HardLabels, LogitRegression, SoftTargets

Names are loaded when they are first used, so that ``import nlp_distill`` is fast and loads no torch;
``import nlp_distill.students`` also registers the student classes with transformers' Auto classes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlp_distill.objectives import HardLabels, LogitRegression, Objective, SoftTargets
    from nlp_distill.students import (
        BiLSTMConfig,
        BiLSTMForSequenceClassification,
        CNNConfig,
        CNNForSequenceClassification,
    )
    from nlp_distill.tasks import Task, TaskData, load_task
    from nlp_distill.teachers import Teacher
    from nlp_distill.trainer import DistillationTrainer

__version__ = "0.1.0"

_HOME = {
    "BiLSTMConfig": "nlp_distill.students",
    "BiLSTMForSequenceClassification": "nlp_distill.students",
    "CNNConfig": "nlp_distill.students",
    "CNNForSequenceClassification": "nlp_distill.students",
    "DistillationTrainer": "nlp_distill.trainer",
    "HardLabels": "nlp_distill.objectives",
    "LogitRegression": "nlp_distill.objectives",
    "Objective": "nlp_distill.objectives",
    "SoftTargets": "nlp_distill.objectives",
    "Task": "nlp_distill.tasks",
    "TaskData": "nlp_distill.tasks",
    "Teacher": "nlp_distill.teachers",
    "load_task": "nlp_distill.tasks",
}

__all__ = [
    "BiLSTMConfig",
    "BiLSTMForSequenceClassification",
    "CNNConfig",
    "CNNForSequenceClassification",
    "DistillationTrainer",
    "HardLabels",
    "LogitRegression",
    "Objective",
    "SoftTargets",
    "Task",
    "TaskData",
    "Teacher",
    "load_task",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nlp_distill' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
