"""The settings of compressing a student, and the order of its steps."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from data_augment.errors import InputError
from nlp_distill.limits import check_share, check_whole
from nlp_distill.pipelines.bilstm_config import TransferSetConfig
from nlp_distill.students import WordStudent
from nlp_distill.training import MAX_SEED, MIN_LENGTH

# Exact steps first; heads and units are scored on the embeddings that stay; single weights go when the matrices have
# their last size; rounding to int8 comes last, because nothing can be trained after it.
STEPS = (
    "trim-vocabulary",
    "factorise-embeddings",
    "prune-heads",
    "prune-ffn",
    "prune-magnitude",
    "quantize",
)
DISTILLED = frozenset({"factorise-embeddings", "prune-heads", "prune-ffn", "prune-magnitude"})
QUANTISATIONS = ("none", "int8-dynamic")

TRAINING: dict[str, Any] = {  # ours: a short training at a rate between a fine-tuning's and a small student's
    "learning_rate": 1e-4,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 32,
    "warmup_steps": 0.1,
}
WORD_TRAINING: dict[str, Any] = {**TRAINING, "learning_rate": 1e-3}


@dataclass(frozen=True)
class Compression:
    """Settings of the pipeline; what is left out is no step.

    Args:
        trim_vocabulary: keep only the word pieces of the transfer set and of ``corpus``.
        corpus: a text file, a text a line, whose word pieces stay too.
        factorise_embeddings: the rank of the word embeddings.
        prune_heads: heads to take out of each layer: a number (int) or a share of them (float).
        prune_ffn: the share of each layer's feed-forward units to take out.
        prune_magnitude: the share of each matrix's weights to set to zero.
        quantize: ``none`` or ``int8-dynamic``: export to ONNX with int8 weights.
        transfer_set: the rows that are distilled on: train and unlabelled rows, and copies of them if asked for.
        max_length: tokens a row; ``None`` for 128, or what student and teacher have positions for.
        seed: of the order of rows and dropout.
        training: fields of ``TrainingArguments`` over ``TRAINING``, for each step that distils.
        trust_remote_code: run code that comes with a model.
    """

    trim_vocabulary: bool = False
    corpus: str | None = None
    factorise_embeddings: int | None = None
    prune_heads: int | float | None = None
    prune_ffn: float | None = None
    prune_magnitude: float | None = None
    quantize: str = "none"
    transfer_set: TransferSetConfig = TransferSetConfig(n_iter=0)
    max_length: int | None = None
    seed: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.quantize not in QUANTISATIONS:
            raise InputError(f"quantize is {self.quantize!r}; give one of {', '.join(QUANTISATIONS)}")
        if not self.list_steps():
            names = ", ".join(f"--{step}" for step in STEPS)
            raise InputError(f"nothing to do; give at least one of {names}")
        if self.corpus is not None:
            if not self.trim_vocabulary:
                raise InputError("--corpus says which word pieces stay; add --trim-vocabulary")
            if not Path(self.corpus).is_file():
                raise InputError(f"no file {self.corpus}; --corpus takes a file with a text a line")
        if self.prune_magnitude is not None:
            check_share("the share of --prune-magnitude", self.prune_magnitude, below_one=True)
            if self.prune_magnitude == 0:
                raise InputError("the share of --prune-magnitude is 0; leave it out, or give more")
            if self.training.get("load_best_model_at_end"):
                raise InputError(
                    "--load-best-model-at-end does not go with --prune-magnitude: the best checkpoint may be of a time "
                    "with fewer zeros"
                )
        if self.max_length is not None:
            check_whole("max_length", self.max_length, at_least=MIN_LENGTH)
        check_whole("seed", self.seed, at_least=0, at_most=MAX_SEED)

    def list_steps(self) -> list[str]:
        """The steps that were asked for, in their order."""
        asked = {
            "trim-vocabulary": self.trim_vocabulary,
            "factorise-embeddings": self.factorise_embeddings is not None,
            "prune-heads": self.prune_heads is not None,
            "prune-ffn": self.prune_ffn is not None,
            "prune-magnitude": self.prune_magnitude is not None,
            "quantize": self.quantize != "none",
        }
        return [step for step in STEPS if asked[step]]

    def read_amount(self, step: str) -> Any:
        """What was asked of a step."""
        return getattr(self, step.replace("-", "_"))

    def plan_training(self, step: str, student: PreTrainedModel) -> tuple[dict[str, Any], dict[str, Any]]:
        """Default training arguments of a step and those over them."""
        reads_words = isinstance(student, WordStudent)
        keeps_last = {"load_best_model_at_end": False} if step == "prune-magnitude" else {}
        return WORD_TRAINING if reads_words else TRAINING, {**self.training, **keeps_last}

    def describe(self) -> dict[str, Any]:
        """Every setting as a plain value."""
        plain = dataclasses.asdict(self) | {"transfer_set": self.transfer_set.describe()}
        plain["corpus"] = None if self.corpus is None else Path(self.corpus).name
        return plain
