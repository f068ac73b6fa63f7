"""Stages of a run: each finished one is kept, reused by the same run, and never mistaken for another."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.locks import LOCK, hold_folder
from nlp_distill.manifest import find_damage, find_edit, hash_plain, list_files, name_temporary, replacing
from nlp_distill.memory import MemoryLackError
from nlp_distill.processes import is_main_process, join_processes

STARTED, FINISHED = "stage_started.json", "stage_finished.json"
# In a stage's folder: what its training goes on from, which is removed when the stage is finished.
CHECKPOINTS = "checkpoints"
# Told about a finished stage in its folder, and told anew when it is made again.
WRITTEN_BESIDE = ("results.json", "results.md", "README.md", "report.html", "report.md")


def run_stage(
    title: str,
    folder: Path,
    inputs: Mapping[str, Any],
    build: Callable[[Path], dict[str, Any]],
    overwrite: bool = False,
    every_process: bool = False,
) -> dict[str, Any]:
    """Run ``build(folder)`` unless ``folder`` holds its finished result for the same inputs.

    A stage that was interrupted is entered again with its folder as it was left, so that ``build`` can continue; its
    ``checkpoints`` go only when all of it is finished, so that what follows a training never costs it.
    What ``overwrite`` replaces lies beside, as ``<folder>.replaced``, until the new result is finished, and comes back
    where ``build`` refuses its inputs. A finished stage keeps a list of its files with their hashes: one of which a
    file is torn, altered or gone is made again, and never used. A ``path`` in a result that lies in the stage's folder
    is told as it is now, wherever the folder was when it was built. Where JSON is whole and yet altered, a person has
    edited it, and it is refused. While one process builds, another is refused. Under ``accelerate launch`` the main
    process builds while the others wait, unless ``every_process`` is set.

    Args:
        title: what the stage does, for people.
        folder: where its files go; it belongs to the stage alone.
        inputs: all that the result depends on, as plain values.
        build: makes the result; returns plain values to keep with it.
        overwrite: replace what the same module made from other inputs. Of a finished stage, files that are not its own
            (a person's notes, the folders of other stages) come over.
        every_process: ``build`` is a training in which every process takes part.

    Returns:
        What ``build`` returned, now or when the stage was first run.

    Raises:
        InputError: if the folder holds the result of other inputs (naming what differs), what another module's stage
            made (whatever ``overwrite`` says) or files that are not ours, cannot be written, or is being worked in by
            another process.
    """
    state = join_processes()
    wanted = json.loads(json.dumps(inputs))
    with ExitStack() as held:
        maker = build.__module__
        replaced = _enter(title, folder, wanted, maker, overwrite, held) if state.is_main_process else None
        state.wait_for_everyone()
        if (finished := _read(folder / FINISHED)) is not None:
            return _move_paths(finished, folder)
        result = None
        if every_process or state.is_main_process:
            try:
                result = build(folder)
            except InputError as error:
                # Not for lack of memory: what is done so far is kept, as it is when a process is killed.
                if replaced is not None and not isinstance(error, MemoryLackError):
                    shutil.rmtree(folder)
                    replaced.rename(folder)
                raise
        state.wait_for_everyone()
        if state.is_main_process:
            _finish(folder, wanted, maker, result)
        state.wait_for_everyone()
        return result if result is not None else _move_paths(_read(folder / FINISHED), folder)


def _finish(folder: Path, inputs: Any, maker: str, result: Any) -> None:
    """Mark a stage as finished, with what its files are; what it replaces goes."""
    share_files(folder)
    own = [name for mark in (STARTED, FINISHED) for name in (mark, name_temporary(folder / mark).name)]
    files = list_files(folder, (LOCK, CHECKPOINTS, *own))
    _bring_back(_beside(folder), folder)
    finished = {"inputs": inputs, "result": result, "files": files, "folder": str(folder), "maker": maker}
    write_json(folder / FINISHED, {**finished, "sha256": hash_plain(json.loads(json.dumps(finished)))})
    (folder / STARTED).unlink()
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    shutil.rmtree(_beside(folder), ignore_errors=True)


def share_files(folder: Path) -> None:
    """Give files the permissions that new ones have here: safetensors writes weights that only their owner may read."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o666 & ~umask)


def _enter(
    title: str, folder: Path, wanted: Any, maker: str, overwrite: bool, held: ExitStack
) -> Path | None:
    """Leave a finished result of the same inputs as it is; else make the folder ready for them, and hold it.

    Returns:
        Where the result that is being replaced was set aside, if there is one.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output {folder} is a file; choose another name, for a folder")
    was_finished = (folder / FINISHED).exists()
    if _can_reuse(title, folder, wanted, overwrite):
        return None
    make_folder(folder)
    held.enter_context(hold_folder(folder))
    if not was_finished and _can_reuse(title, folder, wanted, overwrite):  # another process has just made it
        return None
    finished, replaced = _read(folder / FINISHED), None
    if _holds_work(folder):
        found = (finished or {}).get("inputs") or _read(folder / STARTED)
        if finished is not None and _is_of_another(finished, wanted, maker):
            raise InputError(
                f"{folder} holds what another command made; choose another output, or remove it yourself"
            )
        if found is None:
            _check_ours(folder, overwrite)
        if found is None or (finished is not None and not describe_difference(found, wanted)):
            replaced = _set_aside(folder, True)  # it is damaged
        elif not describe_difference(found, wanted):
            announce(f"{title}: continuing in {folder}")
        elif overwrite:
            replaced = _set_aside(folder, finished is not None)
        else:
            raise InputError(
                f"{folder} was made with other settings ({describe_difference(found, wanted)}); "
                "choose another output, or --overwrite to make it again"
            )
    announce(title)
    if not folder.exists():  # it was set aside, and its lock with it
        make_folder(folder)
        held.enter_context(hold_folder(folder))
    write_json(folder / STARTED, wanted)
    return replaced


def _is_of_another(finished: Mapping[str, Any], wanted: Mapping[str, Any], maker: str) -> bool:
    """Whether another module made a stage; of one that does not say so, whether it has other settings by name."""
    if "maker" in finished:
        return finished["maker"] != maker
    found = set(finished["inputs"])
    return 2 * len(found & set(wanted)) < len(found | set(wanted))


def read_inputs(folder: Path) -> dict[str, Any] | None:
    """What a finished stage was made from; ``None`` where there is none."""
    finished = _read(folder / FINISHED)
    return None if finished is None else finished["inputs"]


def read_finished(folder: Path, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of a stage that was finished with these inputs; ``None`` where there is none, or it is damaged."""
    finished = _read(folder / FINISHED)
    wanted = json.loads(json.dumps(inputs))
    if finished is None or describe_difference(finished["inputs"], wanted):
        return None
    return None if find_damage(folder, finished.get("files", {})) else _move_paths(finished, folder)


def _move_paths(finished: Mapping[str, Any], folder: Path) -> Any:
    """The result of a finished stage, each ``path`` in its folder as the folder is called now.

    A run that was moved, or copied, must not go on from the models of the old place.
    """
    before = finished.get("folder")  # which older versions did not keep

    def move(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: move_path(own) if key == "path" else move(own) for key, own in value.items()}
        return [move(own) for own in value] if isinstance(value, list) else value

    def move_path(path: Any) -> Any:
        if not isinstance(path, str) or not before or not Path(path).is_relative_to(before):
            return path
        return str(folder / Path(path).relative_to(before))

    return move(finished["result"])


def _can_reuse(title: str, folder: Path, wanted: Any, overwrite: bool) -> bool:
    """Whether a folder holds the finished, undamaged result of these inputs; says so, or what is damaged.

    Raises:
        InputError: for a result that somebody has edited, which is not made again unasked.
    """
    finished = _read(folder / FINISHED)
    if finished is None or describe_difference(finished["inputs"], wanted):
        return False
    if damage := find_damage(folder, finished.get("files", {})):
        if not overwrite and (edited := find_edit(folder, finished["files"])):
            raise InputError(
                f"{folder / edited} was changed after it had been finished; undo that (and change a copy of the "
                "folder), or --overwrite makes it again"
            )
        announce(f"{title}: {folder} is damaged ({damage}), so it is made again")
        return False
    for leftover in (STARTED, LOCK):  # of a process that was killed right after it had finished
        with suppress(OSError):
            (folder / leftover).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    announce(f"{title}: reusing {folder} (finished earlier)")
    return True


def _check_ours(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that does not say what it was made from."""
    if not (folder / FINISHED).exists() and not (folder / STARTED).exists():
        raise InputError(
            f"{folder} exists and was not made by this command; choose another output, or remove it yourself"
        )
    if not overwrite:
        raise InputError(f"the record of what {folder} was made from is damaged; --overwrite makes it again")


def make_folder(folder: Path) -> None:
    """Make a folder for output, and those above it.

    Raises:
        InputError: if that is impossible, or nothing can be written in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; choose another output") from error


def describe_difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Name up to three settings that differ, with both values, nested ones as ``outer.inner``; "" if none does.

    A setting that is left out is one that is ``None``: results outlive the version that had no such setting.
    """
    left, right = _flatten(found), _flatten(wanted)
    differing = [key for key in sorted(left | right) if left.get(key) != right.get(key)]
    shown = [f"{key}: {_short(left.get(key))} there, {_short(right.get(key))} now" for key in differing[:3]]
    return "; ".join(shown) + ("; ..." if len(differing) > 3 else "")


def announce(message: str) -> None:
    """Tell the person at the terminal what is going on; standard output is for results."""
    if is_main_process():
        print(f"• {message}", file=sys.stderr, flush=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that ``path`` is either whole or as it was."""
    write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that ``path`` is either whole or as it was."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _holds_work(folder: Path) -> bool:
    """Whether a folder holds any file besides the mark of a stage that got no further than that."""
    own = (folder / STARTED, folder / LOCK, name_temporary(folder / STARTED))
    return any(path.is_file() and path not in own for path in folder.rglob("*"))


def _beside(folder: Path) -> Path:
    folder = folder.resolve()  # "." has no name
    return folder.with_name(folder.name + ".replaced")


def _set_aside(folder: Path, is_finished: bool) -> Path | None:
    """Keep a finished folder beside itself until its replacement is finished; an unfinished one goes."""
    if not is_finished:
        shutil.rmtree(folder)
        return None
    shutil.rmtree(_beside(folder), ignore_errors=True)
    return folder.rename(_beside(folder))


def _bring_back(replaced: Path, folder: Path) -> None:
    """Give a folder what lay in the one it replaces and was not its stage's: a person's files, others' folders."""
    known = _read(replaced / FINISHED)
    if known is None:
        return
    ours = {LOCK, CHECKPOINTS, STARTED, FINISHED, *WRITTEN_BESIDE}
    for path in sorted(path for path in replaced.rglob("*") if path.is_file()):
        name = path.relative_to(replaced)
        if name.as_posix() in known.get("files", {}) or name.parts[0] in ours or (folder / name).exists():
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        path.rename(folder / name)


def _read(path: Path) -> Any:
    """A mark's content; None where there is none, or one that is not as it was written."""
    try:
        content = json.loads(path.read_bytes())
    except (
        FileNotFoundError,
        NotADirectoryError,
        ValueError,
    ):  # what is no UTF-8 and what is no JSON are ValueErrors
        return None
    if not isinstance(content, dict):
        return None
    signature = content.pop("sha256", None)
    return content if signature in (None, hash_plain(content)) else None


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
