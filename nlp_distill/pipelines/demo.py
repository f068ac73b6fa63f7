"""The embedded default: the whole job in a few minutes on two cores, with data and teacher from ordinary packages.

It runs the same stages as ``nlp-distill finetune`` and ``nlp-distill distill bilstm``; what is different is the
budget. The paper's 30 epochs of Adadelta over 20 augmented copies would take hours here.
"""

from dataclasses import dataclass
from typing import Any

from nlp_distill.pipelines.bilstm_config import TransferSetConfig, WordStudentDistillation
from nlp_distill.pipelines.word_vectors import TeacherWordPieces


@dataclass(frozen=True)
class DemoBudget:
    """How much work the demo does.

    Args:
        labelled_rows: tweets that keep their label.
        unlabelled_rows: tweets that serve without; ``None`` for all.
        teacher_training: fields of ``TrainingArguments`` for the teacher.
        distillation: settings of the student pipeline.
    """

    labelled_rows: int
    unlabelled_rows: int | None
    teacher_training: dict[str, Any]
    distillation: WordStudentDistillation


def plan_demo(full: bool) -> DemoBudget:
    """The budget of ``nlp-distill demo``, or of ``nlp-distill demo --full``."""
    return DemoBudget(
        labelled_rows=8_000 if full else 4_000,
        unlabelled_rows=None if full else 12_000,
        teacher_training={"num_train_epochs": 3 if full else 2, "learning_rate": 1e-4},
        distillation=WordStudentDistillation(
            word_vectors=TeacherWordPieces(150, vocabulary_size=8_000),
            transfer_set=TransferSetConfig(n_iter=4 if full else 1, unlabelled_n_iter=2 if full else 0),
            adadelta=False,
            training={
                "learning_rate": 2e-3,
                "num_train_epochs": 8 if full else 6,
                "per_device_train_batch_size": 64,
                "lr_scheduler_type": "linear",
                "max_grad_norm": 1.0,
            },
            # The labelled rows alone are fewer: the baseline may see each more often. Its best epoch is kept.
            baseline_training={"num_train_epochs": 12},
        ),
    )
