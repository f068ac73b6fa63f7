"""MT-DNN and its distillation: Liu et al. 2019, "Multi-Task Deep Neural Networks for Natural Language Understanding",
arXiv 1901.11504, and "Improving Multi-Task Deep Neural Networks via Knowledge Distillation", arXiv 1904.09482.

    1. K multi-task models are trained on labels with different seeds and dropouts; the best by validation stay.
    2. Each is fine-tuned on every task that is to have a teacher.
    3. Q = 1/K sum_k softmax(z_k): the mean of their *probabilities* on every train row (values in a regression).
    4. A student of the same size learns CE(y, P) + CE(Q, P) on those tasks, and CE(y, P) on the others.

Batches hold one task; an epoch visits every batch of every task, in random order.

Deviation from the authors' code: it has no averaging, its soft labels are binary only, and its GLUE configuration takes
the squared error of logits in silence. QNLI is the pair classification that GLUE has had since its second release, not
the ranking of the first paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_augment.errors import InputError
from nlp_distill.evaluation import load_logits
from nlp_distill.limits import check_whole
from nlp_distill.multitask import MultiTaskRows, SingleTaskSampler
from nlp_distill.objectives import HardLabels, LogitRegression, Objective, SoftTargets
from nlp_distill.pipelines.multitask import Recipe, check_encoder, check_training, train_model
from nlp_distill.pipelines.multitask_labels import Labels, label_tasks
from nlp_distill.pipelines.multitask_results import finish
from nlp_distill.pipelines.scoring import describe_test
from nlp_distill.pipelines.suite import Suite
from nlp_distill.results import check_results_are_ours
from nlp_distill.training import check_seeds

TRAINING: dict[str, Any] = {
    "learning_rate": 5e-5,  # MT-DNN, section 4.2
    "num_train_epochs": 5,
    "per_device_train_batch_size": 32,
    "warmup_steps": 0.1,
    "max_grad_norm": 1.0,
    "weight_decay": 0.0,
}
FINE_TUNING: dict[str, Any] = {**TRAINING, "num_train_epochs": 3}  # not in the papers
DROPOUTS = (0.1, 0.2, 0.3)  # MT-DNN_KD, section 4.2
AVERAGES = ("probabilities", "logits")
FIRST_TEACHER_SEED = 100  # beyond those that students usually have


@dataclass(frozen=True)
class MTDNN:
    """Settings of the pipeline; the defaults are the papers' but for the number of teachers.

    Args:
        teachers: K, multi-task models that are trained (6 in the paper).
        kept: how many of them teach: the best by average validation score (3 in the paper).
        dropouts: of the encoder, in turn.
        fine_tune: train each kept one further on every task that has a teacher.
        teacher_tasks: tasks with soft targets; ``None`` for all. MNLI, QQP, QNLI and RTE in the paper.
        average: ``probabilities`` as in the paper, or ``logits``.
        san: pair tasks with a SAN head; the others have plain ones.
        given: folders or hub names of teachers by task, instead of training any.
        seeds: one student for each; the teachers have their own, from ``FIRST_TEACHER_SEED``.
        training: fields of ``TrainingArguments`` over ``TRAINING``.
        fine_tuning: the same over ``FINE_TUNING``.

    Raises:
        InputError: for numbers and names that do not fit.
    """

    teachers: int = 3
    kept: int = 3
    dropouts: tuple[float, ...] = DROPOUTS
    fine_tune: bool = True
    teacher_tasks: tuple[str, ...] | None = None
    average: str = "probabilities"
    san: frozenset[str] = frozenset()
    given: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    training: Mapping[str, Any] = field(default_factory=dict)
    fine_tuning: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_whole("the number of teachers", self.teachers, at_least=1)
        check_whole("the number of teachers that are kept", self.kept, at_least=1, at_most=self.teachers)
        if self.average not in AVERAGES:
            raise InputError(f"average is {self.average!r}; give {' or '.join(AVERAGES)}")
        if not self.dropouts or not all(0 <= rate < 1 for rate in self.dropouts):
            raise InputError(f"dropouts are {self.dropouts}; give one or more rates from 0 up to 1")
        check_seeds(self.seeds)

    @property
    def teacher_seeds(self) -> tuple[int, ...]:
        """The seeds of the teachers that are trained here: the same for every student that is added."""
        return () if self.given else tuple(FIRST_TEACHER_SEED + number for number in range(self.teachers))

    def check_training(self, folder: Path) -> None:
        """Refuse training arguments before any work.

        Raises:
            InputError: naming what does not fit.
        """
        for training in ({**TRAINING, **self.training}, {**FINE_TUNING, **self.fine_tuning}):
            check_training(training, folder)
        if self.training.get("eval_strategy") == "no" and self.kept < self.teachers and not self.given:
            raise InputError(
                f"of {self.teachers} teachers the best {self.kept} on validation are kept, and --eval-strategy is no; "
                "leave it out, or keep all"
            )

    def list_teacher_tasks(self, suite: Suite) -> list[str]:
        """The tasks that have soft targets.

        Raises:
            InputError: for a name that is no task of the run.
        """
        wanted = tuple(self.given) or self.teacher_tasks or tuple(suite.data)
        for name in (*wanted, *self.san):
            if name not in suite.data:
                raise InputError(f"{name} is no task of this run; give any of {', '.join(suite.data)}")
        return [name for name in suite.data if name in wanted]

    def describe(self) -> dict[str, Any]:
        """The settings as plain values; of teachers that are given there are none."""
        shared = {
            "average": self.average,
            "san": sorted(self.san),
            "training": {**TRAINING, **self.training},
        }
        if self.given:
            return shared
        return shared | {
            "teachers": self.teachers,
            "kept": self.kept,
            "fine_tune": self.fine_tune,
            "dropouts": list(self.dropouts),
            "teacher_seeds": list(self.teacher_seeds),
            "teacher_tasks": None if self.teacher_tasks is None else list(self.teacher_tasks),
            "fine_tuning": {**FINE_TUNING, **self.fine_tuning},
        }


def distill_mt_dnn(
    config: MTDNN,
    suite: Suite,
    encoder: str | Path,
    output_dir: str | Path,
    described: Mapping[str, Any],
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train teachers, average them, and train the students.

    Args:
        config: the settings.
        suite: the tasks.
        encoder: the pre-trained encoder: folder or hub name.
        output_dir: where everything goes; finished stages are reused, an interrupted one continues.
        described: the settings and the command as plain values, kept in the results.
        overwrite: make again what was made with other settings.

    Returns:
        The content of ``results.json``, and under ``runs`` the entry of every arm, seed and task.
    """
    stages = _Stages(config, suite, encoder, Path(output_dir), overwrite)
    config.check_training(stages.output)
    check_encoder(suite, encoder)
    check_results_are_ours(stages.output, overwrite)
    taught = config.list_teacher_tasks(suite)
    arms: dict[str, list[dict[str, Any]]] = {}
    if config.given:
        teachers: Mapping[str, Sequence[Any]] = config.given
    else:
        models = stages.train_teachers()
        arms["multitask"] = [run["entries"] for run in models]
        kept = keep_best(models, config.kept)
        tuned = {name: [stages.fine_tune(run, name) for run in kept] for name in taught}
        arms["ensemble"] = [stages.score_ensemble(tuned, kept)]
        teachers = {name: [run["path"] for run in runs] for name, runs in tuned.items()}
    labels = label_tasks(suite, teachers, stages.output / "labels", overwrite)
    labels = average_labels(labels, config.average)
    arms["student"] = [stages.train_student(labels, seed)["entries"] for seed in config.seeds]
    return finish(stages.output, "MT-DNN", suite, arms, config.seeds, described)


