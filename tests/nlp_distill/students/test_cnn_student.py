"""The CNN student against loops written from the paper; its promises about padding, short texts, loading, training."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from data_augment.errors import InputError
from nlp_distill.students import (
    CNNConfig,
    CNNForSequenceClassification,
    WordStudent,
    build_cnn,
    count_parameters,
    trim_vocabulary,
)

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture
def make_cnn():
    """A tiny student in evaluation mode; keyword arguments change its configuration."""

    def make(**changes):
        settings = {"vocab_size": 40, "embedding_size": 6, "filters": 4, "num_labels": 3}
        torch.manual_seed(0)
        model = CNNForSequenceClassification(CNNConfig(**settings | changes)).eval()
        with torch.no_grad():  # a vector of its own for the pad token: reading it would be seen
            model.embeddings.weight[0] = 3.0
        return model

    return make


def pad_rows(rows, side="right", width=None):
    """Lists of ids -> (input_ids, attention_mask), padded with 0."""
    width = width or max(len(row) for row in rows)
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width).long()
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[index, place], mask[index, place] = torch.tensor(row, dtype=torch.long), 1
    return ids, mask


def random_rows(count, seed=0, longest=12, low=3):
    generator = np.random.default_rng(seed)
    return [generator.integers(low, 40, generator.integers(1, longest + 1)).tolist() for _ in range(count)]


def naive_state(model, ids):
    """The paper's loops over one row without padding: widths, filters, windows, the words of a window."""
    channels = [c for c in (model.static_embeddings, model.embeddings) if c is not None]
    words = [np.concatenate([c.weight[i].detach().numpy() for c in channels]).astype(float) for i in ids]
    state = []
    for width, linear in zip(model.config.widths, model.encoder.windows, strict=True):
        size = linear.in_features // width
        filled = words + [np.zeros(size)] * (width - len(words))  # a text shorter than the window
        weights = linear.weight.detach().numpy().astype(float).reshape(-1, width, size)
        for number, bias in enumerate(linear.bias.tolist()):
            values = []
            for start in range(len(filled) - width + 1):
                total = sum(weights[number, k] @ filled[start + k] for k in range(width)) + bias
                values.append(max(total, 0.0))
            state.append(max(values))
    return torch.tensor(state, dtype=torch.float32)


def random_bias(model):
    with torch.no_grad():  # of both signs and large, so that a window of padding would win somewhere
        for linear in model.encoder.windows:
            linear.bias.copy_(torch.linspace(-2, 2, len(linear.bias)))
    return model


@pytest.mark.parametrize("changes", [{}, {"embedding_channels": 2}, {"widths": [1]}, {"widths": [7, 2]}])
def test_logits_equal_the_loops_of_the_paper(make_cnn, changes):
    model, rows = random_bias(make_cnn(**changes)), random_rows(33)
    assert min(map(len, rows)) < 3  # shorter than a window
    with torch.no_grad():
        expected = torch.stack([model.classifier(naive_state(model, row)) for row in rows])
        torch.testing.assert_close(model(*pad_rows(rows)).logits, expected, **CLOSE)


def test_a_convolution_is_that_of_torch(make_cnn):
    model = make_cnn(widths=[3])
    linear = model.encoder.windows[0]
    convolution = torch.nn.Conv1d(6, 4, 3)
    ids = torch.tensor([random_rows(1, longest=9)[0] * 3])
    with torch.no_grad():
        convolution.weight.copy_(linear.weight.view(4, 3, 6).transpose(1, 2))
        convolution.bias.copy_(linear.bias)
        expected = convolution(model.embeddings(ids).transpose(1, 2)).relu().amax(dim=2)
        torch.testing.assert_close(model._encode(ids, ids >= 0), expected, **CLOSE)


