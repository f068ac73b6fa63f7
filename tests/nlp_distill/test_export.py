"""Export: every kind of student gives the same answers from its file, with and without int8, and without torch."""

import json
import logging
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from data_augment.errors import InputError
from nlp_distill import export
from nlp_distill.compression.prune_structured import prune_heads
from nlp_distill.export import export_model
from nlp_distill.onnx_ops import fused_attention
from nlp_distill.onnx_passes import pack_projections, read_one_token
from nlp_distill.runtime import Classifier
from nlp_distill.students import (
    BiLSTMConfig,
    BiLSTMForSequenceClassification,
    CNNConfig,
    CNNForSequenceClassification,
    CompactBertConfig,
    CompactBertForSequenceClassification,
    MultiTaskModel,
    TaskHead,
    build_bilstm,
)

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
onnx_ir = pytest.importorskip("onnx_ir", reason="the extra 'onnx' is not installed")

LETTERS = "abcdefghijklm"  # of which each is a word to the tokenizer
TEXTS = ["good", "a very good film but the plot was dull and bad", "never", "it is fine"]
TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 2}
LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}


def build(kind, tokenizer, make_bert):
    size = {"vocab_size": len(tokenizer), "pad_token_id": 0, **LABELS}
    torch.manual_seed(0)
    if kind == "bert":
        return make_bert(labels=("bad", "good"))
    if kind == "roberta":
        return RobertaForSequenceClassification(RobertaConfig(type_vocab_size=2, **TINY, **size))
    if kind == "electra":
        return ElectraForSequenceClassification(ElectraConfig(embedding_size=8, **TINY, **size))
    if kind == "distilbert":
        return DistilBertForSequenceClassification(
            DistilBertConfig(dim=16, hidden_dim=16, n_heads=2, n_layers=2, **size)
        )
    if kind == "compact bert":
        shape = TINY | {"num_attention_heads": 3, "head_size": 4, "embedding_size": 6}
        config = CompactBertConfig(initializer_range=0.2, **shape, **size)
        return CompactBertForSequenceClassification(config)
    if "cnn" in kind:
        shape = {"embedding_size": 8, "filters": 8, "ignored_token_ids": [2, 3]}
        return CNNForSequenceClassification(CNNConfig(pair="pair" in kind, **shape, **size))
    shape = {"embedding_size": 8, "hidden_size": 8, "head_size": 8, "ignored_token_ids": [2, 3]}
    return BiLSTMForSequenceClassification(BiLSTMConfig(pair="pair" in kind, **shape, **size))


@pytest.fixture
def save(tokenizer, make_bert, tmp_path):
    def save(kind):
        folder = tmp_path / kind.replace(" ", "_")
        build(kind, tokenizer, make_bert).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


def torch_logits(folder, texts):
    model, tokenizer = (
        kind.from_pretrained(folder) for kind in (AutoModelForSequenceClassification, AutoTokenizer)
    )
    rows = []
    for text in texts:
        encoded = tokenizer(*([text] if isinstance(text, str) else text), return_tensors="pt")
        if "DistilBert" in type(model).__name__:
            encoded.pop("token_type_ids", None)
        with torch.no_grad():
            rows.append(model.eval()(**encoded).logits[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "electra", "distilbert", "bilstm", "cnn", "compact bert"]
)
def test_every_student_answers_from_its_file_as_in_torch(save, run_cli, tmp_path, capsys, kind):
    student, output = save(kind), tmp_path / "exported"
    assert run_cli("export", student, "--output", output) == 0
    assert "MB, " in (said := capsys.readouterr().out)
    assert (
        "× larger than in torch" in said or "as large as in torch" in said
    )  # tiny: operators outweigh numbers
    classifier = Classifier(output, threads=1)
    # In one batch, with padding, and one at a time.
    expected = torch_logits(student, TEXTS)
    np.testing.assert_allclose(classifier.compute_logits(TEXTS), expected, atol=1e-4)
    np.testing.assert_allclose(classifier.compute_logits(TEXTS[1:2]), expected[1:2], atol=1e-4)
    answers = classifier(TEXTS)
    probabilities = torch.tensor(expected).softmax(-1).numpy()
    assert [answer["label"] for answer in answers] == [("bad", "good")[best] for best in expected.argmax(1)]
    assert [answer["score"] for answer in answers] == pytest.approx(probabilities.max(1).tolist(), abs=1e-4)
    parity = json.loads((output / "parity.json").read_text())["parity"]
    assert parity["max_abs_difference"] < 1e-4 and parity["argmax_agreement"] == 1


