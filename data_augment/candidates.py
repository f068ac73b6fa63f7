"""Candidates for a word: what TinyBERT's word replacement may put in its place (Jiao et al. 2019, Algorithm 1).

A source of candidates sees the vocabulary once, says which words it may ever propose, and then proposes for texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from tqdm import tqdm

from data_augment.glove import Glove, load_glove
from data_augment.rules import CANDIDATES, check_whole_number

# Neighbours are sought among the most frequent vectors: rare GloVe words are mostly misspellings and other languages.
NEIGHBOUR_WORDS = 100_000
QUERY_WORDS = 256  # words whose neighbours are found at a time: 100 MB of similarities


class CandidateSource(Protocol):
    """Where candidates come from.

    Attributes:
        name: what the summary prints.
    """

    name: str

    def prepare(self, vocabulary: Sequence[str], show_progress: bool = False) -> list[str]:
        """Learn the words of the texts to come; return all the words that may be proposed for them."""

    def propose(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        """The candidates of every word of every text, one text after the other.

        Returns:
            int32, shape (all words, K): places in what ``prepare`` returned, best first, -1 where there is none.
        """


class GloveCandidates:
    """The K nearest words by the cosine of their GloVe vectors, the word itself left out.

    Args:
        glove: the vectors; ``None`` for the packaged ones.
        k: candidates a word.
    """

    def __init__(self, glove: Glove | None = None, k: int = CANDIDATES):
        check_whole_number("k", k, at_least=1)
        self._glove = load_glove() if glove is None else glove
        self._k = k
        self._neighbours: dict[str, np.ndarray] = {}
        self.name = f"{k} nearest of {self._glove.vectors.shape[1]}-d GloVe"

    def prepare(self, vocabulary: Sequence[str], show_progress: bool = False) -> list[str]:
        """See :class:`CandidateSource`."""
        place = {word: number for number, word in enumerate(self._glove.words)}
        known = sorted({word.lower() for word in vocabulary if is_replaceable(word)} & place.keys())
        rows = np.array([place[word] for word in known], dtype=np.int64)
        found = np.full((len(known), self._k), -1, dtype=np.int64)
        bar = tqdm(total=len(known), desc="finding neighbours", unit=" words", disable=not show_progress)
        with bar:
            for part, nearest in find_neighbours(self._glove.vectors, rows, self._k):
                found[part, : nearest.shape[1]] = nearest
                bar.update(len(nearest))
        used = np.unique(found[found >= 0])
        numbers = np.where(found >= 0, np.searchsorted(used, found), -1).astype(np.int32)
        self._neighbours = dict(zip(known, numbers, strict=True))
        return [self._glove.words[row] for row in used]

    def propose(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        """See :class:`CandidateSource`."""
        none = np.full(self._k, -1, dtype=np.int32)
        words = [word for text in texts for word in text]
        rows = [self._neighbours.get(word.lower(), none) if is_replaceable(word) else none for word in words]
        return np.stack(rows) if rows else np.empty((0, self._k), dtype=np.int32)


def find_neighbours(vectors: np.ndarray, rows: np.ndarray, k: int) -> Iterator[tuple[slice, np.ndarray]]:
    """The ``k`` nearest vectors of each of ``rows`` by cosine, the row itself left out, nearest first.

    Args:
        vectors: float32, shape (n, dim); neighbours are sought among the first ``NEIGHBOUR_WORDS``.
        rows: int, shape (queries,).
        k: how many.

    Yields:
        Parts of ``rows``, and int64 places in ``vectors``, shape (part, k or fewer).
    """
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    sought = vectors[:NEIGHBOUR_WORDS] / norms[:NEIGHBOUR_WORDS]
    k = min(k, len(sought) - 1)
    for start in range(0, len(rows), QUERY_WORDS):
        part = slice(start, start + QUERY_WORDS)
        own = rows[part]
        similar = (vectors[own] / norms[own]) @ sought.T
        inside = own < len(sought)
        similar[np.flatnonzero(inside), own[inside]] = -np.inf
        nearest = np.argpartition(-similar, k - 1, axis=1)[:, :k] if k else np.empty((len(own), 0), np.int64)
        order = np.argsort(-np.take_along_axis(similar, nearest, axis=1), axis=1, kind="stable")
        yield part, np.take_along_axis(nearest, order, axis=1)


def is_replaceable(word: str) -> bool:
    """Whether a word may be replaced: letters alone, and no stop word."""
    return word.isalpha() and word.lower() not in STOP_WORDS


# Function words, negations among them: replacing "not" by a neighbour would turn a sentence around.
_STOP_WORDS = """
a about above after again against all am an and any are as at be because been before being below between both but by can
cannot could did do does doing down during each either else ever few for from further had has have having he her here
hers herself him himself his how i if in into is it its itself just may me might mine more most must my myself neither
never no nobody none nor not nothing now of off on once only or other ought our ours ourselves out over own same shall
she should so some such than that the their theirs them themselves then there these they this those though through to
too under until up upon us very was we were what when where whether which while who whom whose why will with without
would you your yours yourself yourselves
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
