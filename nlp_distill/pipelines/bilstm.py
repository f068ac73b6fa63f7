"""BERT -> BiLSTM: Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks",
arXiv 1903.12136.

The teacher labels an augmented transfer set once; a one-layer BiLSTM regresses on its logits,

    L = alpha * CE(y, z_S) + (1 - alpha) * ||z_T - z_S||^2,   alpha = 0 by default (section 3.2),

and the same BiLSTM learns the labelled rows alone, without the teacher, to be compared with. The student may as well
be the CNN of Kim 2014 (:mod:`nlp_distill.students.cnn`), all else being the same.

Deviations from the paper: the student starts from the teacher's word pieces (the paper: word2vec), with the pieces
that its corpus never uses left out, in one tuned channel (the paper: a frozen one beside it, ``embedding_channels=2``);
steps are of 50 rows for every task (the paper: 256 for QQP and MNLI); and checkpoints are selected on rows held out of
train, never on the reported ones (the paper selects on dev).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from nlp_distill.encoding import EncodedRows, encode_rows
from nlp_distill.evaluation import describe_size, save_logits
from nlp_distill.hashes import hash_file
from nlp_distill.labelled_files import load_labelled
from nlp_distill.models import check_max_length, check_vocabulary, load_classifier, load_pretrained
from nlp_distill.objectives import HardLabels, LogitRegression, Objective
from nlp_distill.pipelines.bilstm_config import (
    ADADELTA_RHO,
    TRAINING,
    CNNShape,
    WordStudentDistillation,
    describe_shape,
    describe_student,
)
from nlp_distill.pipelines.runs import train_at_best_rate, write_run
from nlp_distill.pipelines.scoring import (
    compare_speed,
    describe_teacher,
    describe_test,
    load_teacher_logits,
    predict_splits,
    score_teacher,
)
from nlp_distill.pipelines.transfer import (
    label_transfer_set,
    labelled_file,
    list_scored,
    list_sources,
    make_transfer_set,
)
from nlp_distill.processes import is_main_process
from nlp_distill.results import check_results_are_ours
from nlp_distill.stages import run_stage
from nlp_distill.students import WordStudent, build_bilstm, build_cnn
from nlp_distill.tasks import Task, TaskData
from nlp_distill.teachers import match_labels, read_labels
from nlp_distill.trainer import DistillationTrainer
from nlp_distill.training import make_training_arguments, score_predictions, train_and_save


def distill_bilstm(
    config: WordStudentDistillation,
    data: TaskData,
    teacher_path: str,
    output_dir: str | Path,
    described: Mapping[str, Any],
    overwrite: bool = False,
    timings: Mapping[str, float] | None = None,
    teacher_task: str | None = None,
    rows_dir: Path | None = None,
) -> dict[str, Any]:
    """Make the transfer set, label it, train the students, score them beside the teacher, and write the results.

    Every finished stage is kept under ``output_dir`` and reused; an interrupted one continues.

    Args:
        config: the settings.
        data: the task. Validation selects, test is reported.
        teacher_path: a model fine-tuned on the task, or a multi-task model: folder or hub name.
        output_dir: where everything goes.
        described: the settings and the command as plain values, kept in the results.
        overwrite: make again what was made with other settings.
        timings: seconds of work before this, by name, to stand among the run's own.
        teacher_task: which task of a multi-task teacher, where it has another name there.
        rows_dir: where the teacher's scores, the transfer set and its labels go, for runs that share them; ``None``
            for ``output_dir``.

    Returns:
        The content of ``results.json``.
    """
    output, task = Path(output_dir), data.task
    shared = output if rows_dir is None else rows_dir
    code = {"trust_remote_code": config.trust_remote_code}
    teacher = load_classifier(teacher_path, teacher_task or task.name, **code)
    tokenizer = load_pretrained(AutoTokenizer, teacher_path, **code)
    match_labels(task.labels, read_labels(teacher.config))  # refuse a teacher of another task before any work
    check_max_length(teacher, config.max_length)
    check_vocabulary(teacher, tokenizer)
    for training in (config.training, {**config.training, **config.baseline_training}):
        make_training_arguments(  # likewise
            TRAINING, training, output, config.seeds[0], task.metrics
        )
    config.word_vectors.check(teacher, tokenizer)
    check_results_are_ours(output, overwrite)
    prints = data.fingerprints()

    stages = _Stages(config, data, teacher, tokenizer, output, prints, overwrite, shared)
    teacher_scores = score_teacher(teacher, tokenizer, data, config.max_length, shared, prints, overwrite)
    transfer_set = make_transfer_set(config.transfer_set, data, shared, prints, overwrite)
    labelling = label_transfer_set(teacher, tokenizer, data, config.max_length, shared, overwrite)
    arms = {"student_without_teacher": stages.train_baseline} if config.baseline else {}
    arms["student"] = stages.train_student
    runs = {arm: [train(seed) for seed in config.seeds] for arm, train in arms.items()}

    student = output / f"student-seed{config.seeds[0]}"
    parts = {
        "transfer_set": transfer_set,
        "labelling": labelling,
        "speed": compare_speed(teacher, tokenizer, student, data, config.max_length),
        **described,
    }
    spent = {"transfer_set": transfer_set["seconds"], "labelling": labelling["seconds"]}
    entry = teacher_scores["entry"] | {"path": teacher_path}
    return write_run(output, data, entry, runs, config.seeds, parts, {**(timings or {}), **spent})


def build_student(
    config: WordStudentDistillation, tokenizer: Any, task: Task, embeddings: Tensor, seed: int
) -> WordStudent:
    """The untrained student of these settings for a task, a BiLSTM or a CNN.

    Args:
        config: the settings.
        tokenizer: the student's.
        task: what it has labels for.
        embeddings: (len(tokenizer), size), what its word vectors start from.
        seed: of its other weights.
    """
    given: dict[str, Any] = {
        "pair": task.is_pair,
        "embeddings": embeddings,
        "embedding_channels": config.embedding_channels,
        "dropout": config.dropout,
        "seed": seed,
        **describe_shape(config.shape),
    }
    build = build_cnn if isinstance(config.shape, CNNShape) else build_bilstm
    return build(tokenizer, task.labels, **given)


@dataclass(frozen=True)
class _Stages:
    """The stages of one run, each in its own folder."""

    config: WordStudentDistillation
    data: TaskData
    teacher: PreTrainedModel
    tokenizer: Any
    output: Path
    prints: Mapping[str, Any]
    overwrite: bool
    shared: Path  # the folder that holds the teacher's scores, the transfer set and its labels

    @property
    def task(self) -> Task:
        return self.data.task

    def _run(self, title: str, folder: str, inputs: Mapping[str, Any], build, every_process=False):
        return run_stage(title, self.output / folder, inputs, build, self.overwrite, every_process)

    @property
    def _teacher_inputs(self) -> dict[str, Any]:
        return describe_teacher(self.teacher, self.tokenizer, self.config.max_length)

    def train_student(self, seed: int) -> dict[str, Any]:
        """The distilled student of one seed."""
        table = load_labelled(labelled_file(self.shared), self.task.labels)
        alpha = self.config.hard_weight
        objective: Objective = LogitRegression(1 - alpha)
        if alpha:
            objective = objective + HardLabels(alpha)
        inputs = {"labels": hash_file(labelled_file(self.shared))}
        return self._train("student", seed, self.config.training, objective, table, inputs)

    def train_baseline(self, seed: int) -> dict[str, Any]:
        """The same student of one seed on the labelled rows alone, at the best of the rates tried for it."""
        training = {**self.config.training, **self.config.baseline_training}
        own = training.get("learning_rate", TRAINING["learning_rate"])

        def train(rate: float, with_seed: int, is_tuned: bool) -> dict[str, Any]:
            name = "student_without_teacher" + (f"-lr{rate:g}" if is_tuned else "")
            given = {**training, "learning_rate": rate}
            return self._train(name, with_seed, given, HardLabels(), self.data.train, {})

        rates = self.config.baseline_learning_rates
        return train_at_best_rate(rates, own, self.config.seeds, seed, train)

    def _train(
        self, arm: str, seed: int, training, objective: Objective, rows, extra_inputs
    ) -> dict[str, Any]:
        def build(folder: Path) -> dict[str, Any]:
            student_tokenizer, matrix = self.config.word_vectors.build(
                self.teacher, self.tokenizer, self._corpus()
            )
            args = make_training_arguments(TRAINING, training, folder, seed, self.task.metrics)
            student = build_student(self.config, student_tokenizer, self.task, matrix, seed)
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
            "data": {name: self.prints[name] for name in (*list_sources(self.data), *list_scored(self.data))},
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

    def _optimizer(self, learning_rate: float):
        if not self.config.adadelta:
            return None
        return torch.optim.Adadelta, {"lr": learning_rate, "rho": ADADELTA_RHO}

    def _score(self, student, student_tokenizer, folder: Path, trained: Mapping[str, Any]) -> dict[str, Any]:
        logits = predict_splits(student, student_tokenizer, self.data, self.config.max_length)
        if is_main_process():
            save_logits(folder / "logits.npz", logits)
        scores = describe_test(self.data, logits, load_teacher_logits(self.shared))
        scores["validation_score"] = trained["validation_score"]
        return scores | describe_size(student, folder) | {"path": str(folder)}

    def _encode(self, rows, tokenizer) -> EncodedRows:
        if not hasattr(rows, "features"):
            rows = Dataset(rows)
        encoded = encode_rows(rows, tokenizer, self.task.text_columns, self.config.max_length)
        cached = encoded.teacher_logits is not None
        return encoded.label_by_teacher() if cached and self.config.hard_weight else encoded

    def _corpus(self) -> Iterable[str]:
        """The texts that decide the student's vocabulary: what both students may learn from, never dev or test."""
        for name in list_sources(self.data):
            for column in self.task.text_columns:
                yield from getattr(self.data, name)[column]