def test_a_second_export_in_one_process_reads_texts_of_any_length_too(save, run_cli, tmp_path):
    student = save("bilstm")
    for number in (1, 2):
        assert run_cli("export", student, "--output", tmp_path / f"out{number}") == 0
        expected = torch_logits(student, TEXTS)
        found = Classifier(tmp_path / f"out{number}").compute_logits(TEXTS)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "bilstm pair", "cnn pair"])
def test_pairs_keep_their_sides(save, run_cli, tmp_path, kind):
    student, output = save(kind), tmp_path / "exported"
    rows = tmp_path / "rows.jsonl"
    pairs = [(text, other) for text in TEXTS for other in TEXTS]
    rows.write_text("\n".join(json.dumps({"a": a, "b": b}) for a, b in pairs))
    columns = ["--sample-file", rows, "--text-column", "a", "--text-pair-column", "b"]
    assert run_cli("export", student, "--output", output, *columns) == 0
    classifier = Classifier(output)
    np.testing.assert_allclose(classifier.compute_logits(pairs), torch_logits(student, pairs), atol=1e-4)
    assert json.loads((output / "parity.json").read_text())["parity"]["rows"] == 16
    swapped = classifier.compute_logits([pair[::-1] for pair in pairs])
    assert np.abs(swapped - classifier.compute_logits(pairs)).max() > 1e-3
    with pytest.raises(TypeError, match="compares two texts"):
        classifier(["one text"])


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("bert", 'Classifier(".")(["a text"])'),
        ("bilstm pair", 'Classifier(".")([("a text", "another")])'),
    ],
)
def test_an_exported_folder_says_how_to_ask_it_and_brings_the_models_card(
    save, run_cli, tmp_path, kind, call
):
    student, output = save(kind), tmp_path / "exported"
    (student / "README.md").write_text("---\nlicense: mit\n---\nhow it was made")
    assert run_cli("export", student, "--output", output) == 0
    card = (output / "README.md").read_text()
    assert call in card and "[MODEL_CARD.md](MODEL_CARD.md)" in card and "bad, good" in card
    assert (output / "MODEL_CARD.md").read_text() == (student / "README.md").read_text()
    # What the page tells to do works, in the folder itself and without this package.
    code = card.split("```python\n")[1].split("```")[0] + "\n"
    code = code.replace(call, f"print({call}[0]['label'])")
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=output, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() in ("bad", "good")


def test_an_exported_program_says_what_it_takes(save, run_cli, tmp_path):
    assert run_cli("export", save("bert"), "--output", tmp_path / "out", "--format", "exported-program") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "takes input_ids, attention_mask, token_type_ids" in card and "MODEL_CARD" not in card


def test_bad_rows_of_the_sample_are_passed_over_where_asked(save, run_cli, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS) + '\n{"text": 3, broken\n')
    asked = [
        "export",
        save("bert"),
        "--output",
        tmp_path / "out",
        "--sample-file",
        rows,
        "--text-column",
        "text",
    ]
    assert run_cli(*asked) == 2 and "--skip-bad-rows" in capsys.readouterr().err
    assert run_cli(*asked, "--skip-bad-rows") == 0
    assert json.loads((tmp_path / "out" / "parity.json").read_text())["parity"]["rows"] == len(TEXTS)


