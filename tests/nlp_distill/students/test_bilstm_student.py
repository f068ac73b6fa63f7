"""The BiLSTM student against loops written from the paper; its promises about padding, loading, training."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast, pipeline

from data_augment.errors import InputError
from nlp_distill.students import (
    LARGE,
    SMALL,
    BiLSTMConfig,
    BiLSTMForSequenceClassification,
    build_bilstm,
    count_parameters,
    trim_vocabulary,
)
from nlp_distill.students.bilstm_encoder import compact_rows, plan_chunks

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def pad_rows(rows, side="right", width=None):
    """Lists of ids -> (input_ids, attention_mask), padded with 0."""
    width = width or max(len(row) for row in rows)
    ids, mask = (
        torch.zeros(len(rows), width, dtype=torch.long),
        torch.zeros(len(rows), width, dtype=torch.long),
    )
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[index, place], mask[index, place] = torch.tensor(row, dtype=torch.long), 1
    return ids, mask


def random_rows(count, seed=0, longest=12, low=1, vocab_size=40):
    generator = np.random.default_rng(seed)
    return [
        generator.integers(low, vocab_size, generator.integers(1, longest + 1)).tolist() for _ in range(count)
    ]


def naive_state(model, ids):
    """Last states of torch's own bidirectional LSTM over one row without padding."""
    both = nn.LSTM(model.encoder.forward_lstm.input_size, model.config.hidden_size, bidirectional=True)
    with torch.no_grad():
        for name, weight in model.encoder.forward_lstm.named_parameters():
            getattr(both, name).copy_(weight)
        for name, weight in model.encoder.backward_lstm.named_parameters():
            getattr(both, f"{name}_reverse").copy_(weight)
    channels = (
        [model.embeddings] if model.static_embeddings is None else [model.static_embeddings, model.embeddings]
    )
    vectors = torch.cat([channel(torch.tensor(ids)) for channel in channels], dim=1)
    states, _ = both(vectors)
    hidden = model.config.hidden_size
    return torch.cat([states[-1, :hidden], states[0, hidden:]])


def naive_logits(model, features):
    return model.classifier(torch.relu(model.hidden(features)))


@pytest.mark.parametrize("channels", [1, 2])
def test_logits_equal_a_row_by_row_bidirectional_lstm(make_student, channels):
    model, rows = make_student(embedding_channels=channels), random_rows(33)
    ids, mask = pad_rows(rows)
    with torch.no_grad():
        expected = torch.stack([naive_logits(model, naive_state(model, row)) for row in rows])
        found = model(ids, attention_mask=mask).logits
    torch.testing.assert_close(found, expected, **CLOSE)


def test_pair_logits_equal_the_formula_on_states_of_each_text(make_student):
    model = make_student(pair=True, ignored_token_ids=[1, 2])
    firsts, seconds = random_rows(9, seed=1, low=3), random_rows(9, seed=2, low=3)
    ids, mask = pad_rows([[1, *first, 2, *second, 2] for first, second in zip(firsts, seconds, strict=True)])
    types, _ = pad_rows(
        [
            [0] * (len(first) + 2) + [1] * (len(second) + 1)
            for first, second in zip(firsts, seconds, strict=True)
        ]
    )
    expected = []
    for first, second in zip(firsts, seconds, strict=True):
        h1, h2 = naive_state(model, first), naive_state(model, second)
        expected.append(naive_logits(model, torch.cat([h1, h2, h1 * h2, (h1 - h2).abs()])))
    with torch.no_grad():
        found = model(ids, attention_mask=mask, token_type_ids=types).logits
    torch.testing.assert_close(found, torch.stack(expected), **CLOSE)


def test_padding_tokens_do_not_change_logits_on_either_side(make_student):
    model, rows = make_student(), random_rows(8)
    with torch.no_grad():
        plain = model(*pad_rows(rows)).logits
        for side in ("left", "right"):
            torch.testing.assert_close(model(*pad_rows(rows, side, width=30)).logits, plain, **CLOSE)
        ids, mask = pad_rows(rows, width=30)
        torch.testing.assert_close(model(ids.masked_fill(mask == 0, 17), mask).logits, plain, **CLOSE)


