"""Layerwise learning rates: every parameter's multiplier is the paper's."""

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    FlaubertConfig,
    FlaubertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from data_augment.errors import InputError
from nlp_distill.optim import layerwise_groups, measure_depths
from nlp_distill.students import (
    BiLSTMConfig,
    BiLSTMForSequenceClassification,
    BranchedForSequenceClassification,
    CNNConfig,
    CNNForSequenceClassification,
    MultiTaskModel,
    TaskHead,
)

TINY = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}


def multipliers(model, decay=0.9):
    """{name: learning rate} at a rate of 1."""
    rates = {id(p): group["lr"] for group in layerwise_groups(model, 1.0, decay) for p in group["params"]}
    return {name: rates[id(parameter)] for name, parameter in model.named_parameters()}


def test_every_parameter_of_a_12_layer_bert_has_the_papers_multiplier():
    model = BertForSequenceClassification(BertConfig(num_hidden_layers=12, **TINY))
    expected = {}
    for name, _ in model.named_parameters():
        if name.startswith("classifier"):
            expected[name] = 1.0
        elif "pooler" in name:
            expected[name] = 0.9
        elif "embeddings" in name:
            expected[name] = 0.9**14
        else:  # bert.encoder.layer.<l>...: the top layer, 11, is two steps from the head
            expected[name] = 0.9 ** (13 - int(name.split(".")[3]))
    assert multipliers(model) == pytest.approx(expected)
    assert expected["bert.encoder.layer.11.output.dense.weight"] == 0.9**2
    assert expected["bert.encoder.layer.0.output.dense.weight"] == 0.9**13


@pytest.mark.parametrize(
    ("model", "deepest", "heads"),
    [
        (
            lambda: RobertaForSequenceClassification(RobertaConfig(num_hidden_layers=3, **TINY)),
            5,
            "classifier",
        ),
        (
            lambda: ElectraForSequenceClassification(
                ElectraConfig(num_hidden_layers=3, embedding_size=4, **TINY)
            ),
            5,
            "classifier",
        ),
        (
            lambda: DistilBertForSequenceClassification(
                DistilBertConfig(dim=8, hidden_dim=8, n_heads=2, n_layers=3, vocab_size=20)
            ),
            5,
            "classifier",
        ),
        (
            lambda: BiLSTMForSequenceClassification(
                BiLSTMConfig(vocab_size=20, embedding_size=4, hidden_size=4, head_size=4)
            ),
            3,
            "classifier",
        ),
        (
            lambda: CNNForSequenceClassification(CNNConfig(vocab_size=20, embedding_size=4, filters=2)),
            3,
            "classifier",
        ),
    ],
    ids=["roberta", "electra", "distilbert", "bilstm", "cnn"],
)
def test_other_encoders_run_from_the_head_to_the_embeddings(model, deepest, heads):
    depths = dict(measure_depths(model()))
    assert {depth for name, depth in depths.items() if "embeddings" in name} == {deepest}
    assert {depth for name, depth in depths.items() if heads in name} == {0}
    between = {
        depth for name, depth in depths.items() if "layer." in name or "lstm" in name or "windows" in name
    }
    assert between == set(range(2, deepest))


def test_each_trainable_parameter_is_in_one_group_and_biases_and_norms_do_not_decay():
    model = BertForSequenceClassification(BertConfig(num_hidden_layers=2, **TINY))
    model.bert.embeddings.word_embeddings.weight.requires_grad_(False)
    groups = layerwise_groups(model, 1e-3, weight_decay=0.5)
    grouped = [id(p) for group in groups for p in group["params"]]
    trainable = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    assert sorted(grouped) == sorted(trainable)
    for group in groups:
        for parameter in group["params"]:
            name = trainable[id(parameter)]
            free = name.endswith("bias") or "LayerNorm" in name
            assert group["weight_decay"] == (0.0 if free else 0.5), name
    torch.optim.AdamW(groups)  # the form that optimisers take


def test_a_decay_of_one_gives_one_rate_and_others_are_refused():
    model = BertForSequenceClassification(BertConfig(num_hidden_layers=2, **TINY))
    assert set(multipliers(model, decay=1.0).values()) == {1.0}
    for decay in (0, 1.1, -0.5):
        with pytest.raises(InputError, match="give a factor above 0 and up to 1"):
            layerwise_groups(model, 1e-3, decay)
    with pytest.raises(InputError, match="nothing to learn"):
        layerwise_groups(model.requires_grad_(False), 1e-3)


def test_branches_stand_on_their_trunk():
    bert = BertForSequenceClassification(BertConfig(num_hidden_layers=4, **TINY))
    rates = multipliers(BranchedForSequenceClassification.from_classifier(bert, branches=2, depth=1))
    found = {
        ".".join(name.split(".")[: name.split(".").index("layer") + 2]): rate
        for name, rate in rates.items()
        if ".layer." in name
    }
    trunk, branches = (
        [rate for name, rate in found.items() if name.startswith(p)] for p in ("trunk", "branches")
    )
    assert trunk == pytest.approx([0.9**5, 0.9**4, 0.9**3]) and branches == pytest.approx([0.9**2] * 2)


def test_layers_of_other_names_are_refused():
    config = FlaubertConfig(emb_dim=8, n_layers=2, n_heads=2, vocab_size=20)
    with pytest.raises(InputError, match="layers of FlaubertForSequenceClassification are not known"):
        layerwise_groups(FlaubertForSequenceClassification(config), 1e-3)


def test_what_a_task_is_called_changes_no_rate():
    bert = BertForSequenceClassification(BertConfig(num_hidden_layers=2, **TINY))
    names = ["sst", "media_bias", "word_embeddings", "pooler", "layer_norm"]
    model = MultiTaskModel.from_encoder(bert, [TaskHead(name, ("a", "b")) for name in names])
    rates = {id(p): group for group in layerwise_groups(model, 1e-3) for p in group["params"]}
    for name in names:
        head = model.heads[name].classifier
        assert rates[id(head.weight)]["lr"] == rates[id(head.bias)]["lr"] == 1e-3
        assert rates[id(head.weight)]["weight_decay"] > 0 == rates[id(head.bias)]["weight_decay"]


@pytest.mark.parametrize(
    ("make", "deepest"),
    [
        (lambda: XLNetForSequenceClassification(XLNetConfig(d_model=8, n_layer=2, n_head=2, d_inner=8, vocab_size=20)),
         {"word_embedding", "mask_emb"}),
        (lambda: AlbertForSequenceClassification(AlbertConfig(embedding_size=4, **TINY)),
         {"embeddings", "embedding_hidden_mapping_in"}),
        (lambda: MPNetForSequenceClassification(MPNetConfig(num_hidden_layers=2, **TINY)),
         {"embeddings", "relative_attention_bias"}),
    ],
    ids=["xlnet", "albert", "mpnet"],
)  # fmt: skip
def test_embeddings_by_other_names_are_no_heads(make, deepest):
    depths = dict(measure_depths(make()))
    most = max(depths.values())
    for part in deepest:
        assert {depth for name, depth in depths.items() if part in name} == {most}, part
    assert most > 2 and {depth for name, depth in depths.items() if "classifier." in name} <= {0}
