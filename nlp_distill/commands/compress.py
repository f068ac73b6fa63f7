"""``nlp-distill compress``: a student made smaller, and what each step costs and saves."""

import argparse
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.commands.bilstm import choose_transfer_set, describe_teacher_task
from nlp_distill.commands.inputs import choose_task, load_data
from nlp_distill.processes import is_main_process


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from nlp_distill.pipelines.compress import compress
    from nlp_distill.pipelines.compress_report import render_compression
    from nlp_distill.results import drop_place

    config = configure_compression(options)
    data = load_data(options)
    code = {"trust_remote_code": options.trust_remote_code}
    task = choose_task([options.teacher], options.teacher_task, "--teacher-task", code, data.task.name)
    plain = config.describe() | {name: drop_place(getattr(options, name)) for name in ("student", "teacher")}
    plain |= describe_teacher_task(options)
    described = {"config": plain, "command": options.command_line}
    output = Path(options.output)
    results = compress(
        config, data, options.student, options.teacher, output, described, options.overwrite, task
    )
    if is_main_process():
        print(f"\n{render_compression(results)}\nsaved {output / 'model'}")
        if (output / "exported").is_dir():
            print(f"saved {output / 'exported'}, its int8 form")


def configure_compression(options: argparse.Namespace) -> Any:
    """The pipeline's settings from the options.

    Raises:
        InputError: for settings that do not go together.
    """
    from nlp_distill.pipelines.compress_config import Compression

    return Compression(
        trim_vocabulary=options.trim_vocabulary,
        corpus=options.corpus,
        factorise_embeddings=options.factorise_embeddings,
        prune_heads=None if options.prune_heads is None else read_amount(options.prune_heads),
        prune_ffn=options.prune_ffn,
        prune_magnitude=options.prune_magnitude,
        quantize=options.quantize,
        transfer_set=choose_transfer_set(Compression.transfer_set, options),
        max_length=options.max_length,
        seed=options.seed,
        training=options.training,
        trust_remote_code=options.trust_remote_code,
    )


def read_amount(text: str) -> int | float:
    """``8`` as a whole number and ``0.5`` as a share.

    Raises:
        InputError: for neither.
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise InputError(f"--prune-heads is {text}; give a whole number of heads, or a share such as 0.5")
