"""Sobolev training: derivatives by hand, by finite differences, by whole Jacobians, and a training that learns them."""

import pytest
import torch
from datasets import Dataset
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import TrainingArguments
from transformers.modeling_outputs import ModelOutput

from data_augment.errors import InputError
from nlp_distill import DistillationTrainer
from nlp_distill.batching import DistillationCollator
from nlp_distill.checkpoints import find_last_checkpoint
from nlp_distill.encoding import EncodedRows, encode_for_teacher, encode_rows
from nlp_distill.internals import run_model
from nlp_distill.labelling import compute_logits
from nlp_distill.objectives import Sobolev, SoftTargets
from nlp_distill.objectives.sobolev import draw_directions
from nlp_distill.students import BiLSTMConfig, BiLSTMForSequenceClassification, CNNConfig
from nlp_distill.students import CNNForSequenceClassification as CNN
from nlp_distill.teachers import Teacher

LABELS = ("no", "maybe", "yes")
NEEDS = Sobolev.needs


@pytest.fixture
def teacher(make_bert):
    """Deeper and wider than the student."""
    return make_bert(seed=1, labels=LABELS, hidden_size=24, num_hidden_layers=3, num_attention_heads=4).eval()


@pytest.fixture
def student(make_bert):
    return make_bert(seed=2, labels=LABELS)


@pytest.fixture
def rows(make_rows, tokenizer):
    return encode_rows([row | {"label": None} for row in make_rows(24)], tokenizer, ["text"], 32)


@pytest.fixture
def batch(rows, tokenizer):
    return DistillationCollator(tokenizer)([rows[i] for i in range(5)])


@pytest.fixture
def make_trainer(tokenizer, tmp_path):
    def make(folder="run", objective=None, train_dataset=None, **changes):
        own = {name: changes.pop(name) for name in ("model", "teacher", "callbacks") if name in changes}
        settings = {
            "learning_rate": 3e-3,
            "num_train_epochs": 1,
            "per_device_train_batch_size": 4,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
        }
        arguments = TrainingArguments(str(tmp_path / folder), **settings | changes)
        objective = Sobolev() if objective is None else objective
        return DistillationTrainer(
            args=arguments,
            objective=objective,
            train_dataset=train_dataset,
            processing_class=tokenizer,
            **own,
        )

    return make


def take_inputs(batch):
    return {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}


def measure(student, teacher, batch, seed=0, **settings):
    """The term, with v drawn after ``torch.manual_seed(seed)``."""
    own, other = run_model(student, take_inputs(batch), NEEDS), Teacher(teacher).run(batch, NEEDS)
    torch.manual_seed(seed)
    return Sobolev(**settings)(own, other, batch, 0.0)["sobolev"]


# ---- values ----------------------------------------------------------------------------------------------------------


def answer_linearly(embeddings, weights):
    """Outputs of a model whose one logit is weights . embeddings, of rows of three tokens of width 1."""
    words = torch.tensor([[[value] for value in embeddings]], requires_grad=True)
    logits = (words[..., 0] * torch.tensor(weights)).sum(dim=1, keepdim=True)
    return ModelOutput(logits=logits, input_embeddings=words, attached_logits=logits)


@pytest.mark.parametrize(
    ("full", "expected"),
    [(False, ((2 - 4) ** 2 + (30 - 5) ** 2) / 2), (True, ((2 - 1) ** 2 + (3 - 1) ** 2) / 2)],
)
def test_derivatives_by_hand(full, expected):
    """Of 2 a + 3 b + 9 c at (1, 10, 7) and a + b + 8 c at (4, 5, 6), the third token padding; v is 1 or -1."""
    student = answer_linearly([1.0, 10.0, 7.0], [2.0, 3.0, 9.0])
    teacher = answer_linearly([4.0, 5.0, 6.0], [1.0, 1.0, 8.0])
    batch = {"attention_mask": torch.tensor([[1, 1, 0]]), "input_ids": torch.tensor([[5, 6, 0]])}
    found = Sobolev(full=full, weight=0.5)(student, teacher, batch, 0.0)
    assert found["sobolev"].item() == pytest.approx(0.5 * expected)


def embed(model, ids):
    return model.get_input_embeddings()(ids).detach()


def answer(model, embeddings):
    """Logits (classes,) of one row without padding, by another way into the model."""
    return model(inputs_embeds=embeddings[None]).logits[0]


