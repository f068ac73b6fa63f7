"""``nlp-distill distill bam``: teachers of single tasks, one student for all."""

import argparse
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.commands.inputs import find_model
from nlp_distill.commands.suite import (
    check_suite_unpublished,
    describe_suite,
    finish_students,
    load_suite,
    publish_suite,
    read_own_tasks,
    read_teachers,
    show_suite,
)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from nlp_distill.pipelines.bam import SYMMETRIC, distill_bam

    config, own = configure_bam(options), read_own_tasks(options)
    if options.hub is not None and not config.combination.endswith("multi"):
        raise InputError(
            f"{config.combination} makes a model for each task, and --push-to-hub uploads one; leave it out"
        )
    doubled = SYMMETRIC & set(options.tasks or ()) if options.doubled is None else frozenset(options.doubled)
    suite = load_suite(options, own, frozenset(doubled))
    plain = {**config.describe(), **describe_suite(options, own)}
    plain["doubled"] = sorted(doubled)
    methods = name_methods(config)
    check_suite_unpublished(options, plan_results(config, suite.data), plain)
    described = {"config": plain, "command": options.command_line}
    results = distill_bam(
        config, suite, find_model(options.encoder), Path(options.output), described, options.overwrite
    )
    publish_suite(options, results, methods)
    finish_students(options, results, "student" if "student" in methods else config.combination)
    show_suite(results)


def configure_bam(options: argparse.Namespace):
    """The pipeline's settings from the options.

    Raises:
        InputError: for several teachers of one task, or settings of models that the combination does not have.
    """
    from nlp_distill.pipelines.bam import BAM

    teachers = read_teachers(options)
    for task, paths in teachers.items():
        if len(paths) > 1:
            raise InputError(f"{task} has {len(paths)} teachers; BAM takes one a task (mt-dnn takes several)")
    given: dict[str, Any] = {
        "layerwise_decay": options.layerwise_decay,
        "exponent": options.sampling_exponent,
        "seeds": tuple(options.seeds) if options.seeds else None,
    }
    own = {"num_train_epochs": options.single_epochs, "learning_rate": options.single_learning_rate}
    if "single" not in options.combination and any(value is not None for value in own.values()):
        raise InputError(
            f"--single-epochs and --single-learning-rate are of models of one task, and {options.combination} has "
            "none; leave them out"
        )
    shared = {name: value for name, value in options.training.items() if name not in own}
    return dataclasses.replace(
        BAM(),
        **{name: value for name, value in given.items() if value is not None},
        combination=options.combination,
        annealing=not options.no_annealing,
        single_training=shared | {name: value for name, value in own.items() if value is not None},
        multi_training=options.training,
        teachers={task: paths[0] for task, paths in teachers.items()},
    )


def name_methods(config) -> dict[str, str]:
    """The published method's name by arm."""
    name = "bam" if config.combination == "single-multi" else f"bam_{config.combination.replace('-', '_')}"
    name += "" if config.annealing else "_without_annealing"
    name += "" if config.layerwise_decay != 1 else "_without_layerwise_rates"
    if config.combination in ("single", "multi"):
        return {config.combination: name}
    teachers = config.combination.partition("-")[0]
    return {f"{teachers}_teacher": f"bam_{teachers}_teacher", "student": name}


def plan_results(config, tasks: Iterable[str]) -> list[tuple[str, str, int]]:
    """Method, task and seed of every result that a run publishes: teachers that are given are none of its own."""
    planned = []
    for task in tasks:
        for arm, method in name_methods(config).items():
            is_teacher = arm.endswith("_teacher")
            seeds = config.seeds[: 1 if is_teacher else None]
            planned += [
                (method, task, seed) for seed in seeds if not (is_teacher and task in config.teachers)
            ]
    return planned
