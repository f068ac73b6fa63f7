"""Write the published result files of a pipeline's run: one small file a trained model."""

import argparse
from collections.abc import Collection, Mapping
from typing import Any

from nlp_distill.processes import is_main_process
from nlp_distill.tasks import TaskData


def name_after_teacher(
    methods: Mapping[str, str], task: str | None, distilled: Collection[str]
) -> dict[str, str]:
    """Published names of the arms, those that learnt from a multi-task model with ``_of_multitask`` behind.

    Args:
        methods: the method's name by arm.
        task: the teacher's task where it is a multi-task model, else ``None``.
        distilled: the arms that learnt from the teacher.
    """
    ending = "" if task is None else "_of_multitask"
    return {arm: name + ending if arm in distilled else name for arm, name in methods.items()}


def describe_rows(options: argparse.Namespace, data: TaskData) -> dict[str, Any]:
    """The fingerprints of the rows, where a result of theirs is to be published and may not replace one of others."""
    return {"data": data.fingerprints()} if options.results_dir else {}


def publish_runs(
    options: argparse.Namespace,
    results: Mapping[str, Any],
    data: TaskData,
    methods: Mapping[str, str],
    with_transfer_set: frozenset[str],
    described: Mapping[str, Any],
    configs: Mapping[str, Any] | None = None,
) -> None:
    """Publish every arm and seed of a run where ``--results-dir`` asks for it.

    Args:
        options: the command's options.
        results: what the pipeline returned, with ``runs`` by arm.
        data: the task.
        methods: the published method's name by arm.
        with_transfer_set: the arms that learnt from the transfer set.
        described: configuration and command.
        configs: the configuration of arms that have one of their own.
    """
    if not options.results_dir or not is_main_process():
        return
    from nlp_distill.pipelines.runs import count_seconds
    from nlp_distill.published import publish_result

    for arm, runs in results["runs"].items():
        for seed, run in zip(results["seeds"], runs, strict=True):
            context = {
                **described,
                "config": (configs or {}).get(arm, described["config"]),
                "data": results["data"],
                "data_source": results["data_source"],
                "transfer_set": run.get("transfer_set", results["transfer_set"])
                if arm in with_transfer_set
                else None,
                "selected_on": data.selected_on,
                "tuning": run.get("tuning"),
                "wall_time_s": count_seconds(run),
            }
            publish_result(options.results_dir, methods[arm], data.task.name, seed, run["entry"], context)
