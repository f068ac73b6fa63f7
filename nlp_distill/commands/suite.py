"""What the multi-task commands share: several tasks by name, given teachers, published results."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from data_augment.errors import InputError
from nlp_distill.commands.push import find_best, push_model
from nlp_distill.processes import is_main_process
from nlp_distill.stages import announce, make_folder, write_whole
from nlp_distill.tasks import load_task, packaged_teacher_path


def load_suite(options: argparse.Namespace, doubled: frozenset[str] = frozenset()):
    """The tasks that the options name, and their tokenizer."""
    from transformers import AutoTokenizer

    from nlp_distill.models import load_pretrained
    from nlp_distill.pipelines.multitask import Suite

    if options.results_dir:
        make_folder(Path(options.results_dir))  # now, rather than when the work is done
    if len(set(options.tasks)) < len(options.tasks):
        raise InputError(f"--tasks are {' '.join(options.tasks)}; give each once")
    data = {}
    for name in options.tasks:
        given = {} if name == "tweets" else {"data_dir": options.data_dir, "select_on": options.select_on}
        data[name] = load_task(name, skip_bad_rows=options.skip_bad_rows, **given)
        sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in data[name].splits().items())
        announce(f"{name} from {data[name].source}: {sizes} rows")
    tokenizer = load_pretrained(
        AutoTokenizer, find_encoder(options), trust_remote_code=options.trust_remote_code
    )
    return Suite(data, tokenizer, options.max_length, doubled, options.trust_remote_code)


def find_encoder(options: argparse.Namespace) -> str:
    """Folder or hub name of the encoder."""
    return str(packaged_teacher_path()) if options.encoder == "packaged" else options.encoder


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


def describe_suite(options: argparse.Namespace) -> dict[str, Any]:
    """What a result depends on besides the method's own settings, as plain values."""
    from nlp_distill.results import drop_place

    teachers = {task: [drop_place(path) for path in paths] for task, paths in read_teachers(options).items()}
    return {
        "encoder": drop_place(options.encoder),
        "tasks": options.tasks,
        "max_length": options.max_length,
        "select_on": options.select_on,
        "given_teachers": teachers,
    }


def check_suite_unpublished(
    options: argparse.Namespace, methods: Mapping[str, str], seeds: tuple[int, ...], config: Mapping[str, Any]
) -> None:
    """Refuse to publish over the results of other settings, before the work is done."""
    from nlp_distill.results import check_unpublished

    for name in options.tasks if options.results_dir else ():
        given = (methods.values(), name, seeds, {"config": config}, options.overwrite)
        check_unpublished(options.results_dir, *given)


def publish_suite(
    options: argparse.Namespace, results: Mapping[str, Any], methods: Mapping[str, str]
) -> None:
    """Publish every arm, task and seed of a run where ``--results-dir`` asks for it.

    Every model goes by its own seed, which for teachers is another than the students'; an ensemble by 0.
    """
    from nlp_distill.results import publish_result

    if not options.results_dir or not is_main_process():
        return
    for arm, runs in results["runs"].items():
        for entries in runs:
            for name, entry in entries.items():
                number = entry.get("seed", 0)
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
    from nlp_distill.pipelines.multitask import render_multitask

    if is_main_process():
        print(f"\n{render_multitask(results)}")
