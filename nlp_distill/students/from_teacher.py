"""A smaller transformer of the teacher's own kind, that starts from the teacher's weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from data_augment.errors import InputError
from nlp_distill.internals import find_attention_layers, get_projection
from nlp_distill.layer_map import LayerMap, uniform
from nlp_distill.limits import check_whole

# Beyond any model of today: a number with a few zeros too many fills the memory before it fails.
LARGEST = {"layers": 1_000, "hidden": 65_536, "heads": 1_024, "ffn": 1_048_576}


@dataclass(frozen=True)
class Shape:
    """Depth and widths of a transformer: layers, hidden size, attention heads, inner size of the feed-forward nets."""

    layers: int
    hidden: int
    heads: int
    ffn: int

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads", "ffn"):
            check_whole(name, getattr(self, name), at_least=1, at_most=LARGEST[name])
        if self.hidden % self.heads:
            raise InputError(
                f"hidden is {self.hidden} and heads {self.heads}; the heads must divide the hidden size"
            )


TINYBERT_4 = Shape(
    layers=4, hidden=312, heads=12, ffn=1200
)  # Jiao et al. 2019, section 4.2: 14.5M parameters
TINYBERT_6 = Shape(layers=6, hidden=768, heads=12, ffn=3072)  # section 4.2: 67M
SMALL_3X312 = Shape(layers=3, hidden=312, heads=12, ffn=1200)  # for a teacher of 6 layers, 384 wide
SMALL_2X128 = Shape(
    layers=2, hidden=128, heads=2, ffn=512
)  # BERT-tiny's (Turc et al. 2019, arXiv 1908.08962)


def student_from_teacher(
    teacher: PreTrainedModel,
    shape: Shape | None,
    *,
    layer_map: LayerMap = uniform,
    random: bool = False,
    seed: int = 0,
) -> PreTrainedModel:
    """A student of the teacher's class with fewer or narrower layers: BERT, RoBERTa, ELECTRA, DistilBERT.

    Student layer m starts from the teacher layer that ``layer_map`` gives it. Where the widths are kept, weights are
    copied. Where they shrink, with d and D the hidden sizes:

    * The residual stream is rotated and cut: P (D, d) holds the d largest principal axes of the teacher's word
      embeddings, and every axis of size D of a weight is multiplied by P, so E_S = E_T P and W_S = P^T W_T P.
    * Queries and keys of a head give scores (x W_q + b_q) (x W_k + b_k)^T / sqrt(head size), a bilinear form whose best
      approximation of the smaller head size is its truncated singular value decomposition (biases as one more input).
      Values and output are treated alike. This needs the teacher's number of heads, and heads no larger than its own;
      otherwise the attention of the student stays random.
    * Of the feed-forward units those with the largest |w_in| * |w_out| stay.
    * Layer norms keep their mean gain and the rotated bias.

    Args:
        teacher: any model of these kinds, with whatever head; the head is carried over as the rest.
        shape: the student's shape; ``None`` for the teacher's own.
        layer_map: which teacher layer each student layer starts from.
        random: start from random weights instead: the baseline that owes nothing to the teacher.
        seed: of what stays random; the global random state is left as it was.

    Returns:
        The student, in training mode, with the teacher's vocabulary, labels and positions.

    Raises:
        InputError: for a shape that is larger than the teacher, or a kind of model that is not supported.

    Example:
        >>> student = student_from_teacher(teacher, Shape(layers=3, hidden=312, heads=12, ffn=1200))  # doctest: +SKIP
    """
    if getattr(teacher.config, "head_size", None) is not None:
        raise InputError(
            f"{type(teacher).__name__} has heads of a size of their own, which no student can be cut from; take the "
            "model that it was made from"
        )
    own = read_shape(teacher.config)
    shape = own if shape is None else shape
    if not random:
        _check_smaller(shape, own)
        find_attention_layers(teacher)  # refuses other kinds
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = type(teacher)(_resize(teacher.config, shape))
    if not random:
        _Shrinking(teacher, student, own, shape, layer_map).apply()
    return student.train()


@torch.no_grad()
def reorder_head(model: PreTrainedModel, order: Sequence[int]) -> None:
    """Give a classifier's classes another order, in place: class ``order[i]`` becomes class ``i``.

    The names in its config are left as they are.

    Args:
        model: a classifier that ends in a linear layer with a row a class.
        order: every class once.
    """
    *_, last = (part for part in model.modules() if isinstance(part, nn.Linear))
    if last.out_features != len(order):
        raise InputError(
            f"{type(model).__name__} does not end in a linear layer of {len(order)} classes, so they cannot be put in "
            "the task's order; give a teacher whose labels have that order"
        )
    for weight in last.parameters():
        weight.copy_(weight[list(order)])


def read_shape(config: PreTrainedConfig) -> Shape:
    """The shape of a model's config, whatever its family calls the fields."""
    return Shape(
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        getattr(config, name_ffn_size(config)),
    )


