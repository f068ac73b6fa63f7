"""How models enter ONNX as the operators that onnxruntime computes fastest."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from data_augment.errors import InputError
from nlp_distill.internals import find_attention_layers

FUSED = "nlp_distill_fused"  # the attention implementation's name within transformers


def make_bilstm() -> Any:
    """The ONNX form of ``nlp_distill::bilstm``: one LSTM operator that knows where each row ends.

    ONNX orders the gates i, o, f, g where torch has i, f, g, o. An empty row is read as one step, and its state set to
    0 afterwards: beside a row of length 0, onnxruntime's int8 LSTM changes the other rows' states.
    """
    from onnxscript import opset18 as op

    def bilstm(inputs, lengths, weights):
        hidden = int(weights[1].shape[1])

        def reorder(weight):
            i, f, g, o = (
                op.Slice(
                    weight, op.Constant(value_ints=[n * hidden]), op.Constant(value_ints=[(n + 1) * hidden])
                )
                for n in range(4)
            )
            return op.Unsqueeze(op.Concat(i, o, f, g, axis=0), op.Constant(value_ints=[0]))

        def both(*numbers):
            sides = [op.Concat(*map(reorder, (weights[n] for n in side)), axis=1) for side in numbers]
            return op.Concat(*sides, axis=0)

        _, states, _ = op.LSTM(
            op.Transpose(inputs, perm=[1, 0, 2]),
            both([0], [4]),
            both([1], [5]),
            both([2, 3], [6, 7]),
            op.Cast(op.Max(lengths, op.Constant(value_ints=[1])), to=6),  # int32
            hidden_size=hidden,
            direction="bidirectional",
        )
        flat = op.Reshape(op.Transpose(states, perm=[1, 0, 2]), op.Constant(value_ints=[0, 2 * hidden]))
        is_text = op.Greater(lengths, op.Constant(value_ints=[0]))
        return op.Mul(flat, op.Unsqueeze(op.Cast(is_text, to=1), op.Constant(value_ints=[1])))

    return bilstm


@contextmanager
def fused_attention(model: PreTrainedModel) -> Iterator[None]:
    """While the context lasts, ``model`` is exported with onnxruntime's own operator for attention.

    It takes the mask as it is, and neither turns nor copies the heads: on short texts that is a quarter of the time of
    a small BERT. Models whose attention is of another kind (relative positions, windows, causal), and torch before
    2.8, keep ONNX's operators.
    """
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel) and _can_fuse(part)]
    before = [(part, part.config._attn_implementation) for part in parts]
    AttentionInterface.register(FUSED, _attend)
    AttentionMaskInterface.register(FUSED, _keep_mask)
    try:
        for part in parts:
            part.set_attn_implementation(FUSED)
        yield
    finally:
        for part, implementation in before:
            part.set_attn_implementation(implementation)


def _can_fuse(model: PreTrainedModel) -> bool:
    if not hasattr(torch.onnx, "ops") or not model._supports_attention_backend:
        return False
    if getattr(model.config, "is_decoder", False):
        return False
    try:
        return bool(find_attention_layers(model))
    except InputError:
        return False


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Attention of (batch, heads, seq, head size) under a mask (batch, seq): (batch, seq, heads, head size)."""
    merged = [heads.transpose(1, 2).flatten(2) for heads in (query, key, value)]
    attributes: dict[str, Any] = {"num_heads": query.shape[1]}
    if scaling is not None:
        attributes["scale"] = float(scaling)
    states = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        (*merged, None, attention_mask.to(torch.int32)),
        attributes,
        dtype=query.dtype,
        shape=merged[0].shape,
        version=1,
    )
    return states.unflatten(2, (query.shape[1], -1)), None


def _keep_mask(*, attention_mask: Tensor, **rest: Any) -> Tensor:
    return attention_mask
