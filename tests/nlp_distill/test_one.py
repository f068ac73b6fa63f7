"""ONE: its loss by hand and by loops, what its gradients reach, and a training in which every branch learns."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, TrainingArguments
from transformers.modeling_outputs import ModelOutput

from data_augment.errors import InputError
from nlp_distill import DistillationTrainer, HardLabels
from nlp_distill.batching import DistillationCollator
from nlp_distill.encoding import encode_rows
from nlp_distill.objectives import ONE
from nlp_distill.schedules import linear
from nlp_distill.students import BranchedForSequenceClassification


@pytest.fixture
def rows(make_rows, tokenizer):
    return encode_rows(make_rows(32), tokenizer, ["text"], 32)


@pytest.fixture
def batch(rows, tokenizer):
    return DistillationCollator(tokenizer)([rows[i] for i in range(8)])


@pytest.fixture
def make_student(make_bert):
    def make(branches=3, depth=1, **settings):
        return BranchedForSequenceClassification.from_classifier(
            make_bert(seed=2, **settings), branches, depth
        )

    return make


@pytest.fixture
def make_trainer(tokenizer, tmp_path):
    def make(student, rows, objective=None, **changes):
        settings = {
            "learning_rate": 2e-3,
            "num_train_epochs": 20,
            "per_device_train_batch_size": 8,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
        }
        own = {name: changes.pop(name) for name in ("eval_dataset", "compute_metrics") if name in changes}
        return DistillationTrainer(
            model=student,
            objective=ONE() if objective is None else objective,
            train_dataset=rows,
            processing_class=tokenizer,
            args=TrainingArguments(str(tmp_path / "run"), **settings | changes),
            **own,
        )

    return make


def run(student, batch):
    return student(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])


# ---- values ----------------------------------------------------------------------------------------------------------


def test_the_loss_by_hand():
    """Branches (log 3, 0) and (0, 0), half of each: (log sqrt 3, 0). At T = 1 class 0 has 3/4, 1/2, s / (s + 1)."""
    branches = torch.tensor([[[math.log(3), 0.0], [0.0, 0.0]]])
    outputs = ModelOutput(logits=branches.mean(dim=1), branch_logits=branches)
    found = ONE(temperature=1.0, distillation=2.0, weight=0.5)(
        outputs, None, {"labels": torch.tensor([0])}, 0.0
    )
    p = math.sqrt(3) / (math.sqrt(3) + 1)
    to_first = p * math.log(p / 0.75) + (1 - p) * math.log((1 - p) / 0.25)
    to_second = p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)
    assert found["branches"].item() == pytest.approx(0.5 * (-math.log(0.75) - math.log(0.5)), rel=1e-5)
    assert found["ensemble"].item() == pytest.approx(0.5 * -math.log(p), rel=1e-5)
    assert found["distillation"].item() == pytest.approx(0.5 * 2 * (to_first + to_second), rel=1e-5)


def soften(logits, temperature):
    exponents = [math.exp(z / temperature) for z in logits]
    return [e / sum(exponents) for e in exponents]


def test_the_loss_equals_loops_over_the_paper_s_equations(make_student, batch):
    student = make_student(labels=("a", "b", "c")).eval()
    batch["labels"] = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    with torch.no_grad():
        student.gate.weight.normal_(generator=torch.Generator().manual_seed(0))
    outputs = run(student, batch)
    temperature, sums = 3.0, {"branches": 0.0, "ensemble": 0.0, "distillation": 0.0}
    for row, label in enumerate(batch["labels"].tolist()):
        own, gate = outputs.branch_logits[row].tolist(), outputs.gate[row].tolist()
        mixed = [sum(g * z[c] for g, z in zip(gate, own, strict=True)) for c in range(3)]
        sums["ensemble"] -= math.log(soften(mixed, 1)[label])
        for logits in own:
            sums["branches"] -= math.log(soften(logits, 1)[label])
            pairs = zip(soften(mixed, temperature), soften(logits, temperature), strict=True)
            sums["distillation"] += temperature**2 * sum(p * math.log(p / q) for p, q in pairs)
    found = ONE()(outputs, None, batch, 0.0)
    assert found.keys() == sums.keys()
    for name, value in found.items():
        assert value.item() == pytest.approx(sums[name] / 8, rel=1e-4), name


def test_branches_that_agree_have_nothing_to_teach_each_other(make_bert, batch):
    student = BranchedForSequenceClassification.from_classifier(make_bert(seed=2), copy_heads=True).eval()
    found = ONE()(run(student, batch), None, batch, 0.0)
    assert found["distillation"].item() == pytest.approx(0, abs=1e-6)
    assert found["branches"].item() == pytest.approx(3 * found["ensemble"].item(), rel=1e-5)


def test_rows_without_a_label_learn_from_the_ensemble_alone(make_student, batch):
    student = make_student().eval()
    outputs = run(student, batch)
    whole = ONE()(outputs, None, batch, 0.0)
    nothing = ONE()(outputs, None, batch | {"labels": torch.full((8,), -100)}, 0.0)
    assert nothing["branches"].item() == nothing["ensemble"].item() == 0
    torch.testing.assert_close(nothing["distillation"], whole["distillation"])


def test_the_weight_of_the_distillation_follows_a_schedule(make_student, batch):
    outputs = run(make_student().eval(), batch)
    full = ONE()(outputs, None, batch, 0.5)
    half = ONE(distillation=linear(0.0, 1.0))(outputs, None, batch, 0.5)
    torch.testing.assert_close(half["distillation"], full["distillation"] / 2)
    torch.testing.assert_close(half["branches"], full["branches"])


# ---- gradients -------------------------------------------------------------------------------------------------------


def reach(student, loss):
    """Names of the weights with a gradient that is not zero."""
    student.zero_grad()
    loss.backward(retain_graph=True)
    return {
        name for name, p in student.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-9
    }


def test_gradients_reach_every_weight(make_student, batch):
    """Key biases change no attention: theirs are zero but for rounding."""
    student = make_student(num_hidden_layers=3, depth=2)
    terms = ONE()(run(student, batch), None, batch, 0.0)
    names = {name for name, _ in student.named_parameters() if "key.bias" not in name}
    assert reach(student, sum(terms.values())) >= names
    assert all(p.requires_grad for p in student.parameters())


def test_the_ensemble_does_not_move_towards_its_branches(make_student, batch):
    """The KL reaches branches and trunk and never the gate, which learns from the labels through the ensemble."""
    student = make_student()
    outputs = run(student, batch)
    terms = ONE()(outputs, None, batch, 0.0)
    reached = {name: reach(student, value) for name, value in terms.items()}
    gate = {"gate.weight", "gate.bias"}
    assert (
        gate & reached["distillation"] == gate & reached["branches"] == set() and gate <= reached["ensemble"]
    )
    assert any(name.startswith("trunk") for name in reached["distillation"])
    assert {name.split(".")[1] for name in reached["distillation"] if "branches" in name} == {"0", "1", "2"}
    # The gradient by a branch's logits is that of KL with a constant target: T (p - q) a row.
    own = outputs.branch_logits
    [found] = torch.autograd.grad(terms["distillation"], own)
    gaps = torch.softmax(own / 3, dim=-1) - torch.softmax(outputs.logits / 3, dim=-1)[:, None]
    torch.testing.assert_close(found, 3 * gaps / 8)


# ---- training --------------------------------------------------------------------------------------------------------


def test_it_trains_without_a_teacher_and_every_branch_learns(
    make_student, make_trainer, rows, batch, tmp_path
):
    student = make_student()
    seen = []

    def measure(prediction):
        seen.append(prediction.predictions)
        return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}

    trainer = make_trainer(student, rows, eval_dataset=rows, compute_metrics=measure)
    start = trainer.evaluate()["eval_accuracy"]
    trainer.train()
    history = trainer.state.log_history
    for name in ("branches", "ensemble", "loss"):
        values = [entry[name] for entry in history if name in entry]
        assert sum(values[-4:]) < 0.3 * sum(values[:4]), name
    assert trainer.evaluate()["eval_accuracy"] > max(start, 0.9)
    student.eval()
    outputs = run(student, batch)
    np.testing.assert_allclose(
        seen[-1][:8], outputs.logits.detach().numpy(), rtol=1e-4, atol=1e-4
    )  # the ensemble's
    for number in range(3):
        assert (outputs.branch_logits[:, number].argmax(-1) == batch["labels"]).float().mean() >= 0.9
        alone = student.branch(number)(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        torch.testing.assert_close(alone.logits, outputs.branch_logits[:, number])
    trainer.save_model(str(tmp_path / "student"))
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student").eval()
    torch.testing.assert_close(run(loaded, batch).logits, outputs.logits)


def test_distillation_is_what_makes_the_branches_agree(make_student, make_trainer, rows, batch):
    gaps = []
    for distillation in (0.0, 1.0):
        student = make_student()
        make_trainer(student, rows, ONE(distillation=distillation)).train()
        gaps.append(ONE()(run(student.eval(), batch), None, batch, 0.0)["distillation"].item())
    assert gaps[1] < 0.5 * gaps[0]


def test_four_rows_make_the_same_step_whole_and_accumulated(make_student, make_trainer, rows):
    results = []
    for size, accumulation in ((4, 1), (2, 2), (1, 4)):
        student = make_student()
        make_trainer(
            student, rows, max_steps=2, optim="sgd", learning_rate=0.1, max_grad_norm=0.0,
            per_device_train_batch_size=size, gradient_accumulation_steps=accumulation,
        ).train()  # fmt: skip
        results.append(student.state_dict())
    assert not torch.equal(make_student().state_dict()["gate.weight"], results[0]["gate.weight"])
    for accumulated in results[1:]:
        for name, value in results[0].items():
            torch.testing.assert_close(accumulated[name], value, rtol=1e-4, atol=1e-6)


def test_a_resumed_run_ends_with_the_weights_of_the_uninterrupted_one(
    make_student, make_trainer, rows, tmp_path
):
    results = []
    for resume in (None, str(tmp_path / "run" / "checkpoint-4")):
        student = make_student(hidden_dropout_prob=0.2)
        trainer = make_trainer(student, rows, num_train_epochs=2, save_strategy="steps", save_steps=4)
        trainer.train(resume_from_checkpoint=resume)
        results.append(student.state_dict())
    assert all(torch.equal(results[0][name], value) for name, value in results[1].items())


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_what_it_cannot_train_is_refused(make_bert, make_student, batch):
    with pytest.raises(InputError, match="temperature is 0; it must be a number above 0"):
        ONE(temperature=0)
    for below in (-1.0, float("nan"), linear(1.0, -0.5)):
        with pytest.raises(InputError, match=r"distillation is (-1.0|nan|-0.\d+); it must be 0 or more"):
            ONE(distillation=below)
    with pytest.raises(InputError, match=r"this student has none; give BranchedForSequenceClassification"):
        ONE()(run(make_bert(), batch), None, batch, 0.0)
    with pytest.raises(InputError, match="ONE needs two classes or more, and the student is a regression"):
        ONE()(run(make_student(labels=()), batch), None, batch, 0.0)
    del batch["labels"]
    with pytest.raises(InputError, match="ONE needs a 'labels' column"):
        ONE()(run(make_student(), batch), None, batch, 0.0)


def test_it_adds_to_other_objectives(make_student, batch):
    found = (ONE() + HardLabels())(run(make_student(), batch), None, batch, 0.0)
    assert set(found) == {"branches", "ensemble", "distillation", "hard_labels"}
    torch.testing.assert_close(found["hard_labels"], found["ensemble"])  # both of the ensemble's logits