def name_ffn_size(config: PreTrainedConfig) -> str:
    """The field of a config that holds the inner size of the feed-forward nets.

    Raises:
        InputError: if it has none.
    """
    name = next((name for name in ("intermediate_size", "hidden_dim") if hasattr(config, name)), None)
    if name is None:
        raise InputError(
            f"{type(config).__name__} names no feed-forward size; students are cut from BERT-like models"
        )
    return name


def _check_smaller(shape: Shape, own: Shape) -> None:
    for name in ("layers", "hidden", "ffn"):
        given, largest = getattr(shape, name), getattr(own, name)
        if given > largest:
            raise InputError(
                f"the student's {name} is {given} but the teacher has {largest}; give {largest} or less, or start from "
                "random weights (random=True, --random-start)"
            )


def _resize(config: PreTrainedConfig, shape: Shape) -> PreTrainedConfig:
    new = copy.deepcopy(config)
    if (
        getattr(config, "embedding_size", None) == config.hidden_size
    ):  # ELECTRA: no projection between the two
        new.embedding_size = shape.hidden
    new.num_hidden_layers, new.hidden_size, new.num_attention_heads = shape.layers, shape.hidden, shape.heads
    setattr(new, name_ffn_size(config), shape.ffn)
    new.name_or_path = ""
    return new


class _Shrinking:
    """Fills a student's weights from its teacher's."""

    def __init__(
        self,
        teacher: PreTrainedModel,
        student: PreTrainedModel,
        own: Shape,
        shape: Shape,
        layer_map: LayerMap,
    ):
        # A copy in memory, where a training took the teacher itself to an accelerator.
        teacher = teacher if teacher.device.type == "cpu" else copy.deepcopy(teacher).cpu()
        self.teacher, self.student, self.own, self.shape = teacher, student, own, shape
        self.sources = {m: n for m, n in layer_map(shape.layers, own.layers) if m > 0}
        self.axes = find_axes(teacher, shape.hidden)
        self.is_same_width = shape.hidden == own.hidden

    @torch.no_grad()
    def apply(self) -> None:
        """Fill what can be filled, layer by layer; the rest stays as it was drawn."""
        own_layers, other_layers = find_layers(self.student), find_layers(self.teacher)
        in_layers = {id(weight) for layer in own_layers for weight in layer.parameters()}
        sources = dict(self.teacher.named_parameters())
        for name, weight in self.student.named_parameters():
            if id(weight) not in in_layers and name in sources:
                weight.copy_(self._shrink(name, sources[name], weight.shape, units=None))
        for number, layer in enumerate(own_layers, start=1):
            if number in self.sources:
                self._fill_layer(layer, other_layers[self.sources[number] - 1])

    def _fill_layer(self, layer: nn.Module, source: nn.Module) -> None:
        attention = {id(weight) for part in find_attention_linears(layer) for weight in part.parameters()}
        units = self._choose_units(source)
        sources = dict(source.named_parameters())
        for name, weight in layer.named_parameters():
            if id(weight) not in attention:
                weight.copy_(self._shrink(name, sources[name], weight.shape, units))
        heads_fit = self.shape.heads == self.own.heads and self.shape.hidden <= self.own.hidden
        if heads_fit:
            self._fill_attention(find_attention_linears(layer), find_attention_linears(source))

    def _shrink(self, name: str, source: Tensor, shape: Sequence[int], units: Tensor | None) -> Tensor:
        """A weight with every axis of the teacher's width multiplied by P, and that of the units cut to ``units``.

        An axis that has the same size in the student counts something else: positions, of which BERT-small has as many
        as it is wide, or the width of ELECTRA's embeddings, which stays.
        """
        if "norm" in name.lower() and name.endswith("weight"):
            return source if source.shape == shape else source.mean().expand(shape)
        result = source
        for axis, (size, new_size) in enumerate(zip(source.shape, shape, strict=True)):
            if units is not None and size == self.own.ffn and _is_unit_axis(name, axis):
                result = result.index_select(axis, units)
            elif size == self.own.hidden and size != new_size:
                result = (result.movedim(axis, -1).double() @ self.axes).movedim(-1, axis)
        return result.to(source.dtype)

    def _choose_units(self, source: nn.Module) -> Tensor:
        inner, outer = find_ffn_linears(source)
        importance = inner.weight.norm(dim=1) * outer.weight.norm(dim=0)
        return importance.topk(self.shape.ffn).indices.sort().values

    def _fill_attention(self, own: list[nn.Linear], other: list[nn.Linear]) -> None:
        if self.is_same_width:
            for mine, theirs in zip(own, other, strict=True):
                mine.load_state_dict(theirs.state_dict())
            return
        query, key, value, output = (linear.weight.double() for linear in other)
        query_bias, key_bias, value_bias, output_bias = (linear.bias.double() for linear in other)
        size, new_size = self.own.hidden // self.own.heads, self.shape.hidden // self.shape.heads
        for head in range(self.shape.heads):
            old, new = slice(head * size, (head + 1) * size), slice(head * new_size, (head + 1) * new_size)
            # (d + 1, head size): what a rotated input and a constant 1 contribute to the head.
            inputs = [
                torch.cat([self.axes.T @ weight[old].T, bias[old][None]])
                for weight, bias in ((query, query_bias), (key, key_bias), (value, value_bias))
            ]
            # The division by sqrt(head size) changes with the size; the product must not.
            factor = (new_size / size) ** 0.5
            left, right = truncate(inputs[0] * factor, inputs[1].T, new_size)
            into, out = truncate(inputs[2], output[:, old].T @ self.axes, new_size)
            for linear, matrix in zip(own[:3], (left, right.T, into), strict=True):
                linear.weight[new].copy_(matrix[:-1].T)
                linear.bias[new].copy_(matrix[-1])
            own[3].weight[:, new].copy_(out.T)
        own[3].bias.copy_(output_bias @ self.axes)


