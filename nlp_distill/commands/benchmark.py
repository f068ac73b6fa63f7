"""``nlp-distill benchmark``: what an answer costs."""

import argparse
import math
import os
from pathlib import Path

from data_augment.errors import InputError
from nlp_distill.commands.inputs import check_json_output, choose_task
from nlp_distill.limits import check_whole


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from nlp_distill.benchmark import benchmark, render_benchmark
    from nlp_distill.results import collect_versions
    from nlp_distill.stages import write_json
    from nlp_distill.subjects import is_exported

    for value in options.lengths:
        check_whole("--lengths", value, at_least=1)
    for value in options.threads or []:
        check_whole("--threads", value, at_least=1, at_most=os.cpu_count())
    check_whole("--repeats", options.repeats, at_least=1)
    if not 0 <= options.seconds < math.inf:
        raise InputError(f"--seconds is {options.seconds}; give 0 (no throughput) or more")
    if options.json:
        check_json_output(options)  # now, rather than when the work is done
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = options.threads or sorted({1, cores})
    saved = [name for name in options.models if not is_exported(name)]
    if options.task and not saved:
        raise InputError(
            "--task is of multi-task models in torch, and an exported model has one task; leave it out"
        )
    task = choose_task(saved, options.task, "--task", {})
    results = benchmark(
        options.models, options.lengths, threads, options.repeats, options.seconds, options.pairs, task
    )
    print(render_benchmark(results))
    if options.json:
        write_json(
            Path(options.json), results | {"command": options.command_line, "versions": collect_versions()}
        )
