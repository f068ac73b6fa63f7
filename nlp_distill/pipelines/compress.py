"""Make a distilled student smaller, step by step, and say what each step costs and saves.

    trim-vocabulary        word pieces that the rows never use        exact on the rows
    factorise-embeddings   E ~ U V                                    distilled further
    prune-heads            attention heads that matter least          distilled further
    prune-ffn              feed-forward units that matter least       distilled further
    prune-magnitude        the smallest weights, while distilling     distilled further
    quantize               int8 weights, as ONNX                      as it comes

(:mod:`nlp_distill.compression`, and :mod:`nlp_distill.export` for the last.)

Distilled further is: from the teacher's logits on the transfer set (train rows, unlabelled rows, copies of both if
asked for), with SoftTargets, or LogitRegression where the task is a regression; the best epoch on validation stays, but
for the magnitude step, whose last weights have all the zeros. Every distilled step is scored before its training too.
The training is more of what made the student, so that a step's score may even rise: a drop is the price of the step and
its training together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from datasets import Dataset
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from data_augment.errors import InputError
from data_augment.readers import decode_lines
from nlp_distill.batching import DistillationCollator
from nlp_distill.calibration import draw_calibration
from nlp_distill.compression.factorise import check_factorisable, factorise_embeddings, read_embedding_width
from nlp_distill.compression.prune_magnitude import MagnitudePruning
from nlp_distill.compression.prune_structured import (
    choose_kept,
    count_removed,
    prune_heads,
    prune_units,
    read_heads,
    read_units,
    score_heads,
    score_units,
)
from nlp_distill.compression.rebuild import check_kind
from nlp_distill.compression.vocabulary import trim_model
from nlp_distill.encoding import EncodedRows, encode_rows
from nlp_distill.evaluation import save_logits
from nlp_distill.export import OPSET, check_onnx, describe_exporter, export_model
from nlp_distill.hashes import hash_file, hash_tokenizer, hash_weights
from nlp_distill.labelled_files import load_labelled
from nlp_distill.models import check_max_length, count_positions, load_classifier, load_pretrained
from nlp_distill.objectives import LogitRegression, Objective, SoftTargets
from nlp_distill.pipelines.compress_config import DISTILLED, Compression
from nlp_distill.pipelines.compress_report import NAME, describe_sizes, write_compression
from nlp_distill.pipelines.scoring import (
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
    transfer_file,
)
from nlp_distill.processes import is_main_process
from nlp_distill.results import check_results_are_ours
from nlp_distill.runtime import MODEL, Classifier
from nlp_distill.stages import run_stage
from nlp_distill.students import MultiTaskConfig
from nlp_distill.tasks import Task, TaskData
from nlp_distill.teachers import match_labels, read_labels
from nlp_distill.trainer import DistillationTrainer
from nlp_distill.training import make_training_arguments, score_predictions, train_and_save

MAX_LENGTH = 128  # tokens a row, where both models have positions for them
SCORED_ROWS = 4096  # train rows that heads and units are scored on, spread evenly; all where there are fewer


def compress(
    config: Compression,
    data: TaskData,
    student_path: str,
    teacher_path: str,
    output_dir: str | Path,
    described: Mapping[str, Any],
    overwrite: bool = False,
    teacher_task: str | None = None,
) -> dict[str, Any]:
    """Take the steps, each from the model of the one before, and write ``compress.json`` and ``compress.md``.

    Args:
        config: the steps and their settings.
        data: the task. Validation selects, test is reported.
        student_path: the student to start from: folder or hub name.
        teacher_path: its teacher.
        output_dir: where everything goes: a folder a step, ``model`` (the last step's in torch) and ``exported``.
        described: the settings and the command as plain values, kept in the results.
        overwrite: make again what was made with other settings.
        teacher_task: which task of a multi-task teacher, where it has another name there.

    Returns:
        The content of ``compress.json``.

    Raises:
        InputError: for models of another task or kind than the steps need, or amounts that leave nothing.
    """
    output, task = Path(output_dir), data.task
    code: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    student, tokenizer = load_student(student_path, **code)
    teacher = load_classifier(teacher_path, teacher_task or task.name, **code)
    teacher_tokenizer = load_pretrained(AutoTokenizer, teacher_path, **code)
    match_labels(task.labels, read_labels(teacher.config))  # refuse models of another task before any work
    if match_labels(task.labels, read_labels(student.config)) is not None:
        raise InputError(
            f"the student's labels are in the order {', '.join(read_labels(student.config))}, the task's "
            f"{', '.join(task.labels)}; give a student whose labels have the task's order"
        )
    max_length = config.max_length or min(
        MAX_LENGTH, *(count_positions(model) or MAX_LENGTH for model in (student, teacher))
    )
    for model in (student, teacher):
        check_max_length(model, max_length)
    prints = data.fingerprints()
    steps = _Steps(config, data, teacher, teacher_tokenizer, max_length, output, prints, overwrite)
    steps.check(student, tokenizer)
    check_results_are_ours(output, overwrite, NAME)

    teacher_scores = score_teacher(teacher, teacher_tokenizer, data, max_length, output, prints, overwrite)
    models = {
        "teacher": teacher_scores["entry"] | describe_sizes(teacher, teacher_path) | {"path": teacher_path}
    }
    models["start"] = steps.score_start(student, tokenizer, student_path)
    steps.prepare_rows()
    path = student_path
    for step in config.list_steps():
        if step == "quantize":
            continue
        models[step] = steps.take(step, path)
        path = models[step]["path"]
    path = steps.keep_model(path)
    if config.quantize != "none":
        models["quantize"] = steps.quantise(path)
    return write_compression(output, data, models, {"max_length": max_length, "data": prints, **described})


def load_student(path: str, **code: Any) -> tuple[PreTrainedModel, Any]:
    """The student to start from, and its tokenizer.

    Raises:
        InputError: for a folder that holds none, or a multi-task model.
    """
    if isinstance(load_pretrained(AutoConfig, path, **code), MultiTaskConfig):
        raise InputError(
            f"{path} is a multi-task model; save one task of it first: "
            "AutoModel.from_pretrained(folder).for_task(name).save_pretrained(other), and the tokenizer with it"
        )
    return load_classifier(path, **code), load_pretrained(AutoTokenizer, path, **code)


def read_corpus(path: str | Path) -> Iterator[str]:
    """The lines of a text file.

    Raises:
        InputError: for a line that is not UTF-8.
    """
    for number, line in enumerate(decode_lines(Path(path)), start=1):
        if line is None:
            raise InputError(f"{path} line {number} is not UTF-8; convert the file to UTF-8")
        yield line


@dataclass(frozen=True)
class _Steps:
    """The steps of one run, each in its own folder."""

    config: Compression
    data: TaskData
    teacher: PreTrainedModel
    teacher_tokenizer: Any
    max_length: int
    output: Path
    prints: Mapping[str, Any]
    overwrite: bool

    @property
    def task(self) -> Task:
        return self.data.task

    def check(self, student: PreTrainedModel, tokenizer: Any) -> None:
        """Refuse what cannot be done with this student before any work."""
        config = self.config
        if config.trim_vocabulary:
            trim_model(student, tokenizer, ())
        if config.factorise_embeddings is not None:
            check_factorisable(student, config.factorise_embeddings)
        if config.prune_heads is not None:
            check_kind(student, "prune-heads")
            count_removed(config.prune_heads, read_heads(student), "--prune-heads")
        if config.prune_ffn is not None:
            check_kind(student, "prune-ffn")
            count_removed(config.prune_ffn, read_units(student), "--prune-ffn")
        if config.quantize != "none":
            check_onnx(OPSET)
            if getattr(tokenizer, "backend_tokenizer", None) is None:
                raise InputError(
                    f"--quantize exports to ONNX, and {type(tokenizer).__name__} is no fast tokenizer"
                )
        for step in DISTILLED & set(config.list_steps()):
            defaults, own = config.plan_training(step, student)
            make_training_arguments(defaults, own, self.output, config.seed, self.task.metrics)

    def prepare_rows(self) -> None:
        """The transfer set, and the teacher's logits of it where a step distils."""
        steps = set(self.config.list_steps())
        if steps - {"quantize"}:
            make_transfer_set(self.config.transfer_set, self.data, self.output, self.prints, self.overwrite)
        if steps & DISTILLED:
            given = (self.teacher, self.teacher_tokenizer, self.data, self.max_length)
            label_transfer_set(*given, self.output, self.overwrite)

    def score_start(self, student: PreTrainedModel, tokenizer: Any, path: str) -> dict[str, Any]:
        """The student as it came."""

        def build(folder: Path) -> dict[str, Any]:
            return self._score(student, tokenizer, folder) | describe_sizes(student, path)

        inputs = self._describe(student, tokenizer)
        entry = run_stage("scoring the student", self.output / "start", inputs, build, self.overwrite)
        return entry | {"path": path}

    def take(self, step: str, before: str) -> dict[str, Any]:
        """One step from the model in a folder: the entry of what became of it."""
        model, tokenizer = self._load(before)
        inputs = {
            "step": {step: self.config.read_amount(step)},
            **self._describe(model, tokenizer),
            "transfer_set": hash_file(transfer_file(self.output)),
        }
        if step == "trim-vocabulary" and self.config.corpus:
            inputs["corpus"] = hash_file(self.config.corpus)
        if step in DISTILLED:
            defaults, own = self.config.plan_training(step, model)
            inputs |= {
                "training": {**defaults, **own},
                "seed": self.config.seed,
                "labels": hash_file(labelled_file(self.output)),
            }

        def build(folder: Path) -> dict[str, Any]:
            changed, own_tokenizer, detail = self._cut(step, model, tokenizer)
            entry: dict[str, Any] = {"detail": detail}
            if step not in DISTILLED:
                changed.save_pretrained(folder)
                own_tokenizer.save_pretrained(folder)
            else:
                if step != "prune-magnitude":  # which starts from the weights of the step before
                    entry["before_distilling"] = self._score_as_it_is(changed, own_tokenizer)
                entry["training"] = self._distil(step, changed, own_tokenizer, folder)
            entry |= self._score(changed, own_tokenizer, folder)
            return entry | describe_sizes(changed, folder) | {"path": str(folder)}

        is_training = step in DISTILLED
        return run_stage(step, self.output / step, inputs, build, self.overwrite, every_process=is_training)

    def keep_model(self, path: str) -> str:
        """The last model in torch, as ``model``; returns its path."""
        model, tokenizer = self._load(path)
        folder = self.output / "model"

        def build(folder: Path) -> dict[str, Any]:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            return {}

        inputs = {"weights": hash_weights(model), "tokenizer": hash_tokenizer(tokenizer)}
        run_stage("keeping the last model", folder, inputs, build, self.overwrite)
        return str(folder)

    def quantise(self, path: str) -> dict[str, Any]:
        """The model of a folder as ONNX with int8 weights, scored by the runtime that it ships with."""
        model, tokenizer = self._load(path)

        def build(folder: Path) -> dict[str, Any]:
            settings: dict[str, Any] = {"quantize": self.config.quantize, "max_length": self.max_length}
            settings["calibration"] = draw_calibration(self.data)
            export_model(model, tokenizer, folder, is_pair=self.task.is_pair, **settings)
            splits = {"test": self.data.test, **self.data.extra_tests}
            # One text at a time, as answers are given: rows of a batch share the range of their activations.
            classifier = Classifier(folder, batch_size=1)
            logits = {name: self._run_exported(classifier, rows) for name, rows in splits.items()}
            scores = describe_test(self.data, logits, load_teacher_logits(self.output))
            sizes = describe_sizes(model, path, weights=folder / MODEL)
            return {"detail": self.config.quantize, **scores, **sizes, "path": str(folder)}

        inputs = {
            "quantize": self.config.quantize,
            **self._describe(model, tokenizer),
            **describe_exporter(),
        }
        return run_stage("exporting the last model", self.output / "exported", inputs, build, self.overwrite)

    # ---- parts --------------------------------------------------------------------------------------------------

    def _cut(self, step: str, model: PreTrainedModel, tokenizer: Any) -> tuple[Any, Any, str]:
        """The model and tokenizer after a step, before any training, and what was done in words."""
        amount = self.config.read_amount(step)
        if step == "trim-vocabulary":
            changed, trimmed = trim_model(model, tokenizer, self._corpus())
            pieces = f"{model.config.vocab_size:,} → {changed.config.vocab_size:,} word pieces"
            return changed, trimmed, pieces
        if step == "factorise-embeddings":
            width = read_embedding_width(model)
            return factorise_embeddings(model, amount), tokenizer, f"{width} → {amount} numbers a word piece"
        if step == "prune-magnitude":
            return model.train(), tokenizer, f"{amount:.0%} of each matrix zero"
        rows, collate = self._choose_scored(tokenizer), DistillationCollator(tokenizer)
        if step == "prune-heads":
            total = read_heads(model)
            removed = count_removed(amount, total, "--prune-heads")
            changed = prune_heads(model, choose_kept(score_heads(model, rows, collate), removed))
            return changed, tokenizer, f"{total} → {total - removed} heads a layer"
        total = read_units(model)
        removed = count_removed(amount, total, "--prune-ffn")
        changed = prune_units(model, choose_kept(score_units(model, rows, collate), removed))
        return changed, tokenizer, f"{total:,} → {total - removed:,} units a layer"

    def _distil(self, step: str, student: PreTrainedModel, tokenizer: Any, folder: Path) -> dict[str, Any]:
        defaults, own = self.config.plan_training(step, student)
        args = make_training_arguments(defaults, own, folder, self.config.seed, self.task.metrics)
        objective: Objective = LogitRegression() if self.task.is_regression else SoftTargets()
        rows = Dataset(load_labelled(labelled_file(self.output), self.task.labels))
        pruning = (
            [MagnitudePruning(student, self.config.read_amount(step))] if step == "prune-magnitude" else []
        )
        trainer = DistillationTrainer(
            model=student,
            objective=objective,
            args=args,
            train_dataset=self._encode(rows, tokenizer),
            eval_dataset=self._encode(self.data.validation, tokenizer).sort_by_length(),
            processing_class=tokenizer,
            compute_metrics=score_predictions(self.task),
            callbacks=pruning,
        )
        return train_and_save(trainer, folder)

    def _corpus(self) -> Iterator[str]:
        """The texts whose word pieces stay: what is distilled on, and the corpus; never validation or test."""
        columns = list(self.task.text_columns)
        for batch in pq.ParquetFile(transfer_file(self.output)).iter_batches(columns=columns):
            for column in columns:
                yield from batch[column].to_pylist()
        if self.config.corpus:
            yield from read_corpus(self.config.corpus)

    def _choose_scored(self, tokenizer: Any) -> EncodedRows:
        count = len(self.data.train)
        chosen = np.linspace(0, count - 1, min(count, SCORED_ROWS)).astype(int)
        return self._encode(self.data.train.select(chosen), tokenizer)

    def _encode(self, rows: Dataset, tokenizer: Any) -> EncodedRows:
        return encode_rows(rows, tokenizer, self.task.text_columns, self.max_length)

    def _load(self, path: str) -> tuple[PreTrainedModel, Any]:
        code: dict[str, Any] = {"trust_remote_code": self.config.trust_remote_code}
        model = load_pretrained(AutoModelForSequenceClassification, path, **code)
        return model, load_pretrained(AutoTokenizer, path, **code)

    def _describe(self, model: PreTrainedModel, tokenizer: Any) -> dict[str, Any]:
        """What a step depends on: the model that it starts from, the rows, and the teacher it is compared with."""
        return {
            "before": {"weights": hash_weights(model), "tokenizer": hash_tokenizer(tokenizer)},
            "data": {name: self.prints[name] for name in (*list_sources(self.data), *list_scored(self.data))},
            "teacher": describe_teacher(self.teacher, self.teacher_tokenizer, self.max_length),
        }

    def _score(self, model: PreTrainedModel, tokenizer: Any, folder: Path) -> dict[str, Any]:
        logits = predict_splits(model, tokenizer, self.data, self.max_length)
        if is_main_process():
            save_logits(folder / "logits.npz", logits)
        return describe_test(self.data, logits, load_teacher_logits(self.output))

    def _score_as_it_is(self, model: PreTrainedModel, tokenizer: Any) -> float:
        """The score on test of a model that is to be trained, which scoring would freeze."""
        trainable = [weight for weight in model.parameters() if weight.requires_grad]
        logits = predict_splits(model, tokenizer, self.data, self.max_length)
        for weight in trainable:
            weight.requires_grad_(True)
        model.train()
        return describe_test(self.data, logits)["score"]

    def _run_exported(self, classifier: Classifier, rows: Dataset) -> np.ndarray:
        return classifier.compute_logits(self.task.read_texts(rows))
