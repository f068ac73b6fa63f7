"""Objectives against values worked out by hand, loops written from the papers' equations, and invariants."""

import math

import numpy as np
import pytest
import torch
from transformers import TrainingArguments
from transformers.modeling_outputs import SequenceClassifierOutput

from data_augment.errors import InputError
from nlp_distill.objectives import (
    DistilBERT,
    HardLabels,
    LogitRegression,
    Objective,
    SoftTargets,
    Sum,
    TinyBERTLayers,
)
from nlp_distill.objectives.hard_labels import hard_label_loss
from nlp_distill.objectives.logit_regression import logit_regression_loss
from nlp_distill.objectives.objective import check_weights
from nlp_distill.objectives.soft_targets import soft_target_loss
from nlp_distill.schedules import linear
from nlp_distill.trainer import DistillationTrainer

NAN = float("nan")


def outputs(logits):
    return SequenceClassifierOutput(logits=torch.as_tensor(logits, dtype=torch.float32))


def random_logits(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2


def softmax_of(logits, temperature):
    exponentials = [math.exp(value / temperature) for value in logits]
    return [value / sum(exponentials) for value in exponentials]


def naive_soft_targets(student, teacher, temperature):
    """tau^2 * mean over rows of sum over classes of q * log(q / p), as in Hinton et al., section 2."""
    total = 0.0
    for student_row, teacher_row in zip(student, teacher, strict=True):
        p, q = softmax_of(student_row, temperature), softmax_of(teacher_row, temperature)
        total += sum(q_k * math.log(q_k / p_k) for p_k, q_k in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


# ---- soft targets -------------------------------------------------------------------------------------------------


def test_soft_targets_equal_the_value_worked_out_by_hand():
    # tau = 2: P = (1/2, 1/2); logits 2 ln 3 and 0 give Q = (3/4, 1/4).
    # KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.304099 - 0.173287 = 0.130812; times tau^2 = 0.523248
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * math.log(3.0), 0.0]])
    assert soft_target_loss(student, teacher, temperature=2.0).item() == pytest.approx(0.523248, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_soft_targets_equal_a_loop_over_the_equation(temperature, classes):
    student, teacher = random_logits(6, classes), random_logits(6, classes, seed=1)
    expected = naive_soft_targets(student.tolist(), teacher.tolist(), temperature)
    assert soft_target_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-4)


def test_soft_targets_are_zero_when_the_student_agrees_up_to_a_constant_per_row():
    teacher = random_logits(4, 3)
    student = teacher + torch.tensor([[1.0], [-2.0], [0.0], [5.0]])
    assert soft_target_loss(student, teacher, 3.0).item() == pytest.approx(0.0, abs=1e-5)


def test_soft_targets_have_the_gradient_of_the_papers_cross_entropy():
    student, teacher = random_logits(5, 3).requires_grad_(), random_logits(5, 3, seed=1)
    (by_kl,) = torch.autograd.grad(soft_target_loss(student, teacher, 2.0), student)
    cross_entropy = -(torch.softmax(teacher / 2, -1) * torch.log_softmax(student / 2, -1)).sum(-1).mean() * 4
    (by_cross_entropy,) = torch.autograd.grad(cross_entropy, student)
    torch.testing.assert_close(by_kl, by_cross_entropy)


def test_temperature_squared_keeps_the_scale_of_the_gradient():
    # Equation 4 of the paper: at high temperatures d KL / d z_S is (z_S - z_T) / (N tau^2) for logits of mean zero.
    student, teacher = random_logits(8, 4), random_logits(8, 4, seed=1)
    student, teacher = student - student.mean(-1, keepdim=True), teacher - teacher.mean(-1, keepdim=True)
    student.requires_grad_()
    for temperature in (100.0, 1000.0):
        (gradient,) = torch.autograd.grad(soft_target_loss(student, teacher, temperature), student)
        expected = (student - teacher).detach() / 4 / len(student)
        torch.testing.assert_close(gradient, expected, rtol=0.1, atol=0.01)


def test_several_teachers_average_their_probabilities_not_their_logits():
    student, teachers = random_logits(5, 3), random_logits(5, 4, 3, seed=1) * 3
    q = np.mean([[softmax_of(z, 2.0) for z in row] for row in teachers.tolist()], axis=1)
    p = np.array([softmax_of(z, 2.0) for z in student.tolist()])
    expected = 4 * (q * np.log(q / p)).sum(-1).mean()
    loss = soft_target_loss(student, teachers, 2.0).item()
    assert loss == pytest.approx(expected, rel=1e-4)
    assert abs(loss - soft_target_loss(student, teachers.mean(1), 2.0).item()) > 0.1


