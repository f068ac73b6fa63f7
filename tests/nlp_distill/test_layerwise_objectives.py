"""TinyBERT's and MiniLM's objectives: terms from the equations, what learns and what does not, and wrong shapes."""

import json

import pytest
import safetensors.torch
import torch
from transformers import AutoModelForSequenceClassification, TrainingArguments

from data_augment.errors import InputError
from nlp_distill import DistillationTrainer
from nlp_distill.batching import DistillationCollator
from nlp_distill.checkpoints import find_last_checkpoint
from nlp_distill.encoding import encode_rows
from nlp_distill.internals import run_model
from nlp_distill.layer_map import explicit, last
from nlp_distill.objectives import MiniLM, MiniLMv2, SoftTargets, TinyBERTLayers
from nlp_distill.trainer import OBJECTIVE_FILE

TEACHER = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4}
EVERYTHING = frozenset({"hidden_states", "queries", "keys", "values"})


@pytest.fixture
def teacher(make_bert):
    return make_bert(seed=1, **TEACHER).eval()


@pytest.fixture
def student(make_bert):
    """Narrower than the teacher, with as many heads."""
    return make_bert(seed=2, num_attention_heads=4)


@pytest.fixture
def batch(make_rows, tokenizer):
    rows = encode_rows(make_rows(6), tokenizer, ["text"], 32)
    return DistillationCollator(tokenizer)([rows[i] for i in range(6)])


def run(model, batch):
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return run_model(model, inputs, EVERYTHING)


def evaluate(objective, student, teacher, batch):
    return objective(run(student, batch), run(teacher, batch), batch, 0.0)


def naive_layer_mse(student_states, teacher_states, mask):
    rows = []
    for own, other, real in zip(student_states, teacher_states, mask.bool(), strict=True):
        rows.append(torch.nn.functional.mse_loss(own[real], other[real]))
    return torch.stack(rows).mean()


def naive_scores(outputs, layer, row, length):
    queries, keys = outputs["queries"][layer][row], outputs["keys"][layer][row]
    return torch.stack(
        [q[:length] @ k[:length].T / q.shape[-1] ** 0.5 for q, k in zip(queries, keys, strict=True)]
    )


# ---- TinyBERT --------------------------------------------------------------------------------------------------------


def test_every_term_equals_the_paper_s_sum_over_layers(student, teacher, batch):
    objective = TinyBERTLayers(student.config, teacher.config, attention=0.5, hidden=2.0, embedding=3.0)
    terms = evaluate(objective, student, teacher, batch)
    own, other, mask = run(student, batch), run(teacher, batch), batch["attention_mask"]

    def project(layer, states):
        name = "embedding" if layer == 0 else f"hidden_{layer}"
        return states @ objective.projections[name].weight.T

    hidden = sum(
        naive_layer_mse(project(m, own["hidden_states"][m]), other["hidden_states"][n], mask)
        for m, n in ((1, 2), (2, 4))
    )
    embedding = naive_layer_mse(project(0, own["hidden_states"][0]), other["hidden_states"][0], mask)
    lengths = mask.sum(1).tolist()
    attention = 0
    for m, n in ((1, 2), (2, 4)):
        rows = [
            (naive_scores(own, m - 1, row, length) - naive_scores(other, n - 1, row, length)).square().mean()
            for row, length in enumerate(lengths)
        ]
        attention = attention + torch.stack(rows).mean()
    torch.testing.assert_close(terms["hidden"], 2.0 * hidden)
    torch.testing.assert_close(terms["embedding"], 3.0 * embedding)
    torch.testing.assert_close(terms["attention"], 0.5 * attention)


def test_a_copy_of_the_teacher_has_nothing_to_learn(teacher, batch):
    objective = TinyBERTLayers(teacher.config, teacher.config)
    assert not list(objective.parameters())
    terms = evaluate(objective, teacher, teacher, batch)
    assert set(terms) == {"attention", "hidden", "embedding"}
    assert all(value.item() == pytest.approx(0.0, abs=1e-10) for value in terms.values())


