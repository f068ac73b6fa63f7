"""Smoothed activations: the same answers in float, the factors of the formula, and a smaller error in int8."""

import json

import numpy as np
import pytest
from datasets import Dataset

from nlp_distill import export
from nlp_distill.calibration import CALIBRATION_ROWS, draw_calibration, draw_texts, split_sample
from nlp_distill.export import export_model, quantise
from nlp_distill.onnx_smoothing import smooth_activations
from nlp_distill.runtime import Classifier
from nlp_distill.tasks import Task, TaskData

onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")


@pytest.fixture
def write_graph(tmp_path):
    """A function that writes a graph of one input ``x`` (rows, 3) and returns its path."""

    def write(nodes, constants, outputs=("y",)):
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            nodes,
            "graph",
            [value("x", onnx.TensorProto.FLOAT, [None, 3])],
            [value(name, onnx.TensorProto.FLOAT, None) for name in outputs],
            [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        path = tmp_path / "graph.onnx"
        onnx.save(
            onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10),
            path,
        )
        return path

    return write


def run(path, x):
    return onnxruntime.InferenceSession(str(path)).run(None, {"x": x})


def read_constants(path):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def test_factors_are_the_roots_of_the_largest_magnitudes(write_graph):
    weight = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    path = write_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight})
    rows = [{"x": np.array([[1, -2, 0]], np.float32)}, {"x": np.array([[-4, 1, 0], [2, 9, 0]], np.float32)}]
    before = run(path, rows[1]["x"])[0]
    assert smooth_activations(path, rows) == 1
    constants = read_constants(path)
    # The roots of 4, of 9, and for a channel of zeros of a hundredth of 9.
    scale = np.array([2, 3, 0.3], np.float32)
    np.testing.assert_allclose(constants["y_divisor"], 1 / scale, rtol=1e-6)
    np.testing.assert_allclose(constants["w"], weight * scale[:, None], rtol=1e-6)
    np.testing.assert_allclose(run(path, rows[1]["x"])[0], before, rtol=1e-5)


def test_rows_of_zeros_change_nothing(write_graph):
    path = write_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((3, 2), np.float32)}
    )
    assert smooth_activations(path, [{"x": np.zeros((1, 3), np.float32)}]) == 1
    np.testing.assert_array_equal(run(path, np.ones((1, 3), np.float32))[0], [[3, 3]])


def test_a_matrix_that_two_products_share_is_left_alone(write_graph):
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["z"]),
        onnx.helper.make_node("MatMul", ["z", "w"], ["y"]),
    ]
    path = write_graph(nodes, {"w": np.eye(3, dtype=np.float32)})
    assert smooth_activations(path, [{"x": np.ones((1, 3), np.float32)}]) == 0


def test_products_that_are_not_of_a_constant_matrix_are_left_alone(write_graph):
    nodes = [
        onnx.helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        onnx.helper.make_node("MatMul", ["x", "t"], ["y"]),  # of two activations
        onnx.helper.make_node("MatMul", ["w", "t"], ["z"]),  # the constant is first
        onnx.helper.make_node("Gemm", ["x", "w", "b"], ["v"]),  # a head's
    ]
    constants = {"w": np.ones((3, 3), np.float32), "b": np.ones(3, np.float32)}
    path = write_graph(nodes, constants, outputs=("y", "z", "v"))
    assert smooth_activations(path, [{"x": np.ones((2, 3), np.float32)}]) == 0
    assert [node.op_type for node in onnx.load(path).graph.node] == [node.op_type for node in nodes]


def test_int8_of_uneven_channels_is_several_times_nearer(write_graph, monkeypatch):
    source = np.random.default_rng(0)
    weight, rows = (source.normal(size=size).astype(np.float32) for size in ((3, 8), (40, 3)))
    weight[1] /= 100  # the channel is wide and says no more than the others, as those of trained models
    rows[:, 1] *= 100

    def measure():
        path = write_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight})
        quantise(path, "int8-dynamic", iter([{"x": rows[:20]}]), of_words=False)
        return np.abs(run(path, rows[20:])[0] - rows[20:] @ weight).mean()

    smooth = measure()
    monkeypatch.setattr(export, "smooth_activations", lambda path, rows: 0)
    assert smooth < 0.3 * measure()


