"""Fixed-size fingerprints of texts, and a compact set of them.

Two texts are the same when their whitespace tokens (words) are the same. A fingerprint has 64 bits, so among
N different texts the chance that any two collide, and one is dropped for nothing, is about N^2 / 2^65: 0.03 %
for 100 million rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

# splitmix64 (Steele, Lea and Flood 2014): a bijection of 64-bit numbers that mixes all their bits.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)


def scramble(values: np.ndarray) -> np.ndarray:
    """Map uint64 numbers to well-mixed uint64 numbers, one to one."""
    values = values + _GOLDEN
    values = (values ^ (values >> np.uint64(30))) * _MULTIPLY_1
    values = (values ^ (values >> np.uint64(27))) * _MULTIPLY_2
    return values ^ (values >> np.uint64(31))


def hash_strings(strings: Iterable[str]) -> np.ndarray:
    """uint64 hashes of strings, the same in every process."""
    digests = (hashlib.blake2b(s.encode("utf-8"), digest_size=8).digest() for s in strings)
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def fingerprint_texts(word_hashes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Fingerprints of texts that lie one after the other.

    fingerprint = scramble(sum_i hash(word_i) * scramble(i)) modulo 2^64, a multilinear hash of the words.

    Args:
        word_hashes: uint64, shape (words of all texts,).
        lengths: int, shape (texts,), the number of words in each; all at least 1.

    Returns:
        uint64, shape (texts,).
    """
    if not len(lengths):
        return np.empty(0, dtype=np.uint64)
    starts = np.cumsum(lengths) - lengths
    positions = np.arange(len(word_hashes)) - np.repeat(starts, lengths)
    multipliers = scramble(np.arange(int(lengths.max()), dtype=np.uint64))
    return scramble(np.add.reduceat(word_hashes * multipliers[positions], starts))


def combine_fingerprints(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Fingerprints of pairs; (a, b) and (b, a) differ. All shapes (texts,)."""
    return scramble(first * _MULTIPLY_1 + second)


def find_first_occurrences(fingerprints: np.ndarray) -> np.ndarray:
    """For each fingerprint the index of the first one equal to it (its own if it is first): int64, (n,)."""
    order = np.argsort(fingerprints, kind="stable")
    ordered = fingerprints[order]
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[np.maximum.accumulate(np.where(is_new, np.arange(len(order)), 0))]
    return first


MERGE_LIMIT = 2**22  # members of the largest arrays that are made by merging: merging needs that much again


class FingerprintSet:
    """A set of 64-bit fingerprints in 8 bytes each, and some MB while two parts are being merged.

    The members lie in sorted arrays whose sizes fall by at least a half from one to the next, up to a limit, so
    there are few of them, a look-up is a few binary searches, and each member is moved a few times only.
    """

    def __init__(self, members: np.ndarray | None = None):
        self._parts: list[np.ndarray] = []
        if members is not None and len(members):
            self._parts.append(np.unique(members))

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def add(self, fingerprints: np.ndarray) -> np.ndarray:
        """Add fingerprints (uint64, shape (n,)); return which were new: bool, shape (n,).

        Of equal ones in the same call only the first counts as new.
        """
        values, firsts = np.unique(fingerprints, return_index=True)
        missing = np.ones(len(values), dtype=bool)
        for part in self._parts:
            places = np.searchsorted(part, values)
            missing &= part[np.minimum(places, len(part) - 1)] != values
        is_new = np.zeros(len(fingerprints), dtype=bool)
        is_new[firsts[missing]] = True
        if missing.any():
            self._append(values[missing])
        return is_new

    def _append(self, part: np.ndarray) -> None:
        while self._parts and len(self._parts[-1]) < min(2 * len(part), MERGE_LIMIT - len(part)):
            part = np.concatenate([self._parts.pop(), part])
            part.sort(kind="stable")  # merges two sorted runs in linear time
        self._parts.append(part)
