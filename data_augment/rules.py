"""The three rules of Tang et al. 2019 (arXiv 1903.12136, §3.3).

For every word one number u ~ U[0, 1) is drawn:

* u < p_mask: the word becomes ``[MASK]``;
* p_mask <= u < p_mask + p_pos: it becomes another word with the same part-of-speech tag;
* otherwise it stays.

Then, with probability p_ng, only one random n-gram of the result is kept, n ~ U{1, ..., max_n}.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from data_augment.errors import InputError

MASK_WORD = "[MASK]"
DEFAULT_ITERATIONS = 20  # Tang 2019, §4.2: n_iter for single sentences
DEFAULT_PAIR_ITERATIONS = 10  # ... and for sentence pairs
MAX_ITERATIONS = 100_000  # the variants of one row are made at once
CANDIDATES = 15  # K of word replacement: Jiao et al. 2019, section 4.2


def check_whole_number(name: str, value: int, *, at_least: int = 0, at_most: int | None = None) -> int:
    """Return ``value`` if it is a whole number in the range, else raise an :class:`InputError`."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < at_least:
        raise InputError(f"{name} is {value}; it must be a whole number of at least {at_least}")
    if at_most is not None and value > at_most:
        raise InputError(f"{name} is {value}; it must be a whole number of at most {at_most:,}")
    return value


def _check_probability(p: float, name: str) -> None:
    if not 0.0 <= p <= 1.0:  # a NaN fails too
        raise InputError(f"{name} is {p}; a probability lies between 0 and 1")


@dataclass(frozen=True)
class MaskRule:
    """Replace a word by ``[MASK]`` with probability ``p`` (p_mask)."""

    p: float = 0.1  # Tang 2019, §4.2

    def __post_init__(self) -> None:
        _check_probability(self.p, "p_mask")


@dataclass(frozen=True)
class PosRule:
    """Replace a word, with probability ``p`` (p_pos), by a different word that has its part-of-speech tag.

    The new word is drawn from the unigram distribution of the words that have the tag in the fitted texts,
    the word itself excluded; if no other word has the tag, the word is kept.
    """

    p: float = 0.1  # Tang 2019, §4.2

    def __post_init__(self) -> None:
        _check_probability(self.p, "p_pos")


@dataclass(frozen=True)
class NgramRule:
    """Keep, with probability ``p`` (p_ng), only one random n-gram, n ~ U{1, ..., ``max_n``}.

    An n beyond the length of the text keeps all of it.
    """

    p: float = 0.25  # Tang 2019, §4.2
    max_n: int = 5  # Tang 2019, §3.3: n from {1, ..., 5}

    def __post_init__(self) -> None:
        _check_probability(self.p, "p_ngram")
        check_whole_number("max_ngram", self.max_n, at_least=1)


@dataclass(frozen=True)
class ReplaceRule:
    """TinyBERT's word replacement (Jiao et al. 2019, arXiv 1909.10351, Algorithm 1): each word that has candidates
    becomes, with probability ``p``, one of them drawn at random. It stands alone, without the three rules above.

    Where candidates come from is the augmenter's: see :mod:`data_augment.candidates`.
    """

    p: float = 0.4  # p_t: Jiao et al. 2019, section 4.2

    def __post_init__(self) -> None:
        _check_probability(self.p, "p_replace")


Rule = MaskRule | PosRule | NgramRule | ReplaceRule
DEFAULT_RULES: tuple[Rule, ...] = (MaskRule(), PosRule(), NgramRule())


@dataclass(frozen=True)
class RuleSettings:
    """The numbers of a set of rules; a rule that is not in the set has probability 0."""

    p_mask: float
    p_pos: float
    p_ngram: float
    max_n: int
    p_replace: float = 0.0


def combine_rules(rules: Iterable[Rule]) -> RuleSettings:
    """Merge rules into their numbers. Their order is of no matter: the paper fixes it.

    Raises:
        InputError: two rules of one kind, something that is no rule, or p_mask + p_pos > 1.
    """
    found: dict[type, Rule] = {}
    for rule in rules:
        if not isinstance(rule, Rule):
            raise InputError(
                f"{rule!r} is not a rule; give MaskRule, PosRule, NgramRule or ReplaceRule objects"
            )
        if type(rule) in found:
            raise InputError(f"{type(rule).__name__} is given twice; give each rule once")
        found[type(rule)] = rule
    if ReplaceRule in found and len(found) > 1:
        raise InputError("ReplaceRule is a method of its own and stands alone; leave the other rules out")
    p_mask = found[MaskRule].p if MaskRule in found else 0.0
    p_pos = found[PosRule].p if PosRule in found else 0.0
    if p_mask + p_pos > 1.0 + 1e-9:
        raise InputError(f"p_mask + p_pos is {p_mask} + {p_pos}; one draw decides both, so at most 1 in all")
    ngram = found.get(NgramRule, NgramRule(p=0.0))
    assert isinstance(ngram, NgramRule)
    p_replace = found[ReplaceRule].p if ReplaceRule in found else 0.0
    return RuleSettings(p_mask, p_pos, ngram.p, ngram.max_n, p_replace)


def check_iterations(n_iter: int, name: str = "n_iter") -> int:
    """Return a number of variants a row if it is a whole number that memory can hold, else raise an ``InputError``."""
    return check_whole_number(name, n_iter, at_most=MAX_ITERATIONS)
