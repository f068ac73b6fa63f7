"""What is compared: models in several forms, exported where they have to be, and what one would train instead."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import peers
from transformers import AutoModel, AutoTokenizer

from data_augment.errors import InputError
from nlp_distill import calibration, onnx_ops, onnx_passes, onnx_smoothing, runtime
from nlp_distill import export as exporting
from nlp_distill.calibration import draw_calibration
from nlp_distill.export import check_onnx, export_model, measure_parity
from nlp_distill.hashes import hash_file, hash_tokenizer, hash_weights
from nlp_distill.models import count_positions, load_classifier, load_pretrained
from nlp_distill.stages import make_folder, run_stage
from nlp_distill.subjects import OnnxSubject, Subject, Text, TorchSubject, open_subject
from nlp_distill.tasks import TaskData
from nlp_distill.teachers import match_labels, read_labels

RUNTIMES = {"torch": None, "onnx": "none", "int8": "int8-dynamic"}  # and how each is quantised
OPSET = 20
PARITY_TEXTS = 1000  # of the test rows, then of the validation rows
SPACY_FILES = ("meta.json", "config.cfg")
NEEDED = ("*.safetensors", runtime.MODEL, runtime.TOKENIZER, runtime.SETTINGS, "config.json")


@dataclass
class Candidate:
    """A model as it is measured.

    Args:
        name: of the model, as given.
        runs_in: the runtime.
        subject: answers.
        labels: in the order of its answers.
        megabytes: all files an answer needs.
        details: what else is known: parity of an export, what was chosen for a peer.
    """

    name: str
    runs_in: str
    subject: Subject
    labels: tuple[str, ...]
    megabytes: float
    details: dict[str, Any] = field(default_factory=dict)


def open_candidates(
    options: argparse.Namespace, models: dict[str, Path], data: TaskData
) -> Iterator[Candidate]:
    """Every model in every runtime, then the peers.

    Raises:
        InputError: for a model that cannot be loaded or measured here, or a teacher that is not a saved model.
    """
    for position, (name, path) in enumerate(models.items()):
        is_spacy = all((path / file).is_file() for file in SPACY_FILES)
        is_exported = (path / runtime.MODEL).is_file()
        if position == 0 and (is_spacy or is_exported):
            raise InputError(
                f"the first model, {name}, is the teacher, and has to be a saved model in PyTorch"
            )
        if is_spacy:
            yield open_spacy(name, path, data)
        elif is_exported:
            subject = open_subject(str(path), min(options.tokens, options.max_length))
            quantized = json.loads((path / runtime.SETTINGS).read_text(encoding="utf-8"))["quantize"]
            kind = next((kind for kind, form in RUNTIMES.items() if form == quantized), quantized)
            yield describe_exported(name, kind, path, subject, {})
        else:
            chosen = [
                kind for kind in RUNTIMES if kind in options.runtimes or (position == 0 and kind == "torch")
            ]
            yield from open_saved(name, path, chosen, data, options)
    yield from open_peers(options, models, data)


def open_saved(
    name: str, path: Path, chosen: Sequence[str], data: TaskData, options: argparse.Namespace
) -> Iterator[Candidate]:
    """A saved model in PyTorch, and exported for each other runtime."""
    model = load_classifier(path)
    labels = read_labels(model.config)
    match_labels(data.task.labels, labels)  # now, rather than after the exports
    length = min(options.max_length, count_positions(model) or options.max_length)
    for kind in chosen:
        if kind == "torch":
            yield Candidate(name, kind, TorchSubject(path, length), labels, measure_files(path))
        else:
            folder = Path(options.work) / "exports" / f"{name}-{kind}"
            parity = export(model, path, folder, RUNTIMES[kind] or "none", length, data)
            yield describe_exported(name, kind, folder, OnnxSubject(folder), parity)


def export(
    model: Any, path: Path, folder: Path, quantize: str, max_length: int, data: TaskData
) -> dict[str, Any]:
    """The model as ONNX in ``folder``, unless it is there already; returns its parity with PyTorch."""
    check_onnx(OPSET)
    tokenizer = load_pretrained(AutoTokenizer, path)
    texts = [*data.task.read_texts(data.test), *data.task.read_texts(data.validation)][:PARITY_TEXTS]

    def build(output: Path) -> dict[str, Any]:
        export_model(
            model,
            tokenizer,
            output,
            quantize=quantize,
            max_length=max_length,
            is_pair=data.task.is_pair,
            opset=OPSET,
            calibration=draw_calibration(data),
        )
        return measure_parity(model, tokenizer, output, texts, max_length)

    inputs = {
        "model": hash_weights(model),
        "tokenizer": hash_tokenizer(tokenizer),
        "quantize": quantize,
        "max_length": max_length,
        "data": {split: data.fingerprints()[split] for split in ("test", "validation", "train")},
        "parity_texts": PARITY_TEXTS,
        "code": [
            hash_file(str(module.__file__))
            for module in (exporting, calibration, onnx_ops, onnx_passes, onnx_smoothing, runtime)
        ],
        "versions": {
            name: metadata.version(name) for name in ("nlp_distill", "torch", "onnx", "onnxruntime")
        },
    }
    make_folder(folder.parent)
    return run_stage(f"exporting {path} ({quantize})", folder, inputs, build, overwrite=True)


def describe_exported(
    name: str, kind: str, folder: Path, subject: OnnxSubject, parity: dict[str, Any]
) -> Candidate:
    """An exported model under onnxruntime."""
    details = {"parity": parity} if parity else {}
    return Candidate(name, kind, subject, tuple(subject.classifier.labels), measure_files(folder), details)


class SpacySubject:
    """A text classifier of spaCy."""

    kind = "spacy"

    def __init__(self, folder: Path):
        try:
            import spacy
        except ImportError:
            raise InputError(f"{folder} is a spaCy pipeline; run `pip install spacy`") from None
        self.name = str(folder)
        self.pipeline = spacy.load(folder)
        found = [
            pipe for _, pipe in self.pipeline.pipeline if hasattr(pipe, "labels") and hasattr(pipe, "cfg")
        ]
        if not found:
            raise InputError(f"{folder} is a spaCy pipeline without a text classifier")
        self.labels = tuple(found[-1].labels)

    def set_threads(self, threads: int) -> None:
        """It has one."""

    def answer(self, texts: Sequence[Text]) -> np.ndarray:
        """Probabilities (texts, classes)."""
        documents = self.pipeline.pipe([peers.join(text) for text in texts])
        return np.array([[document.cats[label] for label in self.labels] for document in documents])


def open_spacy(name: str, path: Path, data: TaskData) -> Candidate:
    """A spaCy pipeline, all files of which count.

    Raises:
        InputError: for pairs of texts.
    """
    if data.task.is_pair:
        raise InputError(f"{name} is a spaCy pipeline, and {data.task.name} has pairs of texts")
    subject = SpacySubject(path)
    return Candidate(name, subject.kind, subject, subject.labels, measure_files(path, ["**/*"]))


def open_peers(options: argparse.Namespace, models: dict[str, Path], data: TaskData) -> Iterator[Candidate]:
    """Train what was asked for, unless it is there already."""
    train, validation = (
        peers.Rows([peers.join(text) for text in data.task.read_texts(rows)], list(rows["label"]))
        for rows in (data.train, data.validation)
    )
    labels = data.task.labels
    prints = data.fingerprints()
    encoders = [str(path) for path in options.model2vec_encoders or [next(iter(models.values()))]]
    for name in options.peers:
        folder = Path(options.work) / "peers" / name
        make_folder(folder.parent)

        def build(output: Path, name: str = name) -> dict[str, Any]:
            if name == "model2vec":
                return peers.train_model2vec(output, train, validation, options.model2vec_python, encoders)
            teach = peers.train_tfidf if name == "tfidf" else peers.train_fasttext
            return teach(output, train, validation)

        inputs: dict[str, Any] = {split: prints[split] for split in ("train", "validation")}
        code = "peer_model2vec.py" if name == "model2vec" else "peers.py"
        inputs["code"] = hash_file(Path(__file__).with_name(code))
        if name == "model2vec":
            inputs["encoders"] = [hash_weights(load_pretrained(AutoModel, path)) for path in encoders]
        chosen = run_stage(f"training {name}", folder, inputs, build, overwrite=True)
        for title, kind, subject, files in open_peer(name, folder):
            yield Candidate(title, kind, subject, labels, measure_files(folder, files), {"chosen": chosen})


def open_peer(name: str, folder: Path) -> Iterator[tuple[str, str, Subject, list[str]]]:
    """A trained peer's name in the table, where it runs, itself, and the files that it needs."""
    subject: Any
    if name == "tfidf":
        subject = peers.TfidfSubject(folder)
        yield "TF-IDF, logistic regression", subject.kind, subject, list(peers.TFIDF_FILES)
    elif name == "model2vec":
        subject = peers.Model2VecSubject(folder)
        yield "model2vec, fine-tuned", subject.kind, subject, ["*.safetensors", "*.json"]
    else:
        for form, file in peers.FASTTEXT_MODELS.items():
            if (folder / file).exists():
                subject = peers.FastTextSubject(folder, form)
                yield f"fastText, {form}", subject.kind, subject, [file]


def measure_files(folder: Path, patterns: Sequence[str] = NEEDED) -> float:
    """Megabytes of the files that an answer needs."""
    files = {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    return sum(file.stat().st_size for file in files if not file.name.startswith("stage_")) / 1e6
