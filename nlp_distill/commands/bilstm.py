"""``nlp-distill distill bilstm``: BERT -> BiLSTM; what it does is done for other students over word vectors too."""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.commands.inputs import choose_task, load_data
from nlp_distill.commands.publish import describe_rows, name_after_teacher, publish_runs
from nlp_distill.commands.push import push_student
from nlp_distill.processes import is_main_process
from nlp_distill.tasks import TaskData


def run(options: argparse.Namespace) -> None:
    """``nlp-distill distill bilstm``."""
    from nlp_distill.pipelines.bilstm_config import WordStudentDistillation

    run_pipeline(options, WordStudentDistillation())


def run_pipeline(options: argparse.Namespace, defaults) -> None:
    """The command, for the student that ``defaults`` (settings of the pipeline) describe."""
    data = load_data(options)
    config = configure_bilstm(defaults, options)
    code = {"trust_remote_code": options.trust_remote_code}
    task = choose_task([options.teacher], options.teacher_task, "--teacher-task", code, data.task.name)
    check_published(options, config, data, task)
    output = Path(options.output)
    results = distill_into_bilstm(options, config, data, options.teacher, output, teacher_task=task)
    show_results(results)


def distill_into_bilstm(
    options: argparse.Namespace,
    config,
    data: TaskData,
    teacher: str,
    output: Path,
    timings: Mapping[str, float] | None = None,
    teacher_task: str | None = None,
) -> dict:
    """The student pipeline; publishes the students' results where asked to.

    Args:
        timings: seconds that went into the teacher, to stand among those of the run.
        teacher_task: which task of a multi-task teacher.
    """
    from nlp_distill.pipelines.bilstm import distill_bilstm

    described = describe_run(options, config, data)
    results = distill_bilstm(
        config, data, teacher, output, described, options.overwrite, timings, teacher_task
    )
    methods = name_after_teacher(name_methods(config), teacher_task, {"student"})
    publish_runs(options, results, data, methods, frozenset({"student"}), described)
    push_student(options, results)
    return results


def check_published(
    options: argparse.Namespace, config, data: TaskData, teacher_task: str | None = None
) -> None:
    """Refuse to publish over the results of other settings, before the work is done."""
    from nlp_distill.published import check_unpublished

    if options.results_dir:
        described = describe_run(options, config, data)
        named = name_after_teacher(name_methods(config), teacher_task, {"student"})
        methods = [name for arm, name in named.items() if config.baseline or arm == "student"]
        check_unpublished(
            options.results_dir, methods, data.task.name, config.seeds, described, options.overwrite
        )


def name_methods(config) -> dict[str, str]:
    """The published method of each arm."""
    from nlp_distill.pipelines.bilstm_config import CNNShape

    kind = "cnn" if isinstance(config.shape, CNNShape) else "bilstm"
    return {"student_without_teacher": f"{kind}_without_teacher", "student": f"{kind}_distilled"}


def describe_run(options: argparse.Namespace, config, data: TaskData) -> dict[str, Any]:
    """All settings of a run as plain values, defaults included, and its command."""
    from nlp_distill.pipelines.bilstm_config import describe_config

    plain = describe_config(config, data.task) | describe_teacher_task(options)
    return {"config": plain, "command": options.command_line, **describe_rows(options, data)}


def describe_teacher_task(options: argparse.Namespace) -> dict[str, str]:
    """``--teacher-task`` among the settings, where it is given."""
    task = getattr(options, "teacher_task", None)  # demo has no such option
    return {"teacher_task": task} if task else {}


def configure_bilstm(config, options: argparse.Namespace):
    """``config`` with the given options in place; options left out keep its values."""
    from nlp_distill.pipelines.bilstm_config import ADAM_RATE, TRAINING
    from nlp_distill.pipelines.word_vectors import GloveWords, RandomWordPieces, TeacherWordPieces

    if options.glove_file and options.embeddings not in (None, "glove"):
        raise InputError(
            f"--glove-file does not go with --embeddings {options.embeddings}; leave out one of them"
        )
    kind = options.embeddings or ("glove" if options.glove_file else None)
    sizes = {"size": options.embedding_size, "vocabulary_size": options.vocabulary_size}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    if kind == "glove":
        if sizes:
            raise InputError(
                "--embedding-size and --vocabulary-size do not go with --embeddings glove, whose vectors have a size"
            )
        config = dataclasses.replace(config, word_vectors=GloveWords(options.glove_file))
    elif kind:
        vectors = RandomWordPieces if kind == "random" else TeacherWordPieces
        config = dataclasses.replace(config, word_vectors=vectors(**sizes))
    elif sizes:
        config = dataclasses.replace(config, word_vectors=dataclasses.replace(config.word_vectors, **sizes))
    names: tuple[str, ...] = (
        "embedding_channels",
        "dropout",
        "hard_weight",
        "max_length",
    )
    given = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    # Each student has options for its own sizes alone.
    shape = {field.name: getattr(options, field.name, None) for field in dataclasses.fields(config.shape)}
    shape = {
        name: tuple(size) if name == "widths" else size for name, size in shape.items() if size is not None
    }
    given["shape"] = dataclasses.replace(config.shape, **shape)
    training = {**config.training, **options.training}
    given["adadelta"] = choose_adadelta(config, options)
    if given["adadelta"] is not config.adadelta and "learning_rate" not in options.training:
        # A rate goes with its optimiser: the other one would learn nothing at it, or diverge.
        training["learning_rate"] = TRAINING["learning_rate"] if given["adadelta"] else ADAM_RATE
    if options.seeds:
        given["seeds"] = tuple(options.seeds)
    if options.no_baseline:
        given["baseline"] = False
    if options.baseline_epochs is not None:
        given["baseline_training"] = {**config.baseline_training, "num_train_epochs": options.baseline_epochs}
    elif "num_train_epochs" in options.training and "num_train_epochs" in config.baseline_training:
        # Never fewer than the distilled student has.
        epochs = max(options.training["num_train_epochs"], config.baseline_training["num_train_epochs"])
        given["baseline_training"] = {**config.baseline_training, "num_train_epochs": epochs}
    if options.baseline_learning_rates:
        given["baseline_learning_rates"] = tuple(options.baseline_learning_rates)
    return dataclasses.replace(
        config,
        **given,
        transfer_set=choose_transfer_set(config.transfer_set, options),
        training=training,
        trust_remote_code=options.trust_remote_code,
    )


def choose_adadelta(config, options: argparse.Namespace) -> bool:
    """Whether the optimiser is Adadelta: as ``--optimizer`` says; not where ``--optim`` names one; else as before.

    Raises:
        InputError: where ``--optim`` names another than ``--optimizer adamw``.
    """
    named = str(options.training.get("optim", "adamw"))
    if options.optimizer == "adamw" and not named.startswith("adamw"):
        raise InputError(
            f"--optimizer adamw and --optim {named} are two optimisers; leave out one of the two"
        )
    if options.optimizer:
        return options.optimizer == "adadelta"
    return config.adadelta and "optim" not in options.training


def choose_transfer_set(settings, options: argparse.Namespace):
    """``settings`` of a transfer set with the given options in place."""
    names = (
        "n_iter",
        "p_mask",
        "p_pos",
        "p_ngram",
        "max_ngram",
        "unlabelled_n_iter",
        "pos_tagger",
        "num_workers",
    )
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return dataclasses.replace(settings, **given)


def show_results(results: dict[str, Any]) -> None:
    """Print the page of a run."""
    from nlp_distill.results import render_results

    if is_main_process():
        print(f"\n{render_results(results)}")
