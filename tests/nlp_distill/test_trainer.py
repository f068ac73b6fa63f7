"""``DistillationTrainer``: each trap of the Trainer it stands on is a test here."""

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from data_augment.errors import InputError
from nlp_distill.batching import DistillationCollator
from nlp_distill.checkpoints import COMPLETE_MARK, find_last_checkpoint
from nlp_distill.encoding import EncodedRows, encode_rows
from nlp_distill.labelling import compute_logits
from nlp_distill.manifest import list_files
from nlp_distill.models import load_pretrained
from nlp_distill.objectives import HardLabels, LogitRegression, Objective, SoftTargets
from nlp_distill.optim import layerwise_groups
from nlp_distill.schedules import linear
from nlp_distill.stages import write_json
from nlp_distill.students import BiLSTMForSequenceClassification, build_bilstm
from nlp_distill.teachers import Teacher
from nlp_distill.trainer import (
    OBJECTIVE_FILE,
    DistillationTrainer,
    NonFiniteLossError,
    measure_lengths,
)

DROPOUT = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
# Where two ways to the same step are compared: Adam and clipping would hide gradients that are k times too large, and
# Adam makes whole steps of the rounding noise of gradients that are zero (a BERT's key biases have such).
PLAIN_DESCENT = {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0}
MIXTURE = SoftTargets(2.0, weight=0.7) + HardLabels(weight=0.3)


class Projection(Objective):
    """Squared distance of the projected student's first hidden state to the teacher's: it learns the projection."""

    needs = frozenset({"hidden_states"})

    def __init__(self, student_width=16, teacher_width=24):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.projection = nn.Linear(student_width, teacher_width)

    def forward(self, student_outputs, teacher_outputs, batch, progress):
        student, teacher = student_outputs.hidden_states[-1][:, 0], teacher_outputs.hidden_states[-1][:, 0]
        return {"projection": (self.projection(student) - teacher).square().mean()}


@pytest.fixture
def make_arguments(tmp_path):
    def make(folder="run", **changes):
        settings = {
            "learning_rate": 1e-2,
            "num_train_epochs": 1,
            "per_device_train_batch_size": 4,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "dataloader_pin_memory": False,
        }
        return TrainingArguments(str(tmp_path / folder), **settings | changes)

    return make


@pytest.fixture
def teacher(make_bert):
    return make_bert(seed=7, hidden_size=24)


@pytest.fixture
def rows(make_rows, tokenizer):
    return encode_rows(make_rows(22), tokenizer, ["text"], 64)


@pytest.fixture
def labelled_rows(rows, teacher, tokenizer):
    """Rows with the teacher's cached logits."""
    logits, _ = compute_logits(Teacher(teacher), rows, DistillationCollator(tokenizer))
    return EncodedRows(rows.columns, rows.offsets, rows.labels, logits)


@pytest.fixture
def make_trainer(make_bert, make_arguments, tokenizer, labelled_rows):
    """A trainer of a tiny BERT on cached logits; keyword arguments change it, those of TrainingArguments too."""
    names = {"model", "teacher", "objective", "train_dataset", "eval_dataset", "compute_metrics", "callbacks",
             "optimizer_cls_and_kwargs", "data_collator"}  # fmt: skip

    def make(folder="run", **changes):
        own = {name: changes.pop(name) for name in names & changes.keys()}
        settings = {"objective": MIXTURE, "train_dataset": labelled_rows} | own
        settings.setdefault("model", None)
        settings["model"] = settings["model"] or make_bert()
        return DistillationTrainer(
            args=make_arguments(folder, **changes), processing_class=tokenizer, **settings
        )

    return make


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_equal(found, expected, **tolerance):
    """Bit-equal weights, or close ones where a tolerance is given."""
    assert found.keys() == expected.keys()
    for name in expected:
        if tolerance:
            torch.testing.assert_close(found[name], expected[name], **tolerance)
        else:
            assert torch.equal(found[name], expected[name]), name


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


# ---- (a) gradient accumulation ------------------------------------------------------------------------------------

