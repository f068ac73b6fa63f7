"""What the task pipelines have in common after their trainings: the best rate of a baseline, and the results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nlp_distill.cards import write_cards
from nlp_distill.processes import is_main_process
from nlp_distill.results import (
    collect_versions,
    compute_retention,
    is_still_rising,
    list_warnings,
    merge_seeds,
    write_results,
)
from nlp_distill.stages import announce
from nlp_distill.tasks import TaskData

BASELINE = "student_without_teacher"  # the arm


def train_at_best_rate(
    rates: Sequence[float],
    own_rate: float,
    seeds: Sequence[int],
    seed: int,
    train: Callable[..., dict[str, Any]],
) -> dict[str, Any]:
    """A student without the teacher at the best of several rates, so that the comparison is fair to it.

    Args:
        rates: the rates to try; none for the distilled student's alone.
        own_rate: the distilled student's rate, always among those tried.
        seeds: all seeds of the run; the first decides the rate for all.
        seed: the seed that is wanted.
        train: ``train(rate, seed, is_tuned)`` returns ``{"entry", "training"}`` of one training.

    Returns:
        The run of this seed at the rate with the best validation score; ``tuning`` holds the score of every rate, and
        the seconds that the others took.
    """
    tried_rates = tuple(dict.fromkeys((*rates, own_rate)))
    if len(tried_rates) == 1:
        return train(own_rate, seed, bool(rates))
    tried = {rate: train(rate, seeds[0], True) for rate in tried_rates}
    scores = {rate: run["entry"]["validation_score"] for rate, run in tried.items()}
    best = max(tried_rates, key=lambda rate: scores[rate])
    run = tried[best] if seed == seeds[0] else train(best, seed, True)
    others = sum(other["training"]["seconds"] for rate, other in tried.items() if rate != best)
    tuning = {
        "learning_rate": best,
        "validation_scores": {str(rate): score for rate, score in scores.items()},
    }
    return run | {"tuning": tuning | {"other_rates_s": others}}


def count_seconds(run: Mapping[str, Any]) -> float:
    """Seconds of a model's trainings: its last, and the stages before it."""
    return run["training"]["seconds"] + run.get("seconds_before", 0.0)


def warn(entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Say what a reader of the scores must know."""
    for text in list_warnings(entries):
        announce(f"WARNING: {text}")


def write_run(
    output: Path,
    data: TaskData,
    teacher_entry: Mapping[str, Any],
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    seeds: Sequence[int],
    parts: Mapping[str, Any],
    timings: Mapping[str, float],
) -> dict[str, Any]:
    """Put the results of a run together and write ``results.json`` and ``results.md``.

    Args:
        output: the run's folder.
        data: the task.
        teacher_entry: the teacher's scores, sizes and path.
        runs: ``{"entry", "training"}`` of every arm, one a seed.
        seeds: the seeds.
        parts: ``transfer_set``, ``labelling``, ``speed``, ``config``, ``command`` and whatever else the method keeps.
        timings: seconds by name; those of the arms are added.

    Returns:
        The content of ``results.json``, and ``runs``.
    """
    models = {"teacher": dict(teacher_entry)}
    models |= {arm: merge_seeds([run["entry"] for run in runs[arm]]) for arm in runs}
    if BASELINE in runs and all(is_still_rising(run["training"]) for run in runs[BASELINE]):
        models[BASELINE]["still_rising"] = True
    tuning = {arm: runs[arm][0]["tuning"] for arm in runs if "tuning" in runs[arm][0]}
    results = {
        "task": data.task.name,
        "metric": data.task.metrics[0],
        "is_pair": data.task.is_pair,
        "models": models,
        **compute_retention(models),
        "seeds": list(seeds),
        "selected_on": data.selected_on,
        "data_source": data.source,
        "data": data.fingerprints(),
        "timings_s": {
            **timings,
            **{arm: sum(count_seconds(run) for run in runs[arm]) for arm in runs},
            **{f"{arm}_at_other_rates": found["other_rates_s"] for arm, found in tuning.items()},
        },
        "baseline_tuning": tuning,
        "versions": collect_versions(),
        **parts,
    }
    warn(models)
    if is_main_process():
        write_results(output, results)
        write_cards(results, [run["entry"] for run in runs["student"]])
    return results | {"runs": runs}
