"""The stages of ``nlp-distill fit``: each candidate untrained, the measurement, each student, and its shipped form."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from nlp_distill.benchmark import describe_processor, measure_latency, measure_size
from nlp_distill.evaluation import describe_size, load_logits
from nlp_distill.export import describe_exporter
from nlp_distill.hashes import hash_file
from nlp_distill.models import load_classifier, load_pretrained
from nlp_distill.pipelines.bilstm import build_student, distill_bilstm
from nlp_distill.pipelines.bilstm_config import TRAINING, WordStudentDistillation, describe_student
from nlp_distill.pipelines.fit_choice import Measured
from nlp_distill.pipelines.fit_config import (
    Candidate,
    Conditions,
    FitTraining,
    TransformerCandidate,
    plan_transformer,
    plan_word_student,
)
from nlp_distill.pipelines.fit_measure import make_task_text, score_exported, score_logits, write_form
from nlp_distill.pipelines.scoring import score_teacher
from nlp_distill.pipelines.tinybert import distill_tinybert
from nlp_distill.pipelines.tinybert_config import INTERMEDIATE, PREDICTION, TinyBERTDistillation
from nlp_distill.pipelines.transfer import list_sources
from nlp_distill.results import collect_versions
from nlp_distill.stages import read_finished, run_stage
from nlp_distill.students import Shape, count_parameters, student_from_teacher
from nlp_distill.subjects import TorchSubject, open_subject
from nlp_distill.tasks import TaskData
from nlp_distill.teachers import match_labels, read_labels
from nlp_distill.training import make_training_arguments

TEACHER = "teacher"
STUDENT, WITHOUT = "student", "without_teacher"


@dataclass(frozen=True)
class FitStages:
    """The stages of one run; none of them depends on the budget.

    Args:
        candidates: by name.
        conditions: how cost is measured.
        training: how candidates are trained.
        data: the task.
        teacher: the teacher.
        teacher_path: where it came from.
        teacher_task: which task of it, where it is a multi-task model.
        teacher_shape: its shape; ``None`` of one that is no transformer.
        tokenizer: its tokenizer.
        max_length: tokens a row.
        output: where everything goes.
        prints: the data's fingerprints.
        teacher_print: what results depend on of the teacher.
        starts: the hash of each general student, by the candidate's name.
        command: the command line.
        overwrite: make again what was made with other settings.
    """

    candidates: Mapping[str, Candidate]
    conditions: Conditions
    training: FitTraining
    data: TaskData
    teacher: PreTrainedModel
    teacher_path: str
    teacher_task: str
    teacher_shape: Shape | None
    tokenizer: Any
    max_length: int
    output: Path
    prints: Mapping[str, Any]
    teacher_print: Mapping[str, Any]
    starts: Mapping[str, str]
    command: str
    overwrite: bool

    def check(self) -> None:
        """Refuse settings of trainings that do not fit, before any work."""
        metrics = self.data.task.metrics
        for name in self.candidates:
            config = self._plan(name)
            trainings: list[tuple[Any, Any, Any]]
            if isinstance(config, WordStudentDistillation):
                config.word_vectors.check(self.teacher, self.tokenizer)
                trainings = [(TRAINING, config.training, metrics)]
            else:
                trainings = [
                    (INTERMEDIATE, config.intermediate_training, ()),  # nothing of it is scored
                    (PREDICTION, config.prediction_training, metrics),
                ]
            for defaults, given, scored in trainings:
                make_training_arguments(defaults, given, self.output, self.training.seed, scored)

    # ---- what a candidate costs ---------------------------------------------------------------------------------

    def measure(self) -> tuple[Measured, list[Measured], int]:
        """Cost of the teacher and of every candidate, measured in one run, and the tokens of the text."""
        text, tokens = make_task_text(self.tokenizer, self.data, self.conditions.tokens)
        sizes = {name: self._prepare(name) for name in self.candidates}

        def build(folder: Path) -> dict[str, Any]:
            wanted = self.conditions.tokens
            teacher = TorchSubject(
                self.teacher_path, wanted, self.teacher_task, self.training.trust_remote_code
            )
            others = [open_subject(str(self._locate_untrained(name)), wanted) for name in sizes]
            before = torch.get_num_threads()
            threads, repeats = self.conditions.threads, self.conditions.repeats
            try:
                figures = measure_latency([teacher, *others], [text], threads, repeats)
            finally:
                torch.set_num_threads(before)
            kept = [{name: own[name] for name in ("p50_ms", "p95_ms")} for own in figures]
            return {"figures": dict(zip([TEACHER, *sizes], kept, strict=True))}

        inputs = {
            "candidates": {name: self._describe_untrained(name) for name in sizes},
            "conditions": asdict(self.conditions),
            "text": text,
            "torch": collect_versions().get("torch"),
            "machine": describe_processor(),
        }
        # A folder for each set of candidates and conditions, because times of different runs do not compare.
        digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12]
        title = f"measuring {len(sizes)} candidates and the teacher"
        found = run_stage(title, self.output / "measured" / digest, inputs, build)["figures"]
        own = describe_size(self.teacher, self.teacher_path)
        size: dict[str, Any] = {"mb": own["bytes"] / 1e6, "parameters": own["parameters"]}
        measured = [Measured(name, **found[name], **sizes[name]) for name in sizes]
        return Measured(TEACHER, **found[TEACHER], **size), measured, tokens

    def _prepare(self, name: str) -> dict[str, Any]:
        """The untrained candidate in the form that ships: ``{"mb", "parameters"}``."""

        def build(folder: Path) -> dict[str, Any]:
            student, tokenizer = self._build_untrained(name)
            self._write_form(student, tokenizer, folder)
            return {"mb": measure_size(str(folder)), "parameters": count_parameters(student)[0]}

        title = f"building {name} untrained, for {self.conditions.runtime}"
        folder, inputs = self._locate_untrained(name), self._describe_untrained(name)
        return run_stage(title, folder, inputs, build, self.overwrite)

    def _build_untrained(self, name: str) -> tuple[PreTrainedModel, Any]:
        """The candidate with random weights, and its tokenizer."""
        config, seed = self._plan(name), self.training.seed
        if isinstance(config, WordStudentDistillation):
            tokenizer, matrix = config.word_vectors.build(self.teacher, self.tokenizer, self._read_corpus())
            return build_student(config, tokenizer, self.data.task, matrix, seed), tokenizer
        if config.general is None:
            return student_from_teacher(self.teacher, config.shape, random=True, seed=seed), self.tokenizer
        own = self.teacher.config
        labels = {field: getattr(own, field) for field in ("num_labels", "id2label", "label2id")}
        general = load_pretrained(AutoModelForSequenceClassification, config.general, **labels)
        return student_from_teacher(general, None, random=True, seed=seed), self.tokenizer

    def _read_corpus(self):
        """The texts that decide the vocabulary of a BiLSTM or CNN."""
        for split in list_sources(self.data):
            for column in self.data.task.text_columns:
                yield from getattr(self.data, split)[column]

    # ---- what a candidate learns --------------------------------------------------------------------------------

    def score_teacher(self) -> dict[str, float]:
        """The teacher's scores: ``{"validation", "test"}``."""
        given = (self.teacher, self.tokenizer, self.data, self.max_length, self._rows_dir, self.prints)
        entry = score_teacher(*given, self.overwrite)["entry"]
        return {"validation": entry["validation_score"], "test": entry["score"]}

    def train(self, name: str) -> None:
        """Distil a candidate, train it without the teacher, and put both in the form that ships, if not yet done."""

        def build(folder: Path) -> dict[str, Any]:
            config = self._plan(name)
            described = {"config": self._describe_plan(config), "command": self.command}
            given = (self.data, self.teacher_path, folder, described, self.overwrite)
            more: dict[str, Any] = {"teacher_task": self.teacher_task, "rows_dir": self._rows_dir}
            if isinstance(config, WordStudentDistillation):
                models = distill_bilstm(config, *given, **more)["models"]
            else:
                models = distill_tinybert(config, *given, **more)["models"]
            [baseline] = models.keys() - {"teacher", "student"}
            arms = {STUDENT: "student", WITHOUT: baseline}
            return {arm: Path(models[own]["path"]).name for arm, own in arms.items()}

        folder, inputs = self._locate(name), self._describe_distilled(name)
        run_stage(f"distilling {name}", folder, inputs, build, self.overwrite, every_process=True)
        for arm in (STUDENT, WITHOUT):
            self._ship(name, arm)

    def _ship(self, name: str, arm: str) -> None:
        """Export a trained student, where it is to run outside torch, and score what comes out."""
        if self.conditions.runtime == "torch":
            return
        trained = self._find_trained(name, arm)
        assert trained is not None, f"{name} is shipped before it was distilled"

        def build(folder: Path) -> dict[str, Any]:
            tokenizer = load_pretrained(AutoTokenizer, trained)
            self._write_form(load_classifier(trained), tokenizer, folder)
            return score_exported(folder, self.data, self.conditions.threads)

        folder = self._locate_shipped(name, arm)
        title = f"exporting {folder.name}, and scoring it"
        run_stage(title, folder, self._describe_shipped(trained), build, self.overwrite)

    def is_distilled(self, name: str) -> bool:
        """Whether an earlier run, or this one, distilled the candidate with these settings."""
        return self._find_trained(name, STUDENT) is not None

    def find_scores(self, name: str, arm: str) -> dict[str, Any] | None:
        """Scores of a candidate's ``STUDENT`` or ``WITHOUT`` in the form that ships.

        Returns:
            ``{"validation", "test", "path"}``, or ``None`` where it was not trained, or not put in this form.
        """
        trained = self._find_trained(name, arm)
        if trained is None:
            return None
        if self.conditions.runtime == "torch":
            logits, task = load_logits(trained / "logits.npz"), self.data.task
            splits = {"validation": self.data.validation, "test": self.data.test}
            scores = {split: score_logits(task, logits[split], rows) for split, rows in splits.items()}
            return {**scores, "path": str(trained)}
        folder = self._locate_shipped(name, arm)
        found = read_finished(folder, self._describe_shipped(trained))
        return None if found is None else {**found, "path": str(folder)}

    def _find_trained(self, name: str, arm: str) -> Path | None:
        found = read_finished(self._locate(name), self._describe_distilled(name))
        return None if found is None else self._locate(name) / found[arm]

    # ---- parts --------------------------------------------------------------------------------------------------

    def _plan(self, name: str) -> WordStudentDistillation | TinyBERTDistillation:
        candidate = self.candidates[name]
        if not isinstance(candidate, TransformerCandidate):
            return plan_word_student(candidate, self.training, self.max_length)
        assert self.teacher_shape is not None, "transformers are refused where the teacher is none"
        return plan_transformer(candidate, self.teacher_shape, self.training, self.max_length)

    def _write_form(self, model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
        write_form(model.eval(), tokenizer, folder, self.conditions.runtime, self.max_length, self.data)

    @property
    def _rows_dir(self) -> Path:
        return self.output / "rows"

    def _locate(self, name: str) -> Path:
        return self.output / "candidates" / name.replace(":", "-")

    def _locate_untrained(self, name: str) -> Path:
        return self.output / "untrained" / f"{name.replace(':', '-')}-{self.conditions.runtime}"

    def _locate_shipped(self, name: str, arm: str) -> Path:
        without = "-without-teacher" if arm == WITHOUT else ""
        return self.output / "shipped" / f"{name.replace(':', '-')}{without}-{self.conditions.runtime}"

    def _describe_candidate(self, name: str) -> dict[str, Any]:
        described = asdict(self.candidates[name])
        return described | ({"general": self.starts[name]} if name in self.starts else {})

    def _describe_untrained(self, name: str) -> dict[str, Any]:
        reads_words = not isinstance(self.candidates[name], TransformerCandidate)
        sources = list_sources(self.data) if reads_words else ()  # its vocabulary comes from the rows
        return {
            "candidate": self._describe_candidate(name),
            "runtime": self.conditions.runtime,
            "is_pair": self.data.task.is_pair,
            "labels": list(self.data.task.labels),
            "teacher": self.teacher_print,
            "data": {split: self.prints[split] for split in sources},
            **describe_exporter(),
        }

    def _describe_distilled(self, name: str) -> dict[str, Any]:
        return {
            "candidate": self._describe_candidate(name),
            "config": self._describe_plan(self._plan(name)),
            "teacher": self.teacher_print,
            "label_order": match_labels(self.data.task.labels, read_labels(self.teacher.config)),
            "data": self.prints,
            "seed": self.training.seed,
        }

    def _describe_plan(self, config: WordStudentDistillation | TinyBERTDistillation) -> dict[str, Any]:
        """The settings of a training as plain values."""
        transfer_set = (
            config.plan_transfer_set(self.data.task)
            if isinstance(config, TinyBERTDistillation)
            else config.transfer_set
        )
        described = {"transfer_set": transfer_set.describe() | transfer_set.hash_sources()}
        if isinstance(config, TinyBERTDistillation):
            plain = config.describe() | config.describe_training(self.data.task)
            return plain | described | {"baselines": list(config.baselines)}
        trainings = {"training": {**TRAINING, **config.training}}
        trainings["baseline_training"] = {**trainings["training"], **config.baseline_training}
        return describe_student(config) | trainings | described

    def _describe_shipped(self, trained: Path) -> dict[str, Any]:
        return {
            "weights": hash_file(trained / "model.safetensors"),
            "runtime": self.conditions.runtime,
            "max_length": self.max_length,
            "data": {split: self.prints[split] for split in ("train", "validation", "test")},
            **describe_exporter(),
        }
