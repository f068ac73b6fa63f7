"""Take out the attention heads and feed-forward units that matter least, so that the model is smaller in fact.

Heads: Michel, Levy and Neubig 2019, "Are Sixteen Heads Really Better than One?", arXiv 1905.10650, section 4.1. A gate
xi_h = 1 multiplies the output of head h, and

    I_h = E_x |dL(x) / dxi_h|

over rows x with the loss L to their labels. Units of the feed-forward nets are scored by the same derivative, which for
a unit with outgoing weights w is a first-order Taylor score of setting them to zero:

    I_u = E_x |dL(x) / dxi_u| = E_x |sum_j w_uj dL(x) / dw_uj|

Deviations from the paper: all at once rather than step by step, and the same number in each layer (a BERT's config has
one number of heads and one feed-forward size), chosen within the layer, so that no normalisation across layers is
needed. Units taken out leave a plain model of the same class; a BERT with heads taken out is a compact BERT
(:mod:`nlp_distill.students.compact_bert`), because BERT's heads are hidden_size / heads wide by definition. Both have
the logits of the whole model with the gates of what was taken out at zero.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from data_augment.errors import InputError
from nlp_distill.batching import DistillationCollator, plan_batches
from nlp_distill.compression.rebuild import change_config, check_kind, make_compact, rebuild
from nlp_distill.encoding import EncodedRows
from nlp_distill.internals import count_heads, find_attention_layers
from nlp_distill.objectives.hard_labels import UNLABELLED, fit_labels
from nlp_distill.students import CompactBertForSequenceClassification
from nlp_distill.students.from_teacher import (
    find_attention_linears,
    find_ffn_linears,
    find_layers,
    name_ffn_size,
)

BATCH_TOKENS = 2048  # in one backward pass, padding included


def prune_heads(model: PreTrainedModel, kept: Sequence[Tensor]) -> Any:
    """A compact BERT with only some heads of each layer.

    Args:
        model: a BERT classifier, compact or not; left as it is.
        kept: the heads that stay, in ascending order: one tensor a layer, all of one length.

    Returns:
        The smaller model, in training mode.

    Raises:
        InputError: for another kind of model.
    """
    check_kind(model, "prune-heads")
    weights, names = model.state_dict(), {module: name for name, module in model.named_modules()}
    size = read_head_size(model)
    for layer, heads in zip(find_layers(model), kept, strict=True):
        columns = (heads[:, None] * size + torch.arange(size)).flatten()
        *inner, output = (names[linear] for linear in find_attention_linears(layer))
        for name in inner:
            weights |= {f"{name}.{part}": weights[f"{name}.{part}"][columns] for part in ("weight", "bias")}
        weights[f"{output}.weight"] = weights[f"{output}.weight"][:, columns]
    config = make_compact(model.config, num_attention_heads=len(kept[0]), head_size=size)
    return rebuild(CompactBertForSequenceClassification, config, weights)


def prune_units(model: PreTrainedModel, kept: Sequence[Tensor]) -> Any:
    """A model of the same class with only some feed-forward units of each layer.

    Args:
        model: a BERT-like classifier; left as it is.
        kept: the units that stay, in ascending order: one tensor a layer, all of one length.

    Returns:
        The smaller model, in training mode.

    Raises:
        InputError: for another kind of model.
    """
    check_kind(model, "prune-ffn")
    weights, names = model.state_dict(), {module: name for name, module in model.named_modules()}
    for layer, units in zip(find_layers(model), kept, strict=True):
        inner, outer = (names[linear] for linear in find_ffn_linears(layer))
        weights |= {f"{inner}.{part}": weights[f"{inner}.{part}"][units] for part in ("weight", "bias")}
        weights[f"{outer}.weight"] = weights[f"{outer}.weight"][:, units]
    config = change_config(model.config, **{name_ffn_size(model.config): len(kept[0])})
    return rebuild(type(model), config, weights)


def score_heads(model: PreTrainedModel, rows: EncodedRows, collate: DistillationCollator) -> list[Tensor]:
    """I_h of every head: one tensor (heads,) a layer; see :func:`score_parts`."""
    outputs = [find_attention_linears(layer)[-1] for layer in find_layers(model)]
    return score_parts(model, outputs, read_heads(model), rows, collate)


def score_units(model: PreTrainedModel, rows: EncodedRows, collate: DistillationCollator) -> list[Tensor]:
    """I_u of every feed-forward unit: one tensor (units,) a layer; see :func:`score_parts`."""
    outer = [find_ffn_linears(layer)[1] for layer in find_layers(model)]
    return score_parts(model, outer, outer[0].in_features, rows, collate)


def score_parts(
    model: PreTrainedModel,
    linears: Sequence[nn.Linear],
    parts: int,
    rows: EncodedRows,
    collate: DistillationCollator,
) -> list[Tensor]:
    """The mean over rows of |dL / dgate|, for gates on the inputs of linear layers, without dropout.

    Args:
        model: the classifier or regressor; its weights, gradients and mode are left as they are.
        linears: linear layers of it, whose input (batch, seq, features) is ``parts`` equal parts side by side.
        parts: gates a layer.
        rows: labelled rows; L is the cross-entropy to the label, or the squared error of a regression.
        collate: pads a batch.

    Returns:
        (parts,) for each linear layer, on the CPU.
    """
    totals = [torch.zeros(parts) for _ in linears]
    was_training = model.training
    model.eval()
    for indices in plan_batches(rows.lengths, BATCH_TOKENS):
        batch = {
            name: value.to(model.device) for name, value in collate([rows[int(i)] for i in indices]).items()
        }
        labels = batch.pop("labels")
        gates = [torch.ones(len(indices), parts, device=model.device, requires_grad=True) for _ in linears]
        with gate_inputs(linears, gates), torch.enable_grad():
            logits = model(**batch).logits
        # A row's loss depends on the row's own gates alone, so one backward pass gives every row's derivative.
        for total, gradient in zip(
            totals, torch.autograd.grad(sum_losses(logits, labels), gates), strict=True
        ):
            total += gradient.abs().sum(dim=0).cpu()
    model.train(was_training)
    return [total / len(rows) for total in totals]


@contextmanager
def gate_inputs(linears: Sequence[nn.Linear], gates: Sequence[Tensor]) -> Iterator[None]:
    """While the context lasts, multiply the parts of the layers' inputs by their gates.

    Args:
        linears: linear layers.
        gates: (parts,) or (batch, parts) for each of them; the input's features are so many equal parts.
    """
    handles = [
        linear.register_forward_pre_hook(partial(_multiply, gate))
        for linear, gate in zip(linears, gates, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def choose_kept(scores: Sequence[Tensor], removed: int) -> list[Tensor]:
    """In each layer all but the ``removed`` least important, in ascending order; of equals the first stay."""
    orders = (torch.argsort(score, descending=True, stable=True) for score in scores)
    return [order[: len(order) - removed].sort().values for order in orders]


def count_removed(amount: int | float, total: int, option: str) -> int:
    """How many of ``total`` are taken out in each layer.

    Args:
        amount: a number of them (int), or a share of them (float).
        total: how many a layer has.
        option: for whom.

    Raises:
        InputError: if none would stay, or none would go.
    """
    is_number = isinstance(amount, int)
    in_range = 0 < amount < (total if is_number else 1)  # a NaN is not
    removed = (amount if is_number else round(amount * total)) if in_range else 0
    if not 0 < removed < total:
        allowed = f"give a share that takes out 1 to {total - 1} of them"
        if option == "--prune-heads":
            allowed = (
                f"give a whole number from 1 to {total - 1}, or a share above 0 and below 1 that comes to one"
            )
        raise InputError(f"{option} is {amount}, and a layer has {total}; {allowed}")
    return int(removed)


def read_heads(model: PreTrainedModel) -> int:
    """Attention heads a layer."""
    return count_heads(find_attention_layers(model)[0])


def read_head_size(model: PreTrainedModel) -> int:
    """Numbers a head."""
    return find_attention_linears(find_layers(model)[0])[0].out_features // read_heads(model)


def read_units(model: PreTrainedModel) -> int:
    """Feed-forward units a layer."""
    return int(getattr(model.config, name_ffn_size(model.config)))


def sum_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over labelled rows of cross-entropy, or for one logit a row of the squared error.

    Args:
        logits: (batch, classes).
        labels: (batch,), -100 or NaN for "no label".
    """
    labels = fit_labels(labels, logits)
    if labels.is_floating_point():
        known = ~labels.isnan()  # chosen first: a NaN would reach the derivatives of the others
        return (logits.squeeze(-1)[known] - labels[known]).square().sum()
    return F.cross_entropy(logits, labels, reduction="sum", ignore_index=UNLABELLED)


def _multiply(gate: Tensor, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
    parts = inputs[0].unflatten(-1, (gate.shape[-1], -1))  # (batch, seq, parts, features a part)
    gate = gate[:, None, :, None] if gate.dim() == 2 else gate[:, None]
    return ((parts * gate).flatten(-2),)
