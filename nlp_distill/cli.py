"""The ``nlp-distill`` command line: what can be asked for. What is done about it is in ``commands/``.

Nothing heavy is imported here, so that ``--help`` answers at once.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module, metadata

from data_augment.errors import InputError
from data_augment.parsing import (
    OneLineParser,
    check_arguments,
    describe_failed_write,
    describe_os_error,
    exit_code,
    report_error,
    suggest_option,
)
from nlp_distill.memory import lacks_memory
from nlp_distill.options import (
    add_bam_options,
    add_benchmark_options,
    add_common_options,
    add_compress_options,
    add_data_options,
    add_distillation_options,
    add_export_options,
    add_finetune_options,
    add_fit_options,
    add_general_options,
    add_hand_over_options,
    add_hub_options,
    add_invert_options,
    add_mt_dnn_options,
    add_record_options,
    add_sentence_options,
    add_serve_options,
    add_spacy_options,
    add_suite_options,
    add_tagger_options,
    add_teacher_options,
    add_tinybert_options,
    add_trust_option,
)
from nlp_distill.processes import is_main_process

DESCRIPTION = """\
Distil a fine-tuned BERT into a student ten to a hundred times cheaper, with the evidence.

  nlp-distill demo                  the whole job on packaged data: teacher, transfer set, students, table
  nlp-distill finetune              make a teacher: fine-tune a pre-trained encoder on a task
  nlp-distill finetune-tagger       make a tagger: fine-tune a pre-trained encoder on words and their tags
  nlp-distill label                 run teachers over a data set once and keep their logits
  nlp-distill distill bilstm        BERT -> BiLSTM (Tang et al. 2019), with and without the teacher
  nlp-distill distill cnn           BERT -> CNN (Kim 2014) in the same way
  nlp-distill distill general       a small encoder from a pre-trained one on plain text (TinyBERT, stage 1)
  nlp-distill distill tinybert      BERT -> a smaller BERT (TinyBERT, stage 2)
  nlp-distill distill mt-dnn        an ensemble of multi-task models -> one (MT-DNN)
  nlp-distill distill bam           teachers of single tasks -> one multi-task model (BAM)
  nlp-distill distill tagger        a fine-tuned tagger (NER, parts of speech) -> a smaller one
  nlp-distill distill spacy         BERT -> a spaCy text classifier, with and without the teacher
  nlp-distill record                what the teacher makes of training rows that cannot be kept (Lopes et al. 2017)
  nlp-distill invert                texts for a student, from a teacher and that record alone
  nlp-distill hand-over             a labelled transfer set for spaCy, fastText or scikit-learn
  nlp-distill fit                   a student for a budget: measure shapes, distil the first that can do it
  nlp-distill compress              a student made smaller, step by step, with what each step costs
  nlp-distill export                a student as one file that runs without torch
  nlp-distill serve                 try a student and its teacher in a browser, or from a program
  nlp-distill benchmark             latency, throughput, size and memory of models, side by side
  nlp-distill report                a page about a run: scores, price, curves, disagreements
  nlp-distill evaluate              score saved models on a task's test split

`data-augment --help` explains how transfer sets are made.
"""

TRAINING_EPILOG = """\
Any field of transformers.TrainingArguments can be given by its usual name, with - or _:
  --learning-rate 3e-5 --num-train-epochs 4 --per-device-train-batch-size 64 --bf16
  --report-to tensorboard (or wandb, trackio, ...; nothing is reported by default)
Training runs in fp32 unless you ask for --bf16 or --fp16.
"""


TINYBERT_EPILOG = (
    TRAINING_EPILOG
    + """\
They hold for both stages and the baselines, but learning rate, epochs, schedule and evaluation for the
prediction stage and the baselines alone; --intermediate-learning-rate and --intermediate-epochs are the other's.
"""
)

FIT_EPILOG = (
    TRAINING_EPILOG
    + """\
They hold for every student, but learning rate, epochs, schedule and evaluation not for the intermediate stage of
transformers. Defaults: 6 epochs at 2e-3 for a BiLSTM or CNN, 3 at 2e-4 (up to 128 wide 1e-3) for a transformer, twice
as many for the same student without the teacher; one augmented copy a labelled row.

Candidates within latency and size are distilled slowest first, until one loses at most --max-drop. Exit code 2: none
does; the report is written, and the message names the nearest. What was made is reused with any other budget; to
measure times again, remove OUTPUT/measured.
"""
)

COMPRESS_EPILOG = (
    TRAINING_EPILOG
    + """\
