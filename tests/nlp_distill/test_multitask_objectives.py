"""Teacher annealing against the paper, objectives a task, and the trainer of several tasks."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import TrainingArguments
from transformers.modeling_outputs import SequenceClassifierOutput

from data_augment.errors import InputError
from nlp_distill import multitask_trainer
from nlp_distill.batching import DistillationCollator, collate_labels
from nlp_distill.encoding import EncodedRows, encode_rows
from nlp_distill.multitask import MixedTaskSampler, MultiTaskRows, SingleTaskSampler
from nlp_distill.multitask_trainer import MultiTaskTrainer
from nlp_distill.objectives import (
    HardLabels,
    LogitRegression,
    PerTask,
    SoftTargets,
    TeacherAnnealing,
    TinyBERTLayers,
)
from nlp_distill.objectives.bam import annealed_loss
from nlp_distill.schedules import linear
from nlp_distill.students import MultiTaskModel, TaskHead
from nlp_distill.tasks import Task

STUDENT = torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.5]])
TEACHER = torch.tensor([[0.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
LABELS = torch.tensor([2, 1])


def run(objective, student, teacher, batch, progress):
    teacher_outputs = None if teacher is None else SequenceClassifierOutput(logits=teacher)
    return objective(SequenceClassifierOutput(logits=student), teacher_outputs, batch, progress)


# ---- annealing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_annealing_moves_the_target_from_the_teacher_to_the_labels(progress):
    [(name, loss)] = run(TeacherAnnealing(), STUDENT, TEACHER, {"labels": LABELS}, progress).items()
    log_p = STUDENT.double().numpy() - np.log(np.exp(STUDENT.double().numpy()).sum(1, keepdims=True))
    q = np.exp(TEACHER.double().numpy())
    q /= q.sum(1, keepdims=True)
    onehot = np.array([[0, 0, 1], [0, 1, 0]])
    target = progress * onehot + (1 - progress) * q
    assert name == "annealed"
    assert loss.item() == pytest.approx(-(target * log_p).sum(1).mean(), rel=1e-6)


def test_annealing_by_hand():
    """One row, student and teacher sure of opposite classes by log 3: P = (3/4, 1/4), Q = (1/4, 3/4), label 0."""
    student = torch.log(torch.tensor([[3.0, 1.0]]))
    teacher = torch.log(torch.tensor([[1.0, 3.0]]))
    loss = run(TeacherAnnealing(0.5), student, teacher, {"labels": torch.tensor([0])}, 0.3)["annealed"]
    assert loss.item() == pytest.approx(-(0.625 * np.log(0.75) + 0.375 * np.log(0.25)), rel=1e-6)


@pytest.mark.parametrize("is_regression", [False, True])
@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_its_gradient_is_that_of_soft_and_hard_targets_added(is_regression, progress):
    other = LogitRegression if is_regression else SoftTargets
    added = other(weight=linear(1.0, 0.0)) + HardLabels(weight=linear(0.0, 1.0))
    labels = torch.tensor([0.5, 2.0]) if is_regression else LABELS
    gradients = []
    for objective in (TeacherAnnealing(), added):
        student = (STUDENT[:, :1] if is_regression else STUDENT).clone().requires_grad_(True)
        teacher = TEACHER[:, :1] if is_regression else TEACHER
        sum(run(objective, student, teacher, {"labels": labels}, progress).values()).backward()
        gradients.append(student.grad)
    torch.testing.assert_close(*gradients)


def test_several_teachers_are_averaged_and_rows_without_a_label_keep_the_teacher():
    teachers = torch.stack([TEACHER, TEACHER.flip(1)], dim=1)
    mean = torch.stack([TEACHER.softmax(-1), TEACHER.flip(1).softmax(-1)]).mean(0)
    loss = run(TeacherAnnealing(1.0), STUDENT, teachers, {"labels": torch.tensor([-100, 1])}, 0.0)["annealed"]
    expected = (
        -(torch.stack([mean[0], torch.tensor([0.0, 1.0, 0.0])]) * STUDENT.log_softmax(-1)).sum(1).mean()
    )
    torch.testing.assert_close(loss, expected)
    values = torch.tensor([[[1.0], [3.0]], [[0.0], [0.0]]])
    labels = torch.tensor([float("nan"), 4.0])
    loss = run(TeacherAnnealing(1.0), torch.zeros(2, 1), values, {"labels": labels}, 0.0)["annealed"]
    assert loss.item() == pytest.approx((2.0**2 + 4.0**2) / 2)


def test_rows_without_a_label_keep_the_teacher_s_value_however_they_were_collated():
    """Nothing but None makes integers of a batch of values."""
    values, teacher = torch.zeros(2, 1, requires_grad=True), torch.tensor([[3.0], [4.0]])
    for labels in (collate_labels([None, None]), torch.tensor([float("nan")] * 2)):
        loss = annealed_loss(values, teacher, labels, 0.5)
        assert loss.item() == pytest.approx((9 + 16) / 2)
    mixed = PerTask([HardLabels(), HardLabels()], [2, 0])
    batch = {"task_ids": torch.tensor([0, 0, 1]), "labels": collate_labels([1, 0, None])}
    terms = mixed(SequenceClassifierOutput(logits=torch.zeros(3, 2)), None, batch, 0.0)
    assert terms["task_1"].item() == 0


def test_a_class_below_zero_is_no_class():
    """-1, which GLUE's test rows carry, is not class 0."""
    logits, teacher = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.0, 3.0]])
    with pytest.raises(RuntimeError, match="negative"):
        annealed_loss(logits, teacher, torch.tensor([-1]), 1.0)


