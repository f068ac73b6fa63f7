"""The teacher's hidden states, queries, keys and values on disk: computed once, read by every epoch, seed and ablation.

An intermediate-layer loss runs the teacher on every row in every epoch, which costs as much as the student's own
training, or many times as much where the student is tiny. What the teacher computes does not change (it is in eval
mode), so it can be kept: float16, one flat file a part, one place a token, mapped to memory.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ModelOutput

from data_augment.errors import InputError
from nlp_distill.batching import TEACHER_STATES, DistillationCollator, plan_batches
from nlp_distill.encoding import EncodedRows
from nlp_distill.internals import read_attention_width
from nlp_distill.memory import run_in_memory
from nlp_distill.teachers import Teacher

Part = tuple[str, int]  # ("hidden_states", 2): a kind of internals.run_model, and its index there

INDEX = "states.json"
BATCH_TOKENS = 1024  # on a CPU small batches stay in its cache; see labelling
LARGEST = float(np.finfo(np.float16).max)


class RowsWithStates(torch.utils.data.Dataset):
    """Encoded rows, each with the teacher's states of its tokens beside it, as a ``Trainer`` takes them.

    Args:
        rows: the rows that :func:`write_states` saw, in the same order.
        folder: where it wrote.
        parts: which of the parts to read; by default all that are there.

    Raises:
        InputError: if the folder holds states of other rows, or lacks a part.
    """

    def __init__(self, rows: EncodedRows, folder: str | Path, parts: Sequence[Part] | None = None):
        index = json.loads((Path(folder) / INDEX).read_text(encoding="utf-8"))
        if index["tokens"] != int(rows.offsets[-1]):
            raise InputError(
                f"{folder} holds states of {index['tokens']} tokens, but the rows have {rows.offsets[-1]}; write them "
                "again for these rows"
            )
        if index["rows"] != hash_tokens(rows):
            raise InputError(
                f"{folder} holds states of as many tokens of other rows, or of these in another order; write them "
                "again for these rows"
            )
        names = list(index["shapes"]) if parts is None else [name_part(part) for part in parts]
        if missing := [name for name in names if name not in index["shapes"]]:
            raise InputError(f"{folder} holds no {missing[0]}; it has {', '.join(index['shapes'])}")
        self.rows = rows
        self.states = {name: _open(Path(folder), name, index, "r") for name in names}

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of every row, special tokens included: (rows,)."""
        return self.rows.lengths

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start, end = self.rows.offsets[:-1][index], self.rows.offsets[1:][index]
        states = {name: array[start:end] for name, array in self.states.items()}
        return self.rows[index] | {TEACHER_STATES: states}


