"""What a task's pipeline asks of a general student (see :mod:`nlp_distill.pipelines.general`) that it starts from."""

import json
from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification, AutoTokenizer

from data_augment.errors import InputError
from nlp_distill.hashes import hash_tokenizer, hash_weights
from nlp_distill.models import load_pretrained


def read_general_record(student: str | Path) -> dict[str, Any] | None:
    """How a general student was made, for the results of what starts from it; ``None`` where nothing tells.

    Args:
        student: the folder ``student`` beside the ``results.json`` of :func:`distill_general`, or any other model.

    Returns:
        ``{"command", "config", "text", "seconds"}``: ``text`` counts and hashes the tokens.
    """
    try:
        results = json.loads((Path(student).parent / "results.json").read_text(encoding="utf-8"))
        return {
            "command": results["command"],
            "config": results["config"],
            "text": {name: results["text"][name] for name in ("tokens", "sha256")},
            "seconds": results["training"]["seconds"],
        }
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ):  # a hub name, a folder that was moved, results of something else
        return None


def check_same_tokenizer(general: str, tokenizer: Any) -> None:
    """Refuse a general student that reads other tokens than the task's teacher.

    Raises:
        InputError: naming both.
    """
    if hash_tokenizer(load_pretrained(AutoTokenizer, general)) != hash_tokenizer(tokenizer):
        raise InputError(
            f"the general student {general} has another tokenizer than the teacher, so their layers cannot be compared "
            "token by token; distil it from the encoder that the teacher was fine-tuned from"
        )


def hash_general(general: str) -> str:
    """SHA-256 over the weights of a general student's encoder, those that its folder holds."""
    model, info = load_pretrained(AutoModelForSequenceClassification, general, output_loading_info=True)
    prefix = f"{model.base_model_prefix}."
    random = {name.removeprefix(prefix) for name in info["missing_keys"]}
    return hash_weights(model.base_model, without=random)
