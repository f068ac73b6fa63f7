"""Checks of numbers in settings: one line that names the setting, the value and what is allowed."""

import math

from data_augment.errors import InputError


def check_whole(name: str, value: object, at_least: int, at_most: int | None = None) -> None:
    """Refuse what is no whole number of at least ``at_least`` (and at most ``at_most``).

    Raises:
        InputError: naming the setting and the range.
    """
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < at_least or (at_most is not None and value > at_most):  # type: ignore[operator]
        allowed = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise InputError(f"{name} is {value}; it must be a whole number {allowed}")


def check_share(name: str, value: float, *, below_one: bool = False) -> None:
    """Refuse what is no number from 0 to 1 (below 1 where ``below_one``); a NaN is none.

    Raises:
        InputError: naming the setting and the range.
    """
    if not 0.0 <= value <= 1.0 or (below_one and value == 1.0):
        raise InputError(f"{name} is {value}; it must be from 0 to 1" + (", 1 excluded" if below_one else ""))


def check_positive(name: str, value: float) -> None:
    """Refuse what is no finite number above 0.

    Raises:
        InputError: naming the setting and the range.
    """
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"{name} is {value}; it must be a number above 0")
