"""``nlp-distill demo``: the whole job, end to end."""

import argparse
import time
from pathlib import Path

from nlp_distill.commands.bilstm import check_published, configure_bilstm, distill_into_bilstm, show_results
from nlp_distill.commands.finetune import finetune_teacher
from nlp_distill.commands.inputs import load_data
from nlp_distill.stages import announce


def run(options: argparse.Namespace) -> None:
    """Finetune, then distill bilstm."""
    from nlp_distill.pipelines.demo import plan_demo

    started = time.perf_counter()
    budget = plan_demo(options.full)
    rows = {"labelled_rows": budget.labelled_rows, "unlabelled_rows": budget.unlabelled_rows}
    is_tweets = options.task in (None, "tweets") and options.train_file is None
    data = load_data(options, **(rows if is_tweets else {}))
    output = Path(options.output)
    config = configure_bilstm(
        budget.distillation, options
    )  # refuses wrong settings before the teacher's minutes
    check_published(options, config, data)
    finetuned = finetune_teacher(
        options, options.teacher, data, output / "teacher", budget.teacher_training, 0, config.max_length
    )
    timings = {"fine_tuning_the_teacher": finetuned["seconds"]}
    results = distill_into_bilstm(options, config, data, str(output / "teacher"), output, timings)
    announce(f"done in {time.perf_counter() - started:.0f} s; report: {output / 'results.md'}")
    show_results(results)