def test_logits_of_a_row_do_not_depend_on_its_batch(make_student):
    model, rows = make_student(), random_rows(300, longest=25)  # enough rows for several chunks
    ids, mask = pad_rows(rows)
    assert len(plan_chunks(sorted(map(len, rows)))) > 2
    with torch.no_grad():
        together = model(ids, mask).logits
        alone = torch.cat([model(ids[i : i + 1], mask[i : i + 1]).logits for i in range(0, 300, 7)])
    torch.testing.assert_close(together[::7], alone, **CLOSE)


def test_graph_path_equals_the_chunked_path(make_student):
    model = make_student()
    ids, mask = pad_rows(random_rows(70))
    with torch.no_grad():
        tokens, lengths = compact_rows(ids, mask.bool(), 0)
        whole = model.encoder(model._embed(tokens), lengths)
        torch.testing.assert_close(model._encode(ids, mask.bool()), whole, **CLOSE)


def test_without_attention_mask_the_pad_token_is_padding(make_student):
    model = make_student()
    ids, mask = pad_rows(random_rows(5))
    with torch.no_grad():
        assert torch.equal(model(ids).logits, model(ids, mask).logits)


def test_framing_tokens_are_not_read(make_student):
    model = make_student(ignored_token_ids=[1, 2])
    rows = random_rows(6, low=3)
    with torch.no_grad():
        framed = model(*pad_rows([[1, *row, 2] for row in rows])).logits
        torch.testing.assert_close(framed, model(*pad_rows(rows)).logits, **CLOSE)


def test_a_row_without_any_token_gets_the_logits_of_a_zero_state(make_student):
    model = make_student(ignored_token_ids=[1, 2])
    ids, mask = pad_rows([[1, 2], [1, 5, 6, 2]])
    with torch.no_grad():
        logits = model(ids, mask).logits
        torch.testing.assert_close(logits[0], naive_logits(model, torch.zeros(10)), **CLOSE)
        torch.testing.assert_close(model(ids[:1], mask[:1]).logits[0], logits[0], **CLOSE)


def test_compact_rows_moves_kept_tokens_to_the_front_in_order():
    ids = torch.tensor([[7, 8, 9, 6], [1, 2, 3, 4], [5, 5, 5, 5]])
    keep = torch.tensor([[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]]).bool()
    tokens, lengths = compact_rows(ids, keep, 0)
    assert tokens.tolist() == [[8, 6, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]]
    assert lengths.tolist() == [2, 4, 0]


def test_chunks_cover_all_rows_and_are_cut_only_where_it_pays():
    assert plan_chunks([16] * 50) == [50]
    assert plan_chunks([4] * 64 + [40] * 64) == [64, 64]  # 4*72 + 40*72 = 3168 against 40*136 = 5440 in one
    for count in (1, 2, 3, 129, 600):
        sizes = plan_chunks(sorted(np.random.default_rng(count).integers(0, 30, count).tolist()))
        assert sum(sizes) == count and min(sizes) > 0 and max(sizes) <= 128


def test_losses_are_the_usual_ones(make_student):
    ids, mask = pad_rows(random_rows(4))
    labels = torch.tensor([0, 2, 1, 1])
    with torch.no_grad():
        out = make_student()(ids, mask, labels=labels)
        logs = out.logits.double().log_softmax(1)
        assert out.loss.item() == pytest.approx(
            -sum(logs[i, y].item() for i, y in enumerate(labels)) / 4, rel=1e-5
        )
        targets = torch.tensor([0.5, 2.0, 5.0, 3.25])
        out = make_student(num_labels=1)(ids, mask, labels=targets)
        assert out.logits.shape == (4, 1)
        assert out.loss.item() == pytest.approx(((out.logits[:, 0] - targets) ** 2).mean().item(), rel=1e-5)
        many = torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
        out = make_student(problem_type="multi_label_classification")(ids, mask, labels=many)
        p = out.logits.double().sigmoid()
        expected = -(many * p.log() + (1 - many) * (1 - p).log()).mean()
        assert out.loss.item() == pytest.approx(expected.item(), rel=1e-5)
        loss, logits = make_student()(ids, mask, labels=labels, return_dict=False)
        assert loss.ndim == 0 and logits.shape == (4, 3)


