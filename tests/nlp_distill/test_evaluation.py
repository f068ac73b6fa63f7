"""Scoring: the logits are the model's, the classes are the task's, and each number is worked out by hand."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from data_augment.errors import InputError
from nlp_distill import evaluation
from nlp_distill.evaluation import (
    describe_scores,
    describe_size,
    load_logits,
    predict_logits,
    save_logits,
    score_majority,
)
from nlp_distill.tasks import Task

SENTIMENT = Task("mine", "text", None, ("negative", "positive"), ("accuracy", "macro_f1"))
PAIRS = Task("pairs", "text", "second", ("negative", "positive"), ("accuracy",))
SCORES = Task("scores", "text", None, (), ("spearmanr", "pearson"))
LOG3, LOG9 = math.log(3), math.log(9)


def run_row_by_row(model, tokenizer, rows, columns: tuple[str, ...], max_length: int) -> np.ndarray:
    """The plain way: one row at a time, no padding, eval mode."""
    model.eval()
    logits = []
    for row in rows:
        inputs = tokenizer(*(row[column] for column in columns), truncation=True, max_length=max_length)
        with torch.no_grad():
            logits.append(
                model(**{name: torch.tensor([ids]) for name, ids in inputs.items()}).logits[0].numpy()
            )
    return np.stack(logits)


@pytest.mark.parametrize("task", [SENTIMENT, PAIRS], ids=["single", "pair"])
def test_logits_are_those_of_the_plain_model_row_by_row(make_bert, make_rows, tokenizer, task: Task) -> None:
    model, rows = make_bert(hidden_dropout_prob=0.5).train(), make_rows(30)
    logits = predict_logits(model, tokenizer, Dataset.from_list(rows), task, max_length=10)
    assert logits.shape == (30, 2) and not model.training
    np.testing.assert_allclose(
        logits, run_row_by_row(model, tokenizer, rows, task.text_columns, 10), atol=1e-5
    )


def test_classes_follow_the_task_where_the_model_has_another_order(make_bert, make_rows, tokenizer) -> None:
    rows = Dataset.from_list(make_rows(10))
    swapped = make_bert(labels=("positive", "negative"))
    plain = run_row_by_row(swapped, tokenizer, rows, ("text",), 32)
    logits = predict_logits(swapped, tokenizer, rows, SENTIMENT, max_length=32)
    np.testing.assert_allclose(logits, plain[:, [1, 0]], atol=1e-5)


def test_a_model_of_another_task_is_refused(make_bert, make_rows, tokenizer) -> None:
    rows = Dataset.from_list(make_rows(3))
    with pytest.raises(InputError, match="calm, angry"):
        predict_logits(make_bert(labels=("calm", "angry")), tokenizer, rows, SENTIMENT, 32)
    with pytest.raises(InputError, match="a regression"):
        predict_logits(make_bert(labels=()), tokenizer, rows, SENTIMENT, 32)


def test_a_regression_has_one_value_a_row(make_bert, make_rows, tokenizer) -> None:
    model, rows = make_bert(labels=()), make_rows(8)
    logits = predict_logits(model, tokenizer, Dataset.from_list(rows), SCORES, 32)
    np.testing.assert_allclose(logits, run_row_by_row(model, tokenizer, rows, ("text",), 32), atol=1e-5)


def test_scores_of_a_classification_by_hand() -> None:
    """Probabilities 3/4, 1/4, 3/4, 1/10 for class 1; three of four right."""
    logits = np.array([[0, LOG3], [LOG3, 0], [0, LOG3], [LOG9, 0]])
    scores = describe_scores(SENTIMENT, logits, [1, 0, 0, 0])
    assert scores["score"] == scores["metrics"]["accuracy"] == 0.75
    # F1 of class 0: precision 1, recall 2/3 -> 4/5; of class 1: precision 1/2, recall 1 -> 2/3.
    assert scores["metrics"]["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    # Confidence 3/4 three times (two right: 2/3), 9/10 once (right): 3/4 |2/3 - 3/4| + 1/4 |1 - 9/10|.
    assert scores["metrics"]["calibration_error"] == pytest.approx(0.75 * (3 / 4 - 2 / 3) + 0.25 * 0.1)
    assert set(scores) == {"score", "metrics"}


def test_agreement_and_divergence_from_a_teacher_by_hand() -> None:
    student, teacher = np.array([[0.0, 0.0], [0.0, LOG3]]), np.array([[0.0, LOG3], [0.0, LOG3]])
    scores = describe_scores(SENTIMENT, student, [0, 1], teacher)
    assert scores["agreement"] == 0.5
    first_row = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)  # the second row is the same: 0
    assert scores["metrics"]["kl_to_teacher"] == pytest.approx(first_row / 2)


def test_scores_of_a_regression_by_hand() -> None:
    outputs, truth = np.array([[1.0], [2.0], [4.0]]), [1.0, 3.0, 2.0]
    scores = describe_scores(SCORES, outputs, truth, outputs * 2 + 1)
    assert scores["score"] == scores["metrics"]["spearmanr"] == pytest.approx(0.5)  # 1 - 6 * 2 / (3 * 8)
    # Deviations (-4/3, -1/3, 5/3) and (-1, 1, 0): 1 / sqrt(42/9 * 2).
    assert scores["metrics"]["pearson"] == pytest.approx(1 / math.sqrt(42 / 9 * 2))
    assert scores["agreement"] == pytest.approx(1.0) and set(scores["metrics"]) == {"spearmanr", "pearson"}


def test_the_majority_answers_the_most_frequent_class() -> None:
    assert score_majority(SENTIMENT, [0, 1, 1, 0, 1]) == 0.6
    assert score_majority(SENTIMENT, [0, 0, 0]) == 1.0
    matthews = Task("cola", "text", None, ("no", "yes"), ("matthews_correlation",))
    assert score_majority(matthews, [0, 1, 1]) == 0.0
    assert score_majority(SCORES, [1.5, 2.0]) == 0.0


def test_sizes_are_counted_and_weighed(make_bert, tmp_path: Path) -> None:
    model = make_bert()
    model.save_pretrained(tmp_path)
    total = sum(weight.numel() for weight in model.parameters())
    size = describe_size(model, tmp_path)
    assert size["parameters"] == total
    assert size["parameters_without_embeddings"] == total - model.get_input_embeddings().weight.numel()
    assert size["bytes"] == (tmp_path / "model.safetensors").stat().st_size > 4 * total


def test_weights_without_a_file_are_weighed_in_memory(make_bert, tmp_path: Path) -> None:
    model = make_bert()
    size = describe_size(model, "a-hub/name")
    assert size["bytes"] == 4 * size["parameters"]
    assert describe_size(model.bfloat16(), tmp_path)["bytes"] == 2 * size["parameters"]


def test_kept_logits_come_back_as_they_were(tmp_path: Path) -> None:
    logits = {"validation": np.eye(3, dtype=np.float32), "test": np.zeros((2, 1), np.float32)}
    save_logits(tmp_path / "logits.npz", logits)
    loaded = load_logits(tmp_path / "logits.npz")
    assert loaded.keys() == logits.keys()
    assert all(loaded[name].dtype == np.float32 and (loaded[name] == logits[name]).all() for name in logits)
    assert [path.name for path in tmp_path.iterdir()] == ["logits.npz"]


def test_a_disturbance_now_and_then_is_no_slowness_and_few_texts_are_asked_again():
    asked = {"teacher": [], "student": []}

    def make(name, milliseconds):
        def answer(text):
            asked[name].append(text)
            # Every other answer of the student waits for something else.
            disturbed = name == "student" and len(asked[name]) % 2
            time.sleep((20 if disturbed else milliseconds) / 1000)

        return answer

    found = evaluation.measure_speed(
        {"teacher": make("teacher", 3), "student": make("student", 1)}, [("a",), ("b",)]
    )
    assert found["student"] < found["teacher"] < 15
    for name in asked:
        assert len(asked[name]) == 2 * evaluation.MIN_ANSWERS and set(asked[name]) == {("a",), ("b",)}
