"""What an objective is, and how objectives add up."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import ModelOutput

from data_augment.errors import InputError
from nlp_distill.losses import mean_of_tokens
from nlp_distill.schedules import value_at


class Objective(nn.Module):
    """One kind of knowledge, as named loss terms.

    An objective is a module so that what it learns itself (a projection from the student's width to the teacher's,
    say) is trained, clipped, checkpointed and moved with the student; most objectives have no parameters.

    Subclasses say in ``needs`` which outputs they read beyond the logits: any of ``"hidden_states"``,
    ``"attentions"``, ``"queries"``, ``"keys"``, ``"values"`` and ``"input_embeddings"`` (see
    :mod:`nlp_distill.internals`); and in ``needs_teacher`` whether they read the teacher at all.

    Objectives add: ``SoftTargets(4.0, weight=0.7) + HardLabels(weight=0.3)``.
    """

    needs: frozenset[str] = frozenset()
    needs_teacher: bool = True

    def forward(
        self,
        student_outputs: ModelOutput,
        teacher_outputs: ModelOutput | None,
        batch: Mapping[str, Any],
        progress: float,
    ) -> dict[str, Tensor]:
        """Map the outputs of one batch to named scalars, each already weighted.

        Args:
            student_outputs: what the student returned; ``.logits`` is (batch, classes).
            teacher_outputs: the same of the teacher; ``.logits`` is (batch, classes), or (batch, teachers, classes)
                for several teachers; ``None`` where no teacher is in use.
            batch: the collated batch, with ``labels`` (batch,) where rows have labels.
            progress: share of the optimiser steps done, in [0, 1].

        Returns:
            Scalars by name; the trainer sums them and logs each.
        """
        raise NotImplementedError

    def __add__(self, other: "Objective") -> "Sum":
        return Sum([*_parts(self), *_parts(other)])

    def __radd__(self, other: int) -> "Objective":  # sum([...]) begins with 0
        return self if other == 0 else NotImplemented


class Sum(Objective):
    """Several objectives at once; their terms must have different names.

    Raises:
        ValueError: if two objectives return a term of the same name (at the first batch).
    """

    def __init__(self, parts: Iterable[Objective]):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.needs = frozenset().union(*(part.needs for part in _parts(self)))
        self.needs_teacher = any(part.needs_teacher for part in _parts(self))

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        for part in self.parts:
            for name, value in part(student_outputs, teacher_outputs, batch, progress).items():
                if name in terms:
                    raise ValueError(f"two objectives return a term named '{name}'; {self._advise(name)}")
                terms[name] = value
        return terms

    def _advise(self, name: str) -> str:
        """What to do about two terms of one name: those of one term can have another."""
        for part in reversed(_parts(self)):
            if getattr(part, "name", None) == name:
                return (
                    f"give one of them another name, for example {type(part).__name__}(..., name='{name}_2')"
                )
            own = getattr(part, "names", ())
            if name in own:
                names = tuple(f"{one}_2" for one in own)
                return f"give one of them other names, for example {type(part).__name__}(..., names={names})"
        return "these objectives have the term under this name only, so leave out one of them, or its term"


def _parts(objective: Objective) -> list[Objective]:
    return list(objective.parts) if isinstance(objective, Sum) else [objective]  # type: ignore[arg-type]


PROGRESS = [tenth / 10 for tenth in range(11)]  # where a schedule is looked at


def check_weights(objective: Objective, what: str = "the objective") -> None:
    """Refuse an objective of which every part has weight 0 from the first step to the last, or one a negative weight.

    Raises:
        ValueError: saying so.
    """
    parts = [module for module in objective.modules() if isinstance(module, Objective)]
    leaves = [part for part in parts if not any(isinstance(m, Objective) for m in list(part.modules())[1:])]
    found = [
        (leaf, value_at(weight, progress))
        for leaf in leaves
        for weight in _list_weights(leaf)
        for progress in PROGRESS
    ]
    for leaf, value in found:
        if not value >= 0:  # NaN as well
            raise ValueError(
                f"{type(leaf).__name__} has weight {value}, which unlearns or breaks; give 0 or more"
            )
    if not any(value for _, value in found):
        raise ValueError(
            f"every weight of {what} is 0, so that nothing is learnt; give one part a weight above 0"
        )


def check_optimizer(optimizer: torch.optim.Optimizer | None, objective: Objective) -> None:
    """Refuse an optimiser of the caller's that would leave what the objective learns at its random start.

    Raises:
        ValueError: saying what to add to it.
    """
    if optimizer is None:
        return
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    lost = [
        name for name, part in objective.named_parameters() if part.requires_grad and id(part) not in held
    ]
    if lost:
        raise ValueError(
            f"the optimizer lacks parameters that the objective learns ({lost[0]}, ...); add them as a group of their "
            "own: optimizer.add_param_group({'params': list(objective.parameters())})"
        )


def _list_weights(leaf: Objective) -> list[Any]:
    """The weight of an objective, or of each of its terms."""
    if isinstance(several := getattr(leaf, "weights", None), Mapping):
        return list(several.values())
    return [getattr(leaf, "weight", 1.0)]


def reads_teacher_logits(objective: Objective) -> bool:
    """Whether a part of it compares logits: one that needs the teacher, and nothing from inside of it."""
    return any(part.needs_teacher and not part.needs for part in _parts(objective))


def require_teacher_logits(teacher_outputs: ModelOutput | None, objective: str) -> Tensor:
    """The teacher's logits, or an error that says how to provide them."""
    if teacher_outputs is None or teacher_outputs.get("logits") is None:
        raise ValueError(
            f"{objective} needs the teacher's logits, but there are none; pass teacher=... to DistillationTrainer, "
            "or label the rows first so that they carry a teacher_logits column"
        )
    return teacher_outputs["logits"]


