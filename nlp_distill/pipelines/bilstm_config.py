"""The settings of BERT -> BiLSTM or CNN, with the paper's numbers: Tang et al. 2019, arXiv 1903.12136."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from data_augment.rules import (
    DEFAULT_ITERATIONS,
    DEFAULT_PAIR_ITERATIONS,
    MaskRule,
    NgramRule,
    PosRule,
    Rule,
    check_iterations,
    combine_rules,
)
from nlp_distill.hashes import hash_file
from nlp_distill.limits import check_share, check_whole
from nlp_distill.pipelines.word_vectors import TeacherWordPieces, WordVectors
from nlp_distill.students.build import choose_head_size
from nlp_distill.students.cnn import DROPOUT, FILTERS, WIDTHS, check_windows
from nlp_distill.tasks import Task
from nlp_distill.training import MIN_LENGTH, check_baseline_rates, check_seeds

TRAINING: dict[str, Any] = {
    "learning_rate": 1.0,  # §4.2, with Adadelta
    "num_train_epochs": 30,  # §4.2; the best on validation is kept
    "per_device_train_batch_size": 50,  # §4.2 for SST-2; there 256 for QQP and MNLI
    "lr_scheduler_type": "constant",
    "weight_decay": 0.0,
    "max_grad_norm": 0.0,  # the paper does not clip
    "logging_steps": 200,
}
ADADELTA_RHO = 0.95  # §4.2
# Where another optimiser is chosen and no rate is given: Adadelta's 1.0 would be none for it.
ADAM_RATE = 2e-3


@dataclass(frozen=True)
class TransferSetConfig:
    """How the transfer set is made (section 3.3 of the paper)."""

    n_iter: int | None = None  # None: 20, and 10 for pairs (§4.2)
    p_mask: float = 0.1  # §4.2
    p_pos: float = 0.1  # §4.2
    p_ngram: float = 0.25  # §4.2
    max_ngram: int = 5  # §3.3
    unlabelled_n_iter: int | None = None  # None: as n_iter
    pos_tagger: str = "auto"
    num_workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_iter", "unlabelled_n_iter"):
            if getattr(self, name) is not None:
                check_iterations(getattr(self, name), name)
        combine_rules(self.rules)
        check_whole("num_workers", self.num_workers, at_least=1)
        check_whole("the transfer set's seed", self.seed, at_least=0)

    @property
    def rules(self) -> list[Rule]:
        """The three rules with their numbers."""
        return [MaskRule(self.p_mask), PosRule(self.p_pos), NgramRule(self.p_ngram, self.max_ngram)]

    def make_candidates(self) -> None:
        """These rules need no candidates."""

    def describe(self) -> dict[str, Any]:
        """The settings that the rows depend on, as plain values: the number of workers is none of them."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "num_workers"}

    def hash_sources(self) -> dict[str, str]:
        """These rules read no files."""
        return {}


WIDEST = 65_536  # units or filters; a number with a few zeros too many fills the memory before it fails
WIDEST_WINDOW = 512  # words


@dataclass(frozen=True)
class BiLSTMShape:
    """The sizes of a BiLSTM student.

    Args:
        hidden_size: LSTM units a direction: 150, or 300 (the paper's two sizes).
        head_size: width of the hidden layer above; ``None`` for the paper's 200 and 400.
    """

    hidden_size: int = 150
    head_size: int | None = None

    def __post_init__(self) -> None:
        check_whole("hidden_size", self.hidden_size, at_least=1, at_most=WIDEST)
        if self.head_size is not None:
            check_whole("head_size", self.head_size, at_least=1, at_most=WIDEST)


@dataclass(frozen=True)
class CNNShape:
    """The sizes of a CNN student: Kim 2014, arXiv 1408.5882.

    Args:
        filters: filters of each width.
        widths: words a window.
    """

    filters: int = FILTERS
    widths: tuple[int, ...] = WIDTHS

    def __post_init__(self) -> None:
        check_whole("filters", self.filters, at_least=1, at_most=WIDEST)
        for width in self.widths:
            check_whole("a width", width, at_least=1, at_most=WIDEST_WINDOW)
        check_windows(self.filters, self.widths)


