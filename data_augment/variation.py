"""The three rules on a block of texts at once, as array operations.

The words that an n-gram drops do not influence the others, so the n-gram is chosen first and the per-word
draws are made for the kept words only; the distribution of the result is the one of the paper's order.
"""

from __future__ import annotations

import numpy as np

from data_augment.rules import RuleSettings
from data_augment.tag_counts import MASK_ID, TagTable
from data_augment.texts import Texts

# Bits that say which rules show in a copy. A rule whose effect an n-gram has cut away again is not listed.
MASK_FIRED, POS_FIRED, NGRAM_FIRED, REPLACE_FIRED = 1, 2, 4, 8
RULES = ("mask", "pos", "ngram", "replace")  # in the order of their bits
# The `rules` column for each combination of bits.
RULE_NAMES = tuple(
    " ".join(name for bit, name in enumerate(RULES) if flags & (1 << bit)) for flags in range(16)
)


def vary_texts(
    texts: Texts,
    sources: np.ndarray,
    table: TagTable,
    settings: RuleSettings,
    rng: np.random.Generator,
    candidates: np.ndarray | None = None,
) -> tuple[Texts, np.ndarray]:
    """Make one random variant of ``texts[s]`` for every ``s`` in ``sources``.

    Args:
        texts: the original texts, in token numbers of ``table``.
        sources: int, shape (variants,), which text each variant is made from.
        table: the words and tag distributions.
        settings: the rules' probabilities.
        rng: the source of randomness.
        candidates: int32, shape (all tokens of ``texts``, K), word numbers that may replace each, -1 for none; needed
            by ``ReplaceRule`` alone.

    Returns:
        The variants in word numbers, and their rule bits (uint8, shape (variants,)); 0 means nothing has
        changed.
    """
    starts, lengths, cut = _choose_windows(texts.lengths[sources], settings, rng)
    text_starts = np.cumsum(texts.lengths, dtype=np.int64) - texts.lengths
    offsets = np.cumsum(lengths) - lengths  # where each variant begins in the result
    places = np.arange(int(lengths.sum())) + np.repeat(text_starts[sources] + starts - offsets, lengths)
    tokens = texts.tokens[places]
    words = table.token_words[tokens]
    if not len(words):
        return Texts(words, lengths), np.zeros(len(sources), dtype=np.uint8)

    if candidates is not None:
        return _replace_words(words, lengths, candidates[places], offsets, settings.p_replace, rng)
    u = rng.random(len(words))
    masked = np.flatnonzero(u < settings.p_mask)
    replaced = np.flatnonzero((u >= settings.p_mask) & (u < settings.p_mask + settings.p_pos))
    drawn = table.draw_replacements(tokens[replaced], rng)
    fired = np.zeros(len(words), dtype=np.uint8)
    fired[masked] = MASK_FIRED
    fired[replaced[drawn != words[replaced]]] = POS_FIRED
    words[masked] = MASK_ID
    words[replaced] = drawn
    flags = np.bitwise_or.reduceat(fired, offsets)
    flags[cut] |= NGRAM_FIRED
    return Texts(words, lengths), flags


def _replace_words(
    words: np.ndarray,
    lengths: np.ndarray,
    candidates: np.ndarray,
    offsets: np.ndarray,
    p: float,
    rng: np.random.Generator,
) -> tuple[Texts, np.ndarray]:
    """Each word with candidates becomes one of them with probability ``p``, all alike likely."""
    available = (candidates >= 0).sum(axis=1)  # they come first, the places without one after them
    chosen = np.flatnonzero((rng.random(len(words)) < p) & (available > 0))
    picks = (rng.random(len(chosen)) * available[chosen]).astype(np.int64)
    drawn = candidates[chosen, picks]
    fired = np.zeros(len(words), dtype=np.uint8)
    fired[chosen[drawn != words[chosen]]] = REPLACE_FIRED
    words[chosen] = drawn
    return Texts(words, lengths), np.bitwise_or.reduceat(fired, offsets)


def _choose_windows(
    lengths: np.ndarray, settings: RuleSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First word, number of words and "is a real cut" of what each variant keeps; all of shape (variants,).

    n ~ U{1..max_n}, no longer than the text; the first word is uniform over the places where n words fit.
    """
    kept = lengths.astype(np.int64)
    starts = np.zeros(len(lengths), dtype=np.int64)
    chosen = np.flatnonzero(rng.random(len(lengths)) < settings.p_ngram)
    n = np.minimum(rng.integers(1, settings.max_n + 1, size=len(chosen)), kept[chosen])
    starts[chosen] = (rng.random(len(chosen)) * (kept[chosen] - n + 1)).astype(np.int64)
    kept[chosen] = n
    return starts, kept, kept < lengths
