"""A tiny WordPiece tokenizer and tiny students, all made here."""

import pytest
import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast

from nlp_distill.students import BiLSTMConfig, BiLSTMForSequenceClassification

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz中é")
PIECES = [
    "good",
    "movie",
    "##s",
    "film",
    "bad",
    "ly",
    "##ly",
    "great",
    "act",
    "##ing",
    "##or",
    "the",
    "gr",
    "##eat",
]
MARKS = [".", ",", "!", "'"]


@pytest.fixture
def wordpiece():
    """A BERT-like tokenizer whose special tokens do not come first, so that trimming has to renumber them."""
    order = (
        LETTERS
        + PIECES[:5]
        + SPECIAL
        + PIECES[5:]
        + MARKS
        + ["##" + letter for letter in LETTERS if letter != "s"]
    )
    vocabulary = {piece: index for index, piece in enumerate(order)}
    backend = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    names = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True)
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=64, model_input_names=inputs, **names
    )


@pytest.fixture
def make_student():
    """A tiny student in evaluation mode; keyword arguments change its configuration."""

    def make(**changes):
        settings = {"vocab_size": 40, "embedding_size": 6, "hidden_size": 5, "head_size": 7, "num_labels": 3}
        torch.manual_seed(0)
        return BiLSTMForSequenceClassification(BiLSTMConfig(**settings | changes)).eval()

    return make
