"""What both command lines share: errors in one line, and which of the system's errors are a wrong input."""

from __future__ import annotations

import argparse
import errno
from typing import NoReturn

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


class OneLineParser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that says what is wrong in one line, and where to read what is allowed."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with code 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


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
