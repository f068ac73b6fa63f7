"""NLTK's averaged perceptron tagger, many texts at a time.

NLTK scores one word after the other in dicts. Here the same weights are one matrix, and word i of all texts
of a batch is tagged in one step, so the corpus takes seconds instead of minutes. The tags are NLTK's: its
weights have three decimals, so sums of thousandths are exact, and ties go to the last label of the alphabet
as in NLTK.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

RESOURCE = "averaged_perceptron_tagger_eng"
START, END = ("-START-", "-START2-"), ("-END-", "-END2-")  # what NLTK puts around a text
MARK = " "  # ends the marks in this module; no word holds a space, so no word is taken for one
BATCH_WORDS = 8192  # words scored at a time: some MB

# What a word contributes to its own score, and to the scores of the words around it.
OWN, AS_PREVIOUS, AS_SECOND_PREVIOUS, AS_NEXT, AS_SECOND_NEXT = (0, 3), (3, 5), (5, 6), (6, 8), (8, 9)
FEATURES = 9


class PerceptronTagger:
    """Greedy averaged perceptron (Honnibal 2013, as in NLTK): each tag depends on the words around and two
    tags before.

    Args:
        weights: weights[feature][tag], in thousandths after rounding; feature names as in NLTK.
        known_tags: tags of frequent unambiguous words, which are not scored.
        classes: all tags.
    """

    name = "nltk perceptron"

    def __init__(
        self,
        weights: Mapping[str, Mapping[str, float]],
        known_tags: Mapping[str, str],
        classes: Sequence[str],
    ):
        self._tags = sorted(classes, reverse=True)  # argmax takes the first of equals
        tag_ids = {tag: i for i, tag in enumerate(self._tags)}
        self._known_tags = {word: tag_ids[tag] for word, tag in known_tags.items()}
        self._rows = {feature: i + 1 for i, feature in enumerate(weights)}  # row 0: a feature without weights
        self._matrix = np.zeros((len(weights) + 1, len(self._tags)), dtype=np.int32)
        for feature, row in self._rows.items():
            for tag, weight in weights[feature].items():
                self._matrix[row, tag_ids[tag]] = round(weight * 1000)
        self._previous_tags = [*self._tags, *START]
        self._tag_scores = self._score_tag_pairs()
        self._tag_word_rows = np.zeros((1, len(self._previous_tags)), dtype=np.int32)
        self._tag_word_ids = self._index_tag_words(weights)
        self._words: dict[str, int] = {}
        self._features = np.zeros((1024, FEATURES), dtype=np.int32)
        self._word_tags = np.zeros(1024, dtype=np.int32)
        self._word_tag_words = np.zeros(1024, dtype=np.int32)

    @classmethod
    def load(cls) -> PerceptronTagger | None:
        """NLTK's English tagger, or ``None`` where its resource has not been downloaded."""
        if not is_resource_in_sight():
            return None
        from nltk.tag.perceptron import PerceptronTagger as NltkTagger

        try:
            tagger = NltkTagger()
        except LookupError:
            return None
        return cls(tagger.model.weights, tagger.tagdict, sorted(tagger.classes))

    def tag(self, texts: Sequence[Sequence[str]]) -> list[list[str]]:
        """See :class:`data_augment.tagging.Tagger`."""
        tags: list[list[str]] = []
        start = words = 0
        for i, text in enumerate(texts):
            words += len(text)
            if words >= BATCH_WORDS or i == len(texts) - 1:
                tags += self._tag_batch(texts[start : i + 1])
                start, words = i + 1, 0
        return tags

    def _tag_batch(self, texts: Sequence[Sequence[str]]) -> list[list[str]]:
        lengths = np.array([len(text) for text in texts])
        # All words in one array, each text between its two start and two end marks.
        start, end = ([mark + MARK for mark in marks] for marks in (START, END))
        ids = np.array([self._number(w) for text in texts for w in (*start, *text, *end)], dtype=np.int32)
        starts = np.cumsum(lengths + 4) - lengths - 2
        by_length = np.argsort(-lengths, kind="stable")
        ordered_starts, ordered_lengths = starts[by_length], -lengths[by_length]
        known = self._word_tags[ids]
        scores = self._score_words(ids, np.flatnonzero(known < 0))
        score_rows = np.cumsum(known < 0) - 1

        tags = np.empty(len(ids), dtype=np.int32)
        n_tags = len(self._tags)
        previous = np.full(len(texts), n_tags)  # START[0]
        second_previous = np.full(len(texts), n_tags + 1)
        for i in range(int(lengths.max(initial=0))):
            active = int(np.searchsorted(ordered_lengths, -i))  # texts of more than i words
            places = ordered_starts[:active] + i
            current = known[places].copy()
            open_ = np.flatnonzero(current < 0)
            before, before_that = previous[open_], second_previous[open_]
            pair_rows = self._tag_word_rows[self._word_tag_words[ids[places[open_]]], before]
            total = scores[score_rows[places[open_]]] + self._tag_scores[before, before_that]
            current[open_] = np.argmax(total + self._matrix[pair_rows], axis=1)
            tags[places] = current
            second_previous, previous = previous[:active], current
        names = self._tags
        return [
            [names[tag] for tag in tags[start : start + n].tolist()]
            for start, n in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]

    def _score_words(self, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The part of the scores that depends on words alone: int32, shape (places, tags)."""
        total = np.repeat(self._matrix[[self._rows.get("bias", 0)]], len(places), axis=0)
        offsets = ((0, OWN), (-1, AS_PREVIOUS), (-2, AS_SECOND_PREVIOUS), (1, AS_NEXT), (2, AS_SECOND_NEXT))
        for offset, (first, last) in offsets:
            features = self._features[ids[places + offset]]
            for column in range(first, last):
                total += self._matrix[features[:, column]]
        return total

    def _score_tag_pairs(self) -> np.ndarray:
        """Scores from the two tags before: int32, shape (previous tag, the one before it, tags)."""
        tags, row = self._previous_tags, self._rows.get
        previous = np.array([row(f"i-1 tag {tag}", 0) for tag in tags])
        second = np.array([row(f"i-2 tag {tag}", 0) for tag in tags])
        both = np.array([[row(f"i tag+i-2 tag {tag} {other}", 0) for other in tags] for tag in tags])
        return self._matrix[previous][:, None] + self._matrix[second][None, :] + self._matrix[both]

    def _index_tag_words(self, weights: Mapping[str, object]) -> dict[str, int]:
        """Number the words that have features together with the tag before; fill ``_tag_word_rows``."""
        tag_ids = {tag: i for i, tag in enumerate(self._previous_tags)}
        numbers: dict[str, int] = {}
        entries = []
        for feature in weights:
            if feature.startswith("i-1 tag+i word "):
                tag, _, word = feature.removeprefix("i-1 tag+i word ").partition(" ")
                entries.append(
                    (numbers.setdefault(word, len(numbers) + 1), tag_ids[tag], self._rows[feature])
                )
        self._tag_word_rows = np.zeros((len(numbers) + 1, len(tag_ids)), dtype=np.int32)
        for number, tag_id, row in entries:
            self._tag_word_rows[number, tag_id] = row
        return numbers

    def _number(self, word: str) -> int:
        """The number of a word; its features are looked up when it comes for the first time."""
        number = self._words.get(word)
        if number is not None:
            return number
        number = self._words[word] = len(self._words)
        if number == len(self._features):
            self._features = np.concatenate([self._features, np.zeros_like(self._features)])
            self._word_tags = np.concatenate([self._word_tags, np.zeros_like(self._word_tags)])
            self._word_tag_words = np.concatenate([self._word_tag_words, np.zeros_like(self._word_tag_words)])
        is_mark = word.endswith(MARK)
        plain = word.removesuffix(MARK) if is_mark else normalize(word)
        self._word_tags[number] = 0 if is_mark else self._known_tags.get(word, -1)  # marks need no tag
        self._word_tag_words[number] = self._tag_word_ids.get(plain, 0)
        names = (
            f"i suffix {word[-3:]}",
            f"i pref1 {word[0]}",
            f"i word {plain}",
            f"i-1 word {plain}",
            f"i-1 suffix {plain[-3:]}",
            f"i-2 word {plain}",
            f"i+1 word {plain}",
            f"i+1 suffix {plain[-3:]}",
            f"i+2 word {plain}",
        )
        self._features[number] = [self._rows.get(name, 0) for name in names]
        return number


def is_resource_in_sight() -> bool:
    """Whether NLTK could find its English tagger: a look into its folders, without its import of over a second."""
    if "nltk" in sys.modules or os.name == "nt":
        return True  # its list of folders may have been changed, or is another one: let NLTK look itself
    roots = [sys.prefix, f"{sys.prefix}/share", f"{sys.prefix}/lib"]
    roots += ["/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib", os.path.expanduser("~")]
    folders = [folder for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    folders += [f"{root}/nltk_data" for root in roots]
    return any(any(Path(folder).expanduser().glob(f"taggers/{RESOURCE}*")) for folder in folders)


def normalize(word: str) -> str:
    """NLTK's form of a word in features: lower case; compounds, years and numbers fall together."""
    if "-" in word and word[0] != "-":
        return "!HYPHEN"
    if word.isdigit() and len(word) == 4:
        return "!YEAR"
    if word[0].isdigit():
        return "!DIGITS"
    return word.lower()
