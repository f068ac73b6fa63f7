"""The command line ``data-augment``: a file of texts in, a transfer set out."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_augment.errors import InputError
from data_augment.parsing import OneLineParser, check_arguments, describe_os_error, exit_code, report_error
from data_augment.rules import (
    CANDIDATES,
    DEFAULT_ITERATIONS,
    DEFAULT_PAIR_ITERATIONS,
    MaskRule,
    NgramRule,
    PosRule,
    ReplaceRule,
    Rule,
    check_whole_number,
)

if TYPE_CHECKING:
    from data_augment.candidates import CandidateSource
    from data_augment.transfer_set import TransferSetSummary

DESCRIPTION = """\
Build a transfer set: many unlabelled variants of your texts, for a teacher to label and a student to
learn from.

The method is that of Tang et al. 2019 (arXiv 1903.12136). For each variant of a text, every word draws one
random number; it decides whether the word
  becomes [MASK]                                   (--p-mask),
  becomes another word with the same part of speech  (--p-pos; frequent words are drawn more often),
  or stays. Then, with probability --p-ngram, only one random piece of 1 to --max-ngram words is kept.
In sentence pairs the variants change the first text, the second, both, and so on.
"""

EPILOG = """\
formats (by suffix, in and out):
  .csv      comma separated, quoted where needed
  .tsv      tab separated, never quoted: a quote is an ordinary character
  .jsonl    one JSON object a line
  .parquet  column types are kept

output:
  Every column of the input, plus id, source_id and rules. An original keeps its id (without an id column: its
  row number) and its label. Variant 3 of row 17 has id 17~3, source_id 17, rules such as "mask pos", and no
  label (the teacher labels it), nor any other column but its texts. Rows with the same words as another one are
  dropped; originals win. The file appears when it is complete. The same input and seed give the same bytes, whatever
  --num-workers.

