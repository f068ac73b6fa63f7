"""What a model, a tokenizer or a file is, in one hash: how results know what they were made from."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

MODEL_FILES = {".safetensors", ".bin", ".json", ".txt", ".model"}


def hash_weights(model: PreTrainedModel, without: Collection[str] = ()) -> str:
    """SHA-256 over names and values of a model's weights, leaving out those that are named."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name in without:
            continue
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def describe_architecture(config: PreTrainedConfig) -> dict[str, Any]:
    """A model's config as plain values, without where it came from and what wrote it."""
    written = json.loads(config.to_json_string(use_diff=False))
    return {
        key: value for key, value in written.items() if key not in ("_name_or_path", "transformers_version")
    }


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_model_files(folder: str | Path) -> str:
    """SHA-256 over names and contents of the files of a saved model: its weights, configuration and tokenizer.

    It reads the files as they are, where :func:`hash_weights` and :func:`hash_tokenizer` need them loaded.
    """
    files = sorted(path for path in Path(folder).iterdir() if path.suffix in MODEL_FILES)
    return hashlib.sha256("".join(f"{path.name} {hash_file(path)}\n" for path in files).encode()).hexdigest()


def hash_tokenizer(tokenizer) -> str:
    """SHA-256 over a tokenizer's definition: a fast one's file (padding left out), or vocabulary and class."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # written in Python
        definition = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        definition = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