OBJECTIVES = {
    "hard": HardLabels,
    "soft": lambda: SoftTargets(2.0),
    "regression": LogitRegression,
    "mixture": lambda: SoftTargets(2.0) + HardLabels(),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_four_rows_make_the_same_step_whole_and_accumulated(
    make_trainer, make_bert, labelled_rows, objective
):
    initial, results = weights(make_bert()), []
    for batch, accumulation in ((4, 1), (2, 2), (1, 4)):
        trainer = make_trainer(
            objective=OBJECTIVES[objective](),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_steps=1,
            **PLAIN_DESCENT,
        )
        trainer.train()
        results.append(weights(trainer.student))
    assert changed(initial, results[0])
    for accumulated in results[1:]:
        assert_equal(accumulated, results[0], rtol=1e-4, atol=1e-6)


def test_the_student_of_the_accumulation_test_is_one_whose_forward_takes_kwargs(make_bert):
    import inspect

    kinds = [parameter.kind for parameter in inspect.signature(make_bert().forward).parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD in kinds


def test_one_step_is_the_step_of_torch_alone(make_trainer, make_bert, labelled_rows, tokenizer):
    trainer = make_trainer(
        train_dataset=EncodedRows(
            labelled_rows.columns,
            labelled_rows.offsets[:5],
            labelled_rows.labels[:4],
            labelled_rows.teacher_logits[:4],
        ),
        lr_scheduler_type="constant",
        **PLAIN_DESCENT,
    )
    trainer.train()
    model = make_bert().train()
    batch = DistillationCollator(tokenizer)([labelled_rows[i] for i in range(4)])
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    soft = nn.functional.kl_div(
        (logits / 2).log_softmax(-1), (batch["teacher_logits"] / 2).softmax(-1), reduction="batchmean"
    )
    loss = 0.7 * 4 * soft + 0.3 * nn.functional.cross_entropy(logits, batch["labels"])
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    assert_equal(weights(trainer.student), weights(model), rtol=1e-4, atol=1e-6)


# ---- (b) what the objective learns --------------------------------------------------------------------------------


def test_the_parameters_of_an_objective_are_trained(make_trainer, teacher):
    objective = Projection() + SoftTargets(2.0)
    before = weights(objective)
    make_trainer(teacher=teacher, objective=objective).train()
    assert changed(before, weights(objective)) == {"parts.0.projection.weight", "parts.0.projection.bias"}


def test_the_parameters_of_an_objective_are_clipped_together_with_the_students(
    make_trainer, teacher, make_bert
):
    student, objective = make_bert(), Projection()
    both = nn.ModuleList([student, objective])
    before = weights(both)
    make_trainer(
        model=student, teacher=teacher, objective=objective, max_steps=1, optim="sgd", learning_rate=1.0,
        lr_scheduler_type="constant", max_grad_norm=0.01,
    ).train()  # fmt: skip
    after = weights(both)
    moved = {name: (after[name] - before[name]).norm().item() for name in before}
    assert moved["1.projection.weight"] > 1e-4 and moved["0.bert.embeddings.word_embeddings.weight"] > 1e-4
    assert np.linalg.norm(list(moved.values())) == pytest.approx(0.01, rel=1e-3)


def test_the_gradients_of_an_objective_are_zeroed_after_each_step(make_trainer, teacher):
    objective = Projection()
    make_trainer(teacher=teacher, objective=objective).train()
    assert objective.projection.weight.grad is None or not objective.projection.weight.grad.any()


def test_a_resumed_run_restores_the_parameters_of_the_objective(make_trainer, make_bert, teacher, tmp_path):
    first = make_trainer(teacher=teacher, objective=Projection(), save_strategy="steps", save_steps=2)
    first.train()
    fresh = Projection()
    with torch.no_grad():
        fresh.projection.weight.zero_()
    second = make_trainer("second", model=make_bert(3), teacher=teacher, objective=fresh)
    second.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    assert_equal(weights(second.model), weights(first.model))


def test_a_checkpoint_keeps_the_objectives_parameters_beside_a_plain_student(make_trainer, teacher, tmp_path):
    objective = Projection()
    trainer = make_trainer(teacher=teacher, objective=objective, save_strategy="steps", save_steps=6)
    trainer.train()
    checkpoint = tmp_path / "run" / "checkpoint-6"
    assert_equal(load_file(checkpoint / OBJECTIVE_FILE), weights(objective))
    assert load_file(checkpoint / "model.safetensors").keys() == weights(trainer.student).keys()


# ---- (c) the saved student ----------------------------------------------------------------------------------------


def test_the_saved_student_is_a_plain_model_that_answers_as_the_trained_one(
    make_trainer, teacher, tmp_path, tokenizer
):
    trainer = make_trainer(teacher=teacher, objective=Projection() + SoftTargets(2.0))
    trainer.train()
    trainer.save_model(str(tmp_path / "student"))
    loaded, report = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "student", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert_equal(weights(loaded), weights(trainer.student))
    batch = tokenizer(["a good film", "bad"], padding=True, return_tensors="pt")
    assert torch.equal(loaded(**batch).logits, trainer.student.eval()(**batch).logits)
    assert not (tmp_path / "student" / OBJECTIVE_FILE).exists()
    assert loaded.config.id2label == {0: "negative", 1: "positive"}


def test_the_tokenizer_is_saved_with_the_student(make_trainer, tmp_path, tokenizer):
    make_trainer().save_model(str(tmp_path / "student"))
    loaded = type(tokenizer).from_pretrained(tmp_path / "student")
    assert loaded("a good film")["input_ids"] == tokenizer("a good film")["input_ids"]


# ---- (d) columns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remove_unused_columns", [True, False])
@pytest.mark.parametrize("kind", ["dataset", "list"])
def test_teacher_logits_reach_the_objective_and_other_columns_reach_no_forward(
    make_trainer, make_bert, labelled_rows, make_rows, kind, remove_unused_columns
):
    as_dicts = [
        {
            "id": row["id"],
            "text": row["text"],
            "input_ids": encoded["input_ids"].tolist(),
            "label": row["label"],
            "teacher_logits": encoded["teacher_logits"].tolist(),
        }
        for row, encoded in zip(make_rows(22), labelled_rows, strict=True)
    ]
    seen = []

    class Recorder(SoftTargets):
        def forward(self, student_outputs, teacher_outputs, batch, progress):
            seen.append((set(batch), teacher_outputs["logits"]))
            return super().forward(student_outputs, teacher_outputs, batch, progress)

    student = make_bert()
    forward, inputs = student.forward, []
    student.forward = lambda input_ids, attention_mask: (
        inputs.append(len(input_ids)) or forward(input_ids=input_ids, attention_mask=attention_mask)
    )
    make_trainer(
        model=student,
        objective=Recorder(2.0),
        train_dataset=Dataset.from_list(as_dicts) if kind == "dataset" else as_dicts,
        remove_unused_columns=remove_unused_columns,
        max_steps=2,
    ).train()
    assert inputs == [4, 4]
    cached = {tuple(row["teacher_logits"].tolist()) for row in labelled_rows}
    for columns, logits in seen:
        assert columns == {"input_ids", "attention_mask", "labels", "teacher_logits"}
        assert {tuple(row) for row in logits.tolist()} <= cached


# ---- (e) the teacher ----------------------------------------------------------------------------------------------


def test_training_changes_every_trainable_weight_of_the_student_and_none_of_the_teacher(
    make_trainer, make_bert, tokenizer, make_rows
):
    teacher = make_bert(seed=7, hidden_size=24, **DROPOUT).train()
    student = make_bert()
    student.bert.embeddings.position_embeddings.weight.requires_grad_(False)
    before = weights(student), weights(teacher)
    pairs = encode_rows(make_rows(22), tokenizer, ["text", "second"], 64)
    make_trainer(model=student, teacher=teacher, train_dataset=pairs, num_train_epochs=2).train()
    trainable = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    # The bias of the keys adds the same number to all scores of a query, which softmax ignores: its gradient is 0.
    without_gradient = {name for name in trainable if name.endswith("key.bias")}
    assert changed(before[0], weights(student)) >= trainable - without_gradient
    assert "bert.embeddings.position_embeddings.weight" not in changed(before[0], weights(student))
    assert changed(before[1], weights(teacher)) == set()
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_teacher_is_in_no_checkpoint_and_not_among_the_trained_parameters(
    make_trainer, teacher, tmp_path
):
    trainer = make_trainer(teacher=teacher, objective=SoftTargets(2.0), save_strategy="steps", save_steps=6)
    trainer.train()
    optimised = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not optimised & {id(parameter) for parameter in teacher.parameters()}
    stored = sum(
        value.numel() for value in load_file(tmp_path / "run/checkpoint-6/model.safetensors").values()
    )
    assert stored == sum(parameter.numel() for parameter in trainer.student.parameters())
    assert not (tmp_path / "run/checkpoint-6" / OBJECTIVE_FILE).exists()  # soft targets learn nothing


def test_a_teacher_with_other_labels_is_refused_before_any_training(make_trainer, make_bert):
    with pytest.raises(InputError, match="the teacher's are"):
        make_trainer(teacher=make_bert(labels=("yes", "no")))


def test_a_teacher_with_permuted_labels_trains_the_student_as_the_ordered_one(
    make_trainer, make_bert, teacher, rows
):
    permuted = make_bert(labels=("positive", "negative"), hidden_size=24)
    permuted.load_state_dict(weights(teacher))
    with torch.no_grad():
        permuted.classifier.weight.copy_(teacher.classifier.weight[[1, 0]])
        permuted.classifier.bias.copy_(teacher.classifier.bias[[1, 0]])
    results = []
    for model in (teacher, permuted):
        trainer = make_trainer(teacher=model, objective=SoftTargets(2.0), train_dataset=rows, **PLAIN_DESCENT)
        trainer.train()
        results.append(weights(trainer.student))
    assert_equal(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_an_objective_that_lacks_its_teacher_says_so(make_trainer, rows):
    with pytest.raises(ValueError, match="pass teacher="):
        make_trainer(objective=SoftTargets(2.0), train_dataset=rows).train()


def test_the_default_objective_is_fine_tuning_on_the_labels(make_trainer, rows):
    results = []
    for objective in (None, HardLabels()):
        trainer = make_trainer(objective=objective, train_dataset=rows)
        trainer.train()
        results.append(weights(trainer.student))
    assert_equal(*results)


# ---- (f) resuming -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "accumulation"), [(4, 1), (2, 2)])
@pytest.mark.parametrize("strategy", ["group_by_length", "random"])
@pytest.mark.parametrize("step", [2, 6, 8])  # in the first epoch, between the two, in the second
def test_a_resumed_run_ends_with_the_weights_of_the_uninterrupted_one(
    make_trainer, make_bert, rows, tmp_path, batch, accumulation, strategy, step
):
    settings = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "train_sampling_strategy": strategy,
        "eval_dataset": rows,
        "eval_strategy": "steps",
        "eval_steps": 2,
    }
    whole = make_trainer("whole", model=make_bert(**DROPOUT), save_strategy="steps", save_steps=2, **settings)
    whole.train()
    assert whole.state.global_step == 12
    resumed = make_trainer("resumed", model=make_bert(3, **DROPOUT), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
    assert resumed.state.global_step == 12
    assert_equal(weights(resumed.student), weights(whole.student))


def test_epochs_see_the_rows_in_different_orders(make_trainer, make_bert):
    student, batches = make_bert(), []
    forward = student.forward
    student.forward = lambda input_ids, attention_mask: (
        batches.append(input_ids.tolist()) or forward(input_ids=input_ids, attention_mask=attention_mask)
    )
    make_trainer(model=student, num_train_epochs=2, train_sampling_strategy="group_by_length").train()
    assert len(batches) == 12 and batches[:6] != batches[6:]


def test_resuming_from_the_newest_skips_a_torn_checkpoint(make_trainer, make_bert, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2, "train_sampling_strategy": "group_by_length"}
    whole = make_trainer(model=make_bert(**DROPOUT), **settings)
    whole.train()
    for step in (4, 6):
        torn = tmp_path / "run" / f"checkpoint-{step}"
        (torn / COMPLETE_MARK).unlink()
        (torn / "model.safetensors").write_bytes(b"half a file")
    assert find_last_checkpoint(tmp_path / "run") == str(tmp_path / "run" / "checkpoint-2")
    resumed = make_trainer(model=make_bert(3, **DROPOUT), **settings)
    resumed.train(resume_from_checkpoint=True)
    assert_equal(weights(resumed.student), weights(whole.student))
    assert find_last_checkpoint(tmp_path / "run") == str(tmp_path / "run" / "checkpoint-6")


def test_the_newest_checkpoint_goes_by_number_and_not_by_name(tmp_path):
    for step in (9, 10, 100):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        write_json(folder / COMPLETE_MARK, list_files(folder))
    shutil.rmtree(tmp_path / "checkpoint-100")
    assert find_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


@pytest.mark.parametrize("existed", [False, True])
def test_a_checkpoint_whose_writing_was_interrupted_carries_no_mark(
    make_trainer, tmp_path, monkeypatch, existed
):
    folder = tmp_path / "run" / "checkpoint-2"
    if existed:
        folder.mkdir(parents=True)
        (folder / COMPLETE_MARK).touch()

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", stop)
    with pytest.raises(KeyboardInterrupt):
        make_trainer(save_strategy="steps", save_steps=2).train()
    assert (folder / "model.safetensors").exists()
    assert not (folder / COMPLETE_MARK).exists()
    assert find_last_checkpoint(tmp_path / "run") is None


def test_resuming_where_nothing_is_complete_raises_and_says_so(make_trainer):
    with pytest.raises(ValueError, match="no complete checkpoint in"):
        make_trainer().train(resume_from_checkpoint=True)


# ---- (g) losses that are not finite -------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_nan_loss_stops_at_its_step_and_reaches_no_weight(make_trainer, tmp_path, accumulation):
    settings = {
        "gradient_accumulation_steps": accumulation,
        "per_device_train_batch_size": 4 // accumulation,
        "save_strategy": "steps",
        "save_steps": 1,
    }
    healthy = make_trainer("healthy", **settings)
    healthy.train()
    steps = []

    class Poisoned(SoftTargets):
        def forward(self, student_outputs, teacher_outputs, batch, progress):
            steps.append(progress)
            terms = super().forward(student_outputs, teacher_outputs, batch, progress)
            return {
                name: value * (float("nan") if progress >= 2 / 6 else 1.0) for name, value in terms.items()
            }

    trainer = make_trainer(
        "poisoned", objective=Poisoned(2.0, weight=0.7) + HardLabels(weight=0.3), **settings
    )
    with pytest.raises(NonFiniteLossError, match="the loss is nan at step 3"):
        trainer.train()
    assert len(steps) == 2 * accumulation + 1
    expected = load_file(tmp_path / "healthy" / "checkpoint-2" / "model.safetensors")
    assert_equal(weights(trainer.student), expected)
    assert find_last_checkpoint(tmp_path / "poisoned").endswith("checkpoint-2")


def test_nan_in_the_cached_logits_stops_the_training(make_trainer, labelled_rows):
    labelled_rows.teacher_logits[:] = np.nan
    with pytest.raises(NonFiniteLossError, match="teacher_logits"):
        make_trainer().train()


def test_an_infinite_loss_stops_the_training(make_trainer):
    with pytest.raises(NonFiniteLossError, match="the loss is inf"):
        make_trainer(objective=HardLabels(weight=float("inf"))).train()


# ---- (h) logs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 1), (1, 2)])
def test_every_term_is_logged_and_the_terms_add_up_to_the_loss(
    make_trainer, rows, labelled_rows, batch, accumulation
):
    trainer = make_trainer(
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        logging_steps=3,
        eval_strategy="steps",
        eval_steps=2,
        eval_dataset=rows,
    )
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in entries] == [3, 6, 9]
    for entry in entries:
        assert entry["soft_targets"] > 0 and entry["hard_labels"] > 0
        assert entry["soft_targets"] + entry["hard_labels"] == pytest.approx(entry["loss"], rel=1e-4)


def test_the_logged_term_is_the_mean_over_the_steps_since_the_last_log(make_trainer):
    every, third = make_trainer(), make_trainer(logging_steps=3)
    every.train()
    third.train()
    single = [entry["hard_labels"] for entry in every.state.log_history if "loss" in entry]
    means = [entry["hard_labels"] for entry in third.state.log_history if "loss" in entry]
    assert means == pytest.approx([np.mean(single[:3]), np.mean(single[3:])], rel=1e-5)


def test_progress_runs_from_zero_towards_one_in_optimiser_steps(make_trainer):
    seen = []

    class Recorder(HardLabels):
        def forward(self, student_outputs, teacher_outputs, batch, progress):
            seen.append(progress)
            return super().forward(student_outputs, teacher_outputs, batch, progress)

    make_trainer(
        objective=Recorder(), per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=4
    ).train()
    assert seen == [0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]


def test_schedules_follow_the_progress(make_trainer):
    trainer = make_trainer(
        objective=HardLabels(weight=linear(1.0, 0.0)), max_steps=4, learning_rate=0.0, num_train_epochs=1,
        train_dataset=[{"input_ids": [2, 7, 3], "labels": 1}] * 16,
    )  # fmt: skip
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.array(losses) / losses[0] == pytest.approx([1.0, 0.75, 0.5, 0.25], rel=1e-3)


# ---- (i) evaluation -----------------------------------------------------------------------------------------------


def test_evaluation_asks_nothing_of_the_teacher(make_trainer, teacher, rows, monkeypatch):
    trainer = make_trainer(teacher=teacher, objective=SoftTargets(2.0), train_dataset=rows)
    monkeypatch.setattr(teacher, "forward", lambda **inputs: pytest.fail("the teacher was asked"))
    assert trainer.evaluate(rows)["eval_loss"] > 0


def test_rows_without_teacher_logits_can_be_evaluated_by_a_student_that_learns_from_cached_ones(
    make_trainer, rows
):
    trainer = make_trainer(objective=SoftTargets(2.0))
    trainer.train()
    assert rows.teacher_logits is None
    assert trainer.evaluate(rows)["eval_loss"] > 0


@pytest.mark.parametrize("strategy", ["group_by_length", "random"])
def test_predictions_come_in_the_order_of_the_rows(make_trainer, rows, make_rows, tokenizer, strategy):
    trainer = make_trainer(
        train_sampling_strategy=strategy, per_device_eval_batch_size=4, compute_metrics=lambda prediction: {}
    )
    trainer.train()
    predicted = trainer.predict(rows)
    student = trainer.student.eval()
    with torch.no_grad():
        expected = [student(**tokenizer(row["text"], return_tensors="pt")).logits[0] for row in make_rows(22)]
    np.testing.assert_allclose(predicted.predictions, torch.stack(expected).numpy(), atol=1e-5)
    assert predicted.label_ids.tolist() == rows.labels.tolist()


def test_the_evaluation_loss_is_the_cross_entropy_to_the_labels(make_trainer, rows):
    trainer = make_trainer(compute_metrics=lambda prediction: {})
    predicted = trainer.predict(rows)
    expected = nn.functional.cross_entropy(
        torch.from_numpy(predicted.predictions), torch.from_numpy(predicted.label_ids)
    )
    assert predicted.metrics["test_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_rows_without_labels_can_be_predicted(make_trainer, rows):
    predicted = make_trainer().predict(EncodedRows(rows.columns, rows.offsets))
    assert predicted.predictions.shape == (22, 2) and predicted.label_ids is None


def keep_the_best(rows, *scores):
    """Settings of three epochs with these scores, 6 steps each, of which the best checkpoint is loaded in the end."""
    given = iter(scores)
    return {
        "num_train_epochs": 3,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": "score",
        "greater_is_better": True,
        "eval_dataset": rows,
        "compute_metrics": lambda prediction: {"score": next(given)},
    }


def test_the_checkpoint_with_the_best_score_is_the_student_in_the_end(make_trainer, rows, tmp_path):
    trainer = make_trainer(**keep_the_best(rows, 0.1, 0.9, 0.3))
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-12")
    assert_equal(weights(trainer.student), load_file(tmp_path / "run/checkpoint-12/model.safetensors"))
    assert changed(weights(trainer.student), load_file(tmp_path / "run/checkpoint-18/model.safetensors"))


def test_the_best_checkpoint_of_a_finished_training_is_found_where_the_run_was_moved_to(
    make_trainer, make_bert, rows, tmp_path
):
    settings = keep_the_best(rows, 0.9, 0.1, 0.3)
    make_trainer("begun", **settings).train()
    shutil.move(tmp_path / "begun", tmp_path / "moved")
    resumed = make_trainer("moved", model=make_bert(3), **settings)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.best_model_checkpoint == str(tmp_path / "moved" / "checkpoint-6")
    assert_equal(weights(resumed.student), load_file(tmp_path / "moved/checkpoint-6/model.safetensors"))


def test_a_training_that_goes_on_in_another_folder_knows_the_best_of_the_first(
    make_trainer, make_bert, rows, tmp_path
):
    make_trainer("first", **keep_the_best(rows, 0.9, 0.1, 0.3)).train()
    second = make_trainer("second", model=make_bert(3), **keep_the_best(rows, 0.3))
    second.train(resume_from_checkpoint=str(tmp_path / "first" / "checkpoint-12"))
    assert_equal(weights(second.student), load_file(tmp_path / "first/checkpoint-6/model.safetensors"))


def test_a_best_checkpoint_that_is_gone_is_missed_before_training_goes_on(make_trainer, rows, tmp_path):
    settings = keep_the_best(rows, 0.9, 0.1, 0.3)
    make_trainer(**settings).train()
    for step in (6, 18):
        shutil.rmtree(tmp_path / "run" / f"checkpoint-{step}")
    with pytest.raises(FileNotFoundError, match="the best checkpoint, .*checkpoint-6, is gone"):
        make_trainer(**settings).train(resume_from_checkpoint=True)


# ---- (j) online teachers ------------------------------------------------------------------------------------------


def test_cached_and_online_logits_train_the_same_student(make_trainer, teacher, rows, labelled_rows):
    results = []
    for settings in ({"teacher": teacher, "train_dataset": rows}, {"train_dataset": labelled_rows}):
        trainer = make_trainer(train_sampling_strategy="group_by_length", **PLAIN_DESCENT, **settings)
        trainer.train()
        results.append(weights(trainer.student))
    assert_equal(*results, rtol=1e-3, atol=1e-5)


def test_an_online_teacher_runs_in_the_precision_of_the_training(make_trainer, teacher, rows, monkeypatch):
    """And its answers come as the student's do, in fp32. Half precision itself crashes on some processors."""
    inside, seen = [], []

    @contextmanager
    def autocast(self, *args, **kwargs):
        inside.append(True)
        yield
        inside.pop()

    def answer(model, inputs, outputs):
        seen.append(bool(inside))
        outputs.logits = outputs.logits.bfloat16()
        return outputs

    monkeypatch.setattr(Accelerator, "autocast", autocast)
    trainer = make_trainer(teacher=teacher, train_dataset=rows)
    teacher.register_forward_hook(answer)
    batch = DistillationCollator(trainer.processing_class)([rows[0], rows[1]])
    assert trainer._teacher_outputs(batch)["logits"].dtype == torch.float32
    assert seen == [True]


@pytest.mark.parametrize("as_datasets", [True, False], ids=["datasets", "encoded"])
def test_an_online_teacher_tells_a_pair_s_texts_apart_where_its_student_does_not(
    make_trainer, make_bert, make_rows, tokenizer, teacher, as_datasets
):
    encoded = encode_rows(make_rows(22), tokenizer, ["text", "second"], 64)
    logits, _ = compute_logits(Teacher(teacher), encoded, DistillationCollator(tokenizer))
    online = encoded
    if as_datasets:  # from which the Trainer removes the columns that are not used
        columns = ("input_ids", "token_type_ids", "labels")
        online = Dataset.from_list([{name: row[name].tolist() for name in columns} for row in encoded])
    cached = EncodedRows(encoded.columns, encoded.offsets, encoded.labels, logits)
    results = []
    for settings in ({"teacher": teacher, "train_dataset": online}, {"train_dataset": cached}):
        torch.manual_seed(0)
        student = DistilBertForSequenceClassification(
            DistilBertConfig(
                vocab_size=len(tokenizer), dim=16, n_layers=1, n_heads=2, hidden_dim=32, dropout=0.0,
                attention_dropout=0.0, seq_classif_dropout=0.0, max_position_embeddings=64,
            )
        )  # fmt: skip
        settings |= {
            "objective": SoftTargets(),
            "model": student,
            "train_sampling_strategy": "group_by_length",
        }
        trainer = make_trainer(**PLAIN_DESCENT, **settings)
        trainer.train()
        results.append(weights(trainer.student))
    assert_equal(*results, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("teachers", [1, 2])
def test_an_online_teacher_reads_its_own_tokens(
    make_trainer, make_bert, make_rows, tokenizer, other_tokenizer, teachers
):
    texts = make_rows(22)
    models = [make_bert(seed, vocab_size=len(other_tokenizer)).eval() for seed in range(teachers)]
    for_teacher = encode_rows(texts, other_tokenizer, ["text"], 64)
    for_student = encode_rows(texts, tokenizer, ["text"], 64)
    logits, _ = compute_logits(Teacher(models), for_teacher, DistillationCollator(other_tokenizer))
    online = Dataset.from_list(
        [
            {
                "input_ids": student["input_ids"].tolist(),
                "teacher_input_ids": own["input_ids"].tolist(),
                "labels": int(student["labels"]),
            }
            for student, own in zip(for_student, for_teacher, strict=True)
        ]
    )
    cached = EncodedRows(for_student.columns, for_student.offsets, for_student.labels, logits)
    results = []
    for settings in (
        {"teacher": Teacher(models, other_tokenizer), "train_dataset": online},
        {"train_dataset": cached},
    ):
        trainer = make_trainer(train_sampling_strategy="group_by_length", **PLAIN_DESCENT, **settings)
        trainer.train()
        results.append(weights(trainer.student))
    assert_equal(*results, rtol=1e-3, atol=1e-5)


def test_cached_logits_spare_the_teacher_its_forward(make_trainer, teacher, monkeypatch):
    monkeypatch.setattr(teacher, "forward", lambda **inputs: pytest.fail("the teacher was asked"))
    make_trainer(teacher=teacher, max_steps=1).train()


def test_cached_logits_stand_where_a_teacher_runs_for_its_hidden_states(make_trainer, teacher, labelled_rows):
    """Which logits are learnt may not depend on what else the objective reads."""
    cached = EncodedRows(
        labelled_rows.columns, labelled_rows.offsets, labelled_rows.labels, labelled_rows.teacher_logits + 9.0
    )
    trainer = make_trainer(teacher=teacher, train_dataset=cached, objective=SoftTargets() + Projection())
    batch = next(iter(trainer.get_train_dataloader()))
    outputs = trainer._teacher_outputs(batch)
    torch.testing.assert_close(outputs["logits"], batch["teacher_logits"])
    assert batch["teacher_logits"].min() > 5 and outputs.hidden_states is not None


def test_a_teacher_of_another_vocabulary_is_refused_or_spoken_of(make_trainer, make_bert, rows, tokenizer):
    with pytest.raises(
        InputError, match="tokens up to number .* has vectors for 20; give each model its own"
    ):
        make_trainer(teacher=make_bert(vocab_size=20), train_dataset=rows)
    with pytest.warns(UserWarning, match="has vectors for 5000 tokens .*give Teacher"):
        make_trainer(teacher=make_bert(vocab_size=5000), train_dataset=rows)


def test_an_optimizer_without_the_objectives_parameters_is_refused(
    make_arguments, make_bert, teacher, rows, tokenizer
):
    student, objective = make_bert(), Projection()
    optimizer = torch.optim.AdamW(layerwise_groups(student, 1e-3))
    settings = {"model": student, "teacher": teacher, "objective": objective, "args": make_arguments()}
    settings |= {"train_dataset": rows, "processing_class": tokenizer, "optimizers": (optimizer, None)}
    with pytest.raises(ValueError, match=r"lacks parameters that the objective learns \(projection\.weight"):
        DistillationTrainer(**settings)
    optimizer.add_param_group({"params": list(objective.parameters())})
    before = objective.projection.weight.clone()
    DistillationTrainer(**settings).train()
    assert not torch.equal(objective.projection.weight, before)


def test_a_list_of_models_is_several_teachers(make_trainer, make_bert, rows):
    make_trainer(teacher=[make_bert(1), make_bert(2)], train_dataset=rows, max_steps=2).train()


# ---- (k) (l) optimisers, students, precision ----------------------------------------------------------------------


def test_adadelta_trains_through_optimizer_cls_and_kwargs(make_trainer, make_bert):
    trainer = make_trainer(optimizer_cls_and_kwargs=(torch.optim.Adadelta, {"lr": 1.0, "rho": 0.95}))
    before = weights(trainer.student)
    trainer.train()
    assert type(trainer.optimizer.optimizer) is torch.optim.Adadelta
    assert trainer.optimizer.param_groups[0]["rho"] == 0.95
    assert changed(before, weights(trainer.student))


@pytest.mark.parametrize("channels", [1, 2])
def test_a_bilstm_learns_from_cached_logits_and_its_frozen_channel_stays(
    make_trainer, tokenizer, tmp_path, rows, channels
):
    student = build_bilstm(
        tokenizer, ("negative", "positive"), hidden_size=5, embedding_size=6, embedding_channels=channels
    )
    before = weights(student)
    trainer = make_trainer(
        model=student,
        objective=LogitRegression(),
        num_train_epochs=4,
        train_sampling_strategy="group_by_length",
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.mean(losses[-6:]) < np.mean(losses[:6])
    assert ("static_embeddings.weight" in changed(before, weights(student))) is False
    assert "embeddings.weight" in changed(before, weights(student))
    trainer.save_model(str(tmp_path / "student"))
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert isinstance(loaded, BiLSTMForSequenceClassification)
    assert_equal(weights(loaded), weights(student))


def test_a_resumed_bilstm_run_ends_with_the_weights_of_the_uninterrupted_one(
    make_trainer, tokenizer, tmp_path
):
    settings = {"train_sampling_strategy": "group_by_length", "objective": LogitRegression()}
    students = [
        build_bilstm(
            tokenizer, ("negative", "positive"), hidden_size=5, embedding_size=6, embedding_channels=2, seed=0
        )
        for _ in range(2)
    ]
    whole = make_trainer("whole", model=students[0], save_strategy="steps", save_steps=2, **settings)
    whole.train()
    resumed = make_trainer("resumed", model=students[1], **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-4"))
    assert_equal(weights(resumed.student), weights(whole.student))
    assert not students[1].static_embeddings.weight.requires_grad


def test_a_regression_learns_from_values_and_the_teachers_values(make_trainer, make_bert, rows):
    values = np.linspace(0, 5, 22).astype(np.float32)
    values[3] = np.nan  # a row without label
    dataset = EncodedRows(rows.columns, rows.offsets, values)
    trainer = make_trainer(
        model=make_bert(labels=()), teacher=make_bert(7, labels=()), train_dataset=dataset,
        objective=LogitRegression(0.5) + HardLabels(0.5), eval_dataset=dataset, num_train_epochs=3,
    )  # fmt: skip
    trainer.train()
    losses = [entry["hard_labels"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.mean(losses[-6:]) < np.mean(losses[:6])
    assert np.isfinite(trainer.evaluate()["eval_loss"])


def test_labelled_and_unlabelled_rows_train_together(make_trainer, labelled_rows):
    labelled_rows.labels[::2] = -100
    trainer = make_trainer(per_device_train_batch_size=1)
    trainer.train()
    hard = [entry["hard_labels"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(value == 0 for value in hard) == 11


def test_training_stays_in_fp32_unless_asked_otherwise(make_trainer, make_arguments):
    assert not make_arguments().bf16 and not make_arguments().fp16
    trainer = make_trainer(max_steps=1)
    trainer.train()
    assert trainer.accelerator.mixed_precision == "no"
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}


def test_a_bf16_checkpoint_is_loaded_as_fp32(make_bert, tmp_path):
    make_bert().to(torch.bfloat16).save_pretrained(tmp_path / "half")
    assert json.loads((tmp_path / "half/config.json").read_text())["dtype"] == "bfloat16"
    model = load_pretrained(AutoModelForSequenceClassification, tmp_path / "half")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_activation_checkpointing_makes_the_same_step(make_trainer):
    results = []
    for checkpointing in (False, True):
        trainer = make_trainer(activation_checkpointing=checkpointing, max_steps=2, **PLAIN_DESCENT)
        trainer.train()
        results.append(weights(trainer.student))
    assert_equal(*results, rtol=1e-4, atol=1e-6)


def test_callbacks_of_the_caller_run_too(make_trainer):
    class Counter(TrainerCallback):
        steps = 0

        def on_step_end(self, args, state, control, **kwargs):
            self.steps += 1

    counter = Counter()
    make_trainer(callbacks=[counter]).train()
    assert counter.steps == 6


def test_lengths_come_from_the_rows_their_length_column_or_their_tokens(rows):
    expected = rows.lengths.tolist()
    dicts = [{"input_ids": row["input_ids"].tolist(), "length": len(row["input_ids"])} for row in rows]
    assert list(measure_lengths(rows)) == expected
    assert list(measure_lengths(Dataset.from_list(dicts))) == expected
    assert list(measure_lengths(dicts)) == expected