def test_a_value_by_hand():
    model = CNNForSequenceClassification(
        CNNConfig(vocab_size=4, embedding_size=1, filters=1, widths=[2], num_labels=1)
    ).eval()
    with torch.no_grad():
        model.embeddings.weight.copy_(torch.tensor([[9.0], [1.0], [2.0], [-3.0]]))
        model.encoder.windows[0].weight.copy_(torch.tensor([[2.0, -1.0]]))
        model.encoder.windows[0].bias.fill_(0.5)
        model.classifier.weight.fill_(10.0)
        model.classifier.bias.fill_(-1.0)
        # Words 1, 2, -3: 2*1 - 2 + 0.5 = 0.5 and 2*2 + 3 + 0.5 = 7.5; the maximum 7.5 makes 74.
        assert model(torch.tensor([[1, 2, 3]])).logits.item() == pytest.approx(74.0)
        # One word, 2, then zero: 4.5. None: the bias. All words negative: relu gives 0.
        assert model(torch.tensor([[2, 0, 0]])).logits.item() == pytest.approx(44.0)
        assert model(torch.tensor([[0, 0, 0]])).logits.item() == pytest.approx(4.0)
        assert model(torch.tensor([[3, 1, 0]])).logits.item() == pytest.approx(-1.0)


def test_pair_logits_equal_the_formula_on_states_of_each_text(make_cnn):
    model = make_cnn(pair=True, ignored_token_ids=[1, 2])
    firsts, seconds = random_rows(9, seed=1), random_rows(9, seed=2)
    seconds[0] = []
    both = list(zip(firsts, seconds, strict=True))
    ids, mask = pad_rows([[1, *first, 2, *second, 2] for first, second in both])
    types, _ = pad_rows([[0] * (len(first) + 2) + [1] * (len(second) + 1) for first, second in both])
    expected = []
    for first, second in both:
        h1, h2 = naive_state(model, first), naive_state(model, second)
        expected.append(model.classifier(torch.cat([h1, h2, h1 * h2, (h1 - h2).abs()])))
    with torch.no_grad():
        found = model(ids, attention_mask=mask, token_type_ids=types).logits
    torch.testing.assert_close(found, torch.stack(expected), **CLOSE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_tokens_do_not_change_logits_on_either_side(make_cnn, side):
    model, rows = random_bias(make_cnn()), random_rows(20)
    with torch.no_grad():
        alone = torch.cat([model(torch.tensor([row])).logits for row in rows])
        ids, mask = pad_rows(rows, side, width=30)
        torch.testing.assert_close(model(ids, mask).logits, alone, **CLOSE)
        torch.testing.assert_close(model(ids.masked_fill(mask == 0, 17), mask).logits, alone, **CLOSE)
        torch.testing.assert_close(model(ids).logits, alone, **CLOSE)  # the pad token is padding


def test_texts_of_no_word_and_framing_tokens_are_read_as_what_they_are(make_cnn):
    model = random_bias(make_cnn(ignored_token_ids=[1, 2]))
    with torch.no_grad():
        ids, mask = pad_rows([[1, 2], [1, 5, 6, 2], [1, 5, 2]])
        expected = torch.stack([model.classifier(naive_state(model, row)) for row in ([], [5, 6], [5])])
        torch.testing.assert_close(model(ids, mask).logits, expected, **CLOSE)
        torch.testing.assert_close(model(ids[:1], mask[:1]).logits, expected[:1], **CLOSE)


def test_graph_path_equals_the_path_that_leaves_out_padding(make_cnn):
    model = make_cnn()
    ids, mask = pad_rows(random_rows(20), width=40)
    names = ("batch", "seq")
    shapes = {i: torch.export.Dim(name) for i, name in enumerate(names)}
    program = torch.export.export(model, (ids, mask), dynamic_shapes=(shapes, shapes)).module()
    for rows in (random_rows(7, seed=3), [[5]]):
        ids, mask = pad_rows(rows, width=25)
        with torch.no_grad():
            torch.testing.assert_close(program(ids, mask).logits, model(ids, mask).logits, **CLOSE)


@pytest.mark.parametrize("pair", [False, True])
def test_every_trainable_parameter_gets_a_gradient_and_the_frozen_channel_none(make_cnn, pair):
    model = make_cnn(embedding_channels=2, pair=pair).train()
    ids, mask = pad_rows(random_rows(16))
    model(ids, mask, token_type_ids=ids % 2, labels=torch.arange(16) % 3).loss.backward()
    for name, weight in model.named_parameters():
        if name == "static_embeddings.weight":
            assert not weight.requires_grad and weight.grad is None
        else:
            assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    "changes", [{}, {"embedding_channels": 2}, {"freeze_embeddings": True}, {"pair": True, "widths": [5, 2]}]
)
def test_saved_folder_loads_bit_equal_with_auto_classes(make_cnn, tmp_path, changes):
    model = make_cnn(**changes)
    model.save_pretrained(tmp_path)
    loaded, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert isinstance(loaded, CNNForSequenceClassification) and not loaded.training
    assert loaded.config.to_dict() | {"_name_or_path": ""} == model.config.to_dict()
    own = dict(model.named_parameters())
    for name, weight in loaded.named_parameters():
        assert torch.equal(weight, own[name]) and weight.requires_grad == own[name].requires_grad, name
    ids, mask = pad_rows(random_rows(7))
    with torch.no_grad():
        assert torch.equal(loaded(ids, mask, ids % 2).logits, model(ids, mask, ids % 2).logits)


