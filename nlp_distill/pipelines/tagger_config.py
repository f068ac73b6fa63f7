"""The settings of tagger -> smaller tagger; what is done with them is in :mod:`nlp_distill.pipelines.tagger`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from data_augment.errors import InputError
from nlp_distill.limits import check_positive, check_whole
from nlp_distill.students import Shape
from nlp_distill.training import MIN_LENGTH, check_baseline_rates, check_seeds

TRAINING: dict[str, Any] = {  # ours; the papers' are those of one tagger
    "learning_rate": 1e-4,
    "num_train_epochs": 5,
    "per_device_train_batch_size": 32,
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}


@dataclass(frozen=True)
class TaggerDistillation:
    """Settings of the pipeline.

    Args:
        layers: of the student; ``None`` for the teacher's.
        hidden: its width; ``None`` for the teacher's.
        heads: attention heads; ``None`` for the teacher's.
        ffn: inner width of the feed-forward nets; ``None`` for the teacher's.
        temperature: tau of the soft targets.
        soft_weight: of the teacher's distributions.
        hard_weight: of the tags.
        max_length: tokens a row.
        seeds: one student for each.
        baseline: also train the same student on the tags alone.
        baseline_learning_rates: rates to try for it; the best on validation is taken.
        training: fields of ``TrainingArguments`` over ``TRAINING``, for both.
        trust_remote_code: run code that comes with the teacher.

    Raises:
        InputError: for numbers out of range.
    """

    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    ffn: int | None = None
    temperature: float = 1.0
    soft_weight: float = 1.0
    hard_weight: float = 1.0
    max_length: int = 128
    seeds: tuple[int, ...] = (0,)
    baseline: bool = True
    baseline_learning_rates: tuple[float, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_whole("max_length", self.max_length, at_least=MIN_LENGTH)
        check_positive("the temperature", self.temperature)
        if min(self.soft_weight, self.hard_weight) < 0 or not self.soft_weight:
            raise InputError(
                f"the weights are {self.soft_weight} (soft) and {self.hard_weight} (hard); give the first above 0 and "
                "the second 0 or more"
            )
        check_seeds(self.seeds)
        check_baseline_rates(self.baseline_learning_rates, self.training)

    def choose_shape(self, teacher: Shape) -> Shape:
        """The student's shape, the teacher's where nothing is said."""
        given = (self.layers, self.hidden, self.heads, self.ffn)
        own = (teacher.layers, teacher.hidden, teacher.heads, teacher.ffn)
        return Shape(*(own[i] if value is None else value for i, value in enumerate(given)))

    def describe(self) -> dict[str, Any]:
        """Every setting as a plain value: what a result file keeps."""
        return asdict(self) | {"training": {**TRAINING, **self.training}}