def test_a_task_without_labels_travels_beside_others(data, tokenizer):
    rows = {name: own for name, own in data.items()}
    first = next(iter(rows))
    rows[first] = EncodedRows(rows[first].columns, rows[first].offsets)
    joined = MultiTaskRows(rows)
    batch = DistillationCollator(tokenizer)([joined[0], joined[len(joined) - 1]])
    assert batch["labels"].tolist()[1] == float(joined[len(joined) - 1]["labels"])
    assert not batch["labels"][0] >= 0  # -100 or NaN


def test_shares_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"between 0 \(teacher\) and 1 \(labels\)"):
        run(TeacherAnnealing(1.5), STUDENT, TEACHER, {"labels": LABELS}, 0.0)


# ---- an objective a task --------------------------------------------------------------------------------------------


def test_each_task_s_rows_are_under_its_objective_and_every_row_counts_the_same():
    student = torch.tensor([[1.0, 0.0, -1.0], [0.3, 9.0, 9.0], [0.0, 2.0, 9.0], [0.5, 1.0, 0.0]])
    teacher = torch.tensor([[0.0, 1.0, 2.0], [0.7, 9.0, 9.0], [9.0, 9.0, 9.0], [1.0, 1.0, 0.0]])
    batch = {"labels": torch.tensor([2.0, 0.9, 1.0, 0.0]), "task_ids": torch.tensor([0, 1, 2, 0])}
    objective = PerTask(
        [SoftTargets() + HardLabels(), LogitRegression() + HardLabels(), HardLabels()], [3, 0, 2]
    )
    terms = run(objective, student, teacher, batch, 0.0)
    three = [0, 3]
    soft = F.kl_div(student[three].log_softmax(-1), teacher[three].softmax(-1), reduction="batchmean")
    hard = F.cross_entropy(student[three], torch.tensor([2, 0]))
    binary = F.cross_entropy(student[[2], :2], torch.tensor([1]))
    assert terms["task_0"].item() == pytest.approx((soft + hard).item() / 2, rel=1e-5)
    assert terms["task_1"].item() == pytest.approx((0.4**2 + 0.6**2) / 4, rel=1e-5)
    assert terms["task_2"].item() == pytest.approx(binary.item() / 4, rel=1e-5)
    batch["task_ids"] = torch.tensor([0, 1, 1, 0])
    assert run(objective, student, teacher, batch, 0.0)["task_2"].item() == 0  # a term all the same


def test_objectives_that_read_more_than_logits_are_refused(make_bert):
    config = make_bert().config
    with pytest.raises(ValueError, match="returns logits only"):
        PerTask([TinyBERTLayers(config, config)], [2])
    with pytest.raises(ValueError, match="every weight of task b is 0, so that nothing is learnt"):
        PerTask([HardLabels(), HardLabels(0.0) + SoftTargets(weight=0.0)], [2, 2], ["a", "b"])
    with pytest.raises(ValueError, match="give one for each"):
        PerTask([HardLabels()], [2, 2])


