"""``nlp-distill record``: what may be kept of training rows that cannot be."""

import argparse

from nlp_distill.commands.inputs import choose_task, load_data


def run(options: argparse.Namespace) -> None:
    """``nlp-distill record``."""
    from nlp_distill.pipelines.data_free import record_activations

    data = load_data(options)
    code = {"trust_remote_code": options.trust_remote_code}
    task = choose_task([options.teacher], options.teacher_task, "--teacher-task", code, data.task.name)
    made = record_activations(
        data,
        options.teacher,
        options.output,
        options.max_length,
        task,
        options.overwrite,
        options.trust_remote_code,
    )
    print(f"saved {made['path']}: {made['width']} activations of {made['rows']:,} rows, by class")
