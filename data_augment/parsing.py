"""What both command lines share: errors in one line, and which of the system's errors are a wrong input."""

from __future__ import annotations

import argparse
import difflib
import errno
import re
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from data_augment.errors import InputError

WRONG_PATHS = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENAMETOOLONG,
        errno.ELOOP,
    }
)

LONGEST_LINE = (
    600  # characters of an error: names of columns, labels and the like come from files, and may be any
)


LIST = re.compile(r"invalid (int|float) value: '[\d.e-]+(,[\d.e-]+)+'")  # 0,1,2


class OneLineParser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that says what is wrong in one line, and where to read what is allowed."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with code 2."""
        hint = " (separate several by spaces)" if LIST.search(message) else ""
        self.exit(2, f"error: {make_one_line(message)}{hint}; see {self.prog} --help\n")


# What people type who know other tools.
OTHER_NAMES = {
    "--lr": "--learning-rate",
    "--epochs": "--num-train-epochs",
    "--batch-size": "--per-device-train-batch-size",
    "--hidden": "--hidden-size",
}


def suggest_option(given: str, known: Sequence[str]) -> str:
    """A word about which of the ``known`` options an unknown one may mean; "" where none is like it."""
    if given == "--device":
        return " (an accelerator is used where torch finds one; --use-cpu true leaves it)"
    meant = OTHER_NAMES.get(given)
    close = difflib.get_close_matches(given, known, n=2, cutoff=0.75)
    if meant is not None and meant in known:
        close = [meant]
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def list_columns(columns: Iterable[object]) -> str:
    """A table's columns for an error; one that holds semicolons was probably meant to be several."""
    names = [str(column) for column in columns]
    hint = " (CSV is separated by commas)" if len(names) == 1 and ";" in names[0] else ""
    return f"{', '.join(names) or 'none'}{hint}"


def make_one_line(message: object) -> str:
    """A message as one line that a terminal can show: control characters as escapes, the middle of a long one cut out.

    What comes from files and arguments may hold line ends, escape sequences of terminals, and half surrogate pairs.
    """
    line = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in str(message)
    )
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 205]} ... {line[-200:]}"


def report_error(message: object) -> None:
    """Print ``error: message`` as one line on standard error."""
    print(f"error: {make_one_line(message)}", file=sys.stderr)


def check_arguments(arguments: Iterable[str]) -> None:
    """Refuse arguments that no file of results can hold: bytes that are not UTF-8, and NUL.

    Raises:
        InputError: naming the argument.
    """
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(
                f"the argument {argument!r} is not UTF-8; rename the file, or write it in UTF-8"
            ) from None
        if "\0" in argument:
            raise InputError(
                f"the argument {argument!r} holds a NUL character, which no file name can; leave it out"
            )


def describe_os_error(error: OSError) -> str:
    """What the system refused, and for which file."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


def describe_failed_write(error: Exception) -> str | None:
    """What libraries that write in their own way say where the system refuses, in one line; None for other errors.

    safetensors (written in Rust) and torch report a full disk as errors of their own, or as a ``RuntimeError``.
    """
    text = " ".join(str(error).split())
    known = ("os error", "PytorchStreamWriter failed", "enforce fail at inline_container", "iostream error")
    if any(sign in text for sign in known):
        return f"a file could not be written ({text[:160]}); is the disk full, or read-only?"
    return None


def exit_code(error: OSError) -> int:
    """2 where the path that was given is at fault, 1 where the machine is (a full disk)."""
    return 2 if error.errno in WRONG_PATHS else 1
