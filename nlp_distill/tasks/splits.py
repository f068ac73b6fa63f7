"""Deterministic splits by hash of the text, duplicates across splits, and rows as ``datasets.Dataset``."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

from data_augment.errors import InputError
from nlp_distill.tasks.task import Task

if TYPE_CHECKING:
    from datasets import Dataset

HELD_OUT_SMALL = 0.10  # share of train held out for selection where train is small ...
HELD_OUT_LARGE = 0.05  # ... and where it has more rows than this:
LARGE_TRAIN = 20_000


class Row(NamedTuple):
    """One row: its number in its file (from 1, a header not counted), its text(s), its label (if any)."""

    number: int
    texts: tuple[str, ...]
    label: int | float | None = None

    @property
    def key(self) -> str:
        """The normalised text; two rows with the same key are duplicates."""
        return normalise_text(*self.texts)


class _PunctuationToBlank(dict[int, "int | str"]):
    """A translation table that fills itself: punctuation, symbols, separators and controls become blanks."""

    def __missing__(self, code: int) -> int | str:
        self[code] = " " if unicodedata.category(chr(code))[0] in "PSZC" else code
        return self[code]


_PUNCTUATION_TO_BLANK = _PunctuationToBlank()


def normalise_text(*texts: str) -> str:
    """Return the texts joined by a tab: NFKC, case-folded, punctuation dropped, words separated by one blank.

    Punctuation is no difference between two rows: SST-2 has "cool ." in train and "cool ?" in dev. A text of
    nothing but punctuation keeps it.
    """
    words = []
    for text in texts:
        folded = unicodedata.normalize("NFKC", text).casefold()
        words.append(" ".join(folded.translate(_PUNCTUATION_TO_BLANK).split()) or folded.strip())
    return "\t".join(words)


def hash_fraction(text: str, salt: str = "") -> float:
    """Map a text to a number in [0, 1) that looks random and is the same everywhere (xxh3, 64 bits).

    Args:
        text: the (normalised) text.
        salt: different salts give independent numbers, so that a subset of a split is no biased one.
    """
    return xxhash.xxh3_64_intdigest(f"{salt}\x00{text}".encode("utf-8", "surrogatepass")) / 2**64


def hold_out(
    rows: Sequence[Row], fraction: float | None = None, salt: str = "validation"
) -> tuple[list[Row], list[Row]]:
    """Split rows into ``(kept, held out)`` by hash of the normalised first text.

    The first text decides, so that pairs made from one premise or question stay on the same side. Where the
    hash leaves one side empty, that side gets the rows whose hash is nearest.

    Args:
        rows: the rows to split.
        fraction: share to hold out; ``None`` for 10 % (5 % of more than 20,000 rows).
        salt: see :func:`hash_fraction`.

    Raises:
        InputError: if the rows hold fewer than two different first texts.
    """
    if fraction is None:
        fraction = HELD_OUT_LARGE if len(rows) > LARGE_TRAIN else HELD_OUT_SMALL
    hashes = [hash_fraction(normalise_text(row.texts[0]), salt) for row in rows]
    lowest, highest = min(hashes, default=0.0), max(hashes, default=0.0)
    if lowest == highest:
        raise InputError(
            f"cannot hold out a part of {len(rows)} rows with fewer than 2 different texts; give more rows"
        )
    # Above the lowest hash, and not above the highest: at least one text on each side.
    threshold = min(max(fraction, float(np.nextafter(lowest, 1.0))), highest)
    kept = [row for row, value in zip(rows, hashes, strict=True) if value >= threshold]
    held = [row for row, value in zip(rows, hashes, strict=True) if value < threshold]
    return kept, held


def drop_known(rows: Iterable[Row], known: set[str]) -> tuple[list[Row], int]:
    """Return the rows whose key is not in ``known``, and how many were dropped."""
    rows = list(rows)
    kept = [row for row in rows if row.key not in known]
    return kept, len(rows) - len(kept)


def fixed_subset(rows: Sequence[Row], count: int) -> list[Row]:
    """Return the ``count`` rows with the smallest hash of their normalised text, in their old order."""
    order = sorted(rows, key=lambda row: (hash_fraction(row.key, "subset"), row.number))
    return sorted(order[:count])


def to_dataset(task: Task, split: str, rows: Sequence[Row], *, labelled: bool = True) -> Dataset:
    """Return rows as a data set: ``id`` (``"{split}-{number}"``), the task's text columns, ``label``."""
    from datasets import Dataset, Features, Value

    columns: dict[str, list] = {"id": [f"{split}-{row.number}" for row in rows]}
    features = {"id": Value("string")}
    for position, name in enumerate(task.text_columns):
        columns[name] = [row.texts[position] for row in rows]
        features[name] = Value("string")
    if labelled:
        columns["label"] = [row.label for row in rows]
        features["label"] = Value("float32" if task.is_regression else "int64")
    return Dataset.from_dict(columns, features=Features(features))
