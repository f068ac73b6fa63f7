"""``nlp-distill distill tinybert``: layers first, then predictions."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.commands.bilstm import describe_teacher_task, show_results
from nlp_distill.commands.general import choose_shape
from nlp_distill.commands.inputs import choose_task, load_data
from nlp_distill.commands.publish import describe_rows, name_after_teacher, publish_runs
from nlp_distill.commands.push import push_student
from nlp_distill.tasks import TaskData


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from nlp_distill.pipelines.general_student import read_general_record
    from nlp_distill.pipelines.tinybert import distill_tinybert
    from nlp_distill.pipelines.tinybert_config import name_ablation
    from nlp_distill.pipelines.tinybert_stages import read_student_shape
    from nlp_distill.published import check_unpublished
    from nlp_distill.results import drop_place

    config = configure_tinybert(options)
    data = load_data(options)
    code = {"trust_remote_code": options.trust_remote_code}
    task = choose_task([options.teacher], options.teacher_task, "--teacher-task", code, data.task.name)
    general = drop_place(config.general) if config.general else None
    shape = dataclasses.asdict(read_student_shape(config))
    plain = config.describe() | {
        "shape": shape,
        "teacher": drop_place(options.teacher),
        "general": general,
        "transfer_set": config.plan_transfer_set(data.task).describe(),
        **config.describe_training(data.task),
        **describe_teacher_task(options),
    }
    described = {"config": plain, "command": options.command_line, **describe_rows(options, data)}
    if config.general and (record := read_general_record(config.general)):
        described["general_student"] = record
    name = f"tinybert_{shape['layers']}x{shape['hidden']}"
    left_out = "".join(f"_without_{part}" for part in sorted(config.without))
    methods = {
        "student_without_teacher": f"{name}_without_teacher",
        "general_only": f"{name}_general_only",
        "intermediate_only": f"{name}{left_out}_intermediate_only",
        "student": f"{name}{left_out}",
    }
    methods |= {name_ablation(part): f"{name}{left_out}_without_{part}" for part in config.ablations}
    distilled = frozenset({"student", "intermediate_only", *map(name_ablation, config.ablations)})
    methods = name_after_teacher(methods, task, distilled)
    configs = {name_ablation(part): describe_ablation(plain, config, part, data) for part in config.ablations}
    for arm in (*config.list_arms(), *configs) if options.results_dir else ():
        own = {"config": configs.get(arm, plain)}
        given = ([methods[arm]], data.task.name, config.seeds, own, options.overwrite)
        check_unpublished(options.results_dir, *given)
    results = distill_tinybert(
        config, data, options.teacher, Path(options.output), described, options.overwrite, task
    )
    publish_runs(options, results, data, methods, distilled, described, configs)
    push_student(options, results)
    show_results(results)


def describe_ablation(plain: dict[str, Any], config, part: str, data: TaskData) -> dict[str, Any]:
    """The settings of the students without a part."""
    described = plain | {"without": sorted(config.without | {part})}
    if part == "general":
        described["general"] = None
    if part == "augmentation":
        whole = dataclasses.replace(config, without=config.without | {part}, ablations=())
        described["transfer_set"] = whole.plan_transfer_set(data.task).describe()
    return described


def configure_tinybert(options: argparse.Namespace):
    """The pipeline's settings from the options.

    Raises:
        InputError: for settings that do not go together.
    """
    from nlp_distill.pipelines.tinybert_config import BASELINES, PREDICTION_ALONE, TinyBERTDistillation

    given = {
        name: getattr(options, name)
        for name in ("general", "relation_heads", "max_length", "temperature", "baseline_epochs")
        if getattr(options, name) is not None
    }
    config = TinyBERTDistillation(shape=choose_shape(options))
    sizes = (options.layers, options.hidden_size, options.heads, options.ffn_size)
    if options.general and any(size is not None for size in sizes):
        raise InputError(
            "--layers and the other sizes do not go with --general, whose student has a shape already"
        )
    own = {
        "num_train_epochs": options.intermediate_epochs,
        "learning_rate": options.intermediate_learning_rate,
    }
    shared = {name: value for name, value in options.training.items() if name not in PREDICTION_ALONE}
    intermediate = shared | {name: value for name, value in own.items() if value is not None}
    return dataclasses.replace(
        config,
        **given,
        without=frozenset(options.without or ()),
        ablations=tuple(options.ablations or ()),
        teacher_cache_gb=options.teacher_cache_gb,
        share_projection=options.share_projection,
        transfer_set=choose_word_replacement(config.transfer_set, options),
        seeds=tuple(options.seeds or config.seeds),
        baselines=() if options.no_baseline else BASELINES,
        baseline_learning_rates=tuple(options.baseline_learning_rates or ()),
        intermediate_training=intermediate,
        prediction_training=options.training,
        trust_remote_code=options.trust_remote_code,
    )


def choose_word_replacement(settings, options: argparse.Namespace):
    """``settings`` of word replacement with the given options in place."""
    names = {
        "n_iter": options.n_iter,
        "unlabelled_n_iter": options.unlabelled_n_iter,
        "p": options.p_replace,
        "k": options.num_candidates,
        "mlm": options.mlm,
        "glove_file": options.glove_file,
        "num_workers": options.num_workers,
    }
    return dataclasses.replace(
        settings, **{name: value for name, value in names.items() if value is not None}
    )
