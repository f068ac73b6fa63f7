"""``MultiTaskTrainer``: the distillation trainer over several tasks at once."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from data_augment.errors import InputError
from nlp_distill.batching import DistillationCollator
from nlp_distill.encoding import EncodedRows
from nlp_distill.labelling import compute_logits
from nlp_distill.metrics import compute_metrics
from nlp_distill.multitask import MultiTaskRows
from nlp_distill.optim import layerwise_groups
from nlp_distill.tasks import Task
from nlp_distill.teachers import Teacher
from nlp_distill.trainer import DistillationTrainer, NonFiniteLossError

SamplerFactory = Callable[[MultiTaskRows, int, int], Sampler[int]]


class MultiTaskTrainer(DistillationTrainer):
    """Trains a ``MultiTaskModel``, scores each task on its own rows, and selects on the average.

    Args:
        sampler: makes the order of the rows from the rows, the number of rows in an optimiser step, and the seed.
        validation: encoded rows by task; a task is only ever scored on its own.
        tasks: the tasks by name.
        averaged: the tasks whose scores make the average that chooses the checkpoint.
        layerwise_decay: factor of the learning rate from one depth to the next (BAM); ``None`` for one rate.
        kwargs: as in :class:`nlp_distill.trainer.DistillationTrainer`. Checkpoints may be chosen by ``score``, the
            average, or by a task's name; the losses of several tasks have no common scale.

    Raises:
        InputError: for another ``metric_for_best_model``.
    """

    def __init__(
        self,
        *,
        sampler: SamplerFactory,
        validation: Mapping[str, EncodedRows],
        tasks: Mapping[str, Task],
        averaged: frozenset[str],
        layerwise_decay: float | None = None,
        **kwargs: Any,
    ):
        self.make_sampler = sampler
        self.validation = dict(validation)
        self.tasks = dict(tasks)
        self.averaged = averaged
        self.layerwise_decay = layerwise_decay
        super().__init__(eval_dataset=next(iter(validation.values()), None), **kwargs)
        # A task's name may end in "loss", which transformers takes for one.
        self.args.greater_is_better = True
        chooses = str(self.args.metric_for_best_model or "score").removeprefix("eval_")
        if self.args.eval_strategy != "no" and chooses not in ("score", *self.tasks):
            raise InputError(
                f"metric_for_best_model is {chooses}; give score, the average over tasks, or one of {', '.join(tasks)}"
            )

    def _get_train_sampler(self, train_dataset=None):
        step_rows = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        self._train_sampler = self.make_sampler(self.train_dataset, step_rows, seed)
        return self._train_sampler

    def create_optimizer(self, model=None):
        """The Trainer's optimiser, its rates by depth where ``layerwise_decay`` is given."""
        if self.optimizer is None and self.layerwise_decay is not None:
            kind, settings = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(
                self.args, self.model
            )
            groups = layerwise_groups(
                self.student, self.args.learning_rate, self.layerwise_decay, self.args.weight_decay
            )
            self.optimizer = kind(groups, **settings)
        return super().create_optimizer(model)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval") -> dict[str, float]:
        """Scores of every task on its own rows, and ``eval_score``, their average.

        Args:
            eval_dataset: encoded rows by task; default the validation rows.
            ignore_keys: of no effect, as models return logits here.
            metric_key_prefix: what the names of the scores begin with.

        Raises:
            InputError: for rows that are not those of tasks, by name.
        """
        given = self.validation if eval_dataset is None else eval_dataset
        if not isinstance(given, Mapping) or not given.keys() <= self.tasks.keys():
            raise InputError(
                f"eval_dataset is {list(given) if isinstance(given, Mapping) else type(given).__name__}; several tasks "
                f"are scored on a mapping of encoded rows by task, any of {', '.join(self.tasks)}"
            )
        self.student.eval()
        scores = {name: self.score_task(name, rows) for name, rows in given.items()}
        chosen = [score for name, score in scores.items() if name in self.averaged] or list(scores.values())
        metrics = {f"{metric_key_prefix}_{name}": score for name, score in scores.items()}
        metrics[f"{metric_key_prefix}_score"] = float(np.mean(chosen))
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def score_task(self, name: str, rows: EncodedRows) -> float:
        """The task's first metric on its encoded rows."""
        task = self.tasks[name]
        student: Any = self.student
        classifier = student.get_classifier(name)
        trainable = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
        logits, _ = compute_logits(Teacher(classifier), rows, DistillationCollator(self.processing_class))
        for parameter in trainable:
            parameter.requires_grad_(True)
        if not np.isfinite(logits).all():
            raise NonFiniteLossError(
                f"the model's outputs on {name} are NaN or infinite; lower the learning rate and run it again"
            )
        return compute_metrics(task, logits, np.asarray(rows.labels))[task.metrics[0]]
