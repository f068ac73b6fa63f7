"""``nlp-distill fit``: a student for a budget of time, size and score."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.commands.bilstm import choose_transfer_set
from nlp_distill.commands.inputs import choose_task, load_data
from nlp_distill.processes import is_main_process


def run(options: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        InputError: where no candidate meets the budget, naming the nearest; the report is written all the same.
    """
    from nlp_distill.pipelines.fit import fit
    from nlp_distill.pipelines.fit_config import Budget, Conditions
    from nlp_distill.pipelines.fit_report import PAGE, render_report
    from nlp_distill.stages import announce

    budget = Budget(options.latency_ms, options.max_drop, options.max_mb)
    conditions = Conditions(options.runtime, options.tokens, options.threads, options.repeats)
    training = configure_training(options)
    data = load_data(options)
    code = {"trust_remote_code": options.trust_remote_code}
    task = choose_task([options.teacher], options.teacher_task, "--teacher-task", code, data.task.name)
    results = fit(
        budget,
        conditions,
        training,
        options.shapes or (),
        options.general or (),
        data,
        options.teacher,
        options.output,
        options.command_line,
        options.overwrite,
        task,
    )
    announce(f"report: {Path(options.output) / PAGE}")
    if is_main_process():
        print(f"\n{render_report(results)}", flush=True)
    if results["refusal"]:
        raise InputError(results["refusal"])


def configure_training(options: argparse.Namespace):
    """The settings of the trainings: the defaults with the given options in place."""
    from nlp_distill.pipelines.fit_config import FitTraining

    defaults = FitTraining()
    names = ("max_length", "max_candidates", "intermediate_epochs", "intermediate_learning_rate", "seed")
    given: dict[str, Any] = {
        name: getattr(options, name) for name in names if getattr(options, name) is not None
    }
    return dataclasses.replace(
        defaults,
        **given,
        transfer_set=choose_transfer_set(defaults.transfer_set, options),
        training=options.training,
        trust_remote_code=options.trust_remote_code,
    )