def check_of_texts(logits: Tensor) -> None:
    """Refuse logits of tokens.

    Raises:
        ValueError: saying what to do.
    """
    if logits.dim() == 3:
        raise ValueError(
            "the logits are (batch, seq, classes), a token classifier's, and padding would count; put the objective in "
            "OverTokens(...)"
        )


def check_same_classes(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Refuse logits of different classes, which broadcasting would compare in silence, and those of tokens.

    Raises:
        ValueError: naming both numbers, or what to do with tokens.
    """
    check_of_texts(student_logits)
    if student_logits.shape[-1] != teacher_logits.shape[-1]:
        raise ValueError(
            f"the student has {student_logits.shape[-1]} logits a row and the teacher {teacher_logits.shape[-1]}; "
            "they must be of the same classes"
        )


def require_parts(teacher_outputs: ModelOutput | None, parts: frozenset[str], objective: str) -> ModelOutput:
    """The teacher's outputs, all of ``parts`` among them, or an error that says how to provide them."""
    if teacher_outputs is None or any(teacher_outputs.get(part) is None for part in parts):
        raise ValueError(
            f"{objective} reads the teacher's {', '.join(sorted(parts))}; pass teacher=... to DistillationTrainer "
            "(cached logits are not enough)"
        )
    return teacher_outputs


def check_transformers(objective: str, *configs: PreTrainedConfig) -> None:
    """Refuse models without transformer layers, which the objective compares.

    Raises:
        InputError: naming it.
    """
    for config in configs:
        if not hasattr(config, "num_hidden_layers"):
            raise InputError(
                f"{objective} compares layers of transformers, and a model with a {type(config).__name__} has none; "
                "take an objective over logits, such as SoftTargets or LogitRegression"
            )


def check_same_tokens(batch: Mapping[str, Any], objective: str) -> None:
    """Refuse a teacher that reads other tokens than the student: its n-th state is not of the student's n-th token.

    Raises:
        InputError: saying what to do.
    """
    own = batch.get("teacher_input_ids")  # where the teacher has a tokenizer of its own
    if own is not None and not torch.equal(own, batch["input_ids"]):
        raise InputError(
            f"{objective} compares teacher and student token by token, but the teacher reads other tokens than the "
            "student; give both one tokenizer, or take an objective over logits"
        )


def get_teacher_mask(batch: Mapping[str, Any]) -> Tensor:
    """(batch, the teacher's seq), 1 for real tokens: the student's own mask, unless the teacher reads other tokens."""
    return batch["teacher_attention_mask" if "teacher_attention_mask" in batch else "attention_mask"]


def represent_rows(
    layers: tuple[int, int] | None,
    student_outputs: ModelOutput,
    teacher_outputs: ModelOutput | None,
    batch: Mapping[str, Any],
    objective: str,
) -> tuple[Tensor, Tensor]:
    """One vector a row on both sides: the mean of its token states in a layer, or its logits.

    Args:
        layers: (student layer, teacher layer), 0 the embeddings, negative from the end; ``None`` for logits, which of
            several teachers are averaged.
        student_outputs: with ``hidden_states`` where layers are given.
        teacher_outputs: the same.
        batch: the collated batch; the teacher's tokens may be others than the student's.
        objective: whose name is in an error.

    Returns:
        (batch, student width) and (batch, teacher width).

    Raises:
        ValueError: for a layer that a model does not have, or a teacher without what is compared.
    """
    if layers is None:
        logits = require_teacher_logits(teacher_outputs, objective)
        check_of_texts(student_outputs["logits"])
        return student_outputs["logits"], logits.mean(dim=1) if logits.dim() == 3 else logits
    teacher = require_parts(teacher_outputs, frozenset({"hidden_states"}), objective)
    sides = {"student": student_outputs["hidden_states"], "teacher": teacher["hidden_states"]}
    for (side, states), layer in zip(sides.items(), layers, strict=True):
        if not -len(states) <= layer < len(states):
            raise ValueError(
                f"{objective} compares layer {layer} of the {side}, which has {len(states) - 1}; layers run from 0, "
                f"the embeddings, to {len(states) - 1}, or from the end down to {-len(states)}"
            )
    own, other = (states[layer] for states, layer in zip(sides.values(), layers, strict=True))
    return mean_of_tokens(own, batch["attention_mask"]), mean_of_tokens(other, get_teacher_mask(batch))


def make_projection(student_width: int, teacher_width: int, bias: bool = False) -> nn.Module:
    """A learnable linear map from the student's width to the teacher's; nothing where they agree."""
    return nn.Identity() if student_width == teacher_width else nn.Linear(student_width, teacher_width, bias)


def mean_over(values: Tensor, keep: Tensor) -> Tensor:
    """Mean of ``values`` (batch,) over the rows where ``keep`` (batch,) is true; 0 where no row is.

    A NaN in a dropped row makes the mean NaN on purpose: hidden from the mean, it would still reach the gradient.
    Mask missing labels before computing ``values``.
    """
    return (values * keep).sum() / keep.sum().clamp(min=1)
