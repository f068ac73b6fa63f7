"""Teachers answer frozen, in the student's label order, and refuse what cannot be a teacher."""

from pathlib import Path

import pytest
import torch
from transformers import BertForMaskedLM, RobertaConfig, RobertaForSequenceClassification

from data_augment.errors import InputError
from nlp_distill import teachers
from nlp_distill.batching import DistillationCollator
from nlp_distill.teachers import (
    Teacher,
    is_anonymous,
    match_labels,
    read_labels,
    select_teacher_inputs,
    warn_if_not_fine_tuned,
)

LABELS = ("negative", "neutral", "positive")


@pytest.fixture
def batch(tokenizer):
    texts = ["a good film", "bad", "the plot is great but not fine"]
    return dict(tokenizer(texts, padding=True, return_tensors="pt"))


def permute_labels(model, order, make_bert):
    """The same model with its classes in another order: class ``order[i]`` of ``model`` becomes class ``i``."""
    names = [model.config.id2label[i] for i in order]
    permuted = make_bert(labels=names)
    permuted.load_state_dict(model.state_dict())
    with torch.no_grad():
        permuted.classifier.weight.copy_(model.classifier.weight[order])
        permuted.classifier.bias.copy_(model.classifier.bias[order])
    return permuted


def test_a_teacher_is_frozen_and_in_eval_mode(make_bert):
    model = make_bert().train()
    Teacher(model)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_teacher_answers_in_eval_mode_even_after_train_was_called_on_it(make_bert, batch):
    model = make_bert(hidden_dropout_prob=0.5)
    teacher = Teacher(model)
    expected = teacher.run(batch)["logits"]
    model.train()
    assert torch.equal(teacher.run(batch)["logits"], expected)
    assert torch.equal(teacher.run(batch)["logits"], expected)


def test_answers_carry_no_gradient_and_can_be_used_in_a_loss_that_does(make_bert, batch):
    logits = Teacher(make_bert()).run(batch)["logits"]
    assert not logits.requires_grad
    student = torch.zeros_like(logits, requires_grad=True)
    (student * logits).sum().backward()  # inference tensors could not be saved for this
    assert torch.equal(student.grad, logits)


def test_a_language_models_logits_are_of_no_labels(tokenizer, make_bert, batch):
    config = make_bert(labels=("positive", "negative")).config
    model = BertForMaskedLM(config).eval()
    teacher = Teacher(model)
    teacher.match_labels(make_bert(labels=("negative", "positive")).config)
    torch.testing.assert_close(teacher.run(batch)["logits"], model(**batch).logits)


def test_one_teachers_logits_are_those_of_the_model(make_bert, batch):
    model = make_bert(labels=LABELS).eval()
    torch.testing.assert_close(Teacher(model).run(batch)["logits"], model(**batch).logits)


def test_several_teachers_stack_their_logits_on_the_second_axis(make_bert, batch):
    models = [make_bert(seed, LABELS).eval() for seed in range(4)]
    logits = Teacher(models).run(batch)["logits"]
    assert logits.shape == (3, 4, 3)
    for index, model in enumerate(models):
        torch.testing.assert_close(logits[:, index], model(**batch).logits)


def test_a_list_of_one_teacher_answers_as_that_teacher(make_bert, batch):
    assert Teacher([make_bert()]).run(batch)["logits"].shape == (3, 2)


def test_several_teachers_refuse_objectives_that_read_more_than_logits(make_bert, batch):
    with pytest.raises(InputError, match=r"2 teachers .* \['hidden_states'\]"):
        Teacher([make_bert(0), make_bert(1)]).run(batch, frozenset({"hidden_states"}))


def test_hidden_states_and_attentions_come_where_they_are_needed(make_bert, batch):
    teacher = Teacher(make_bert(attn_implementation="eager"))
    outputs = teacher.run(batch, frozenset({"hidden_states", "attentions"}))
    assert len(outputs.hidden_states) == 3  # the embeddings' output and two layers'
    assert len(outputs.attentions) == 2
    assert teacher.run(batch).get("hidden_states") is None


def test_an_empty_list_of_teachers_is_refused():
    with pytest.raises(InputError, match="the list of teachers is empty"):
        Teacher([])


# ---- labels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 0, 2], [1, 2, 0]])
def test_a_teacher_with_permuted_labels_gives_the_same_logits_after_matching(make_bert, batch, order):
    model = make_bert(labels=LABELS)
    permuted = permute_labels(model, order, make_bert)
    teacher = Teacher(permuted)
    assert not torch.allclose(teacher.run(batch)["logits"], Teacher(model).run(batch)["logits"])
    teacher.match_labels(model.config)
    torch.testing.assert_close(teacher.run(batch)["logits"], Teacher(model).run(batch)["logits"])


def test_teachers_of_different_label_orders_follow_the_first(make_bert, batch):
    model = make_bert(labels=LABELS)
    logits = Teacher([model, permute_labels(model, [2, 0, 1], make_bert)]).run(batch)["logits"]
    torch.testing.assert_close(logits[:, 0], logits[:, 1])


