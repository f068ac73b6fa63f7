"""A fine-tuned tagger (NER, parts of speech) -> a smaller one of its kind, by the tags' distributions.

    L = soft * tau^2 KL(teacher || student) + hard * CE(tag, student),   mean over words

Soft targets (Hinton et al. 2015) a token, as Tsai et al. 2019 (arXiv 1909.00100, section 3) distil multilingual BERT
into a small tagger; raw sentences may be added, on which the teacher's distributions are all there is. The student is
cut from the teacher (:func:`nlp_distill.students.student_from_teacher`); beside it stands the same student, from the
same weights, trained on the tags alone. The teacher runs in the loop.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from nlp_distill.encoding import EncodedRows
from nlp_distill.evaluation import describe_size, load_logits
from nlp_distill.models import check_max_length, check_vocabulary, load_tagger
from nlp_distill.objectives import HardLabels, OverTokens, SoftTargets
from nlp_distill.pipelines.runs import train_at_best_rate, write_run
from nlp_distill.pipelines.scoring import TEACHER_FOLDER, describe_teacher
from nlp_distill.pipelines.tagged_data import SPLITS, TaggedData
from nlp_distill.pipelines.tagged_rows import TAGS, encode_data, join_rows
from nlp_distill.pipelines.tagger_config import TRAINING, TaggerDistillation
from nlp_distill.results import check_results_are_ours
from nlp_distill.stages import announce, run_stage
from nlp_distill.students import read_shape, student_from_teacher
from nlp_distill.tagging import name_metrics, score_predictions
from nlp_distill.teachers import read_labels, warn_if_not_fine_tuned
from nlp_distill.trainer import DistillationTrainer
from nlp_distill.training import make_training_arguments, train_and_save


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
    make_training_arguments(TRAINING, config.training, output, config.seeds[0])
    stages = _Stages(config, data, teacher, tokenizer, output, overwrite)
    scored = stages.score_teacher()
    arms = {"student_without_teacher": stages.train_baseline} if config.baseline else {}
    arms["student"] = stages.train_student
    runs = {arm: [train(seed) for seed in config.seeds] for arm, train in arms.items()}
    entry = scored["entry"] | {"path": teacher_path}
    parts = {
        "labels_tokens": True,
        "labels": list(stages.labels),
        "cut_words": dict(stages.rows.cut_words),
        "transfer_set": {
            "rows": len(data.train) + len(data.unlabelled),
            "leaked_rows": data.warn_of_leaks(),
        },
        **described,
    }
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
        self.rows = encode_data(data, tokenizer, self.labels, config.max_length)

    def score_teacher(self) -> dict[str, Any]:
        """The teacher's tags and scores on validation and test."""

        def build(folder: Path) -> dict[str, Any]:
            entry = self.rows.describe(self.rows.predict(self.teacher, self.tokenizer, folder))
            majority = self.rows.score_majority("validation")
            warning = warn_if_not_fine_tuned(entry["validation_score"], majority, "validation")
            size = describe_size(self.teacher, str(self.teacher.config.name_or_path))
            return {"entry": entry | size, "warning": warning}

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
        rows = join_rows(self.rows.splits["train"], self.rows.splits["unlabelled"])
        return self._train("student", seed, OverTokens(objective), rows, config.training)

    def train_baseline(self, seed: int) -> dict[str, Any]:
        """The same student, from the same weights, on the tags alone, at the best of the rates tried for it."""
        config = self.config
        own_rate = float({**TRAINING, **config.training}["learning_rate"])

        def train(rate: float, with_seed: int, is_tuned: bool) -> dict[str, Any]:
            arm = "student_without_teacher" + (f"-lr{rate:g}" if is_tuned else "")
            training = {**config.training, "learning_rate": rate}
            return self._train(arm, with_seed, OverTokens(HardLabels()), self.rows.splits["train"], training)

        return train_at_best_rate(config.baseline_learning_rates, own_rate, config.seeds, seed, train)

    def _train(
        self, arm: str, seed: int, objective: OverTokens, rows: EncodedRows, training: Mapping[str, Any]
    ) -> dict[str, Any]:
        def build(folder: Path) -> dict[str, Any]:
            args = make_training_arguments(TRAINING, training, folder, seed, name_metrics(self.labels))
            student = student_from_teacher(self.teacher, self.shape, seed=seed)
            trainer = DistillationTrainer(
                model=student,
                teacher=self.teacher if objective.needs_teacher else None,
                objective=objective,
                args=args,
                train_dataset=rows,
                eval_dataset=self.rows.splits["validation"],
                processing_class=self.tokenizer,
                compute_metrics=score_predictions(self.labels),
            )
            trained = train_and_save(trainer, folder)
            teacher_tags = load_logits(self.output / TEACHER_FOLDER / TAGS)["test"]
            entry = self.rows.describe(self.rows.predict(student, self.tokenizer, folder), teacher_tags)
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
        folder = self.output / f"{arm}-seed{seed}"
        return run_stage(title, folder, inputs, build, self.overwrite, every_process=True)

    def _describe_teacher(self) -> dict[str, Any]:
        return describe_teacher(self.teacher, self.tokenizer, self.config.max_length)
