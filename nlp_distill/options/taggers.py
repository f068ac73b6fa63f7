"""Options of ``finetune-tagger`` and ``distill tagger``."""

import argparse

from nlp_distill.options.shared import add_common_options, add_seed_options


def add_sentence_options(parser: argparse.ArgumentParser, takes_raw_text: bool) -> None:
    """Where the sentences of a tagger come from."""
    data = parser.add_argument_group("data")
    for split, use in (
        ("train", "learnt"),
        ("validation", "chooses the checkpoint (default: a slice of train)"),
        ("test", "is reported"),
    ):
        data.add_argument(
            f"--{split}-file",
            required=split != "validation",
            metavar="FILE",
            help=f"{use}: lines of a word and its tag, an empty line after a sentence; or .jsonl of tokens and tags",
        )
    if takes_raw_text:
        data.add_argument(
            "--unlabelled-file",
            metavar="FILE",
            help="raw text for the teacher to tag: a sentence a line, spaces between",
        )
    data.add_argument("--task", help="a name for it (default: the train file's)")


def add_tagger_options(parser: argparse.ArgumentParser) -> None:
    """Of ``distill tagger``."""
    add_sentence_options(parser, takes_raw_text=True)
    parser.add_argument("--teacher", required=True, metavar="DIR", help="a fine-tuned token classifier")
    parser.add_argument("--output", required=True, metavar="DIR", help="where everything goes")
    parser.add_argument("--results-dir", metavar="DIR", help="also write DIR/<method>/<task>/<seed>.json")
    student = parser.add_argument_group("student")
    for name, of in (
        ("layers", "layers"),
        ("hidden-size", "width"),
        ("heads", "heads"),
        ("ffn-size", "inner width"),
    ):
        student.add_argument(f"--{name}", type=int, help=f"(default: the teacher's {of})")
    student.add_argument("--temperature", type=float, default=1.0, help="of the soft targets (default: 1)")
    student.add_argument("--soft-weight", type=float, default=1.0, help="of the soft targets (default: 1)")
    student.add_argument("--hard-weight", type=float, default=1.0, help="of the tags (default: 1)")
    student.add_argument("--max-length", type=int, default=128, help="tokens a sentence (default: 128)")
    add_seed_options(student)
    add_common_options(parser)
