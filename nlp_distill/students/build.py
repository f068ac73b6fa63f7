"""From a tokenizer, labels and an embedding matrix to a BiLSTM or CNN student; parameter counts of any model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .bilstm import LARGE, SMALL, BiLSTMForSequenceClassification
from .cnn import FILTERS, WIDTHS, CNNForSequenceClassification
from .word_student import WordStudent

Student = TypeVar("Student", bound=WordStudent)


def build_bilstm(
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    *,
    pair: bool = False,
    embeddings: Tensor | None = None,
    hidden_size: int = SMALL[0],
    head_size: int | None = None,
    seed: int = 0,
    **config: Any,
) -> BiLSTMForSequenceClassification:
    """A BiLSTM student for this tokenizer and these labels (() = regression), in training mode.

    Arguments
        labels: names in index order.
        embeddings: (len(tokenizer), size), copied into every channel; None = random.
        head_size: None = the paper's choice for hidden_size (150 -> 200, 300 -> 400; others 4/3).
        seed: the same seed gives the same weights; the global random state is left as it was.
        config: further `BiLSTMConfig` fields.

        model = build_bilstm(tokenizer, ("negative", "positive"), embeddings=matrix, hidden_size=300)

    Raises InputError for an embedding matrix that does not fit the tokenizer.
    """
    return _build(
        BiLSTMForSequenceClassification,
        tokenizer,
        labels,
        embeddings,
        seed,
        pair=pair,
        hidden_size=hidden_size,
        head_size=choose_head_size(hidden_size, head_size),
        **config,
    )


def build_cnn(
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    *,
    pair: bool = False,
    embeddings: Tensor | None = None,
    filters: int = FILTERS,
    widths: Sequence[int] = WIDTHS,
    seed: int = 0,
    **config: Any,
) -> CNNForSequenceClassification:
    """A CNN student for this tokenizer and these labels (() = regression), in training mode.

    Arguments
        filters, widths: as in `CNNConfig`.
        labels, embeddings, seed: as in `build_bilstm`.
        config: further `CNNConfig` fields.

        model = build_cnn(tokenizer, ("negative", "positive"), embeddings=matrix, filters=200)

    Raises InputError for an embedding matrix that does not fit the tokenizer.
    """
    return _build(
        CNNForSequenceClassification,
        tokenizer,
        labels,
        embeddings,
        seed,
        pair=pair,
        filters=filters,
        widths=list(widths),
        **config,
    )


def _build(
    kind: type[Student],
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    embeddings: Tensor | None,
    seed: int,
    **config: Any,
) -> Student:
    names: dict[str, Any] = {"num_labels": 1}
    if labels:
        names = {
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
        }
    if embeddings is not None:
        config = {"embedding_size": embeddings.shape[1]} | config
    frame = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    built = kind.config_class(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        ignored_token_ids=[token for token in frame if token is not None],
        **names,
        **config,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(built)
    if embeddings is not None:
        model.set_embedding_weights(embeddings)
    return model.train()


def choose_head_size(hidden_size: int, head_size: int | None = None) -> int:
    """`head_size` if given, else the paper's for this hidden size (150 -> 200, 300 -> 400; others 4/3)."""
    return (
        dict((SMALL, LARGE)).get(hidden_size, max(1, hidden_size * 4 // 3))
        if head_size is None
        else head_size
    )


def count_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """(all parameters, those besides the input token embeddings); frozen ones count, shared ones once.

    Of a two-channel BiLSTM or CNN both channels are embeddings. A BERT's position and segment embeddings are not
    token embeddings and stay counted.
    """
    embedding_modules = [model.get_input_embeddings()]
    if isinstance(model, WordStudent) and model.static_embeddings is not None:
        embedding_modules.append(model.static_embeddings)
    embedding_weights = {id(weight) for module in embedding_modules for weight in module.parameters()}
    total = sum(weight.numel() for weight in model.parameters())
    besides = sum(weight.numel() for weight in model.parameters() if id(weight) not in embedding_weights)
    return total, besides
