"""What an exported graph can do without, which counts most where a model is small and its operators are many.

The passes leave every answer as it is: one takes out operators that move nothing, one puts three products of one matrix
into one, one leaves out the tokens of the last layer that no head reads, and one takes out what the exporter notes of
its own run.
"""

import math
from typing import Any

import numpy as np

Model = Any  # onnx_ir comes with the extra "onnx", and naming its types would import it

# Operators that compute each number from the numbers in the same place, and so each token from itself alone.
ELEMENTWISE = frozenset(
    ("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Erf", "Gelu", "Relu", "Tanh", "Sigmoid", "Softplus", "Cast")
)


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


def read_one_token(model: Model) -> int:
    """Compute only the token that the head reads, from where the last layer's tokens no longer see each other.

    A classifier like BERT's reads the state of the first token alone. Of the other tokens, the last layer needs keys
    and values; what follows attention (its output's projection, the feed-forward, both norms) goes token by token,
    and is left out for them: 9 of the 12 times hidden² products a token of that layer, where the feed-forward is four
    times as wide. States are (batch, seq, hidden) before, and (batch, 1, hidden) after.

    Returns:
        How many operators now compute one token; 0 where a head reads them all.
    """
    read = [node for node in model.graph if _picks_one_token(node)]
    if len(read) != 1:
        return 0
    picked, states = read[0], read[0].inputs[0]
    moved, wanted = [picked], {states: None}
    for node in reversed(list(model.graph)):
        result = node.outputs[0]
        if result in wanted and all(reader in moved for reader in result.consumers()):
            inputs = _list_token_inputs(node, states)
            if inputs and not result.is_graph_output():
                moved.append(node)
                wanted |= dict.fromkeys(inputs)
    for value in wanted:
        if value.producer() in moved:
            value.shape = _shape_one_token(value)
        elif len(moved) > 1:
            _pick_before(model.graph, value, picked, moved)
    return len(moved) - 1


def _picks_one_token(node: Any) -> bool:
    """Whether a node takes the first token (or the last) of (batch, seq, hidden), or could."""
    if node.op_type != "Gather" or "axis" not in node.attributes or node.attributes["axis"].as_int() != 1:
        return False
    states, index = node.inputs
    return (
        states.shape is not None
        and len(states.shape) == 3
        and states.producer() is not None
        and index.const_value is not None
        and index.const_value.numpy().shape == ()
        and int(index.const_value.numpy()) in (0, -1)  # which one token has too
    )


def _list_token_inputs(node: Any, states: Any) -> list[Any]:
    """The inputs of a node, (batch, seq, any), if it computes each of its tokens from theirs alone; else none."""
    tokens = [value for value in node.inputs if value is not None and value.const_value is None]
    constants = [
        value.const_value for value in node.inputs if value is not None and value.const_value is not None
    ]
    if len(node.outputs) > 1 or not all(_has_tokens_of(value, states) for value in (*tokens, *node.outputs)):
        return []
    if node.op_type == "MatMul":
        fits = len(tokens) == 1 and node.inputs[0] is tokens[0] and len(constants[0].shape) == 2
    elif node.op_type == "LayerNormalization":
        axis = node.attributes.get("axis")
        fits = tokens == [node.inputs[0]] and (axis is None or axis.as_int() in (-1, 2))
    else:
        fits = node.op_type in ELEMENTWISE and all(len(constant.shape) < 2 for constant in constants)
    return tokens if fits else []


def _has_tokens_of(value: Any, states: Any) -> bool:
    """Whether a value is (batch, seq, any) with the batch and the tokens of ``states``."""
    if value.shape is None or len(value.shape) != 3:
        return False
    return all(
        a == b and (isinstance(a, int) or a.value is not None)
        for a, b in zip(value.shape[:2], states.shape[:2], strict=True)
    )


def _shape_one_token(value: Any) -> Any:
    """(batch, 1, hidden)."""
    import onnx_ir as ir

    return ir.Shape([value.shape[0], 1, value.shape[2]])


def _pick_before(graph: Any, value: Any, picked: Any, moved: list[Any]) -> None:
    """Give the ``moved`` readers of a value its one token that ``picked`` would take, as (batch, 1, hidden)."""
    import onnx_ir as ir

    index = _hold(graph, f"{value.name}_which", picked.inputs[1].const_value.numpy().reshape(1))
    node = ir.node("Gather", [value, index], {"axis": 1})
    one = node.outputs[0]
    one.name, one.shape, one.type = f"{value.name}_one", _shape_one_token(value), value.type
    for reader in moved:
        for position, read in enumerate(reader.inputs):
            if read is value:
                reader.replace_input_with(position, one)
    graph.insert_after(value.producer(), node)


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
