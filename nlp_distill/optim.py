"""Learning rates that shrink towards the embeddings: BAM, Clark et al. 2019, arXiv 1907.04829, section 4.1.

    lr(part) = lr * decay ** depth,  depth 0 at the head, 1 at the pooler, 2 at the top layer, ..., L + 2 at embeddings

The groups go into any optimiser, and any ``Trainer`` takes that optimiser:

    Trainer(..., optimizers=(torch.optim.AdamW(layerwise_groups(model, 1e-4), weight_decay=0.01), None))
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from data_augment.errors import InputError

DECAY = 0.9  # BAM, section 4.1
NO_DECAY = re.compile(r"bias|norm", re.IGNORECASE)
# Stacks of layers, by the names that encoders give them: BERT, RoBERTa, ELECTRA; DistilBERT; and the layers of
# an LSTM. The convolutions of a CNN stand side by side: one layer.
LAYER = re.compile(
    r"(?:encoder\.layer|transformer\.layer|layers)\.(\d+)\.|lstm\.(?:weight|bias)_[ih]h_l(\d+)"
)
CONVOLUTION = re.compile(r"encoder\.windows\.")
EMBEDDINGS = re.compile(r"embedding|mask_emb|relative_attention_bias")  # MPNet's bias is a table of positions
POOLER = re.compile(r"pooler\.|final_norm\.")  # ModernBERT ends in a norm
BRANCH = re.compile(r"branches\.")  # of ONE's student: their layers stand on the trunk's
TASK = re.compile(r"^heads\.[^.]+\.")  # of a multi-task model; what a task is called says nothing


def layerwise_groups(
    model: nn.Module, learning_rate: float, decay: float = DECAY, weight_decay: float = 0.01
) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser, one for each depth and kind of regularisation.

    Biases and the gains of normalisation layers are not decayed (Devlin et al. 2018, their code). Embeddings are the
    deepest, also those of token types and positions, and the projection that follows them in ELECTRA; everything that
    is neither encoder nor pooler is a head and learns at the full rate. An encoder without a pooler leaves depth 1
    empty, so that the layers keep their rates.

    Args:
        model: an encoder with any heads: BERT, RoBERTa, ELECTRA, DistilBERT, the BiLSTM, the CNN, a multi-task model.
        learning_rate: of the head.
        decay: factor from one depth to the next, in (0, 1]; 1 gives one rate to all.
        weight_decay: of everything but biases and norms.

    Returns:
        Groups ``{"params", "lr", "weight_decay"}`` of the parameters that require a gradient, each exactly once.

    Raises:
        InputError: for a decay outside (0, 1], a model in which nothing learns, or layers that go by other names.
    """
    if not 0 < decay <= 1:
        raise InputError(
            f"the layerwise decay is {decay}; give a factor above 0 and up to 1 (0.9 in the paper)"
        )
    has_layers = getattr(getattr(model, "config", None), "num_hidden_layers", 0)
    if has_layers and all(_find_layer(name) is None for name, _ in model.named_parameters()):
        raise InputError(
            f"the layers of {type(model).__name__} are not known by their names here, so that all would learn at one "
            "rate; give a BERT, RoBERTa, ELECTRA, DistilBERT or a model built like them"
        )
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, depth in measure_depths(model):
        parameter = model.get_parameter(name)
        if not parameter.requires_grad:
            continue
        is_free = bool(NO_DECAY.search(".".join(name.rsplit(".", 2)[-2:])))
        group = {
            "params": [],
            "lr": learning_rate * decay**depth,
            "weight_decay": 0.0 if is_free else weight_decay,
        }
        groups.setdefault((depth, is_free), group)["params"].append(parameter)
    if not groups:
        raise InputError("no parameter of the model requires a gradient, so there is nothing to learn")
    return [groups[key] for key in sorted(groups)]


def measure_depths(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Name and depth of every parameter: 0 at the head, layers + 2 at the embeddings."""
    parts = {name: TASK.sub("", name) for name, _ in model.named_parameters()}
    numbers = {name: _find_layer(part) for name, part in parts.items()}
    trunk = _count(number for name, number in numbers.items() if not BRANCH.match(name))
    numbers |= {
        name: trunk + number for name, number in numbers.items() if number is not None and BRANCH.match(name)
    }
    layers = _count(numbers.values())
    for name, part in parts.items():
        number = numbers[name]
        if number is not None:
            yield name, layers + 1 - number
        elif EMBEDDINGS.search(part):
            yield name, layers + 2
        else:
            yield name, 1 if POOLER.search(part) else 0


def _count(numbers: Iterable[int | None]) -> int:
    return max((number for number in numbers if number is not None), default=-1) + 1


def _find_layer(name: str) -> int | None:
    found = LAYER.search(name)
    if found is None:
        return 0 if CONVOLUTION.search(name) else None
    return int(found[1] or found[2])
