"""``nlp-distill serve``: try a student, and its teacher beside it, in a browser or from a program."""

import argparse
import dataclasses
import importlib.util
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.commands.export import MAX_LENGTH
from nlp_distill.limits import check_whole
from nlp_distill.stages import announce

NEEDED = ("starlette", "uvicorn", "onnxruntime")
MAX_PORT = 65_535


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    for package in NEEDED:
        if importlib.util.find_spec(package) is None:
            raise InputError(f'serving needs {package}; run `pip install "nlp_distill[serve]"`')
    from nlp_distill.serve.app import make_app
    from nlp_distill.serve.requests import Limits
    from nlp_distill.serve.server import bind, describe_address, is_loopback, serve

    limits = Limits(options.max_batch, options.max_text_chars, options.max_request_bytes)
    check_whole("--port", options.port, at_least=0, at_most=MAX_PORT)
    if not 0 <= options.max_wait_ms <= 10_000:
        raise InputError(f"--max-wait-ms is {options.max_wait_ms}; it must be from 0 to 10000")
    with bind(options.host, options.port) as own, ended_by_sigterm():
        models = open_models(options)
        app = make_app(models, limits, max_wait=options.max_wait_ms / 1000, local_only=is_loopback(own))
        if not is_loopback(own):
            announce("WARNING: whoever can reach this machine can ask, without a password")
        address = describe_address(own)
        serve(app, own, lambda: announce(f"serving {' and '.join(models)} at {address} (Ctrl-C stops)"))
        announce("stopped")


def open_models(options: argparse.Namespace):
    """``student``, and ``teacher`` where one is given, with the same names for the labels.

    Raises:
        InputError: if one cannot be opened, or they are models of different tasks.
    """
    from nlp_distill.teachers import is_anonymous, match_labels

    student = open_model(options.student, options.trust_remote_code)
    if options.teacher is None:
        return {"student": student}
    teacher = open_model(options.teacher, options.trust_remote_code)
    match_labels(student.labels, teacher.labels)  # refuses those of another task
    if is_anonymous(student.labels):
        student = dataclasses.replace(student, labels=teacher.labels)
    elif is_anonymous(teacher.labels):
        teacher = dataclasses.replace(teacher, labels=student.labels)
    return {"student": student, "teacher": teacher}


def open_model(name: str, trust_remote_code: bool):
    """An exported model as it is; a saved one is exported first, so that both run in the same program.

    Args:
        name: what ``nlp-distill export`` or ``save_pretrained`` wrote, or a hub name.
        trust_remote_code: run code that comes with a saved model.

    Raises:
        InputError: if it cannot be opened.
    """
    from nlp_distill import runtime
    from nlp_distill.serve.models import open_exported

    path = Path(name)
    if (path / runtime.SETTINGS).exists():
        return open_exported(path)
    if path.is_dir() and not (path / "config.json").exists():
        raise InputError(
            f"{name} holds neither {runtime.SETTINGS} (nlp-distill export) nor config.json (save_pretrained); give the "
            "folder of a model"
        )
    announce(f"{name} is no exported model; exporting it for as long as this runs")
    # For this user alone; gone once it is loaded.
    with tempfile.TemporaryDirectory(prefix="nlp-distill-") as folder, ended_by_sigterm(folder):
        export_for_now(name, Path(folder), trust_remote_code)
        return open_exported(folder, path.resolve().name if path.is_dir() else name)


def export_for_now(name: str, folder: Path, trust_remote_code: bool) -> None:
    """Export a saved model in fp32, with the defaults of ``nlp-distill export``.

    Raises:
        InputError: if it cannot be loaded or exported, or has heads for several tasks.
    """
    from transformers import AutoConfig, AutoTokenizer

    from nlp_distill.export import export_model
    from nlp_distill.models import (
        check_vocabulary,
        count_positions,
        load_classifier,
        load_pretrained,
        reads_pairs,
    )
    from nlp_distill.students import MultiTaskConfig

    code: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    config = load_pretrained(AutoConfig, name, **code)
    if isinstance(config, MultiTaskConfig):
        task = config.list_heads()[0].name
        raise InputError(
            f"{name} is a multi-task model; export the task to serve first: "
            f"`nlp-distill export {name} --task {task} --output DIR`"
        )
    model = load_classifier(name, **code)
    tokenizer = load_pretrained(AutoTokenizer, name, **code)
    check_vocabulary(model, tokenizer)
    length = min(count_positions(model) or MAX_LENGTH, MAX_LENGTH)
    export_model(model, tokenizer, folder, max_length=length, is_pair=reads_pairs(name, **code))


@contextmanager
def ended_by_sigterm(*folders: str) -> Iterator[None]:
    """SIGTERM meanwhile removes ``folders`` and ends the process.

    The handler ends it itself: an exit that it raised would be lost where the signal falls in a callback of the
    interpreter or on a library's ``except:``, and a service that was told to stop would go on to listen.
    """

    def leave(number: int, _: Any) -> None:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
