"""``DistillationTrainer``: the Hugging Face Trainer with a teacher and an objective."""

import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from accelerate.utils import convert_to_fp32
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainerCallback
from transformers.modeling_outputs import ModelOutput, SequenceClassifierOutput
from transformers.trainer_utils import has_length

from data_augment.errors import InputError
from nlp_distill.batching import (
    OF_TEACHER,
    TASK_IDS,
    TEACHER_LOGITS,
    TEACHER_PREFIX,
    TEACHER_STATES,
    DistillationCollator,
    LengthGroupedSampler,
)
from nlp_distill.checkpoints import find_last_checkpoint, mark_complete, remove_checkpoints, unmark
from nlp_distill.distillation_model import DistillationModel
from nlp_distill.internals import ATTACHED_LOGITS, INPUT_EMBEDDINGS
from nlp_distill.memory import MemoryLackError, lacks_memory, run_in_memory
from nlp_distill.objectives.hard_labels import HardLabels, hard_label_loss
from nlp_distill.objectives.objective import Objective, check_optimizer, check_weights, reads_teacher_logits
from nlp_distill.objectives.over_tokens import TOKEN_MASK
from nlp_distill.teacher_states import restore_outputs
from nlp_distill.teachers import Teacher, check_single_label, has_classes, unwrap_compiled

