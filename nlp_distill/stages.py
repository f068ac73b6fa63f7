"""Stages of a run: each finished one is kept, reused by the same run, and never mistaken for another."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_augment.errors import InputError

STARTED, FINISHED = "stage_started.json", "stage_finished.json"


def run_stage(
    title: str,
    folder: Path,
    inputs: Mapping[str, Any],
    build: Callable[[Path], dict[str, Any]],
    overwrite: bool = False,
) -> dict[str, Any]:
    """Run ``build(folder)`` unless ``folder`` holds its finished result for the same inputs.

    A stage that was interrupted is entered again with its folder as it was left, so that ``build`` can continue.

    Args:
        title: what the stage does, for people.
        folder: where its files go; it belongs to the stage alone.
        inputs: all that the result depends on, as plain values.
        build: makes the result; returns plain values to keep with it.
        overwrite: discard what was made from other inputs.

    Returns:
        What ``build`` returned, now or when the stage was first run.

    Raises:
        InputError: if the folder holds the result of other inputs (naming what differs) or files that are not ours.
    """
    wanted = json.loads(json.dumps(inputs))
    finished = _read(folder / FINISHED)
    if finished is not None and finished["inputs"] == wanted:
        announce(f"{title}: reusing {folder} (finished earlier)")
        return finished["result"]
    started = _read(folder / STARTED)
    if folder.exists() and any(folder.iterdir()):
        found = (finished or {}).get("inputs") or started
        if found is None and not overwrite:
            raise InputError(
                f"{folder} exists and was not made by this command; choose another output or --overwrite"
            )
        if found != wanted:
            if not overwrite:
                raise InputError(
                    f"{folder} was made with other settings ({describe_difference(found or {}, wanted)}); "
                    "choose another output, or --overwrite to make it again"
                )
            shutil.rmtree(folder)
        else:
            announce(f"{title}: continuing in {folder}")
    announce(f"{title}")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / STARTED, wanted)
    result = build(folder)
    write_json(folder / FINISHED, {"inputs": wanted, "result": result})
    (folder / STARTED).unlink()
    return result


def describe_difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Name up to three settings that differ, with both values, nested ones as ``outer.inner``."""
    left, right = _flatten(found), _flatten(wanted)
    differing = [key for key in sorted(left | right) if left.get(key) != right.get(key)]
    shown = [f"{key}: {_short(left.get(key))} there, {_short(right.get(key))} now" for key in differing[:3]]
    return "; ".join(shown) + ("; ..." if len(differing) > 3 else "")


def announce(message: str) -> None:
    """Tell the person at the terminal what is going on; standard output is for results."""
    print(f"• {message}", file=sys.stderr, flush=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that ``path`` is either whole or as it was."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