def test_the_layer_map_decides_who_learns_from_whom(make_bert, teacher, batch):
    student = make_bert(seed=5, **TEACHER | {"num_hidden_layers": 1})
    values = {
        n: evaluate(
            TinyBERTLayers(student.config, teacher.config, explicit([(1, n)]), attention=0, embedding=0),
            student,
            teacher,
            batch,
        )["hidden"].item()
        for n in (0, 1, 2, 3, 4)
    }
    own, other = run(student, batch), run(teacher, batch)
    for n, value in values.items():
        expected = naive_layer_mse(
            own["hidden_states"][1], other["hidden_states"][n], batch["attention_mask"]
        )
        assert value == pytest.approx(expected.item(), rel=1e-5)
    assert len({round(value, 6) for value in values.values()}) == 5
    top = TinyBERTLayers(student.config, teacher.config, last)
    assert top.hidden_pairs == [(1, 4)]


@pytest.mark.parametrize("left_out", ["attention", "hidden", "embedding"])
def test_a_weight_of_zero_leaves_its_term_and_its_needs_out(student, teacher, batch, left_out):
    objective = TinyBERTLayers(student.config, teacher.config, **{left_out: 0.0})
    assert left_out not in evaluate(objective, student, teacher, batch)
    if left_out == "attention":
        assert objective.needs == {"hidden_states"}
    if left_out == "embedding":
        assert "embedding" not in objective.projections


def test_one_shared_projection_is_the_paper_s(student, teacher):
    shared = TinyBERTLayers(student.config, teacher.config, share_projection=True)
    assert sorted(shared.projections) == ["embedding", "hidden"]
    own = TinyBERTLayers(student.config, teacher.config)
    assert sorted(own.projections) == ["embedding", "hidden_1", "hidden_2"]
    assert own.projections["hidden_1"].weight.shape == (24, 16)
    assert own.projections["hidden_1"].bias is None


def test_a_shared_projection_serves_every_layer(student, teacher, batch):
    objective = TinyBERTLayers(
        student.config, teacher.config, share_projection=True, attention=0, embedding=0
    )
    own, other = run(student, batch), run(teacher, batch)
    weight = objective.projections["hidden"].weight
    expected = sum(
        naive_layer_mse(
            own["hidden_states"][m] @ weight.T, other["hidden_states"][n], batch["attention_mask"]
        )
        for m, n in ((1, 2), (2, 4))
    )
    torch.testing.assert_close(evaluate(objective, student, teacher, batch)["hidden"], expected)


def test_relations_serve_different_head_counts(make_bert, teacher, batch):
    student = make_bert(seed=3, num_attention_heads=2)
    with pytest.raises(InputError, match="2 attention heads and the teacher 4.*relation_heads"):
        TinyBERTLayers(student.config, teacher.config)
    objective = TinyBERTLayers(student.config, teacher.config, relation_heads=8)
    assert objective.needs == EVERYTHING
    assert evaluate(objective, student, teacher, batch)["attention"].item() > 0
    same = TinyBERTLayers(teacher.config, teacher.config, relation_heads=3)
    assert evaluate(same, teacher, teacher, batch)["attention"].item() == pytest.approx(0.0, abs=1e-6)


def test_wrong_shapes_are_refused(student, teacher):
    with pytest.raises(InputError, match="16 wide and the teacher 24.*projection"):
        TinyBERTLayers(student.config, teacher.config, project=False)
    with pytest.raises(
        InputError, match="relation_heads is 5, which does not divide the student's width of 16"
    ):
        TinyBERTLayers(student.config, teacher.config, relation_heads=5)
    with pytest.raises(InputError, match="weigh 0"):
        TinyBERTLayers(student.config, teacher.config, attention=0, hidden=0, embedding=0)
    with pytest.raises(InputError, match="teacher has 4 layers but layer_map uses 5; indices run 0–4"):
        TinyBERTLayers(student.config, teacher.config, explicit([(1, 5)]))
    with pytest.raises(InputError, match="embeddings .0., which have no attention"):
        TinyBERTLayers(student.config, teacher.config, explicit([(1, 0)]))


def test_cached_logits_are_not_enough(student, teacher, batch):
    objective = TinyBERTLayers(student.config, teacher.config)
    with pytest.raises(ValueError, match="TinyBERTLayers reads the teacher's hidden_states, keys, queries"):
        objective(run(student, batch), None, batch, 0.0)