@dataclass(frozen=True)
class WordStudentDistillation:
    """Settings of the pipeline; the defaults are the paper's, of a BiLSTM (``plan_cnn`` has those of a CNN).

    Args:
        word_vectors: what the student's embeddings start from.
        shape: the student's sizes, and so whether it is a BiLSTM or a CNN.
        embedding_channels: 2 adds a frozen copy of the embeddings beside the tuned one.
        dropout: before the last linear layer.
        hard_weight: alpha above; 0 is the paper's best.
        transfer_set: how the transfer set is made.
        seeds: one student for each.
        baseline: also train the same student without the teacher.
        max_length: tokens a row.
        adadelta: Adadelta with rho 0.95 as in the paper; else the optimiser of ``TrainingArguments``, for which
            ``training`` should hold a rate (``ADAM_RATE``, say).
        training: fields of ``TrainingArguments`` over ``TRAINING``, for both students.
        baseline_training: the same over ``training``, for the student without the teacher alone.
        baseline_learning_rates: rates to try for the student without the teacher, so that the comparison is fair to
            it: the rate with the best validation score (first seed) is taken for all seeds.
        trust_remote_code: run code that comes with the teacher.
    """

    word_vectors: WordVectors = TeacherWordPieces()
    shape: BiLSTMShape | CNNShape = BiLSTMShape()
    embedding_channels: int = 1
    dropout: float = 0.3
    hard_weight: float = 0.0
    transfer_set: TransferSetConfig = TransferSetConfig()
    seeds: tuple[int, ...] = (0,)
    baseline: bool = True
    max_length: int = 128
    adadelta: bool = True
    training: Mapping[str, Any] = field(default_factory=dict)
    baseline_training: Mapping[str, Any] = field(default_factory=dict)
    baseline_learning_rates: tuple[float, ...] = ()
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_whole("embedding_channels", self.embedding_channels, at_least=1, at_most=2)
        check_share("dropout", self.dropout, below_one=True)
        check_share("hard_weight", self.hard_weight)
        check_whole("max_length", self.max_length, at_least=MIN_LENGTH)
        check_baseline_rates(self.baseline_learning_rates, {**self.training, **self.baseline_training})
        for name in ("optim", "optim_args"):
            if self.adadelta and self.training.get(name):
                raise InputError(
                    f"{name} is {self.training[name]}, which has no effect on Adadelta; leave out one of the two"
                )
        check_seeds(self.seeds)


def plan_cnn(shape: CNNShape = CNNShape(), **settings: Any) -> WordStudentDistillation:
    """The same pipeline with a CNN for its student, and the dropout of Kim 2014; ``settings`` as above."""
    return WordStudentDistillation(**{"shape": shape, "dropout": DROPOUT, **settings})


def describe_config(config: WordStudentDistillation, task: Task) -> dict[str, Any]:
    """Every setting as a plain value, those that depend on others resolved: what a result file keeps."""
    plain = dataclasses.asdict(config)
    source = plain["word_vectors"].get("source")
    if source is not None:
        plain["word_vectors"]["source"] = Path(source).name
    plain["word_vectors"] |= {"kind": type(config.word_vectors).__name__}
    del plain["shape"]
    plain |= describe_shape(config.shape)
    if isinstance(config.shape, BiLSTMShape):
        plain["head_size"] = choose_head_size(config.shape.hidden_size, config.shape.head_size)
    copies = DEFAULT_PAIR_ITERATIONS if task.is_pair else DEFAULT_ITERATIONS
    transfer = plain["transfer_set"]
    transfer["n_iter"] = copies if transfer["n_iter"] is None else transfer["n_iter"]
    if transfer["unlabelled_n_iter"] is None:
        transfer["unlabelled_n_iter"] = transfer["n_iter"]
    plain["training"] = {**TRAINING, **config.training}
    plain["baseline_training"] = {**plain["training"], **config.baseline_training}
    if config.adadelta:
        plain["adadelta_rho"] = ADADELTA_RHO
    return plain


def describe_student(config: WordStudentDistillation) -> dict[str, Any]:
    """The settings that shape the student, as plain values; a file of word vectors by what it holds."""
    names = ("embedding_channels", "dropout", "hard_weight", "max_length", "adadelta")
    vectors = {"kind": type(config.word_vectors).__name__, **dataclasses.asdict(config.word_vectors)}
    if vectors.get("source") is not None:
        vectors["source"] = hash_file(vectors["source"])
    plain = {name: getattr(config, name) for name in names}
    return {"word_vectors": vectors} | describe_shape(config.shape) | plain


def describe_shape(shape: BiLSTMShape | CNNShape) -> dict[str, Any]:
    """The sizes of the student's layers, as plain values."""
    if isinstance(shape, CNNShape):
        return {"filters": shape.filters, "widths": sorted(shape.widths)}
    return dataclasses.asdict(shape)
