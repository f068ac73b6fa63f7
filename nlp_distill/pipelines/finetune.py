"""Fine-tune a pre-trained encoder on a task: how a teacher is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification, AutoTokenizer

from nlp_distill.encoding import encode_rows
from nlp_distill.limits import check_whole
from nlp_distill.models import check_max_length, check_vocabulary, load_pretrained
from nlp_distill.tasks import TaskData
from nlp_distill.trainer import DistillationTrainer
from nlp_distill.training import (
    MAX_SEED,
    MIN_LENGTH,
    make_training_arguments,
    score_predictions,
    train_and_save,
)

TRAINING: dict[
    str, Any
] = {  # BERT §A.3: batch 16 or 32, lr 2e-5 to 5e-5, 2-4 epochs; §A.2: warm-up, weight decay
    "learning_rate": 5e-5,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 32,
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of a fine-tuning.

    Args:
        model: name or path of a pre-trained encoder.
        max_length: tokens a row; 128 is GLUE practice.
        seed: seed of head, order and dropout.
        training: fields of ``TrainingArguments`` over the defaults in ``TRAINING``.
        trust_remote_code: run code that comes with the model. Off unless asked for.
    """

    model: str
    max_length: int = 128
    seed: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_whole("max_length", self.max_length, at_least=MIN_LENGTH)
        check_whole("seed", self.seed, at_least=0, at_most=MAX_SEED)


def finetune(config: FinetuneConfig, data: TaskData, output_dir: str | Path) -> dict[str, Any]:
    """Fine-tune, and save the checkpoint with the best validation score; resumes where an earlier run stopped.

    Args:
        config: the settings.
        data: the task. Train is learnt, validation selects the checkpoint, test is not looked at.
        output_dir: where model and tokenizer go; checkpoints go into ``checkpoints``, which the stage drops at its end.

    Returns:
        What :func:`nlp_distill.training.train_and_save` returns.

    Raises:
        InputError: for a model that cannot be loaded or reads fewer tokens than ``max_length``, or training arguments
            that do not fit.
    """
    task, output = data.task, Path(output_dir)
    args = make_training_arguments(TRAINING, config.training, output, config.seed, task.metrics)
    code = {"trust_remote_code": config.trust_remote_code}
    tokenizer = load_pretrained(AutoTokenizer, config.model, **code)
    names = {"id2label": task.id2label, "label2id": task.label2id} if task.labels else {}
    model = load_pretrained(
        AutoModelForSequenceClassification,
        config.model,
        num_labels=task.num_labels,
        problem_type="regression" if task.is_regression else "single_label_classification",
        ignore_mismatched_sizes=True,  # a head for another number of classes is replaced by a new one
        **names,
        **code,
    )
    check_max_length(model, config.max_length)
    check_vocabulary(model, tokenizer)
    trainer = DistillationTrainer(
        model=model,
        args=args,
        train_dataset=encode_rows(data.train, tokenizer, task.text_columns, config.max_length),
        eval_dataset=encode_rows(
            data.validation, tokenizer, task.text_columns, config.max_length
        ).sort_by_length(),
        processing_class=tokenizer,
        compute_metrics=score_predictions(task),
    )
    return train_and_save(trainer, output)
