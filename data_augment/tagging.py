"""Part-of-speech taggers for whitespace tokens: NLTK's perceptron, or TextBlob's bundled lexicon."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from data_augment.errors import InputError

TAGGERS = ("auto", "nltk", "textblob")


class Tagger(Protocol):
    """A part-of-speech tagger.

    Attributes:
        name: what the summary prints.
    """

    name: str

    def tag(self, texts: Sequence[Sequence[str]]) -> list[list[str]]:
        """Penn Treebank tags of texts that are already split into words; same shape as ``texts``."""


def load_tagger(name: str = "auto") -> Tagger:
    """Load a tagger.

    Args:
        name: ``nltk`` (NLTK's averaged perceptron; its resource must have been downloaded), ``textblob`` (the
            lexicon inside the textblob package, no download), or ``auto``: nltk where its resource is
            present, else textblob.

    Raises:
        InputError: an unknown name, or the resource or package is missing.
    """
    if name not in TAGGERS:
        raise InputError(f"unknown tagger {name!r}; known are {', '.join(TAGGERS)}")
    if name == "textblob":
        return LexiconTagger.load()
    from data_augment.perceptron import RESOURCE, PerceptronTagger

    perceptron = PerceptronTagger.load()
    if perceptron is not None:
        return perceptron
    if name == "nltk":
        raise InputError(
            f"NLTK's resource {RESOURCE} is not on this machine; run "
            f"`python -m nltk.downloader {RESOURCE}`, or use --pos-tagger textblob"
        )
    return LexiconTagger.load()


NUMBER = re.compile(r"[0-9\-,.:/%$]+")
PUNCTUATION = "\"'()[]{}<>.,;:!?*_~`“”‘’…"


class LexiconTagger:
    """The most frequent tag of each word: TextBlob's lexicon (Brill 1992, from the Brown and Penn corpora).

    A word is looked up as it stands, in lower case, and without the punctuation around it. Words that the
    lexicon lacks get TextBlob's defaults: NNP when capitalised, CD for numbers, else a tag by suffix, else
    NN. TextBlob lower-cases only the first word of a text; doing it everywhere makes the tag depend on the
    word alone.
    """

    name = "textblob lexicon"

    def __init__(self, lexicon: dict[str, str]):
        self._tags = _TagCache(lexicon)

    @classmethod
    def load(cls) -> LexiconTagger:
        """Read the lexicon out of the installed textblob package, without importing it."""
        spec = importlib.util.find_spec("textblob")
        if spec is None or not spec.submodule_search_locations:
            raise InputError("TextBlob is not installed; run `pip install textblob`")
        return cls(_read_lexicon(Path(next(iter(spec.submodule_search_locations))) / "en" / "en-lexicon.txt"))

    def tag(self, texts: Sequence[Sequence[str]]) -> list[list[str]]:
        """See :class:`Tagger`."""
        return [list(map(self._tags.__getitem__, words)) for words in texts]


class _TagCache(dict):
    """Word -> tag; a word that comes for the first time is looked up in ``lexicon``, or guessed."""

    def __init__(self, lexicon: dict[str, str]):
        super().__init__()
        self._lexicon = lexicon

    def __missing__(self, word: str) -> str:
        tag = self[word] = _find_tag(word, self._lexicon)
        return tag


def _find_tag(word: str, lexicon: dict[str, str]) -> str:
    bare = word.strip(PUNCTUATION)
    for form in (word, word.lower(), bare, bare.lower()):
        if form in lexicon:
            return lexicon[form]
    if bare.istitle():
        return "NNP"
    if NUMBER.fullmatch(word):
        return "CD"
    return _guess_by_suffix(bare or word)


@lru_cache(maxsize=1)
def _read_lexicon(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise InputError(
            f"TextBlob's lexicon {path.name} is missing; reinstall it with `pip install textblob`"
        )
    lexicon = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            parts = line.split()
            if len(parts) > 1 and not line.startswith(";;;"):
                lexicon[parts[0]] = parts[1]
    return lexicon


def _guess_by_suffix(word: str) -> str:
    """TextBlob's suffix rules for English; the last one that fits decides."""
    tag = "NN"
    if word.endswith("ing"):
        tag = "VBG"
    if word.endswith("ly"):
        tag = "RB"
    if word.endswith("s") and not word.endswith(("is", "ous", "ss")):
        tag = "NNS"
    if (
        word.endswith(("able", "al", "ful", "ible", "ient", "ish", "ive", "less", "tic", "ous"))
        or "-" in word
    ):
        tag = "JJ"
    if word.endswith("ed"):
        tag = "VBN"
    if word.endswith(("ate", "ify", "ise", "ize")):
        tag = "VBP"
    return tag