# ---- the trainer ----------------------------------------------------------------------------------------------------

TASKS = {
    "films": Task("films", "text", None, ("bad", "good"), ("accuracy",)),
    "length": Task("length", "text", "second", (), ("pearson",)),
}


EVERY_EPOCH = {"eval_strategy": "epoch", "save_strategy": "epoch"}
SAMPLERS = {
    "mixed": lambda rows, step, seed: MixedTaskSampler(rows.sizes, 0.75, seed, rows.lengths, step),
    "single": lambda rows, step, seed: SingleTaskSampler(rows.sizes, step, seed, rows.lengths),
}


@pytest.fixture
def data(make_rows, tokenizer):
    rows = {
        "films": make_rows(48, 1),
        "length": [dict(row, label=0.1 * len(row["text"])) for row in make_rows(32, 2)],
    }
    return {name: encode_rows(rows[name], tokenizer, TASKS[name].text_columns, 48) for name in TASKS}


@pytest.fixture
def make_trainer(data, make_bert, tokenizer, tmp_path):
    def make(output="out", sampler=None, decay=None, validation=None, **settings):
        heads = [TaskHead("films", ("bad", "good")), TaskHead("length", (), is_pair=True)]
        torch.manual_seed(0)
        return MultiTaskTrainer(
            model=MultiTaskModel.from_encoder(make_bert(), heads),
            objective=PerTask([HardLabels(), HardLabels()], [2, 0]),
            sampler=SAMPLERS[sampler or "mixed"],
            validation=validation or data,
            tasks=TASKS,
            averaged=frozenset(TASKS),
            layerwise_decay=decay,
            train_dataset=MultiTaskRows(data),
            processing_class=tokenizer,
            args=TrainingArguments(
                str(tmp_path / output),
                use_cpu=True,
                report_to="none",
                disable_tqdm=True,
                per_device_train_batch_size=8,
                logging_steps=5,
                learning_rate=3e-3,
                **(
                    EVERY_EPOCH
                    | {
                        "num_train_epochs": 4,
                        "load_best_model_at_end": True,
                        "metric_for_best_model": "score",
                    }
                    | settings
                ),
            ),
        )

    return make


@pytest.mark.parametrize("kind", SAMPLERS)
def test_both_tasks_are_learnt_and_scored_on_their_own_rows(make_trainer, data, kind):
    trainer = make_trainer(sampler=kind, num_train_epochs=12)
    before = trainer.evaluate()
    assert set(before) >= {"eval_films", "eval_length", "eval_score"}
    assert before["eval_score"] == pytest.approx((before["eval_films"] + before["eval_length"]) / 2)
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_films"] > 0.75 and after["eval_length"] > 0.8
    assert all(parameter.requires_grad for parameter in trainer.student.parameters())
    saved = json.loads(json.dumps(trainer.state.log_history))
    assert any("eval_films" in entry for entry in saved)


def test_other_rows_are_scored_by_task_and_any_others_refused(make_trainer, data, make_rows, tokenizer):
    trainer = make_trainer()
    few = {"films": encode_rows(make_rows(5, 9), tokenizer, TASKS["films"].text_columns, 48)}
    scores = trainer.evaluate(few, metric_key_prefix="few")
    assert scores["few_films"] == scores["few_score"] == trainer.score_task("films", few["films"])
    assert not any("length" in name for name in scores)
    for wrong, said in [(data["films"], "EncodedRows"), ({"weather": data["films"]}, "\\['weather'\\]")]:
        with pytest.raises(
            InputError, match=f"eval_dataset is {said}; several tasks are scored on a mapping"
        ):
            trainer.evaluate(wrong)


def test_predictions_of_several_tasks_have_no_loss_in_common(make_trainer, data):
    predicted = make_trainer().predict(MultiTaskRows(data))
    assert predicted.predictions.shape == (80, 2) and "test_loss" not in predicted.metrics


