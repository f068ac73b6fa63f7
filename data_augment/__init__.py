"""Build transfer sets: masking, part-of-speech substitution and n-gram sampling of text.

Example:
    >>> from data_augment import Augmenter, MaskRule
    >>> Augmenter([MaskRule(p=1.0)]).augment("a fine film", n_iter=1)
    ['[MASK] [MASK] [MASK]']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_augment.augmenter import Augmenter
    from data_augment.candidates import GloveCandidates
    from data_augment.errors import InputError
    from data_augment.glove import Glove, load_glove
    from data_augment.masked_lm import MaskedLMCandidates
    from data_augment.rows import open_writer, read_rows
    from data_augment.rules import MaskRule, NgramRule, PosRule, ReplaceRule
    from data_augment.transfer_set import TransferSetSummary, write_transfer_set

# Public name -> its module, imported on first use (PEP 562), so that importing the package costs nothing.
_MODULES = {
    "Augmenter": "augmenter",
    "Glove": "glove",
    "GloveCandidates": "candidates",
    "InputError": "errors",
    "MaskRule": "rules",
    "MaskedLMCandidates": "masked_lm",
    "NgramRule": "rules",
    "PosRule": "rules",
    "ReplaceRule": "rules",
    "TransferSetSummary": "transfer_set",
    "load_glove": "glove",
    "open_writer": "rows",
    "read_rows": "rows",
    "write_transfer_set": "transfer_set",
}

__all__ = [
    "Augmenter",
    "Glove",
    "GloveCandidates",
    "InputError",
    "MaskRule",
    "MaskedLMCandidates",
    "NgramRule",
    "PosRule",
    "ReplaceRule",
    "TransferSetSummary",
    "load_glove",
    "open_writer",
    "read_rows",
    "write_transfer_set",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
