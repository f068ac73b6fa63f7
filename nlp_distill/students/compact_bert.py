"""BERT in sizes that ``BertConfig`` cannot name: fewer heads of the old size, and factorised word embeddings.

BERT's heads are always hidden_size / num_attention_heads wide, so that one with heads taken out (Michel et al. 2019,
arXiv 1905.10650) is no BERT to transformers; and its word embeddings are always hidden_size wide. Here

    head:            any width, W_q, W_k, W_v (heads * head_size, hidden_size),  W_o (hidden_size, heads * head_size)
    word embedding:  E = U V with U (vocabulary, embedding_size), V (embedding_size, hidden_size)

the second as in ALBERT (Lan et al. 2019, arXiv 1909.11942, section 3.1). Everything else is BERT's own code.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification
from transformers.models.bert.modeling_bert import BertEmbeddings, BertLayer

from data_augment.errors import InputError


class CompactBertConfig(BertConfig):
    """A BERT's config with two more sizes.

    Arguments
        head_size: numbers a head; None = hidden_size / num_attention_heads, as in BERT.
        embedding_size: numbers a word piece, projected to hidden_size; None = hidden_size, without a projection.

    Raises InputError for sizes below 1, or heads that neither have a size nor divide the hidden size.
    """

    model_type = "nlp-distill-compact-bert"

    head_size: int | None = None
    embedding_size: int | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if any(size is not None and size < 1 for size in (self.head_size, self.embedding_size)):
            raise InputError("head_size and embedding_size must be at least 1, or None")
        if self.head_size is None and self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"hidden_size is {self.hidden_size} and num_attention_heads {self.num_attention_heads}; "
                "heads that do not divide the hidden size need a head_size"
            )


class CompactBertEmbeddings(BertEmbeddings):
    """BERT's embeddings with narrow word embeddings and their projection, which has no bias."""

    def __init__(self, config: CompactBertConfig):
        super().__init__(config)
        assert config.embedding_size is not None
        self.word_embeddings = nn.Embedding(
            config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id
        )
        self.word_projection = nn.Linear(config.embedding_size, config.hidden_size, bias=False)

    def forward(self, input_ids=None, token_type_ids=None, position_ids=None, inputs_embeds=None, **kwargs):
        """As in BERT; ``inputs_embeds`` are (batch, seq, embedding_size)."""
        narrow = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        return super().forward(
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=self.word_projection(narrow),
            **kwargs,
        )


class CompactBertForSequenceClassification(BertForSequenceClassification):
    """A BERT classifier or regressor of such sizes; loads with ``AutoModelForSequenceClassification``."""

    config: CompactBertConfig
    config_class = CompactBertConfig

    def __init__(self, config: CompactBertConfig):
        super().__init__(config)
        if config.embedding_size is not None:
            self.bert.embeddings = CompactBertEmbeddings(config)
        if config.head_size is not None:
            for layer in self.bert.encoder.layer:
                set_head_size(layer, config)
        self.post_init()

    def get_word_matrix(self) -> tuple[Tensor, Tensor | None]:
        """U (vocabulary, embedding_size) and V (embedding_size, hidden_size); V is None without a projection."""
        embeddings: Any = self.bert.embeddings
        projection = getattr(embeddings, "word_projection", None)
        return embeddings.word_embeddings.weight, None if projection is None else projection.weight.T


def set_head_size(layer: BertLayer, config: CompactBertConfig) -> None:
    """Give a layer's attention new linear layers, for heads of ``config.head_size``."""
    assert config.head_size is not None
    attention: Any = layer.attention.self
    width = config.num_attention_heads * config.head_size
    attention.attention_head_size, attention.all_head_size = config.head_size, width
    attention.scaling = config.head_size**-0.5
    for name in ("query", "key", "value"):
        setattr(attention, name, nn.Linear(config.hidden_size, width))
    layer.attention.output.dense = nn.Linear(width, config.hidden_size)
