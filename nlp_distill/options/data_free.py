"""Options of distillation without the training rows: what is recorded, and what is made of the record."""

import argparse

from nlp_distill.options.shared import add_common_options, add_data_options, add_teacher_options


def add_record_options(parser: argparse.ArgumentParser) -> None:
    """Of ``record``."""
    add_data_options(parser)
    add_teacher_options(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="the record is DIR/record.safetensors")
    parser.add_argument("--max-length", type=int, default=128, help="tokens a row (default: %(default)s)")
    add_common_options(parser)


def add_invert_options(parser: argparse.ArgumentParser) -> None:
    """Of ``invert``."""
    parser.add_argument("--record", required=True, metavar="FILE", help="what `nlp-distill record` wrote")
    parser.add_argument("--teacher", required=True, metavar="DIR", help="the teacher that it is a record of")
    parser.add_argument("--teacher-task", metavar="NAME", help="of a multi-task teacher: the task to take")
    parser.add_argument("--output", required=True, metavar="DIR", help="the texts are DIR/texts.jsonl")
    parser.add_argument("--rows", type=int, metavar="N", help="texts to make (default: 10000)")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="of the search for each text; 0: random words (default: 10)"
    )
    parser.add_argument(
        "--search-rate",
        type=float,
        metavar="RATE",
        help="learning rate of the search, in standard deviations of the word embeddings (default: 3)",
    )
    parser.add_argument("--seed", type=int)
    add_common_options(parser)