def keep_best(models: Sequence[dict[str, Any]], kept: int) -> list[dict[str, Any]]:
    """The best models by average validation score, best first; all of them as they are where none was scored."""
    scores = [run["training"]["validation_score"] for run in models]
    if None in scores:
        return list(models)
    return sorted(models, key=lambda run: run["training"]["validation_score"], reverse=True)[:kept]


def average_labels(labels: Labels, average: str) -> Labels:
    """Logits of several teachers, as the objectives take them.

    ``SoftTargets`` averages probabilities itself; for the average of logits one teacher is made of them. The values of
    a regression are averaged either way.
    """
    if average == "probabilities":
        return labels
    logits = {name: found.mean(axis=1, keepdims=True) for name, found in labels.logits.items()}
    prints = {name: {**made, "average": average} for name, made in labels.fingerprints.items()}
    return Labels(logits, prints)


def average_outputs(outputs: Sequence[np.ndarray], is_regression: bool) -> np.ndarray:
    """An ensemble's logits: log of the mean of the models' probabilities; the mean of their values in a regression.

    Args:
        outputs: (rows, classes) of each model.
        is_regression: whether they are values.
    """
    stacked = np.stack(outputs).astype(np.float64)
    if is_regression:
        return stacked.mean(axis=0)
    shifted = np.exp(stacked - stacked.max(axis=-1, keepdims=True))
    return np.log((shifted / shifted.sum(axis=-1, keepdims=True)).mean(axis=0))


