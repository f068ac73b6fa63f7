"""A tiny random BERT and its tokenizer, for scripts that try the machinery and not the models."""

from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
    set_seed,
)

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
POSITIONS = 64


def make_tokenizer(words: Iterable[str]) -> Any:
    """A fast BERT-like tokenizer over these words, letters and digits."""
    pieces = [*SPECIAL_TOKENS.values(), *words, *CHARACTERS, *(f"##{letter}" for letter in CHARACTERS)]
    ids = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=POSITIONS,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **SPECIAL_TOKENS,
    )


def make_bert(tokenizer: Any, layers: int) -> Any:
    """A random BERT classifier of two classes."""
    set_seed(0)
    return BertForSequenceClassification(_make_config(tokenizer, layers))


def make_tagger(tokenizer: Any, layers: int, labels: Sequence[str]) -> Any:
    """A random BERT that gives every token one of these labels."""
    set_seed(0)
    config = _make_config(tokenizer, layers)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    return BertForTokenClassification(config)


def _make_config(tokenizer: Any, layers: int) -> BertConfig:
    """16 wide; its weights are larger than BERT's at the start."""
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=POSITIONS,
        initializer_range=0.2,
    )
