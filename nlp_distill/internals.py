"""What a model computes inside: run it and collect hidden states, attentions, queries, keys, values, word embeddings.

Queries, keys and values are read off the linear layers that make them, by hooks, so that they are the same whatever
attention backend (``sdpa``, ``eager``, ``flash_attention_2``) the model runs on. Gradients flow through them.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ModelOutput

from data_augment.errors import InputError

# Names of the linear layers: BERT, RoBERTa, ELECTRA and their kin; DistilBERT. Families that turn or bias the products
# afterwards (rotary, relative positions) are left out on purpose: Q K^T / sqrt(d) would not be their scores.
PROJECTIONS = {"queries": ("query", "q_lin"), "keys": ("key", "k_lin"), "values": ("value", "v_lin")}
RECORDED = frozenset(PROJECTIONS)
ROTARY = ("rotary_value", "rotary_embeddings")  # RoFormer's, ESM's, whose linear layers have BERT's names
# What the words became, with the logits that were computed from it still attached: for derivatives by the input.
INPUT_EMBEDDINGS, ATTACHED_LOGITS = "input_embeddings", "attached_logits"


def run_model(model: PreTrainedModel, inputs: Mapping[str, Tensor], needs: frozenset[str]) -> ModelOutput:
    """Run a model and return its outputs with everything in ``needs``.

    Args:
        model: any encoder; for queries, keys or values one of the BERT, RoBERTa, ELECTRA or DistilBERT kind.
        inputs: arguments of its ``forward``, (batch, seq) each.
        needs: any of ``hidden_states``, ``attentions``, ``queries``, ``keys``, ``values``, ``input_embeddings``.

    Returns:
        The model's outputs. ``hidden_states`` are layers + 1 tensors (batch, seq, hidden), the embeddings first;
        ``attentions`` are one (batch, heads, seq, seq) a layer; ``queries``, ``keys`` and ``values`` one
        (batch, heads, seq, head size) a layer. ``input_embeddings`` is what the word embeddings put out,
        (batch, seq, embedding size), and brings ``attached_logits``, which can be differentiated by it, twice, also
        where the model is frozen and the caller runs without gradients.

    Raises:
        InputError: if the model cannot provide one of them, or returns a tuple.
    """
    asked = sorted(needs - RECORDED - {INPUT_EMBEDDINGS})
    if asked and not _accepts_flags(model):
        raise InputError(_refusal(model, asked))
    with ExitStack() as stack:
        recorded = stack.enter_context(record_projections(model, needs & RECORDED))
        if INPUT_EMBEDDINGS in needs:
            calls = stack.enter_context(record_input_embeddings(model))
        outputs = model(**inputs, **{f"output_{name}": True for name in asked})
    if not isinstance(outputs, ModelOutput):
        raise InputError(
            f"{type(model).__name__} returns a {type(outputs).__name__}, in which nothing has a name; set "
            "model.config.return_dict = True"
        )
    if INPUT_EMBEDDINGS in needs:
        outputs[INPUT_EMBEDDINGS] = _take_embeddings(model, calls, inputs)
        outputs[ATTACHED_LOGITS] = outputs["logits"]
    if missing := [name for name in asked if not outputs.get(name)]:
        raise InputError(_refusal(model, missing))
    for name, tensors in recorded.items():
        if len(tensors) != model.config.num_hidden_layers:
            raise InputError(
                f"{type(model).__name__} runs {len(tensors)} attention layers where its config says "
                f"{model.config.num_hidden_layers}, so that layers cannot be told apart by number; leave the attention "
                "term out for this model"
            )
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
            hook = partial(_keep_heads, recorded[kind], count_heads(layer), torch.is_grad_enabled())
            handles.append(get_projection(layer, kind).register_forward_hook(hook))
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def record_input_embeddings(model: PreTrainedModel) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """While the context lasts, collect what the word embeddings read and put out, as something to differentiate by.

    Gradients are on in the context, and attention runs on PyTorch's own ``math`` kernel where the model uses ``sdpa``:
    the fused kernels have no second derivative ("derivative for aten::_scaled_dot_product_... is not implemented").

    Yields:
        (token ids, embeddings) of each call, (batch, seq) and (batch, seq, embedding size).

    Raises:
        InputError: if the model forgets activations and would compute them again later, on another kernel.
    """
    forgets = any(
        module.training and getattr(module, "gradient_checkpointing", False) for module in model.modules()
    )
    if forgets and model.config._attn_implementation == "sdpa":
        raise InputError(
            "with activation checkpointing, attention is computed again outside of the kernel that can be "
            'differentiated twice; call set_attn_implementation("eager") on the student, or leave the checkpointing out'
        )
    calls: list[tuple[Tensor, Tensor]] = []

    def keep(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        # A frozen matrix puts out a leaf, which can be told to; anything else has its gradient already.
        calls.append((arguments[0], output if output.requires_grad else output.requires_grad_()))

    handle = model.get_input_embeddings().register_forward_hook(keep)
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            yield calls
    finally:
        handle.remove()


def _take_embeddings(
    model: PreTrainedModel, calls: list[tuple[Tensor, Tensor]], inputs: Mapping[str, Tensor]
) -> Tensor:
    """The embeddings of the one call that read the rows as they are."""
    if len(calls) != 1 or not torch.equal(calls[0][0], inputs["input_ids"]):
        raise InputError(
            f"{type(model).__name__} does not embed the tokens of a batch all at once and as they stand (the BiLSTM "
            "sorts the rows, the CNN leaves special tokens out), so there is no derivative by them to compare; take a "
            "transformer, or leave Sobolev out"
        )
    return calls[0][1]


def find_attention_layers(model: nn.Module) -> list[nn.Module]:
    """The self-attention modules of an encoder, first layer first.

    Raises:
        InputError: if there is none with separate query, key and value layers.
    """
    found = [
        module
        for module in model.modules()
        if all(_first_linear(module, names) is not None for names in PROJECTIONS.values())
        and not any(getattr(module, name, None) is not None for name in ROTARY)
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


def read_attention_width(config: PreTrainedConfig) -> int:
    """Numbers a token of a layer's queries, of all heads: ``hidden_size``, or less where heads were pruned."""
    size = getattr(config, "head_size", None)  # of a compact BERT
    return config.hidden_size if size is None else config.num_attention_heads * size


def _first_linear(module: nn.Module, names: tuple[str, ...]) -> nn.Linear | None:
    linears = (getattr(module, name, None) for name in names)
    return next((linear for linear in linears if isinstance(linear, nn.Linear)), None)


def _keep_heads(
    kept: list[Tensor], heads: int, is_learning: bool, module: nn.Module, inputs: Any, output: Tensor
) -> None:
    weight: Any = module.weight
    if is_learning and weight.requires_grad and not output.requires_grad:
        raise InputError(
            "with reentrant activation checkpointing, queries, keys and values have no gradient, so that a loss on "
            "them would teach nothing; give activation_checkpointing_kwargs={'use_reentrant': False}"
        )
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
