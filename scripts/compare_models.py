"""A teacher, its students and what one would train instead: scores, latency and size, side by side in one run.

    python scripts/compare_models.py --task sst2 --data-dir GLUE --work runs/compare \\
        --models teacher=runs/teacher bilstm=runs/bilstm/student-seed0 --peers tfidf fasttext \\
        --json compare.json --markdown compare.md

The first model is the teacher; it is measured in PyTorch whatever the runtimes, and all else is compared with that row.
Saved models are exported into the work folder (finished exports are reused); exported models and spaCy pipelines are
measured as they are. Scores are those of the task's test split. Latency runs from text to probabilities, tokenisation
included, one text at a time, on test texts of about as many tokens as asked for, all models taking turns
(:func:`nlp_distill.benchmark.measure_latency`). Size is that of all files an answer needs, tokenizers and vocabularies
included. A row is on the frontier if no other is at once as good, as fast, and better in one of the two.

Peers (see ``peers.py``) learn from the labelled train rows of the task; unlike them, students may have seen unlabelled
text through their teacher as well. fastText comes as ``pip install fasttext-community``;
model2vec is trained by the python of another environment (``--model2vec-python``), as it pins an older
transformers.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import transformers

sys.path.insert(0, str(Path(__file__).parent))
import peers
from candidates import RUNTIMES, Candidate, open_candidates

from data_augment.errors import InputError
from data_augment.parsing import OneLineParser
from nlp_distill.benchmark import has_int8_instructions, measure_latency
from nlp_distill.limits import check_whole
from nlp_distill.metrics import agreement, compute_metrics
from nlp_distill.results import collect_versions, drop_place
from nlp_distill.stages import announce, make_folder, write_json, write_whole
from nlp_distill.subjects import OnnxSubject, Subject, Text
from nlp_distill.tasks import TaskData, load_task
from nlp_distill.teachers import match_labels

PEERS = ("tfidf", "fasttext", "model2vec")
TEXTS = 20  # texts that latency is measured on
BATCH = 32
PACKAGES = ("onnx", "onnxruntime", "scikit-learn", "fasttext-community", "fasttext", "model2vec", "spacy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare from the command line; returns the exit code (2 for wrong input)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = build_parser().parse_args(given)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        models = read_models(options)
        data = load_data(options)
        candidates = list(open_candidates(options, models, data))
        report = compare(candidates, data, options.tokens, options.threads, options.repeats)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = describe_run(given, data, options) | report
    table = render(report)
    print(table)
    if options.json:
        write_json(Path(options.json), report)
    if options.markdown:
        write_whole(Path(options.markdown), table + "\n")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = OneLineParser(
        "compare_models.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--task", required=True, help="tweets, or a GLUE name with --data-dir")
    parser.add_argument("--data-dir", metavar="DIR", help="a GLUE folder")
    parser.add_argument(
        "--models",
        required=True,
        nargs="+",
        metavar="NAME=PATH",
        help="the teacher first; saved models, exported ones, spaCy pipelines",
    )
    parser.add_argument(
        "--work", required=True, metavar="DIR", help="where exports and trained peers are kept"
    )
    parser.add_argument(
        "--runtimes",
        nargs="+",
        choices=RUNTIMES,
        default=list(RUNTIMES),
        help="of saved models (default: all)",
    )
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, default=["tfidf"], help="trained here (default: tfidf)"
    )
    parser.add_argument(
        "--model2vec-python", metavar="PATH", help="interpreter of model2vec's own environment"
    )
    parser.add_argument(
        "--model2vec-encoders",
        nargs="+",
        metavar="PATH",
        help="encoders that model2vec is distilled from, the best on validation stays (default: the teacher)",
    )
    parser.add_argument("--tokens", type=int, default=24, help="of the texts timed (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=300, help="answers timed for each model (default: %(default)s)"
    )
    parser.add_argument("--max-length", type=int, default=128, help="tokens a row (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    parser.add_argument("--markdown", metavar="FILE", help="write the table here too")
    return parser


def read_models(options: argparse.Namespace) -> dict[str, Path]:
    """The models by name.

    Raises:
        InputError: for what is no ``NAME=PATH``, a name twice, no folder, a number out of range, or outputs that cannot
            be written.
    """
    for name in ("tokens", "threads", "repeats", "max_length"):
        check_whole(f"--{name.replace('_', '-')}", getattr(options, name), at_least=1)
    models: dict[str, Path] = {}
    for part in options.models:
        name, sign, path = part.partition("=")
        if not (name and sign and path):
            raise InputError(f"--models has {part!r}; give NAME=PATH, such as teacher=runs/teacher")
        if name in models or "/" in name:
            raise InputError(
                f"--models has the name {name!r} twice, or with a slash; give each model its own"
            )
        if not Path(path).is_dir():
            raise InputError(f"--models {name}: no folder {path}; give a saved or exported model")
        models[name] = Path(path)
    if "model2vec" in options.peers and not options.model2vec_python:
        raise InputError(
            "model2vec is trained in an environment of its own; give its python with --model2vec-python (made by "
            '`pip install "model2vec[distill,train,quantization]"`), or leave it out of --peers'
        )
    for file in filter(None, (options.json, options.markdown)):
        make_folder(Path(file).parent)
    make_folder(Path(options.work))
    return models


def load_data(options: argparse.Namespace) -> TaskData:
    """The task's rows.

    Raises:
        InputError: for a regression, or test rows without labels.
    """
    data = load_task(options.task, data_dir=options.data_dir)
    if data.task.is_regression:
        raise InputError(f"{data.task.name} is a regression; classifiers are compared here")
    if min(data.test["label"]) < 0:
        raise InputError(f"the test rows of {data.task.name} have no labels; give a task that has")
    return data


def compare(
    candidates: Sequence[Candidate], data: TaskData, tokens: int, threads: int, repeats: int
) -> dict[str, Any]:
    """Score and time all models; the first is what the others are compared with.

    Returns:
        ``{"metric", "texts_timed", "rows": [...]}``.
    """
    texts = data.task.read_texts(data.test)
    answers = []
    for candidate in candidates:
        announce(f"scoring {candidate.name} ({candidate.runs_in})")
        candidate.subject.set_threads(threads)
        answers.append(predict(candidate, texts, data))
    timed = choose_texts(candidates[0].subject, texts, tokens)
    announce(f"timing {len(candidates)} models in turns")
    times = measure_latency([candidate.subject for candidate in candidates], timed, threads, repeats)
    rows = []
    for candidate, found, latency in zip(candidates, answers, times, strict=True):
        metrics = compute_metrics(data.task, found, data.test["label"])
        row = {
            "name": candidate.name,
            "runs_in": candidate.runs_in,
            "score": metrics[data.task.metrics[0]],
            "metrics": metrics,
            "agreement": agreement(found, answers[0]),
            **latency,
            "mb": candidate.megabytes,
            **candidate.details,
        }
        first = rows[0] if rows else row
        row["retention"] = row["score"] / first["score"] if first["score"] > 0 else None
        row["faster"] = first["p50_ms"] / row["p50_ms"]
        row["smaller"] = first["mb"] / row["mb"]
        rows.append(row)
    mark_frontier(rows)
    return {"metric": data.task.metrics[0], "texts_timed": len(timed), "rows": rows}


def predict(candidate: Candidate, texts: Sequence[Text], data: TaskData) -> np.ndarray:
    """Probabilities (texts, classes) in the order of the task's labels.

    Texts of similar length go together, but one by one where the model is exported, as it is timed and will be asked:
    in int8 the rows of a batch share the range of their activations, and come out differently.
    """
    batch = 1 if isinstance(candidate.subject, OnnxSubject) else BATCH
    order = sorted(range(len(texts)), key=lambda index: len(peers.join(texts[index])))
    found = np.empty((len(texts), data.task.num_labels))
    columns = match_labels(data.task.labels, candidate.labels)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        answers = candidate.subject.answer([texts[index] for index in chosen])
        found[chosen] = answers if columns is None else answers[:, columns]
    return found


def choose_texts(teacher: Subject, texts: Sequence[Text], tokens: int) -> list[Text]:
    """The ``TEXTS`` texts whose length is nearest to ``tokens``, special ones included, as the teacher counts them."""

    def distance(text: Text) -> int:
        parts = (text,) if isinstance(text, str) else text
        return abs(len(teacher.tokenizer(*parts)["input_ids"]) - tokens)

    return sorted(texts, key=distance)[:TEXTS]


def mark_frontier(rows: Sequence[dict[str, Any]]) -> None:
    """Set ``frontier`` of every row: no other is as good and as fast, and better in one of the two."""
    for row in rows:
        row["frontier"] = not any(
            other["score"] >= row["score"]
            and other["p50_ms"] <= row["p50_ms"]
            and (other["score"] > row["score"] or other["p50_ms"] < row["p50_ms"])
            for other in rows
        )


def describe_run(arguments: Sequence[str], data: TaskData, options: argparse.Namespace) -> dict[str, Any]:
    """What the figures were made from."""
    parts = (argument.rpartition("=") for argument in arguments)
    command = " ".join(f"{name}{sign}{drop_place(value)}" for name, sign, value in parts)
    versions = collect_versions()
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "task": data.task.name,
        "data_source": data.source,
        "command": f"compare_models.py {command}",
        "versions": versions,
        "data": data.fingerprints(),
        "tokens": options.tokens,
        "threads": options.threads,
        "repeats": options.repeats,
        "int8_instructions": has_int8_instructions(),
    }


def render(report: dict[str, Any]) -> str:
    """The table for people."""
    lines = [
        f"{report['task']}: {report['metric']} on {report['data']['test']['rows']:,} test rows; one text of about "
        f"{report['tokens']} tokens at a time, on {report['threads']} thread(s), text to probabilities",
        "",
        f"| model | runs in | {report['metric']} | of the teacher's | agrees with teacher | p50 ms | p95 ms | "
        "faster | MB | smaller | frontier |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|:-:|",
    ]
    for row in report["rows"]:
        kept = "" if row["retention"] is None else f"{row['retention']:.1%}"
        lines.append(
            f"| {row['name']} | {row['runs_in']} | {row['score']:.4f} | {kept} | {row['agreement']:.1%} | "
            f"{row['p50_ms']:.2f} | {row['p95_ms']:.2f} | {row['faster']:.1f}× | {row['mb']:.1f} | "
            f"{row['smaller']:.1f}× | {'●' if row['frontier'] else ''} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
