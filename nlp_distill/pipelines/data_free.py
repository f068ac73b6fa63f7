"""Distillation without the training rows (Lopes et al. 2017): keep a record of them, and later make texts from it.

Two stages, usually of two people: :func:`record_activations` where the rows are, :func:`invert_record` where only the
teacher and its record are. What comes out of the second is a file of texts with the teacher's answers, from which every
``distill`` command makes a student. The method is in :mod:`nlp_distill.activation_records`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoTokenizer, PreTrainedModel

from data_augment.errors import InputError
from data_augment.writers import open_writer
from nlp_distill.activation_records import ActivationRecord, ActivationSums, Frame, Inverter, read_top_layer
from nlp_distill.batching import DistillationCollator, plan_batches
from nlp_distill.encoding import EncodedRows, encode_rows
from nlp_distill.hashes import hash_file, hash_tokenizer, hash_weights
from nlp_distill.labelling import compute_logits
from nlp_distill.limits import check_positive, check_whole
from nlp_distill.manifest import read_arrays, write_arrays
from nlp_distill.models import check_max_length, check_vocabulary, load_classifier, load_pretrained
from nlp_distill.processes import choose_device
from nlp_distill.stages import CHECKPOINTS, run_stage
from nlp_distill.tasks import TaskData, data_fingerprint
from nlp_distill.teachers import Teacher, freeze, match_labels, read_labels
from nlp_distill.training import MAX_SEED, MIN_LENGTH

RECORD, TEXTS = "record.safetensors", "texts.jsonl"
BATCH_TOKENS = 1024  # of one forward pass, padding included


@dataclass(frozen=True)
class Inversion:
    """Settings of the search for texts.

    Args:
        rows: texts to make, of all classes together.
        steps: of Adam for each text, 0 for random words; the paper's code takes 1,000, on pixels. With steps as long
            as these most of the way is gone in the first ten.
        learning_rate: of Adam, in standard deviations of the word embeddings.
        seed: of the activations, lengths and beginnings that are drawn.
    """

    rows: int = 10_000
    steps: int = 10
    learning_rate: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("rows", self.rows, at_least=1)
        check_whole("steps", self.steps, at_least=0)
        check_positive("learning_rate", self.learning_rate)
        check_whole("seed", self.seed, at_least=0, at_most=MAX_SEED)


def record_activations(
    data: TaskData,
    teacher_path: str,
    output_dir: str | Path,
    max_length: int = 128,
    task: str | None = None,
    overwrite: bool = False,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Keep, as ``output_dir/record.safetensors``, what the teacher's top layer makes of the train rows of each class.

    Args:
        data: single texts; the classes of the record are the rows' labels (a regression has one).
        teacher_path: the fine-tuned teacher.
        output_dir: a folder for the record alone.
        max_length: tokens a row.
        task: of a multi-task teacher.
        overwrite: replace a record that was made with other settings.
        trust_remote_code: run code that comes with the teacher.

    Returns:
        ``{"path", "rows", "width"}``.

    Raises:
        InputError: for pairs, a teacher of other labels, or a class with fewer than two rows.
    """
    check_whole("max_length", max_length, at_least=MIN_LENGTH)
    if len(data.task.text_columns) != 1:
        raise InputError(
            f"{data.task.name} is a task of pairs; activations are recorded for single texts, because an inverted pair "
            "would need two texts that belong together"
        )
    teacher, tokenizer = load_teacher(teacher_path, max_length, task, trust_remote_code)
    weights = hash_weights(teacher)
    inputs = {
        "teacher": weights,
        "tokenizer": hash_tokenizer(tokenizer),
        "data": data_fingerprint(data.train),
        "max_length": max_length,
    }

    def build(folder: Path) -> dict[str, Any]:
        frame = Frame.of(tokenizer)
        rows = encode_rows(
            data.train.select_columns(list(data.task.text_columns)),
            tokenizer,
            data.task.text_columns,
            max_length,
        )
        classes = _find_classes(data, teacher)
        sums = sum_activations(teacher, rows, classes, DistillationCollator(tokenizer))
        means, factors = sums.summarise()
        lengths = np.bincount(np.maximum(rows.lengths - len(frame.before) - len(frame.after), 1))
        labels = read_labels(teacher.config)
        record = ActivationRecord(sums.counts, means, factors, lengths, weights, labels)
        record.save(folder / RECORD)
        return {"path": str(folder / RECORD), "rows": len(rows), "width": int(means.shape[1])}

    return run_stage("recording activations", Path(output_dir), inputs, build, overwrite)


