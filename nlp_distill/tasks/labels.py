"""What the values of a label column mean: class names, class numbers, or the numbers of a regression."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from data_augment.errors import InputError

_INTEGER = re.compile(r"[+-]?\d{1,100}")  # Python refuses to read integers of thousands of digits
# What tables have in place of a number, or where a division went wrong.
_MISSING = frozenset({"", "na", "n/a", "nan", "none", "null", "inf", "infinity"})
_LARGEST = 3.4e38  # float32 holds no larger number
_CODE = re.compile(r"[+-]?0\d+")  # as people write codes, not numbers
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
MAX_CLASSES = 10_000  # more are no classes but ids, texts, or the numbers of a regression
SHOWN = 8  # labels in a message
MAX_WHOLE = 20  # more whole numbers than this are hardly the names of classes


def infer_labels(values: Iterable[Any]) -> tuple[str, ...]:
    """Return the label names that a column's values stand for, in index order, or ``()`` for a regression.

    Values may be strings, as text files have them, or typed, as Parquet has them:

    - all integers: classes, named by their number and put in its order (``0, 1`` or ``1, 2, 3, 4, 5``); codes with
      leading zeros (``001``) keep them, sorted;
    - all numbers, with one or more that is written or typed as a float: a regression;
    - a value that stands for a missing number (``n/a``, ``nan``, ``null``, ...) beside numbers is no label, and
      :func:`parse_label` refuses its row;
    - anything else: classes named by the values, sorted.

    Raises:
        InputError: if there are fewer than two classes, or two different numbers for a regression; or too many classes.
    """
    distinct = _drop_missing({_as_text(value) for value in values})
    if len(distinct) < 2:
        raise InputError(
            f"the label column holds {' '.join(distinct) or 'nothing'} alone; a task needs two or more"
        )
    are_integers = all(_INTEGER.fullmatch(text) for text in distinct)
    is_regression = not are_integers and all(_NUMBER.fullmatch(text) for text in distinct)
    if len(distinct) > MAX_CLASSES and not is_regression:
        raise InputError(
            f"the label column holds {len(distinct):,} different values, and a task has at most {MAX_CLASSES:,} "
            "classes; name the right column with --label-column, or write the numbers of a regression with a fraction "
            "(3.0)"
        )
    if is_regression:
        return ()
    if are_integers and not any(_CODE.fullmatch(text) for text in distinct):
        return tuple(str(number) for number in sorted({int(text) for text in distinct}))
    return tuple(sorted(distinct))


def list_whole_numbers(values: Iterable[Any]) -> list[str]:
    """The values, where they are a few whole numbers that are written or typed as floats: classes, in all likelihood.

    A table makes 1.0 of the class 1 where another row has none.
    """
    distinct = _drop_missing({_as_text(value) for value in values})
    if len(distinct) > MAX_WHOLE or not all(_NUMBER.fullmatch(text) for text in distinct):
        return []
    numbers = sorted({float(text) for text in distinct})
    return [str(int(number)) for number in numbers] if all(number.is_integer() for number in numbers) else []


def parse_label(value: Any, labels: tuple[str, ...], *, by_index: bool = True) -> int | float:
    """Return a value as the index of its class, or as a number where there are no classes.

    A name comes before an index: with the labels 1 to 5, the label 1 is the first class.

    Args:
        value: what the label column holds.
        labels: the task's label names, ``()`` for a regression.
        by_index: whether a number may stand for a name by its place: only where somebody gave the names an order.

    Raises:
        InputError: if the value is no label (an index included) or no finite number; the caller adds the row.
    """
    text = _as_text(value)
    if not labels:
        if not _NUMBER.fullmatch(text) or not abs(float(text)) < _LARGEST:
            raise InputError(f"has the label {text!r}; a regression needs a number that float32 holds")
        return float(text)
    if text in labels:
        return labels.index(text)
    if _INTEGER.fullmatch(text):
        number = int(text)
        if str(number) in labels:  # 01 and +1
            return labels.index(str(number))
        # Numbers index names; where the names are numbers themselves, another number is a mistake.
        if by_index and 0 <= number < len(labels) and not all(_INTEGER.fullmatch(name) for name in labels):
            return number
    # 1.0 is what a table makes of 1 where another row has no label.
    if _NUMBER.fullmatch(text) and float(text).is_integer() and (whole := str(int(float(text)))) in labels:
        return labels.index(whole)
    more = f", ... ({len(labels):,} in all)" if len(labels) > SHOWN else ""
    raise InputError(f"has the label {text!r}; the task's labels are {', '.join(labels[:SHOWN])}{more}")


def _drop_missing(distinct: set[str]) -> set[str]:
    """Without what stands for a missing number, where all other values are numbers."""
    present = {text for text in distinct if text.lower().lstrip("+-") not in _MISSING}
    return present if present and all(_NUMBER.fullmatch(text) for text in present) else distinct


def _as_text(value: Any) -> str:
    return str(value).strip()
