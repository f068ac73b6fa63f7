"""Heads and units: their importance against finite differences and weights times gradients, and what is left."""

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
)

from data_augment.errors import InputError
from nlp_distill.batching import DistillationCollator
from nlp_distill.compression.prune_structured import (
    choose_kept,
    count_removed,
    gate_inputs,
    prune_heads,
    prune_units,
    score_heads,
    score_units,
)
from nlp_distill.encoding import encode_rows
from nlp_distill.hashes import hash_weights
from nlp_distill.students import CompactBertForSequenceClassification, Shape, student_from_teacher
from nlp_distill.students.from_teacher import find_attention_linears, find_ffn_linears, find_layers

EPSILON = 1e-4


@pytest.fixture
def rows(make_rows, tokenizer):
    return encode_rows(make_rows(7), tokenizer, ("text",), 32)


@pytest.fixture
def collate(tokenizer):
    return DistillationCollator(tokenizer)


def attention_outputs(model):
    return [find_attention_linears(layer)[-1] for layer in find_layers(model)]


def outer_linears(model):
    return [find_ffn_linears(layer)[1] for layer in find_layers(model)]


def loss_of(model, batch, linears=(), gates=()):
    batch = dict(batch)
    labels = batch.pop("labels")
    with gate_inputs(linears, gates):
        logits = model(**batch).logits
    if labels.is_floating_point():
        return (logits.squeeze(-1) - labels).square().sum()
    return F.cross_entropy(logits, labels, reduction="sum")


def difference_quotients(model, linears, parts, rows, collate):
    """The mean over rows of |dL / dgate| by central differences in float64, a row and a gate at a time."""
    model = model.double().eval()
    totals = [torch.zeros(parts, dtype=torch.float64) for _ in linears]
    for row in range(len(rows)):
        batch = collate([rows[row]])
        if batch["labels"].is_floating_point():
            batch["labels"] = batch["labels"].double()
        for layer in range(len(linears)):
            for part in range(parts):
                losses = []
                for step in (EPSILON, -EPSILON):
                    gates = [torch.ones(parts, dtype=torch.float64) for _ in linears]
                    gates[layer][part] += step
                    with torch.no_grad():
                        losses.append(loss_of(model, batch, linears, gates))
                totals[layer][part] += abs(losses[0] - losses[1]).item() / (2 * EPSILON)
    return [total / len(rows) for total in totals]


@pytest.mark.parametrize("labels", [("negative", "positive"), ()], ids=["classes", "regression"])
def test_importance_of_heads_is_the_mean_absolute_derivative_of_each_rows_loss(
    make_bert, make_rows, tokenizer, collate, labels
):
    model = make_bert(labels=labels)
    given = make_rows(7) if labels else [row | {"label": row["label"] + 0.25} for row in make_rows(7)]
    rows = encode_rows(given, tokenizer, ("text",), 32)
    scores = score_heads(model, rows, collate)
    expected = difference_quotients(model, attention_outputs(model), 2, rows, collate)
    for score, other in zip(scores, expected, strict=True):
        assert score.shape == (2,) and (score > 0).all()
        torch.testing.assert_close(score.double(), other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "given", "missing"),
    [(("negative", "positive"), [1.0, 0.0, 1.0], -100.0), ((), [1, 0, 3], -100), ((), [0.5, 0.0, 3.0], None)],
    ids=["classes as floats", "whole numbers", "values"],
)
def test_rows_without_a_label_add_nothing(make_bert, make_rows, tokenizer, collate, labels, given, missing):
    model, texts = make_bert(labels=labels), make_rows(4)
    rows = [row | {"label": label} for row, label in zip(texts, [*given, missing], strict=True)]
    scores, known = (
        score_heads(model, encode_rows(some, tokenizer, ("text",), 32), collate) for some in (rows, rows[:3])
    )
    for score, other in zip(scores, known, strict=True):
        torch.testing.assert_close(score * 4, other * 3, rtol=1e-4, atol=1e-6)


def test_importance_of_units_agrees_with_finite_differences(make_bert, rows, collate):
    model = make_bert(intermediate_size=6)
    scores = score_units(model, rows, collate)
    expected = difference_quotients(model, outer_linears(model), 6, rows, collate)
    for score, other in zip(scores, expected, strict=True):
        torch.testing.assert_close(score.double(), other, rtol=1e-3, atol=1e-6)


def test_importance_of_units_is_the_taylor_score_of_their_outgoing_weights(make_bert, rows, collate):
    model = make_bert(intermediate_size=6).eval()
    expected = [torch.zeros(6) for _ in outer_linears(model)]
    for row in range(len(rows)):
        model.zero_grad()
        loss_of(model, collate([rows[row]])).backward()
        for total, linear in zip(expected, outer_linears(model), strict=True):
            total += (linear.weight * linear.weight.grad).sum(dim=0).abs().detach()
    for score, total in zip(score_units(model, rows, collate), expected, strict=True):
        torch.testing.assert_close(score, total / len(rows), rtol=1e-3, atol=1e-7)


