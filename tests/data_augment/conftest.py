"""A tagger whose tags are written in the words, and a small corpus for it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest


class InitialTagger:
    """Tags a word with its first letter, so that tests can see the tags."""

    name = "initial letters"

    def tag(self, texts: Sequence[Sequence[str]]) -> list[list[str]]:
        return [[word[0] for word in words] for words in texts]


@pytest.fixture
def initial_tagger() -> InitialTagger:
    return InitialTagger()


@pytest.fixture
def corpus() -> list[str]:
    """Tag a: a1 x4, a2 x2, a3 x1. Tag b: b1 x2, b2 x3. Tag c: c1 alone."""
    return ["a1 b1 c1", "a1 a2 b2", "a1 a1 a2 b2 b1", "a3 b2"]
