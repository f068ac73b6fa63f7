"""Tiny random models, tokenizers and rows, all made here: the tests need no network and no downloaded file."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
os.environ["OMP_NUM_THREADS"] = "1"  # tiny models are faster on one thread, and bits depend on their number
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # data loader workers would warn about it

import pytest

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "a",
    "the",
    "film",
    "movie",
    "plot",
    "good",
    "great",
    "bad",
    "dull",
    "fine",
    "and",
    "but",
    "not",
    "very",
    "never",
    "it",
    "is",
    "was",
    "with",
    "of",
    "story",
]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def build_wordpiece(vocabulary: list[str], **settings):
    """A fast BERT-like tokenizer over the given word pieces, in this order."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    unique = dict.fromkeys(vocabulary)  # "a" is a word and a letter
    ids = {piece: index for index, piece in enumerate(unique)}
    backend = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **dict(zip(names, SPECIAL_TOKENS, strict=True)),
        **settings,
    )


@pytest.fixture
def tokenizer():
    """Whole words and letters; the padding token is 0."""
    return build_wordpiece([*SPECIAL_TOKENS, *WORDS, *LETTERS, *("##" + letter for letter in LETTERS)])


@pytest.fixture
def other_tokenizer():
    """Letters only, in another order, so that every text has other tokens, more of them, and another padding id."""
    return build_wordpiece([*("##" + letter for letter in LETTERS), *SPECIAL_TOKENS, *LETTERS])


@pytest.fixture
def make_bert(tokenizer):
    """``make_bert(seed=0, labels=("negative", "positive"), **config)``: a tiny BERT classifier.

    Its weights are larger than BERT's at the start, so that logits of different rows differ. No labels: a regression.
    Dropout is off unless asked for.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    def make(seed=0, labels=("negative", "positive"), **config):
        names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
        settings = {
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 64,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "initializer_range": 0.2,
            **(names if labels else {"num_labels": 1, "problem_type": "regression"}),
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return BertForSequenceClassification(BertConfig(**settings | config))

    return make


@pytest.fixture
def make_rows():
    """``make_rows(count, seed=0)``: dicts with ``id``, ``text`` of 1 to 12 words, ``second`` and ``label`` (0 or 1)."""
    import random

    def make(count, seed=0):
        source = random.Random(seed)
        rows = []
        for number in range(count):
            words = source.choices(WORDS, k=source.randint(1, 12))
            second = source.choices(WORDS, k=source.randint(1, 6))
            rows.append(
                {
                    "id": f"row-{number}",
                    "text": " ".join(words),
                    "second": " ".join(second),
                    "label": int("good" in words or "great" in words or len(words) % 2),
                }
            )
        return rows

    return make


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    """Folder of a tiny random BERT and its tokenizer, saved: what a fine-tuning starts from.

    Besides the words above it knows one word for each split, so that tests can see where a vocabulary comes from.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    splits = ["trainword", "unlabelledword", "validationword", "testword"]
    pieces = [*SPECIAL_TOKENS, *WORDS, *splits, *LETTERS, *("##" + letter for letter in LETTERS)]
    tokenizer = build_wordpiece(pieces)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    folder = tmp_path_factory.mktemp("encoder")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
