"""Metrics against hand-computed values, naive loops written from the definitions, and their invariants."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_distill import metrics
from nlp_distill.metrics import (
    agreement,
    compute_metrics,
    expected_calibration_error,
    kl_to_teacher,
)
from nlp_distill.tasks import GLUE, TWEETS, Task

PAIR = Task("pair", "a", "b", ("no", "yes"), ("accuracy", "f1"))
REGRESSION = Task("score", "a", None, (), ("spearmanr", "pearson"))


def one_hot(predictions, classes):
    return np.eye(classes)[predictions] * 5.0


def softmax_of_row(row):
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def count(predictions, labels, predicted, true):
    return sum(p == predicted and y == true for p, y in zip(predictions, labels, strict=True))


def test_accuracy_and_f1_of_a_hand_computed_case():
    # Predicted 1 1 0 1 0, true 1 0 0 1 1: 3 of 5 right; precision 2/3, recall 2/3, so F1 2/3.
    found = compute_metrics(PAIR, one_hot([1, 1, 0, 1, 0], 2), [1, 0, 0, 1, 1])
    assert found == pytest.approx({"accuracy": 0.6, "f1": 2 / 3})


def test_matthews_correlation_of_a_hand_computed_case():
    # TP 2, TN 1, FP 1, FN 1: (2·1 − 1·1) / sqrt(3·3·2·2) = 1/6.
    found = compute_metrics(GLUE["cola"].task, one_hot([1, 1, 0, 1, 0], 2), [1, 0, 0, 1, 1])
    assert found["matthews_correlation"] == pytest.approx(1 / 6)
    assert list(found) == ["matthews_correlation", "accuracy"]


def test_macro_f1_is_the_mean_over_classes_of_a_hand_computed_case():
    # Classes: F1 0 is 2/3 (P 1/2, R 1), F1 1 is 2/3 (P 1, R 1/2), F1 2 is 1.
    found = compute_metrics(TWEETS, one_hot([0, 0, 1, 2], 3), [0, 1, 1, 2])
    assert found == pytest.approx({"accuracy": 0.75, "macro_f1": (2 / 3 + 2 / 3 + 1) / 3})


def test_correlations_of_a_hand_computed_case():
    # x 1 2 3 4, y 1 4 9 16: ranks agree; Pearson = 25 / sqrt(5 · 129).
    found = compute_metrics(REGRESSION, [[1.0], [2.0], [3.0], [4.0]], [1.0, 4.0, 9.0, 16.0])
    assert found == pytest.approx({"spearmanr": 1.0, "pearson": 25 / math.sqrt(5 * 129)})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_binary_metrics_equal_loops_over_the_confusion_table(rows):
    predictions, labels = zip(*rows, strict=True)
    tp, fp = count(predictions, labels, 1, 1), count(predictions, labels, 1, 0)
    tn, fn = count(predictions, labels, 0, 0), count(predictions, labels, 0, 1)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    assert metrics.accuracy(predictions, labels) == pytest.approx((tp + tn) / len(rows))
    assert metrics.f1(predictions, labels) == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp else 0.0)
    matthews = (tp * tn - fp * fn) / math.sqrt(product) if product else 0.0
    assert metrics.matthews_correlation(predictions, labels) == pytest.approx(matthews)


def test_spearman_with_ties_is_pearson_of_mean_ranks():
    x, y = [1.0, 2.0, 2.0, 5.0, 0.0], [3.0, 1.0, 1.0, 4.0, 2.0]

    def ranks(values):
        return [
            sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
            for value in values
        ]

    assert metrics.spearmanr(x, y) == pytest.approx(metrics.pearson(ranks(x), ranks(y)))


@pytest.mark.parametrize("name", ["matthews_correlation", "pearson", "spearmanr"])
@pytest.mark.parametrize(
    ("predictions", "labels"), [([1, 1, 1], [0, 1, 0]), ([0, 1, 0], [1, 1, 1]), ([1], [1])]
)
def test_correlations_of_constant_sides_are_zero_without_a_warning(name, predictions, labels):
    assert metrics.METRICS[name](predictions, labels) == 0.0


def test_f1_without_positive_rows_is_zero_without_a_warning():
    assert metrics.f1([0, 0], [0, 0]) == 0.0
    assert metrics.macro_f1([0, 0], [1, 1]) == 0.0


@pytest.mark.parametrize("name", GLUE)
def test_every_glue_task_has_its_metrics_in_order(name):
    task = GLUE[name].task
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20, task.num_labels))
    labels = np.arange(20) % task.num_labels if task.labels else rng.uniform(0, 5, 20)
    found = compute_metrics(task, logits, labels)
    assert tuple(found) == task.metrics
    assert all(type(value) is float for value in found.values())


def test_diverged_outputs_are_refused_rather_than_scored():
    with pytest.raises(ValueError, match="2 of 4 outputs are NaN or infinite"):
        compute_metrics(PAIR, [[math.nan, 0.0], [math.inf, 1.0]], [0, 1])


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, 3)), [0, 1], r"needs \(rows, 2\)"),
        (np.zeros((2, 2)), [0, -1], "labels run from -1 to 0"),
        (np.zeros((2, 2)), [0, 2], "labels run from 0 to 2"),
        (np.zeros((2, 2)), [0], "2 predictions and 1 labels"),
        (np.zeros((0, 2)), [], "no rows"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        compute_metrics(PAIR, logits, labels)


def test_agreement_counts_equal_choices():
    student = [[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 9.0]]
    teacher = [[5.0, 1.0], [4.0, 1.0], [1.0, 0.0], [-3.0, -2.0]]
    assert agreement(student, teacher) == 0.75
    assert agreement(teacher, student) == 0.75


def test_agreement_of_a_regression_is_the_correlation():
    assert agreement([[1.0], [2.0], [4.0]], [[10.0], [20.0], [40.0]]) == pytest.approx(1.0)
    assert agreement([1.0, 2.0], [2.0, 1.0]) == pytest.approx(-1.0)


def test_kl_of_a_hand_computed_case():
    # Teacher (3/4, 1/4), student (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2).
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kl_to_teacher([[0.0, 0.0]], [[math.log(3.0), 0.0]]) == pytest.approx(expected)


def test_kl_equals_a_loop_over_rows_and_classes():
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(size=(7, 3)), rng.normal(size=(7, 3))
    total = 0.0
    for s_row, t_row in zip(student, teacher, strict=True):
        for q, p in zip(softmax_of_row(s_row), softmax_of_row(t_row), strict=True):
            total += p * math.log(p / q)
    assert kl_to_teacher(student, teacher) == pytest.approx(total / 7)


def test_kl_is_zero_for_equal_distributions_and_unmoved_by_a_shift_of_logits():
    logits = np.random.default_rng(2).normal(size=(5, 4)) * 30
    assert kl_to_teacher(logits, logits + 100.0) == pytest.approx(0.0, abs=1e-12)


def test_kl_stays_finite_for_certain_models():
    assert kl_to_teacher([[0.0, 2000.0]], [[2000.0, 0.0]]) == pytest.approx(2000.0)


def test_kl_of_a_regression_is_refused():
    with pytest.raises(ValueError, match="no distribution"):
        kl_to_teacher([[1.0], [2.0]], [[1.0], [2.0]])


@pytest.mark.parametrize("function", [agreement, kl_to_teacher])
def test_student_and_teacher_of_different_shapes_are_refused(function):
    with pytest.raises(ValueError, match=r"\(2, 2\), the teacher's \(2, 3\)"):
        function(np.zeros((2, 2)), np.zeros((2, 3)))


def test_calibration_error_of_a_hand_computed_case():
    # Confidence 0.8 twice, once right: |1 − 1.6| = 0.6; 0.6 once, right: 0.4. Together 1.0 of 3 rows.
    logits = np.log([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6]])
    assert expected_calibration_error(logits, [0, 1, 1], bins=10) == pytest.approx(1 / 3)


def test_calibration_error_equals_a_loop_over_bins():
    rng = np.random.default_rng(3)
    logits, labels, bins = rng.normal(size=(200, 3)) * 2, rng.integers(0, 3, 200), 15
    expected = 0.0
    for b in range(1, bins + 1):
        inside = []
        for row, label in zip(logits, labels, strict=True):
            probabilities = softmax_of_row(row)
            confidence = max(probabilities)
            if (b - 1) / bins < confidence <= b / bins:
                inside.append((probabilities.index(confidence) == label, confidence))
        if inside:
            right = sum(correct for correct, _ in inside) / len(inside)
            confident = sum(confidence for _, confidence in inside) / len(inside)
            expected += len(inside) / len(labels) * abs(right - confident)
    assert expected_calibration_error(logits, labels, bins) == pytest.approx(expected)


def test_calibration_error_is_zero_for_a_certain_and_right_model_and_one_for_a_wrong_one():
    logits = one_hot([0, 1, 1], 2) * 1000
    assert expected_calibration_error(logits, [0, 1, 1]) == pytest.approx(0.0)
    assert expected_calibration_error(logits, [1, 0, 0]) == pytest.approx(1.0)


def test_calibration_of_a_regression_is_refused():
    with pytest.raises(ValueError, match="2 classes or more"):
        expected_calibration_error([[1.0], [2.0]], [0, 1])


@pytest.mark.parametrize("name", ["cola", "mrpc", "stsb", "mnli", "sst2"])
def test_glue_as_an_evaluate_metric_equals_compute_metrics(name, tmp_path):
    task = GLUE[name].task
    rng = np.random.default_rng(4)
    if task.is_regression:
        logits, labels = rng.normal(size=(30, 1)), rng.uniform(0, 5, 30)
        predictions = logits[:, 0]
    else:
        logits, labels = rng.normal(size=(30, task.num_labels)), rng.integers(0, task.num_labels, 30)
        predictions = logits.argmax(axis=1)
    metric = metrics.Glue(name, cache_dir=str(tmp_path))
    for half in (slice(0, 12), slice(12, 30)):  # as an evaluation loop adds its batches
        metric.add_batch(predictions=predictions[half], references=labels[half])
    assert metric.compute() == pytest.approx(compute_metrics(task, logits, labels))


def test_metrics_module_has_no_other_lazy_names():
    with pytest.raises(AttributeError, match="no attribute 'Gluey'"):
        metrics.Gluey  # noqa: B018
