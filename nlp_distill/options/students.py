"""Options of ``finetune`` and of the commands that distil one task into a student."""

import argparse

from nlp_distill.options.shared import (
    add_baseline_options,
    add_common_options,
    add_teacher_options,
    add_transfer_options,
)


def add_finetune_options(parser: argparse.ArgumentParser) -> None:
    """Of ``finetune`` and ``finetune-tagger``."""
    parser.add_argument(
        "--model", default="packaged", help="'packaged', a folder or a hub name (default: packaged)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="where the model goes")
    parser.add_argument("--max-length", type=int, default=128, help="tokens a row (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--learning-rates",
        type=float,
        nargs="+",
        metavar="LR",
        help="rates to try, each in DIR-lr<rate>; the best on validation goes to DIR",
    )
    parser.add_argument(
        "--results-dir",
        metavar="DIR",
        help="also score the test split and write DIR/teacher/<task>/<seed>.json",
    )
    add_common_options(parser)


def add_distillation_options(parser: argparse.ArgumentParser, student_kind: str = "bilstm") -> None:
    """Of ``distill bilstm``, ``distill cnn`` and ``demo``."""
    student = parser.add_argument_group("student")
    add_sizes = {"bilstm": add_bilstm_sizes, "cnn": add_cnn_sizes}[student_kind]
    student.add_argument(
        "--embeddings",
        choices=["teacher", "glove", "random"],
        help="what the student's word vectors start from",
    )
    student.add_argument(
        "--glove-file", metavar="FILE", help="GloVe vectors as text (default: the packaged 50-d ones)"
    )
    student.add_argument("--embedding-size", type=int)
    student.add_argument(
        "--vocabulary-size",
        type=int,
        help="keep only so many word pieces; embeddings are most of a small student",
    )
    add_sizes(student)
    student.add_argument("--embedding-channels", type=int, choices=[1, 2], help="2: one frozen and one tuned")
    student.add_argument("--dropout", type=float)
    student.add_argument(
        "--hard-weight", type=float, help="alpha of alpha * CE + (1 - alpha) * MSE (paper's best: 0)"
    )
    student.add_argument(
        "--optimizer",
        choices=["adadelta", "adamw"],
        help="adadelta (rate 1.0, rho 0.95) in the paper; adamw has rate 2e-3 unless --learning-rate is given",
    )
    add_baseline_options(student)
    student.add_argument("--max-length", type=int, help="tokens a row")
    add_transfer_options(parser)
    parser.add_argument("--results-dir", metavar="DIR", help="also write DIR/<method>/<task>/<seed>.json")
    add_common_options(parser)


def add_bilstm_sizes(student) -> None:
    """The layers of a BiLSTM."""
    student.add_argument(
        "--hidden-size",
        type=int,
        help="LSTM units per direction: 150 (head 200) or 300 (head 400) in the paper",
    )
    student.add_argument("--head-size", type=int)


def add_cnn_sizes(student) -> None:
    """The layers of a CNN."""
    student.add_argument("--filters", type=int, help="filters of each width (default: the paper's 100)")
    student.add_argument(
        "--widths", type=int, nargs="+", metavar="N", help="words a window (default: the paper's 3 4 5)"
    )


def add_spacy_options(parser: argparse.ArgumentParser) -> None:
    """Of ``distill spacy``."""
    parser.add_argument("--teacher", required=True, metavar="DIR", help="a model fine-tuned on the task")
    parser.add_argument("--output", required=True, metavar="DIR", help="where everything goes")
    student = parser.add_argument_group("student")
    student.add_argument(
        "--architecture",
        choices=["ensemble", "bow"],
        help="spaCy's text classifier: a small CNN and a bag of words together (the default), or the latter alone",
    )
    student.add_argument(
        "--ngram-size",
        type=int,
        metavar="N",
        help="tokens of the longest n-gram that --architecture bow counts (default: 1)",
    )
    student.add_argument("--language", help="whose tokens spaCy reads (default: en)")
    student.add_argument(
        "--epochs", type=int, metavar="N", help="the best on validation counts (default: 10)"
    )
    student.add_argument("--batch-size", type=int, metavar="N", help="rows a step (default: 64)")
    student.add_argument("--learning-rate", type=float, metavar="LR", help="of Adam (default: 0.001)")
    student.add_argument("--dropout", type=float, help="(default: 0.1)")
    add_baseline_options(student)
    student.add_argument("--max-length", type=int, help="tokens a row that the teacher reads (default: 128)")
    add_transfer_options(parser)
    parser.add_argument("--results-dir", metavar="DIR", help="also write DIR/<method>/<task>/<seed>.json")
    add_common_options(parser)


def add_general_options(parser: argparse.ArgumentParser) -> None:
    """Of ``distill general``."""
    parser.add_argument(
        "--text", required=True, nargs="+", metavar="FILE", help="UTF-8 text, a sentence or paragraph a line"
    )
    parser.add_argument(
        "--teacher", default="packaged", help="pre-trained encoder: 'packaged', a folder or a hub name"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the student goes to DIR/student")
    parser.add_argument(
        "--objective",
        choices=["tinybert", "minilm", "minilm-v2", "distilbert"],
        default="tinybert",
        help="attention, hidden states and embeddings of matched layers; the last layer's attention and value "
        "relations; the relations of MiniLMv2 (any head counts); soft targets, masked words and cosine "
        "(needs a teacher with a masked-language-model head) (default: %(default)s)",
    )
    add_shape_options(parser)
    parser.add_argument("--random-start", action="store_true", help="start the student from random weights")
    parser.add_argument("--max-length", type=int, default=128, help="tokens a block (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    add_common_options(parser)


def add_shape_options(parser) -> None:
    """The size of a transformer student."""
    parser.add_argument("--layers", type=int, help="(default: 3)")
    parser.add_argument("--hidden-size", type=int, help="(default: 312)")
    parser.add_argument("--heads", type=int, help="(default: 12)")
    parser.add_argument("--ffn-size", type=int, help="(default: 1200)")
    parser.add_argument(
        "--relation-heads",
        type=int,
        metavar="N",
        help="compare query, key and value relations of N relation heads: where head counts differ",
    )


def add_tinybert_options(parser: argparse.ArgumentParser) -> None:
    """Of ``distill tinybert``."""
    add_teacher_options(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="where everything goes")
    student = parser.add_argument_group("student")
    student.add_argument(
        "--general",
        metavar="DIR",
        help="a general student (distill general); without one the student is cut from the teacher",
    )
    add_shape_options(student)
    student.add_argument(
        "--share-projection", action="store_true", help="one projection for all layers, as in the paper"
    )
    student.add_argument("--temperature", type=float, help="tau of the prediction stage (default: 1)")
    student.add_argument(
        "--without",
        nargs="+",
        metavar="PART",
        help="leave out attention, hidden, embedding, intermediate, prediction, general or augmentation",
    )
    student.add_argument(
        "--ablations",
        nargs="+",
        metavar="PART",
        help="beside the whole student, train one without each of these parts",
    )
    student.add_argument(
        "--teacher-cache-gb",
        type=float,
        default=8.0,
        metavar="GB",
        help="disk for the teacher's states, so that it runs once and not in every epoch; 0: never "
        "(default: %(default)s)",
    )
    student.add_argument(
        "--intermediate-epochs",
        type=float,
        metavar="N",
        help="epochs of the intermediate stage (default: the task's)",
    )
    student.add_argument("--intermediate-learning-rate", type=float, metavar="LR", help="(default: 5e-5)")
    add_baseline_options(student)
    student.add_argument("--max-length", type=int, help="tokens a row (default: 64, pairs 128)")
    transfer = parser.add_argument_group("transfer set, by word replacement")
    transfer.add_argument(
        "--n-iter", type=int, help="augmented copies per row (default: the task's, 10 to 30)"
    )
    transfer.add_argument("--unlabelled-n-iter", type=int, help="augmented copies per unlabelled row")
    transfer.add_argument("--p-replace", type=float, help="(default: 0.4)")
    transfer.add_argument("--num-candidates", type=int, metavar="K", help="candidates a word (default: 15)")
    transfer.add_argument(
        "--mlm",
        metavar="MODEL",
        help="masked language model that proposes candidates (without one GloVe serves every word)",
    )
    transfer.add_argument(
        "--glove-file", metavar="FILE", help="GloVe vectors as text (default: the packaged 50-d ones)"
    )
    transfer.add_argument("--num-workers", type=int)
    parser.add_argument("--results-dir", metavar="DIR", help="also write DIR/<method>/<task>/<seed>.json")
    add_common_options(parser)
