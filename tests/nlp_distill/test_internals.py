"""Queries, keys and values are what the attention computes, in every family and on every backend."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    RoFormerConfig,
    RoFormerForSequenceClassification,
)

from data_augment.errors import InputError
from nlp_distill import BiLSTMConfig, BiLSTMForSequenceClassification
from nlp_distill.internals import record_projections, run_model
from nlp_distill.losses import scale_scores

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 24, "max_position_embeddings": 32}
FAMILIES = {
    "bert": lambda **more: BertForSequenceClassification(BertConfig(**SIZES | more)),
    "roberta": lambda **more: RobertaForSequenceClassification(RobertaConfig(**SIZES | more, pad_token_id=1)),
    "electra": lambda **more: ElectraForSequenceClassification(
        ElectraConfig(**SIZES | more, embedding_size=8)
    ),
    "distilbert": lambda **more: DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=40,
            dim=more.get("hidden_size", 16),
            n_layers=more.get("num_hidden_layers", 3),
            n_heads=more.get("num_attention_heads", 4),
            hidden_dim=more.get("intermediate_size", 24),
            max_position_embeddings=32,
        )
    ),
}
each_family = pytest.mark.parametrize("family", FAMILIES)
EVERYTHING = frozenset({"hidden_states", "queries", "keys", "values"})


@pytest.fixture
def inputs():
    ids = torch.randint(5, 40, (2, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    return {"input_ids": ids, "attention_mask": mask}


def count_hooks(model):
    """Hooks on linear layers; transformers has its own elsewhere."""
    return sum(
        len(module._forward_hooks) for module in model.modules() if isinstance(module, torch.nn.Linear)
    )


@each_family
@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_softmax_of_the_scores_is_the_models_own_attention(family, backend, inputs):
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    model.set_attn_implementation("eager")
    own = model(**inputs, output_attentions=True).attentions
    model.set_attn_implementation(backend)
    outputs = run_model(model, inputs, EVERYTHING)
    assert len(outputs["queries"]) == 3 and len(outputs["hidden_states"]) == 4
    padding = ~inputs["attention_mask"].bool()[:, None, None, :]
    for attention, queries, keys, values in zip(
        own, outputs["queries"], outputs["keys"], outputs["values"], strict=True
    ):
        assert queries.shape == values.shape == (2, 4, 6, 4)
        scores = scale_scores(queries, keys).masked_fill(padding, float("-inf"))
        torch.testing.assert_close(scores.softmax(-1), attention)


@each_family
def test_gradients_flow_and_hooks_are_gone_afterwards(family, inputs):
    model = FAMILIES[family]()
    with record_projections(model):
        assert count_hooks(model) == 9  # queries, keys and values of three layers
    outputs = run_model(model, inputs, frozenset({"queries"}))
    outputs["queries"][0].sum().backward()
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0
    assert count_hooks(model) == 0


def test_hooks_are_gone_after_an_error_too(inputs):
    model = FAMILIES["bert"]()
    with pytest.raises(ValueError, match="exactly one of input_ids"):
        run_model(model, {**inputs, "input_ids": None}, EVERYTHING)
    assert count_hooks(model) == 0


def test_models_without_attention_or_hidden_states_are_refused(inputs):
    model = BiLSTMForSequenceClassification(BiLSTMConfig(vocab_size=40, embedding_size=4, hidden_size=3))
    with pytest.raises(InputError, match="has no attention layers with separate query, key and value"):
        run_model(model, inputs, frozenset({"queries"}))
    with pytest.raises(InputError, match="BiLSTMForSequenceClassification returns no hidden states"):
        run_model(model, inputs, frozenset({"hidden_states"}))


@each_family
@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_logits_can_be_differentiated_twice_by_the_words_embeddings(family, backend, inputs):
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    model.set_attn_implementation(backend)
    outputs = run_model(model, inputs, frozenset({"input_embeddings"}))
    words, logits = outputs["input_embeddings"], outputs["attached_logits"]
    assert torch.equal(words, model.get_input_embeddings()(inputs["input_ids"]))
    [slope] = torch.autograd.grad(logits[:, 0].sum(), words, create_graph=True)
    moved, step = words.detach().clone(), 1e-2
    higher, lower = moved.clone(), moved.clone()
    higher[1, 2, 3] += step
    lower[1, 2, 3] -= step
    ends = [
        model(inputs_embeds=e, attention_mask=inputs["attention_mask"]).logits[1, 0] for e in (higher, lower)
    ]
    torch.testing.assert_close(slope[1, 2, 3], (ends[0] - ends[1]) / (2 * step), rtol=0.05, atol=1e-5)
    assert not slope[1, 4:].any()  # padding
    slope.square().sum().backward()
    assert all(p.grad.any() for name, p in model.named_parameters() if name.endswith("query.weight"))


def test_models_that_turn_their_queries_are_refused(inputs):
    """RoFormer's linear layers have BERT's names, and softmax(Q K^T / sqrt(d)) is not its attention."""
    config = RoFormerConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    with pytest.raises(InputError, match="no attention layers with separate query, key and value"):
        run_model(RoFormerForSequenceClassification(config), inputs, frozenset({"queries"}))


def test_reentrant_checkpointing_is_refused_where_it_would_teach_nothing(inputs):
    model = FAMILIES["bert"]()
    for reentrant in (False, True):
        model.train().activation_checkpointing_enable({"use_reentrant": reentrant})
        if reentrant:
            with pytest.raises(InputError, match="'use_reentrant': False"):
                run_model(model, inputs, frozenset({"queries"}))
        else:
            assert run_model(model, inputs, frozenset({"queries"}))["queries"][0].requires_grad
    with torch.no_grad():
        assert len(run_model(model.eval(), inputs, frozenset({"queries"}))["queries"]) == 3