They hold for each step that distils further: all but trimming and int8. Its rows are train and the unlabelled rows,
and --n-iter copies of each (default here: 0).
"""
)


OF_PARSER = ("command", "module", "prog", "takes_training_arguments")  # what a command knows of itself


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (2 for wrong input)."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        check_arguments(given)
    except InputError as error:
        report_error(error)
        return 2
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if options.version:
        print(f"nlp-distill {metadata.version('nlp_distill')}")
        return 0
    if not hasattr(options, "command"):
        if rest:
            parser.error(f"unknown option {rest[0]}")
        parser.print_help()
        return 0
    known = [f"--{name.replace('_', '-')}" for name in vars(options) if name not in OF_PARSER]
    if rest and not options.takes_training_arguments:
        report_error(f"unknown option {rest[0]}{suggest_option(rest[0], known)}; see {options.prog} --help")
        return 2
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        from nlp_distill.commands.inputs import parse_training_arguments, quiet_libraries
        from nlp_distill.commands.push import read_target
        from nlp_distill.processes import leave_processes, stop_on_sigterm
        from nlp_distill.results import describe_command

        options.training = parse_training_arguments(rest, known, options.prog)
        if options.training.get("use_cpu"):  # of teachers as well, which no Trainer moves
            os.environ["ACCELERATE_USE_CPU"] = "true"
        options.command_line = describe_command(given)
        quiet_libraries()
        stop_on_sigterm()
        options.hub = read_target(options) if hasattr(options, "push_to_hub") else None
        import_module(f"nlp_distill.commands.{options.module}").run(options)
        leave_processes()
    except InputError as error:
        report_error(error)
        return 2
    except OSError as error:
        report_error(describe_os_error(error))
        return exit_code(error)
    except FloatingPointError as error:  # training diverged: no wrong input that could have been seen before
        report_error(error)
        return 1
    except Exception as error:
        if lacks_memory(error):
            report_error(
                "there is no memory for this; what was finished before is kept. The same command goes on once there is "
                "more; or give smaller batches, a smaller --max-length or a smaller model"
            )
            return 2
        failed_write = describe_failed_write(error)
        if failed_write is None:
            raise
        report_error(f"{failed_write}; what was finished before is kept")
        return 1
    except KeyboardInterrupt as stopped:
        if is_main_process():
            print("stopped; run the same command again to continue where it left off", file=sys.stderr)
        return 128 + getattr(stopped, "number", signal.SIGINT)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    style = argparse.RawDescriptionHelpFormatter
    parser = OneLineParser("nlp-distill", description=DESCRIPTION, formatter_class=style, allow_abbrev=False)
    parser.add_argument("--version", action="store_true", help="print the package's version and stop")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    demo = _add(
        commands,
        "demo",
        "the whole job end to end; by default on packaged data, without a hub",
        True,
    )
    add_data_options(demo)
    add_distillation_options(demo)
    demo.add_argument(
        "--teacher", default="packaged", help="pre-trained encoder: 'packaged', a folder or a hub name"
    )
    demo.add_argument(
        "--output", default="runs/demo", metavar="DIR", help="where everything goes (default: %(default)s)"
    )
    demo.add_argument(
        "--full", action="store_true", help="use all rows and more epochs: better, and much slower"
    )

    finetune = _add(commands, "finetune", "fine-tune a pre-trained encoder on a task", True)
    add_data_options(finetune)
    add_finetune_options(finetune)

    finetune_tagger = _add(
        commands,
        "finetune-tagger",
        "fine-tune a pre-trained encoder to tag words (NER, parts of speech)",
        True,
    )
    add_sentence_options(finetune_tagger, takes_raw_text=False)
    add_finetune_options(finetune_tagger)

    label = _add(commands, "label", "run teachers over a data set once and keep their logits", False)
    label.add_argument(
        "--teacher", required=True, nargs="+", metavar="DIR", help="fine-tuned model(s): folder or hub name"
    )
    label.add_argument("--teacher-task", metavar="NAME", help="of multi-task teachers: the task to take")
    label.add_argument(
        "--input", required=True, metavar="FILE", help="rows with an id column, as data-augment writes them"
    )
    label.add_argument(
        "--output", required=True, metavar="FILE", help="a .parquet file: the rows and teacher_logits"
    )
    label.add_argument("--text-column", required=True)
    label.add_argument("--text-pair-column")
    label.add_argument("--max-length", type=int, default=128, help="tokens a row (default: %(default)s)")
    label.add_argument(
        "--skip-bad-rows", action="store_true", help="drop and count bad rows instead of stopping"
    )
    add_common_options(label)

    distill = commands.add_parser(
        "distill", help="train a student from a fine-tuned teacher", allow_abbrev=False
    )
    methods = distill.add_subparsers(title="methods", metavar="METHOD", required=True)
    for kind, text in (
        ("bilstm", "BERT -> BiLSTM by logit regression (Tang et al. 2019)"),
        ("cnn", "BERT -> CNN (Kim 2014) by logit regression (Tang et al. 2019)"),
    ):
        student = _add(methods, kind, text, True)
        add_data_options(student)
        add_distillation_options(student, kind)
        add_teacher_options(student)
        student.add_argument("--output", required=True, metavar="DIR", help="where everything goes")

    add_general_options(
        _add(
            methods,
            "general",
            "a small encoder from a pre-trained one, on plain text (TinyBERT's stage 1, MiniLM, DistilBERT)",
            True,
        )
    )

    tinybert = _add(
        methods,
        "tinybert",
        "BERT -> a smaller BERT, layers first and predictions second (TinyBERT's stage 2)",
        True,
        epilog=TINYBERT_EPILOG,
    )
    add_data_options(tinybert)
    add_tinybert_options(tinybert)

    mt_dnn = _add(
        methods, "mt-dnn", "an ensemble of multi-task models -> one of them (MT-DNN, Liu et al. 2019)", True
    )
    add_suite_options(mt_dnn)
    add_mt_dnn_options(mt_dnn)

    bam = _add(
        methods, "bam", "teachers of single tasks -> one multi-task model (BAM, Clark et al. 2019)", True
    )
    add_suite_options(bam)
    add_bam_options(bam)

    spacy = _add(methods, "spacy", "BERT -> a spaCy text classifier, by the teacher's probabilities", False)
    add_data_options(spacy)
    add_spacy_options(spacy)
    add_hub_options(spacy)

    tagger = _add(methods, "tagger", "a fine-tuned tagger (NER, ...) -> a smaller one of its kind", True)
    add_tagger_options(tagger)

    hand_over = _add(
        commands, "hand-over", "a labelled transfer set for spaCy, fastText or scikit-learn", False
    )
    add_hand_over_options(hand_over)

    record = _add(
        commands, "record", "what a teacher makes of training rows, to distil it later without them", False
    )
    add_record_options(record)

    invert = _add(commands, "invert", "texts for a student, from a teacher and its record", False)
    add_invert_options(invert)

    fit = _add(
        commands, "fit", "a student for a budget of time, size and score", True, FIT_EPILOG, uploads=False
    )
    add_data_options(fit)
    add_fit_options(fit)

    compress = _add(
        commands,
        "compress",
        "make a student smaller: vocabulary, embeddings, heads, units, weights, int8",
        True,
        COMPRESS_EPILOG,
        uploads=False,
    )
    add_data_options(compress)
    add_compress_options(compress)

    export = _add(commands, "export", "a student as one file that runs without torch", False)
    add_export_options(export)

    serve = _add(commands, "serve", "a student, and its teacher beside it, as a small web service", False)
    add_serve_options(serve)

    benchmark = _add(commands, "benchmark", "latency, throughput, size and memory of models", False)
    add_benchmark_options(benchmark)

    report = _add(commands, "report", "a page about a run, or several of one task", False)
    report.add_argument("runs", nargs="+", metavar="RUN", help="--output folders of distill or finetune")
    report.add_argument(
        "--output", metavar="DIR", help="where report.html and report.md go (default: the first run)"
    )
    add_data_options(report)

    evaluate = _add(commands, "evaluate", "score saved models on a task's test split", False)
    add_data_options(evaluate)
    evaluate.add_argument(
        "--model", required=True, nargs="+", metavar="DIR", help="saved models; the first is the reference"
    )
    evaluate.add_argument(
        "--model-task", metavar="NAME", help="of multi-task models: the task to take (default: --task)"
    )
    evaluate.add_argument("--max-length", type=int, default=128, help="tokens a row (default: %(default)s)")
    evaluate.add_argument("--json", metavar="FILE", help="also write the scores there, and what they are of")
    add_trust_option(evaluate)
    return parser


def _add(
    commands,
    name: str,
    text: str,
    takes_training_arguments: bool,
    epilog: str = TRAINING_EPILOG,
    uploads: bool = True,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=epilog if takes_training_arguments else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if takes_training_arguments and uploads:
        add_hub_options(parser)
    of_command = (name, name.replace("-", "_"), parser.prog, takes_training_arguments)
    parser.set_defaults(**dict(zip(OF_PARSER, of_command, strict=True)))
    return parser


if __name__ == "__main__":
    sys.exit(main())
