"""Trimmed models: the same logits to the bit on the corpus, the same pieces for kept ones, nothing newly unknown."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from data_augment.errors import InputError
from nlp_distill.compression.vocabulary import trim_model
from nlp_distill.students import build_bilstm, build_cnn, word_tokenizer

TEXTS = ["a good film", "the plot was not very good", "a filmy zzz story", "never bad [MASK] it is"]
SHAPE = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 2}


def build(kind, make_bert, tokenizer):
    torch.manual_seed(0)
    size = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "initializer_range": 0.2}
    if kind == "bert":
        return make_bert(pad_token_id=tokenizer.pad_token_id)
    if kind == "electra":
        return ElectraForSequenceClassification(ElectraConfig(embedding_size=8, **SHAPE, **size))
    if kind == "distilbert":
        shape = {"dim": 16, "hidden_dim": 16, "n_heads": 2, "n_layers": 2}
        return DistilBertForSequenceClassification(DistilBertConfig(**shape, **size))
    channels = 2 if "two" in kind else 1
    matrix = torch.randn(len(tokenizer), 8)
    make = build_cnn if "cnn" in kind else build_bilstm
    return make(tokenizer, ("bad", "good"), embeddings=matrix, embedding_channels=channels)


def encode(tokenizer, texts, kind):
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    if kind == "distilbert":
        encoded.pop("token_type_ids", None)
    return encoded


@pytest.mark.parametrize(
    "kind", ["bert", "electra", "distilbert", "bilstm", "bilstm of two channels", "cnn of two channels"]
)
def test_logits_on_the_corpus_are_the_same_to_the_bit(make_bert, tokenizer, kind, tmp_path):
    model = build(kind, make_bert, tokenizer).eval()
    trimmed, own = trim_model(model, tokenizer, TEXTS)
    assert trimmed.config.vocab_size == len(own) < len(tokenizer)
    expected = model(**encode(tokenizer, TEXTS, kind)).logits
    assert torch.equal(trimmed.eval()(**encode(own, TEXTS, kind)).logits, expected)
    trimmed.save_pretrained(tmp_path)
    own.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert torch.equal(loaded(**encode(again, TEXTS, kind)).logits, expected)


def test_a_padding_token_that_is_not_the_first_keeps_its_place(make_bert, other_tokenizer):
    model = make_bert(vocab_size=len(other_tokenizer), pad_token_id=other_tokenizer.pad_token_id)
    model = model.eval()
    trimmed, own = trim_model(model, other_tokenizer, TEXTS)
    assert trimmed.config.pad_token_id == own.pad_token_id
    expected = model(**encode(other_tokenizer, TEXTS, "bert")).logits
    assert torch.equal(trimmed.eval()(**encode(own, TEXTS, "bert")).logits, expected)


def test_kept_pieces_are_cut_as_before_and_nothing_becomes_unknown(make_bert, tokenizer):
    _, own = trim_model(make_bert(), tokenizer, TEXTS)
    for text in (*TEXTS, "the good plot is never a story"):
        assert own.tokenize(text) == tokenizer.tokenize(text)
        assert own.decode(own(text)["input_ids"]) == tokenizer.decode(tokenizer(text)["input_ids"])
    # The corpus has no "movie": it is spelt now, and no more unknown than before.
    assert tokenizer.tokenize("movie") == ["movie"]
    assert own.tokenize("movie") == ["m", "##o", "##v", "##i", "##e"]
    assert own.tokenize("€") == tokenizer.tokenize("€") == ["[UNK]"]


def test_a_distilbert_still_answers_in_a_pipeline(make_bert, tokenizer, tmp_path):
    names = ["input_ids", "attention_mask"]
    plain = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, model_input_names=names, **tokenizer.special_tokens_map
    )
    for part in trim_model(build("distilbert", make_bert, tokenizer), plain, TEXTS):
        part.save_pretrained(tmp_path)
    assert pipeline("text-classification", str(tmp_path), device="cpu")("a good film")[0]["score"] > 0


def test_model_and_tokenizer_are_left_as_they_were(make_bert, tokenizer):
    model, pieces = make_bert(), tokenizer.get_vocab()
    before = model.get_input_embeddings().weight.clone()
    trim_model(model, tokenizer, TEXTS)
    assert torch.equal(model.get_input_embeddings().weight, before) and tokenizer.get_vocab() == pieces


def test_other_tokenizers_and_models_are_refused_in_one_line(make_bert, tokenizer):
    bpe = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), unk_token="[UNK]")
    with pytest.raises(InputError, match="needs a fast WordPiece tokenizer .*, not BPE"):
        trim_model(make_bert(), bpe, TEXTS)
    words = word_tokenizer(TEXTS)
    with pytest.raises(InputError, match="not WordLevel"):
        trim_model(build_bilstm(words, ("bad", "good")), words, TEXTS)
    roberta = RobertaForSequenceClassification(RobertaConfig(vocab_size=len(tokenizer), **SHAPE))
    with pytest.raises(InputError, match="--trim-vocabulary works with .* this one is a roberta"):
        trim_model(roberta, tokenizer, TEXTS)
    with pytest.raises(InputError, match="embeddings for 20 of them"):
        trim_model(make_bert(vocab_size=20), tokenizer, TEXTS)
