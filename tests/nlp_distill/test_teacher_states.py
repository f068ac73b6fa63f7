"""The teacher's states on disk: what is kept equals what the teacher computes, in training too."""

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from data_augment.errors import InputError
from nlp_distill import DistillationTrainer
from nlp_distill.batching import DistillationCollator
from nlp_distill.compression.prune_structured import prune_heads
from nlp_distill.encoding import EncodedRows, encode_rows
from nlp_distill.objectives import MiniLM, MiniLMv2, TinyBERTLayers
from nlp_distill.pipelines.projections import fit_projections
from nlp_distill.teacher_states import RowsWithStates, measure_states, restore_outputs, write_states
from nlp_distill.teachers import Teacher

TEACHER = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4}


@pytest.fixture
def teacher(make_bert):
    return make_bert(seed=1, **TEACHER).eval()


@pytest.fixture
def student(make_bert):
    return make_bert(seed=2, num_attention_heads=4)


@pytest.fixture
def rows(make_rows, tokenizer):
    return encode_rows(make_rows(40), tokenizer, ["text"], 32)


@pytest.fixture(params=[None, 8], ids=["scores", "relations"])
def objective(request, student, teacher):
    return TinyBERTLayers(student.config, teacher.config, relation_heads=request.param)


def collate(rows, tokenizer, indices):
    return DistillationCollator(tokenizer)([rows[i] for i in indices])


def test_the_kept_states_are_the_teachers_own(teacher, rows, tokenizer, objective, tmp_path, monkeypatch):
    monkeypatch.setattr("nlp_distill.teacher_states.BATCH_TOKENS", 64)
    parts = objective.list_teacher_parts()
    write_states(teacher, rows, tokenizer, parts, tmp_path)
    kept, chosen = RowsWithStates(rows, tmp_path), [3, 0, 39, 7]
    batch = collate(kept, tokenizer, chosen)
    restored = restore_outputs(batch["teacher_states"])
    outputs = Teacher(teacher).run(collate(rows, tokenizer, chosen), objective.needs)
    real = batch["attention_mask"].bool()
    for kind, layer in parts:
        own, other = restored[kind][layer], outputs[kind][layer]
        assert own.shape == other.shape and own.dtype == torch.float32
        if own.dim() == 4:
            own, other = own.transpose(1, 2), other.transpose(1, 2)
        torch.testing.assert_close(own[real], other[real], rtol=1e-3, atol=1e-4)
        assert not own[~real].any()
    size = sum(path.stat().st_size for path in tmp_path.glob("*.f16"))
    assert size == measure_states(teacher.config, parts, int(rows.offsets[-1]))


def test_a_teacher_whose_heads_were_pruned_is_kept_in_its_own_sizes(
    student, teacher, rows, tokenizer, tmp_path
):
    pruned = prune_heads(teacher, [torch.tensor([0, 2])] * 4).eval()  # 2 heads of 6 numbers, 24 wide
    objective = TinyBERTLayers(student.config, pruned.config, relation_heads=4)
    parts = objective.list_teacher_parts()
    write_states(pruned, rows, tokenizer, parts, tmp_path)
    batch = collate(RowsWithStates(rows, tmp_path), tokenizer, [5])
    restored = restore_outputs(batch["teacher_states"])
    outputs = Teacher(pruned).run(collate(rows, tokenizer, [5]), objective.needs)
    for kind, layer in parts:
        torch.testing.assert_close(restored[kind][layer], outputs[kind][layer], rtol=1e-3, atol=1e-4)
    with pytest.raises(
        InputError, match="does not divide the teacher's width of 12; give a divisor of both 16"
    ):
        TinyBERTLayers(student.config, pruned.config, relation_heads=8)


def test_the_loss_and_its_gradients_are_those_of_a_teacher_beside_the_training(
    student, teacher, rows, tokenizer, objective, tmp_path
):
    write_states(teacher, rows, tokenizer, objective.list_teacher_parts(), tmp_path)
    found = []
    for dataset, model in ((rows, teacher), (RowsWithStates(rows, tmp_path), None)):
        trainer = DistillationTrainer(
            model=student.eval(),
            teacher=model,
            objective=objective,
            args=TrainingArguments(str(tmp_path / "out"), use_cpu=True, report_to="none"),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, collate(dataset, tokenizer, range(8)))
        loss.backward()
        weight = student.get_input_embeddings().weight.grad.clone()
        found.append((loss.detach(), weight))
    torch.testing.assert_close(found[1], found[0], rtol=2e-3, atol=1e-4)


def test_the_trainer_learns_from_kept_states_alone(student, teacher, rows, tokenizer, objective, tmp_path):
    write_states(teacher, rows, tokenizer, objective.list_teacher_parts(), tmp_path)
    kept = RowsWithStates(rows, tmp_path)
    trainer = DistillationTrainer(
        model=student,
        objective=objective,
        args=TrainingArguments(
            str(tmp_path / "out"),
            use_cpu=True,
            report_to="none",
            max_steps=30,
            learning_rate=1e-2,
            logging_steps=10,
            save_strategy="no",
            train_sampling_strategy="group_by_length",
            disable_tqdm=True,
        ),
        train_dataset=kept,
        processing_class=tokenizer,
    )
    trainer.train()
    logged = [entry["hidden"] for entry in trainer.state.log_history if "hidden" in entry]
    assert logged[-1] < 0.8 * logged[0]


