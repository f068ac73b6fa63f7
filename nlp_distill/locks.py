"""One process a folder: a second one is refused while the first is at work."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_augment.errors import InputError

LOCK = ".lock"


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Have ``folder`` to oneself until the block ends, or the process does, however it ends.

    The lock is the system's (POSIX, ``fcntl``) on a file in the folder, so that nothing is left to clear away after a
    kill, and worker processes that outlive their parent do not hold it. Where a file system has no locks there is none.

    Raises:
        InputError: if another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = folder / LOCK
    with path.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise InputError(
                f"another process is at work in {folder}; wait until it has ended, or choose another output"
            ) from error
        except OSError:  # a file system without locks
            pass
        try:
            yield
        finally:
            with suppress(OSError):  # while it is still held: who opens it later finds the work finished
                os.unlink(path)