def turn_up(model, ids, direction, step=1e-5):
    """d/ds_t <z, v> by central differences, a token t: (seq,)."""
    words, slopes = embed(model, ids), []
    for token in range(len(ids)):
        scale = torch.ones(len(ids), 1, dtype=torch.double)
        scale[token] = step
        higher, lower = words.clone(), words.clone()
        higher[token] *= 1 + step
        lower[token] *= 1 - step
        with torch.no_grad():
            change = answer(model, higher) - answer(model, lower)
        slopes.append(change @ direction / (2 * step))
    return torch.stack(slopes)


def project_jacobian(model, ids, direction):
    """The whole Jacobian (classes, seq, width), then <J, v>."""
    with sdpa_kernel(SDPBackend.MATH):
        jacobian = torch.autograd.functional.jacobian(lambda e: answer(model, e), embed(model, ids))
    return torch.einsum("csw,c->sw", jacobian, direction)


def compare_naively(student, teacher, batch, slope):
    """The term from the paper's formula: v of the unit sphere a row, squares, rows one by one without padding."""
    torch.manual_seed(3)
    losses = []
    for ids, real in zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True):
        direction = torch.randn(len(LABELS))
        direction = (direction / direction.square().sum().sqrt()).double()
        own, other = (slope(model, ids[real], direction) for model in (student, teacher))
        squares = (own - other).square()
        losses.append((squares.sum(dim=-1) if squares.dim() == 2 else squares).mean())
    return sum(losses) / len(losses)


def test_the_scale_derivative_is_that_of_finite_differences(student, teacher, batch):
    student, teacher = student.eval().double(), teacher.double()
    batch.pop("token_type_ids", None)
    expected = compare_naively(student, teacher, batch, turn_up)
    found = measure(student, teacher, batch, seed=3)
    assert found > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8)


def test_the_whole_derivative_is_that_of_the_jacobian(student, make_bert, batch):
    student, teacher = student.eval().double(), make_bert(seed=5, labels=LABELS, num_hidden_layers=3).double()
    batch.pop("token_type_ids", None)
    expected = compare_naively(student, teacher.eval(), batch, project_jacobian)
    torch.testing.assert_close(
        measure(student, teacher, batch, seed=3, full=True), expected, rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("full", [False, True])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(make_bert, batch, full):
    found = measure(make_bert(seed=4).eval(), make_bert(seed=4), batch, full=full)
    assert found.item() == pytest.approx(0, abs=1e-10)
    assert measure(make_bert(seed=4).eval(), make_bert(seed=5), batch, full=full).item() > 1e-4


def test_padding_changes_nothing(student, teacher, batch):
    longer = {name: torch.nn.functional.pad(value, (0, 4)) for name, value in take_inputs(batch).items()}
    student.eval()
    torch.testing.assert_close(
        measure(student, teacher, longer), measure(student, teacher, batch), rtol=1e-4, atol=1e-7
    )


def test_labels_in_another_order_are_matched_in_the_derivative_too(student, make_bert, batch):
    plain = make_bert(seed=6, labels=LABELS).eval()
    turned = make_bert(seed=6, labels=("yes", "no", "maybe")).eval()
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(turned.classifier, name).copy_(getattr(plain.classifier, name)[[2, 0, 1]])
    found = []
    for model in (plain, turned):
        teacher = Teacher(model)
        teacher.match_labels(student.config)
        torch.manual_seed(0)
        own = run_model(student.eval(), take_inputs(batch), NEEDS)
        found.append(Sobolev()(own, teacher.run(batch, NEEDS), batch, 0.0)["sobolev"])
    torch.testing.assert_close(*found)


def test_directions_are_unit_vectors_and_a_batch_in_two_halves_draws_the_same():
    torch.manual_seed(0)
    whole = draw_directions(40, 20)
    torch.manual_seed(0)
    assert torch.equal(torch.cat([draw_directions(10, 20), draw_directions(30, 20)]), whole)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(40))
    assert torch.unique(whole, dim=0).shape == whole.shape
    torch.manual_seed(0)
    many = draw_directions(4000, 3)  # uniform: no direction is preferred
    torch.testing.assert_close(many.T @ many / 4000, torch.eye(3) / 3, rtol=0, atol=0.03)
    assert many.mean(dim=0).abs().max() < 0.03