def write_states(
    teacher: PreTrainedModel,
    rows: EncodedRows,
    tokenizer: Any,
    parts: Sequence[Part],
    folder: str | Path,
) -> None:
    """Run the teacher once over ``rows`` and write ``parts`` of what it computes into ``folder``.

    Args:
        teacher: the teacher; the rows must be encoded for it.
        rows: the rows.
        tokenizer: says how to pad.
        parts: any of ``hidden_states`` (0 is the embeddings), ``queries``, ``keys``, ``values``, with their index.
        folder: an existing folder.

    Raises:
        InputError: for values beyond the range of float16.
    """
    folder, tokens = Path(folder), int(rows.offsets[-1])
    shapes = {name_part(part): shape_part(teacher.config, part) for part in parts}
    index = {"tokens": tokens, "rows": hash_tokens(rows), "shapes": shapes}
    files = {name: _open(folder, name, index, "w+") for name in shapes}
    frozen, collate = Teacher(teacher), DistillationCollator(tokenizer)
    needs = frozenset(kind for kind, _ in parts)

    def run(part: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        outputs = frozen.run({name: tensor.to(teacher.device) for name, tensor in part.items()}, needs)
        real, named = part["attention_mask"].bool(), {name_part(wanted): wanted for wanted in parts}
        return {name: _pick(outputs[kind][layer], real, name) for name, (kind, layer) in named.items()}

    bar = tqdm(total=len(rows), desc="keeping the teacher's states", unit=" rows")
    with bar as progress, frozen.on_accelerator():
        for chosen in plan_batches(rows.lengths, BATCH_TOKENS):
            # Labels and cached logits stay behind: only the model's inputs are wanted.
            batch = collate([{name: rows[i][name] for name in rows.columns} for i in chosen])
            places = np.concatenate([np.arange(*rows.offsets[i : i + 2]) for i in chosen])
            found = run_in_memory(run, batch)
            for name in files:
                files[name][places] = np.concatenate([states[name] for states in found])
            progress.update(len(chosen))
    for file in files.values():
        file.flush()
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def hash_tokens(rows: EncodedRows) -> str:
    """SHA-256 over what a teacher reads of rows: their tokens, and where each row begins."""
    digest = hashlib.sha256(np.asarray(rows.offsets, dtype=np.int64).tobytes())
    for name, tokens in sorted(rows.columns.items()):
        digest.update(name.encode() + np.ascontiguousarray(tokens).tobytes())
    return digest.hexdigest()


def measure_states(config: PreTrainedConfig, parts: Sequence[Part], tokens: int) -> int:
    """Bytes on disk of ``parts`` for so many tokens."""
    return sum(2 * tokens * int(np.prod(shape_part(config, part))) for part in parts)


def restore_outputs(states: Mapping[str, Tensor], logits: Tensor | None = None) -> ModelOutput:
    """Collated states as a model's outputs, whose parts are mappings from layer to float32 tensor.

    ``hidden_states`` are (batch, seq, hidden); ``queries``, ``keys`` and ``values`` (batch, heads, seq, head size).
    """
    outputs = ModelOutput() if logits is None else ModelOutput(logits=logits)
    kinds: dict[str, dict[int, Tensor]] = {}
    for name, tensor in states.items():
        kind, _, layer = name.partition(".")
        restored = tensor.float()
        kinds.setdefault(kind, {})[int(layer)] = restored if tensor.dim() == 3 else restored.transpose(1, 2)
    for kind, layers in kinds.items():
        outputs[kind] = KeptLayers(kind, layers)
    return outputs


class KeptLayers(Mapping[int, Tensor]):
    """The layers of one kind that were kept, by number; from the end, -1 the last, where all of them were.

    Args:
        kind: what they hold.
        layers: by number.
    """

    def __init__(self, kind: str, layers: Mapping[int, Tensor]):
        self.kind, self.layers = kind, dict(layers)

    def __len__(self) -> int:
        """One more than the largest number, as of the tuple that a model returns."""
        return max(self.layers) + 1

    def __iter__(self) -> Iterator[int]:
        return iter(self.layers)

    def __getitem__(self, number: int) -> Tensor:
        """A layer.

        Raises:
            InputError: for one that was not kept.
        """
        is_whole = len(self.layers) == len(self)
        place = number + len(self) if number < 0 and is_whole else number
        if place not in self.layers:
            raise InputError(
                f"the kept states hold {self.kind.replace('_', ' ')} of {', '.join(map(str, sorted(self.layers)))}, "
                f"and {number} is asked for; keep it too, or give the teacher and rows without states"
            )
        return self.layers[place]


def name_part(part: Part) -> str:
    """``hidden_states.2`` for ("hidden_states", 2)."""
    return f"{part[0]}.{part[1]}"


def shape_part(config: PreTrainedConfig, part: Part) -> tuple[int, ...]:
    """What a part holds for one token: (hidden,), or (heads, head size)."""
    if part[0] == "hidden_states":
        return (config.hidden_size,)
    heads = config.num_attention_heads
    return heads, read_attention_width(config) // heads


def _open(folder: Path, name: str, index: Mapping[str, Any], mode: Any) -> np.memmap:
    shape = (index["tokens"], *index["shapes"][name])
    return np.memmap(folder / f"{name}.f16", dtype=np.float16, mode=mode, shape=shape)


def _pick(tensor: Tensor, real: Tensor, name: str) -> np.ndarray:
    """The real tokens' states, (tokens, ...) float16, in the order of the rows."""
    places = tensor if tensor.dim() == 3 else tensor.transpose(1, 2)
    kept = places.cpu()[real]
    if not bool((kept.abs() <= LARGEST).all()):
        raise InputError(
            f"the teacher's {name} go beyond the range of float16, so they cannot be kept; run the teacher beside the "
            "training instead (teacher_cache_gb=0)"
        )
    return kept.half().numpy()
