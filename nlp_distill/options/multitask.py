"""Options of ``distill mt-dnn`` and ``distill bam``."""

import argparse

from nlp_distill.options.shared import add_common_options


def add_suite_options(parser: argparse.ArgumentParser) -> None:
    """What the multi-task methods share."""
    data = parser.add_argument_group("data")
    data.add_argument("--tasks", nargs="+", metavar="TASK", help="GLUE tasks (cola, mrpc, ...) and 'tweets'")
    data.add_argument(
        "--suite",
        metavar="FILE",
        help="tasks of your own, in TOML: a table [NAME] a task, with train_file, text_column and, as on the command "
        "line of one task, text_pair_column, label_column, validation_file, test_file",
    )
    data.add_argument(
        "--data-dir", metavar="DIR", help="a classic GLUE folder; without it GLUE comes from the hub"
    )
    data.add_argument("--select-on", choices=["train", "dev"], default="train", help="as in finetune")
    data.add_argument(
        "--skip-bad-rows", action="store_true", help="drop and count bad rows instead of stopping"
    )
    parser.add_argument(
        "--encoder",
        default="packaged",
        help="pre-trained encoder of all models: 'packaged', a folder or a hub name (default: packaged)",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="where everything goes")
    parser.add_argument("--max-length", type=int, default=128, help="tokens a row (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="one student per seed (default: 0)")
    parser.add_argument(
        "--teachers",
        nargs="+",
        metavar="TASK=DIR",
        help="teachers that are there already: folders or hub names; a task again for another teacher of it",
    )
    parser.add_argument("--results-dir", metavar="DIR", help="also write DIR/<method>/<task>/<seed>.json")
    add_common_options(parser)


def add_mt_dnn_options(parser: argparse.ArgumentParser) -> None:
    """Of ``distill mt-dnn``."""
    teachers = parser.add_argument_group("teachers")
    teachers.add_argument("--num-teachers", type=int, metavar="K", help="models to train (default: 3)")
    teachers.add_argument(
        "--keep", type=int, metavar="K", help="how many of them teach, the best on validation (default: 3)"
    )
    teachers.add_argument(
        "--dropouts",
        type=float,
        nargs="+",
        metavar="P",
        help="of the encoder, in turn (default: 0.1 0.2 0.3)",
    )
    teachers.add_argument(
        "--no-fine-tuning", action="store_true", help="do not train the kept ones further on each task"
    )
    teachers.add_argument(
        "--teacher-tasks", nargs="+", metavar="TASK", help="tasks with soft targets (default: all)"
    )
    teachers.add_argument(
        "--average", choices=["probabilities", "logits"], default="probabilities", help="of the teachers"
    )
    parser.add_argument("--san", nargs="+", metavar="TASK", help="pair tasks with a SAN head (default: none)")


def add_bam_options(parser: argparse.ArgumentParser) -> None:
    """Of ``distill bam``."""
    parser.add_argument(
        "--combination",
        choices=["single", "multi", "single-single", "multi-multi", "single-multi"],
        default="single-multi",
        help="teachers-students; without teachers students learn from labels (default: %(default)s)",
    )
    parser.add_argument("--no-annealing", action="store_true", help="learn the teacher's targets to the end")
    parser.add_argument(
        "--layerwise-decay", type=float, metavar="D", help="of the learning rate (default: 0.9; 1: one rate)"
    )
    parser.add_argument(
        "--sampling-exponent", type=float, metavar="X", help="tasks are drawn by rows^X (default: 0.75)"
    )
    parser.add_argument(
        "--doubled", nargs="*", metavar="TASK", help="learnt in both orders of a pair (default: mrpc stsb)"
    )
    parser.add_argument("--single-epochs", type=float, metavar="N", help="of models of one task (default: 3)")
    parser.add_argument("--single-learning-rate", type=float, metavar="LR", help="(default: 5e-5)")
