"""The trainings of TinyBERT's task stage (see :mod:`nlp_distill.pipelines.tinybert`), each in its own folder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from nlp_distill.batching import DistillationCollator
from nlp_distill.encoding import EncodedRows, encode_rows
from nlp_distill.evaluation import describe_size, save_logits
from nlp_distill.hashes import hash_file, hash_weights
from nlp_distill.labelled_files import load_labelled
from nlp_distill.models import load_pretrained
from nlp_distill.objectives import HardLabels, LogitRegression, Objective, SoftTargets, TinyBERTLayers
from nlp_distill.pipelines.general_student import hash_general
from nlp_distill.pipelines.projections import fit_projections
from nlp_distill.pipelines.runs import train_at_best_rate
from nlp_distill.pipelines.scoring import (
    describe_teacher,
    describe_test,
    load_teacher_logits,
    predict_splits,
)
from nlp_distill.pipelines.tinybert_config import (
    INTERMEDIATE,
    PREDICTION,
    TinyBERTDistillation,
    settings_for,
)
from nlp_distill.pipelines.transfer import label_transfer_set, labelled_file, list_scored, make_transfer_set
from nlp_distill.processes import is_main_process
from nlp_distill.stages import run_stage
from nlp_distill.students import Shape, read_shape, student_from_teacher
from nlp_distill.students.from_teacher import reorder_head
from nlp_distill.tasks import Task, TaskData
from nlp_distill.teacher_states import RowsWithStates, measure_states, name_part, write_states
from nlp_distill.teachers import match_labels, read_labels
from nlp_distill.trainer import DistillationTrainer
from nlp_distill.training import make_training_arguments, score_predictions, train_and_save

STATES = "teacher_states"


def read_student_shape(config: TinyBERTDistillation) -> Shape:
    """The shape of the student: the general student's own, or the one that was asked for."""
    return read_shape(load_pretrained(AutoConfig, config.general)) if config.general else config.shape


