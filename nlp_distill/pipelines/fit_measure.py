"""What ``nlp-distill fit`` measures: the text, the form that a student ships in, and what that form scores."""

from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from data_augment.errors import InputError
from nlp_distill import runtime
from nlp_distill.calibration import draw_calibration
from nlp_distill.evaluation import describe_scores
from nlp_distill.export import OPSET, check_onnx, export_model
from nlp_distill.pipelines.fit_config import RUNTIMES
from nlp_distill.subjects import Text, fill_words
from nlp_distill.tasks import Task, TaskData
from nlp_distill.teachers import match_labels

SAMPLE_ROWS = 500  # of train, that the words of the measured text come from


def make_task_text(tokenizer: Any, data: TaskData, tokens: int) -> tuple[Text, int]:
    """A text, or a pair, of so many tokens from the words of the task's own rows, and how many it has.

    Words of the task and not of the tokenizer's list, because a student whose vocabulary was cut to the task would cut
    others to pieces, and be timed on a longer text than its teacher.

    Args:
        tokenizer: counts the tokens, special ones included.
        data: the task; words of its train rows are taken in their order.
        tokens: the length that is wanted; the text is shorter by a few where no word fits the end.

    Raises:
        InputError: for too few tokens to hold a word each.
    """
    columns = data.task.text_columns
    special = tokenizer.num_special_tokens_to_add(len(columns) == 2)
    room = tokens - special
    rows = data.train.select(range(min(SAMPLE_ROWS, len(data.train))))
    words = [word for column in columns for text in rows[column] for word in text.split()]
    shares = [room // len(columns)] * (len(columns) - 1)
    texts = [fill_words(tokenizer, words, share) for share in [*shares, room - sum(shares)]]
    if not all(texts):
        needed = special + len(columns)
        raise InputError(f"a text of {tokens} tokens has no room for words; give --tokens {needed} or more")
    text: Text = texts[0] if len(texts) == 1 else (texts[0], texts[1])
    return text, len(tokenizer(*texts)["input_ids"])


def check_runtime(name: str) -> None:
    """Refuse, before any work, a runtime whose packages are missing.

    Raises:
        InputError: saying what to install.
    """
    if name != "torch":
        check_onnx(OPSET)


def write_form(
    model: PreTrainedModel, tokenizer: Any, folder: Path, runtime_name: str, max_length: int, data: TaskData
) -> None:
    """Write a model as it ships: saved for torch, or exported for onnxruntime, with its tokenizer."""
    quantize = RUNTIMES[runtime_name]
    if quantize is None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    else:
        export_model(
            model,
            tokenizer,
            folder,
            quantize=quantize,
            max_length=max_length,
            is_pair=data.task.is_pair,
            calibration=draw_calibration(data),
        )


def score_exported(folder: Path, data: TaskData, threads: int) -> dict[str, float]:
    """Scores of an exported model on validation and test, one text at a time, as it will be asked.

    Rows in a batch would share the range of their int8 activations, and come out differently.
    """
    classifier = runtime.Classifier(folder, threads=threads, batch_size=1)
    splits = {"validation": data.validation, "test": data.test}
    return {
        name: score_logits(
            data.task, classifier.compute_logits(data.task.read_texts(rows)), rows, classifier.labels
        )
        for name, rows in splits.items()
    }


def score_logits(task: Task, logits: np.ndarray, rows: Any, labels: list[str] | None = None) -> float:
    """The task's score.

    Args:
        task: the task.
        logits: (rows, classes).
        rows: with their labels.
        labels: the order of the classes; ``None`` for the task's.
    """
    order = match_labels(task.labels, labels) if labels else None
    logits = logits if order is None else logits[:, order]
    return describe_scores(task, logits, np.asarray(rows["label"]))["score"]
