"""``nlp-distill label``: run teachers over a data set once."""

import argparse
from pathlib import Path

from data_augment.errors import InputError
from nlp_distill.commands.inputs import choose_task
from nlp_distill.limits import check_whole
from nlp_distill.stages import make_folder


def run(options: argparse.Namespace) -> None:
    """``nlp-distill label``."""
    from transformers import AutoTokenizer

    from nlp_distill.labelling import label_file
    from nlp_distill.models import (
        check_max_length,
        check_reads,
        check_vocabulary,
        load_classifier,
        load_pretrained,
    )
    from nlp_distill.training import MIN_LENGTH

    if Path(options.output).is_dir():
        raise InputError(f"output {options.output} is a folder; give the name of a .parquet file")
    check_whole("max_length", options.max_length, at_least=MIN_LENGTH)
    code = {"trust_remote_code": options.trust_remote_code}
    task = choose_task(options.teacher, options.teacher_task, "--teacher-task", code)
    teachers = [
        (
            load_classifier(name, task, **code),
            load_pretrained(AutoTokenizer, name, **code),
        )
        for name in options.teacher
    ]
    for name in options.teacher:
        check_reads(name, options.text_pair_column is not None, task, **code)
    for model, tokenizer in teachers:
        check_max_length(model, options.max_length)
        check_vocabulary(model, tokenizer)
    make_folder(Path(options.output).parent)
    columns = [column for column in (options.text_column, options.text_pair_column) if column]
    summary = label_file(
        options.input,
        options.output,
        teachers,
        columns,
        options.max_length,
        options.overwrite,
        options.skip_bad_rows,
    )
    print(f"{summary}; {options.output}")
