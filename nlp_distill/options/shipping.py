"""Options of what comes after a training: ``fit``, ``compress``, ``export``, ``benchmark``, ``serve``, hand-over."""

import argparse

from nlp_distill.options.shared import (
    add_common_options,
    add_teacher_options,
    add_transfer_options,
    add_trust_option,
)


def add_fit_options(parser: argparse.ArgumentParser) -> None:
    """Of ``fit``."""
    add_teacher_options(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="where everything goes")
    budget = parser.add_argument_group("budget")
    budget.add_argument(
        "--latency-ms", type=float, required=True, metavar="MS", help="median time of an answer, at most"
    )
    budget.add_argument(
        "--max-drop",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="what the student may lose to the teacher on validation, in hundredths of the score "
        "(default: %(default)s)",
    )
    budget.add_argument("--max-mb", type=float, metavar="MB", help="size of its weights, at most")
    measured = parser.add_argument_group("how time is measured")
    measured.add_argument(
        "--runtime",
        choices=["onnx-int8", "onnx", "torch"],
        default="onnx-int8",
        help="what the student ships in; scores are of that form too (default: %(default)s)",
    )
    measured.add_argument(
        "--tokens", type=int, default=24, metavar="N", help="length of the text (default: %(default)s)"
    )
    measured.add_argument("--threads", type=int, default=1, metavar="N", help="(default: %(default)s)")
    measured.add_argument(
        "--repeats", type=int, default=100, metavar="N", help="answers of each model (default: %(default)s)"
    )
    student = parser.add_argument_group("candidates")
    student.add_argument(
        "--shapes",
        nargs="+",
        metavar="SHAPE",
        help="LAYERSxWIDTH, LAYERSxWIDTH:HEADS:FFN, bilstm:UNITS, bilstm:UNITS:EMBEDDING, cnn:FILTERS or "
        "cnn:FILTERS:EMBEDDING "
        "(default: those of bilstm:64 bilstm:150 2x128 3x312 4x312 that the teacher can teach)",
    )
    student.add_argument(
        "--general",
        nargs="+",
        metavar="DIR",
        help="general students (distill general), each a candidate in its own shape; others are cut from the teacher",
    )
    student.add_argument(
        "--max-candidates", type=int, metavar="N", help="how many are distilled at most (default: 3)"
    )
    student.add_argument(
        "--intermediate-epochs",
        type=float,
        metavar="N",
        help="of the intermediate stage of transformers (default: 2)",
    )
    student.add_argument(
        "--intermediate-learning-rate", type=float, metavar="LR", help="(default: 3e-4; up to 128 wide 1e-3)"
    )
    student.add_argument("--seed", type=int, help="of every student (default: 0)")
    student.add_argument("--max-length", type=int, help="tokens a row (default: 128)")
    add_transfer_options(parser)
    add_common_options(parser)


