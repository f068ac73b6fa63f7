"""Fingerprints and the compact set of them, against Python's own sets."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_augment.fingerprints import (
    FingerprintSet,
    combine_fingerprints,
    find_first_occurrences,
    fingerprint_texts,
    hash_strings,
    scramble,
)


def fingerprint(texts: list[list[str]]) -> list[int]:
    hashes = hash_strings(word for words in texts for word in words)
    return fingerprint_texts(hashes, np.array([len(words) for words in texts])).tolist()


def test_fingerprints_are_equal_exactly_for_equal_texts() -> None:
    # All texts of up to 6 words from a vocabulary of 3: orders, repetitions and lengths all count.
    words = ["a", "b", "c"]
    texts: list[list[str]] = [[word] for word in words]
    for _ in range(5):
        texts += [[*text, word] for text in texts for word in words]
    unique = {tuple(text) for text in texts}
    prints = dict(zip(map(tuple, texts), fingerprint(texts), strict=True))
    assert len(unique) == sum(3**n for n in range(1, 7))
    assert len(set(prints.values())) == len(unique)


def test_a_fingerprint_does_not_depend_on_the_texts_around_it() -> None:
    assert fingerprint([["x"], ["a", "b"], ["y", "z"]])[1] == fingerprint([["a", "b"]])[0]


def test_fingerprints_equal_the_formula() -> None:
    a, b = (int(h) for h in hash_strings(["a", "b"]))
    zero, one = (int(m) for m in scramble(np.array([0, 1], dtype=np.uint64)))
    total = (a * zero + b * one) % 2**64
    assert fingerprint([["a", "b"]]) == scramble(np.array([total], dtype=np.uint64)).tolist()


def test_hashes_are_the_same_in_another_process() -> None:
    code = "from data_augment.fingerprints import hash_strings; print(hash_strings(['word', 'é'])[1])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out) == int(hash_strings(["word", "é"])[1])


def test_swapped_pairs_differ() -> None:
    a, b = (np.array([h]) for h in hash_strings(["a", "b"]))
    assert combine_fingerprints(a, b) != combine_fingerprints(b, a)


@given(st.lists(st.integers(0, 5)))
def test_first_occurrences_are_those_of_list_index(values: list[int]) -> None:
    result = find_first_occurrences(np.array(values, dtype=np.uint64))
    assert result.tolist() == [values.index(value) for value in values]


@given(st.lists(st.lists(st.integers(0, 60), max_size=20), max_size=30), st.sets(st.integers(0, 60)))
@settings(max_examples=60, deadline=None)
def test_the_set_says_new_exactly_when_a_python_set_would(batches: list[list[int]], start: set[int]) -> None:
    ours = FingerprintSet(np.array(sorted(start), dtype=np.uint64))
    theirs = set(start)
    for batch in batches:
        expected = []
        for value in batch:
            expected.append(value not in theirs)
            theirs.add(value)
        assert ours.add(np.array(batch, dtype=np.uint64)).tolist() == expected
    assert len(ours) == len(theirs)


def test_the_set_keeps_eight_bytes_a_member() -> None:
    rng = np.random.default_rng(0)
    members = FingerprintSet()
    for _ in range(50):
        members.add(rng.integers(0, 2**64, 2000, dtype=np.uint64))
    assert len(members) == 100_000
    assert sum(part.nbytes for part in members._parts) == 800_000
    assert len(members._parts) <= 17  # about log2 of the members
