"""What several commands share: options as data and as training arguments, and a quiet terminal."""

import argparse
import dataclasses
import importlib.util
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_augment.atomic import check_output_path
from data_augment.errors import InputError
from data_augment.parsing import suggest_option
from nlp_distill.commands.push import refuse_hub_arguments
from nlp_distill.stages import announce, make_folder
from nlp_distill.tasks import TaskData, load_task, packaged_teacher_path


def find_model(name: str) -> str:
    """The folder or hub name of a pre-trained model; ``packaged`` is the one that comes as a Python package."""
    return str(packaged_teacher_path()) if name == "packaged" else name


def load_data(options: argparse.Namespace, **rows: Any) -> TaskData:
    """The task that the data options name."""
    check_baseline_options(options)
    if getattr(options, "results_dir", None):
        make_folder(Path(options.results_dir))  # now, rather than when the work is done
    own_files = options.train_file is not None
    for option, value in (("--label-column", options.label_column), ("--labels", options.labels)):
        if value and not own_files:
            raise InputError(f"{option} describes files of your own; add --train-file")
    if options.select_on == "dev" and (own_files or options.task in (None, "tweets")):
        raise InputError(
            "--select-on dev is a habit with GLUE's splits; to select on rows of your own give --validation-file"
        )
    named = {"label_column": options.label_column, "labels": options.labels}
    given: dict[str, Any] = {name: value for name, value in named.items() if value}
    data = load_task(
        options.task,
        data_dir=options.data_dir,
        train_file=options.train_file,
        validation_file=options.validation_file,
        test_file=options.test_file,
        unlabelled_file=options.unlabelled_file,
        text_column=options.text_column,
        text_pair_column=options.text_pair_column,
        select_on=options.select_on,
        skip_bad_rows=options.skip_bad_rows,
        **given,
        **rows,
    )
    if (getattr(options, "unlabelled_n_iter", None) or 0) > 0 and "unlabelled" not in data.splits():
        raise InputError(
            f"--unlabelled-n-iter is {options.unlabelled_n_iter}, and {data.task.name} has no unlabelled rows; add "
            "--unlabelled-file, or leave it out"
        )
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in data.splits().items())
    counts = "".join(f"; {reason.replace('_', ' ')}: {count:,}" for reason, count in data.counts.items())
    announce(f"{data.task.name} from {data.source}: {sizes} rows{counts}")
    return data


def check_json_output(options: argparse.Namespace) -> None:
    """Refuse a ``--json`` that cannot be written, or that would replace a file which this command did not write.

    Raises:
        InputError: naming the file.
    """
    if not check_output_path(options.json, overwrite=True).exists():
        return
    try:
        written_by = json.loads(Path(options.json).read_text(encoding="utf-8"))["command"].split()[:2]
    except (ValueError, TypeError, KeyError, AttributeError):
        written_by = []
    if written_by != options.command_line.split()[:2]:
        raise InputError(
            f"{options.json} exists and was not written by this command; give --json another name"
        )


def check_baseline_options(options: argparse.Namespace) -> None:
    """Refuse options of the student without the teacher where there is none, or where they would have no effect."""
    steps = getattr(options, "training", {}).get("max_steps")
    for name in ("baseline_epochs", "intermediate_epochs"):
        if steps and getattr(options, name, None) is not None:
            raise InputError(
                f"--max-steps {steps} ends every training, so that --{name.replace('_', '-')} has no effect; leave out "
                "one of the two"
            )
    for name in ("baseline_epochs", "baseline_learning_rates"):
        if getattr(options, "no_baseline", False) and getattr(options, name, None) is not None:
            raise InputError(
                f"--{name.replace('_', '-')} is of the student without the teacher, which --no-baseline leaves out; "
                "leave out one of the two"
            )


def choose_task(
    names: Sequence[str], given: str | None, option: str, code: Mapping[str, bool], default: str | None = None
) -> str | None:
    """Which task is meant of the multi-task models among some models; ``None`` where there is no such model.

    Args:
        names: folders or hub names of the models.
        given: the task that the option names.
        option: the option, for the error.
        code: whether code that comes with models is run.
        default: the task where none is given: that of the data.

    Raises:
        InputError: for a model that was not trained on the task, a task that is not named, or an option without a
            multi-task model.
    """
    from nlp_distill.models import read_tasks

    known = {name: tasks for name in names if (tasks := read_tasks(name, **code))}
    if not known:
        if given is not None:
            raise InputError(f"{', '.join(names)}: no multi-task model; leave out {option}")
        return None
    task = given or default
    for name, tasks in known.items():
        if task not in tasks:
            said = "is a multi-task model" if task is None else f"was not trained on {task}"
            raise InputError(f"{name} {said}; give {option}, one of {', '.join(tasks)}")
    return task