# ---- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
@pytest.mark.parametrize("full", [False, True])
def test_gradients_reach_every_weight_of_the_student_and_none_of_the_teacher(
    make_bert, teacher, batch, backend, full
):
    """All but the last layer's bias, which no derivative sees; key biases change no attention, so theirs are zero."""
    student = make_bert(seed=2, labels=LABELS, hidden_size=24, num_attention_heads=4)
    for model in (student, teacher):
        model.set_attn_implementation(backend)
    measure(student, teacher, batch, full=full).backward()
    missed = {name for name, p in student.named_parameters() if p.grad is None or not p.grad.any()}
    assert {name for name in missed if not name.endswith("key.bias")} == {"classifier.bias"}
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_the_gradient_is_that_of_finite_differences(student, teacher, batch):
    """Of one weight deep inside, so of a second derivative."""
    student, teacher = student.eval().double(), teacher.double()
    weight = student.bert.encoder.layer[0].attention.self.query.weight
    measure(student, teacher, batch).backward()
    found, losses = weight.grad[1, 2].item(), []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            weight[1, 2] += step
        losses.append(measure(student, teacher, batch).item())
        with torch.no_grad():
            weight[1, 2] -= step
    assert found == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-4)


def test_what_a_teacher_gives_beside_the_derivative_has_no_gradient(teacher, batch):
    outputs = Teacher(teacher).run(batch, NEEDS | {"hidden_states", "queries"})
    others = [outputs["logits"], *outputs["hidden_states"], *outputs["queries"]]
    assert not any(value.requires_grad for value in others)
    assert outputs["attached_logits"].requires_grad and outputs["input_embeddings"].is_leaf
    assert not Teacher(teacher).run(batch)["logits"].requires_grad


def test_the_hook_is_gone_afterwards_and_gradients_are_off_again(teacher, batch):
    with torch.no_grad():
        run_model(teacher, take_inputs(batch), NEEDS)
        assert not torch.is_grad_enabled()
    with pytest.raises(ValueError, match="exactly one of input_ids"):
        run_model(teacher, {"attention_mask": batch["attention_mask"]}, NEEDS)
    assert not teacher.get_input_embeddings()._forward_hooks


# ---- training --------------------------------------------------------------------------------------------------------


def measure_all(student, teacher, rows, tokenizer):
    """The term over all rows, the same four directions a row whenever it is measured."""
    batch = DistillationCollator(tokenizer)([rows[i] for i in range(len(rows))])
    return sum(measure(student.eval(), teacher, batch, seed).item() for seed in range(4)) / 4


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_it_trains_beside_soft_targets_and_brings_the_derivatives_closer_than_those_alone(
    make_trainer, make_bert, teacher, rows, tokenizer, backend
):
    teacher.set_attn_implementation(backend)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    ends = []
    for objective in (SoftTargets(), SoftTargets() + Sobolev(weight=20.0)):
        student = make_bert(seed=2, labels=LABELS)
        student.set_attn_implementation(backend)
        start = measure_all(student, teacher, rows, tokenizer)
        trainer = make_trainer(
            model=student, teacher=teacher, objective=objective, train_dataset=rows, num_train_epochs=10
        )
        trainer.train()
        ends.append(measure_all(student, teacher, rows, tokenizer))
    assert ends[1] < 0.5 * start and ends[1] < 0.5 * ends[0]
    logged = {name for entry in trainer.state.log_history for name in entry}
    assert {"sobolev", "soft_targets"} <= logged
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_four_rows_make_the_same_step_whole_and_accumulated(make_trainer, make_bert, teacher, rows):
    results = []
    for size, accumulation in ((4, 1), (2, 2), (1, 4)):
        student = make_bert(seed=2, labels=LABELS)
        make_trainer(
            model=student, teacher=teacher, train_dataset=rows, max_steps=2, optim="sgd", learning_rate=0.1,
            max_grad_norm=0.0, per_device_train_batch_size=size, gradient_accumulation_steps=accumulation,
        ).train()  # fmt: skip
        results.append(student.state_dict())
    start = make_bert(seed=2, labels=LABELS).state_dict()
    key = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.allclose(start[key], results[0][key], atol=1e-4)
    for accumulated in results[1:]:
        for name, value in results[0].items():
            torch.testing.assert_close(accumulated[name], value, rtol=1e-4, atol=1e-6)


