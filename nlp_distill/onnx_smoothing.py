"""Make a transformer's activations easy to write in int8, before its products are quantised.

Xiao et al., SmoothQuant (2022), arXiv:2211.10438, section 4: a product ``X W``, of (tokens, channels) and (channels,
outputs), is the same as ``(X / s) (s W)`` with a factor ``s_j`` for each channel ``j``. Some channels of ``X`` are many
times as wide as the others, and one range in int8 for all of them leaves the others few steps; a weight has a range for
each of its columns, and bears a wide row.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Of every token's state by a constant matrix. A Gemm, which a head of one state a text becomes, stays as it is.
PRODUCTS = ("MatMul", "Attention")
SMALLEST = 0.01  # of the widest: a channel that these rows leave at 0 may be wide for others


def smooth_activations(path: Path, rows: Iterable[Mapping[str, np.ndarray]]) -> int:
    """Divide the input of every product by ``s`` and multiply its weight by ``s``, in place; returns how many products.

    ``s_j = sqrt(max |X_j|)``, the maximum over ``rows``, and no less than a hundredth of the widest channel's. The
    paper has ``max |X_j|^a / max |W_j|^(1 - a)`` with a half for ``a``; here the weight's own range is left out: the
    paper quantises a whole weight with one range, and onnxruntime each of its columns with its own. As in the paper,
    the division goes into the layer before where it can: what leaves an ``Attention`` is linear in its values, whose
    projection takes it. Elsewhere it is an operator, because the residual reads the layer before too, and GELU is not
    linear.

    Args:
        path: an ONNX file in float32, smaller than 2 GiB.
        rows: the model's inputs by name, (batch, seq) each, as they will come; at least one.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(path))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    readers = Counter(name for node in model.graph.node for name in node.input)
    products = {
        node.output[0]: node.input[0] for node in model.graph.node if _is_product(node, constants, readers)
    }
    if not products:
        return 0
    widths = _measure_channels(model, list(products.values()), rows)
    nodes = []
    for node in model.graph.node:
        if node.output[0] in products:
            width = widths[node.input[0]]
            scale = np.sqrt(np.maximum(width, SMALLEST * width.max() or 1.0)).astype(np.float32)
            _rescale(constants[node.input[1]], scale[:, None])
            before = _find_projection(model, node.input[0], readers)
            if before and all(name in constants and readers[name] == 1 for name in before):
                for name in before:
                    _rescale(
                        constants[name], np.concatenate([np.ones(2 * len(scale), np.float32), 1 / scale])
                    )
            else:
                divisor, smooth = f"{node.output[0]}_divisor", f"{node.output[0]}_smooth"
                model.graph.initializer.append(numpy_helper.from_array(1 / scale, divisor))
                nodes.append(helper.make_node("Mul", [node.input[0], divisor], [smooth], name=smooth))
                node.input[0] = smooth
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(path))
    return len(products)


def _is_product(node: Any, constants: Mapping[str, Any], readers: Counter[str]) -> bool:
    """Whether a node alone multiplies by a constant matrix, channel by channel of its first input."""
    if node.op_type not in PRODUCTS or node.input[0] in constants:
        return False
    weight = node.input[1]
    return weight in constants and len(constants[weight].dims) == 2 and readers[weight] == 1


def _find_projection(model: Any, name: str, readers: Counter[str]) -> list[str]:
    """Weight and bias of the queries, keys and values of the ``Attention`` that alone a value is read from, if any.

    The value may be one token of what leaves it: the channels are the same.
    """
    makers = {result: node for node in model.graph.node for result in node.output}
    maker = makers.get(name)
    if maker is not None and _picks_tokens(maker) and readers[name] == 1:
        name = maker.input[0]
        maker = makers.get(name)
    if maker is None or (maker.op_type, maker.domain) != ("Attention", "com.microsoft") or readers[name] != 1:
        return []
    return list(maker.input[1:3])


def _picks_tokens(node: Any) -> bool:
    """Whether a node takes some tokens of (batch, seq, channels)."""
    return node.op_type == "Gather" and any(
        attribute.name == "axis" and attribute.i == 1 for attribute in node.attribute
    )


def _rescale(constant: Any, factor: np.ndarray) -> None:
    """Multiply a constant, in place."""
    from onnx import numpy_helper

    constant.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant) * factor, constant.name))


def _measure_channels(
    model: Any, names: list[str], rows: Iterable[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The largest magnitude of each channel, the last axis, of some values of a graph."""
    import onnx
    from onnxruntime import InferenceSession

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    wanted = list(dict.fromkeys(names))
    own = {output.name for output in watched.graph.output}
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in wanted
        if name not in own
    )
    session = InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    found: dict[str, np.ndarray] = {}
    for row in rows:
        for name, value in zip(wanted, session.run(wanted, dict(row)), strict=True):
            largest = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            found[name] = np.maximum(found.get(name, 0), largest)
    return found
