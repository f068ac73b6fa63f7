"""The settings of ``nlp-distill fit``: a budget, how it is measured, the candidates, and how they are trained.

The defaults of the trainings are modest: what our published small students and the demo were made with, not the papers'
tens of epochs.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from data_augment.errors import InputError
from nlp_distill.limits import check_positive, check_whole
from nlp_distill.pipelines.bilstm_config import (
    BiLSTMShape,
    CNNShape,
    TransferSetConfig,
    WordStudentDistillation,
    plan_cnn,
)
from nlp_distill.pipelines.tinybert_config import PREDICTION_ALONE, TinyBERTDistillation
from nlp_distill.pipelines.word_vectors import TeacherWordPieces
from nlp_distill.students import Shape
from nlp_distill.training import MAX_SEED, MIN_LENGTH

RUNTIMES = {"onnx-int8": "int8-dynamic", "onnx": "none", "torch": None}  # and how each is quantised
DEFAULT_SHAPES = ("bilstm:64", "bilstm:150", "2x128", "3x312", "4x312")
INNER = {
    312: 1200
}  # TinyBERT's feed-forward size (Jiao et al. 2019, section 4.2); others are four times the width
EMBEDDING, VOCABULARY = 150, 8_000  # of a BiLSTM or CNN, as in the demo
MAX_UNITS = 4_096
RELATION_HEADS = 16  # at most, as our published student of 128 had

WORD_TRAINING: dict[str, Any] = {  # as in the demo, with AdamW
    "learning_rate": 2e-3,
    "num_train_epochs": 6,
    "per_device_train_batch_size": 64,
    "lr_scheduler_type": "linear",
    "max_grad_norm": 1.0,
}
INTERMEDIATE_EPOCHS, PREDICTION_EPOCHS = 2, 3
NARROW = 128  # up to this width higher rates do better, as for our published student of 128
INTERMEDIATE_RATES, PREDICTION_RATES = (1e-3, 3e-4), (1e-3, 2e-4)  # of narrow students and of others
BASELINE_FACTOR = 2  # epochs of the student without the teacher, who has fewer rows

_TRANSFORMER = re.compile(r"(\d+)x(\d+)(?::(\d+)(?::(\d+))?)?")
_WORDS = re.compile(r"(bilstm|cnn):(\d+)(?::(\d+))?")


@dataclass(frozen=True)
class Budget:
    """What a student may cost.

    Args:
        latency_ms: the median time of an answer, in milliseconds.
        max_drop: points (hundredths of the task's score) that it may lose to the teacher on validation.
        max_mb: megabytes of its weights; ``None`` for any.
    """

    latency_ms: float
    max_drop: float = 1.0
    max_mb: float | None = None

    def __post_init__(self) -> None:
        check_positive("latency_ms", self.latency_ms)
        if self.max_mb is not None:
            check_positive("max_mb", self.max_mb)
        if not (self.max_drop >= 0 and math.isfinite(self.max_drop)):
            raise InputError(f"max_drop is {self.max_drop}; it must be a number of at least 0, in points")


@dataclass(frozen=True)
class Conditions:
    """How an answer's time is measured: from text to probabilities, one text at a time, on the CPU.

    Args:
        runtime: what the student runs in, one of ``RUNTIMES``.
        tokens: length of the text, as the teacher's tokenizer counts it, special tokens included.
        threads: of the runtime.
        repeats: counted answers of each model; the models take turns.
    """

    runtime: str = "onnx-int8"
    tokens: int = 24
    threads: int = 1
    repeats: int = 100

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise InputError(f"runtime is {self.runtime!r}; give one of {', '.join(RUNTIMES)}")
        for name in ("tokens", "threads", "repeats"):
            check_whole(name, getattr(self, name), at_least=1)


@dataclass(frozen=True)
class TransformerCandidate:
    """A smaller transformer of the teacher's kind.

    Args:
        name: as it was asked for, such as ``3x312``.
        shape: its shape.
        general: folder of the general student that it starts from; ``None``: it is cut from the teacher.
    """

    name: str
    shape: Shape
    general: str | None = None


@dataclass(frozen=True)
class BiLSTMCandidate:
    """A BiLSTM over the teacher's word pieces.

    Args:
        name: as it was asked for, such as ``bilstm:150``.
        hidden_size: LSTM units a direction.
        embedding_size: numbers a word piece; at most the teacher's width is used.
    """

    name: str
    hidden_size: int
    embedding_size: int = EMBEDDING


@dataclass(frozen=True)
class CNNCandidate:
    """A CNN over the teacher's word pieces, with windows of the paper's widths.

    Args:
        name: as it was asked for, such as ``cnn:100``.
        filters: filters of each width.
        embedding_size: numbers a word piece; at most the teacher's width is used.
    """

    name: str
    filters: int
    embedding_size: int = EMBEDDING


WordCandidate = BiLSTMCandidate | CNNCandidate
Candidate = TransformerCandidate | WordCandidate


@dataclass(frozen=True)
class FitTraining:
    """How candidates are trained.

    Args:
        transfer_set: how the transfer set is made that all of them learn from.
        max_length: tokens a row; ``None``: 128, or what the teacher has positions for.
        max_candidates: how many are distilled at most.
        intermediate_epochs: of a transformer's intermediate stage.
        intermediate_learning_rate: of the same; ``None`` for the default of its width.
        training: fields of ``TrainingArguments`` over the defaults of every training.
        seed: of every student.
        trust_remote_code: run code that comes with the teacher.
    """

    transfer_set: TransferSetConfig = TransferSetConfig(n_iter=1, unlabelled_n_iter=0)
    max_length: int | None = None
    max_candidates: int = 3
    intermediate_epochs: float = INTERMEDIATE_EPOCHS
    intermediate_learning_rate: float | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_whole("max_candidates", self.max_candidates, at_least=1)
        check_whole("the seed", self.seed, at_least=0, at_most=MAX_SEED)
        check_positive("intermediate_epochs", self.intermediate_epochs)
        if self.intermediate_learning_rate is not None:
            check_positive("intermediate_learning_rate", self.intermediate_learning_rate)
        if self.max_length is not None:
            check_whole("max_length", self.max_length, at_least=MIN_LENGTH)


def parse_candidate(text: str, teacher: Shape | None) -> Candidate:
    """A candidate from ``LAYERSxWIDTH[:HEADS[:FFN]]``, ``bilstm:UNITS[:EMBEDDING]`` or ``cnn:FILTERS[:EMBEDDING]``.

    Heads left out are the teacher's, or the next smaller number that divides the width; an inner size left out is four
    times the width (1,200 for 312), or the teacher's where that is smaller.

    Args:
        text: the candidate in words.
        teacher: the teacher's shape; ``None`` of a teacher that is no transformer.

    Raises:
        InputError: for anything else, or a transformer that the teacher cannot teach.
    """
    name = text.strip().lower()
    if found := _WORDS.fullmatch(name):
        kind, units, embedding = found[1], int(found[2]), int(found[3] or EMBEDDING)
        counted = "units" if kind == "bilstm" else "filters"
        check_whole(f"the {counted} of {name}", units, at_least=1, at_most=MAX_UNITS)
        check_whole(f"the embedding size of {name}", embedding, at_least=1, at_most=MAX_UNITS)
        return (BiLSTMCandidate if kind == "bilstm" else CNNCandidate)(name, units, embedding)
    found = _TRANSFORMER.fullmatch(name)
    if not found:
        raise InputError(
            f"{text!r} is no shape; give LAYERSxWIDTH such as 3x312, LAYERSxWIDTH:HEADS:FFN, bilstm:UNITS such as "
            "bilstm:150, or cnn:FILTERS such as cnn:100"
        )
    if teacher is None:
        raise InputError(
            f"the teacher is no transformer that {name} could be cut from; give bilstm:UNITS or cnn:FILTERS only"
        )
    layers, hidden, heads, inner = (int(part) if part else 0 for part in found.groups())
    check_whole(f"the width of {name}", hidden, at_least=1)
    heads = heads if found[3] else next(n for n in range(teacher.heads, 0, -1) if hidden % n == 0)
    inner = inner if found[4] else min(INNER.get(hidden, 4 * hidden), teacher.ffn)
    shape = Shape(layers, hidden, heads, inner)
    if shape.layers > teacher.layers or shape.hidden > teacher.hidden or shape.ffn > teacher.ffn:
        raise InputError(
            f"{name} is larger than the teacher, which has {teacher.layers} layers of {teacher.hidden} and a "
            f"feed-forward size of {teacher.ffn}; give no more of each"
        )
    return TransformerCandidate(name, shape)


def default_candidates(teacher: Shape | None, with_bilstm: bool = True) -> list[Candidate]:
    """Those of ``DEFAULT_SHAPES`` that this teacher can teach.

    Args:
        teacher: the teacher's shape, ``None`` of one that is no transformer.
        with_bilstm: whether its word pieces can be trimmed for a BiLSTM.
    """
    candidates: list[Candidate] = []
    for text in DEFAULT_SHAPES:
        try:
            candidate = parse_candidate(text, teacher)
        except InputError:
            continue
        if with_bilstm or isinstance(candidate, TransformerCandidate):
            candidates.append(candidate)
    return candidates


def join_candidates(listed: Iterable[Candidate], generals: Sequence[TransformerCandidate]) -> list[Candidate]:
    """The candidates, those that start from a general student in the place of the same shape cut from the teacher.

    Raises:
        InputError: for none, or one that is there twice.
    """
    own = {general.name for general in generals}
    joined = [candidate for candidate in listed if candidate.name not in own] + list(generals)
    kept: list[Candidate] = []
    for candidate in joined:
        same = (replace(other, name=candidate.name) for other in kept)
        if candidate in same or candidate.name in {other.name for other in kept}:
            raise InputError(f"the candidate {candidate.name} is there twice; give each once")
        kept.append(candidate)
    if not kept:
        raise InputError("there is no candidate to measure; give --shapes, such as 3x312 or bilstm:150")
    return kept


def plan_word_student(
    candidate: WordCandidate, training: FitTraining, max_length: int
) -> WordStudentDistillation:
    """The settings that a BiLSTM or CNN candidate is distilled with, and without the teacher trained."""
    settings = {**WORD_TRAINING, **training.training}
    given: dict[str, Any] = {
        "word_vectors": TeacherWordPieces(candidate.embedding_size, VOCABULARY),
        "transfer_set": training.transfer_set,
        "seeds": (training.seed,),
        "max_length": max_length,
        "adadelta": False,
        "training": settings,
        "baseline_training": {"num_train_epochs": BASELINE_FACTOR * settings["num_train_epochs"]},
        "trust_remote_code": training.trust_remote_code,
    }
    if isinstance(candidate, CNNCandidate):
        return plan_cnn(CNNShape(candidate.filters), **given)
    return WordStudentDistillation(shape=BiLSTMShape(candidate.hidden_size), **given)


def plan_transformer(
    candidate: TransformerCandidate, teacher: Shape, training: FitTraining, max_length: int
) -> TinyBERTDistillation:
    """The settings that a transformer candidate is distilled with, and without the teacher trained.

    The student without the teacher starts from random weights, or from the general student where there is one.
    """
    shape = candidate.shape
    rate = 0 if shape.hidden <= NARROW else 1
    intermediate = {
        "num_train_epochs": training.intermediate_epochs,
        "learning_rate": training.intermediate_learning_rate or INTERMEDIATE_RATES[rate],
    }
    shared = {name: value for name, value in training.training.items() if name not in PREDICTION_ALONE}
    prediction = {"num_train_epochs": PREDICTION_EPOCHS, "learning_rate": PREDICTION_RATES[rate]}
    prediction |= training.training
    return TinyBERTDistillation(
        shape=shape,
        general=candidate.general,
        relation_heads=None if shape.heads == teacher.heads else choose_relation_heads(shape, teacher),
        transfer_set=training.transfer_set,
        seeds=(training.seed,),
        baselines=("general_only" if candidate.general else "student_without_teacher",),
        max_length=max_length,
        intermediate_training=shared | intermediate,
        prediction_training=prediction,
        baseline_epochs=BASELINE_FACTOR * prediction["num_train_epochs"],
        trust_remote_code=training.trust_remote_code,
    )


def choose_relation_heads(student: Shape, teacher: Shape) -> int:
    """The largest divisor of both widths up to ``RELATION_HEADS``: what they compare in where their heads differ."""
    common = math.gcd(student.hidden, teacher.hidden)
    return next(heads for heads in range(RELATION_HEADS, 0, -1) if common % heads == 0)
