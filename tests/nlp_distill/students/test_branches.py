"""Branches on a shared trunk: each is a plain classifier, the trunk runs once, the whole is saved and loaded."""

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AutoConfig,
    AutoModelForSequenceClassification,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from data_augment.errors import InputError
from nlp_distill.batching import DistillationCollator
from nlp_distill.encoding import encode_rows
from nlp_distill.precision import try_bf16
from nlp_distill.students import (
    BiLSTMConfig,
    BiLSTMForSequenceClassification,
    BranchedConfig,
    BranchedForSequenceClassification,
    CompactBertConfig,
    CompactBertForSequenceClassification,
)
from nlp_distill.students.branches import BRANCHABLE

LAYERS = 3
TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": LAYERS}
TINY |= {"max_position_embeddings": 64, "initializer_range": 0.2}
KINDS = {
    "roberta": (
        RobertaForSequenceClassification,
        RobertaConfig,
        {**TINY, "type_vocab_size": 2, "pad_token_id": 0},
    ),
    "electra": (ElectraForSequenceClassification, ElectraConfig, {**TINY, "embedding_size": 8}),
    "distilbert": (
        DistilBertForSequenceClassification,
        DistilBertConfig,
        {"dim": 16, "hidden_dim": 24, "n_heads": 2, "n_layers": LAYERS, "initializer_range": 0.2},
    ),
    "compact": (CompactBertForSequenceClassification, CompactBertConfig, {**TINY, "embedding_size": 8}),
}


@pytest.fixture
def batch(make_rows, tokenizer):
    encoded = encode_rows(make_rows(6), tokenizer, ["text", "second"], 48)
    batch = DistillationCollator(tokenizer)([encoded[i] for i in range(6)])
    return {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}


@pytest.fixture(params=["bert", *KINDS])
def source(request, make_bert, tokenizer):
    """A classifier of three layers and three labels; what its dropout does is left out."""
    labels = ("no", "maybe", "yes")
    if request.param == "bert":
        return make_bert(seed=3, labels=labels, num_hidden_layers=LAYERS).eval()
    model, config, sizes = KINDS[request.param]
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    torch.manual_seed(0)
    return model(config(vocab_size=len(tokenizer), **sizes, **names)).eval()


def answer(model, batch):
    takes_types = "distilbert" not in type(model).__name__.lower()
    kept = {name: value for name, value in batch.items() if takes_types or name != "token_type_ids"}
    return model(**kept).logits