def test_soft_targets_stay_finite_for_extreme_logits():
    student = torch.tensor([[300.0, -300.0]], requires_grad=True)
    loss = soft_target_loss(student, torch.tensor([[-300.0, 300.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(600.0)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_soft_targets_refuse_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValueError, match=r"temperature is .* must be positive"):
        soft_target_loss(random_logits(2, 3), random_logits(2, 3), temperature)


def test_soft_targets_refuse_a_regression_and_name_the_objective_for_it():
    with pytest.raises(ValueError, match="LogitRegression"):
        soft_target_loss(random_logits(2, 1), random_logits(2, 1))


# ---- logit regression ---------------------------------------------------------------------------------------------


def test_logit_regression_equals_the_value_worked_out_by_hand():
    # ((1-0)^2 + (2-0)^2) = 5 and ((0-3)^2 + (1-1)^2) = 9; the mean over the two rows is 7
    loss = logit_regression_loss(
        torch.tensor([[0.0, 0.0], [3.0, 1.0]]), torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    )
    assert loss.item() == 7.0


def test_logit_regression_equals_a_loop_over_the_equation():
    student, teacher = random_logits(7, 3), random_logits(7, 3, seed=1)
    squares = [
        sum((t - s) ** 2 for s, t in zip(*row, strict=True))
        for row in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    assert logit_regression_loss(student, teacher).item() == pytest.approx(sum(squares) / 7, rel=1e-5)


def test_logit_regression_of_one_logit_is_the_squared_error_to_the_teachers_value():
    loss = logit_regression_loss(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [2.0]]))
    assert loss.item() == 2.0


def test_logit_regression_is_zero_when_equal():
    logits = random_logits(4, 3)
    assert logit_regression_loss(logits, logits.clone()).item() == 0.0


def test_logit_regression_to_several_teachers_goes_to_the_mean_of_their_logits():
    student, teachers = random_logits(5, 3), random_logits(5, 2, 3, seed=1)
    mean = torch.from_numpy(np.mean(teachers.numpy(), axis=1))
    torch.testing.assert_close(logit_regression_loss(student, teachers), logit_regression_loss(student, mean))


# ---- hard labels --------------------------------------------------------------------------------------------------


def test_hard_labels_equal_the_value_worked_out_by_hand():
    # -ln(3/4) = 0.287682 and -ln(1/2) = 0.693147; the mean is 0.490415
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    assert hard_label_loss(logits, torch.tensor([0, 1])).item() == pytest.approx(0.490415, abs=1e-6)


def test_hard_labels_equal_torchs_cross_entropy_also_with_missing_labels():
    logits, labels = random_logits(6, 3), torch.tensor([0, 2, -100, 1, -100, 1])
    torch.testing.assert_close(
        hard_label_loss(logits, labels), torch.nn.functional.cross_entropy(logits, labels)
    )


def test_hard_labels_of_a_regression_are_the_mean_squared_error_over_labelled_rows():
    # (1 - 3)^2 = 4 and (2 - 2.5)^2 = 0.25; the row without label does not count: 4.25 / 2
    loss = hard_label_loss(torch.tensor([[1.0], [7.0], [2.0]]), torch.tensor([3.0, NAN, 2.5]))
    assert loss.item() == pytest.approx(2.125)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.ones(3, 2), torch.tensor([1, -100, 0])),
        (torch.ones(3, 1), torch.tensor([1.0, NAN, 0.0])),
    ],
    ids=["classes", "regression"],
)
def test_rows_without_label_get_no_gradient_and_poison_no_other(logits, labels):
    logits.requires_grad_()
    hard_label_loss(logits, labels).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[1] == 0).all()
    assert (logits.grad[[0, 2]] != 0).any(dim=-1).any()


@pytest.mark.parametrize(
    ("classes", "labels"), [(2, torch.tensor([-100, -100])), (1, torch.tensor([NAN, NAN]))]
)
def test_a_batch_without_any_label_costs_nothing_and_can_be_learnt_from(classes, labels):
    logits = torch.ones(2, classes, requires_grad=True)
    loss = hard_label_loss(logits, labels)
    loss.backward()
    assert loss.item() == 0.0
    assert (logits.grad == 0).all()


def test_a_regression_batch_of_unlabelled_rows_that_was_collated_as_integers_costs_nothing():
    assert hard_label_loss(torch.ones(2, 1), torch.tensor([-100, -100])).item() == 0.0