def test_gradients_reach_all_of_the_student_that_should_learn_and_nothing_of_the_teacher(
    student, teacher, batch
):
    teacher.requires_grad_(False)
    objective = TinyBERTLayers(student.config, teacher.config)
    sum(evaluate(objective, student, teacher, batch).values()).backward()
    # Values and outputs of the last layer reach the loss through its hidden states; only what lies above them does not.
    above = ("bert.pooler.", "classifier.")
    for name, weight in student.named_parameters():
        got_gradient = weight.grad is not None and weight.grad.abs().sum() > 0
        if "token_type" in name or name.endswith("key.bias"):
            continue  # one segment has a gradient, the other none; a key bias cancels nowhere but in the softmax
        assert got_gradient != name.startswith(above), name
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in objective.parameters())
    assert all(weight.grad is None for weight in teacher.parameters())


# ---- in the trainer --------------------------------------------------------------------------------------------------


def make_trainer(student, teacher, tokenizer, rows, folder, **arguments):
    encoded = encode_rows(rows, tokenizer, ["text"], 32)
    settings = {"max_steps": 6, "save_steps": 3, "learning_rate": 1e-2, "per_device_train_batch_size": 4}
    settings |= {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "logging_steps": 1}
    objective = TinyBERTLayers(student.config, teacher.config) + SoftTargets()
    return DistillationTrainer(
        model=student,
        teacher=teacher,
        objective=objective,
        args=TrainingArguments(str(folder), **settings | arguments),
        train_dataset=encoded,
        processing_class=tokenizer,
    )