def _find_classes(data: TaskData, teacher: PreTrainedModel) -> np.ndarray:
    """The class of each train row, as an index into the teacher's labels; 0 for a regression."""
    if data.task.is_regression:
        return np.zeros(len(data.train), dtype=np.int64)
    order = match_labels(data.task.labels, read_labels(teacher.config))
    classes = np.asarray(data.train["label"])
    return classes if order is None else np.asarray(order)[classes]


def sum_activations(
    teacher: PreTrainedModel, rows: EncodedRows, classes: np.ndarray, collator: DistillationCollator
) -> ActivationSums:
    """Run the teacher's encoder over rows and add up what its top layer says, by class."""
    encoder: Any = teacher.base_model
    sums = ActivationSums(max(len(read_labels(teacher.config)), 1), teacher.config.hidden_size)
    with tqdm(total=len(rows), desc="recording", unit="row", unit_scale=True) as progress, torch.no_grad():
        for indices in plan_batches(rows.lengths, BATCH_TOKENS):
            batch = collator([rows[int(i)] for i in indices])
            top = read_top_layer(encoder, {name: value.to(teacher.device) for name, value in batch.items()})
            sums.add(top.float().cpu().numpy(), classes[indices])
            progress.update(len(indices))
    return sums


def load_teacher(name: str, max_length: int, task: str | None, trust_remote_code: bool) -> tuple[Any, Any]:
    """A frozen classifier, on the accelerator where there is one, and its tokenizer."""
    code = {"trust_remote_code": trust_remote_code}
    teacher = load_classifier(name, task, **code)
    tokenizer = load_pretrained(AutoTokenizer, name, **code)
    check_max_length(teacher, max_length)
    check_vocabulary(teacher, tokenizer)
    freeze(teacher)
    return teacher.to(choose_device()), tokenizer


