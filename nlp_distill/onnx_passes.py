"""What an exported graph can do without, which counts most where a model is small and its operators are many.

The passes leave every answer as it is: one takes out operators that move nothing, one puts three products of one matrix
into one, and one takes out what the exporter notes of its own run.
"""

import math
from typing import Any

import numpy as np

Model = Any  # onnx_ir comes with the extra "onnx", and naming its types would import it


def drop_idle_reshapes(model: Model) -> int:
    """Take out reshapes, single or in a row, that end in the shape they began with; returns how many.

    Attention splits a token's state into heads and onnxruntime's operator for it takes them together again: of the two
    steps, neither is left.
    """
    from onnx_ir.convenience import replace_all_uses_with

    dropped = 0
    for node in [node for node in model.graph if node.op_type == "Reshape"]:
        result = node.outputs[0]
        source = _find_source(node)
        if source is not None and not result.is_graph_output():
            replace_all_uses_with(result, source)
            dropped += 1
    _remove_unused(model)
    return dropped


def drop_traces(model: Model) -> None:
    """Take out the exporter's notes on each node: stack traces with the paths of whoever exported, in a file of a tiny
    model more bytes than its weights.
    """
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        for value in (*graph.inputs, *getattr(graph, "initializers", {}).values()):
            value.metadata_props.clear()
        for node in graph.all_nodes():
            for part in (node, *node.outputs):
                part.metadata_props.clear()


def _find_source(node: Any) -> Any:
    """The value that a reshape, or the reshapes before it, got in the very shape in which it leaves; or ``None``."""
    result, found, value = node.outputs[0], None, node.inputs[0]
    while True:
        if _has_shape_of(value, result):
            found = value
        before = value.producer()
        if before is None or before.op_type != "Reshape":
            return found
        value = before.inputs[0]


def _has_shape_of(value: Any, other: Any) -> bool:
    """Whether two values certainly have one shape: numbers, or names of the same axis."""
    if value.shape is None or other.shape is None or len(value.shape) != len(other.shape):
        return False
    return all(
        a == b and (isinstance(a, int) or a.value is not None)
        for a, b in zip(value.shape, other.shape, strict=True)
    )


def pack_projections(model: Model) -> int:
    """Make one ``Attention`` of a ``MultiHeadAttention`` and the three projections before it; returns how many.

    In int8 it quantises its input once and multiplies it once. Only where the three are plain linear layers of one
    input, as wide as it (pruned heads are not), and scores are scaled by the root of a head's size, as that operator
    does.
    """
    import onnx_ir as ir
    from onnx_ir.convenience import replace_all_uses_with

    packed = 0
    for node in [node for node in model.graph if node.op_type == "MultiHeadAttention"]:
        found = [_read_projection(value) for value in node.inputs[:3]]
        linear = [projection for projection in found if projection is not None]
        if len(linear) < 3 or len({id(source) for source, _, _ in linear}) > 1 or not _is_plain(node, linear):
            continue
        arrays = [
            np.concatenate([part[index].const_value.numpy() for part in linear], axis=-1) for index in (1, 2)
        ]
        constants = [_hold(model.graph, f"packed_{packed}_{array.ndim}", array) for array in arrays]
        heads = node.attributes["num_heads"].as_int()
        joined = ir.node(
            "Attention",
            [linear[0][0], *constants, node.inputs[4]],
            {"num_heads": heads},
            domain="com.microsoft",
            version=1,
        )
        old, new = node.outputs[0], joined.outputs[0]
        new.name, new.shape, new.type = f"{old.name}_packed", old.shape, old.type
        model.graph.insert_before(node, joined)
        replace_all_uses_with(old, new)
        packed += 1
    _remove_unused(model)
    return packed


def _read_projection(value: Any) -> tuple[Any, Any, Any] | None:
    """Input, weight (in, out) and bias (out) of the linear layer that made a value; ``None`` if another thing did."""
    add = value.producer()
    if add is None or add.op_type != "Add":
        return None
    for product, bias in (add.inputs, reversed(add.inputs)):
        multiply = product.producer()
        if multiply is None or multiply.op_type != "MatMul":
            continue
        source, weight = multiply.inputs
        if weight.const_value is not None and bias.const_value is not None and len(bias.shape) == 1:
            return source, weight, bias
    return None


def _is_plain(node: Any, found: list[Any]) -> bool:
    """Whether the operator without options computes the same."""
    width, heads = found[0][1].shape[0], node.attributes["num_heads"].as_int()
    scale = node.attributes.get("scale")
    return all(tuple(weight.shape) == (width, width) for _, weight, _ in found) and (
        scale is None or math.isclose(scale.as_float(), 1 / math.sqrt(width // heads), rel_tol=1e-6)
    )


def _hold(graph: Any, name: str, array: np.ndarray) -> Any:
    """A constant of the graph."""
    import onnx_ir as ir

    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype)
    )
    graph.register_initializer(value)
    return value


def _remove_unused(model: Model) -> None:
    """Take out what nothing reads any more."""
    from onnxscript.optimizer import remove_unused_nodes

    remove_unused_nodes(model)
