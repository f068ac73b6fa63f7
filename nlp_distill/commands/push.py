"""Upload the finished model of a command to the hub, where ``--push-to-hub`` asks for it."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.processes import is_main_process
from nlp_distill.stages import announce, write_whole

NOT_HERE = "this command makes several models; upload the one you choose with `hf upload OWNER/NAME FOLDER`"
REFUSED = {
    # Commands that upload take these themselves.
    "push_to_hub": NOT_HERE,
    "hub_model_id": NOT_HERE,
    "hub_private_repo": NOT_HERE,
    "hub_token": "a token on the command line would be kept in the results; run `hf auth login`, or set HF_TOKEN",
    "hub_strategy": "the finished model is uploaded once, and no checkpoint",
    "hub_always_push": "the finished model is uploaded once, and no checkpoint",
    "hub_revision": "the model goes to the main branch",
}


def refuse_hub_arguments(name: str) -> None:
    """Say why a field of ``TrainingArguments`` about the hub has no place here.

    Raises:
        InputError: if it is such a field.
    """
    if name in REFUSED:
        raise InputError(f"--{name.replace('_', '-')} is not taken: {REFUSED[name]}")


def read_target(options: argparse.Namespace):
    """Where the model goes, after a look whether it can get there; ``None`` if it stays here.

    Raises:
        InputError: for options that contradict each other, or a hub that would refuse the model.
    """
    from nlp_distill.hub import HubTarget, check_target

    push, repo = options.push_to_hub, options.hub_model_id
    if push is not None and push.lower() in ("true", "false"):  # as TrainingArguments has it
        push = "" if push.lower() == "true" else None
    if push is None:
        if repo or options.hub_private_repo:
            raise InputError("--hub-model-id says where --push-to-hub uploads; give --push-to-hub too")
        return None
    if push and repo and push != repo:
        raise InputError(f"--push-to-hub {push} and --hub-model-id {repo} are two names; give one of them")
    target = HubTarget(push or repo or Path(options.output).resolve().name, options.hub_private_repo)
    if is_main_process():
        check_target(target)
    return target


def push_model(options: argparse.Namespace, folder: str | Path, render: Callable[[str], str]) -> None:
    """Upload a model's folder if that was asked for.

    Args:
        options: the command's.
        folder: the saved model.
        render: its card, for the name that it has on the hub.
    """
    if options.hub is None or not is_main_process():
        return
    from nlp_distill.cards import CARD
    from nlp_distill.hub import push_folder

    announce(f"uploading {folder} to {options.hub.repo}")
    address = push_folder(folder, options.hub, lambda name: write_whole(Path(folder) / CARD, render(name)))
    print(f"uploaded {folder}: {address}")


def push_student(options: argparse.Namespace, results: Mapping[str, Any]) -> None:
    """Upload the student of one task: of several seeds the best on validation, which test scores do not choose."""
    from nlp_distill.cards import render_card

    entries = [run["entry"] for run in results["runs"]["student"]]
    best = find_best([entry["validation_score"] for entry in entries])
    entry, seed = entries[best], results["seeds"][best]
    push_model(
        options, entry["path"], lambda name: render_card(results, entry, seed, Path(entry["path"]), name)
    )


def find_best(scores: Sequence[float | None]) -> int:
    """Index of the highest score, the first of equals; 0 where nothing was scored."""
    known = [index for index, score in enumerate(scores) if score is not None]
    return max(known, key=lambda index: scores[index] or 0.0, default=0)
