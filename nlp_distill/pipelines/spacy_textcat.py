"""BERT -> spaCy: a text classifier that learns the teacher's probabilities on an augmented transfer set.

The transfer set and its labels are those of :mod:`nlp_distill.pipelines.bilstm` (Tang et al. 2019, arXiv 1903.12136);
the student is spaCy's own (:mod:`nlp_distill.students.spacy_textcat`), and beside it the same one learns the labelled
rows alone. An interrupted training goes on after its last whole epoch.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedModel

from data_augment.errors import InputError
from data_augment.rules import DEFAULT_ITERATIONS
from nlp_distill.evaluation import describe_scores, make_answer, save_logits
from nlp_distill.handover import average_teachers
from nlp_distill.hashes import hash_file
from nlp_distill.labelled_files import load_labelled
from nlp_distill.limits import check_whole
from nlp_distill.models import check_max_length, load_classifier, load_pretrained
from nlp_distill.pipelines.bilstm_config import TransferSetConfig
from nlp_distill.pipelines.runs import train_at_best_rate, write_run
from nlp_distill.pipelines.scoring import (
    describe_teacher,
    describe_test,
    load_teacher_logits,
    score_teacher,
    time_models,
)
from nlp_distill.pipelines.transfer import label_transfer_set, labelled_file, list_scored, make_transfer_set
from nlp_distill.results import check_results_are_ours
from nlp_distill.spacy_docs import LANGUAGE, import_spacy, make_blank
from nlp_distill.stages import CHECKPOINTS, run_stage
from nlp_distill.students.spacy_textcat import (
    ARCHITECTURES,
    TextcatTraining,
    build_textcat,
    describe_textcat,
    predict_log_probabilities,
    save_textcat,
    train_textcat,
)
from nlp_distill.tasks import Task, TaskData
from nlp_distill.teachers import match_labels, read_labels
from nlp_distill.training import MIN_LENGTH, check_baseline_rates, check_seeds

MAX_NGRAM = 5  # longer ones hardly come twice
PROGRESS = "progress.npz"  # in the folder of checkpoints


@dataclass(frozen=True)
class SpacyDistillation:
    """Settings of the pipeline.

    Args:
        architecture: ``ensemble`` or ``bow``.
        ngram_size: tokens of the longest n-gram in the bag of words; more than one for ``bow`` alone.
        language: whose tokens spaCy reads.
        transfer_set: how the transfer set is made.
        seeds: one student for each.
        baseline: also train the same student without the teacher.
        max_length: tokens a row that the teacher reads.
        training: of both students.
        baseline_epochs: of the student without the teacher; ``None`` for as many.
        baseline_learning_rates: rates to try for it; the best on validation is taken.
        trust_remote_code: run code that comes with the teacher.
    """

    architecture: str = "ensemble"
    ngram_size: int = 1
    language: str = LANGUAGE
    transfer_set: TransferSetConfig = TransferSetConfig()
    seeds: tuple[int, ...] = (0,)
    baseline: bool = True
    max_length: int = 128
    training: TextcatTraining = field(default_factory=TextcatTraining)
    baseline_epochs: int | None = None
    baseline_learning_rates: tuple[float, ...] = ()
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise InputError(
                f"the architecture is {self.architecture!r}; give one of {', '.join(ARCHITECTURES)}"
            )
        check_whole("ngram_size", self.ngram_size, at_least=1, at_most=MAX_NGRAM)
        if self.ngram_size > 1 and self.architecture != "bow":
            raise InputError(
                f"ngram_size is {self.ngram_size}, and only a bag of words alone has n-grams of more than one; "
                "give --architecture bow too, or leave it out"
            )
        check_whole("max_length", self.max_length, at_least=MIN_LENGTH)
        if self.baseline_epochs is not None:
            check_whole("the epochs of the baseline", self.baseline_epochs, at_least=1)
        check_baseline_rates(self.baseline_learning_rates, {})
        check_seeds(self.seeds)

    def describe(self) -> dict[str, Any]:
        """Every setting as a plain value, those that depend on others resolved: what a result file keeps."""
        plain = dataclasses.asdict(self)
        transfer = plain["transfer_set"]
        transfer["n_iter"] = DEFAULT_ITERATIONS if transfer["n_iter"] is None else transfer["n_iter"]
        if transfer["unlabelled_n_iter"] is None:
            transfer["unlabelled_n_iter"] = transfer["n_iter"]
        if plain["baseline_epochs"] is None:
            plain["baseline_epochs"] = self.training.epochs
        return plain


def check_task(task: Task) -> None:
    """Refuse what spaCy's text classifier has no place for.

    Raises:
        InputError: for pairs and regressions.
    """
    if task.is_pair or task.is_regression:
        kind = "a pair task" if task.is_pair else "a regression"
        raise InputError(
            f"{task.name} is {kind}, and spaCy's text classifier chooses a class for one text; "
            "`nlp-distill distill bilstm` takes it"
        )


def distill_spacy(
    config: SpacyDistillation,
    data: TaskData,
    teacher_path: str,
    output_dir: str | Path,
    described: Mapping[str, Any],
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make the transfer set, label it, train the students, score them beside the teacher, and write the results.

    Args:
        config: the settings.
        data: the task. Validation selects, test is reported.
        teacher_path: a model fine-tuned on the task: folder or hub name.
        output_dir: where everything goes; finished stages are reused.
        described: the settings and the command as plain values, kept in the results.
        overwrite: make again what was made with other settings.

    Returns:
        The content of ``results.json``, and under ``runs`` the entry of every arm and seed.

    Raises:
        InputError: if spaCy is missing, for a task that it cannot learn, or a teacher of another task.
    """
    make_blank(config.language)  # refuses what is missing or unknown before any work
    output, task = Path(output_dir), data.task
    check_task(task)
    if not len(data.validation):
        raise InputError(f"task {task.name} has no rows to select on; give it a validation split")
    code: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    teacher = load_classifier(teacher_path, **code)
    tokenizer = load_pretrained(AutoTokenizer, teacher_path, **code)
    match_labels(task.labels, read_labels(teacher.config))
    check_max_length(teacher, config.max_length)
    check_results_are_ours(output, overwrite)
    prints = data.fingerprints()

    stages = _Stages(config, data, teacher, tokenizer, output, prints, overwrite)
    scored = score_teacher(teacher, tokenizer, data, config.max_length, output, prints, overwrite)
    transfer_set = make_transfer_set(config.transfer_set, data, output, prints, overwrite)
    labelling = label_transfer_set(teacher, tokenizer, data, config.max_length, output, overwrite)
    arms = {"student_without_teacher": stages.train_baseline} if config.baseline else {}
    arms["student"] = stages.train_student
    runs = {arm: [train(seed) for seed in config.seeds] for arm, train in arms.items()}

    student = import_spacy().load(output / f"student-seed{config.seeds[0]}")
    answers = {
        "teacher": make_answer(teacher, tokenizer, config.max_length),
        "student": lambda texts: student(texts[0]).cats,
    }
    parts = {
        "transfer_set": transfer_set,
        "labelling": labelling,
        "speed": time_models(answers, data),
        **described,
    }
    spent = {"transfer_set": transfer_set["seconds"], "labelling": labelling["seconds"]}
    entry = scored["entry"] | {"path": teacher_path}
    return write_run(output, data, entry, runs, config.seeds, parts, spent)