def test_other_rows_and_parts_that_were_not_kept_are_refused(teacher, rows, make_rows, tokenizer, tmp_path):
    write_states(teacher, rows, tokenizer, [("hidden_states", 0)], tmp_path)
    with pytest.raises(InputError, match="write them again"):
        RowsWithStates(encode_rows(make_rows(5), tokenizer, ["text"], 32), tmp_path)
    turned = EncodedRows(
        {name: tokens[::-1] for name, tokens in rows.columns.items()},
        np.concatenate([[0], np.cumsum(rows.lengths[::-1])]),
    )
    with pytest.raises(InputError, match="of other rows, or of these in another order"):
        RowsWithStates(turned, tmp_path)
    with pytest.raises(InputError, match=r"holds no keys\.1; it has hidden_states\.0"):
        RowsWithStates(rows, tmp_path, [("keys", 1)])


def test_objectives_that_count_from_the_end_read_kept_layers_too(teacher, rows, tokenizer, tmp_path):
    layers = teacher.config.num_hidden_layers
    parts = [("hidden_states", layer) for layer in range(layers + 1)]
    parts += [(kind, layer) for kind in ("queries", "keys", "values") for layer in range(layers)]
    write_states(teacher, rows, tokenizer, parts, tmp_path)
    batch = collate(RowsWithStates(rows, tmp_path), tokenizer, [0, 3, 5, 7])
    kept = restore_outputs(batch["teacher_states"])
    own = Teacher(teacher).run({name: batch[name] for name in ("input_ids", "attention_mask")}, MiniLM.needs)
    for objective in (MiniLM(teacher.config, teacher.config), MiniLMv2(teacher.config, teacher.config)):
        for name, loss in objective(own, kept, batch, 0.0).items():
            assert loss.item() == pytest.approx(0, abs=1e-4), name
    assert torch.equal(kept["hidden_states"][-1], kept["hidden_states"][layers])


def test_layers_that_were_not_kept_are_named(teacher, rows, tokenizer, tmp_path):
    write_states(teacher, rows, tokenizer, [("hidden_states", 2), ("hidden_states", 4)], tmp_path)
    kept = restore_outputs(collate(RowsWithStates(rows, tmp_path), tokenizer, [0])["teacher_states"])
    for number in (-1, 3):
        with pytest.raises(InputError, match=f"hidden states of 2, 4, and {number} is asked for"):
            kept["hidden_states"][number]


def test_a_teacher_beside_them_answers_what_is_not_kept(teacher, student, rows, tokenizer, tmp_path):
    """States of layers that are kept in part would not do for an objective that reads queries too."""
    write_states(teacher, rows, tokenizer, [("hidden_states", 4)], tmp_path)
    objective = TinyBERTLayers(student.config, teacher.config, relation_heads=8)
    trainer = DistillationTrainer(
        model=student,
        teacher=teacher,
        objective=objective,
        args=TrainingArguments(str(tmp_path / "run"), use_cpu=True, report_to="none"),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    batch = collate(RowsWithStates(rows, tmp_path), tokenizer, [0, 1])
    answered = trainer._teacher_outputs(batch)
    assert all(kind in answered for kind in objective.needs) and len(answered["hidden_states"]) == 5


def test_values_beyond_float16_are_refused(teacher, rows, tokenizer, tmp_path):
    teacher.get_input_embeddings().weight.data[:] = 1.0
    layer_norm = teacher.bert.embeddings.LayerNorm
    layer_norm.bias.data[:] = 1e5
    with pytest.raises(InputError, match="beyond the range of float16"):
        write_states(teacher, rows, tokenizer, [("hidden_states", 0)], tmp_path)


# ---- projections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [False, True])
def test_projections_start_at_the_least_squares_fit(student, teacher, rows, tokenizer, share):
    objective = TinyBERTLayers(student.config, teacher.config, share_projection=share)
    fit_projections(objective, student, teacher, rows, DistillationCollator(tokenizer))
    student.eval()
    batch = collate(rows, tokenizer, range(40))
    real = batch["attention_mask"].bool()
    states, targets = (
        Teacher(model).run(batch, frozenset({"hidden_states"}))["hidden_states"]
        for model in (student, teacher)
    )
    groups = {"hidden": ((1, 2), (2, 4))} if share else {"hidden_1": ((1, 2),), "hidden_2": ((2, 4),)}
    for name, pairs in (groups | {"embedding": ((0, 0),)}).items():
        x = torch.cat([states[own][real] for own, _ in pairs]).double().numpy()
        y = torch.cat([targets[other][real] for _, other in pairs]).double().numpy()
        best = np.linalg.lstsq(x, y, rcond=1e-4)[0]  # a layer norm leaves one direction empty
        fitted = objective.projections[name].weight.detach().double().numpy().T
        error, least = (((x @ w - y) ** 2).mean() for w in (fitted, best))
        assert error <= least * 1.001 + 1e-9


def test_a_fit_leaves_the_students_mode_and_other_objectives_alone(student, teacher, rows, tokenizer):
    narrow = TinyBERTLayers(student.config, student.config)  # equal widths: no projections
    student.train()
    fit_projections(narrow, student, student, rows, None)
    objective = TinyBERTLayers(student.config, teacher.config)
    fit_projections(objective, student, teacher, rows, DistillationCollator(tokenizer))
    assert student.training