def test_named_teachers_agree_among_themselves_beside_one_without_names(make_bert, batch):
    anonymous = make_bert(labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    named = make_bert(1, LABELS)
    permuted = permute_labels(named, [2, 0, 1], make_bert)
    logits = Teacher([anonymous, named, permuted]).run(batch)["logits"]
    torch.testing.assert_close(logits[:, 2], logits[:, 1])


def test_different_labels_are_refused_and_the_message_names_both(make_bert):
    teacher = Teacher(make_bert(labels=("entailment", "not_entailment")))
    with pytest.raises(InputError) as caught:
        teacher.match_labels(make_bert(labels=("negative", "positive")).config)
    assert "student's labels are [negative, positive]" in str(caught.value)
    assert "teacher's are [entailment, not_entailment]" in str(caught.value)
    assert "id2label" in str(caught.value)


def test_teachers_of_different_tasks_are_refused_together(make_bert):
    with pytest.raises(InputError, match="must be the same names"):
        Teacher([make_bert(labels=("negative", "positive")), make_bert(labels=LABELS)])


def test_a_regression_and_a_classification_do_not_match(make_bert):
    with pytest.raises(InputError, match=r"\[none: a regression\]"):
        Teacher(make_bert(labels=())).match_labels(make_bert().config)


def test_two_regressions_match(make_bert, batch):
    teacher = Teacher(make_bert(labels=()))
    teacher.match_labels(make_bert(labels=()).config)
    assert teacher.run(batch)["logits"].shape == (3, 1)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (["a", "b"], ["a", "b"], None),
        (["a", "b"], ["b", "a"], [1, 0]),
        (["a", "b", "c"], ["c", "a", "b"], [1, 2, 0]),
        (["LABEL_0", "LABEL_1"], ["x", "y"], None),
        (["x", "y"], ["LABEL_0", "LABEL_1"], None),
        ([], [], None),
    ],
)
def test_labels_match_by_name_and_invented_names_by_number(student, teacher, expected):
    assert match_labels(student, teacher) == expected


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (["a", "b"], ["a", "c"]),
        (["a", "b"], ["a", "b", "c"]),
        (["LABEL_0", "LABEL_1"], ["x", "y", "z"]),
        ([], ["x", "y"]),
        ([], ["LABEL_0", "LABEL_1"]),
        (["a", "A"], ["a", "a"]),
    ],
)
def test_labels_of_another_content_or_number_do_not_match(student, teacher):
    with pytest.raises(InputError):
        match_labels(student, teacher)


def test_labels_are_read_in_index_order_and_a_regression_has_none(make_bert):
    assert read_labels(make_bert(labels=LABELS).config) == LABELS
    assert read_labels(make_bert(labels=()).config) == ()


# ---- inputs -------------------------------------------------------------------------------------------------------


def test_the_teachers_own_encoding_wins_over_the_students():
    batch = {
        "input_ids": 1,
        "labels": 2,
        "teacher_logits": 3,
        "teacher_input_ids": 4,
        "teacher_attention_mask": 5,
    }
    assert select_teacher_inputs(batch) == {"input_ids": 4, "attention_mask": 5}


def test_without_its_own_encoding_the_teacher_reads_the_students_without_labels():
    batch = {"input_ids": 1, "attention_mask": 2, "labels": 3, "label": 4, "teacher_logits": 5}
    assert select_teacher_inputs(batch) == {"input_ids": 1, "attention_mask": 2}


def test_a_teacher_without_segments_ignores_the_students_segments(tokenizer, make_rows):
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    rows = [{"input_ids": [2, 7, 3], "token_type_ids": [0, 1, 1]}]
    batch = DistillationCollator(tokenizer)(rows)
    teacher = Teacher(RobertaForSequenceClassification(config))
    del batch["token_type_ids"]
    expected = teacher.run(batch)["logits"]
    batch["unknown_column"] = torch.ones(1)
    assert torch.equal(teacher.run(batch)["logits"], expected)


# ---- is it fine-tuned? --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [0.30, 0.52])
def test_a_teacher_no_better_than_the_majority_class_is_named_untrained(score):
    message = warn_if_not_fine_tuned(score, 0.52, "validation")
    assert f"scores {score:.3f} on validation" in message
    assert "never fine-tuned" in message


def test_a_teacher_better_than_the_majority_class_passes_in_silence():
    assert warn_if_not_fine_tuned(0.521, 0.52, "validation") is None


def test_a_teacher_with_its_own_tokenizer_refuses_rows_that_were_not_encoded_for_it(
    make_bert, other_tokenizer
):
    teacher = Teacher(make_bert(), other_tokenizer)
    batch = {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.tensor([[1, 1]])}
    with pytest.raises(InputError, match="rows carry no teacher_input_ids; encode them for it too"):
        teacher.run(batch)
    own = {f"teacher_{name}": value for name, value in batch.items()}
    torch.testing.assert_close(teacher.run(batch | own).logits, Teacher(make_bert()).run(batch).logits)


def test_a_guess_of_whose_label_is_which_is_said_once(capsys):
    teachers._say_guess.cache_clear()
    for _ in range(2):
        match_labels(["bad", "good"], ["LABEL_0", "LABEL_1"])
        match_labels(["LABEL_0", "LABEL_1"], ["bad", "good"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "are taken for [bad, good] in this order" in said
    match_labels(["0", "1"], ["LABEL_0", "LABEL_1"])  # numbers are indices
    match_labels(["LABEL_0", "LABEL_1"], ["LABEL_0", "LABEL_1"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("given", ["runs/teacher", ["runs/teacher"], Path("runs/teacher")])
def test_a_folder_is_no_teacher_and_is_told_how_to_become_one(given):
    with pytest.raises(InputError, match=r"a teacher is 'runs/teacher'; give the model itself"):
        Teacher(given)


@pytest.mark.parametrize("student", [(), ("LABEL_0", "LABEL_1", "LABEL_2"), ("LABEL_0",)])
def test_a_student_with_another_number_of_outputs_is_refused_even_if_its_labels_have_no_names(
    make_bert, student
):
    teacher = Teacher(make_bert(labels=("negative", "positive")))
    config = make_bert(labels=student if len(student) != 1 else ()).config
    with pytest.raises(InputError, match="must be the same names"):
        teacher.match_labels(config)


def test_a_regression_is_never_taken_for_a_model_without_label_names():
    assert not is_anonymous(()) and is_anonymous(("LABEL_0", "LABEL_1"))
