"""Where the training of a spaCy text classifier stands: one file, from which it goes on to the same bits.

spaCy saves pipelines, and no optimisers. Kept are the weights, those of the best epoch so far, the moments and counts
of Adam, the state of NumPy's generator (thinc draws its dropout from it), and the scores: arrays of numbers in one
``.npz``, read without pickle, and passed over where any byte of it is another.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nlp_distill.manifest import read_arrays, write_arrays

GENERATOR = "MT19937"  # NumPy's global one, always


@dataclass
class Progress:
    """How far a training has come.

    Args:
        epoch: epochs done.
        steps: optimiser steps done.
        best: the best score on validation so far; ``None`` before the first.
        weights: those that reached it, as thinc writes them.
        seconds: spent.
        history: an entry for each epoch.
    """

    epoch: int = 0
    steps: int = 0
    best: float | None = None
    weights: bytes = b""
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def save_progress(path: Path, progress: Progress, model: Any, optimizer: Any) -> None:
    """Write all that the next epoch depends on, so that ``path`` is either whole or as it was."""
    _, keys, position, has_gauss, gauss = np.random.get_state()
    told = {
        "epoch": progress.epoch,
        "steps": progress.steps,
        "best": progress.best,
        "seconds": progress.seconds,
        "history": progress.history,
        "generator": [position, has_gauss, gauss],
    }
    arrays = {
        "told": _as_array(json.dumps(told).encode()),
        "weights": _as_array(model.to_bytes()),
        "best_weights": _as_array(progress.weights),
        "generator": np.asarray(keys),
    }
    places = {node.id: place for place, node in enumerate(model.walk())}  # ids differ from process to process
    for kind in ("mom1", "mom2", "averages", "nr_update"):
        for (node, name), value in (getattr(optimizer, kind) or {}).items():
            arrays[f"{kind} {places[node]} {name}"] = np.asarray(value)
    write_arrays(path, arrays)


def load_progress(path: Path, model: Any, optimizer: Any) -> Progress | None:
    """Put model, optimiser and generator where they stood; ``None``, and nothing changed, without a whole file."""
    arrays = read_arrays(path)
    if arrays is None:
        return None
    told = json.loads(arrays.pop("told").tobytes())
    position, has_gauss, gauss = told.pop("generator")
    np.random.set_state((GENERATOR, arrays.pop("generator"), position, has_gauss, gauss))
    model.from_bytes(arrays.pop("weights").tobytes())
    progress = Progress(weights=arrays.pop("best_weights").tobytes(), **told)
    nodes = list(model.walk())
    for key, value in arrays.items():
        kind, place, name = key.split(" ")
        kept = int(value) if kind == "nr_update" else value
        getattr(optimizer, kind)[nodes[int(place)].id, name] = kept
    return progress


def _as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)