@pytest.mark.parametrize("quantize", ["int8-dynamic", "int8-static"])
@pytest.mark.parametrize("kind", ["bert", "bilstm", "cnn"])
def test_int8_is_smaller_and_answers_nearly_the_same(save, run_cli, tmp_path, kind, quantize):
    student = save(kind)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS * 5))
    sample = ["--sample-file", rows, "--text-column", "text"]
    sizes = {}
    for form in ("none", quantize):
        assert run_cli("export", student, "--output", tmp_path / form, "--quantize", form, *sample) == 0
        weights = _count_weight_bytes(tmp_path / form / "model.onnx")
        sizes[form] = weights
    parity = json.loads((tmp_path / quantize / "parity.json").read_text())["parity"]
    assert sizes[quantize] < 0.8 * sizes["none"]
    assert 0 < parity["max_abs_difference"] < 0.5
    assert not list((tmp_path / quantize).glob("*prepared*"))


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert"])
def test_fused_attention_gives_the_same_answers(tokenizer, make_bert, tmp_path, kind):
    model = build(kind, tokenizer, make_bert)
    before = model.config._attn_implementation
    export_model(model, tokenizer, tmp_path, quantize="none")
    assert "MultiHeadAttention" not in _list_operators(tmp_path)  # ONNX's own operators alone
    plain = Classifier(tmp_path).compute_logits(TEXTS)
    with fused_attention(model):
        export_model(model, tokenizer, tmp_path)
    operators = _list_operators(tmp_path)
    assert operators.count("MultiHeadAttention") == 2 and "Softmax" not in operators
    # In one batch, where the mask matters, and alone.
    np.testing.assert_allclose(Classifier(tmp_path).compute_logits(TEXTS), plain, atol=1e-4)
    np.testing.assert_allclose(Classifier(tmp_path).compute_logits(TEXTS[1:2]), plain[1:2], atol=1e-4)
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert"])
@pytest.mark.parametrize("fuses", [False, True])
def test_reshapes_that_move_nothing_are_left_out(tokenizer, make_bert, tmp_path, monkeypatch, kind, fuses):
    model = build(kind, tokenizer, make_bert)
    found = {}
    for passes in (False, True):
        folder = tmp_path / str(passes)
        folder.mkdir()
        with monkeypatch.context() as patch, fused_attention(model) if fuses else nullcontext():
            if not passes:
                patch.setattr(export, "drop_idle_reshapes", lambda model: 0)
            export_model(model, tokenizer, folder)
        logits = [Classifier(folder).compute_logits(texts) for texts in (TEXTS, TEXTS[:1])]
        found[passes] = (_list_operators(folder).count("Reshape"), logits)
    (before, expected), (after, logits) = found[False], found[True]
    assert (before, after) == (16, 0) if fuses else after <= before
    for ours, theirs in zip(logits, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert"])
def test_projections_in_one_product_give_the_same_answers(tokenizer, make_bert, tmp_path, kind):
    model = build(kind, tokenizer, make_bert)
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    with fused_attention(model):
        for folder in (plain, packed):
            folder.mkdir()
            export_model(model, tokenizer, folder)
    loaded = onnx_ir.load(packed / "model.onnx")
    assert pack_projections(loaded) == 2
    onnx_ir.save(loaded, packed / "model.onnx")
    operators = _list_operators(packed)
    assert operators.count("Attention") == 2 and "MultiHeadAttention" not in operators
    assert operators.count("MatMul") == _list_operators(plain).count("MatMul") - 6
    for texts in (TEXTS, TEXTS[1:2]):  # in one batch, where the mask matters, and alone
        expected = Classifier(plain).compute_logits(texts)
        np.testing.assert_allclose(Classifier(packed).compute_logits(texts), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert", "compact bert"])
@pytest.mark.parametrize("quantize", ["none", "int8-dynamic"])
def test_the_last_layer_computes_the_token_that_is_read(
    tokenizer, make_bert, tmp_path, monkeypatch, kind, quantize
):
    model = build(kind, tokenizer, make_bert)
    whole, one = tmp_path / "whole", tmp_path / "one"
    for folder in (whole, one):
        folder.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(export, "quantise", lambda *given, **rest: None)
            if folder == whole:
                patch.setattr(export, "read_one_token", lambda model: 0)
            export_model(model, tokenizer, folder, quantize=quantize)
    products = [_count_tokens(folder, batch=3, length=9) for folder in (whole, one)]
    assert [sorted(set(counts)) for counts in products] == [[9], [1, 9]]
    assert products[1].count(1) == 3  # after attention: its output's projection and the feed-forward's two
    assert products[1].count(9) == len(products[0]) - 3
    for texts in (TEXTS, TEXTS[1:2]):  # in one batch, where the mask matters, and alone
        expected = Classifier(whole).compute_logits(texts)
        np.testing.assert_allclose(Classifier(one).compute_logits(texts), expected, atol=1e-5)


def _count_tokens(folder, batch, length):
    """How many tokens of each text every product with a constant matrix is computed for, as onnxruntime runs it."""
    import onnx

    model = onnx.load(folder / "model.onnx")
    constants = {tensor.name for tensor in model.graph.initializer}
    results = [
        node.output[0] for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in constants
    ]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in results
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    ones = np.ones((batch, length), np.int64)
    values = session.run(results, {given.name: ones for given in session.get_inputs()})
    assert all(value.shape[0] == batch and value.ndim == 3 for value in values)
    return [value.shape[1] for value in values]


@pytest.fixture
def write_head(tmp_path):
    """A function that loads a graph of nodes from ``x``, (batch, seq, 4), to ``y``, with a weight ``w`` (4, 4)."""
    import onnx

    def write(nodes, outputs=("y",), index=0, constants=()):
        value = onnx.helper.make_tensor_value_info
        arrays = {"w": np.eye(4, dtype=np.float32) * 2, "i": np.array(index), **dict(constants)}
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Neg", ["x"], ["h"]), *nodes],
            "graph",
            [value("x", onnx.TensorProto.FLOAT, ["batch", "seq", 4])],
            [value(name, onnx.TensorProto.FLOAT, None) for name in outputs],
            [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
        )
        made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(onnx.shape_inference.infer_shapes(made), tmp_path / "graph.onnx")
        return onnx_ir.load(tmp_path / "graph.onnx")

    return write


def node(kind, inputs, output, **attributes):
    import onnx

    return onnx.helper.make_node(kind, inputs, [output], **attributes)


PICK = ("Gather", ["z", "i"], "y", {"axis": 1})
HEADS = {  # nodes, outputs, index, constants, and how many of them may compute one token
    "token by token": ([("MatMul", ["h", "w"], "a"), ("Add", ["a", "h"], "z"), PICK], ["y"], 0, 2),
    "the last token": ([("MatMul", ["h", "w"], "z"), PICK], ["y"], -1, 1),
    "the second token": ([("MatMul", ["h", "w"], "z"), PICK], ["y"], 1, 0),
    "all tokens are an answer too": ([("MatMul", ["h", "w"], "z"), PICK], ["y", "z"], 0, 0),
    "another reader of an early step": (
        [("MatMul", ["h", "w"], "a"), ("Relu", ["a"], "z"), PICK, ("Softmax", ["a"], "s", {"axis": 1})],
        ["y", "s"],
        0,
        1,
    ),
    "over the tokens": ([("Softmax", ["h"], "z", {"axis": 1}), PICK], ["y"], 0, 0),
    "a norm over the tokens": (
        [("LayerNormalization", ["h", "one"], "z", {"axis": 1}), PICK],
        ["y"],
        0,
        0,
    ),
    "a constant for each token": ([("Add", ["h", "places"], "z"), PICK], ["y"], 0, 0),
    "two texts' tokens": ([("Add", ["h", "first"], "z"), PICK], ["y"], 0, 0),
    "two heads": (
        [("MatMul", ["h", "w"], "z"), PICK, ("Gather", ["z", "i"], "v", {"axis": 1})],
        ["y", "v"],
        0,
        0,
    ),
    "of the batch": ([("MatMul", ["h", "w"], "z"), (*PICK[:3], {"axis": 0})], ["y"], 0, 0),
}


@pytest.mark.parametrize("name", HEADS)
def test_only_what_goes_token_by_token_is_left_out(write_head, tmp_path, name):
    nodes, outputs, index, moved = HEADS[name]
    made = [node(kind, inputs, output, **(rest[0] if rest else {})) for kind, inputs, output, *rest in nodes]
    first = node("Slice", ["h", "start", "end", "axis"], "first")
    constants = {
        "places": np.arange(20, dtype=np.float32).reshape(1, 5, 4),
        "one": np.ones((5, 4), np.float32),
        "start": np.array([0]),
        "end": np.array([1]),
        "axis": np.array([1]),
    }
    used = {value for _, inputs, *_ in nodes for value in inputs}
    loaded = write_head([first, *made] if "first" in used else made, outputs, index, constants.items())
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)

    def run(path):
        return onnxruntime.InferenceSession(str(path)).run(outputs, {"x": x})

    expected = run(tmp_path / "graph.onnx")
    assert read_one_token(loaded) == moved
    onnx_ir.save(loaded, tmp_path / "moved.onnx")
    for ours, theirs in zip(run(tmp_path / "moved.onnx"), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_attention_that_one_operator_cannot_do_keeps_its_own(tokenizer, make_bert, tmp_path):
    with fused_attention(model := make_bert()):
        export_model(model, tokenizer, tmp_path)
    loaded = onnx_ir.load(tmp_path / "model.onnx")
    first, second = [node for node in loaded.graph if node.op_type == "MultiHeadAttention"]
    first.attributes["scale"] = onnx_ir.AttrFloat32("scale", 0.5)  # not one by the root of a head's size
    second.replace_input_with(1, first.inputs[1])  # keys of another input than the queries
    assert pack_projections(loaded) == 0


def test_attention_with_fewer_heads_keeps_its_projections_apart(tokenizer, make_bert, tmp_path):
    model = make_bert()
    heads = model.config.num_attention_heads
    model = prune_heads(model, [torch.arange(heads - 1)] * 2)
    export_model(model, tokenizer, tmp_path, quantize="int8-dynamic")
    operators = _list_operators(tmp_path)
    assert operators.count("MultiHeadAttention") == 2 and "QAttention" not in operators


def test_int8_holds_the_fused_operators(save, run_cli, tmp_path):
    for kind, operator in (("bert", "QAttention"), ("bilstm", "DynamicQuantizeLSTM")):
        output = tmp_path / f"{kind}-int8"
        assert run_cli("export", save(kind), "--output", output, "--quantize", "int8-dynamic") == 0
        assert operator in _list_operators(output)


def test_attention_of_another_kind_is_left_alone(make_bert):
    model = make_bert(is_decoder=True)
    before = model.config._attn_implementation
    with fused_attention(model):
        assert model.config._attn_implementation == before


@pytest.mark.parametrize("quantize", ["none", "int8-dynamic"])
def test_a_bilstm_is_one_operator_and_reads_empty_texts(save, run_cli, tmp_path, quantize):
    student, output = save("bilstm"), tmp_path / "exported"
    assert run_cli("export", student, "--output", output, "--quantize", quantize) == 0
    assert len([name for name in _list_operators(output) if "LSTM" in name]) == 1
    texts = ["", *TEXTS, ""]
    tolerance = 1e-4 if quantize == "none" else 0.05
    expected = torch_logits(student, texts)
    np.testing.assert_allclose(Classifier(output).compute_logits(texts), expected, atol=tolerance)
    alone = np.concatenate([Classifier(output).compute_logits([text]) for text in texts])
    np.testing.assert_allclose(alone, expected, atol=tolerance)


def test_an_empty_text_changes_no_other_answer_in_int8(tokenizer, tmp_path):
    """Answers of one size, from a BiLSTM that has learnt to tell texts apart, next to empty texts and without."""
    torch.manual_seed(0)
    model = build_bilstm(tokenizer, ("negative", "positive"), hidden_size=150, embedding_size=300)
    texts = [" ".join(LETTERS[(3 * n + k) % len(LETTERS)] for k in range(2 + n % 9)) for n in range(40)]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    labels = torch.tensor([int(text[-1] in LETTERS[::2]) for text in texts])
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(15):
        optimizer.zero_grad()
        model(batch["input_ids"], batch["attention_mask"], labels=labels).loss.backward()
        optimizer.step()
    export_model(model, tokenizer, tmp_path, quantize="int8-dynamic", max_length=32)
    classifier = Classifier(tmp_path)
    for rows, empty in ((2, 1), (10, 3), (31, 1)):
        alone = np.concatenate([classifier.compute_logits([text]) for text in texts[:rows]])
        beside = classifier.compute_logits([*texts[:rows], *[""] * empty])
        np.testing.assert_allclose(beside[:rows], alone, atol=0.02 * np.ptp(alone))


def test_a_file_holds_nothing_of_whoever_wrote_it(save, run_cli, tmp_path):
    for kind in ("bert", "bilstm"):
        output = tmp_path / f"{kind}-out"
        assert run_cli("export", save(kind), "--output", output) == 0
        content = (output / "model.onnx").read_bytes()
        assert b".py" not in content and b"nlp_distill/" not in content and b"stack_trace" not in content


def test_a_model_in_half_precision_is_exported_in_single_and_stays_as_it_is(make_bert, tokenizer, tmp_path):
    model = make_bert().bfloat16()
    expected = make_bert().bfloat16().float()
    export_model(model, tokenizer, tmp_path)
    assert model.dtype == torch.bfloat16
    encoded = tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        logits = expected.eval()(**encoded).logits.numpy()
    np.testing.assert_allclose(Classifier(tmp_path).compute_logits([TEXTS[0]]), logits, atol=1e-4)


def test_a_model_of_several_labels_a_text_is_refused(make_bert, tokenizer, tmp_path):
    with pytest.raises(InputError, match="multi_label_classification"):
        export_model(make_bert(problem_type="multi_label_classification"), tokenizer, tmp_path)


@pytest.mark.parametrize("quantize", ["none", "int8-dynamic"])
def test_a_cnn_multiplies_windows_and_reads_short_and_empty_texts(save, run_cli, tmp_path, quantize):
    student, output = save("cnn"), tmp_path / "exported"
    assert run_cli("export", student, "--output", output, "--quantize", quantize) == 0
    operators = _list_operators(output)
    assert not [name for name in operators if "Conv" in name]  # slow in int8
    if quantize != "none":  # one of each width, and the classifier's
        assert len([name for name in operators if "MatMulInteger" in name]) == 4 and "MatMul" not in operators
    texts = ["", *TEXTS, "good " * 60]
    tolerance = 1e-4 if quantize == "none" else 0.05
    expected = torch_logits(student, texts)
    np.testing.assert_allclose(Classifier(output).compute_logits(texts), expected, atol=tolerance)
    alone = np.concatenate([Classifier(output).compute_logits([text]) for text in texts])
    np.testing.assert_allclose(alone, expected, atol=tolerance)


@pytest.mark.parametrize(
    ("kind", "is_pair"),
    [
        ("cnn pair", True),
        ("cnn", False),
        ("bilstm pair", True),
        ("bilstm", False),
        ("bert", None),
        ("distilbert", None),
    ],
)
def test_without_a_sample_models_are_compared_on_what_they_read(
    save, run_cli, tmp_path, monkeypatch, kind, is_pair
):
    seen = []
    measure = export.measure_parity
    monkeypatch.setattr(export, "measure_parity", lambda *given: seen.extend(given[3]) or measure(*given))
    assert run_cli("export", save(kind), "--output", tmp_path / "out") == 0
    pairs = sum(isinstance(text, tuple) for text in seen)
    assert len(seen) == 100 and pairs == {True: 100, False: 0, None: 50}[is_pair]
    assert json.loads((tmp_path / "out" / "runtime.json").read_text())["is_pair"] is is_pair
    assert json.loads((tmp_path / "out" / "parity.json").read_text())["parity"]["max_abs_difference"] < 1e-4


def test_a_pair_model_is_not_compared_on_single_texts(save, run_cli, tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text('{"text": "good"}\n')
    sample = ["--sample-file", tmp_path / "rows.jsonl", "--text-column", "text"]
    assert run_cli("export", save("bilstm pair"), "--output", tmp_path / "out", *sample) == 2
    assert "compares two texts; name the second one's column" in capsys.readouterr().err


def _list_operators(folder):
    import onnx

    return [node.op_type for node in onnx.load(folder / "model.onnx").graph.node]


@pytest.mark.parametrize("kind", ["bilstm", "cnn"])
@pytest.mark.parametrize("quantize", ["int8-dynamic", "int8-static"])
def test_weights_of_word_students_have_seven_bits(save, run_cli, tmp_path, kind, quantize):
    """Processors without VNNI add two products of 8 bits in 16, which cuts large ones: sums would be wrong there."""
    import onnx

    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    sample = ["--sample-file", rows, "--text-column", "text"]
    output = tmp_path / "out"
    assert run_cli("export", save(kind), "--output", output, "--quantize", quantize, *sample) == 0
    arrays = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(output / "model.onnx").graph.initializer
    }
    weights = [array for array in arrays.values() if array.dtype == np.int8 and array.size > 1]
    assert len(weights) >= 2 and all(np.abs(array.astype(int)).max() <= 64 for array in weights)


def test_a_static_bilstm_keeps_its_dynamic_lstm_and_looks_words_up_as_int8(save, run_cli, tmp_path):
    rows, output = tmp_path / "rows.jsonl", tmp_path / "out"
    rows.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    sample = ["--sample-file", rows, "--text-column", "text"]
    assert run_cli("export", save("bilstm"), "--output", output, "--quantize", "int8-static", *sample) == 0
    operators = _list_operators(output)
    assert "DynamicQuantizeLSTM" in operators
    # The embeddings are looked up, and then the few rows of a text made floats: not the whole matrix every time.
    graph = onnx_graph(output)
    (gather,) = (node for node in graph.node if node.op_type == "Gather" and "quantized" in node.input[0])
    assert gather.input[0] in {tensor.name for tensor in graph.initializer}
    assert not list(output.glob("*partly*"))


def onnx_graph(folder):
    import onnx

    return onnx.load(folder / "model.onnx").graph


def test_quantising_leaves_loggers_as_they_were(save, run_cli, tmp_path):
    loggers = [logging.getLogger(name) for name in ("", "torch.onnx")]
    before = [logger.level for logger in loggers]
    assert run_cli("export", save("cnn"), "--output", tmp_path / "out", "--quantize", "int8-dynamic") == 0
    assert [logger.level for logger in loggers] == before


def test_a_transformer_is_warned_of_static_int8(save, run_cli, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    sample = ["--sample-file", rows, "--text-column", "text", "--quantize", "int8-static"]
    for kind, warned in (("bert", True), ("cnn", False)):
        assert run_cli("export", save(kind), "--output", tmp_path / f"{kind}-out", *sample) == 0
        assert ("slower than fp32" in capsys.readouterr().err) is warned


def test_a_tokenizer_that_cannot_pad_is_refused(save, run_cli, tmp_path, capsys):
    student = save("bert")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(student / "tokenizer.json"), unk_token="[UNK]")
    tokenizer.save_pretrained(student)
    assert run_cli("export", student, "--output", tmp_path / "out") == 2
    assert "has no padding token" in capsys.readouterr().err.splitlines()[-1]


def _count_weight_bytes(path):
    import onnx

    return sum(len(tensor.raw_data) for tensor in onnx.load(path).graph.initializer)


def test_a_regression_answers_with_values(make_bert, tokenizer, run_cli, tmp_path):
    make_bert(labels=()).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    assert run_cli("export", tmp_path / "m", "--output", tmp_path / "out") == 0
    answers = Classifier(tmp_path / "out")(TEXTS)
    assert [answer["value"] for answer in answers] == pytest.approx(
        torch_logits(tmp_path / "m", TEXTS)[:, 0].tolist(), abs=1e-4
    )


def test_a_task_of_a_multi_task_model_is_exported_alone(make_bert, tokenizer, run_cli, tmp_path, capsys):
    heads = [
        TaskHead("films", ("bad", "good")),
        TaskHead("entailment", ("no", "yes"), is_pair=True, head="san"),
    ]
    model = MultiTaskModel.from_encoder(make_bert(), heads)
    model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    assert run_cli("export", tmp_path / "m", "--output", tmp_path / "out") == 2
    assert "give --task, one of films, entailment" in capsys.readouterr().err
    assert run_cli("export", tmp_path / "m", "--output", tmp_path / "out", "--task", "films") == 0
    model.for_task("films").save_pretrained(tmp_path / "films")
    tokenizer.save_pretrained(tmp_path / "films")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(json.dumps({"a": text, "b": "the plot was dull"}) for text in TEXTS))
    columns = ["--sample-file", pairs, "--text-column", "a", "--text-pair-column", "b"]
    san = ["--task", "entailment", "--output", tmp_path / "san", *columns]
    assert run_cli("export", tmp_path / "m", *san) == 0
    assert json.loads((tmp_path / "san" / "parity.json").read_text())["parity"]["max_abs_difference"] < 1e-4
    expected = torch_logits(tmp_path / "films", TEXTS)
    np.testing.assert_allclose(Classifier(tmp_path / "out").compute_logits(TEXTS), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "bilstm", "cnn", "cnn pair"])
