"""Taggers: TextBlob's lexicon, and NLTK's perceptron against NLTK itself."""

from __future__ import annotations

import random
import sys

import pytest

from data_augment import Augmenter, InputError
from data_augment.perceptron import BATCH_WORDS, PerceptronTagger, is_resource_in_sight
from data_augment.tagging import LexiconTagger, load_tagger

TAGS = ["DT", "JJ", "NN", "VB", "."]
WORDS = ["the", "The", "film", "films", "1999", "42nd", "well-acted", "-", "ok", "a", "xyzzy", "-START-", "é"]


def make_weights(rng: random.Random) -> dict[str, dict[str, float]]:
    """Random weights, with three decimals like NLTK's, for most of the features that the words can have."""
    forms = [
        "the",
        "film",
        "films",
        "!YEAR",
        "!DIGITS",
        "!HYPHEN",
        "-",
        "ok",
        "a",
        "-START-",
        "-START2-",
        "-END-",
    ]
    previous = [*TAGS, "-START-", "-START2-"]
    names = ["bias"]
    names += [f"i suffix {word[-3:]}" for word in WORDS] + [f"i pref1 {word[0]}" for word in WORDS]
    names += [f"{place} word {form}" for place in ("i", "i-1", "i-2", "i+1", "i+2") for form in forms]
    names += [f"{place} suffix {form[-3:]}" for place in ("i-1", "i+1") for form in forms]
    names += [f"{place} tag {tag}" for place in ("i-1", "i-2") for tag in previous]
    names += [f"i tag+i-2 tag {tag} {other}" for tag in previous for other in previous]
    names += [f"i-1 tag+i word {tag} {form}" for tag in previous for form in forms]
    chosen = [name for name in dict.fromkeys(names) if rng.random() < 0.8]
    return {
        name: {tag: rng.randint(-3000, 3000) / 1000 for tag in TAGS if rng.random() < 0.7} for name in chosen
    }


@pytest.mark.parametrize("seed", range(5))
def test_perceptron_tags_equal_nltks(seed: int) -> None:
    from nltk.tag.perceptron import PerceptronTagger as NltkTagger

    rng = random.Random(seed)
    weights, known = make_weights(rng), {"ok": "JJ", "a": "DT"}
    theirs = NltkTagger(load=False)
    theirs.model.weights, theirs.tagdict = weights, known
    theirs.classes = theirs.model.classes = set(TAGS)
    ours = PerceptronTagger(weights, known, TAGS)
    texts = [[rng.choice(WORDS) for _ in range(rng.randint(1, 12))] for _ in range(200)]
    expected = [[tag for _, tag in theirs.tag(words)] for words in texts]
    assert len({tag for tags in expected for tag in tags}) > 2
    assert ours.tag(texts) == expected


def test_perceptron_batches_do_not_change_the_tags() -> None:
    tagger = PerceptronTagger(make_weights(random.Random(1)), {}, TAGS)
    rng = random.Random(2)
    texts = [[rng.choice(WORDS) for _ in range(rng.randint(1, 40))] for _ in range(BATCH_WORDS // 10)]
    assert sum(map(len, texts)) > BATCH_WORDS
    assert tagger.tag(texts) == [tagger.tag([text])[0] for text in texts]


def test_perceptron_takes_more_words_than_it_has_room_for_at_first() -> None:
    tagger = PerceptronTagger(make_weights(random.Random(1)), {}, TAGS)
    texts = [[f"word{i}", "the", "film"] for i in range(3000)]
    first = tagger.tag(texts)
    assert first == tagger.tag(texts) and len(set(map(tuple, first))) < 10


def test_ties_go_to_the_last_tag_of_the_alphabet_as_in_nltk() -> None:
    assert PerceptronTagger({"bias": {"NN": 1.0, "VB": 1.0}}, {}, TAGS).tag([["x"]]) == [["VB"]]


def test_the_real_nltk_resource_gives_nltks_tags() -> None:
    ours = PerceptronTagger.load()
    if ours is None:
        pytest.skip("NLTK's averaged_perceptron_tagger_eng is not downloaded here")
    from nltk.tag.perceptron import PerceptronTagger as NltkTagger

    theirs = NltkTagger()
    texts = [
        ["the", "film", "is", "a", "well-acted", ",", "funny", "and", "moving", "story", "of", "1999", "."],
        ["I", "wouldn't", "watch", "@Nobody's", "2nd", "film", "again", "!"],
        ["run"],
    ]
    assert ours.tag(texts) == [[tag for _, tag in theirs.tag(words)] for words in texts]
    assert load_tagger("auto").name == load_tagger("nltk").name == "nltk perceptron"


def test_lexicon_tags_words_by_lexicon_form_and_suffix() -> None:
    words = [
        "the",
        "The",
        "film",
        "film,",
        "(funny)",
        "1,999",
        "Zorgblat",
        "zorgblatting",
        "zorgblatly",
        "zorgblats",
        "zorgblatful",
        "zorgblated",
        "#x",
    ]
    tags = ["DT", "DT", "NN", "NN", "JJ", "CD", "NNP", "VBG", "RB", "NNS", "JJ", "VBN", "NN"]
    assert LexiconTagger.load().tag([words, ["the"]]) == [tags, ["DT"]]


# TextBlob leaves its lexicon file open and the garbage collector reports it; data_augment never runs that code.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_lexicon_tags_equal_textblobs_own_for_known_lower_case_words() -> None:
    from textblob.en import parser

    words = [
        "this",
        "is",
        "a",
        "good",
        "film",
        "about",
        "the",
        "war",
        "but",
        "it",
        "never",
        "moves",
        "quickly",
        "12",
        "times",
    ]
    theirs = [tag for _, tag in parser.find_tags(words)]
    assert LexiconTagger.load().tag([words]) == [theirs]


def test_auto_takes_the_lexicon_where_nltk_has_no_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PerceptronTagger, "load", classmethod(lambda cls: None))
    assert load_tagger("auto").name == "textblob lexicon"
    with pytest.raises(InputError, match="python -m nltk.downloader averaged_perceptron_tagger_eng"):
        load_tagger("nltk")


def test_the_look_for_the_resource_agrees_with_nltk(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nltk", raising=False)
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "nltk_data" / "taggers").mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    if not is_resource_in_sight():  # unless it is installed for all users of this machine
        (tmp_path / "taggers" / "averaged_perceptron_tagger_eng").mkdir(parents=True)
        assert is_resource_in_sight()
        (tmp_path / "taggers" / "averaged_perceptron_tagger_eng").rmdir()
        (tmp_path / "home" / "nltk_data" / "taggers" / "averaged_perceptron_tagger_eng.zip").touch()
        assert is_resource_in_sight()


def test_an_unknown_tagger_is_refused() -> None:
    with pytest.raises(InputError, match="unknown tagger 'spacy'; known are auto, nltk, textblob"):
        Augmenter(pos_tagger="spacy").fit(["a text"])


def test_a_missing_textblob_names_the_pip_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install textblob"):
        load_tagger("textblob")
