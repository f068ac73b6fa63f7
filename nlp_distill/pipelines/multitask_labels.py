"""What teachers make of the train rows of several tasks: run once, kept by task, reused by every seed and variant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
)

from data_augment.errors import InputError
from nlp_distill.batching import DistillationCollator
from nlp_distill.encoding import EncodedRows
from nlp_distill.evaluation import load_logits, save_logits, score_majority
from nlp_distill.hashes import hash_tokenizer, hash_weights
from nlp_distill.labelling import compute_logits
from nlp_distill.metrics import compute_metrics
from nlp_distill.models import check_max_length, load_classifier, load_pretrained
from nlp_distill.pipelines.suite import Suite
from nlp_distill.stages import announce, run_stage
from nlp_distill.teachers import Teacher, match_labels, read_labels, warn_if_not_fine_tuned


@dataclass(frozen=True)
class Labels:
    """Teachers' outputs on the train rows, by task: (rows, teachers, classes), and a hash of what made them."""

    logits: Mapping[str, np.ndarray] = field(default_factory=dict)
    fingerprints: Mapping[str, Any] = field(default_factory=dict)


def load_teacher(path: str | Path, name: str, suite: Suite) -> PreTrainedModel:
    """A teacher of one task, out of a multi-task model or a classifier.

    Raises:
        InputError: for a multi-task model without the task, or a classifier with other labels.
    """
    model = load_classifier(path, name, **suite.code)
    match_labels(suite.data[name].task.labels, read_labels(model.config))
    check_max_length(model, suite.max_length)
    if hash_tokenizer(load_pretrained(AutoTokenizer, path)) != hash_tokenizer(suite.tokenizer):
        raise InputError(
            f"the teacher {path} has another tokenizer than the encoder, whose tokens it would misread; give teachers "
            "that were fine-tuned from the same encoder"
        )
    return model


def label_tasks(
    suite: Suite, teachers: Mapping[str, Sequence[str | Path]], output: Path, overwrite: bool = False
) -> Labels:
    """Run every task's teachers over its train rows once; reused by every seed and variant.

    Args:
        suite: the tasks.
        teachers: folders or hub names by task, as many for each.
        output: each task is a stage in a folder of its own below it.

    Raises:
        InputError: for a teacher of a task that it was not trained on, or different numbers of teachers.
    """
    counts = {name: len(paths) for name, paths in teachers.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise InputError(f"the tasks have {counts} teachers; give each task as many, one at least")
    logits, prints = {}, {}
    for name, paths in teachers.items():
        if name not in suite.data:
            raise InputError(
                f"a teacher is given for {name}, which is no task here; give {', '.join(suite.data)}"
            )
        models = [load_teacher(path, name, suite) for path in paths]
        inputs = {
            "suite": suite.describe([name]),
            "teachers": [hash_weights(model) for model in models],
            "labels": [list(read_labels(model.config)) for model in models],
        }

        def build(
            folder: Path, name: str = name, models: Sequence[PreTrainedModel] = models
        ) -> dict[str, Any]:
            rows = suite.encode(name, suite.list_train(name).remove_columns("label"))
            found = [_run_teacher(suite, model, name, rows) for model in models]
            save_logits(folder / "logits.npz", {"train": np.stack(found, axis=1)})
            return {"rows": len(rows)}

        run_stage(f"labelling {name} by {len(models)} teacher(s)", output / name, inputs, build, overwrite)
        logits[name] = load_logits(output / name / "logits.npz")["train"]
        warn_of_weak_teachers(suite, name, logits[name])
        prints[name] = {part: inputs[part] for part in ("teachers", "labels")}
    return Labels(logits, prints)


def warn_of_weak_teachers(suite: Suite, name: str, logits: np.ndarray) -> None:
    """Say where a task's teachers do no better on its train rows than the most frequent answer."""
    task, labels = suite.data[name].task, np.asarray(suite.list_train(name)["label"])
    score = compute_metrics(task, logits.mean(axis=1), labels)[task.metrics[0]]
    if warning := warn_if_not_fine_tuned(score, score_majority(task, labels), f"the train rows of {name}"):
        announce(f"WARNING: {warning}")


def _run_teacher(suite: Suite, model: PreTrainedModel, name: str, rows: EncodedRows) -> np.ndarray:
    logits, _ = compute_logits(Teacher(model), rows, DistillationCollator(suite.tokenizer))
    order = match_labels(suite.data[name].task.labels, read_labels(model.config))
    return logits if order is None else logits[:, order]
