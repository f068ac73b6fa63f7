"""The options of the ``nlp-distill`` commands, by what they are about. Nothing heavy is imported here."""

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
        "--select-on",
        choices=["train", "dev"],
        default="train",
        help="select on a held-out slice of train, or on the reported rows as the papers do (the result says so)",
    )
    data.add_argument(
        "--skip-bad-rows", action="store_true", help="drop and count bad rows instead of stopping"
    )


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
        "--optimizer", choices=["adadelta", "adamw"], help="adadelta (lr 1.0, rho 0.95) in the paper"
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
    parser.add_argument("--seed", type=int, default=0, help="of drawn labels")
    parser.add_argument(
        "--language", default="en", help="spacy: whose tokens the documents have (default: %(default)s)"
    )
    parser.add_argument(
        "--skip-bad-rows", action="store_true", help="drop and count rows that the format cannot hold"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")


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
        "--sample-file", metavar="FILE", help="rows that the exported model is compared (and calibrated) on"
    )
    parser.add_argument("--text-column", metavar="NAME")
    parser.add_argument("--text-pair-column", metavar="NAME")
    add_common_options(parser)


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


def add_compress_options(parser: argparse.ArgumentParser) -> None:
    """Of ``compress``."""
    parser.add_argument("student", metavar="STUDENT", help="folder of a saved student, or a hub name")
    parser.add_argument(
        "--teacher", required=True, metavar="DIR", help="the model that it was distilled from"
    )
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


def add_baseline_options(student) -> None:
    """Seeds, and the students without the teacher."""
    student.add_argument(
        "--baseline-epochs",
        type=float,
        metavar="N",
        help="epochs of the student without the teacher (default: as many); fewer rows may want more of them",
    )
    add_seed_options(student)


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
