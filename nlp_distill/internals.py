"""What a model computes inside: run it and collect hidden states, attentions, and queries, keys and values.

Queries, keys and values are read off the linear layers that make them, by hooks, so that they are the same whatever
attention backend (``sdpa``, ``eager``, ``flash_attention_2``) the model runs on. Gradients flow through them.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import ModelOutput

from data_augment.errors import InputError

# Names of the linear layers: BERT, RoBERTa, ELECTRA and their kin; DistilBERT. Families that turn or bias the products
# afterwards (rotary, relative positions) are left out on purpose: Q K^T / sqrt(d) would not be their scores.
PROJECTIONS = {"queries": ("query", "q_lin"), "keys": ("key", "k_lin"), "values": ("value", "v_lin")}
RECORDED = frozenset(PROJECTIONS)


def run_model(model: PreTrainedModel, inputs: Mapping[str, Tensor], needs: frozenset[str]) -> ModelOutput:
    """Run a model and return its outputs with everything in ``needs``.

    Args:
        model: any encoder; for queries, keys or values one of the BERT, RoBERTa, ELECTRA or DistilBERT kind.
        inputs: arguments of its ``forward``, (batch, seq) each.
        needs: any of ``hidden_states``, ``attentions``, ``queries``, ``keys``, ``values``.

    Returns:
        The model's outputs. ``hidden_states`` are layers + 1 tensors (batch, seq, hidden), the embeddings first;
        ``attentions`` are one (batch, heads, seq, seq) a layer; ``queries``, ``keys`` and ``values`` one
        (batch, heads, seq, head size) a layer.

    Raises:
        InputError: if the model cannot provide one of them.
    """
    asked = sorted(needs - RECORDED)
    if asked and not _accepts_flags(model):
        raise InputError(_refusal(model, asked))
    with record_projections(model, needs & RECORDED) as recorded:
        outputs = model(**inputs, **{f"output_{name}": True for name in asked})
    if missing := [name for name in asked if not outputs.get(name)]:
        raise InputError(_refusal(model, missing))
    for name, tensors in recorded.items():
        outputs[name] = tuple(tensors)
    return outputs


@contextmanager
def record_projections(
    model: PreTrainedModel, kinds: frozenset[str] = RECORDED
) -> Iterator[dict[str, list[Tensor]]]:
    """While the context lasts, collect the queries, keys and values of every self-attention layer of ``model``.

    Yields:
        Lists by kind, filled by each forward pass: (batch, heads, seq, head size), one a layer.

    Raises:
        InputError: if the model has no attention layers of a kind that this knows.
    """
    recorded: dict[str, list[Tensor]] = {kind: [] for kind in sorted(kinds)}
    handles = []
    for layer in find_attention_layers(model) if kinds else ():
        for kind in recorded:
            hook = partial(_keep_heads, recorded[kind], count_heads(layer))
            handles.append(get_projection(layer, kind).register_forward_hook(hook))
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def find_attention_layers(model: nn.Module) -> list[nn.Module]:
    """The self-attention modules of an encoder, first layer first.

    Raises:
        InputError: if there is none with separate query, key and value layers.
    """
    found = [
        module
        for module in model.modules()
        if all(_first_linear(module, names) is not None for names in PROJECTIONS.values())
    ]
    if not found:
        raise InputError(
            f"{type(model).__name__} has no attention layers with separate query, key and value projections; attention "
            "losses work with BERT, RoBERTa, ELECTRA, DistilBERT and models built like them. Leave the attention term "
            "out for this model"
        )
    return found


def get_projection(layer: nn.Module, kind: str) -> nn.Linear:
    """The linear layer of an attention module that makes its queries, keys or values."""
    linear = _first_linear(layer, PROJECTIONS[kind])
    assert linear is not None  # find_attention_layers returns no others
    return linear


def count_heads(layer: nn.Module) -> int:
    """Heads of an attention module."""
    heads: Any = getattr(layer, "num_attention_heads", None) or getattr(layer, "n_heads", None)
    return int(heads)


def _first_linear(module: nn.Module, names: tuple[str, ...]) -> nn.Linear | None:
    linears = (getattr(module, name, None) for name in names)
    return next((linear for linear in linears if isinstance(linear, nn.Linear)), None)


def _keep_heads(kept: list[Tensor], heads: int, module: nn.Module, inputs: Any, output: Tensor) -> None:
    kept.append(output.unflatten(-1, (heads, -1)).transpose(1, 2))


def _accepts_flags(model: PreTrainedModel) -> bool:
    parameters = inspect.signature(model.forward).parameters
    has_rest = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return has_rest or "output_hidden_states" in parameters


def _refusal(model: PreTrainedModel, names: list[str]) -> str:
    return (
        f"{type(model).__name__} returns no {' and no '.join(name.replace('_', ' ') for name in names)}, which the "
        "objective reads; take a transformer encoder, or an objective over logits"
    )
