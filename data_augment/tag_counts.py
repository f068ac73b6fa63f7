"""How often each word occurs with each part-of-speech tag, and drawing from those unigram distributions.

A word with its tag is numbered, and a text is an array of these numbers, so that rules can work on arrays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_augment.fingerprints import fingerprint_texts, hash_strings
from data_augment.rules import MASK_WORD
from data_augment.texts import Texts

MASK_ID = 0  # the word number of [MASK]


@dataclass(frozen=True)
class TagTable:
    """What the rules need to know about ``n_tokens`` kinds of token (a token is a word with its tag).

    All (word, tag) counts stand in one array, sorted by tag; a tag is then a range of it, and drawing a word
    of the tag is a binary search in the running totals.

    Attributes:
        words: the words; ``words[MASK_ID]`` is ``[MASK]``.
        word_hashes: uint64, shape (words,).
        token_words: int32, shape (n_tokens,), the word of each token.
        count: int64, shape (n_tokens,), how often the token occurs (0: never seen while fitting).
        start: int64, shape (n_tokens,), the running total before the token.
        tag_start, tag_total: int64, shape (n_tokens,), the running total before the token's tag, and the
            tag's sum.
        running_totals: int64, shape (counted tokens,), running totals including the token, in the sorted
            order.
        sorted_words: int32, shape (counted tokens,), the words in that order.
        tag_ranges: for each tag its running total before it, and its sum.
    """

    words: list[str]
    word_hashes: np.ndarray
    token_words: np.ndarray
    count: np.ndarray
    start: np.ndarray
    tag_start: np.ndarray
    tag_total: np.ndarray
    running_totals: np.ndarray
    sorted_words: np.ndarray
    tag_ranges: dict[str, tuple[int, int]]

    def draw_replacements(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each token another word with its tag: P(w) = count(w, tag) / sum over the other words w'.

        Args:
            tokens: int32, shape (n,).
            rng: the source of randomness; ``n`` numbers are drawn.

        Returns:
            Word numbers, int32, shape (n,); the word itself where no other word has the tag.
        """
        if not len(self.sorted_words):
            return self.token_words[tokens]  # nothing was counted, so there is no word to draw
        own = self.count[tokens]
        others = self.tag_total[tokens] - own
        # A number below `others` picks an occurrence of another word: the own ones are jumped over.
        picks = self.tag_start[tokens] + (rng.random(len(tokens)) * others).astype(np.int64)
        picks += np.where(picks >= self.start[tokens], own, 0)
        places = np.searchsorted(self.running_totals, picks, side="right")
        drawn = self.sorted_words[np.minimum(places, len(self.sorted_words) - 1)]
        return np.where(others > 0, drawn, self.token_words[tokens])

    def fingerprint(self, texts: Texts) -> np.ndarray:
        """Fingerprints of texts in token numbers: uint64, shape (texts,)."""
        return fingerprint_texts(self.word_hashes[self.token_words[texts.tokens]], texts.lengths)

    def extend(self, unseen: Sequence[tuple[str, str]]) -> TagTable:
        """A table with more tokens, (word, tag) pairs never counted: they can be replaced, but not drawn."""
        words = [word for word, _ in unseen]
        ranges = np.array([self.tag_ranges.get(tag, (0, 0)) for _, tag in unseen], dtype=np.int64)
        ranges = ranges.reshape(-1, 2)
        zeros = np.zeros(len(unseen), dtype=np.int64)
        new_words = np.arange(len(self.words), len(self.words) + len(words), dtype=np.int32)
        return replace(
            self,
            words=self.words + words,
            word_hashes=np.concatenate([self.word_hashes, hash_strings(words)]),
            token_words=np.concatenate([self.token_words, new_words]),
            count=np.concatenate([self.count, zeros]),
            start=np.concatenate([self.start, zeros]),
            tag_start=np.concatenate([self.tag_start, ranges[:, 0]]),
            tag_total=np.concatenate([self.tag_total, ranges[:, 1]]),
        )

    def add_words(self, words: Sequence[str]) -> tuple[TagTable, np.ndarray]:
        """A table that knows ``words`` too, and their numbers in it: int32, shape (words,)."""
        numbers = {word: number for number, word in enumerate(self.words)}
        new = [word for word in words if word not in numbers]
        extended = self.extend([(word, "") for word in new]) if new else self
        numbers |= {word: len(self.words) + number for number, word in enumerate(new)}
        return extended, np.array([numbers[word] for word in words], dtype=np.int32)


