"""The results of a run over several tasks: blocks a task, averages over tasks, and their page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from nlp_distill.pipelines.runs import warn
from nlp_distill.pipelines.suite import Suite
from nlp_distill.processes import is_main_process
from nlp_distill.results import collect_versions, describe_selection, merge_seeds
from nlp_distill.stages import announce, write_json, write_whole


def collect_arms(suite: Suite, arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Blocks a task and averages over tasks, from ``{arm: [{task: entry} a seed]}``.

    An arm may lack tasks; its average is given where it has every averaged one.
    """
    tasks = {
        name: {
            "metric": suite.data[name].task.metrics[0],
            "models": {
                arm: merge_seeds([run[name] for run in runs]) for arm, runs in arms.items() if name in runs[0]
            },
        }
        for name in suite.data
    }
    averages = {}
    for arm, runs in arms.items():
        if suite.averaged <= set(runs[0]):
            scores = [fmean(run[name]["score"] for name in suite.averaged) for run in runs]
            averages[arm] = {"score": fmean(scores), "scores": scores}
    return {"tasks": tasks, "averages": averages, "averaged_over": sorted(suite.averaged)}


def write_multitask_results(output: Path, results: Mapping[str, Any]) -> str:
    """Write ``results.json`` and ``results.md``; returns the Markdown."""
    page = render_multitask(results)
    if is_main_process():
        write_json(output / "results.json", results)
        write_whole(output / "results.md", page)
    return page


def render_multitask(results: Mapping[str, Any]) -> str:
    """A table with a row for each model and a column for each task."""
    names = list(results["tasks"])
    arms = list(dict.fromkeys(arm for block in results["tasks"].values() for arm in block["models"]))
    lines = [
        f"# {results['title']}: scores on the test splits",
        "",
        "| model | "
        + " | ".join(f"{name} ({results['tasks'][name]['metric']})" for name in names)
        + " | average |",
        "|---|" + "---:|" * (len(names) + 1),
    ]
    for arm in arms:
        models = [results["tasks"][name]["models"].get(arm) for name in names]
        cells = ["" if model is None else f"{100 * model['score']:.1f}" for model in models]
        average = results["averages"].get(arm)
        cells.append("" if average is None else f"**{100 * average['score']:.1f}**")
        lines.append(f"| {arm.replace('_', ' ')} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"The average is over {', '.join(results['averaged_over'])}; seeds of the students: "
        f"{', '.join(map(str, results['seeds']))}.",
        *(
            f"Checkpoints of {name} were selected on {describe_selection(chosen)}."
            for name, chosen in results["selected_on"].items()
            if chosen != "train"
        ),
    ]
    return "\n".join(lines) + "\n"


def finish(
    output: Path,
    title: str,
    suite: Suite,
    arms: Mapping[str, Sequence[Mapping[str, Any]]],
    seeds: Sequence[int],
    described: Mapping[str, Any],
) -> dict[str, Any]:
    """Put the results of a run together, write them, and return them with ``runs`` by arm and seed."""
    results = {
        "title": title,
        **collect_arms(suite, arms),
        "seeds": list(seeds),
        "selected_on": {name: data.selected_on for name, data in suite.data.items()},
        "data": {name: data.fingerprints() for name, data in suite.data.items()},
        "data_source": {name: data.source for name, data in suite.data.items()},
        "versions": collect_versions(),
        **described,
    }
    for name, block in results["tasks"].items():
        warn({f"{arm} of {name}": entry for arm, entry in block["models"].items()})
    announce(f"wrote {output / 'results.json'}")
    write_multitask_results(output, results)
    return results | {"runs": arms}