def test_a_resumed_run_draws_what_it_would_have_drawn(make_trainer, make_bert, teacher, rows, tmp_path):
    def train(folder, resume=None):
        student = make_bert(seed=2, labels=LABELS, hidden_dropout_prob=0.1)
        trainer = make_trainer(
            folder, model=student, teacher=teacher, train_dataset=rows, save_strategy="steps", save_steps=2
        )
        trainer.train(resume_from_checkpoint=resume)
        return student.state_dict()

    whole = train("whole")
    resumed = train("resumed", str(tmp_path / "whole" / "checkpoint-4"))
    assert find_last_checkpoint(tmp_path / "whole").endswith("checkpoint-6")
    assert all(torch.equal(whole[name], value) for name, value in resumed.items())


def test_activation_checkpointing_makes_the_same_step_with_eager_and_is_refused_with_sdpa(
    make_trainer, make_bert, teacher, rows
):
    def train(backend, checkpointing):
        student = make_bert(seed=2, labels=LABELS)
        student.set_attn_implementation(backend)
        make_trainer(
            model=student,
            teacher=teacher,
            train_dataset=rows,
            max_steps=1,
            activation_checkpointing=checkpointing,
        ).train()
        return student.state_dict()

    results = [train("eager", checkpointing) for checkpointing in (False, True)]
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value)
    with pytest.raises(InputError, match=r'call set_attn_implementation\("eager"\) on the student'):
        train("sdpa", True)


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_cached_logits_are_not_enough(make_trainer, student, teacher, rows, tokenizer):
    logits, _ = compute_logits(Teacher(teacher), rows, DistillationCollator(tokenizer))
    labelled = EncodedRows(rows.columns, rows.offsets, rows.labels, logits)
    with pytest.raises(
        ValueError, match=r"Sobolev reads the teacher's input_embeddings; pass teacher=.*not enough"
    ):
        make_trainer(model=student, train_dataset=labelled).train()


def test_a_teacher_of_other_tokens_is_refused(make_bert, student, make_rows, tokenizer, other_tokenizer):
    texts = Dataset.from_list(make_rows(4))
    rows = encode_for_teacher(texts, other_tokenizer, ["text"], 32)
    columns = [name for name in rows.column_names if name.startswith("teacher_")]
    own = encode_rows(texts, tokenizer, ["text"], 32)
    rows = [own[i] | {name: rows[i][name] for name in columns} for i in range(4)]
    batch = DistillationCollator(tokenizer, other_tokenizer)(rows)
    teacher = Teacher(make_bert(labels=LABELS, vocab_size=len(other_tokenizer)), other_tokenizer)
    own = run_model(student, take_inputs(batch), NEEDS)
    with pytest.raises(InputError, match="reads other tokens than the student"):
        Sobolev()(own, teacher.run(batch, NEEDS), batch, 0.0)


def test_whole_derivatives_of_two_widths_are_refused(student, teacher, batch):
    with pytest.raises(InputError, match="the student's word embeddings are 16 wide and the teacher's 24"):
        measure(student, teacher, batch, full=True)


def test_several_teachers_are_refused(teacher, batch):
    with pytest.raises(InputError, match="2 teachers were given, but the objective reads"):
        Teacher([teacher, teacher]).run(batch, NEEDS)


def test_other_classes_and_taggers_are_refused(student, make_bert, batch):
    with pytest.raises(ValueError, match="the student has 3 logits a row and the teacher 2"):
        measure(student, make_bert(), batch)
    own = run_model(student, take_inputs(batch), NEEDS)
    own["attached_logits"] = own["attached_logits"][:, None]
    with pytest.raises(InputError, match="Sobolev compares classifiers of texts"):
        Sobolev()(own, own, batch, 0.0)


@pytest.mark.parametrize(
    "student",
    [
        BiLSTMForSequenceClassification(BiLSTMConfig(vocab_size=90, embedding_size=4, hidden_size=3)),
        CNN(CNNConfig(vocab_size=90, embedding_size=4, filters=3, ignored_token_ids=[2, 3])),
    ],
    ids=["bilstm", "cnn"],
)
def test_students_that_read_their_words_in_another_order_are_refused(student, batch):
    with pytest.raises(
        InputError, match="does not embed the tokens of a batch all at once and as they stand"
    ):
        run_model(student, take_inputs(batch), NEEDS)
