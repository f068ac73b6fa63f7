"""A fine-tuned tagger (NER, parts of speech) -> a smaller one of its kind, by the tags' distributions.

    L = soft * tau^2 KL(teacher || student) + hard * CE(tag, student),   mean over words

Soft targets (Hinton et al. 2015) a token, as Tsai et al. 2019 (arXiv 1909.00100, section 3) distil multilingual BERT
into a small tagger; raw sentences may be added, on which the teacher's distributions are all there is. The student is
cut from the teacher (:func:`nlp_distill.students.student_from_teacher`); beside it stands the same student, from the
same weights, trained on the tags alone. The teacher runs in the loop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel

from data_augment.errors import InputError
from nlp_distill.encoding import EncodedRows
from nlp_distill.evaluation import describe_size, load_logits, save_logits
from nlp_distill.hashes import hash_tokenizer, hash_weights
from nlp_distill.limits import check_positive, check_whole
from nlp_distill.models import check_max_length, check_vocabulary, load_tagger
from nlp_distill.objectives import HardLabels, OverTokens, SoftTargets
from nlp_distill.pipelines.runs import train_at_best_rate, write_run
from nlp_distill.results import check_results_are_ours
from nlp_distill.stages import announce, run_stage
from nlp_distill.students import Shape, read_shape, student_from_teacher
from nlp_distill.tagging import (
    Sentence,
    count_cut_words,
    encode_sentences,
    name_metrics,
    predict_tags,
    read_gold,
    read_sentences,
    score_predictions,
    score_tags,
)
from nlp_distill.tasks import Task, TaskData
from nlp_distill.tasks.splits import normalise_text
from nlp_distill.teachers import read_labels, warn_if_not_fine_tuned
from nlp_distill.trainer import DistillationTrainer
from nlp_distill.training import MAX_SEED, MIN_LENGTH, make_training_arguments, train_and_save

TRAINING: dict[str, Any] = {  # ours; the papers' are those of one tagger
    "learning_rate": 1e-4,
    "num_train_epochs": 5,
    "per_device_train_batch_size": 32,
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}
SPLITS = ("train", "validation", "test")
TEACHER_FOLDER = "teacher_scores"
TAGS = "tags.npz"


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
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"seeds are {self.seeds}; give one or more, each once")
        for seed in self.seeds:
            check_whole("a seed", seed, at_least=0, at_most=MAX_SEED)
        for rate in self.baseline_learning_rates:
            check_positive("a learning rate of the baseline", rate)

    def choose_shape(self, teacher: Shape) -> Shape:
        """The student's shape, the teacher's where nothing is said."""
        given = (self.layers, self.hidden, self.heads, self.ffn)
        own = (teacher.layers, teacher.hidden, teacher.heads, teacher.ffn)
        return Shape(*(own[i] if value is None else value for i, value in enumerate(given)))

    def describe(self) -> dict[str, Any]:
        """Every setting as a plain value: what a result file keeps."""
        return asdict(self) | {"training": {**TRAINING, **self.training}}


@dataclass(frozen=True)
class TaggedData:
    """The sentences of a task.

    Args:
        name: the task's.
        train: learnt.
        validation: chooses the checkpoint.
        test: is reported.
        unlabelled: raw sentences for the teacher to tag.
        source: where they come from, for people.
    """

    name: str
    train: Sequence[Sentence]
    validation: Sequence[Sentence]
    test: Sequence[Sentence]
    unlabelled: Sequence[Sentence] = ()
    source: str = ""

    def as_task_data(self, labels: Sequence[str]) -> TaskData:
        """The same as other pipelines know it: for results, which name, count and hash the rows."""
        task = Task(self.name, "words", None, tuple(labels), name_metrics(labels))
        rows = {name: _as_dataset(getattr(self, name)) for name in SPLITS}
        extra = _as_dataset(self.unlabelled) if self.unlabelled else None
        return TaskData(task, **rows, unlabelled=extra, source=self.source, selected_on="validation")


def _as_dataset(sentences: Sequence[Sentence]) -> Dataset:
    return Dataset.from_dict(
        {"words": [list(one.words) for one in sentences], "tags": [list(one.tags) for one in sentences]}
    )


def load_tagged_data(
    name: str,
    train: str | Path,
    validation: str | Path,
    test: str | Path,
    unlabelled: str | Path | None = None,
) -> TaggedData:
    """Read the files of a task; the unlabelled one holds a sentence a line, its words between spaces.

    Raises:
        InputError: as :func:`nlp_distill.tagging.read_sentences`.
    """
    raw: list[Sentence] = []
    if unlabelled is not None:
        try:
            lines = Path(unlabelled).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"cannot read {unlabelled}: {error}; give a text file, a sentence a line"
            ) from error
        raw = [Sentence(tuple(line.split())) for line in lines if line.split()]
    names = ", ".join(Path(path).name for path in (train, validation, test))
    return TaggedData(
        name,
        read_sentences(train),
        read_sentences(validation),
        read_sentences(test),
        raw,
        f"own files: {names}",
    )


def distill_tagger(
    config: TaggerDistillation,
    data: TaggedData,
    teacher_path: str,
    output_dir: str | Path,
    described: Mapping[str, Any],
    overwrite: bool = False,
) -> dict[str, Any]:
    """Score the teacher, train the students, score them, and write the results.

    Args:
        config: the settings.
        data: the sentences. Validation selects, test is reported.
        teacher_path: a token classifier: folder or hub name.
        output_dir: where everything goes; finished stages are reused, an interrupted one continues.
        described: the settings and the command as plain values, kept in the results.
        overwrite: make again what was made with other settings.

    Returns:
        The content of ``results.json``, and under ``runs`` the entry of every arm and seed.

    Raises:
        InputError: for a teacher that is no tagger, rows whose tags it does not have, or a shape larger than its own.
    """
    output = Path(output_dir)
    teacher, tokenizer = load_tagger(teacher_path, trust_remote_code=config.trust_remote_code)
    check_max_length(teacher, config.max_length)
    check_vocabulary(teacher, tokenizer)
    check_results_are_ours(output, overwrite)
    make_training_arguments(TRAINING, config.training, output / "checkpoints", config.seeds[0])
    stages = _Stages(config, data, teacher, tokenizer, output, overwrite)
    scored = stages.score_teacher()
    arms = {"student_without_teacher": stages.train_baseline} if config.baseline else {}
    arms["student"] = stages.train_student
    runs = {arm: [train(seed) for seed in config.seeds] for arm, train in arms.items()}
    transfer_set = [*data.train, *data.unlabelled]
    leaked = count_leaks(transfer_set, [*data.validation, *data.test])
    if leaked:
        announce(
            f"WARNING: {leaked:,} of {len(transfer_set):,} sentences that the student learns are in validation or test "
            "too (as lower-cased words); scores on these say less"
        )
    entry = scored["entry"] | {"path": teacher_path}
    parts = {"transfer_set": {"rows": len(transfer_set), "leaked_rows": leaked}, **described}
    return write_run(output, stages.described, entry, runs, config.seeds, parts, {})


class _Stages:
    """The trainings of one run, each in its own folder."""

    def __init__(
        self,
        config: TaggerDistillation,
        data: TaggedData,
        teacher: PreTrainedModel,
        tokenizer: Any,
        output: Path,
        overwrite: bool,
    ):
        self.config, self.data, self.teacher, self.tokenizer = config, data, teacher, tokenizer
        self.output, self.overwrite = output, overwrite
        self.labels = read_labels(teacher.config)
        self.shape = config.choose_shape(read_shape(teacher.config))
        self.described = data.as_task_data(self.labels)
        self.prints = self.described.fingerprints()
        self.rows = {name: self._encode(name) for name in (*SPLITS, "unlabelled")}

    def _encode(self, split: str) -> EncodedRows:
        sentences = getattr(self.data, split)
        try:
            rows = encode_sentences(sentences, self.tokenizer, self.labels, self.config.max_length)
        except InputError as error:
            raise InputError(f"{split}: {error}") from error
        if cut := count_cut_words(sentences, rows):
            announce(
                f"{split}: {cut} words are left out, of scores too: they do not fit into {self.config.max_length} "
                "tokens, or the tokenizer keeps nothing of them"
            )
        return rows

    def score_teacher(self) -> dict[str, Any]:
        """The teacher's tags and scores on validation and test."""

        def build(folder: Path) -> dict[str, Any]:
            tags = self._predict(self.teacher, folder)
            validation = self._score(tags["validation"], "validation")
            metric = name_metrics(self.labels)[0]
            majority = score_tags(*self._answer_majority(), self.labels)[metric]
            warning = warn_if_not_fine_tuned(validation[metric], majority, "validation")
            size = describe_size(self.teacher, str(self.teacher.config.name_or_path))
            return {"entry": self._describe(tags, None) | size, "warning": warning}

        inputs = {"teacher": self._describe_teacher(), "data": self.prints}
        result = run_stage("scoring the teacher", self.output / TEACHER_FOLDER, inputs, build, self.overwrite)
        if result["warning"]:
            announce(f"WARNING: {result['warning']}")
        return result

    def train_student(self, seed: int) -> dict[str, Any]:
        """The distilled student of one seed."""
        config = self.config
        objective = SoftTargets(config.temperature, weight=config.soft_weight) + HardLabels(
            config.hard_weight
        )
        rows = join_rows(self.rows["train"], self.rows["unlabelled"])
        return self._train("student", seed, OverTokens(objective), rows, config.training)

    def train_baseline(self, seed: int) -> dict[str, Any]:
        """The same student, from the same weights, on the tags alone, at the best of the rates tried for it."""
        config = self.config
        own_rate = float({**TRAINING, **config.training}["learning_rate"])

        def train(rate: float, with_seed: int, is_tuned: bool) -> dict[str, Any]:
            arm = "student_without_teacher" + (f"-lr{rate:g}" if is_tuned else "")
            training = {**config.training, "learning_rate": rate}
            return self._train(arm, with_seed, OverTokens(HardLabels()), self.rows["train"], training)

        return train_at_best_rate(config.baseline_learning_rates, own_rate, config.seeds, seed, train)

    def _train(
        self, arm: str, seed: int, objective: OverTokens, rows: EncodedRows, training: Mapping[str, Any]
    ) -> dict[str, Any]:
        def build(folder: Path) -> dict[str, Any]:
            args = make_training_arguments(
                TRAINING, training, folder / "checkpoints", seed, name_metrics(self.labels)
            )
            student = student_from_teacher(self.teacher, self.shape, seed=seed)
            trainer = DistillationTrainer(
                model=student,
                teacher=self.teacher if objective.needs_teacher else None,
                objective=objective,
                args=args,
                train_dataset=rows,
                eval_dataset=self.rows["validation"],
                processing_class=self.tokenizer,
                compute_metrics=score_predictions(self.labels),
            )
            trained = train_and_save(trainer, folder)
            tags = self._predict(student, folder)
            entry = self._describe(tags, load_logits(self.output / TEACHER_FOLDER / TAGS)["test"])
            entry |= {"validation_score": trained["validation_score"], "path": str(folder)}
            return {"entry": entry | describe_size(student, folder), "training": trained}

        is_distilled = objective.needs_teacher
        own = {
            "temperature": self.config.temperature,
            "soft_weight": self.config.soft_weight,
            "hard_weight": self.config.hard_weight,
        }
        inputs = {
            "shape": asdict(self.shape),
            "training": {**TRAINING, **training},
            "objective": own if is_distilled else None,
            "data": {name: self.prints[name] for name in (SPLITS if not is_distilled else self.prints)},
            "teacher": self._describe_teacher(),  # of both: the student is cut from it
            "seed": seed,
        }
        title = f"training the {arm.replace('_', ' ')}, seed {seed}"
        return run_stage(title, self.output / f"{arm}-seed{seed}", inputs, build, self.overwrite)

    def _describe_teacher(self) -> dict[str, Any]:
        return {
            "weights": hash_weights(self.teacher),
            "labels": list(self.labels),
            "tokenizer": hash_tokenizer(self.tokenizer),
            "max_length": self.config.max_length,
        }

    def _predict(self, model: PreTrainedModel, folder: Path) -> dict[str, list[np.ndarray]]:
        """Tags of the words of validation and test, kept beside the model as well."""
        tags = {name: predict_tags(model, self.tokenizer, self.rows[name]) for name in ("validation", "test")}
        save_logits(folder / TAGS, {name: np.concatenate(found) for name, found in tags.items()})
        return tags

    def _score(self, tags: Sequence[np.ndarray], split: str) -> dict[str, float]:
        return score_tags(read_gold(self.rows[split]), tags, self.labels)

    def _describe(
        self, tags: Mapping[str, Sequence[np.ndarray]], teacher: np.ndarray | None
    ) -> dict[str, Any]:
        metrics = self._score(tags["test"], "test")
        metric = name_metrics(self.labels)[0]
        entry = {
            "score": metrics[metric],
            "metrics": metrics,
            "validation_score": self._score(tags["validation"], "validation")[metric],
        }
        answers = np.unique(np.concatenate(tags["test"]))
        if len(answers) == 1:
            entry["collapsed_to"] = self.labels[int(answers[0])]
        if teacher is not None:
            entry["agreement"] = float((np.concatenate(tags["test"]) == teacher).mean())
        return entry

    def _answer_majority(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Gold tags of validation, and the most frequent one everywhere."""
        gold = read_gold(self.rows["validation"])
        most = np.bincount(np.concatenate(gold)).argmax()
        return gold, [np.full(len(tags), most) for tags in gold]


def count_leaks(sentences: Sequence[Sentence], held_out: Sequence[Sentence]) -> int:
    """How many of the sentences are held out as well, case and punctuation apart."""
    known = {normalise_text(" ".join(sentence.words)) for sentence in held_out}
    return sum(normalise_text(" ".join(sentence.words)) in known for sentence in sentences)


def join_rows(first: EncodedRows, second: EncodedRows) -> EncodedRows:
    """Rows of both, one after the other."""
    if not len(second):
        return first
    columns = {name: np.concatenate([first.columns[name], second.columns[name]]) for name in first.columns}
    return EncodedRows(columns, np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]]))