def invert_record(
    config: Inversion,
    record_path: str | Path,
    teacher_path: str,
    output_dir: str | Path,
    task: str | None = None,
    overwrite: bool = False,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Make texts that cause the recorded activations, and write them with the teacher's answers.

    The rows of ``output_dir/texts.jsonl`` have ``text``, ``label`` (what the teacher says of the text, as any text of
    a transfer set) and ``intended`` (the class whose activations it was made for).

    Args:
        config: the settings.
        record_path: of :func:`record_activations`.
        teacher_path: the teacher that it is a record of.
        output_dir: a folder for the texts alone; an interrupted search goes on after its last batch.
        task: of a multi-task teacher.
        overwrite: replace texts that were made with other settings.
        trust_remote_code: run code that comes with the teacher.

    Returns:
        ``{"path", "rows", "as_intended", "first_distance", "distance"}``: the share of texts of which the teacher says
        what they were made for (none for a regression), and the mean squared distance from the activations that were
        wanted, of random words and of what was found.

    Raises:
        InputError: for a record of another teacher, or a file that is none.
    """
    record = ActivationRecord.load(record_path)
    max_length = len(record.lengths) - 1
    teacher, tokenizer = load_teacher(teacher_path, max(max_length, MIN_LENGTH), task, trust_remote_code)
    weights = hash_weights(teacher)
    if weights != record.teacher:
        raise InputError(
            f"{record_path} is a record of another teacher than {teacher_path} (their weights differ); give the "
            "teacher it was made with"
        )
    inputs = {
        "record": hash_file(record_path),
        "teacher": weights,
        "tokenizer": hash_tokenizer(tokenizer),
        **asdict(config),
    }

    def build(folder: Path) -> dict[str, Any]:
        found = search(config, record, teacher, tokenizer, folder / CHECKPOINTS)
        return _write_texts(folder / TEXTS, record, teacher, tokenizer, found)

    return run_stage("inverting activations", Path(output_dir), inputs, build, overwrite)


@dataclass(frozen=True)
class Found:
    """What a search found: pieces of each row, the class that was wanted, the distance at the beginning and at last."""

    pieces: list[list[int]]
    intended: np.ndarray
    first: np.ndarray
    best: np.ndarray


def search(
    config: Inversion, record: ActivationRecord, teacher: PreTrainedModel, tokenizer: Any, folder: Path
) -> Found:
    """Invert batch by batch; a finished batch is kept in ``folder``, and read from there the next time."""
    folder.mkdir(exist_ok=True)
    frame = Frame.of(tokenizer)
    inverter = Inverter(teacher, frame, tokenizer.pad_token_id, config.steps, config.learning_rate)
    generator = np.random.default_rng(config.seed)
    classes = generator.choice(len(record.counts), size=config.rows, p=record.counts / record.counts.sum())
    lengths = generator.choice(len(record.lengths), size=config.rows, p=record.lengths / record.lengths.sum())
    parts = []
    with tqdm(total=config.rows, desc="inverting", unit="text") as progress:
        for number, indices in enumerate(_plan(lengths, len(frame.before) + len(frame.after))):
            part = read_arrays(folder / f"{number:06d}.npz")
            if part is None:
                own = np.random.default_rng([config.seed, number])
                wanted = torch.from_numpy(record.draw(classes[indices], own)).to(teacher.device)
                pieces, first, best = inverter.invert(wanted, lengths[indices].tolist(), own)
                flat = np.concatenate([np.asarray(row, dtype=np.int64) for row in pieces])
                part = {"pieces": flat, "first": first.cpu().numpy(), "best": best.cpu().numpy()}
                write_arrays(folder / f"{number:06d}.npz", part)
            parts.append((indices, part))
            progress.update(len(indices))
    return _put_together(parts, classes, lengths)


def _plan(lengths: np.ndarray, special: int) -> Iterator[np.ndarray]:
    return plan_batches(lengths + special, BATCH_TOKENS)


def _put_together(
    parts: list[tuple[np.ndarray, dict[str, np.ndarray]]], classes: np.ndarray, lengths: np.ndarray
) -> Found:
    """The rows of all batches, in the order in which they were drawn."""
    first, best = np.empty(len(classes)), np.empty(len(classes))
    pieces: list[list[int]] = [[] for _ in classes]
    for indices, part in parts:
        first[indices], best[indices] = part["first"], part["best"]
        for index, row in zip(
            indices, np.split(part["pieces"], np.cumsum(lengths[indices])[:-1]), strict=True
        ):
            pieces[index] = row.tolist()
    return Found(pieces, classes, first, best)


def _write_texts(
    path: Path, record: ActivationRecord, teacher: PreTrainedModel, tokenizer: Any, found: Found
) -> dict[str, Any]:
    texts = tokenizer.batch_decode(found.pieces, clean_up_tokenization_spaces=False)
    rows = [{"text": text.strip()} for text in texts]
    encoded = encode_rows(rows, tokenizer, ("text",), max(len(record.lengths) + 1, MIN_LENGTH))
    logits, _ = compute_logits(Teacher(teacher), encoded, DistillationCollator(tokenizer))
    answers: list[Any] = logits[:, 0].tolist()
    summary: dict[str, Any] = {"path": str(path), "rows": len(rows)}
    if record.labels:
        chosen = logits.argmax(axis=1)
        answers = [record.labels[i] for i in chosen]
        summary["as_intended"] = float((chosen == found.intended).mean())
    intended = [record.labels[i] if record.labels else None for i in found.intended]
    with open_writer(path, ["text", "label", "intended"], overwrite=True) as writer:
        writer.write(
            row | {"label": answer, "intended": wanted}
            for row, answer, wanted in zip(rows, answers, intended, strict=True)
        )
    return summary | {"first_distance": float(found.first.mean()), "distance": float(found.best.mean())}