def test_an_exported_program_answers_in_torch(save, run_cli, tmp_path, capsys, kind):
    assert run_cli("export", save(kind), "--output", tmp_path / "out", "--format", "exported-program") == 0
    assert (tmp_path / "out" / "model.pt2").exists() and "100.0% of the answers" in capsys.readouterr().out


def test_the_runtime_needs_neither_torch_nor_this_package(save, run_cli, tmp_path):
    output = tmp_path / "exported"
    assert run_cli("export", save("bilstm"), "--output", output) == 0
    program = f"""
import sys, time
for name in ("torch", "transformers", "nlp_distill", "data_augment"):
    sys.modules[name] = None  # importing it fails
sys.path.insert(0, {str(output)!r})
from runtime import Classifier
answers = Classifier({str(output)!r})(["good film", "dull"])
assert {{answer["label"] for answer in answers}} <= {{"bad", "good"}}
"""
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    script = [sys.executable, output / "runtime.py", output, "good film"]
    done = subprocess.run(list(map(str, script)), capture_output=True, text=True, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["label"] in ("bad", "good")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{student}", "--quantize", "int8-static"], "needs texts like those to come"),
        (["{student}", "--format", "exported-program", "--quantize", "int8-dynamic"], "is for ONNX models"),
        (["{student}", "--opset", 9], "opset is 9; the exporter writes 18 to 23"),
        (["{student}", "--task", "sst2"], "no multi-task model; leave out --task"),
        (["{student}", "--sample-file", "{rows}"], "without a text column"),
        (["{student}", "--sample-file", "{rows}", "--text-column", "review"], "review"),
        (["{empty}"], "without a config.json"),
        (["{student}", "--max-length", 900], "900"),
    ],
)
def test_what_cannot_be_exported_gets_one_line(save, run_cli, tmp_path, capsys, arguments, message):
    student, rows, empty = save("bert"), tmp_path / "rows.jsonl", tmp_path / "empty"
    rows.write_text('{"text": "good"}\n')
    empty.mkdir()
    names = {"{student}": student, "{rows}": rows, "{empty}": empty}
    given = [names.get(part, part) for part in arguments]
    assert run_cli("export", *given, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_a_model_in_two_files_is_too_large_for_int8(tmp_path):
    for name in ("model.onnx", "model.onnx.data"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match="too large for int8: .* leave out --quantize"):
        export.quantise(tmp_path / "model.onnx", "int8-dynamic", iter(()), of_words=False)


def test_an_export_never_takes_the_place_of_its_model(save, run_cli, capsys):
    student = save("bert")
    assert run_cli("export", student, "--output", student / ".." / student.name, "--overwrite") == 2
    assert "the model's own folder" in capsys.readouterr().err
    assert (student / "model.safetensors").exists()


@pytest.mark.parametrize("change", ["truncation_side", "hidden_act"])
def test_an_export_of_another_config_or_tokenizer_is_made_again(save, run_cli, tmp_path, capsys, change):
    student, output = save("bert"), tmp_path / "exported"
    assert run_cli("export", student, "--output", output) == 0
    assert run_cli("export", student, "--output", output) == 0
    assert "reusing" in capsys.readouterr().err
    name = "tokenizer_config.json" if change == "truncation_side" else "config.json"
    settings = json.loads((student / name).read_text())
    settings[change] = "left" if change == "truncation_side" else "relu"
    (student / name).write_text(json.dumps(settings))
    assert run_cli("export", student, "--output", output) == 2
    assert run_cli("export", student, "--output", output, "--overwrite") == 0
    if change == "truncation_side":
        assert json.loads((output / "runtime.json").read_text())["truncation_side"] == "left"


def test_a_model_of_single_texts_is_not_exported_for_pairs(save, run_cli, tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text('{"text": "good", "second": "film"}\n')
    sample = [
        "--sample-file",
        tmp_path / "rows.jsonl",
        "--text-column",
        "text",
        "--text-pair-column",
        "second",
    ]
    assert run_cli("export", save("bilstm"), "--output", tmp_path / "out", *sample) == 2
    assert "reads one text; leave out --text-pair-column" in capsys.readouterr().err


def test_a_folder_without_its_files_is_refused_by_the_runtime(tmp_path):
    with pytest.raises(ValueError, match=r"holds no model\.onnx"):
        Classifier(tmp_path)
