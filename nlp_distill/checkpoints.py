"""Checkpoints that are whole: marked when they are, known by their hashes, and kept until a newer one is.

The Trainer writes checkpoints in place and takes the one of the highest number, torn or not.
"""

import json
import re
import shutil
from pathlib import Path

from nlp_distill.manifest import find_damage, list_files
from nlp_distill.stages import write_json

COMPLETE_MARK = "checkpoint_complete"


def mark_complete(checkpoint: Path) -> None:
    """Say that a checkpoint is whole, with the hashes of its files."""
    write_json(checkpoint / COMPLETE_MARK, list_files(checkpoint))


def unmark(checkpoint: Path) -> None:
    """Say no more that a checkpoint is whole: before one of its files is written or removed."""
    (checkpoint / COMPLETE_MARK).unlink(missing_ok=True)


def find_last_checkpoint(output_dir: str | Path) -> str | None:
    """Path of the newest checkpoint in ``output_dir`` that is as it was written, or None."""
    for folder in sorted(list_checkpoints(Path(output_dir)), key=_read_step, reverse=True):
        if not (folder / COMPLETE_MARK).is_file():
            continue
        try:
            manifest = json.loads((folder / COMPLETE_MARK).read_bytes())
        except ValueError:
            continue
        if manifest and not find_damage(folder, manifest):
            return str(folder)
    return None


def remove_checkpoints(newest: Path, limit: int | None, best: str | None) -> None:
    """Keep ``limit`` checkpoints: the newest, the best, and those of the highest steps; ``None`` keeps all.

    The Trainer does so before the new one is whole, which may leave none that is, and goes by the clock.

    Args:
        newest: the one that has just been written.
        limit: ``save_total_limit``.
        best: the path of the best one, if there is one.
    """
    if not limit or limit < 1:
        return
    kept = {newest} if best is None else {newest, Path(best)}
    spare = sorted((path for path in list_checkpoints(newest.parent) if path not in kept), key=_read_step)
    for path in spare[: max(len(spare) - max(limit - len(kept), 0), 0)]:
        unmark(path)  # first, so that half of it is never taken for a whole
        shutil.rmtree(path, ignore_errors=True)


def list_checkpoints(output_dir: Path) -> list[Path]:
    """The folders that a Trainer wrote: somebody's copies of them, ``checkpoint-20-good``, are none."""
    return [path for path in output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-[0-9]+", path.name)]


def _read_step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
