"""What every training run of the pipelines shares: arguments, score, resume, and the saved student."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainingArguments, set_seed
from transformers.integrations import get_available_reporting_integrations

from data_augment.errors import InputError
from nlp_distill.limits import check_positive, check_whole
from nlp_distill.metrics import compute_metrics
from nlp_distill.processes import runs_on_cpu
from nlp_distill.tasks import Task
from nlp_distill.trainer import DistillationTrainer, NonFiniteLossError, find_last_checkpoint

MIN_LENGTH = 8  # tokens a row: a pair needs three special tokens and a word of each text
MAX_SEED = 2**32 - 1  # NumPy's largest

COMMON: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "score",
    "greater_is_better": True,
    "train_sampling_strategy": "group_by_length",
    "per_device_eval_batch_size": 64,
    "logging_steps": 50,
    "report_to": "none",
    "disable_tqdm": False,
    "dataloader_pin_memory": False,
}


def make_training_arguments(
    defaults: Mapping[str, Any], overrides: Mapping[str, Any], output_dir: Path, seed: int
) -> TrainingArguments:
    """``TrainingArguments`` from a method's defaults and the user's overrides; seeds everything.

    The random state is seeded here, before the student is made, because the Trainer's own seeding comes too late
    for weights that were drawn when the model was built.

    Raises:
        InputError: for an override that ``TrainingArguments`` does not know, or a value that it refuses.
    """
    if "seed" in overrides:
        raise InputError("seed is no training argument here; give the run's own --seed or --seeds")
    settings = {**COMMON, "use_cpu": runs_on_cpu(), **defaults, **overrides}
    settings |= {"seed": seed, "output_dir": str(output_dir)}
    if (
        settings["eval_strategy"] == "steps"
    ):  # the best checkpoint can only be one that was both scored and saved
        settings["save_strategy"] = "steps"
        settings["save_steps"] = settings.get("eval_steps", settings["logging_steps"])
    try:
        args = TrainingArguments(**settings)
    except (TypeError, ValueError) as error:
        raise InputError(f"the training arguments do not fit: {' '.join(str(error).split())}") from error
    for name in args.report_to or []:
        if name not in get_available_reporting_integrations():
            raise InputError(f"report_to is {name}, which is not installed; run `pip install {name}`")
    check_positive("learning_rate", args.learning_rate)
    if args.max_steps <= 0:
        check_positive("num_train_epochs", args.num_train_epochs)
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        check_whole(name, getattr(args, name), at_least=1)
    set_seed(args.seed)
    return args


def score_predictions(task: Task) -> Callable[[Any], dict[str, float]]:
    """A ``compute_metrics`` function for a Trainer: the task's metrics, and the first of them as ``score``.

    It raises ``NonFiniteLossError`` for outputs that are no numbers: the loss of the step before was still one.
    """

    def compute(prediction) -> dict[str, float]:
        if not np.isfinite(prediction.predictions).all():
            raise NonFiniteLossError(
                "the model's outputs on validation are NaN or infinite; lower the learning rate and run it again"
            )
        metrics = compute_metrics(task, prediction.predictions, prediction.label_ids)
        return {"score": metrics[task.metrics[0]], **metrics}

    return compute


def train_and_save(trainer: DistillationTrainer, output: Path) -> dict[str, Any]:
    """Train, from the last complete checkpoint if there is one; save the student; drop the checkpoints.

    Returns:
        ``{"validation_score", "epochs", "steps", "seconds", "history"}``; ``history`` holds the evaluations.
    """
    checkpoints = str(trainer.args.output_dir)
    result = trainer.train(resume_from_checkpoint=find_last_checkpoint(checkpoints))
    trainer.save_model(str(output))
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        (output / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nobody should have to read
        shutil.rmtree(checkpoints, ignore_errors=True)
    return {
        "validation_score": trainer.state.best_metric,
        "epochs": trainer.state.epoch,
        "steps": trainer.state.global_step,
        "seconds": round(result.metrics["train_runtime"], 1),
        "history": [entry for entry in trainer.state.log_history if "eval_score" in entry],
    }