examples:
  data-augment --input train.tsv --output transfer.parquet --text-column sentence
  data-augment --input pairs.csv --output transfer.jsonl --text-column question1 --text-pair-column question2
  data-augment --input train.tsv --output transfer.tsv --include-unlabelled more.txt --n-iter 8
  data-augment --input train.tsv --output transfer.parquet --method tinybert --mlm bert-base-uncased
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = OneLineParser(
        prog="data-augment",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    files = parser.add_argument_group("rows")
    files.add_argument("--input", required=True, metavar="FILE", help="the texts: csv, tsv, jsonl or parquet")
    files.add_argument(
        "--output", required=True, metavar="FILE", help="the transfer set, in any of these formats"
    )
    files.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    files.add_argument(
        "--text-column", default="sentence", metavar="NAME", help="column of the texts (%(default)s)"
    )
    files.add_argument(
        "--text-pair-column", metavar="NAME", help="column of the second texts, for sentence pairs"
    )
    files.add_argument(
        "--label-column",
        metavar="NAME",
        help="column where duplicates with conflicting labels are counted (label, if there is one)",
    )
    files.add_argument(
        "--include-unlabelled",
        metavar="FILE",
        help="more texts of the same kind, without labels, in the same column(s); for single texts also a "
        ".txt file with one text a line",
    )
    files.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="count and drop rows that are broken or have no text; otherwise the first one ends the run",
    )
    method = parser.add_argument_group("method (defaults from the paper)")
    method.add_argument(
        "--n-iter",
        type=int,
        metavar="N",
        help=f"variants made of each row ({DEFAULT_ITERATIONS}; pairs {DEFAULT_PAIR_ITERATIONS})",
    )
    method.add_argument(
        "--unlabelled-n-iter", type=int, metavar="N", help="the same for --include-unlabelled (as --n-iter)"
    )
    method.add_argument("--p-mask", type=float, default=MaskRule().p, metavar="P", help="(%(default)s)")
    method.add_argument("--p-pos", type=float, default=PosRule().p, metavar="P", help="(%(default)s)")
    method.add_argument("--p-ngram", type=float, default=NgramRule().p, metavar="P", help="(%(default)s)")
    method.add_argument("--max-ngram", type=int, default=NgramRule().max_n, metavar="N", help="(%(default)s)")
    method.add_argument(
        "--pos-tagger",
        choices=("auto", "nltk", "textblob"),
        default="auto",
        help="nltk: its perceptron, if downloaded; textblob: a lexicon, always there; auto: nltk if it can",
    )
    method.add_argument(
        "--method",
        choices=("tang", "tinybert"),
        default="tang",
        help="tang: the rules above; tinybert: word replacement instead (Jiao et al. 2019): each word that is no stop "
        "word becomes, with probability --p-replace, one of its --num-candidates candidates (%(default)s)",
    )
    method.add_argument("--p-replace", type=float, default=ReplaceRule().p, metavar="P", help="(%(default)s)")
    method.add_argument(
        "--num-candidates", type=int, default=CANDIDATES, metavar="K", help="candidates a word (%(default)s)"
    )
    method.add_argument(
        "--mlm",
        metavar="MODEL",
        help="masked language model that proposes candidates, folder or hub name (without one GloVe serves every word)",
    )
    method.add_argument(
        "--glove-file", metavar="FILE", help="GloVe vectors as text (default: the packaged 50-d ones)"
    )
    method.add_argument("--seed", type=int, default=0, metavar="N", help="(%(default)s)")
    method.add_argument(
        "--num-workers",
        type=int,
        default=1,
        metavar="N",
        help="processes that make variants; pays off from some 100,000 rows on (%(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 2 for wrong input (one line on stderr), 130 for Ctrl-C."""
    try:
        check_arguments(sys.argv[1:] if argv is None else argv)
    except InputError as error:
        report_error(error)
        return 2
    arguments = build_parser().parse_args(argv)
    # A terminated run cleans up its temporary files too.
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        summary = _run(arguments)
        print(format_summary(summary, arguments.output))
        if summary.warning:
            print(f"WARNING: {summary.warning}", file=sys.stderr)
    except InputError as error:
        report_error(error)
        return 2
    except OSError as error:
        report_error(f"{describe_os_error(error)}; no output was written")
        return exit_code(error)
    except MemoryError:
        report_error("there is no memory for this; no output was written. Run it again, with more memory")
        return 2
    except KeyboardInterrupt:
        print("interrupted; no output was written", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _run(arguments: argparse.Namespace) -> TransferSetSummary:
    from data_augment.transfer_set import write_transfer_set

    if arguments.unlabelled_n_iter is not None and arguments.include_unlabelled is None:
        raise InputError("--unlabelled-n-iter is given without --include-unlabelled; give both, or neither")
    rules, candidates = _choose_method(arguments)
    return write_transfer_set(
        arguments.input,
        arguments.output,
        text_column=arguments.text_column,
        text_pair_column=arguments.text_pair_column,
        label_column=arguments.label_column,
        rules=rules,
        n_iter=arguments.n_iter,
        seed=arguments.seed,
        num_workers=arguments.num_workers,
        pos_tagger=arguments.pos_tagger,
        candidates=candidates,
        unlabelled=arguments.include_unlabelled,
        unlabelled_n_iter=arguments.unlabelled_n_iter,
        skip_bad_rows=arguments.skip_bad_rows,
        overwrite=arguments.overwrite,
        show_progress=True,
    )


OPTIONS_OF = {
    "tang": ("p_mask", "p_pos", "p_ngram", "max_ngram", "pos_tagger"),
    "tinybert": ("p_replace", "num_candidates", "mlm", "glove_file"),
}


def _choose_method(arguments: argparse.Namespace) -> tuple[list[Rule], CandidateSource | None]:
    """The rules, and where the candidates of word replacement come from."""
    [other] = OPTIONS_OF.keys() - {arguments.method}
    parser = build_parser()
    for name in OPTIONS_OF[other]:
        if getattr(arguments, name) != parser.get_default(name):
            option = "--" + name.replace("_", "-")
            raise InputError(
                f"{option} belongs to --method {other}, and this is {arguments.method}; leave it out"
            )
    if arguments.method == "tang":
        rules = (
            MaskRule(arguments.p_mask),
            PosRule(arguments.p_pos),
            NgramRule(arguments.p_ngram, arguments.max_ngram),
        )
        return list(rules), None
    from data_augment.candidates import GloveCandidates
    from data_augment.glove import load_glove

    rule = ReplaceRule(arguments.p_replace)
    check_whole_number("num_candidates", arguments.num_candidates, at_least=1)
    glove = GloveCandidates(load_glove(arguments.glove_file), arguments.num_candidates)
    if arguments.mlm is None:
        return [rule], glove
    from data_augment.masked_lm import MaskedLMCandidates

    return [rule], MaskedLMCandidates.load(arguments.mlm, glove, arguments.num_candidates)


def format_summary(summary: TransferSetSummary, output: str) -> str:
    """The summary as the command prints it."""
    unlabelled = f" ({summary.unlabelled_rows_in:,} unlabelled)" if summary.unlabelled_rows_in else ""
    lines = [
        ("rows in", f"{summary.rows_in:,}{unlabelled}; {summary.skipped_rows:,} bad rows skipped"),
        (
            "duplicate originals",
            f"{summary.duplicate_originals:,} dropped; {summary.conflicting_labels:,} had another label",
        ),
        (
            "variants made",
            f"{summary.copies_drawn:,}; {summary.duplicate_copies:,} unchanged or duplicate, dropped",
        ),
        ("rows out", f"{summary.rows_out:,} = {summary.originals:,} originals + {summary.copies:,} variants"),
        (
            "rules fired",
            ", ".join(f"{name} in {count:,}" for name, count in summary.rules.items()) + " variants",
        ),
        ("candidates", summary.candidates) if summary.candidates else ("tagger", summary.tagger),
        ("time", f"{summary.seconds:.1f} s"),
        ("output", output),
    ]
    return "\n".join(f"{name + ':':<21}{value}" for name, value in lines)