def test_scoring_leaves_weights_gradients_and_mode_alone(make_bert, rows, collate):
    model = make_bert().train()
    before = hash_weights(model)
    score_heads(model, rows, collate)
    score_units(model, rows, collate)
    assert model.training and hash_weights(model) == before
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())


def test_a_model_without_some_heads_has_the_logits_of_the_whole_one_with_their_gates_at_zero(
    make_bert, rows, collate, tmp_path
):
    model = make_bert(num_attention_heads=4).eval()
    kept = [torch.tensor([0, 2, 3]), torch.tensor([1, 2, 3])]  # 3 heads do not divide the 16 numbers
    pruned = prune_heads(model, kept).eval()
    gates = [torch.zeros(4).index_fill(0, heads, 1.0) for heads in kept]
    batch = collate([rows[i] for i in range(len(rows))])
    batch.pop("labels")
    with torch.no_grad(), gate_inputs(attention_outputs(model), gates):
        expected = model(**batch).logits
    found = pruned(**batch).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found, model(**batch).logits, atol=1e-3)
    assert isinstance(pruned, CompactBertForSequenceClassification) and pruned.config.head_size == 4
    # Of each layer a quarter of W_q, W_k, W_v, W_o and of the biases of the first three.
    count = sum(weight.numel() for weight in model.parameters())
    assert sum(weight.numel() for weight in pruned.parameters()) == count - 2 * (4 * 4 * 16 + 3 * 4)
    pruned.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(**batch).logits, found) and loaded.config.id2label == model.config.id2label


def test_heads_can_be_taken_out_of_a_compact_bert_again(make_bert, rows, collate):
    model = make_bert(num_attention_heads=4).eval()
    once = prune_heads(model, [torch.tensor([1, 3])] * 2)
    twice = prune_heads(prune_heads(model, [torch.tensor([0, 1, 3])] * 2), [torch.tensor([1, 2])] * 2)
    assert hash_weights(once) == hash_weights(twice)


def small(kind, tokenizer):
    torch.manual_seed(0)
    size = {"vocab_size": len(tokenizer), "initializer_range": 0.2}
    if kind == "electra":
        shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 10, "num_hidden_layers": 2}
        return ElectraForSequenceClassification(ElectraConfig(embedding_size=8, **shape, **size))
    shape = {"dim": 16, "hidden_dim": 10, "n_heads": 2, "n_layers": 2}
    return DistilBertForSequenceClassification(DistilBertConfig(**shape, **size))


@pytest.mark.parametrize("kind", ["bert", "electra", "distilbert"])
def test_a_model_without_some_units_is_a_plain_one_with_the_logits_of_zero_gates(
    make_bert, tokenizer, rows, collate, kind, tmp_path
):
    model = (make_bert(intermediate_size=10) if kind == "bert" else small(kind, tokenizer)).eval()
    kept = choose_kept(score_units(model, rows, collate), 4)
    pruned = prune_units(model, kept).eval()
    gates = [torch.zeros(10).index_fill(0, units, 1.0) for units in kept]
    batch = collate([rows[i] for i in range(len(rows))])
    batch.pop("labels")
    with torch.no_grad(), gate_inputs(outer_linears(model), gates):
        expected = model(**batch).logits
    torch.testing.assert_close(pruned(**batch).logits, expected, rtol=1e-5, atol=1e-6)
    assert type(pruned) is type(model) and outer_linears(pruned)[0].in_features == 6
    pruned.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert hash_weights(loaded) == hash_weights(pruned)


def test_the_most_important_stay_in_their_order():
    scores = [torch.tensor([0.5, 0.1, 0.9, 0.3]), torch.tensor([0.2, 0.2, 0.2, 0.1])]
    assert [kept.tolist() for kept in choose_kept(scores, 2)] == [[0, 2], [0, 1]]


@pytest.mark.parametrize(("amount", "removed"), [(4, 4), (11, 11), (0.5, 6), (0.3, 4), (0.95, 11)])
def test_heads_are_given_as_a_number_or_a_share(amount, removed):
    assert count_removed(amount, 12, "--prune-heads") == removed


@pytest.mark.parametrize("amount", [0, -1, 12, 13, 0.0, 1.0, 0.01, 0.99, float("nan"), float("inf")])
def test_all_heads_or_none_is_refused(amount):
    with pytest.raises(
        InputError, match="--prune-heads is .* a layer has 12; give a whole number from 1 to 11"
    ):
        count_removed(amount, 12, "--prune-heads")


def test_kinds_that_cannot_lose_heads_are_refused(tokenizer):
    with pytest.raises(InputError, match="--prune-heads works with models of the types bert, .*a electra"):
        prune_heads(small("electra", tokenizer), [])


def test_no_student_is_cut_from_a_model_whose_heads_have_a_size_of_their_own(make_bert):
    pruned = prune_heads(make_bert(), [torch.tensor([0])] * 2)
    with pytest.raises(InputError, match="heads of a size of their own"):
        student_from_teacher(pruned, Shape(layers=1, hidden=8, heads=1, ffn=8))
    assert isinstance(student_from_teacher(make_bert(), None), BertForSequenceClassification)
