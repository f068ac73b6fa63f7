"""How good a model is: the GLUE metrics, how near a student is to its teacher, and calibration.

All of it runs offline on NumPy arrays. ``logits`` are raw model outputs of shape (rows, classes), or
(rows, 1) or (rows,) for a regression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlp_distill.tasks.task import Task

CALIBRATION_BINS = 15  # Guo et al. 2017, table 1


def compute_metrics(task: Task, logits: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Return the task's metrics in their order; the first is the task's score.

    Args:
        task: names the metrics, and says whether the outputs are classes or values.
        logits: (rows, classes), or (rows, 1) or (rows,) for a regression.
        labels: (rows,) class indices, or values for a regression.

    Raises:
        ValueError: for shapes that do not fit, no rows, missing labels (-1), or outputs that are not finite
            (a model that diverged must not be scored as if it had chosen class 0).
    """
    outputs = _finite(logits)
    truth = np.asarray(labels).reshape(-1)
    if task.is_regression:
        predictions = outputs.reshape(-1)
    else:
        if outputs.ndim != 2 or outputs.shape[1] != task.num_labels:
            raise ValueError(
                f"logits have shape {outputs.shape}; {task.name} needs (rows, {task.num_labels})"
            )
        if truth.size and not (truth.min() >= 0 and truth.max() < task.num_labels):
            raise ValueError(
                f"labels run from {truth.min()} to {truth.max()}; {task.name} has 0 to {task.num_labels - 1} "
                "(-1 marks rows without a public label)"
            )
        predictions = outputs.argmax(axis=1)
    return {name: METRICS[name](predictions, truth) for name in task.metrics}


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Share of rows whose predicted class is the label."""
    from sklearn.metrics import accuracy_score

    predictions, labels = _aligned(predictions, labels)
    return float(accuracy_score(labels, predictions))


def f1(predictions: ArrayLike, labels: ArrayLike) -> float:
    """F1 of class 1, GLUE's second metric for MRPC and QQP; 0 where no row is or is called class 1."""
    from sklearn.metrics import f1_score

    predictions, labels = _aligned(predictions, labels)
    return float(f1_score(labels == 1, predictions == 1, zero_division=0))