@pytest.mark.parametrize("pair", [False, True])
def test_every_trainable_parameter_gets_a_gradient_and_the_frozen_channel_none(make_student, pair):
    model = make_student(embedding_channels=2, pair=pair).train()
    ids, mask = pad_rows(random_rows(16))
    model(ids, mask, token_type_ids=ids % 2, labels=torch.arange(16) % 3).loss.backward()
    for name, weight in model.named_parameters():
        if name == "static_embeddings.weight":
            assert not weight.requires_grad and weight.grad is None
        else:
            assert weight.grad.abs().sum() > 0, name
    assert not model.embeddings.weight.grad.is_sparse  # Adadelta refuses sparse gradients


def test_gradients_equal_those_of_the_row_by_row_loop(make_student):
    model, rows = make_student(), random_rows(20)
    model(*pad_rows(rows)).logits.square().sum().backward()
    found = model.embeddings.weight.grad.clone()
    model.zero_grad()
    torch.stack([naive_logits(model, naive_state(model, row)) for row in rows]).square().sum().backward()
    torch.testing.assert_close(found, model.embeddings.weight.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "changes", [{}, {"embedding_channels": 2}, {"freeze_embeddings": True}, {"pair": True}]
)
def test_saved_folder_loads_bit_equal_with_auto_classes(make_student, tmp_path, changes):
    model = make_student(**changes)
    model.save_pretrained(tmp_path)
    loaded, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert isinstance(loaded, BiLSTMForSequenceClassification) and not loaded.training
    assert loaded.config.to_dict() | {"_name_or_path": ""} == model.config.to_dict()
    own = dict(model.named_parameters())
    for name, weight in loaded.named_parameters():
        assert torch.equal(weight, own[name]) and weight.dtype == torch.float32, name
        assert weight.requires_grad == own[name].requires_grad, name
    ids, mask = pad_rows(random_rows(7))
    with torch.no_grad():
        assert torch.equal(loaded(ids, mask, ids % 2).logits, model(ids, mask, ids % 2).logits)


def test_pipeline_in_a_fresh_process_gives_the_models_own_probabilities(wordpiece, tmp_path):
    tokenizer, _ = trim_vocabulary(wordpiece, ["good movies", "bad acting"])
    texts = ["good [MASK] film", "", "中 bad"]
    jobs = {}
    for name, items in {"one": texts, "two": [{"text": t, "text_pair": "bad acting"} for t in texts]}.items():
        model = build_bilstm(
            tokenizer, ("no", "yes"), pair=name == "two", embedding_size=6, hidden_size=5
        ).eval()
        folder = tmp_path / name
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        jobs[str(folder)] = (model, items)
    program = (
        "import json, sys, nlp_distill.students; from transformers import pipeline\n"
        "for folder, items in json.loads(sys.argv[1]).items():\n"
        "    print(json.dumps(pipeline('text-classification', model=folder, top_k=None)(items)))"
    )
    request = json.dumps({folder: items for folder, (_, items) in jobs.items()})
    answer = subprocess.run(
        [sys.executable, "-c", program, request], capture_output=True, text=True, check=True
    )
    for line, (model, items) in zip(answer.stdout.splitlines(), jobs.values(), strict=True):
        scores = [{entry["label"]: entry["score"] for entry in row} for row in json.loads(line)]
        assert scores[0] != scores[2]
        for item, row in zip(items, scores, strict=True):
            arguments = item if isinstance(item, dict) else {"text": item}
            with torch.no_grad():
                expected = model(**tokenizer(**arguments, return_tensors="pt")).logits.softmax(-1)[0].tolist()
            assert [row["no"], row["yes"]] == pytest.approx(expected, abs=1e-6)