def save_table(table: TagTable, path: Path) -> None:
    """Keep a table in a file of plain arrays, the words and the tags as bytes of JSON."""
    texts = {"words": table.words, "tag_ranges": table.tag_ranges}
    arrays = {name: value for name, value in vars(table).items() if name not in texts}
    encoded = {name: np.frombuffer(json.dumps(text).encode(), dtype=np.uint8) for name, text in texts.items()}
    np.savez(path, **arrays, **encoded)  # type: ignore[arg-type]


def load_table(path: Path) -> TagTable:
    """What :func:`save_table` kept."""
    with np.load(path, allow_pickle=False) as file:
        fields: dict[str, Any] = {name: file[name] for name in file.files}
    fields["words"] = json.loads(fields["words"].tobytes())
    ranges = json.loads(fields["tag_ranges"].tobytes())
    fields["tag_ranges"] = {tag: (start, total) for tag, (start, total) in ranges.items()}
    return TagTable(**fields)


class _Numbering(dict):
    """A dict that gives each new key the next number, so that numbering a stream is one loop without Python code."""

    def __missing__(self, key: tuple[str, str]) -> int:
        number = self[key] = len(self)
        return number


class TagCounter:
    """Numbers (word, tag) pairs as they come and counts them; :meth:`make_table` makes the distributions."""

    def __init__(self) -> None:
        self._token_ids = _Numbering()
        self._counts = np.zeros(0, dtype=np.int64)

    def number(self, words: Iterable[str], tags: Iterable[str]) -> np.ndarray:
        """The numbers of tagged words, new ones given where needed: int32, shape (n,). Counts nothing."""
        return np.fromiter(map(self._token_ids.__getitem__, zip(words, tags, strict=True)), dtype=np.int32)

    def count(self, tokens: np.ndarray) -> None:
        """Count one occurrence of each of the numbered tokens: int, shape (n,)."""
        counts = np.bincount(tokens, minlength=len(self._token_ids))
        counts[: len(self._counts)] += self._counts
        self._counts = counts

    def look_up(self, words: Sequence[str], tags: Sequence[str]) -> tuple[list[int], list[tuple[str, str]]]:
        """Numbers of tagged words; new ones are numbered onwards and returned too, but not remembered."""
        unseen: dict[tuple[str, str], int] = {}
        tokens = []
        for pair in zip(words, tags, strict=True):
            token = self._token_ids.get(pair)
            tokens.append(
                unseen.setdefault(pair, len(self._token_ids) + len(unseen)) if token is None else token
            )
        return tokens, list(unseen)

    def make_table(self) -> TagTable:
        """The distributions counted so far."""
        word_ids = {MASK_WORD: MASK_ID}
        for word, _ in self._token_ids:
            word_ids.setdefault(word, len(word_ids))
        tag_ids: dict[str, int] = {}
        token_tags = np.array(
            [tag_ids.setdefault(tag, len(tag_ids)) for _, tag in self._token_ids], dtype=np.int64
        )
        token_words = np.array([word_ids[word] for word, _ in self._token_ids], dtype=np.int32)
        count = np.zeros(len(token_words), dtype=np.int64)
        count[: len(self._counts)] = self._counts

        order = np.argsort(token_tags, kind="stable")
        running_totals = np.cumsum(count[order])
        start = np.empty(len(order), dtype=np.int64)
        start[order] = running_totals - count[order]
        tag_total = np.bincount(token_tags, weights=count, minlength=len(tag_ids)).astype(np.int64)
        tag_start = np.cumsum(tag_total) - tag_total
        words = list(word_ids)
        return TagTable(
            words=words,
            word_hashes=hash_strings(words),
            token_words=token_words,
            count=count,
            start=start,
            tag_start=tag_start[token_tags],
            tag_total=tag_total[token_tags],
            running_totals=running_totals,
            sorted_words=token_words[order],
            tag_ranges={tag: (int(tag_start[i]), int(tag_total[i])) for tag, i in tag_ids.items()},
        )
