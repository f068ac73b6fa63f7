"""``nlp-distill distill general``: a small encoder from a pre-trained one, on plain text."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.commands.inputs import find_model
from nlp_distill.commands.push import push_model
from nlp_distill.processes import is_main_process
from nlp_distill.stages import write_whole


def run(options: argparse.Namespace) -> None:
    """``nlp-distill distill general``."""
    from functools import partial

    from nlp_distill.cards import CARD, render_general_card
    from nlp_distill.pipelines.general import OBJECTIVES, GeneralDistillation, distill_general

    objective: Any = OBJECTIVES[options.objective]
    if options.relation_heads is not None:
        if options.objective not in ("tinybert", "minilm-v2"):
            raise InputError(
                f"--relation-heads does not go with --objective {options.objective}; take tinybert or minilm-v2"
            )
        objective = partial(objective, relation_heads=options.relation_heads)
    config = GeneralDistillation(
        shape=choose_shape(options),
        objective=objective,
        max_length=options.max_length,
        random_start=options.random_start,
        seed=options.seed,
        training=options.training,
        trust_remote_code=options.trust_remote_code,
    )
    teacher = find_model(options.teacher)
    results = distill_general(
        config, options.text, teacher, options.output, options.command_line, options.overwrite
    )
    if is_main_process():
        folder = Path(results["models"]["student"]["path"])

        def render(name: str | None = None) -> str:
            return render_general_card(results, options.teacher, folder, name)

        write_whole(folder / CARD, render())
        push_model(options, folder, render)
        own, other = results["models"]["student"], results["models"]["teacher"]
        print(
            f"saved {own['path']}: {own['parameters'] / 1e6:.1f} M parameters, the teacher has "
            f"{other['parameters'] / 1e6:.1f} M; {results['text']['tokens']:,} tokens of text"
        )


def choose_shape(options: argparse.Namespace):
    """The student's shape: 3 x 312, with the given sizes in place."""
    from nlp_distill.students import SMALL_3X312

    names = {
        "layers": options.layers,
        "hidden": options.hidden_size,
        "heads": options.heads,
        "ffn": options.ffn_size,
    }
    return dataclasses.replace(
        SMALL_3X312, **{name: size for name, size in names.items() if size is not None}
    )
