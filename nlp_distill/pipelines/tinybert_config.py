"""The settings of TinyBERT's task stage (Jiao et al. 2019, arXiv 1909.10351), and where each number comes from.

Epochs of the intermediate stage and the augmentation factor are those of the authors' code, where the table of epochs
never applies for want of a letter; the paper prints ranges.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from data_augment.candidates import CandidateSource, GloveCandidates
from data_augment.errors import InputError
from data_augment.glove import load_glove
from data_augment.masked_lm import MaskedLMCandidates
from data_augment.rules import CANDIDATES, ReplaceRule, Rule, check_iterations, combine_rules
from nlp_distill.hashes import hash_file, hash_model_files
from nlp_distill.layer_map import LayerMap, describe_map, uniform
from nlp_distill.limits import check_positive, check_whole
from nlp_distill.pipelines.bilstm_config import TransferSetConfig
from nlp_distill.results import drop_place
from nlp_distill.students import SMALL_3X312, Shape
from nlp_distill.tasks import Task
from nlp_distill.training import MIN_LENGTH, check_baseline_rates, check_seeds


@dataclass(frozen=True)
class TaskSettings:
    """What depends on the task.

    Args:
        epochs: of the intermediate stage (authors' code, ``default_params``).
        max_length: tokens a row: 64 for single sentences and 128 for pairs (paper, section 4.2).
        copies: augmented copies a row, N (authors' code, README).
    """

    epochs: int
    max_length: int
    copies: int


PER_TASK = {
    "cola": TaskSettings(50, 64, 30),
    "sst2": TaskSettings(10, 64, 20),
    "sst2_10k": TaskSettings(10, 64, 20),
    "mrpc": TaskSettings(20, 128, 30),
    "stsb": TaskSettings(20, 128, 30),
    "qqp": TaskSettings(5, 128, 10),
    "mnli": TaskSettings(5, 128, 10),
    "qnli": TaskSettings(10, 128, 20),
    "rte": TaskSettings(20, 128, 30),
    "wnli": TaskSettings(20, 128, 30),  # not in the paper: as RTE, which it resembles
}
OTHER_EPOCHS, OTHER_COPIES = 10, 20  # of tasks that are not in the paper: as SST-2

COMMON: dict[str, Any] = {
    "per_device_train_batch_size": 32,  # section 4.2
    "weight_decay": 0.01,  # authors' code
    "logging_steps": 50,
}
INTERMEDIATE: dict[str, Any] = {
    **COMMON,
    "learning_rate": 5e-5,  # section 4.2
    "lr_scheduler_type": "constant",  # authors' code
    "eval_strategy": "no",
    "save_strategy": "epoch",
    "load_best_model_at_end": False,
    "metric_for_best_model": None,
}
PREDICTION: dict[str, Any] = {
    **COMMON,
    "learning_rate": 3e-5,  # section 4.2
    "num_train_epochs": 3,  # section 4.2
    "lr_scheduler_type": "linear",  # authors' code
    "warmup_steps": 0.1,  # authors' code
}
# Training options of the prediction stage and the baseline; the intermediate stage evaluates and selects nothing.
PREDICTION_ALONE = frozenset(
    {
        "num_train_epochs",
        "learning_rate",
        "lr_scheduler_type",
        "warmup_steps",
        "eval_strategy",
        "eval_steps",
        "load_best_model_at_end",
        "metric_for_best_model",
        "greater_is_better",
    }
)
BASELINES = ("student_without_teacher", "general_only", "intermediate_only")
ARMS = (*BASELINES, "student")
# What can be left out: terms of the intermediate stage, stages, and what comes before them.
ABLATIONS = ("attention", "hidden", "embedding", "prediction", "general", "intermediate", "augmentation")


def name_ablation(part: str) -> str:
    """The name of the students without a part."""
    return f"student_without_{part}"


def settings_for(task: Task) -> TaskSettings:
    """The settings of a task by its name; those that the paper does not have get SST-2's epochs."""
    return PER_TASK.get(task.name, TaskSettings(OTHER_EPOCHS, 128 if task.is_pair else 64, OTHER_COPIES))


@dataclass(frozen=True)
class WordReplacement:
    """How the transfer set is made: each word that is no stop word may become another (paper, Algorithm 1).

    Args:
        n_iter: copies a row; ``None`` for the task's.
        unlabelled_n_iter: the same of unlabelled rows; ``None``: as ``n_iter``.
        p: probability that a word is replaced.
        k: candidates a word.
        mlm: masked language model that proposes them, folder or hub name; without one GloVe serves every word.
        glove_file: GloVe vectors as text; ``None`` for the packaged ones.
        num_workers: processes.
        seed: of the draws.
    """

    n_iter: int | None = None
    unlabelled_n_iter: int | None = None
    p: float = 0.4  # section 4.2
    k: int = CANDIDATES
    mlm: str | None = None
    glove_file: str | None = None
    num_workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_iter", "unlabelled_n_iter"):
            if getattr(self, name) is not None:
                check_iterations(getattr(self, name), name)
        check_whole("num_candidates", self.k, at_least=1)
        check_whole("num_workers", self.num_workers, at_least=1)
        combine_rules(self.rules)
        if self.glove_file is not None and not Path(self.glove_file).is_file():
            raise InputError(f"no file {self.glove_file}; give GloVe vectors as text, one word a line")

    @property
    def rules(self) -> list[Rule]:
        """The one rule."""
        return [ReplaceRule(self.p)]

    @property
    def pos_tagger(self) -> str:
        """Not used: the rule asks for no tags."""
        return "auto"

    def make_candidates(self) -> CandidateSource | None:
        """Where candidates come from; ``None`` where no row is augmented."""
        if self.p == 0:
            return None
        glove = GloveCandidates(load_glove(self.glove_file), self.k)
        return glove if self.mlm is None else MaskedLMCandidates.load(self.mlm, glove, self.k)

    def describe(self) -> dict[str, Any]:
        """The settings that the rows depend on, as plain values, files by their names."""
        plain = {name: value for name, value in asdict(self).items() if name != "num_workers"}
        return plain | {name: drop_place(plain[name]) for name in ("mlm", "glove_file") if plain[name]}

    def hash_sources(self) -> dict[str, str]:
        """What the files hold that candidates come from: two of one name may differ. A hub name stands for itself."""
        hashed = {}
        if self.glove_file is not None:
            hashed["glove_file"] = hash_file(self.glove_file)
        if self.mlm is not None and Path(self.mlm).is_dir():
            hashed["mlm"] = hash_model_files(self.mlm)
        return hashed


@dataclass(frozen=True)
class TinyBERTDistillation:
    """Settings of the pipeline; the defaults are the paper's.

    Args:
        shape: the student's shape, unless ``general`` brings its own.
        general: folder of a general student (``nlp-distill distill general``); ``None`` starts from the teacher
            (:func:`nlp_distill.students.student_from_teacher`).
        without: what is left out, for ablations: any of ``attention``, ``hidden``, ``embedding`` (terms of the
            intermediate stage), ``intermediate`` (the stage), ``prediction`` (labels instead of the teacher's
            predictions), ``general`` (start from random weights), ``augmentation`` (the rows as they are).
        ablations: parts that are left out one at a time, each in students of its own beside the whole one: the
            ablation table of a run. ``without`` leaves parts out of the whole run.
        layer_map: which teacher layer each student layer learns from.
        relation_heads: compare relations instead of attention scores, where head counts differ.
        share_projection: one projection for all layers, as in the paper.
        transfer_set: how the transfer set is made: by word replacement as in the paper, or as for the BiLSTM.
        temperature: tau of the prediction loss (section 4.2: 1).
        seeds: one student for each.
        baselines: also fine-tune the same student on the labels, any of ``BASELINES``: from random weights, from the
            general student (or the start that was cut from the teacher), and after the intermediate stage.
        max_length: tokens a row; ``None`` for the task's.
        intermediate_training: fields of ``TrainingArguments`` over ``INTERMEDIATE`` and the task's epochs.
        prediction_training: the same over ``PREDICTION``; the baselines have them too.
        baseline_learning_rates: rates to try for each baseline; the best on validation (first seed) is taken.
        baseline_epochs: epochs of the students that learn from labels alone; ``None`` for those of the prediction
            stage, which sees every row several times an epoch where there are augmented copies.
        teacher_cache_gb: gigabytes of disk for the teacher's hidden states and attention, kept while a run lasts so
            that the teacher runs once over the rows and not in every epoch; more is not kept, 0 never.
        trust_remote_code: run code that comes with the teacher.
    """

    shape: Shape = SMALL_3X312
    general: str | None = None
    without: frozenset[str] = frozenset()
    ablations: tuple[str, ...] = ()
    layer_map: LayerMap = uniform
    relation_heads: int | None = None
    share_projection: bool = False
    transfer_set: WordReplacement | TransferSetConfig = WordReplacement()
    temperature: float = 1.0
    seeds: tuple[int, ...] = (0,)
    baselines: tuple[str, ...] = BASELINES
    max_length: int | None = None
    intermediate_training: Mapping[str, Any] = field(default_factory=dict)
    prediction_training: Mapping[str, Any] = field(default_factory=dict)
    baseline_learning_rates: tuple[float, ...] = ()
    baseline_epochs: float | None = None
    teacher_cache_gb: float = 8.0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        for part in self.ablations:
            self._check_ablation(part)
        if not self.teacher_cache_gb >= 0:  # a NaN is neither
            raise InputError(f"teacher_cache_gb is {self.teacher_cache_gb}; give 0 or more")
        for arm in set(self.baselines) - set(BASELINES):
            raise InputError(f"baseline {arm}: there is no such one; give any of {', '.join(BASELINES)}")
        unknown = sorted(set(self.without) - set(ABLATIONS))
        if unknown:
            raise InputError(
                f"without {unknown[0]}: there is no such part; give any of {', '.join(ABLATIONS)}"
            )
        if {"attention", "hidden", "embedding"} <= self.without and "intermediate" not in self.without:
            raise InputError("nothing is left of the intermediate stage; leave out intermediate itself")
        if {"intermediate", "prediction"} <= self.without:
            raise InputError("without both stages nothing is distilled; leave out one of them at most")
        if self.general and "general" in self.without:
            raise InputError("a general student is given and left out at once; give one or the other")
        check_positive("temperature", self.temperature)
        if self.baseline_epochs is not None:
            check_positive("baseline_epochs", self.baseline_epochs)
        if self.max_length is not None:
            check_whole("max_length", self.max_length, at_least=MIN_LENGTH)
        check_baseline_rates(self.baseline_learning_rates, self.prediction_training)
        check_seeds(self.seeds)

    def _check_ablation(self, part: str) -> None:
        if part not in ABLATIONS:
            raise InputError(f"ablation {part}: there is no such part; give any of {', '.join(ABLATIONS)}")
        if part in self.without or self.ablations.count(part) > 1:
            raise InputError(f"ablation {part} is left out already; give each part once")
        if (
            part != "general"
        ):  # refuses what would leave nothing; a general student is put aside in its ablation
            replace(self, without=self.without | {part}, ablations=())

    def list_arms(self) -> list[str]:
        """The models that a run trains, in the order of the results."""
        skipped = set(BASELINES) - set(self.baselines)
        if "general" in self.without:
            skipped.add("general_only")  # the same as without the teacher
        if self.without & {"intermediate", "prediction"}:
            skipped.add("intermediate_only")  # the stage is left out, or is what the student itself has
        return [arm for arm in ARMS if arm not in skipped]

    def plan_transfer_set(self, task: Task) -> WordReplacement | TransferSetConfig:
        """The transfer set's settings for this task: its number of copies, or none in the ablation."""
        if "augmentation" in self.without:
            return replace(self.transfer_set, n_iter=0, unlabelled_n_iter=0)
        copies = settings_for(task).copies if self.transfer_set.n_iter is None else self.transfer_set.n_iter
        return replace(self.transfer_set, n_iter=copies)

    def describe(self) -> dict[str, Any]:
        """The settings as plain values."""
        plain = {
            name: getattr(self, name)
            for name in ("relation_heads", "share_projection", "temperature", "max_length")
        }
        layer_map = describe_map(self.layer_map)
        return {"shape": asdict(self.shape), "without": sorted(self.without), "layer_map": layer_map, **plain}

    def describe_training(self, task: Task) -> dict[str, Any]:
        """Epochs, learning rates and the like of both stages and the baselines, as plain values."""
        epochs = {"num_train_epochs": settings_for(task).epochs}
        return {
            "intermediate_training": {**INTERMEDIATE, **epochs, **self.intermediate_training},
            "prediction_training": {**PREDICTION, **self.prediction_training},
            "baseline_epochs": self.baseline_epochs,
            "baseline_learning_rates": list(self.baseline_learning_rates),
        }