def macro_f1(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Unweighted mean of every class's F1, over the classes among labels or predictions."""
    from sklearn.metrics import f1_score

    predictions, labels = _aligned(predictions, labels)
    return float(f1_score(labels, predictions, average="macro", zero_division=0))


def matthews_correlation(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Matthews correlation, CoLA's metric; 0 (chance) where either side is constant: it is 0/0 there."""
    from sklearn.metrics import matthews_corrcoef

    predictions, labels = _aligned(predictions, labels)
    if _is_constant(predictions) or _is_constant(labels):
        return 0.0
    return float(matthews_corrcoef(labels, predictions))


def pearson(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Pearson correlation; 0 where either side is constant: 0/0 there, and such outputs tell nothing."""
    from scipy.stats import pearsonr

    predictions, labels = _aligned(predictions, labels)
    if _is_constant(predictions) or _is_constant(labels):
        return 0.0
    return float(pearsonr(predictions, labels).statistic)


def spearmanr(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Spearman rank correlation, STS-B's score; 0 where either side is constant, as for :func:`pearson`."""
    from scipy import stats

    predictions, labels = _aligned(predictions, labels)
    if _is_constant(predictions) or _is_constant(labels):
        return 0.0
    return float(stats.spearmanr(predictions, labels).statistic)


METRICS: Mapping[str, Callable[[ArrayLike, ArrayLike], float]] = MappingProxyType(
    {metric.__name__: metric for metric in (accuracy, f1, macro_f1, matthews_correlation, pearson, spearmanr)}
)


def agreement(student_logits: ArrayLike, teacher_logits: ArrayLike) -> float:
    """Share of rows for which student and teacher choose the same class; for a regression, their Pearson
    correlation.

    Args:
        student_logits: (rows, classes), or one value a row.
        teacher_logits: the same shape, the same rows in the same order.
    """
    student, teacher = _same_shape(student_logits, teacher_logits)
    if student.shape[1] == 1:
        return pearson(student[:, 0], teacher[:, 0])
    return float((student.argmax(axis=1) == teacher.argmax(axis=1)).mean())


def kl_to_teacher(student_logits: ArrayLike, teacher_logits: ArrayLike) -> float:
    """Mean over rows of KL(teacher ‖ student) = Σ_c p_T (log p_T − log p_S) at temperature 1, in nats.

    Args:
        student_logits: (rows, classes), classes ≥ 2.
        teacher_logits: the same shape, the same rows in the same order.

    Raises:
        ValueError: for a regression, whose outputs are no distributions.
    """
    student, teacher = _same_shape(student_logits, teacher_logits)
    if student.shape[1] == 1:
        raise ValueError(
            "one output a row is a regression, which has no distribution to compare; use agreement"
        )
    log_student, log_teacher = _log_softmax(student), _log_softmax(teacher)
    # Rounding can push the sum of a row a hair below zero; a divergence is not negative.
    rows = (np.exp(log_teacher) * (log_teacher - log_student)).sum(axis=1)
    return float(max(rows.mean(), 0.0))


def expected_calibration_error(logits: ArrayLike, labels: ArrayLike, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error, Σ_b (n_b / n) |accuracy_b − confidence_b| (Guo et al. 2017, eq. 5).

    Confidence is the largest probability; bin b of B holds the rows with confidence in ((b−1)/B, b/B].

    Args:
        logits: (rows, classes), classes ≥ 2.
        labels: (rows,) class indices.
        bins: number of equal-width bins over (0, 1].
    """
    outputs = _finite(logits)
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(
            f"logits have shape {outputs.shape}; calibration needs (rows, classes) with 2 classes or more"
        )
    if bins < 1:
        raise ValueError(f"bins is {bins}; it must be 1 or more")
    predictions, truth = _aligned(outputs.argmax(axis=1), labels)
    confidence = np.exp(_log_softmax(outputs).max(axis=1))
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    # n_b cancels: n_b · |mean correct − mean confidence| = |sum correct − sum confidence|.
    gap = np.bincount(bin_of, weights=(predictions == truth) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(truth))


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _finite(logits: ArrayLike) -> NDArray[np.float64]:
    """Return logits as float64 (float16 sums lose digits), refusing NaN and infinity."""
    outputs = np.asarray(logits, dtype=np.float64)
    bad = int(np.count_nonzero(~np.isfinite(outputs)))
    if bad:
        raise ValueError(
            f"{bad} of {outputs.size} outputs are NaN or infinite; the model diverged (lower its lr)"
        )
    return outputs


def _aligned(predictions: ArrayLike, labels: ArrayLike) -> tuple[NDArray, NDArray]:
    """Return both as arrays of one axis, refusing different lengths and no rows."""
    left, right = np.asarray(predictions).reshape(-1), np.asarray(labels).reshape(-1)
    if len(left) != len(right):
        raise ValueError(f"{len(left)} predictions and {len(right)} labels; each row needs one of each")
    if not len(left):
        raise ValueError("no rows to score")
    return left, right


def _same_shape(
    student_logits: ArrayLike, teacher_logits: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    student, teacher = _finite(student_logits), _finite(teacher_logits)
    if student.shape != teacher.shape or not student.size:
        raise ValueError(
            f"student logits have shape {student.shape}, the teacher's {teacher.shape}; need equal, not empty"
        )
    return student.reshape(len(student), -1), teacher.reshape(len(teacher), -1)


def _is_constant(values: NDArray) -> bool:
    return bool((values == values[0]).all())


def __getattr__(name: str) -> Any:
    """``Glue``, the ``evaluate.Metric``, without importing ``evaluate`` for those who do not ask for it."""
    if name == "Glue":
        from nlp_distill.tasks.glue_metric import Glue

        return Glue
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