def test_labels_travel_beside_a_regression_without_loss(data, tokenizer):
    rows = MultiTaskRows(data)
    batch = DistillationCollator(tokenizer)([rows[0], rows[1], rows[50]])
    gold = [*data["films"].labels[:2], data["length"].labels[2]]
    assert batch["labels"].tolist() == pytest.approx(gold)
    assert batch["task_ids"].tolist() == [0, 0, 1]
    assert batch["token_type_ids"].shape == batch["input_ids"].shape


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_run_stopped_in_the_middle_of_an_epoch_resumes_to_the_same_weights(make_trainer, kind):
    every_7 = {"eval_strategy": "steps", "eval_steps": 7, "save_strategy": "steps", "save_steps": 7}
    whole = make_trainer("whole", kind, **every_7)
    whole.train()
    first = make_trainer("parts", kind, **every_7)

    class Stop(Exception):
        pass

    steps, step = [], first.training_step

    def stop(*given, **more):
        steps.append(1)
        if len(steps) > 25:  # ten steps are an epoch; the last checkpoint is that of step 21
            raise Stop
        return step(*given, **more)

    first.training_step = stop
    with pytest.raises(Stop):
        first.train()
    second = make_trainer("parts", kind, **every_7)
    second.train(resume_from_checkpoint=True)
    assert second.state.global_step == whole.state.global_step == 40
    for (name, own), other in zip(
        second.student.state_dict().items(), whole.student.state_dict().values(), strict=True
    ):
        assert torch.equal(own, other), name


def test_a_task_is_scored_on_its_own_rows_and_no_others(
    make_trainer, data, make_rows, tokenizer, monkeypatch
):
    """Other rows of one task change its own score alone, and every row that is read is one of the task's."""
    trainer = make_trainer()
    before = trainer.evaluate()
    seen = []
    original = multitask_trainer.compute_logits

    def spy(teacher, rows, collator):
        seen.append((teacher.models[0], rows))
        return original(teacher, rows, collator)

    monkeypatch.setattr(multitask_trainer, "compute_logits", spy)
    other = [dict(row, label=1 - row["label"]) for row in make_rows(48, 1)]
    swapped = data | {"films": encode_rows(other, tokenizer, TASKS["films"].text_columns, 48)}
    trainer.validation = swapped
    after = trainer.evaluate()
    assert after["eval_length"] == before["eval_length"]
    assert after["eval_films"] == pytest.approx(1 - before["eval_films"])
    read = [
        (model is trainer.student.get_classifier(name), rows is swapped[name])
        for (model, rows), name in zip(seen, TASKS, strict=True)
    ]
    assert read == [(True, True)] * 2


def test_a_checkpoint_may_be_chosen_by_the_average_or_a_task_but_not_by_a_loss(make_trainer):
    with pytest.raises(
        InputError, match="metric_for_best_model is loss; give score, the average over tasks, or one"
    ):
        make_trainer(metric_for_best_model="loss")
    trainer = make_trainer(metric_for_best_model="films", num_train_epochs=3)
    trainer.train()
    scores = [entry["eval_films"] for entry in trainer.state.log_history if "eval_films" in entry]
    assert trainer.state.best_metric == max(scores)


def test_without_evaluation_the_last_weights_stay(make_trainer):
    none = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    trainer = make_trainer(num_train_epochs=1, metric_for_best_model=None, **none)
    trainer.train()
    assert not any("eval_score" in entry for entry in trainer.state.log_history)


def test_layerwise_rates_reach_the_optimiser(make_trainer):
    trainer = make_trainer(decay=0.5, weight_decay=0.01)
    trainer.create_optimizer_and_scheduler(10)
    rates = {id(p): group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    named = dict(trainer.student.named_parameters())
    assert rates[id(named["heads.films.classifier.weight"])] == 3e-3
    assert rates[id(named["trunk.encoder.embeddings.word_embeddings.weight"])] == pytest.approx(3e-3 * 0.5**4)
    assert len(rates) == len(named)


def test_cached_logits_of_tasks_with_other_classes_fit_one_batch(data, tokenizer):
    rng = np.random.default_rng(0)
    data["films"].teacher_logits = rng.normal(size=(48, 3, 2)).astype(np.float32)
    rows = MultiTaskRows(data)
    batch = DistillationCollator(tokenizer)([rows[0], rows[60]])
    assert batch["teacher_logits"].shape == (2, 3, 2)
    assert torch.equal(batch["teacher_logits"][0], torch.from_numpy(data["films"].teacher_logits[0]))
    assert batch["teacher_logits"][1].isnan().all()
