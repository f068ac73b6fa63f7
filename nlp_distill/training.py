"""What every training run of the pipelines shares: arguments, score, resume, and the saved student."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from transformers import ProgressCallback, TrainerCallback, TrainingArguments, set_seed
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_callback import ExportableState

from data_augment.errors import InputError
from nlp_distill.checkpoints import find_last_checkpoint
from nlp_distill.interrupts import checkpoint_on_signals
from nlp_distill.limits import check_positive, check_whole
from nlp_distill.metrics import compute_metrics
from nlp_distill.precision import check_bf16
from nlp_distill.processes import runs_on_cpu
from nlp_distill.stages import CHECKPOINTS
from nlp_distill.tasks import Task
from nlp_distill.trainer import DistillationTrainer, NonFiniteLossError

WITHOUT_EFFECT = ("label_smoothing_factor", "batch_eval_metrics")
OF_THE_HUB = ("push_to_hub", "hub_model_id")
TENSORBOARD = "runs"  # transformers' folder for it, in ``output_dir``
MIN_LENGTH = 8  # tokens a row: a pair needs three special tokens and a word of each text
MAX_SEED = 2**32 - 1  # NumPy's largest

COMMON: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "score",
    "train_sampling_strategy": "group_by_length",
    "per_device_eval_batch_size": 64,
    "logging_steps": 50,
    "report_to": "none",
    "disable_tqdm": False,
    "dataloader_pin_memory": False,
}


def make_training_arguments(
    defaults: Mapping[str, Any],
    overrides: Mapping[str, Any],
    folder: Path,
    seed: int,
    metrics: Sequence[str] = (),
) -> TrainingArguments:
    """``TrainingArguments`` from a method's defaults and the user's overrides; seeds everything.

    The random state is seeded here, before the student is made, because the Trainer's own seeding comes too late
    for weights that were drawn when the model was built.

    Args:
        defaults: the method's.
        overrides: the user's.
        folder: of the stage; checkpoints go into its folder for them, ``stages.CHECKPOINTS``.
        seed: of the run.
        metrics: the task's metrics, any of which may choose the checkpoint; the first is called ``score`` too.

    Raises:
        InputError: for an override that ``TrainingArguments`` does not know, a value that it refuses, one that would
            have no effect here, or bf16 on a processor that does not run it.
    """
    if "seed" in overrides:
        raise InputError("seed is no training argument here; give the run's own --seed or --seeds")
    if any(overrides.get(name) for name in OF_THE_HUB):
        raise InputError(
            f"{', '.join(OF_THE_HUB)} are no training arguments here, where every student would go to the same place; "
            "push the finished one with --push-to-hub, or nlp_distill.hub.push_folder"
        )
    for name in WITHOUT_EFFECT:
        if overrides.get(name):
            raise InputError(f"{name} has no effect here, where the objective makes the loss; leave it out")
    # Trackers tell the trainings of one run apart by the folder that each goes to.
    own = {"use_cpu": runs_on_cpu(), "run_name": folder.name or None}
    settings = {**COMMON, **own, **defaults, **overrides}
    settings |= {"seed": seed, "output_dir": str(folder / CHECKPOINTS)}
    if (
        settings["eval_strategy"] == "steps"
    ):  # the best checkpoint can only be one that was both scored and saved
        scored = settings.get("eval_steps", settings["logging_steps"])
        if overrides.get("save_steps", scored) != scored:
            raise InputError(
                f"save_steps is {overrides['save_steps']:g}, and checkpoints are saved where they are scored, every "
                f"{scored:g} steps; leave it out, or give eval_steps"
            )
        settings |= {"save_strategy": "steps", "save_steps": scored}
    try:
        args = TrainingArguments(**settings)
    except (TypeError, ValueError) as error:
        raise InputError(f"the training arguments do not fit: {' '.join(str(error).split())}") from error
    check_bf16(args)
    chooses = str(args.metric_for_best_model).removeprefix("eval_")
    if args.metric_for_best_model and metrics and chooses not in ("score", "loss", *metrics):
        raise InputError(f"metric_for_best_model is {chooses}; give score, loss, {', '.join(metrics)}")
    for name in args.report_to or []:
        if name not in get_available_reporting_integrations():
            raise InputError(f"report_to is {name}, which is not installed; run `pip install {name}`")
    check_positive("learning_rate", args.learning_rate)
    if args.max_steps <= 0:
        check_positive("num_train_epochs", args.num_train_epochs)
    check_whole("dataloader_num_workers", args.dataloader_num_workers, at_least=0)
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        check_whole(name, getattr(args, name), at_least=1)
    set_seed(args.seed)
    return args


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse no seeds, one that is given twice, and what is no seed.

    Raises:
        InputError: saying which.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds are {seeds}; give one or more, each once")
    for seed in seeds:
        check_whole("a seed", seed, at_least=0, at_most=MAX_SEED)


def check_baseline_rates(rates: Sequence[float], training: Mapping[str, Any]) -> None:
    """Refuse learning rates to try for a baseline that are none, or that nothing would choose from.

    Args:
        rates: to try.
        training: the user's fields of ``TrainingArguments`` for it.

    Raises:
        InputError: saying what to change.
    """
    for rate in rates:
        check_positive("a learning rate of the baseline", rate)
    if rates and training.get("eval_strategy") == "no":
        raise InputError(
            "baseline_learning_rates are chosen from by validation scores, and eval_strategy is no; leave out one of "
            "the two"
        )


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


def find_evaluation(trainer: DistillationTrainer) -> Mapping[str, Any]:
    """What validation said of the weights that training ended with; empty if nothing was evaluated.

    They are those of the best checkpoint where it is loaded at the end, whatever metric chose it, else the last ones.
    """
    found: dict[Any, Any] = {
        entry["step"]: entry for entry in trainer.state.log_history if "eval_score" in entry
    }
    best = trainer.state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    step = int(best.rpartition("-")[2]) if best else max(found, default=-1)
    return found.get(step, {})


@contextmanager
def end_bar_on_error(trainer: DistillationTrainer) -> Iterator[None]:
    """End the line of the progress bar where training stops in the middle, so that the message has its own."""
    try:
        yield
    except BaseException:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, ProgressCallback) and callback.training_bar is not None:
                callback.training_bar.close()
        raise


def finish_tracking(report_to: str | Sequence[str] | None) -> None:
    """End the run that W&B keeps open until the process ends: the next student shall have one of its own."""
    wandb = sys.modules.get("wandb") if "wandb" in (report_to or ()) else None
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def train_and_save(trainer: DistillationTrainer, output: Path) -> dict[str, Any]:
    """Train, from the last complete checkpoint if there is one, and save the student.

    The checkpoints stay until :func:`nlp_distill.stages.run_stage` is done with what follows, scoring for example.
    What was written for TensorBoard beside the checkpoints stays, as ``output/runs``.

    Returns:
        ``{"validation_score", "selected_step", "epochs", "steps", "seconds", "history"}``; ``history`` holds the
        evaluations, of which ``selected_step`` is that of the saved weights, and ``seconds`` counts those before the
        checkpoint that the training continued at, too.
    """
    checkpoints = str(trainer.args.output_dir)
    clock = _Clock()
    trainer.add_callback(clock)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(_Progress())
    with checkpoint_on_signals(trainer), end_bar_on_error(trainer):
        trainer.train(resume_from_checkpoint=find_last_checkpoint(checkpoints))
    seconds = clock.read()
    trainer.save_model(str(output))
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        (output / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nobody should have to read
        if (written := Path(checkpoints, TENSORBOARD)).is_dir():
            shutil.copytree(written, output / TENSORBOARD, dirs_exist_ok=True)
        finish_tracking(trainer.args.report_to)
    chosen = find_evaluation(trainer)
    return {
        "validation_score": chosen.get("eval_score"),
        "selected_step": chosen.get("step"),
        "epochs": trainer.state.epoch,
        "steps": trainer.state.global_step,
        "seconds": round(seconds, 1),
        "history": [entry for entry in trainer.state.log_history if "eval_score" in entry],
    }


UNSHOWN = ("runtime", "per_second", "total_flos", "epoch")  # the bar says them


def show_logs(logs: Mapping[str, Any], epoch: float | None) -> str:
    """What a Trainer logs as one line for people; "" where the bar says it all."""
    shown = {name: value for name, value in logs.items() if not name.endswith(UNSHOWN)}
    numbers = (
        f"{name.replace('_', ' ')} {value:.4g}" for name, value in shown.items() if isinstance(value, float)
    )
    line = ", ".join(numbers)
    return f"epoch {epoch:.2f}: {line}" if line and epoch is not None else line


class _Progress(ProgressCallback):
    """The Trainer's bars; what is logged goes beside them on standard error, since standard output is for results."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if (
            state.is_world_process_zero
            and self.training_bar is not None
            and (line := show_logs(logs, state.epoch))
        ):
            self.training_bar.write(line, file=sys.stderr)


class _Clock(TrainerCallback, ExportableState):
    """How long a training has taken, over all its parts: checkpoints keep what had passed until then.

    The Trainer's ``train_runtime`` is of the last part, and negative where the clock was set back meanwhile.
    """

    def __init__(self) -> None:
        self.earlier = 0.0
        self.started = time.perf_counter()

    def read(self) -> float:
        """Seconds so far."""
        return self.earlier + time.perf_counter() - self.started

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"seconds": self.read()}}

    def on_train_begin(self, args, state, control, **kwargs):
        kept = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        self.earlier = kept["attributes"]["seconds"]
        self.started = time.perf_counter()