def test_projections_are_trained_clipped_checkpointed_and_resumed_but_not_saved(
    make_bert, teacher, tokenizer, make_rows, tmp_path
):
    rows = make_rows(24)
    fresh = lambda: make_bert(seed=2, num_attention_heads=4)  # noqa: E731
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}

    torch.manual_seed(0)
    whole = make_trainer(fresh(), teacher, tokenizer, rows, tmp_path / "whole")
    start = {name: weight.clone() for name, weight in whole.model.objective.state_dict().items()}
    whole.train()
    trained = whole.model.objective.state_dict()
    assert start and all(not torch.equal(trained[name], start[name]) for name in start)
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.state_dict().items())
    logged = [entry for entry in whole.state.log_history if "loss" in entry]
    assert {"attention", "hidden", "embedding", "soft_targets"} <= set(logged[0])

    checkpoint = tmp_path / "whole" / "checkpoint-3"
    kept = safetensors.torch.load_file(checkpoint / OBJECTIVE_FILE)
    assert set(kept) == set(trained) and not any(torch.equal(kept[name], trained[name]) for name in kept)

    torch.manual_seed(1)  # other projections at the start: the checkpoint's must replace them
    resumed = make_trainer(fresh(), teacher, tokenizer, rows, tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    for name, weight in resumed.model.objective.state_dict().items():
        torch.testing.assert_close(weight, trained[name], msg=name)

    whole.save_model(str(tmp_path / "student"))
    saved = safetensors.torch.load_file(tmp_path / "student" / "model.safetensors")
    assert not any("projection" in name for name in saved)
    loaded, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "student", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert json.loads((tmp_path / "student" / "config.json").read_text())["hidden_size"] == 16
    assert find_last_checkpoint(tmp_path / "whole").endswith("checkpoint-6")


def test_the_gradient_norm_that_is_clipped_covers_the_projections(
    student, teacher, tokenizer, make_rows, tmp_path
):
    trainer = make_trainer(
        student, teacher, tokenizer, make_rows(8), tmp_path, max_steps=1, max_grad_norm=1e-9, optim="sgd"
    )
    start = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    moved = sum((weight - start[name]).square().sum() for name, weight in trainer.model.named_parameters())
    assert moved.sqrt().item() <= 1e-2 * 1e-9 * 1.01 + 1e-7


def test_accumulated_micro_batches_take_the_step_of_a_large_batch(
    make_bert, teacher, tokenizer, make_rows, tmp_path
):
    steps = {}
    for name, rows, accumulation in (("large", 4, 1), ("small", 2, 2)):
        torch.manual_seed(0)
        trainer = make_trainer(
            make_bert(seed=2, num_attention_heads=4),
            teacher,
            tokenizer,
            make_rows(4),
            tmp_path / name,
            max_steps=1,
            optim="sgd",
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=accumulation,
        )
        trainer.train()
        steps[name] = dict(trainer.model.named_parameters())
    for name, weight in steps["large"].items():
        torch.testing.assert_close(weight, steps["small"][name], msg=name)


# ---- MiniLM ----------------------------------------------------------------------------------------------------------


def naive_kl(own, other, length):
    p, q = own[..., :length, :length].softmax(-1), other[..., :length, :length].softmax(-1)
    return (q * (q / p).log()).sum(-1).mean()


def test_minilm_equals_its_equations_on_the_last_layer(student, teacher, batch):
    terms = evaluate(MiniLM(student.config, teacher.config), student, teacher, batch)
    own, other = run(student, batch), run(teacher, batch)
    lengths = batch["attention_mask"].sum(1).tolist()

    def relate(outputs, row, left, right):
        a, b = outputs[left][-1][row], outputs[right][-1][row]
        return a @ b.transpose(-1, -2) / a.shape[-1] ** 0.5

    for term, left, right in (("attention", "queries", "keys"), ("values", "values", "values")):
        rows = [
            naive_kl(relate(own, row, left, right), relate(other, row, left, right), length)
            for row, length in enumerate(lengths)
        ]
        torch.testing.assert_close(terms[term], torch.stack(rows).mean())


def test_minilm_needs_equal_heads_and_version_two_does_not(make_bert, teacher, batch):
    student = make_bert(num_attention_heads=2)
    with pytest.raises(InputError, match="student has 2 heads and the teacher 4; take MiniLMv2"):
        MiniLM(student.config, teacher.config)
    terms = evaluate(MiniLMv2(student.config, teacher.config, relation_heads=8), student, teacher, batch)
    assert set(terms) == {"queries", "keys", "values"} and all(value.item() > 0 for value in terms.values())
    zero = evaluate(MiniLMv2(teacher.config, teacher.config), teacher, teacher, batch)
    assert all(value.item() == pytest.approx(0.0, abs=1e-6) for value in zero.values())


def test_minilm_two_learns_from_the_layer_that_is_named(student, teacher, batch):
    values = [
        evaluate(MiniLMv2(student.config, teacher.config, 4, layer), student, teacher, batch)["keys"].item()
        for layer in (1, 2, 3, 4)
    ]
    assert len(set(values)) == 4
    default = evaluate(MiniLMv2(student.config, teacher.config, 4), student, teacher, batch)
    assert default["keys"].item() == values[-1]
    with pytest.raises(InputError, match="teacher_layer is 5; it must be a whole number from 1 to 4"):
        MiniLMv2(student.config, teacher.config, 4, 5)
    with pytest.raises(
        InputError, match="relation_heads is 3, which does not divide the student's width of 16"
    ):
        MiniLMv2(student.config, teacher.config, 3)


@pytest.mark.parametrize("method", [MiniLM, MiniLMv2])
def test_the_terms_of_minilm_have_a_weight_which_may_change(method, make_bert, teacher, batch):
    student = make_bert(seed=5, num_attention_heads=4)
    plain = evaluate(method(student.config, teacher.config), student, teacher, batch)
    weighted = method(student.config, teacher.config, weight=lambda progress: 3.0 - progress)
    terms = weighted(run(student, batch), run(teacher, batch), batch, 0.5)
    assert set(terms) == set(plain)
    for name, term in terms.items():
        assert term.item() == pytest.approx(2.5 * plain[name].item(), rel=1e-5)


@pytest.mark.parametrize(
    ("pairs", "weights"), [([(0, 0)], {"embedding": 0.0}), ([(1, 1)], {"hidden": 0, "attention": 0})]
)
def test_a_map_that_leaves_nothing_to_compare_is_refused(make_bert, pairs, weights):
    with pytest.raises(InputError, match="compare none of them, so nothing is learnt"):
        TinyBERTLayers(make_bert().config, make_bert().config, explicit(pairs), **weights)
