"""``nlp-distill distill mt-dnn``: an ensemble of multi-task models, one student."""

import argparse
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.commands.inputs import find_model
from nlp_distill.commands.suite import (
    ENSEMBLE_SEED,
    check_suite_unpublished,
    describe_suite,
    finish_students,
    load_suite,
    publish_suite,
    read_own_tasks,
    read_teachers,
    show_suite,
)

METHODS = {"multitask": "multitask", "ensemble": "mt_dnn_ensemble", "student": "mt_dnn_kd"}


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from nlp_distill.pipelines.mt_dnn import distill_mt_dnn

    config, own = configure_mt_dnn(options), read_own_tasks(options)
    suite = load_suite(options, own)
    plain = {**config.describe(), **describe_suite(options, own)}
    check_suite_unpublished(options, plan_results(config, suite.data), plain)
    described = {"config": plain, "command": options.command_line}
    results = distill_mt_dnn(
        config, suite, find_model(options.encoder), Path(options.output), described, options.overwrite
    )
    publish_suite(options, results, METHODS)
    finish_students(options, results, "student")
    show_suite(results)


def plan_results(config, tasks: Iterable[str]) -> list[tuple[str, str, int]]:
    """Method, task and seed of every result that a run publishes."""
    seeds = {"student": config.seeds}
    if not config.given:
        seeds |= {"multitask": config.teacher_seeds, "ensemble": (ENSEMBLE_SEED,)}
    return [(METHODS[arm], task, seed) for task in tasks for arm, own in seeds.items() for seed in own]


def check_teachers_are_trained(options: argparse.Namespace) -> None:
    """Refuse options of the teachers' training where teachers are given.

    Raises:
        InputError: naming one.
    """
    of_training = {
        "--num-teachers": options.num_teachers,
        "--keep": options.keep,
        "--dropouts": options.dropouts,
        "--teacher-tasks": options.teacher_tasks,
        "--no-fine-tuning": options.no_fine_tuning or None,
    }
    unused = [name for name, value in of_training.items() if value is not None]
    if options.teachers and unused:
        raise InputError(
            f"{unused[0]} is of teachers that are trained here, and --teachers gives them; leave out one of the two"
        )


def configure_mt_dnn(options: argparse.Namespace):
    """The pipeline's settings from the options.

    Raises:
        InputError: for settings of teachers that are not trained here.
    """
    from nlp_distill.pipelines.mt_dnn import MTDNN

    check_teachers_are_trained(options)
    config = MTDNN()
    teachers = config.teachers if options.num_teachers is None else options.num_teachers
    given: dict[str, Any] = {
        "dropouts": tuple(options.dropouts) if options.dropouts else None,
        "teacher_tasks": tuple(options.teacher_tasks) if options.teacher_tasks else None,
        "seeds": tuple(options.seeds) if options.seeds else None,
    }
    return dataclasses.replace(
        config,
        **{name: value for name, value in given.items() if value is not None},
        teachers=teachers,
        kept=min(config.kept, max(teachers, 1)) if options.keep is None else options.keep,
        fine_tune=not options.no_fine_tuning,
        average=options.average,
        san=frozenset(options.san or ()),
        given=read_teachers(options),
        training=options.training,
        fine_tuning={name: value for name, value in options.training.items() if name != "num_train_epochs"},
    )