def find_axes(teacher: PreTrainedModel, size: int) -> Tensor:
    """The ``size`` largest principal axes of the teacher's word embeddings, (hidden, size) float64, orthonormal.

    Of embeddings that have another width than the layers (ELECTRA's) the principal axes of what their projection makes
    of them are taken. Each axis is signed so that its largest number is positive.
    """
    weight: Any = teacher.get_input_embeddings().weight
    embeddings = weight.detach().cpu().double()
    if embeddings.shape[1] != teacher.config.hidden_size:
        projection = next(
            module
            for module in teacher.modules()
            if isinstance(module, nn.Linear) and module.in_features == embeddings.shape[1]
        )
        embeddings = embeddings @ projection.weight.detach().cpu().double().T
    centred = embeddings - embeddings.mean(dim=0)
    _, axes = torch.linalg.eigh(centred.T @ centred)  # ascending
    axes = axes.flip(1)[:, :size]
    largest = axes.abs().argmax(dim=0)
    return axes * axes[largest, torch.arange(size)].sign()


def truncate(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best factors of ``rank`` of a product: ``left @ right`` with (a, n) and (n, b) -> (a, rank) and (rank, b).

    The singular values are shared equally between the two, so that both are of one scale.
    """
    u, values, v = torch.linalg.svd(left @ right, full_matrices=False)
    root = values[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:rank]


def find_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The transformer layers of an encoder, first layer first."""
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    depth = model.config.num_hidden_layers
    found = (stack for stack in stacks if len(stack) == depth and find_attention_layers(stack[0]))
    layers = next(found, None)
    if layers is None:
        raise InputError(
            f"a {type(model).__name__} has no list of {depth} layers (ALBERT's are one, many times), so no student can "
            "be cut from it; start from random weights (random=True, --random-start), or take a BERT, RoBERTa, ELECTRA "
            "or DistilBERT"
        )
    return list(layers)


def find_attention_linears(layer: nn.Module) -> list[nn.Linear]:
    """Query, key, value and output linear layers of a transformer layer's self-attention."""
    [attention] = find_attention_layers(layer)
    inner = [get_projection(attention, kind) for kind in ("queries", "keys", "values")]
    known = {id(linear) for linear in inner}
    whole = layer.get_submodule("attention")  # all families call it so; it holds the output layer too
    output = next(m for m in whole.modules() if isinstance(m, nn.Linear) and id(m) not in known)
    return [*inner, output]


def find_ffn_linears(layer: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    """The two linear layers of a transformer layer's feed-forward net."""
    attention = {id(linear) for linear in find_attention_linears(layer)}
    inner, outer = (m for m in layer.modules() if isinstance(m, nn.Linear) and id(m) not in attention)
    return inner, outer


def _is_unit_axis(name: str, axis: int) -> bool:
    """Whether an axis of a feed-forward weight counts its units; says which where both axes have one size."""
    is_inner = "intermediate" in name or "lin1" in name
    return axis == 0 if is_inner else axis == 1