@pytest.fixture
def bert(make_bert):
    return make_bert(labels=("bad", "good")).eval()


def test_smoothing_changes_no_answer_in_float(bert, tokenizer, tmp_path, monkeypatch):
    texts = draw_texts(tokenizer, is_pair=None)
    monkeypatch.setattr(export, "quantise", lambda path, kind, rows, **rest: seen.update(rows=list(rows)))
    seen = {}
    export_model(bert, tokenizer, tmp_path, quantize="int8-dynamic")
    before = Classifier(tmp_path).compute_logits(texts)
    products = smooth_activations(tmp_path / "model.onnx", seen["rows"])
    layers = bert.config.num_hidden_layers
    assert products == 4 * layers  # packed projections, their output, two of the feed-forward
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    assert sum(node.op_type == "Attention" for node in nodes) == layers
    # The output's is in the projection of the values.
    assert sum(node.op_type == "Mul" and node.name.endswith("_smooth") for node in nodes) == 3 * layers
    np.testing.assert_allclose(Classifier(tmp_path).compute_logits(texts), before, atol=1e-4)


def test_without_texts_random_words_of_the_vocabulary_are_measured(bert, tokenizer, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(export, "smooth_activations", lambda path, rows: seen.extend(rows))
    export_model(bert, tokenizer, tmp_path, quantize="int8-dynamic", is_pair=True)
    assert len(seen) == 100
    assert all(row["token_type_ids"].max() == 1 for row in seen)


def test_a_task_is_calibrated_on_train_rows_from_end_to_end():
    rows = Dataset.from_dict({"text": [f"train {number}" for number in range(1000)]})
    held_out = Dataset.from_dict({"text": ["held out"]})
    task = Task("own", "text", None, ("bad", "good"), ("accuracy",))
    texts = draw_calibration(TaskData(task, rows, held_out, held_out))
    assert len(texts) == CALIBRATION_ROWS
    assert (texts[0], texts[-1]) == ("train 0", "train 999")
    assert len(set(texts)) == CALIBRATION_ROWS


@pytest.mark.parametrize(("quantize", "compared"), [("none", 50), ("int8-dynamic", 40)])
def test_the_command_keeps_what_it_calibrates_on_out_of_what_it_compares(
    bert, tokenizer, run_cli, tmp_path, monkeypatch, quantize, compared
):
    student, rows = tmp_path / "student", tmp_path / "rows.jsonl"
    bert.save_pretrained(student)
    tokenizer.save_pretrained(student)
    rows.write_text("\n".join(json.dumps({"text": "good " * (number % 9 + 1)}) for number in range(50)))
    seen = []
    monkeypatch.setattr(export, "smooth_activations", lambda path, rows: seen.extend(rows))
    sample = ["--sample-file", rows, "--text-column", "text"]
    assert run_cli("export", student, "--output", tmp_path / "out", "--quantize", quantize, *sample) == 0
    parity = json.loads((tmp_path / "out" / "parity.json").read_text())["parity"]
    assert (parity["rows"], len(seen)) == (compared, 50 - compared)


@pytest.mark.parametrize(
    ("rows", "calibrated", "compared"), [(1, 1, 1), (3, 1, 2), (50, 10, 40), (1200, 200, 1000)]
)
def test_answers_are_compared_on_other_rows_than_are_calibrated_on(rows, calibrated, compared):
    texts = [f"text {number}" for number in range(rows)]
    first, others = split_sample(texts)
    assert (len(first), len(others)) == (calibrated, compared)
    assert rows == 1 or not set(first) & set(others)
    assert len(first) <= CALIBRATION_ROWS
