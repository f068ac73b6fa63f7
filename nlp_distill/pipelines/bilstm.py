"""BERT -> BiLSTM: Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks",
arXiv 1903.12136.

The teacher labels an augmented transfer set once; a one-layer BiLSTM regresses on its logits,

    L = alpha * CE(y, z_S) + (1 - alpha) * ||z_T - z_S||^2,   alpha = 0 by default (section 3.2),

and the same BiLSTM learns the labelled rows alone, without the teacher, to be compared with.

Deviations from the paper: the student starts from the teacher's word pieces (the paper: word2vec), with the pieces
that its corpus never uses left out; and checkpoints are selected on rows held out of train, never on the reported
ones (the paper selects on dev).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from data_augment.transfer_set import write_transfer_set
from nlp_distill.encoding import EncodedRows, encode_rows
from nlp_distill.evaluation import (
    describe_scores,
    describe_size,
    load_logits,
    measure_speed,
    predict_logits,
    save_logits,
    score_majority,
)
from nlp_distill.labelling import hash_file, hash_weights, label_file, load_labelled, summarise
from nlp_distill.models import check_max_length, load_pretrained
from nlp_distill.objectives import HardLabels, LogitRegression, Objective
from nlp_distill.pipelines.bilstm_config import ADADELTA_RHO, TRAINING, BiLSTMDistillation, describe_student
from nlp_distill.processes import is_main_process
from nlp_distill.results import collect_versions, compute_retention, merge_seeds, write_results
from nlp_distill.stages import announce, run_stage
from nlp_distill.students import build_bilstm
from nlp_distill.tasks import Task, TaskData
from nlp_distill.teachers import match_labels, read_labels, warn_if_not_fine_tuned
from nlp_distill.trainer import DistillationTrainer
from nlp_distill.training import make_training_arguments, score_predictions, train_and_save

SPEED_TEXTS = 200  # test texts that teacher and student are timed on


def distill_bilstm(
    config: BiLSTMDistillation,
    data: TaskData,
    teacher_path: str,
    output_dir: str | Path,
    described: Mapping[str, Any],
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make the transfer set, label it, train the students, score them beside the teacher, and write the results.

    Every finished stage is kept under ``output_dir`` and reused; an interrupted one continues.

    Args:
        config: the settings.
        data: the task. Validation selects, test is reported.
        teacher_path: a model fine-tuned on the task: folder or hub name.
        output_dir: where everything goes.
        described: the settings and the command as plain values, kept in the results.
        overwrite: make again what was made with other settings.

    Returns:
        The content of ``results.json``.
    """
    output, task = Path(output_dir), data.task
    code = {"trust_remote_code": config.trust_remote_code}
    teacher = load_pretrained(AutoModelForSequenceClassification, teacher_path, **code)
    tokenizer = load_pretrained(AutoTokenizer, teacher_path, **code)
    match_labels(task.labels, read_labels(teacher.config))  # refuse a teacher of another task before any work
    check_max_length(teacher, config.max_length)
    for training in (config.training, {**config.training, **config.baseline_training}):
        make_training_arguments(TRAINING, training, output / "checkpoints", config.seeds[0])  # likewise
    prints = data.fingerprints()

    stages = _Stages(config, data, teacher, tokenizer, output, prints, overwrite)
    teacher_scores = stages.score_teacher()
    transfer_set = stages.make_transfer_set()
    labelling = stages.label()
    arms = {"student_without_teacher": stages.train_baseline} if config.baseline else {}
    arms["student"] = stages.train_student
    runs = {arm: [train(seed) for seed in config.seeds] for arm, train in arms.items()}

    models = {"teacher": teacher_scores["entry"] | {"path": teacher_path}}
    models |= {arm: merge_seeds([run["entry"] for run in runs[arm]]) for arm in runs}
    results = {
        "task": task.name,
        "metric": task.metrics[0],
        "models": models,
        **compute_retention(models),
        "seeds": list(config.seeds),
        "selected_on": data.selected_on,
        "data_source": data.source,
        "data": prints,
        "transfer_set": transfer_set,
        "labelling": labelling,
        "timings_s": {
            "transfer_set": transfer_set["seconds"],
            "labelling": labelling["seconds"],
            **{arm: sum(run["training"]["seconds"] for run in runs[arm]) for arm in runs},
        },
        "baseline_tuning": runs["student_without_teacher"][0].get("tuning") if config.baseline else None,
        "speed": stages.compare_speed(config.seeds[0]),
        "versions": collect_versions(),
        **described,
    }
    if is_main_process():
        write_results(output, results)
    results["runs"] = runs
    return results


