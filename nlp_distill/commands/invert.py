"""``nlp-distill invert``: texts for a student, from a teacher and a record of its activations."""

import argparse

from nlp_distill.commands.inputs import choose_task


def run(options: argparse.Namespace) -> None:
    """``nlp-distill invert``."""
    from nlp_distill.pipelines.data_free import Inversion, invert_record

    given = {
        "rows": options.rows,
        "steps": options.steps,
        "learning_rate": options.search_rate,
        "seed": options.seed,
    }
    config = Inversion(**{name: value for name, value in given.items() if value is not None})
    code = {"trust_remote_code": options.trust_remote_code}
    task = choose_task([options.teacher], options.teacher_task, "--teacher-task", code)
    made = invert_record(
        config,
        options.record,
        options.teacher,
        options.output,
        task,
        options.overwrite,
        options.trust_remote_code,
    )
    intended = f"; {made['as_intended']:.1%} are what they were made for" if "as_intended" in made else ""
    print(
        f"saved {made['path']}: {made['rows']:,} texts with the teacher's answers{intended}; distance from the "
        f"activations {made['distance']:.3g}, of random words {made['first_distance']:.3g}"
    )