@dataclass(frozen=True)
class Stages:
    """The trainings of one run.

    Args:
        config: the settings.
        data: the task.
        teacher: fine-tuned on it.
        tokenizer: the teacher's, and the student's.
        max_length: tokens a row.
        output: where the trainings go, a folder each.
        prints: the data's fingerprints.
        overwrite: make again what was made with other settings.
        root: the folder that holds the teacher's scores.
        source: the folder that holds the transfer set and its labels.
        states: the folder that keeps the teacher's states while the run lasts.
        whole: the settings before an ablation: what the teacher's states are kept for.
    """

    config: TinyBERTDistillation
    data: TaskData
    teacher: PreTrainedModel
    tokenizer: Any
    max_length: int
    output: Path
    prints: Mapping[str, Any]
    overwrite: bool
    root: Path
    source: Path
    states: Path
    whole: TinyBERTDistillation

    @property
    def task(self) -> Task:
        return self.data.task

    def check(self) -> None:
        """Refuse shapes, maps and training arguments that do not fit before any work."""
        student = self._start(self.config.seeds[0], random=False)
        if "intermediate" not in self.config.without:
            self._layer_objective(student)
        for defaults, training in (
            (self._intermediate_defaults(), self.config.intermediate_training),
            (PREDICTION, self.config.prediction_training),
        ):
            make_training_arguments(defaults, training, self.output, self.config.seeds[0], self.task.metrics)

    def ablate(self, part: str, runs: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """The student of every seed without one part; transfer set, labels and teacher's states are shared.

        Args:
            part: what is left out.
            runs: the arms that are there: without the prediction stage, the student is ``intermediate_only``.
        """
        if part == "prediction" and "intermediate_only" in runs:
            return runs["intermediate_only"]
        config = replace(
            self.config,
            without=self.config.without | {part},
            ablations=(),
            shape=read_student_shape(self.config),
            general=None if part == "general" else self.config.general,
        )
        stages = replace(self, config=config, output=self.output / f"without_{part}")
        if part != "augmentation":
            return [stages.train_arm("student", seed) for seed in self.config.seeds]
        stages = replace(stages, source=stages.output, states=stages.output / STATES)
        settings, given = config.plan_transfer_set(self.task), (self.data, stages.output)
        made = make_transfer_set(settings, *given, self.prints, self.overwrite)
        label_transfer_set(
            self.teacher, self.tokenizer, self.data, self.max_length, stages.output, self.overwrite
        )
        return [stages.train_arm("student", seed) | {"transfer_set": made} for seed in self.config.seeds]

    def list_states(self) -> list[Path]:
        """Where the teacher's states are kept while the run lasts."""
        return [self.output / STATES, self.output / "without_augmentation" / STATES]

    def train_arm(self, arm: str, seed: int) -> dict[str, Any]:
        """One model: ``{"entry", "training"}``."""
        if arm == "student_without_teacher":
            return self._fine_tune(arm, seed, lambda: self._start(seed, random=True), {"start": "random"})
        if arm == "general_only":
            return self._fine_tune(arm, seed, lambda: self._start(seed, random=False), self._describe_start())
        start, inputs, before = self._after_intermediate(seed)
        if arm == "intermediate_only" or "prediction" in self.config.without:
            return self._fine_tune(arm, seed, start, inputs) | before
        return self._distil_predictions(arm, seed, start, inputs) | before

    # ---- where a student starts ---------------------------------------------------------------------------------

    def _start(self, seed: int, random: bool) -> PreTrainedModel:
        random = random or "general" in self.config.without
        if self.config.general and not random:
            return self._load(self.config.general)
        shape = self.config.shape
        if self.config.general:  # random weights in the shape of the general student
            return student_from_teacher(self._load(self.config.general), None, random=True, seed=seed)
        student = student_from_teacher(
            self.teacher, shape, layer_map=self.config.layer_map, random=random, seed=seed
        )
        # Labels and logits of the rows have the task's order, whatever the teacher's own is.
        if self._order is not None and not random:
            reorder_head(student, self._order)
        student.config.update(self._label_fields())
        return student

    def _load(self, folder: str | Path) -> PreTrainedModel:
        fields = {"num_labels": self.task.num_labels, **self._label_fields()}
        problem_type = self.teacher.config.problem_type
        return load_pretrained(
            AutoModelForSequenceClassification, folder, problem_type=problem_type, **fields
        ).train()

    @property
    def _order(self) -> list[int] | None:
        """The teacher's classes in the task's order; ``None`` where they have it already."""
        return match_labels(self.task.labels, read_labels(self.teacher.config))

    def _label_fields(self) -> dict[str, Any]:
        """The labels as a student's config has them."""
        named: Any = self.teacher.config if self.task.is_regression else self.task
        return {"id2label": dict(named.id2label), "label2id": dict(named.label2id)}

    def _describe_start(self) -> dict[str, Any]:
        if "general" in self.config.without:
            return {"start": "random"}
        if self.config.general:
            return {"start": hash_general(self.config.general)}
        return {"start": "teacher"}

    def _after_intermediate(self, seed: int):
        """How to make the student after the intermediate stage, what it depends on, and the seconds it took."""
        if "intermediate" in self.config.without:
            return lambda: self._start(seed, random=False), self._describe_start(), {"seconds_before": 0.0}
        run = self._distil_layers(seed)
        before = {"seconds_before": run["training"]["seconds"]}
        return lambda: self._load(run["path"]), {"intermediate": run["weights"]}, before

    # ---- the two stages, and the baseline -----------------------------------------------------------------------

    def _distil_layers(self, seed: int) -> dict[str, Any]:
        defaults = self._intermediate_defaults()

        def build(folder: Path) -> dict[str, Any]:
            args = make_training_arguments(defaults, self.config.intermediate_training, folder, seed)
            student = self._start(seed, random=False)
            objective = self._layer_objective(student)
            rows = self._encode(load_labelled(labelled_file(self.source), self.task.labels))
            collate = DistillationCollator(self.tokenizer)
            fit_projections(objective, student, self.teacher, rows, collate, seed)
            trainer = DistillationTrainer(
                model=student,
                teacher=self.teacher,
                objective=objective,
                args=args,
                train_dataset=self._add_states(rows, student, objective, args.num_train_epochs),
                data_collator=collate,
                processing_class=self.tokenizer,
            )
            trained = train_and_save(trainer, folder)
            return {"path": str(folder), "weights": hash_weights(student), "training": trained}

        inputs = {
            "settings": self.config.describe(),
            "training": {**defaults, **self.config.intermediate_training},
            "labels": hash_file(labelled_file(self.source)),
            **self._describe_start(),
            "label_order": self._order,
            "teacher": describe_teacher(self.teacher, self.tokenizer, self.max_length),
            "seed": seed,
        }
        title = f"intermediate distillation, seed {seed}"
        return self._run(title, f"intermediate-seed{seed}", inputs, build)

    def _distil_predictions(
        self, arm: str, seed: int, start, start_inputs: Mapping[str, Any]
    ) -> dict[str, Any]:
        objective: Objective = (
            LogitRegression() if self.task.is_regression else SoftTargets(self.config.temperature)
        )
        inputs = {**start_inputs, "labels": hash_file(labelled_file(self.source))}
        rows = load_labelled(labelled_file(self.source), self.task.labels)
        return self._train(arm, seed, objective, rows, start, inputs, self.config.prediction_training)

    def _fine_tune(self, arm: str, seed: int, start, inputs: Mapping[str, Any]) -> dict[str, Any]:
        training = self.config.prediction_training
        own = training.get("learning_rate", PREDICTION["learning_rate"])

        def train(rate: float, with_seed: int, is_tuned: bool) -> dict[str, Any]:
            name = f"{arm}-lr{rate:g}" if is_tuned else arm
            given = {**training, "learning_rate": rate}
            if self.config.baseline_epochs is not None:
                given["num_train_epochs"] = self.config.baseline_epochs
            return self._train(name, with_seed, HardLabels(), self.data.train, start, inputs, given)

        rates = self.config.baseline_learning_rates
        return train_at_best_rate(rates, own, self.config.seeds, seed, train)

    def _train(
        self, name: str, seed: int, objective: Objective, rows, start, inputs: Mapping[str, Any], training
    ) -> dict[str, Any]:
        def build(folder: Path) -> dict[str, Any]:
            args = make_training_arguments(PREDICTION, training, folder, seed, self.task.metrics)
            student = start()
            trainer = DistillationTrainer(
                model=student,
                objective=objective,
                args=args,
                train_dataset=self._encode(rows),
                eval_dataset=self._encode(self.data.validation).sort_by_length(),
                processing_class=self.tokenizer,
                compute_metrics=score_predictions(self.task),
            )
            trained = train_and_save(trainer, folder)
            return {"entry": self._score(student, folder, trained), "training": trained}

        all_inputs = {
            **inputs,
            "settings": self.config.describe(),
            "training": {**PREDICTION, **training},
            "shape": asdict(read_student_shape(self.config)),
            "label_order": self._order,
            "data": {split: self.prints[split] for split in ("train", *list_scored(self.data))},
            # Of every arm: each has the teacher's vocabulary, and is compared with its logits.
            "teacher": describe_teacher(self.teacher, self.tokenizer, self.max_length),
            "seed": seed,
        }
        title = f"training the {name.replace('_', ' ')}, seed {seed}"
        return self._run(title, f"{name}-seed{seed}", all_inputs, build)

    def _run(self, title: str, folder: str, inputs: Mapping[str, Any], build) -> dict[str, Any]:
        return run_stage(title, self.output / folder, inputs, build, self.overwrite, every_process=True)

    # ---- parts --------------------------------------------------------------------------------------------------

    def _intermediate_defaults(self) -> dict[str, Any]:
        return {**INTERMEDIATE, "num_train_epochs": settings_for(self.task).epochs}

    def _add_states(
        self, rows: EncodedRows, student: PreTrainedModel, objective: TinyBERTLayers, epochs: float
    ) -> EncodedRows | RowsWithStates:
        """The rows with what the teacher computes on them, where keeping it pays and fits; else as they are."""
        uses = epochs * len(self.config.seeds) * (1 + len(self.whole.ablations))
        parts = self._layer_objective(student, self.whole).list_teacher_parts()
        gigabytes = measure_states(self.teacher.config, parts, int(rows.offsets[-1])) / 1e9
        if uses < 2 or gigabytes > self.config.teacher_cache_gb:
            return rows
        folder = self.states

        def build(folder: Path) -> dict[str, Any]:
            write_states(self.teacher, rows, self.tokenizer, parts, folder)
            return {"gigabytes": round(gigabytes, 2)}

        inputs = {
            "teacher": describe_teacher(self.teacher, self.tokenizer, self.max_length),
            "labels": hash_file(labelled_file(self.source)),
            "parts": [name_part(part) for part in parts],
        }
        run_stage(
            f"keeping {gigabytes:.1f} GB of the teacher's states", folder, inputs, build, self.overwrite
        )
        return RowsWithStates(rows, folder, objective.list_teacher_parts())

    def _layer_objective(
        self, student: PreTrainedModel, config: TinyBERTDistillation | None = None
    ) -> TinyBERTLayers:
        config = config or self.config
        return TinyBERTLayers(
            student.config,
            self.teacher.config,
            config.layer_map,
            share_projection=config.share_projection,
            relation_heads=config.relation_heads,
            attention=float("attention" not in config.without),
            hidden=float("hidden" not in config.without),
            embedding=float("embedding" not in config.without),
        )

    def _encode(self, rows) -> EncodedRows:
        rows = rows if hasattr(rows, "features") else Dataset(rows)
        return encode_rows(rows, self.tokenizer, self.task.text_columns, self.max_length)

    def _score(self, student: PreTrainedModel, folder: Path, trained: Mapping[str, Any]) -> dict[str, Any]:
        logits = predict_splits(student, self.tokenizer, self.data, self.max_length)
        if is_main_process():
            save_logits(folder / "logits.npz", logits)
        scores = describe_test(self.data, logits, load_teacher_logits(self.root))
        scores["validation_score"] = trained["validation_score"]
        return scores | describe_size(student, folder) | {"path": str(folder)}
