"""Options that several commands share: data, teacher, transfer set, seeds, baselines, the hub."""

import argparse


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Where the rows of a task come from."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--task",
        help="a GLUE task (sst2, mrpc, ...), 'tweets' (packaged; the default), or a name for your own files",
    )
    data.add_argument(
        "--data-dir",
        metavar="DIR",
        help="a classic GLUE folder (SST-2/train.tsv, ...); without it GLUE comes from the hub",
    )
    data.add_argument(
        "--train-file",
        metavar="FILE",
        help="your own rows: csv, tsv, jsonl, parquet, or a saved datasets folder",
    )
    data.add_argument(
        "--validation-file", metavar="FILE", help="rows to select checkpoints on (default: a slice of train)"
    )
    data.add_argument(
        "--test-file", metavar="FILE", help="rows to report on (default: another slice of train)"
    )
    data.add_argument(
        "--unlabelled-file", metavar="FILE", help="in-domain rows without labels, for the transfer set"
    )
    data.add_argument("--text-column", metavar="NAME")
    data.add_argument("--text-pair-column", metavar="NAME")
    data.add_argument("--label-column", metavar="NAME")
    data.add_argument(
        "--labels",
        nargs="+",
        metavar="NAME",
        help="of your own files: all classes, in order (default: those of train), where train may lack one",
    )
    data.add_argument(
        "--select-on",
        choices=["train", "dev"],
        default="train",
        help="select on a held-out slice of train, or on the reported rows as the papers do (the result says so)",
    )
    data.add_argument(
        "--skip-bad-rows", action="store_true", help="drop and count bad rows instead of stopping"
    )


def add_teacher_options(parser: argparse.ArgumentParser) -> None:
    """The teacher of a student of one task."""
    parser.add_argument(
        "--teacher",
        required=True,
        metavar="DIR",
        help="a model fine-tuned on the task, or a multi-task model",
    )
    parser.add_argument(
        "--teacher-task", metavar="NAME", help="of a multi-task teacher: the task to take (default: --task)"
    )


def add_transfer_options(parser: argparse.ArgumentParser) -> None:
    """The transfer set by masks, parts of speech and n-grams."""
    transfer = parser.add_argument_group("transfer set")
    transfer.add_argument("--n-iter", type=int, help="augmented copies per row (paper: 20, pairs 10)")
    transfer.add_argument("--p-mask", type=float)
    transfer.add_argument("--p-pos", type=float)
    transfer.add_argument("--p-ngram", type=float)
    transfer.add_argument("--max-ngram", type=int)
    transfer.add_argument("--unlabelled-n-iter", type=int, help="augmented copies per unlabelled row")
    transfer.add_argument("--pos-tagger", choices=["auto", "nltk", "textblob"])
    transfer.add_argument("--num-workers", type=int)


def add_seed_options(student) -> None:
    """Seeds, and the rates of the students without the teacher."""
    student.add_argument(
        "--seeds", type=int, nargs="+", metavar="N", help="one student per seed (default: 0)"
    )
    student.add_argument(
        "--baseline-learning-rates",
        type=float,
        nargs="+",
        metavar="LR",
        help="rates to try for the student without the teacher; the best on validation is taken",
    )
    student.add_argument(
        "--no-baseline", action="store_true", help="skip the same student trained without the teacher"
    )


def add_baseline_options(student) -> None:
    """Seeds, and the students without the teacher."""
    student.add_argument(
        "--baseline-epochs",
        type=float,
        metavar="N",
        help="epochs of the student without the teacher (default: as many); fewer rows may want more of them",
    )
    add_seed_options(student)


def add_hub_options(parser: argparse.ArgumentParser) -> None:
    """Of every command that trains a model; spelt as TrainingArguments has them."""
    hub = parser.add_argument_group("hub")
    hub.add_argument(
        "--push-to-hub",
        "--push_to_hub",
        nargs="?",
        const="",
        metavar="REPO",
        help="upload the finished model and its card, once, when the run is done; of several seeds the best on "
        "validation (default REPO: the name of the output folder)",
    )
    hub.add_argument("--hub-model-id", "--hub_model_id", metavar="REPO", help="the same as REPO")
    hub.add_argument(
        "--hub-private-repo", "--hub_private_repo", action="store_true", help="a new repository is private"
    )


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """What every command that writes has."""
    parser.add_argument("--overwrite", action="store_true", help="replace what was made with other settings")
    add_trust_option(parser)


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """Whether code of others is run."""
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run code that comes with a hub model (off: it is refused)",
    )
