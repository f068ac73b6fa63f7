"""BAM: Clark et al. 2019, "BAM! Born-Again Multi-Task Networks for Natural Language Understanding", arXiv 1907.04829.

Teachers of single tasks (or one of all) teach a student of their own size, which learns all tasks at once:

    combination        teachers                 students
    single             -                        one a task, from labels
    multi              -                        one for all tasks, from labels
    single-single      one a task               one a task
    multi-multi        one for all tasks        one for all tasks
    single-multi       one a task               one for all tasks: the paper's

Students learn by teacher annealing (:class:`nlp_distill.objectives.TeacherAnnealing`), with learning rates that shrink
with depth (:mod:`nlp_distill.optim`), on batches that mix tasks (:class:`nlp_distill.multitask.MixedTaskSampler`).

Regressions: the squared error is divided by the square of the range of the values, which is the paper's scaling to
[0, 1] with a head that keeps the task's own values.

Deviation from the authors' code: sampling is drawn as the paper says, where theirs copies data sets and weighs losses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_augment.errors import InputError
from nlp_distill.multitask import BAM_EXPONENT, MixedTaskSampler, MultiTaskRows, SingleTaskSampler
from nlp_distill.objectives import HardLabels, LogitRegression, Objective, SoftTargets, TeacherAnnealing
from nlp_distill.optim import DECAY
from nlp_distill.pipelines.multitask import Recipe, check_encoder, check_training, train_model
from nlp_distill.pipelines.multitask_labels import Labels, label_tasks, load_teacher
from nlp_distill.pipelines.multitask_results import finish
from nlp_distill.pipelines.suite import Suite
from nlp_distill.results import check_results_are_ours
from nlp_distill.training import check_seeds

COMBINATIONS = ("single", "multi", "single-single", "multi-multi", "single-multi")
SYMMETRIC = frozenset({"mrpc", "stsb"})  # section 4.1

COMMON: dict[str, Any] = {"warmup_steps": 0.1, "weight_decay": 0.01, "max_grad_norm": 1.0}  # section 4.1
SINGLE: dict[str, Any] = {
    **COMMON,
    "learning_rate": 5e-5,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 32,
}
MULTI: dict[str, Any] = {
    **COMMON,
    "learning_rate": 1e-4,
    "num_train_epochs": 6,
    "per_device_train_batch_size": 128,
}


@dataclass(frozen=True)
class BAM:
    """Settings of the pipeline; the defaults are the paper's.

    Args:
        combination: see the module.
        annealing: move the target from the teacher to the labels; without it the teacher's alone is learnt.
        layerwise_decay: 1 for one learning rate.
        exponent: of the sampling of tasks.
        seeds: one student for each.
        single_training: fields of ``TrainingArguments`` over ``SINGLE``: of models of one task.
        multi_training: the same over ``MULTI``: of models of all tasks.
        teachers: folders or hub names of teachers by task; what is not given is trained here with the first seed.

    Raises:
        InputError: for an unknown combination, no seed, or teachers and annealing where the combination has no teacher.
    """

    combination: str = "single-multi"
    annealing: bool = True
    layerwise_decay: float = DECAY
    exponent: float = BAM_EXPONENT
    seeds: tuple[int, ...] = (0,)
    single_training: Mapping[str, Any] = field(default_factory=dict)
    multi_training: Mapping[str, Any] = field(default_factory=dict)
    teachers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.combination not in COMBINATIONS:
            raise InputError(
                f"the combination is {self.combination!r}; give one of {', '.join(COMBINATIONS)}"
            )
        if not 0 < self.layerwise_decay <= 1:
            raise InputError(
                f"the layerwise decay is {self.layerwise_decay}; give a factor above 0 and up to 1 (0.9 in the paper)"
            )
        if not 0 <= self.exponent < float("inf"):
            raise InputError(f"the exponent of task sampling is {self.exponent}; give 0 (uniform) or more")
        check_seeds(self.seeds)
        if self.teachers and not self.combination.startswith("single-"):
            raise InputError(
                f"teachers of single tasks are given, but {self.combination} has none; leave them out"
            )
        if not self.annealing and "-" not in self.combination:
            raise InputError(
                f"{self.combination} has no teacher to anneal away from; leave annealing as it is, or take a "
                "combination with a teacher"
            )

    def check_training(self, folder: Path) -> None:
        """Refuse training arguments before any work.

        Raises:
            InputError: naming what does not fit.
        """
        for training in ({**SINGLE, **self.single_training}, {**MULTI, **self.multi_training}):
            check_training(training, folder)

    def describe(self) -> dict[str, Any]:
        """The settings as plain values, those that the combination uses."""
        names = ("combination", "annealing", "layerwise_decay", "exponent")
        described = {name: getattr(self, name) for name in names}
        if "single" in self.combination:
            described["single_training"] = {**SINGLE, **self.single_training}
        if "multi" in self.combination:
            described["multi_training"] = {**MULTI, **self.multi_training}
        return described


def distill_bam(
    config: BAM,
    suite: Suite,
    encoder: str | Path,
    output_dir: str | Path,
    described: Mapping[str, Any],
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train the teachers that are not given, label every task once, and train the students.

    Args:
        config: the settings.
        suite: the tasks.
        encoder: the pre-trained encoder of teachers and students: folder or hub name.
        output_dir: where everything goes; finished stages are reused, an interrupted one continues.
        described: the settings and the command as plain values, kept in the results.
        overwrite: make again what was made with other settings.

    Returns:
        The content of ``results.json``, and under ``runs`` the entry of every arm, seed and task.
    """
    if unknown := sorted(set(config.teachers) - set(suite.data)):
        raise InputError(
            f"a teacher is given for {unknown[0]}, which is no task here; give {', '.join(suite.data)}"
        )
    stages = _Stages(config, suite, encoder, Path(output_dir), overwrite)
    config.check_training(stages.output)
    check_encoder(suite, encoder)
    check_results_are_ours(stages.output, overwrite)
    for name, path in config.teachers.items():
        load_teacher(path, name, suite)  # refuses one that does not fit, before the others are trained
    teachers, _, students = config.combination.rpartition("-")
    arms: dict[str, list[dict[str, Any]]] = {}
    labels = Labels()
    if teachers:
        runs = stages.train_single(Labels(), "teacher", config.seeds[0]) if teachers == "single" else {}
        if teachers == "multi":
            run = stages.train_multi(Labels(), "teacher", config.seeds[0])
            runs = dict.fromkeys(suite.data, run)
        paths = {name: [config.teachers.get(name) or runs[name]["path"]] for name in suite.data}
        labels = label_tasks(suite, paths, stages.output / "labels", overwrite)
        known = {name: run["entries"][name] for name, run in runs.items()}
        if known:
            arms[f"{teachers}_teacher"] = [known]
    train = stages.train_single if students == "single" else stages.train_multi
    arms["student" if teachers else students] = [
        _pick_entries(train(labels, "student", seed), suite) for seed in config.seeds
    ]
    return finish(stages.output, f"BAM, {config.combination}", suite, arms, config.seeds, described)


