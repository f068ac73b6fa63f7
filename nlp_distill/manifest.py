"""Files that are whole: written beside their name first, and known by their hashes when they are read again."""

import hashlib
import io
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from nlp_distill.hashes import hash_file

DIGEST_BYTES = hashlib.sha256().digest_size
Manifest = dict[str, dict[str, Any]]  # relative path -> {"bytes", "sha256"}


def list_files(folder: Path, without: Collection[str] = ()) -> Manifest:
    """Size and SHA-256 of every file below ``folder``, each flushed to the disk first.

    Args:
        folder: the folder.
        without: names directly in it, of files or folders, that are left out.
    """
    manifest = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.partition("/")[0] not in without:
            flush(path)
            manifest[name] = {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    return manifest


def find_damage(folder: Path, manifest: Mapping[str, Mapping[str, Any]]) -> str:
    """Which file of a manifest is not as it was, in words; "" if all are. Files that it does not list may be there."""
    for name, expected in manifest.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} bytes, not {expected['bytes']}"
        if hash_file(path) != expected["sha256"]:
            return f"{name} was altered"
    return ""


def find_edit(folder: Path, manifest: Mapping[str, Mapping[str, Any]]) -> str:
    """A JSON file of a manifest that is whole and yet not as it was: somebody has edited it; "" if there is none."""
    for name, expected in manifest.items():
        path = folder / name
        if path.suffix == ".json" and path.is_file() and hash_file(path) != expected["sha256"]:
            with suppress(ValueError):  # what is no UTF-8 and what is no JSON: it is torn
                json.loads(path.read_bytes())
                return name
    return ""


def write_checksum(path: Path, name: str) -> None:
    """Write the SHA-256 of ``path`` beside it, for the name that it will have: ``<name>.sha256``, as sha256sum does."""
    checksum, text = path.with_name(f"{name}.sha256"), f"{hash_file(path)}  {name}\n"
    if checksum.exists() and checksum.read_bytes() == text.encode():
        return
    with replacing(checksum) as temporary:
        temporary.write_text(text, encoding="utf-8")


def is_altered(path: Path) -> bool:
    """Whether a file is other than its checksum says; one without a checksum is not known to be."""
    checksum = path.with_name(f"{path.name}.sha256")
    return checksum.exists() and checksum.read_bytes().split()[:1] != [hash_file(path).encode()]


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an ``.npz`` with the SHA-256 of its bytes behind them, so that ``path`` is either whole or as it was.

    The archive's own checksums are of single arrays: of some changed bytes they say nothing, and arrays are missing.
    """
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(buffer.getbuffer())
        file.write(hashlib.sha256(buffer.getbuffer()).digest())


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """What :func:`write_arrays` wrote; ``None`` where there is no such file, or one that is not as it was written."""
    try:
        content = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    archive, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if hashlib.sha256(archive).digest() != digest:
        return None
    with np.load(io.BytesIO(archive), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield where to write a file, which at the end is flushed to the disk and replaces the one of its name.

    The place is the same every time, so that what a kill left there is written over; files that several processes may
    write go through :func:`data_augment.atomic.open_atomically`.
    """
    temporary = name_temporary(path)
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


def name_temporary(path: Path) -> Path:
    """Where a file is written before it is whole."""
    return path.with_name(path.name + ".tmp")


def hash_plain(content: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def flush(path: Path) -> None:
    """Have the system put a file, or the names in a folder, on the disk: renaming may otherwise outrun writing."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
