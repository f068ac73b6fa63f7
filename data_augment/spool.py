"""A temporary file of numbered texts, so that the corpus is tagged once and memory holds none of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from data_augment.texts import Texts


class TokenSpool:
    """Blocks of texts, each with one or two sides; the file vanishes when it is closed.

    Args:
        sides: text columns, 1 or 2.
    """

    def __init__(self, sides: int):
        self._sides = sides
        self._blocks = 0
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="data_augment.")  # noqa: SIM115

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def append(self, sides: Sequence[Texts]) -> None:
        """Add a block."""
        for texts in sides:
            np.save(self._file, texts.tokens)
            np.save(self._file, texts.lengths)
        self._blocks += 1

    def read(self) -> Iterator[tuple[Texts, ...]]:
        """All blocks, in order. One reader at a time."""
        self._file.seek(0)
        for _ in range(self._blocks):
            yield tuple(Texts(self._load(), self._load()) for _ in range(self._sides))

    def _load(self) -> np.ndarray:
        return np.load(self._file, allow_pickle=False)