def test_pipeline_of_a_regression_student_returns_the_number_itself(wordpiece):
    model = build_bilstm(wordpiece, (), embedding_size=6, hidden_size=5).eval()
    with torch.no_grad():
        expected = model(**wordpiece("good", return_tensors="pt")).logits.item()
    assert model.config.problem_type == "regression"
    found = pipeline("text-classification", model=model, tokenizer=wordpiece)("good")
    assert found[0]["score"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "channels", "by_hand"),
    [
        # LSTM: 2 directions x (4h (inputs + h) weights + 8h biases); head: 2h x head + head + 2 head + 2.
        (SMALL, 1, 2 * (600 * 450 + 1200) + 300 * 200 + 200 + 200 * 2 + 2),
        (SMALL, 2, 963_002),  # the paper's 0.96M
        (LARGE, 2, 2_406_002),  # the paper's 2.4M
    ],
)
def test_parameter_counts_match_the_paper(size, channels, by_hand):
    config = BiLSTMConfig(vocab_size=100, hidden_size=size[0], head_size=size[1], embedding_channels=channels)
    total, besides = count_parameters(BiLSTMForSequenceClassification(config))
    assert besides == by_hand
    assert total == by_hand + channels * 100 * 300


def test_parameter_count_of_any_model_leaves_out_its_token_embeddings():
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    model = BertForSequenceClassification(config)
    assert count_parameters(model) == (model.num_parameters(), model.num_parameters() - 50 * 8)


def test_build_fills_every_channel_and_depends_on_the_seed_alone(wordpiece):
    matrix = torch.randn(len(wordpiece), 6, generator=torch.Generator().manual_seed(1))
    settings = {"embeddings": matrix, "hidden_size": 9, "embedding_channels": 2}
    before = torch.get_rng_state()
    first = build_bilstm(wordpiece, ("a", "b", "c"), seed=4, **settings)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.embeddings.weight, matrix) and torch.equal(
        first.static_embeddings.weight, matrix
    )
    assert (
        first.config.head_size == 12 and first.config.id2label == {0: "a", 1: "b", 2: "c"} and first.training
    )
    torch.rand(3)
    again, other = (build_bilstm(wordpiece, ("a", "b", "c"), seed=seed, **settings) for seed in (4, 5))
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same) and not torch.equal(first.hidden.weight, other.hidden.weight)


def test_build_picks_the_head_of_the_paper(wordpiece):
    for hidden, head in (SMALL, LARGE):
        model = build_bilstm(wordpiece, ("a", "b"), hidden_size=hidden, embedding_size=4)
        assert model.config.head_size == head


def test_random_embeddings_have_the_configured_spread_and_a_zero_padding_row():
    model = BiLSTMForSequenceClassification(
        BiLSTMConfig(vocab_size=500, embedding_size=40, embedding_std=0.2)
    )
    assert model.embeddings.weight[1:].std().item() == pytest.approx(0.2, rel=0.05)
    assert not model.embeddings.weight[0].any()


def test_registering_twice_is_harmless_and_the_config_loads(tmp_path):
    import importlib

    import nlp_distill.students

    importlib.reload(nlp_distill.students)
    BiLSTMConfig(ignored_token_ids=[3, 2, 3]).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).ignored_token_ids == [2, 3]


def test_bfloat16_autocast_trains(make_student):
    model = make_student(pair=True).train()
    ids, mask = pad_rows(random_rows(6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(ids, mask, ids % 2, labels=torch.arange(6) % 3).loss
    loss.backward()
    assert loss.isfinite() and model.encoder.backward_lstm.weight_hh_l0.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embedding_channels": 3}, "embedding_channels is 3"),
        ({"embedding_channels": 2, "freeze_embeddings": True}, "embedding_channels=1"),
        ({"hidden_size": 0}, "at least 1"),
        ({"vocab_size": 4, "pad_token_id": 4}, "pad_token_id is 4"),
    ],
)
def test_impossible_configurations_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        BiLSTMConfig(**settings)


def test_pair_student_without_token_types_and_wrong_embeddings_are_refused(make_student):
    with pytest.raises(InputError, match="token_type_ids"):
        make_student(pair=True)(torch.ones(1, 3, dtype=torch.long))
    with pytest.raises(InputError, match=r"\(39, 6\).*\(40, 6\)"):
        make_student().set_embedding_weights(torch.zeros(39, 6))


def test_the_trimmed_tokenizer_is_found_by_type(wordpiece):
    assert isinstance(trim_vocabulary(wordpiece, ["good"])[0], PreTrainedTokenizerFast)