def _pick_entries(run: Mapping[str, Any], suite: Suite) -> dict[str, Any]:
    """Entries by task of one run for all tasks, or of one run a task."""
    if "entries" in run:
        return dict(run["entries"])
    return {name: run[name]["entries"][name] for name in suite.data}


@dataclass(frozen=True)
class _Stages:
    """The trainings of one run, each in its own folder."""

    config: BAM
    suite: Suite
    encoder: str | Path
    output: Path
    overwrite: bool

    def train_single(self, labels: Labels, role: str, seed: int) -> dict[str, Any]:
        """A model for each task: ``{task: run}``. Teachers that are given are not trained."""
        given = self.config.teachers if role == "teacher" else {}
        return {
            name: self._train([name], labels, role, seed, {**SINGLE, **self.config.single_training})
            for name in self.suite.data
            if name not in given
        }

    def train_multi(self, labels: Labels, role: str, seed: int) -> dict[str, Any]:
        """One model for all tasks."""
        training = {**MULTI, **self.config.multi_training}
        return self._train(list(self.suite.data), labels, role, seed, training)

    def _train(
        self, names: list[str], labels: Labels, role: str, seed: int, training: Mapping[str, Any]
    ) -> dict[str, Any]:
        kind = names[0] if len(names) == 1 else "all"
        config = self.config
        recipe = Recipe(
            heads=[self.suite.make_head(name) for name in names],
            objectives={name: self._make_objective(name, labels) for name in names},
            sampler=self._make_sampler,
            training=training,
            settings={"exponent": config.exponent, "annealing": config.annealing and bool(labels.logits)},
            layerwise_decay=config.layerwise_decay,
        )
        title = f"training the {role} of {kind}, seed {seed}"
        folder = self.output / f"{role}-{kind}-seed{seed}"
        return train_model(self.suite, recipe, self.encoder, labels, seed, folder, title, self.overwrite)

    def _make_sampler(self, rows: MultiTaskRows, step_rows: int, seed: int):
        """Tasks mixed inside a batch; of one task, rows of similar length together."""
        if len(rows.names) == 1:
            return SingleTaskSampler(rows.sizes, step_rows, seed, rows.lengths)
        return MixedTaskSampler(rows.sizes, self.config.exponent, seed, rows.lengths, step_rows)

    def _make_objective(self, name: str, labels: Labels) -> Objective:
        data = self.suite.data[name]
        weight = 1.0
        if data.task.is_regression:
            # The paper scales values to [0, 1]; here the squared error is, and the head keeps the task's own values.
            values = np.asarray(data.train["label"])
            weight = 1 / max(float(values.max() - values.min()), 1e-6) ** 2
        if name not in labels.logits:
            return HardLabels(weight)
        if self.config.annealing:
            return TeacherAnnealing(weight=weight)
        return LogitRegression(weight) if data.task.is_regression else SoftTargets(weight=weight)