def quiet_libraries() -> None:
    """Keep the terminal for what this run does: no reports about heads that are new by intention."""
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def parse_training_arguments(
    tokens: Sequence[str], known: Sequence[str] = (), command: str = "nlp-distill"
) -> dict[str, Any]:
    """Fields of ``TrainingArguments`` from the command line, only those given, with their types.

    Args:
        tokens: what is no option of ours.
        known: the options of ours, for a word about misspelt ones.
        command: whose help says the rest.

    Raises:
        InputError: for a name that is no field, or a value of the wrong type.
    """
    if not tokens:
        return {}
    from transformers import HfArgumentParser, TrainingArguments

    ours = {"output_dir", "resume_from_checkpoint"}  # a stage knows where it writes and where it stopped
    fields = {field.name for field in dataclasses.fields(TrainingArguments)} - ours
    names = []
    for token in tokens:
        option = token.partition("=")[0]
        if option.startswith("--"):
            names.append(option[2:].replace("-", "_"))
            refuse_hub_arguments(names[-1])
        if not names or names[-1] not in fields:
            every = [*known, *(f"--{name.replace('_', '-')}" for name in sorted(fields))]
            raise InputError(
                f"unknown option {option}{suggest_option(option, every)}; {command} --help lists ours, and any field "
                "of TrainingArguments can be given"
            )
    parser = HfArgumentParser(TrainingArguments, exit_on_error=False, conflict_handler="resolve")  # type: ignore[arg-type]
    # The Trainer takes several trackers, the parser that is made from its fields only one.
    parser.add_argument("--report_to", "--report-to", nargs="+")
    try:
        parsed, left = parser.parse_known_args(["--output_dir", "unused", *tokens])
        if left:
            raise argparse.ArgumentError(None, f"{left[0]} belongs to no option")
    except argparse.ArgumentError as error:
        raise InputError(f"the training options {' '.join(tokens)} do not fit: {error}") from error
    given = {name: getattr(parsed, name) for name in names}
    _check_training_values(given)
    return given


EVERY_EPOCH = "every epoch is scored on all validation rows, so that the best can be kept; leave it out"
WITHOUT_SENSE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "prediction_loss_only": (bool, EVERY_EPOCH),
    "eval_do_concat_batches": (lambda value: not value, EVERY_EPOCH),
    "eval_delay": (bool, EVERY_EPOCH),
    "data_seed": (lambda value: value is not None and value < 0, "give 0 or more"),
}


def _check_training_values(given: Mapping[str, Any]) -> None:
    """Refuse what ``TrainingArguments`` takes and training stumbles over, minutes later or never."""
    for name, value in given.items():
        if name.endswith("_token"):
            raise InputError(
                f"{name} is a secret, and result files and model cards hold the command; leave it out, and set "
                "HF_TOKEN in the environment instead"
            )
        if name == "report_to" and len(value) > 1 and {"none", "all"} & set(value):
            raise InputError(f"report_to is {' '.join(value)}; give none, all, or the names of trackers")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name} is {value}; it must be a finite number")
    for pair in (given.get("optim_args") or "").split(","):
        if pair and pair.count("=") != 1:
            raise InputError(f"optim_args holds {pair!r}; write NAME=VALUE,NAME=VALUE")
    for name, (refused, advice) in WITHOUT_SENSE.items():
        if name in given and refused(given[name]):
            raise InputError(f"{name} is {given[name]}; {advice}")
    scheduler = str(given.get("lr_scheduler_type", ""))
    for name in ("cosine_with_min_lr", "cosine_warmup_with_min_lr"):
        if scheduler == name and "min_lr" not in str(given.get("lr_scheduler_kwargs")):
            raise InputError(
                f"lr_scheduler_type is {name}, which needs its smallest rate; add --lr-scheduler-kwargs "
                """'{"min_lr_rate": 0.1}'"""
            )
    if given.get("dataloader_persistent_workers") and not given.get("dataloader_num_workers"):
        raise InputError(
            "dataloader_persistent_workers keeps workers, and there are none; add --dataloader-num-workers, or leave "
            "it out"
        )
    packages = {"deepspeed": "deepspeed", "use_liger_kernel": "liger-kernel"}
    for name, package in packages.items():
        if given.get(name) and importlib.util.find_spec(package.replace("-", "_")) is None:
            option = name.replace("_", "-")
            raise InputError(
                f"{package} is not installed; run `pip install {package}`, or leave out --{option}"
            )
    if given.get("fsdp") and os.environ.get("WORLD_SIZE", "1") in ("", "0", "1"):
        raise InputError(
            "--fsdp shares a model among processes, and there is one; start with `accelerate launch --num_processes N "
            "-m nlp_distill ...`, or leave it out"
        )
    if given.get("torch_compile_backend") or given.get("torch_compile_mode"):
        _check_compiler(given)


def _check_compiler(given: Mapping[str, Any]) -> None:
    """Refuse a backend or mode of ``torch.compile`` that does not exist."""
    from accelerate.utils import DynamoBackend
    from torch._inductor import list_mode_options

    allowed = {
        "torch_compile_backend": [backend.value.lower() for backend in DynamoBackend],
        "torch_compile_mode": list(list_mode_options()),
    }
    for name, known in allowed.items():
        value = given.get(name)
        if value and value.lower() not in known:
            raise InputError(f"{name} is {value}; give any of {', '.join(known)}")