def test_class_indices_that_came_as_floats_are_classes_and_whole_ratings_are_values():
    """pandas makes floats of a column of classes in which one is missing."""
    logits, nan = torch.tensor([[0.0, 5.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 4.0]]), float("nan")
    expected = hard_label_loss(logits, torch.tensor([1, 0, -100]))
    assert hard_label_loss(logits, torch.tensor([1.0, 0.0, nan])).item() == pytest.approx(expected.item())
    assert hard_label_loss(logits[:1], torch.tensor([1.0])).item() < 0.02  # a single row broadcasts
    values = torch.tensor([[1.0], [2.0], [7.0]])
    assert hard_label_loss(values, torch.tensor([1, 4, -100])).item() == pytest.approx(2.0)
    assert hard_label_loss(values, torch.tensor([[1.0], [2.0], [7.0]])).item() == 0.0  # a column of values


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0.5, 1.0]), "the labels are values such as 0.5, but the model has 2 classes"),
        (torch.tensor([[0.0, 1.0], [1.0, 1.0]]), "several a row"),
    ],
)
def test_labels_that_do_not_fit_the_logits_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        hard_label_loss(torch.zeros(2, 2), labels)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_soft_targets_in_half_precision_are_not_negative(dtype):
    logits = torch.randn(8, 3000, generator=torch.Generator().manual_seed(0)).to(dtype)
    for temperature in (1.0, 4.0):
        assert abs(soft_target_loss(logits.float(), logits, temperature).item()) < 1e-5


def test_sum_adds_objectives_too():
    total = sum([SoftTargets(), HardLabels()])
    assert [type(part) for part in total.parts] == [SoftTargets, HardLabels]
    with pytest.raises(TypeError):
        1 + SoftTargets()


def test_hard_labels_without_a_labels_column_raise():
    with pytest.raises(ValueError, match="needs a 'labels' column"):
        HardLabels()(outputs([[0.0, 1.0]]), None, {}, 0.0)


def test_hard_labels_need_no_teacher_and_the_others_do():
    assert not HardLabels().needs_teacher
    assert SoftTargets().needs_teacher and LogitRegression().needs_teacher


# ---- what all objectives share ------------------------------------------------------------------------------------

DISTILLATION = [SoftTargets(2.0), LogitRegression()]


@pytest.mark.parametrize("objective", DISTILLATION, ids=lambda objective: objective.name)
def test_no_gradient_is_needed_of_the_teacher_and_the_student_gets_one(objective):
    student, teacher = random_logits(4, 3).requires_grad_(), random_logits(4, 3, seed=1)
    (loss,) = objective(
        SequenceClassifierOutput(logits=student), SequenceClassifierOutput(logits=teacher), {}, 0.0
    ).values()
    loss.backward()
    assert (student.grad != 0).all()
    assert teacher.grad is None and not teacher.requires_grad


@pytest.mark.parametrize("objective", DISTILLATION, ids=lambda objective: objective.name)
def test_the_order_of_the_rows_does_not_change_the_loss(objective):
    student, teacher, order = random_logits(6, 3), random_logits(6, 3, seed=1), [3, 1, 0, 5, 4, 2]
    (one,) = objective(outputs(student), outputs(teacher), {}, 0.0).values()
    (two,) = objective(outputs(student[order]), outputs(teacher[order]), {}, 0.0).values()
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("objective", DISTILLATION, ids=lambda objective: objective.name)
@pytest.mark.parametrize("teacher", [None, SequenceClassifierOutput()])
def test_an_objective_without_teacher_logits_says_how_to_provide_them(objective, teacher):
    with pytest.raises(ValueError, match=r"teacher=.*teacher_logits column"):
        objective(outputs([[0.0, 1.0]]), teacher, {}, 0.0)


@pytest.mark.parametrize("make", [SoftTargets, LogitRegression, HardLabels])
def test_weights_scale_the_term_and_may_be_schedules(make):
    student, teacher, batch = outputs([[0.5, 1.0]]), outputs([[2.0, 0.0]]), {"labels": torch.tensor([0])}
    (whole,) = make()(student, teacher, batch, 0.25).values()
    (scaled,) = make(weight=0.3)(student, teacher, batch, 0.25).values()
    (scheduled,) = make(weight=linear(1.0, 0.0))(student, teacher, batch, 0.25).values()
    assert scaled.item() == pytest.approx(0.3 * whole.item())
    assert scheduled.item() == pytest.approx(0.75 * whole.item())


def test_the_temperature_may_be_a_schedule():
    student, teacher = random_logits(4, 3), random_logits(4, 3, seed=1)
    terms = SoftTargets(linear(4.0, 2.0))(outputs(student), outputs(teacher), {}, 0.5)
    assert terms["soft_targets"].item() == pytest.approx(soft_target_loss(student, teacher, 3.0).item())