@dataclass(frozen=True)
class _Stages:
    """The trainings of one run, each in its own folder."""

    config: SpacyDistillation
    data: TaskData
    teacher: PreTrainedModel
    tokenizer: Any
    output: Path
    prints: Mapping[str, Any]
    overwrite: bool

    @property
    def task(self) -> Task:
        return self.data.task

    def train_student(self, seed: int) -> dict[str, Any]:
        """The distilled student of one seed."""
        labelled = labelled_file(self.output)

        def read() -> tuple[list[str], np.ndarray]:
            table = load_labelled(labelled, self.task.labels)
            logits = np.asarray(table["teacher_logits"].to_pylist(), dtype=np.float64)
            return table[self.task.text_column].to_pylist(), average_teachers(logits)

        return self._train("student", seed, self.config.training, read, {"labels": hash_file(labelled)})

    def train_baseline(self, seed: int) -> dict[str, Any]:
        """The same student of one seed on the labelled rows alone, at the best of the rates tried for it."""
        training = self.config.training
        if self.config.baseline_epochs is not None:
            training = dataclasses.replace(training, epochs=self.config.baseline_epochs)

        def read() -> tuple[list[str], np.ndarray]:
            train = self.data.train
            return list(train[self.task.text_column]), np.eye(self.task.num_labels)[
                np.asarray(train["label"])
            ]

        def train(rate: float, with_seed: int, is_tuned: bool) -> dict[str, Any]:
            name = "student_without_teacher" + (f"-lr{rate:g}" if is_tuned else "")
            return self._train(name, with_seed, dataclasses.replace(training, learning_rate=rate), read, {})

        rates = self.config.baseline_learning_rates
        return train_at_best_rate(rates, training.learning_rate, self.config.seeds, seed, train)

    def _train(
        self, arm: str, seed: int, training: TextcatTraining, read, inputs: Mapping[str, Any]
    ) -> dict[str, Any]:
        config, labels = self.config, self.task.labels

        def build(folder: Path) -> dict[str, Any]:
            texts, targets = read()
            nlp = build_textcat(labels, config.architecture, config.language, seed, config.ngram_size)
            kept = folder / CHECKPOINTS / PROGRESS
            kept.parent.mkdir(exist_ok=True)
            trained = train_textcat(nlp, texts, targets, training, seed, self._score_validation, title, kept)
            save_textcat(nlp, folder)
            return {"entry": self._score(nlp, folder, trained), "training": trained}

        all_inputs = {
            "student": {
                "architecture": config.architecture,
                "language": config.language,
                # The bag of words was trained on another loss once; the ensemble never was.
                **(
                    {"ngram_size": config.ngram_size, "loss": "cross-entropy"}
                    if config.architecture == "bow"
                    else {}
                ),
            },
            "spacy": import_spacy().__version__,
            "training": dataclasses.asdict(training),
            "data": {split: self.prints[split] for split in ("train", *list_scored(self.data))},
            # Of both: the student without the teacher is compared with its logits.
            "teacher": describe_teacher(self.teacher, self.tokenizer, config.max_length),
            "seed": seed,
            **inputs,
        }
        title = f"training the {arm.replace('_', ' ')}, seed {seed}"
        return run_stage(title, self.output / f"{arm}-seed{seed}", all_inputs, build, self.overwrite)

    def _predict(self, nlp: Any, rows: Any) -> np.ndarray:
        texts: Sequence[str] = list(rows[self.task.text_column])
        return predict_log_probabilities(nlp, texts, self.task.labels)

    def _score_validation(self, nlp: Any) -> float:
        rows = self.data.validation
        return describe_scores(self.task, self._predict(nlp, rows), rows["label"])["score"]

    def _score(self, nlp: Any, folder: Path, trained: Mapping[str, Any]) -> dict[str, Any]:
        splits = {"validation": self.data.validation, "test": self.data.test, **self.data.extra_tests}
        logits = {name: self._predict(nlp, rows) for name, rows in splits.items()}
        save_logits(folder / "logits.npz", logits)
        scores = describe_test(self.data, logits, load_teacher_logits(self.output))
        scores["validation_score"] = trained["validation_score"]
        return scores | describe_textcat(nlp, folder) | {"path": str(folder)}
