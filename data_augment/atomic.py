"""Write a file beside its final name and rename it at the end, so that nobody ever meets half of it."""

from __future__ import annotations

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_augment.errors import InputError


def check_output_path(path: str | Path, *, overwrite: bool = False) -> Path:
    """Return ``path`` as a :class:`~pathlib.Path` that may be written.

    Raises:
        InputError: it exists and ``overwrite`` is false, it is a folder, or its folder does not exist.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"output {path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"output folder {path.parent} does not exist; create it first")
    if path.exists() and not overwrite:
        raise InputError(f"output {path} already exists; choose another name, or allow it with --overwrite")
    return path


@contextmanager
def open_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success flush it to disk and rename it to ``path``.

    On any exception, ``KeyboardInterrupt`` too, the temporary file is removed and ``path`` stays as it was. What a
    killed process left is removed by the next one that writes ``path``.
    """
    path = Path(path)
    _remove_abandoned(path)
    # It has its name before it is there, so that it goes at whatever moment a signal comes.
    temporary, handle = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp"), None
    try:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        _lock(handle)  # until this process ends, or closes it
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        # It was private to its owner; the finished file gets the permissions of an ordinary one.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        if handle is not None:
            os.close(handle)
        with suppress(FileNotFoundError):
            temporary.unlink()


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files for ``path`` whose writers are gone."""
    for abandoned in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):
            handle = os.open(abandoned, os.O_RDWR)
            try:
                if _lock(handle):
                    abandoned.unlink()
            finally:
                os.close(handle)


def _lock(handle: int) -> bool:
    """Lock an open file for this process; whether that was possible."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True