@pytest.mark.parametrize("depth", range(1, LAYERS + 1))
def test_with_copied_heads_every_branch_and_the_ensemble_answer_as_the_source(source, batch, depth):
    model = BranchedForSequenceClassification.from_classifier(source, depth=depth, copy_heads=True).eval()
    outputs, expected = model(**batch), answer(source, batch)
    assert outputs.branch_logits.shape == (6, 3, 3)
    torch.testing.assert_close(outputs.logits, expected)
    torch.testing.assert_close(outputs.branch_logits, expected[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(outputs.gate, torch.full((6, 3), 1 / 3))  # the mean, to begin with


def test_a_branch_is_a_plain_model_with_the_branch_s_logits_and_weights_of_its_own(source, batch, tmp_path):
    model = BranchedForSequenceClassification.from_classifier(source, branches=2, depth=2, seed=1).eval()
    stir(model)
    logits = model(**batch).branch_logits
    assert not torch.allclose(logits[:, 0], logits[:, 1], atol=1e-3)
    for number in (0, 1):
        model.branch(number).save_pretrained(tmp_path / str(number))
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / str(number)).eval()
        assert type(loaded) is type(source) and loaded.config.num_hidden_layers == LAYERS
        assert loaded.config.id2label == source.config.id2label
        torch.testing.assert_close(answer(loaded, batch), logits[:, number])
    alone = model.branch(0)
    with torch.no_grad():
        alone.get_input_embeddings().weight.zero_()
    assert model.get_input_embeddings().weight.any()


def stir(model):
    """Move every weight a little, so that none is what it started from."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def test_the_ensemble_is_the_gated_sum_of_the_branches(make_bert, batch):
    """z_e = sum of g_i z_i with g = softmax(W mean(h) + b), by a loop over rows and branches without padding."""
    model = BranchedForSequenceClassification.from_classifier(make_bert(num_hidden_layers=2)).eval()
    stir(model)
    model.requires_grad_(False)
    outputs = model(**batch)
    for row, real in enumerate(batch["attention_mask"].bool()):
        alone = {name: value[row : row + 1, real] for name, value in batch.items()}
        h = model.trunk(**alone).last_hidden_state[0]
        scores = [
            float(h.mean(dim=0) @ w + b) for w, b in zip(model.gate.weight, model.gate.bias, strict=True)
        ]
        shares = torch.tensor(scores).exp() / sum(torch.tensor(scores).exp())
        mixed = sum(g * model.branch(i).eval()(**alone).logits[0] for i, g in enumerate(shares))
        torch.testing.assert_close(outputs.gate[row], shares, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(outputs.logits[row], mixed, rtol=1e-4, atol=1e-5)
    assert outputs.gate.std(dim=0).max() > 1e-4  # not one mixture for all


def test_heads_are_drawn_anew_and_layers_are_copies(source):
    state = torch.random.get_rng_state()
    model = BranchedForSequenceClassification.from_classifier(source, branches=2, depth=1)
    again = BranchedForSequenceClassification.from_classifier(source, branches=2, depth=1)
    other = BranchedForSequenceClassification.from_classifier(source, branches=2, depth=1, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    names, weights = model._map_names(1), source.state_dict()
    assert set(names.values()) == set(weights)
    for own, name in names.items():
        value, is_head = model.state_dict()[own], not name.startswith(f"{source.base_model_prefix}.")
        assert torch.equal(value, again.state_dict()[own])
        if not is_head:
            assert torch.equal(value, weights[name])
        elif name.endswith("weight"):
            assert not torch.equal(value, weights[name]) and not torch.equal(value, other.state_dict()[own])
            assert not torch.equal(value, model.state_dict()[own.replace("branches.1", "branches.0")])


def test_it_is_saved_and_loaded_whole(source, batch, tmp_path):
    model = BranchedForSequenceClassification.from_classifier(source, branches=4, depth=2).eval()
    stir(model)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, BranchedForSequenceClassification)
    assert loaded.config.id2label == source.config.id2label
    pairs = zip(loaded.state_dict().items(), model.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(own, kept) for (name, own), (other, kept) in pairs)
    torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits)


def test_the_trunk_runs_once_and_a_branch_has_no_embeddings(make_bert, batch):
    model = BranchedForSequenceClassification.from_classifier(
        make_bert(num_hidden_layers=3), branches=3, depth=1
    )
    calls = []
    for layer in model.trunk.encoder.layer:
        layer.register_forward_hook(lambda *_: calls.append(1))
    model(**batch)
    assert len(calls) == 2
    assert sum("embeddings" in name for name, _ in model.branches.named_parameters()) == 0
    whole = sum(p.numel() for p in make_bert(num_hidden_layers=3).parameters())
    own = sum(p.numel() for p in model.branches[0].parameters())
    assert sum(p.numel() for p in model.parameters()) == whole + 2 * own + 3 * 16 + 3  # and the gate


def test_padding_and_the_other_rows_change_nothing(make_bert, batch):
    model = BranchedForSequenceClassification.from_classifier(make_bert()).train()  # dropout is off
    stir(model)
    longer = {name: torch.nn.functional.pad(value, (0, 5)) for name, value in batch.items()}
    torch.testing.assert_close(model(**longer).logits, model(**batch).logits, rtol=1e-4, atol=1e-5)
    first = {name: value[:1] for name, value in batch.items()}
    torch.testing.assert_close(model(**first).logits, model(**batch).logits[:1], rtol=1e-4, atol=1e-5)


def test_pipelines_take_it(make_bert, tokenizer):
    model = BranchedForSequenceClassification.from_classifier(make_bert()).eval()
    answer = pipeline("text-classification", model=model, tokenizer=tokenizer)("good film")
    assert answer[0]["label"] in ("negative", "positive")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"branches": 1}, "branches is 1; it must be a whole number from 2 to 64"),
        ({"depth": 0}, "depth is 0; it must be a whole number from 1 to 2"),
        ({"depth": 3}, "depth is 3; it must be a whole number from 1 to 2"),
    ],
)
def test_numbers_out_of_range_are_refused(make_bert, settings, message):
    with pytest.raises(InputError, match=message):
        BranchedForSequenceClassification.from_classifier(make_bert(), **settings)
    with pytest.raises(InputError, match="branch is 3; it must be a whole number from 0 to 2"):
        BranchedForSequenceClassification.from_classifier(make_bert()).branch(3)


def test_models_without_layers_of_their_own_and_without_a_head_are_refused(make_bert):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "embedding_size": 8}
    others = [
        BiLSTMForSequenceClassification(BiLSTMConfig(vocab_size=40, embedding_size=4, hidden_size=3)),
        AlbertForSequenceClassification(AlbertConfig(vocab_size=40, num_hidden_layers=2, **sizes)),
    ]
    for model in others:
        with pytest.raises(
            InputError, match=f"of the kind {model.config.model_type} has no layers that can be"
        ):
            BranchedForSequenceClassification.from_classifier(model)
    for model in (make_bert().bert, BertForTokenClassification(make_bert().config)):
        with pytest.raises(
            InputError, match="is no sequence classifier.*give a BertForSequenceClassification"
        ):
            BranchedForSequenceClassification.from_classifier(model)
    for kind in (
        "megatron-bert",
        "roberta-prelayernorm",
        "xlm-roberta-xl",
    ):  # a norm of all layers at the end
        config = AutoConfig.for_model(kind, vocab_size=40, **TINY)
        with pytest.raises(InputError, match=f"of the kind {kind} has no layers that can be branched"):
            BranchedForSequenceClassification.from_classifier(
                AutoModelForSequenceClassification.from_config(config)
            )
    with pytest.raises(InputError, match="depth is 5"):
        BranchedForSequenceClassification(BranchedConfig(encoder=make_bert().config.to_dict(), depth=5))


@pytest.mark.parametrize("kind", BRANCHABLE)
def test_every_kind_answers_in_pieces_as_in_one(kind):
    """With biases and gains that are not those of the start, which would hide a norm that is passed twice."""
    ours = {"nlp-distill-compact-bert": "compact", "distilbert": "distilbert"}
    torch.manual_seed(0)
    if kind in ours:
        _, config, sizes = KINDS[ours[kind]]
        model = AutoModelForSequenceClassification.from_config(config(vocab_size=60, **sizes))
    else:
        config = AutoConfig.for_model(kind, vocab_size=60, pad_token_id=1, **TINY)
        model = AutoModelForSequenceClassification.from_config(config)
    stir(model.eval())
    ids, mask = torch.randint(5, 60, (3, 9)), torch.ones(3, 9, dtype=torch.long)
    ids[0, 5:], mask[0, 5:] = 1, 0
    branched = BranchedForSequenceClassification.from_classifier(model, branches=2, copy_heads=True).eval()
    expected = model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(branched(ids, mask).logits, expected)
    torch.testing.assert_close(branched.branch(1)(input_ids=ids, attention_mask=mask).logits, expected)


def test_it_answers_in_half_precision(make_bert, batch):
    if ending := try_bf16():
        pytest.skip(f"this processor does not run bf16 (a trial ended with {ending})")
    model = BranchedForSequenceClassification.from_classifier(make_bert()).eval()
    expected = model(**batch).logits
    torch.testing.assert_close(model.bfloat16()(**batch).logits.float(), expected, atol=0.05, rtol=0.05)


def test_the_precision_is_the_source_s_whatever_its_config_says(make_bert, tmp_path):
    make_bert().half().save_pretrained(tmp_path)
    half = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    for source in (half, AutoModelForSequenceClassification.from_pretrained(tmp_path).float()):
        model = BranchedForSequenceClassification.from_classifier(source, copy_heads=True)
        assert {weight.dtype for weight in model.parameters()} == {source.dtype}
        assert model.branch(0).dtype == source.dtype
    model.save_pretrained(tmp_path / "whole")
    loaded = BranchedForSequenceClassification.from_pretrained(tmp_path / "whole")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
