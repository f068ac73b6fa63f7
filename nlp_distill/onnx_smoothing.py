"""Make a transformer's activations easy to write in int8, before its products are quantised.

Xiao et al., SmoothQuant (2022), arXiv:2211.10438, section 4: a product ``X W`` is the same as ``(X / s) (s W)`` with a
factor ``s_j`` for each input channel ``j``. Some channels of ``X`` are many times as wide as the others, and one range
in int8 for all of them leaves the others few steps; a weight has a range for each of its columns, and bears a wide row.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Products that onnxruntime's quantiser makes int8, by their first input and their second, a constant.
PRODUCTS = ("MatMul", "Gemm", "Attention")
SMALLEST = 1e-5  # of a channel that is never anything but 0


def smooth_activations(path: Path, rows: Iterable[Mapping[str, np.ndarray]]) -> int:
    """Divide the input of every product by ``s`` and multiply its weight by ``s``, in place; returns how many products.

    ``s_j = sqrt(max |X_j|)``, the maximum over ``rows``. The paper has ``max |X_j|^a / max |W_j|^(1 - a)`` with a half
    for ``a``; here the weight's own range is left out, because the paper quantises a whole weight with one range, and
    onnxruntime each of its columns with its own. The paper puts the division into the layer before; here it is an
    operator, because a BERT's layer before is read by the residual too.

    Args:
        path: an ONNX file in float32, smaller than 2 GiB.
        rows: the model's inputs by name, as they will come.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(path))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if _is_product(node, constants)]
    if not products:
        return 0
    widths = _measure_channels(model, [node.input[0] for node in products], rows)
    nodes = []
    for node in model.graph.node:
        if _is_product(node, constants):
            scale = np.sqrt(np.maximum(widths[node.input[0]], SMALLEST)).astype(np.float32)
            weight = numpy_helper.to_array(constants[node.input[1]])
            wider = weight * (scale if _is_transposed(node) else scale[:, None])
            divisor, smooth, name = (f"{node.output[0]}_{part}" for part in ("divisor", "smooth", "weight"))
            model.graph.initializer.extend(
                [numpy_helper.from_array(1 / scale, divisor), numpy_helper.from_array(wider, name)]
            )
            nodes.append(helper.make_node("Mul", [node.input[0], divisor], [smooth], name=smooth))
            node.input[0], node.input[1] = smooth, name
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _drop_unread(model)
    onnx.save(model, str(path))
    return len(products)


def _is_product(node: Any, constants: Mapping[str, Any]) -> bool:
    """Whether a node multiplies by a constant matrix, channel by channel of its first input."""
    if node.op_type not in PRODUCTS or node.domain not in ("", "com.microsoft"):
        return False
    if any(part.name == "transA" and part.i for part in node.attribute):
        return False
    return (
        node.input[0] not in constants
        and node.input[1] in constants
        and len(constants[node.input[1]].dims) == 2
    )


def _is_transposed(node: Any) -> bool:
    """Whether the weight's rows are outputs, as ``Gemm`` can have them."""
    return any(part.name == "transB" and part.i for part in node.attribute)


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


def _drop_unread(model: Any) -> None:
    """Take out constants that no node reads any more: the weights before they were made wider."""
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
