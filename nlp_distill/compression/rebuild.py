"""What the ways of cutting a model share: which kinds of models each can cut, and a model of other sizes."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from data_augment.errors import InputError
from nlp_distill.students import BiLSTMConfig, CNNConfig, CompactBertConfig

BILSTM, CNN, COMPACT = (kind.model_type for kind in (BiLSTMConfig, CNNConfig, CompactBertConfig))
# The model types of each cut. RoBERTa's word pieces are no WordPiece; ELECTRA and DistilBERT have no class with a
# head size or a projection behind the word embeddings, and ELECTRA's own projection comes after a layer norm.
KINDS = {
    "trim-vocabulary": ("bert", COMPACT, "electra", "distilbert", BILSTM, CNN),
    "factorise-embeddings": ("bert", COMPACT, BILSTM, CNN),
    "prune-heads": ("bert", COMPACT),
    "prune-ffn": ("bert", COMPACT, "electra", "distilbert", "roberta", "xlm-roberta"),
}


def check_kind(model: PreTrainedModel, step: str) -> None:
    """Refuse a model that a cut is not made for.

    Args:
        model: the model.
        step: a key of ``KINDS``.

    Raises:
        InputError: naming the kinds that can be cut so.
    """
    kind = model.config.model_type
    if kind not in KINDS[step]:
        raise InputError(
            f"--{step} works with models of the types {', '.join(KINDS[step])}; this one is a {kind}, so leave it out"
        )


def change_config(config: PreTrainedConfig, **changes: Any) -> PreTrainedConfig:
    """A copy of a config with other values."""
    changed = copy.deepcopy(config)
    for name, value in changes.items():
        setattr(changed, name, value)
    changed.name_or_path = ""
    return changed


def make_compact(config: PreTrainedConfig, **changes: Any) -> CompactBertConfig:
    """The config of a compact BERT with the sizes of ``config`` (BERT's, or compact already), but for ``changes``."""
    own = {
        name: value for name, value in config.to_dict().items() if name not in ("model_type", "architectures")
    }
    return CompactBertConfig.from_dict(own | changes)


def rebuild(kind: type[PreTrainedModel], config: PreTrainedConfig, weights: Mapping[str, Tensor]) -> Any:
    """A model of this class and these sizes with these weights, every one of them, in training mode.

    The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        model = kind(config)
    model.load_state_dict({name: weight.detach().clone() for name, weight in weights.items()})
    return model.train()
