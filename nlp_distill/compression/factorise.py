"""Narrow word embeddings and a projection: the factorisation of Lan et al. 2019, "ALBERT", arXiv 1909.11942, section
3.1, of a matrix that is trained already.

    E ~ U V,    U (vocabulary, rank),  V (rank, width):    V x H parameters become V x r + r x H

by the truncated singular value decomposition, the nearest matrix of that rank in the squares of its numbers. A BERT
becomes a compact BERT (:mod:`nlp_distill.students.compact_bert`): ELECTRA has such a projection, but a layer norm in
front of it and another head, so that its logits would differ. A BiLSTM or CNN stays one: V goes into the input
weights of its LSTMs or into its filters, W (V^T u) = (W V^T) u, and only its ``embedding_size`` changes.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from data_augment.errors import InputError
from nlp_distill.compression.rebuild import change_config, check_kind, make_compact, rebuild
from nlp_distill.limits import check_whole
from nlp_distill.students import (
    CNNForSequenceClassification,
    CompactBertForSequenceClassification,
    WordStudent,
)
from nlp_distill.students.from_teacher import truncate

BERT_WORDS = "bert.embeddings.word_embeddings.weight"
BERT_PROJECTION = "bert.embeddings.word_projection.weight"


def factorise_embeddings(model: PreTrainedModel, rank: int) -> Any:
    """A model whose word embeddings are ``rank`` numbers wide and projected to the width of the rest.

    Args:
        model: a BERT, BiLSTM or CNN classifier; left as it is.
        rank: from 1 to the width of the word embeddings, where the factorisation is exact.

    Returns:
        The factorised model, in training mode.

    Raises:
        InputError: for another kind of model, a BiLSTM or CNN with a frozen channel, or a rank out of range.
    """
    check_factorisable(model, rank)
    weights = model.state_dict()
    if isinstance(model, WordStudent):
        words, into = _factorise(weights["embeddings.weight"], rank)
        weights["embeddings.weight"] = words
        for name in list_input_weights(model):
            # A filter of a CNN reads a number of words, end to end; an LSTM one.
            by_word = weights[name].double().unflatten(1, (-1, into.shape[1]))
            weights[name] = (by_word @ into.double().T).flatten(1).float()
        return rebuild(type(model), change_config(model.config, embedding_size=rank), weights)
    projection = weights.get(BERT_PROJECTION)
    words, into = _factorise(weights[BERT_WORDS], rank, None if projection is None else projection.T)
    weights |= {BERT_WORDS: words, BERT_PROJECTION: into.T}
    config = make_compact(model.config, embedding_size=rank)
    return rebuild(CompactBertForSequenceClassification, config, weights)


def check_factorisable(model: PreTrainedModel, rank: int) -> None:
    """Refuse what :func:`factorise_embeddings` cannot do.

    Raises:
        InputError: as there.
    """
    check_kind(model, "factorise-embeddings")
    if isinstance(model, WordStudent) and (
        model.config.embedding_channels == 2 or model.config.freeze_embeddings
    ):
        raise InputError(
            "--factorise-embeddings does not go with a frozen channel of a BiLSTM or CNN, which would no longer be "
            "what it was"
        )
    width = read_embedding_width(model)
    check_whole("the rank of --factorise-embeddings", rank, at_least=1, at_most=width)


def list_input_weights(model: WordStudent) -> list[str]:
    """The names of a BiLSTM's or CNN's matrices (outputs, words * embedding) that word vectors go into."""
    if isinstance(model, CNNForSequenceClassification):
        return [f"encoder.windows.{number}.weight" for number in range(len(model.config.widths))]
    return ["encoder.forward_lstm.weight_ih_l0", "encoder.backward_lstm.weight_ih_l0"]


def read_embedding_width(model: PreTrainedModel) -> int:
    """Numbers a word piece."""
    embeddings: Any = model.get_input_embeddings()
    return int(embeddings.weight.shape[1])


def _factorise(words: Tensor, rank: int, projection: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """U and V of ``words @ projection``, of one scale, in float32."""
    left = words.detach().cpu().double()
    right = torch.eye(left.shape[1], dtype=left.dtype) if projection is None else projection.cpu().double()
    low, high = truncate(left, right, rank)
    return low.float(), high.float()