def add_compress_options(parser: argparse.ArgumentParser) -> None:
    """Of ``compress``."""
    parser.add_argument("student", metavar="STUDENT", help="folder of a saved student, or a hub name")
    add_teacher_options(parser)
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="a folder a step, and the last model in DIR/model"
    )
    steps = parser.add_argument_group("steps, in this order")
    steps.add_argument(
        "--trim-vocabulary",
        action="store_true",
        help="keep the word pieces that train and unlabelled rows use, special tokens and single characters",
    )
    steps.add_argument("--corpus", metavar="FILE", help="a text a line: its word pieces stay too")
    steps.add_argument(
        "--factorise-embeddings",
        type=int,
        metavar="RANK",
        help="word embeddings of RANK numbers and a projection (truncated SVD)",
    )
    steps.add_argument(
        "--prune-heads",
        metavar="N|FRACTION",
        help="attention heads to take out of each layer: a whole number, or a share such as 0.5",
    )
    steps.add_argument(
        "--prune-ffn",
        type=float,
        metavar="FRACTION",
        help="share of the feed-forward units to take out of each layer",
    )
    steps.add_argument(
        "--prune-magnitude",
        type=float,
        metavar="FRACTION",
        help="share of each matrix's weights to set to zero while distilling",
    )
    steps.add_argument(
        "--quantize",
        default="none",
        choices=["none", "int8-dynamic"],
        help="export the last model to DIR/exported with int8 weights (default: %(default)s)",
    )
    parser.add_argument(
        "--max-length", type=int, help="tokens a row (default: 128, or what both models have positions for)"
    )
    parser.add_argument("--seed", type=int, default=0)
    add_transfer_options(parser)
    add_common_options(parser)


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Of ``export``."""
    parser.add_argument("student", metavar="STUDENT", help="folder of a saved model, or a hub name")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the files go")
    parser.add_argument(
        "--format", default="onnx", choices=["onnx", "exported-program"], help="(default: %(default)s)"
    )
    parser.add_argument(
        "--quantize",
        default="none",
        choices=["none", "int8-dynamic", "int8-static"],
        help="int8 weights, and with int8-static int8 activations (default: %(default)s)",
    )
    parser.add_argument("--task", help="of a multi-task model: the task to export")
    parser.add_argument(
        "--max-length", type=int, help="tokens a row (default: 128, or what the model has positions for)"
    )
    parser.add_argument("--opset", type=int, default=20, help="of ONNX (default: %(default)s)")
    parser.add_argument(
        "--sample-file",
        metavar="FILE",
        help="rows that the exported model is compared on, and, for int8, others calibrated on",
    )
    parser.add_argument("--text-column", metavar="NAME")
    parser.add_argument("--text-pair-column", metavar="NAME")
    parser.add_argument("--skip-bad-rows", action="store_true", help="pass over bad rows instead of stopping")
    add_common_options(parser)


def add_benchmark_options(parser: argparse.ArgumentParser) -> None:
    """Of ``benchmark``."""
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="saved or exported models; ratios are to the first"
    )
    parser.add_argument("--task", metavar="NAME", help="of multi-task models: the task that is answered")
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=[24, 128], metavar="N", help="tokens (default: 24 128)"
    )
    parser.add_argument(
        "--threads", type=int, nargs="+", metavar="N", help="numbers of threads (default: 1 and all)"
    )
    parser.add_argument(
        "--repeats", type=int, default=100, metavar="N", help="answers a latency (default: 100)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.5,
        help="for each batch size of the throughput; 0: none (default: 0.5)",
    )
    parser.add_argument("--pairs", action="store_true", help="the models compare two texts")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """Of ``serve``."""
    parser.add_argument(
        "student", metavar="STUDENT", help="exported model; a saved one (or a hub name) is exported first"
    )
    parser.add_argument("--teacher", metavar="MODEL", help="another, to answer beside the student")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: %(default)s, this machine alone)"
    )
    parser.add_argument("--port", type=int, default=8000, help="0: any free one (default: %(default)s)")
    parser.add_argument(
        "--max-batch",
        type=int,
        default=32,
        metavar="N",
        help="texts a request, and texts of several requests answered together (default: %(default)s)",
    )
    parser.add_argument(
        "--max-text-chars", type=int, default=10_000, metavar="N", help="of a text (default: %(default)s)"
    )
    parser.add_argument(
        "--max-request-bytes", type=int, default=2**20, metavar="N", help="of a body (default: %(default)s)"
    )
    parser.add_argument(
        "--max-wait-ms",
        type=float,
        default=0.0,
        metavar="MS",
        help="that a request waits for others when the models are idle (default: 0; what arrives while they are "
        "busy is answered together anyway)",
    )
    add_trust_option(parser)


def add_hand_over_options(parser: argparse.ArgumentParser) -> None:
    """Of ``hand-over``."""
    parser.add_argument("labelled", metavar="LABELLED", help="a file that `nlp-distill label` wrote")
    parser.add_argument(
        "--format",
        required=True,
        choices=["spacy", "fasttext", "sklearn"],
        help="spacy: documents with the teacher's probabilities as cats; fasttext: lines of label and text; "
        "sklearn: texts, probabilities and weights as .npz",
    )
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="ends in .spacy, .txt (fasttext) or .npz (sklearn)"
    )
    parser.add_argument("--text-column", metavar="NAME", help="where the file does not say what was read")
    parser.add_argument("--text-pair-column", metavar="NAME")
    parser.add_argument(
        "--labels",
        nargs="+",
        metavar="NAME",
        help="the classes (default: the teacher's); names for LABEL_0 ...",
    )
    parser.add_argument(
        "--targets",
        choices=["probabilities", "likeliest", "drawn"],
        help="the teacher's probabilities (default; not for fasttext), or one label a row: the likeliest (fasttext's "
        "default) or one drawn from them",
    )
    parser.add_argument("--seed", type=int, help="of drawn labels (default: 0)")
    parser.add_argument("--language", help="spacy: whose tokens the documents have (default: en)")
    parser.add_argument(
        "--skip-bad-rows", action="store_true", help="drop and count rows that the format cannot hold"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")