def test_the_mixture_of_hinton_is_the_weighted_sum_of_its_named_terms():
    student, teacher, labels = random_logits(4, 3), random_logits(4, 3, seed=1), torch.tensor([0, 1, 2, 1])
    mixture = SoftTargets(4.0, weight=0.7) + HardLabels(weight=0.3)
    terms = mixture(outputs(student), outputs(teacher), {"labels": labels}, 0.0)
    assert list(terms) == ["soft_targets", "hard_labels"]
    expected = 0.7 * soft_target_loss(student, teacher, 4.0) + 0.3 * hard_label_loss(student, labels)
    assert sum(terms.values()).item() == pytest.approx(expected.item())


def test_additions_make_one_flat_sum_whatever_the_brackets():
    a, b, c, d = (HardLabels(name=name) for name in "abcd")
    for total in ((a + b) + (c + d), a + (b + (c + d)), ((a + b) + c) + d):
        assert isinstance(total, Sum)
        assert [part.name for part in total.parts] == ["a", "b", "c", "d"]


def test_adding_leaves_both_sides_as_they_were():
    left = HardLabels(name="a") + HardLabels(name="b")
    _ = left + HardLabels(name="c")
    assert len(left.parts) == 2


def test_two_terms_of_one_name_raise_and_the_message_names_it():
    terms = HardLabels() + HardLabels()
    with pytest.raises(ValueError, match=r"two objectives return a term named 'hard_labels'"):
        terms(outputs([[0.0, 1.0]]), None, {"labels": torch.tensor([0])}, 0.0)


def test_a_sum_needs_what_its_parts_need():
    class Hidden(Objective):
        needs = frozenset({"hidden_states"})
        needs_teacher = False

    class Attention(Objective):
        needs = frozenset({"attentions"})

    assert (HardLabels() + Hidden()).needs == {"hidden_states"}
    assert not (HardLabels() + Hidden()).needs_teacher
    assert (HardLabels() + Hidden() + Attention()).needs == {"hidden_states", "attentions"}
    assert (HardLabels() + Hidden() + Attention()).needs_teacher


def test_parameters_of_the_parts_are_parameters_of_the_sum():
    class Projection(Objective):
        def __init__(self):
            super().__init__()
            self.projection = torch.nn.Linear(2, 3)

    total = HardLabels() + Projection()
    assert [name for name, _ in total.named_parameters()] == [
        "parts.1.projection.weight",
        "parts.1.projection.bias",
    ]


def test_an_objective_without_a_forward_is_refused():
    with pytest.raises(NotImplementedError):
        Objective()(outputs([[0.0, 1.0]]), None, {}, 0.0)


@pytest.mark.parametrize("loss", [soft_target_loss, logit_regression_loss])
def test_logits_of_different_classes_are_refused_where_broadcasting_would_compare_them(loss):
    with pytest.raises(ValueError, match="the student has 2 logits a row and the teacher 3"):
        loss(random_logits(4, 2), random_logits(4, 3))
    with pytest.raises(ValueError, match="the student has . logits a row and the teacher 1"):
        loss(random_logits(4, 2), random_logits(4, 1))


@pytest.mark.parametrize(
    "objective",
    [
        HardLabels(0.0),
        HardLabels(0) + SoftTargets(weight=lambda progress: 0.0),
        Sum([Sum([HardLabels(0.0)])]),
    ],
    ids=["one", "a sum", "nested"],
)
def test_an_objective_of_which_every_weight_is_zero_is_refused(objective, make_bert, tmp_path):
    with pytest.raises(ValueError, match="every weight of the objective is 0, so that nothing is learnt"):
        DistillationTrainer(
            make_bert(), objective=objective, args=TrainingArguments(str(tmp_path), use_cpu=True)
        )


@pytest.mark.parametrize("weight", [-1.0, float("nan"), lambda progress: 0.5 - progress])
def test_a_weight_that_is_negative_at_any_time_is_refused(weight, make_bert, tmp_path):
    objective = HardLabels() + SoftTargets(weight=weight)
    with pytest.raises(ValueError, match="SoftTargets has weight .*give 0 or more"):
        DistillationTrainer(
            make_bert(), objective=objective, args=TrainingArguments(str(tmp_path), use_cpu=True)
        )


def test_the_weight_of_each_term_counts(make_bert):
    config = make_bert().config
    with pytest.raises(ValueError, match="TinyBERTLayers has weight -1"):
        check_weights(TinyBERTLayers(config, config, hidden=-1.0))
    with pytest.raises(ValueError, match="DistilBERT has weight -2"):
        check_weights(DistilBERT(config, config, masked_lm=-2.0))
    check_weights(TinyBERTLayers(config, config, hidden=0.0) + DistilBERT(config, config, cosine=0.0))


@pytest.mark.parametrize(
    "objective",
    [HardLabels(linear(0.0, 1.0)), HardLabels(0.0) + SoftTargets(), HardLabels(lambda p: 0.3 < p < 0.5)],
)
def test_a_weight_that_is_zero_at_times_is_fine(objective):
    check_weights(objective)
