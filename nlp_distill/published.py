"""Published results: one small file a trained model, ``<results_dir>/<method>/<task>/<seed>.json``."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.results import collect_versions
from nlp_distill.stages import describe_difference, make_folder, write_json


def check_unpublished(
    results_dir: str | Path,
    methods: Iterable[str],
    task: str,
    seeds: Iterable[int],
    context: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Refuse to publish over the results of other settings, before the work is done.

    Args:
        results_dir: the folder of published results.
        methods: names of the methods that would be published.
        task: the task's name.
        seeds: the seeds.
        context: holds the ``config`` that would be published, and where it is known the fingerprints of the ``data``.
        overwrite: replace whatever is there.

    Raises:
        InputError: naming the file and what differs.
    """
    wanted = _drop_run_settings(json.loads(json.dumps(context["config"])))
    for path in (locate_result(results_dir, method, task, seed) for method in methods for seed in seeds):
        if overwrite or not path.exists():
            continue
        published = _read_published(path)
        if others := _list_other_splits(published.get("data"), context.get("data")):
            raise InputError(
                f"{path} holds the result of other rows ({', '.join(others)} differ); give another --results-dir, "
                "another --task, or --overwrite"
            )
        found = _drop_run_settings(published["config"])
        if difference := describe_difference(found, wanted):
            raise InputError(
                f"{path} holds the result of other settings ({difference}); give another --results-dir, or --overwrite"
            )


def _read_published(path: Path) -> Mapping[str, Any]:
    """A published result.

    Raises:
        InputError: for a file that holds no configuration.
    """
    try:
        entry = {"config": {}} | json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError):
        entry = {"config": None}
    if not isinstance(entry["config"], Mapping):
        raise InputError(f"{path} is no result of ours; give another --results-dir, or --overwrite")
    return entry


def _list_other_splits(found: Any, wanted: Any) -> list[str]:
    """Splits whose rows two results do not share; none where one of them does not say."""
    if not isinstance(found, Mapping) or not isinstance(wanted, Mapping):
        return []
    return [name for name in wanted if name in found and found[name] != wanted[name]]


def _drop_run_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that decide which models a run trains, not what one of them is."""
    return {name: value for name, value in config.items() if name not in ("seeds", "baseline")}


def locate_result(results_dir: str | Path, method: str, task: str, seed: int) -> Path:
    """Where a published result lies: ``<results_dir>/<method>/<task>/<seed>.json``."""
    return Path(results_dir) / method / task / f"{seed}.json"


def publish_result(
    results_dir: str | Path,
    method: str,
    task: str,
    seed: int,
    entry: Mapping[str, Any],
    context: Mapping[str, Any],
) -> Path:
    """Write ``<results_dir>/<method>/<task>/<seed>.json``: one trained model, small enough to keep in a repository.

    Args:
        entry: ``score`` in [-1, 1], ``metrics``, sizes.
        context: ``config``, ``data``, ``command``, ``wall_time_s``, ...
    """
    path = locate_result(results_dir, method, task, seed)
    make_folder(path.parent)
    kept = {name: value for name, value in entry.items() if name != "path"}
    write_json(
        path,
        {"method": method, "task": task, "seed": seed, **kept, **context, "versions": collect_versions()},
    )
    return path