@dataclass(frozen=True)
class _Stages:
    """The trainings of one run, each in its own folder."""

    config: MTDNN
    suite: Suite
    encoder: str | Path
    output: Path
    overwrite: bool

    def train_teachers(self) -> list[dict[str, Any]]:
        """K multi-task models on labels, each with a seed and a dropout of its own."""
        return [
            self._train(
                list(self.suite.data),
                Labels(),
                f"teacher-{number}",
                seed,
                dropout=self.config.dropouts[number % len(self.config.dropouts)],
            )
            for number, seed in enumerate(self.config.teacher_seeds)
        ]

    def fine_tune(self, run: Mapping[str, Any], name: str) -> dict[str, Any]:
        """A multi-task model trained further on one task; or as it is."""
        if not self.config.fine_tune:
            return dict(run)
        role = f"{Path(run['path']).name}-{name}"
        training = {**FINE_TUNING, **self.config.fine_tuning}
        seed = run["entries"][name]["seed"]
        return self._train([name], Labels(), role, seed, start=run["path"], training=training)

    def score_ensemble(
        self, tuned: Mapping[str, Sequence[Mapping[str, Any]]], kept: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Entries of the averaged teachers by task; tasks without fine-tuned ones are answered by the kept models."""
        entries = {}
        for name, data in self.suite.data.items():
            runs = tuned.get(name, kept)
            found = [load_logits(Path(run["path"]) / f"logits_{name}.npz") for run in runs]
            logits = {
                split: average_outputs([own[split] for own in found], data.task.is_regression)
                for split in found[0]
            }
            own = [run["entries"][name] for run in runs]
            sizes = {
                key: sum(entry[key] for entry in own)
                for key in ("parameters", "parameters_without_embeddings", "bytes")
            }
            entries[name] = describe_test(data, logits) | sizes | {"path": str(self.output)}
        return entries

    def train_student(self, labels: Labels, seed: int) -> dict[str, Any]:
        """The student of all tasks."""
        return self._train(list(self.suite.data), labels, "student", seed)

    def _train(
        self,
        names: list[str],
        labels: Labels,
        role: str,
        seed: int,
        dropout: float | None = None,
        start: str | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        training = {**TRAINING, **self.config.training} if training is None else training
        config = self.config
        recipe = Recipe(
            heads=[self.suite.make_head(name, "san" if name in config.san else "plain") for name in names],
            objectives={name: self._make_objective(name, labels) for name in names},
            sampler=self._make_sampler,
            training=training,
            adamax="optim" not in training,
            dropout=dropout,
        )
        title = f"training the {role.replace('-', ' ')}, seed {seed}"
        folder = self.output / f"{role}-seed{seed}"
        return train_model(
            self.suite, recipe, start or self.encoder, labels, seed, folder, title, self.overwrite
        )

    def _make_objective(self, name: str, labels: Labels) -> Objective:
        if name not in labels.logits:
            return HardLabels()
        soft = LogitRegression() if self.suite.data[name].task.is_regression else SoftTargets()
        return HardLabels() + soft

    def _make_sampler(self, rows: MultiTaskRows, step_rows: int, seed: int) -> SingleTaskSampler:
        return SingleTaskSampler(rows.sizes, step_rows, seed, rows.lengths)