@dataclass(frozen=True)
class _Stages:
    """The stages of one run, each in its own folder."""

    config: BiLSTMDistillation
    data: TaskData
    teacher: PreTrainedModel
    tokenizer: Any
    output: Path
    prints: Mapping[str, Any]
    overwrite: bool

    @property
    def task(self) -> Task:
        return self.data.task

    @property
    def transfer_file(self) -> Path:
        return self.output / "transfer_set" / "transfer_set.parquet"

    @property
    def labelled_file(self) -> Path:
        return self.output / "labels" / "labelled.parquet"

    def _run(self, title: str, folder: str, inputs: Mapping[str, Any], build, every_process=False):
        return run_stage(title, self.output / folder, inputs, build, self.overwrite, every_process)

    @property
    def _teacher_inputs(self) -> dict[str, Any]:
        return {"weights": hash_weights(self.teacher), "max_length": self.config.max_length}

    def score_teacher(self) -> dict[str, Any]:
        """Teacher's logits on validation and test, its scores, and the check that it was fine-tuned at all."""

        def build(folder: Path) -> dict[str, Any]:
            logits = self._predict(self.teacher, self.tokenizer)
            save_logits(folder / "logits.npz", logits)
            labels = {name: np.asarray(self._reported()[name]["label"]) for name in ("validation", "test")}
            scores = {name: describe_scores(self.task, logits[name], labels[name]) for name in labels}
            warning = warn_if_not_fine_tuned(
                scores["validation"]["score"], score_majority(self.task, labels["validation"]), "validation"
            )
            size = describe_size(self.teacher, str(self.teacher.config.name_or_path))
            entry = scores["test"] | {"validation_score": scores["validation"]["score"]} | size
            entry |= self._score_extra(logits)
            return {"entry": entry, "warning": warning}

        inputs = {"teacher": self._teacher_inputs, "data": self.prints}
        result = self._run("scoring the teacher", "teacher_scores", inputs, build)
        if result["warning"]:
            announce(f"WARNING: {result['warning']}")
        return result

    def make_transfer_set(self) -> dict[str, Any]:
        """The augmented transfer set."""
        settings = self.config.transfer_set

        def build(folder: Path) -> dict[str, Any]:
            summary = write_transfer_set(
                self.data.train,
                self.transfer_file,
                text_column=self.task.text_column,
                text_pair_column=self.task.text_pair_column,
                label_column="label",
                rules=settings.rules,
                n_iter=settings.n_iter,
                seed=settings.seed,
                num_workers=settings.num_workers,
                pos_tagger=settings.pos_tagger,
                unlabelled=self.data.unlabelled,
                unlabelled_n_iter=settings.unlabelled_n_iter,
                overwrite=True,
                show_progress=True,
            )
            counted = summary.to_dict()
            return {"rows": counted.pop("rows_out"), "sha256": hash_file(self.transfer_file), **counted}

        inputs = {
            "settings": settings.describe(),
            "data": {k: self.prints[k] for k in self._sources()},
        }
        return self._run("building the transfer set", "transfer_set", inputs, build)

    def label(self) -> dict[str, Any]:
        """The teacher's logits of every row of the transfer set."""

        def build(folder: Path) -> dict[str, Any]:
            teachers = [(self.teacher, self.tokenizer)]
            summary = label_file(
                self.transfer_file,
                self.labelled_file,
                teachers,
                self.task.text_columns,
                self.config.max_length,
            )
            announce(str(summary))
            return summarise(summary)

        inputs = {"teacher": self._teacher_inputs, "transfer_set": hash_file(self.transfer_file)}
        return self._run("labelling the transfer set", "labels", inputs, build)

    def train_student(self, seed: int) -> dict[str, Any]:
        """The distilled student of one seed."""
        table = load_labelled(self.labelled_file, self.task.labels)
        alpha = self.config.hard_weight
        objective: Objective = LogitRegression(1 - alpha)
        if alpha:
            objective = objective + HardLabels(alpha)
        inputs = {"labels": hash_file(self.labelled_file)}
        return self._train("student", seed, self.config.training, objective, table, inputs)

    def train_baseline(self, seed: int) -> dict[str, Any]:
        """The same student of one seed on the labelled rows alone, at the best of the rates tried for it."""
        training = {**self.config.training, **self.config.baseline_training}
        rates = self.config.baseline_learning_rates or (
            training.get("learning_rate", TRAINING["learning_rate"]),
        )
        if len(rates) == 1:
            return self._train_baseline_at(rates[0], seed, training)
        tried = {rate: self._train_baseline_at(rate, self.config.seeds[0], training) for rate in rates}
        best = max(rates, key=lambda rate: tried[rate]["entry"]["validation_score"])
        run = tried[best] if seed == self.config.seeds[0] else self._train_baseline_at(best, seed, training)
        scores = {str(rate): run["entry"]["validation_score"] for rate, run in tried.items()}
        return run | {"tuning": {"learning_rate": best, "validation_scores": scores}}

    def _train_baseline_at(self, rate: float, seed: int, training: Mapping[str, Any]) -> dict[str, Any]:
        training = {**training, "learning_rate": rate}
        name = "student_without_teacher" + (f"-lr{rate:g}" if self.config.baseline_learning_rates else "")
        return self._train(name, seed, training, HardLabels(), self.data.train, {})

    def _train(
        self, arm: str, seed: int, training, objective: Objective, rows, extra_inputs
    ) -> dict[str, Any]:
        def build(folder: Path) -> dict[str, Any]:
            student_tokenizer, matrix = self.config.word_vectors.build(
                self.teacher, self.tokenizer, self._corpus()
            )
            args = make_training_arguments(TRAINING, training, folder / "checkpoints", seed)
            student = build_bilstm(
                student_tokenizer,
                self.task.labels,
                pair=self.task.is_pair,
                embeddings=matrix,
                hidden_size=self.config.hidden_size,
                head_size=self.config.head_size,
                embedding_channels=self.config.embedding_channels,
                dropout=self.config.dropout,
                seed=seed,
            )
            trainer = DistillationTrainer(
                model=student,
                objective=objective,
                args=args,
                train_dataset=self._encode(rows, student_tokenizer),
                eval_dataset=self._encode(self.data.validation, student_tokenizer).sort_by_length(),
                processing_class=student_tokenizer,
                compute_metrics=score_predictions(self.task),
                optimizer_cls_and_kwargs=self._optimizer(args.learning_rate),
            )
            trained = train_and_save(trainer, folder)
            return {"entry": self._score(student, student_tokenizer, folder, trained), "training": trained}

        inputs = {
            "student": describe_student(self.config),
            "training": {**TRAINING, **training},
            "seed": seed,
            "data": {name: self.prints[name] for name in (*self._sources(), "validation", "test")},
            # Of both: the student without the teacher has its word pieces, and is compared with it.
            "teacher": self._teacher_inputs,
            **extra_inputs,
        }
        return self._run(
            f"training the {arm.replace('_', ' ')}, seed {seed}",
            f"{arm}-seed{seed}",
            inputs,
            build,
            every_process=True,
        )

    def compare_speed(self, seed: int) -> dict[str, Any]:
        """Teacher and student side by side on test texts, one at a time, on the CPU or accelerator at hand."""
        folder = self.output / f"student-seed{seed}"
        student = load_pretrained(AutoModelForSequenceClassification, folder).to(self.teacher.device)
        models = {
            "teacher": (self.teacher, self.tokenizer),
            "student": (student, load_pretrained(AutoTokenizer, folder)),
        }
        rows = self.data.test.select(range(min(SPEED_TEXTS, len(self.data.test))))
        texts = [tuple(row[column] for column in self.task.text_columns) for row in rows]
        speeds = measure_speed(models, texts, self.config.max_length)
        return {"median_ms": speeds, "texts": len(texts), "threads": torch.get_num_threads()}

    def _optimizer(self, learning_rate: float):
        if not self.config.adadelta:
            return None
        return torch.optim.Adadelta, {"lr": learning_rate, "rho": ADADELTA_RHO}

    def _score(self, student, student_tokenizer, folder: Path, trained: Mapping[str, Any]) -> dict[str, Any]:
        logits = self._predict(student, student_tokenizer)
        if is_main_process():
            save_logits(folder / "logits.npz", logits)
        teacher_logits = load_logits(self.output / "teacher_scores" / "logits.npz")
        scores = describe_scores(self.task, logits["test"], self.data.test["label"], teacher_logits["test"])
        scores["validation_score"] = trained["validation_score"]
        scores |= self._score_extra(logits, teacher_logits)
        return scores | describe_size(student, folder) | {"path": str(folder)}

    def _predict(self, model, tokenizer) -> dict[str, np.ndarray]:
        return {
            name: predict_logits(model, tokenizer, rows, self.task, self.config.max_length)
            for name, rows in self._reported().items()
        }

    def _score_extra(self, logits: Mapping[str, np.ndarray], teacher_logits=None) -> dict[str, Any]:
        """Scores on further reported sets, such as MNLI mismatched; sets without public labels are left out."""
        scored = {}
        for name, rows in self.data.extra_tests.items():
            labels = np.asarray(rows["label"])
            if self.task.is_regression or (labels >= 0).all():
                reference = None if teacher_logits is None else teacher_logits[name]
                scored[name] = describe_scores(self.task, logits[name], labels, reference)
        return {"extra_tests": scored} if scored else {}

    def _reported(self) -> dict[str, Any]:
        return {"validation": self.data.validation, "test": self.data.test, **self.data.extra_tests}

    def _encode(self, rows, tokenizer) -> EncodedRows:
        if not hasattr(rows, "features"):
            rows = Dataset(rows)
        encoded = encode_rows(rows, tokenizer, self.task.text_columns, self.config.max_length)
        cached = encoded.teacher_logits is not None
        return encoded.label_by_teacher() if cached and self.config.hard_weight else encoded

    def _corpus(self) -> Iterable[str]:
        """The texts that decide the student's vocabulary: what both students may learn from, never dev or test."""
        for name in self._sources():
            for column in self.task.text_columns:
                yield from getattr(self.data, name)[column]

    def _sources(self) -> Sequence[str]:
        return ("train",) if self.data.unlabelled is None else ("train", "unlabelled")