OBJECTIVE_FILE = "objective.safetensors"
WITH_LESS_MEMORY = (
    "The same command goes on at the last checkpoint, once there is more; or halve per_device_train_batch_size and "
    "double gradient_accumulation_steps: the same steps, from the beginning (--overwrite)"
)


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite; training stopped before the optimiser could spread it."""


class DistillationTrainer(Trainer):
    """A Trainer whose loss is an objective over the student's and the teacher's outputs.

    Args:
        model: the student, any ``PreTrainedModel``. It is trained in place, and ``save_model`` writes it alone: a
            folder that loads with plain ``from_pretrained``. ``trainer.model`` is a small module around it.
        teacher: a model, a list of models, a ``Teacher``, or ``None`` when the rows carry ``teacher_logits`` (or the
            objective needs no teacher). It is frozen, in eval mode, runs without gradients and in the student's
            precision (``bf16`` or ``fp16`` of the arguments), and is never saved. Rows of
            ``nlp_distill.teacher_states.RowsWithStates`` bring its hidden states and attention too.
        objective: what to learn, for example ``SoftTargets(4.0, weight=0.7) + HardLabels(weight=0.3)``. Default:
            ``HardLabels()``, which is fine-tuning.
        args, train_dataset, eval_dataset, processing_class, ...: as in ``Trainer``. ``processing_class`` is the
            student's tokenizer. Rows are encoded for the student (``input_ids``, ...), may carry ``labels`` (``None``
            where a row has none), cached ``teacher_logits``, and ``teacher_input_ids``, ... where the online teacher
            tokenises differently; pass its tokenizer in ``Teacher(model, tokenizer)`` then.

    What it does differently from ``Trainer``, and why:

    * With gradient accumulation the loss is divided by the number of micro-batches also for models whose ``forward``
      takes ``**kwargs``: 4x1 and 2x2 give the same step. This holds for losses that are means over all rows; a loss
      across the rows of a batch depends on the micro-batch by its nature, and so does ``HardLabels`` where only some
      rows have labels (its mean runs over those), and the last, smaller micro-batch of an epoch.
    * ``train_sampling_strategy="group_by_length"`` uses an order seeded by the epoch, so that a resumed run sees the
      batches of the uninterrupted one; evaluation always keeps the order of the rows.
    * A NaN or infinite loss raises ``NonFiniteLossError`` at its step, and a lack of memory an ``InputError`` that says
      what to do.
    * ``resume_from_checkpoint=True`` takes the newest checkpoint that was written completely.

    Each term of the objective is logged under its own name.

    Raises:
        ValueError: for an objective of which every weight is 0, and for settings that the objective replaces.
        InputError: for a student or teacher with other labels than the other's, or with several labels or values a text
            (``problem_type``).

    Example:
        >>> trainer = DistillationTrainer(
        ...     model=student, teacher=teacher, objective=SoftTargets(4.0, weight=0.7) + HardLabels(weight=0.3),
        ...     args=TrainingArguments("run"), train_dataset=rows, processing_class=tokenizer,
        ... )  # doctest: +SKIP
    """

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: PreTrainedModel,
        teacher: PreTrainedModel | Sequence[PreTrainedModel] | Teacher | None = None,
        objective: Objective | None = None,
        args=None,
        data_collator=None,
        train_dataset=None,
        eval_dataset=None,
        processing_class=None,
        **kwargs,
    ):
        if kwargs.get("compute_loss_func") is not None:
            raise ValueError(
                "compute_loss_func is not used here: the objective makes the loss; write an Objective"
            )
        if args is not None and args.label_smoothing_factor:
            raise ValueError(
                "label_smoothing_factor has no effect here: the objective makes the loss; set it to 0"
            )
        if kwargs.get("model_init") is not None:
            raise ValueError("model_init is not used here: make the student first, and give it as model")
        # TrainingArguments(torch_compile=True) compiles student and loss together.
        model = unwrap_compiled(model)
        check_single_label(model, "student")
        objective = HardLabels() if objective is None else objective
        check_weights(objective)
        self.teacher = teacher if teacher is None or isinstance(teacher, Teacher) else Teacher(teacher)
        if self.teacher is not None:
            if not objective.needs_teacher:
                warnings.warn(
                    "a teacher is given, and the objective asks it nothing; give objective=SoftTargets(), or the like",
                    stacklevel=2,
                )
            if has_classes(model):  # an encoder's labels are its config's invention
                self.teacher.match_labels(model.config)
        if data_collator is None and processing_class is not None:
            teacher_tokenizer = self.teacher.tokenizer if self.teacher else None
            data_collator = DistillationCollator(processing_class, teacher_tokenizer)
        super().__init__(
            model=DistillationModel(model, objective),
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        self.label_names = ["labels"]
        check_optimizer(self.optimizer, objective)
        if self.teacher is not None:
            if not brings_teacher_inputs(train_dataset) and hasattr(processing_class, "get_vocab"):
                self.teacher.check_reads(processing_class)
            self.teacher.to(self.args.device)
        self._term_sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.args.device))
        self._term_count = 0
        self._train_sampler: LengthGroupedSampler | None = None
        self.add_callback(_SetEpochOfSampler(self))

    @property
    def student(self) -> PreTrainedModel:
        """The student being trained."""
        return self.accelerator.unwrap_model(self.model).student

    # ---- loss ---------------------------------------------------------------------------------------------------

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Loss of one micro-batch: the sum of the objective's terms, a mean over rows."""
        outputs = model(batch=inputs, teacher_outputs=self._teacher_outputs(inputs), progress=self.progress)
        if self.model.training:
            self._term_count += 1
            for name, value in outputs["terms"].items():
                self._term_sums[name] = self._term_sums[name] + value.detach().mean()
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    @property
    def progress(self) -> float:
        """Share of the optimiser steps done, in [0, 1]."""
        return self.state.global_step / self.state.max_steps if self.state.max_steps > 0 else 0.0

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error) or self.args.auto_find_batch_size:  # which tries again with fewer rows
                raise
            rows, tokens = inputs["input_ids"].shape
            raise MemoryLackError(
                f"there is no memory for a step of {rows} rows of {tokens} tokens. {WITH_LESS_MEMORY}"
            ) from error
        if not torch.isfinite(loss).all():
            raise NonFiniteLossError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}; the last checkpoint is intact. "
                "Lower the learning rate, or look for NaN in the labels and teacher_logits"
            )
        return loss

    def _teacher_outputs(self, inputs: Mapping[str, Any]) -> ModelOutput | None:
        objective = self.accelerator.unwrap_model(self.model).objective
        if not objective.needs_teacher:
            return None
        if TEACHER_LOGITS in inputs and not objective.needs:
            return SequenceClassifierOutput(logits=inputs[TEACHER_LOGITS])
        if TEACHER_STATES in inputs:
            kept = restore_outputs(inputs[TEACHER_STATES], inputs.get(TEACHER_LOGITS))
            has_logits = TEACHER_LOGITS in inputs or not reads_teacher_logits(objective)
            if self.teacher is None or (has_logits and all(kind in kept for kind in objective.needs)):
                return kept
        if self.teacher is None:
            return None
        with self.accelerator.autocast():  # in mixed precision, as the student
            outputs = self.teacher.run(inputs, objective.needs)
        single = convert_to_fp32(outputs)  # again as the student's
        # The rows' own logits are learnt, whatever else the objective reads.
        if TEACHER_LOGITS in inputs and "logits" in single:
            single["logits"] = inputs[TEACHER_LOGITS]
        for name in (INPUT_EMBEDDINGS, ATTACHED_LOGITS):
            if name in outputs:  # derivatives are taken by these very tensors
                single[name] = outputs[name]
        return single

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Logits of the student and the loss to its labels; evaluation asks nothing of the teacher.

        Without memory for all rows their halves are run; not in one of several processes, for whom the others wait.
        """
        inputs = self._prepare_inputs(inputs)
        read = self.accelerator.unwrap_model(model).student_inputs
        batch = {name: value for name, value in inputs.items() if name in read}

        def run(part: Mapping[str, Tensor]) -> Tensor:
            with torch.no_grad(), self.compute_loss_context_manager():
                return model(batch=part)["logits"]

        try:
            logits = torch.cat(run_in_memory(run, batch) if self.args.world_size <= 1 else [run(batch)])
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
            rows, tokens = batch["input_ids"].shape
            raise MemoryLackError(
                f"there is no memory to evaluate {rows} rows of {tokens} tokens at once; give a smaller "
                "per_device_eval_batch_size"
            ) from error
        labels = inputs.get("labels")
        # The logits of several tasks are as wide as the widest task: no loss of theirs is a row's own.
        loss = None if labels is None or TASK_IDS in inputs else hard_label_loss(logits.float(), labels)
        return (loss, None, None) if prediction_loss_only else (loss, logits, labels)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each term since the last log to the training logs."""
        if "loss" in logs and self._term_count:
            names = sorted(self._term_sums)  # the same order in every process
            sums = torch.stack([self._term_sums[name] for name in names])
            # Over processes too, as the loss.
            means: Any = self.accelerator.reduce(sums / self._term_count, "mean")
            logs = logs | dict(zip(names, means.tolist(), strict=True))
            self._term_sums.clear()
            self._term_count = 0
        super().log(logs, start_time)

    # ---- data ---------------------------------------------------------------------------------------------------

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            inputs = set(self.accelerator.unwrap_model(self.model).student_inputs)
            if self.teacher is not None:  # a BERT tells a pair's texts apart by what DistilBERT does not read
                inputs |= self.teacher.inputs
            teacher_inputs = [TEACHER_PREFIX + name for name in sorted(inputs)]
            columns: Any = [
                *sorted(inputs),
                *teacher_inputs,
                *sorted(OF_TEACHER),
                TOKEN_MASK,
                "labels",
                "label",
            ]
            self._signature_columns = columns

    def get_train_dataloader(self):
        """As ``Trainer.get_train_dataloader``.

        Raises:
            InputError: where ``dataloader_drop_last`` leaves out every batch.
        """
        loader = super().get_train_dataloader()
        if self.args.dataloader_drop_last and has_length(loader) and len(loader) == 0:
            raise InputError(
                f"dataloader_drop_last leaves out what is no whole batch, and {len(self.train_dataset)} rows make no "
                f"whole batch of {self.args.train_batch_size}; leave it out, or make batches smaller"
            )
        return loader

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length" or not hasattr(dataset, "__len__"):
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        step_rows = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        self._train_sampler = LengthGroupedSampler(measure_lengths(self.train_dataset), step_rows, seed)
        return self._train_sampler

    def _get_eval_sampler(self, eval_dataset):
        # Trainer's own choice under group_by_length permutes the rows, and with them the predictions.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    # ---- files --------------------------------------------------------------------------------------------------

    def _save(self, output_dir=None, state_dict=None) -> None:
        if state_dict is not None:
            prefix = "student."
            state_dict = {
                name.removeprefix(prefix): value
                for name, value in state_dict.items()
                if name.startswith(prefix)
            }
        with self._student_as_model():
            super()._save(output_dir, state_dict)

    def _save_checkpoint(self, model, trial) -> None:
        folder = Path(self._get_output_dir(trial), f"checkpoint-{self.state.global_step}")
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        if self.args.should_save:
            unmark(folder)
            state = self.accelerator.unwrap_model(self.model).objective.state_dict()
            if state:
                folder.mkdir(parents=True, exist_ok=True)
                safetensors.torch.save_file(state, folder / OBJECTIVE_FILE)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()  # other processes write their random state
        if self.args.should_save:
            mark_complete(folder)
            remove_checkpoints(folder, limit, self.state.best_model_checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        wrapper = self.accelerator.unwrap_model(self.model if model is None else model)
        with self._student_as_model():  # its warnings speak of what the model's class leaves out of files
            super()._load_from_checkpoint(resume_from_checkpoint, wrapper.student)
        objective_file = os.path.join(resume_from_checkpoint, OBJECTIVE_FILE)
        if os.path.exists(objective_file):
            wrapper.objective.load_state_dict(safetensors.torch.load_file(objective_file))

    @contextmanager
    def _student_as_model(self) -> Iterator[None]:
        """``self.model`` is the student alone meanwhile, for what the Trainer reads and writes of it."""
        wrapper, self.model = self.model, self.student
        try:
            yield
        finally:
            self.model = wrapper

    def _init_training_state(self, *arguments, **named):
        trained = super()._init_training_state(*arguments, **named)
        if self.state.best_global_step and self.args.load_best_model_at_end:
            self._find_best_checkpoint()
        return trained

    def _find_best_checkpoint(self) -> None:
        """Point at the best checkpoint where it lies now: its path is of where the run began, and folders are moved.

        Where the training goes on in another folder than it began in, it lies in the first.
        """
        best = Path(str(self.args.output_dir), f"checkpoint-{self.state.best_global_step}")
        if best.is_dir():
            self.state.best_model_checkpoint = str(best)
        elif not (self.state.best_model_checkpoint and Path(self.state.best_model_checkpoint).is_dir()):
            raise FileNotFoundError(f"the best checkpoint, {best}, is gone, so its weights cannot be loaded")

    def _load_best_model(self) -> None:
        if self.state.best_global_step:
            self._find_best_checkpoint()
        with self._student_as_model():
            super()._load_best_model()

    def _run_epoch(self, *arguments, **named):
        # The Trainer looks for the end after a step only: continued at the last one in the middle of an epoch
        # (max_steps, or half an epoch), it would take one more.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return None
        return super()._run_epoch(*arguments, **named)

    def train(self, resume_from_checkpoint=None, **kwargs):
        """As ``Trainer.train``; ``True`` resumes from the newest checkpoint that was written completely.

        Raises:
            ValueError: for ``True`` where ``output_dir`` holds no complete checkpoint.
            MemoryLackError: where there is no memory; the message says what to make smaller.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = find_last_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"no complete checkpoint in {self.args.output_dir}; start without resuming")
        try:
            return super().train(resume_from_checkpoint, **kwargs)
        except (RuntimeError, MemoryError) as error:  # outside of steps' passes: the optimiser's moments, say
            if not lacks_memory(error):
                raise
            raise MemoryLackError(f"there is no memory to train. {WITH_LESS_MEMORY}") from error


class _SetEpochOfSampler(TrainerCallback):
    """Tell the sampler its epoch, also where a resume hides it behind wrappers of accelerate."""

    def __init__(self, trainer: DistillationTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        if self.trainer._train_sampler is not None:
            self.trainer._train_sampler.set_epoch(int(state.epoch + 1e-6))


def brings_teacher_inputs(dataset: Any) -> bool:
    """Whether rows carry tokens of the teacher's own, or its logits, so that it does not read the student's tokens."""
    columns: Any = getattr(dataset, "column_names", None) or getattr(dataset, "columns", ())
    has_logits = TEACHER_LOGITS in columns or getattr(dataset, "teacher_logits", None) is not None
    return has_logits or TEACHER_PREFIX + "input_ids" in columns


def measure_lengths(dataset) -> Sequence[int]:
    """Tokens of every row: its ``lengths``, its ``length`` column, or the length of its ``input_ids``."""
    if hasattr(dataset, "lengths"):
        return dataset.lengths
    if "length" in getattr(dataset, "column_names", []):
        return list(dataset["length"])
    return [len(row["input_ids"]) for row in dataset]
