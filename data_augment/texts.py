"""Numbered texts: the form in which the rules see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Texts:
    """Texts as arrays.

    Attributes:
        tokens: int32, shape (all tokens,), token numbers (of variants: word numbers), text after text.
        lengths: int32, shape (texts,), tokens per text, all at least 1.
    """

    tokens: np.ndarray
    lengths: np.ndarray

    def select(self, mask: np.ndarray) -> Texts:
        """The texts where ``mask`` (bool, shape (texts,)) holds."""
        if mask.all():
            return self
        return Texts(self.tokens[np.repeat(mask, self.lengths)], self.lengths[mask])