def test_pipeline_in_a_fresh_process_gives_the_models_own_probabilities(wordpiece, tmp_path):
    tokenizer, _ = trim_vocabulary(wordpiece, ["good movies", "bad acting"])
    model = build_cnn(tokenizer, ("no", "yes"), embedding_size=6, filters=5).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = ["good [MASK] film", "", "中 bad"]
    program = (
        "import json, sys, nlp_distill.students; from transformers import pipeline\n"
        "print(json.dumps(pipeline('text-classification', model=sys.argv[1], top_k=None)(sys.argv[2:])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path, *texts], capture_output=True, text=True, check=True
    )
    for text, row in zip(texts, json.loads(done.stdout), strict=True):
        scores = {entry["label"]: entry["score"] for entry in row}
        with torch.no_grad():
            expected = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].tolist()
        assert [scores["no"], scores["yes"]] == pytest.approx(expected, abs=1e-6)


def test_the_parameters_of_the_papers_model():
    config = CNNConfig(vocab_size=100)
    # 100 filters of 3, 4 and 5 words of 300 numbers with a bias each; 300 features to 2 classes.
    by_hand = 100 * (3 + 4 + 5) * 300 + 300 + 300 * 2 + 2
    assert count_parameters(CNNForSequenceClassification(config)) == (by_hand + 100 * 300, by_hand)
    two = CNNForSequenceClassification(CNNConfig(vocab_size=100, embedding_channels=2))
    assert count_parameters(two)[0] - count_parameters(two)[1] == 2 * 100 * 300
    assert config.dropout == 0.5 and config.widths == [3, 4, 5] and config.embedding_size == 300


def test_build_fills_every_channel_and_depends_on_the_seed_alone(wordpiece):
    matrix = torch.randn(len(wordpiece), 6, generator=torch.Generator().manual_seed(1))
    settings = {"embeddings": matrix, "filters": 3, "widths": (4, 2), "embedding_channels": 2}
    before = torch.get_rng_state()
    first = build_cnn(wordpiece, ("a", "b", "c"), seed=4, **settings)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.embeddings.weight, matrix) and torch.equal(
        first.static_embeddings.weight, matrix
    )
    assert first.config.widths == [2, 4] and first.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert isinstance(first, WordStudent) and first.training
    again, other = (build_cnn(wordpiece, ("a", "b", "c"), seed=seed, **settings) for seed in (4, 5))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_bfloat16_autocast_trains(make_cnn):
    model = make_cnn().train()
    ids, mask = pad_rows(random_rows(6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(ids, mask, labels=torch.arange(6) % 3).loss
    loss.backward()
    assert loss.isfinite() and model.encoder.windows[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": 0}, "filters is 0; give at least 1"),
        ({"widths": []}, r"widths are \[\]; give one or more"),
        ({"widths": [3, 0]}, r"widths are \[3, 0\]"),
        ({"widths": [3, 3]}, "each once"),
        ({"embedding_channels": 3}, "embedding_channels is 3"),
        ({"embedding_size": 0}, "at least 1"),
        ({"vocab_size": 4, "pad_token_id": 4}, "pad_token_id is 4"),
    ],
)
def test_impossible_configurations_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        CNNConfig(**settings)


def test_pair_student_without_token_types_and_wrong_embeddings_are_refused(make_cnn):
    with pytest.raises(InputError, match="token_type_ids"):
        make_cnn(pair=True)(torch.ones(1, 3, dtype=torch.long))
    with pytest.raises(InputError, match=r"\(39, 6\).*\(40, 6\)"):
        make_cnn().set_embedding_weights(torch.zeros(39, 6))


def test_the_config_keeps_its_widths_when_it_is_saved(tmp_path):
    CNNConfig(widths=(5, 2)).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).widths == [2, 5]
