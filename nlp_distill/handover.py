"""A labelled transfer set in the formats that other libraries train on, so that their models learn from the teacher.

    spacy     one ``.spacy`` file: documents whose ``cats`` are the teacher's probabilities (for the component
              ``soft_textcat`` of :mod:`nlp_distill.spacy_soft_textcat`), or 0 and 1 (for spaCy's own ``textcat``)
    fasttext  lines ``__label__x text``: one label a row
    sklearn   one ``.npz``: texts, probabilities, targets and weights (:mod:`nlp_distill.teacher_rows`)

The label of a row is the likeliest one, or drawn from the probabilities: over many rows the latter keeps what they say.

Probabilities are softmax(logits); those of several teachers are averaged. What a format cannot hold is refused, row by
row: nothing is changed in silence. Not carried over, as it is no business of the teacher's: further columns, and the
labels that people gave. Rows are found again by their id in ``.spacy`` (``doc.user_data["id"]``) and ``.npz``.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from data_augment.errors import InputError
from nlp_distill.labelled_files import check_unaltered, read_fingerprint
from nlp_distill.manifest import replacing
from nlp_distill.spacy_docs import LANGUAGE, find_fault, make_blank, pack_documents
from nlp_distill.teacher_rows import TeacherRows, save_teacher_rows
from nlp_distill.teachers import match_labels

ENDINGS = {"spacy": ".spacy", "fasttext": ".txt", "sklearn": ".npz"}
TARGETS = {  # what a format can hold; the first is its default
    "spacy": ("probabilities", "likeliest", "drawn"),
    "fasttext": ("likeliest", "drawn"),
    "sklearn": ("probabilities",),
}
BATCH_ROWS = 8192
# What fastText's reader splits words at; all else, no-break spaces too, is part of a word to it.
FASTTEXT_SPACE = re.compile(r"[ \t\n\v\f\r\0]+")
FASTTEXT_PREFIX, FASTTEXT_END = "__label__", "</s>"


@dataclass(frozen=True)
class HandOver:
    """What to write.

    Args:
        form: ``spacy``, ``fasttext`` or ``sklearn``.
        text_columns: one, or two for pairs; needed where the file does not say what the teacher read.
        labels: names of the classes, in the order in which they are written; the teacher's own where left out.
        targets: ``probabilities``, or one label a row, the ``likeliest`` or ``drawn`` from them; ``None`` for what the
            format does best (see ``TARGETS``).
        seed: of the drawing.
        language: spaCy: whose tokens the documents have.
        skip_bad_rows: drop and count rows that the format cannot hold, instead of raising.
    """

    form: str
    text_columns: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    targets: str | None = None
    seed: int = 0
    language: str = LANGUAGE
    skip_bad_rows: bool = False

    def __post_init__(self) -> None:
        if self.form not in ENDINGS:
            raise InputError(f"the format is {self.form!r}; give one of {', '.join(ENDINGS)}")
        if self.chosen_targets not in TARGETS[self.form]:
            raise InputError(
                f"the targets are {self.targets!r}; {self.form} can have {', '.join(TARGETS[self.form])}"
            )

    @property
    def chosen_targets(self) -> str:
        """The targets, the format's own where none were asked for."""
        return self.targets or TARGETS[self.form][0]


@dataclass(frozen=True)
class HandedOver:
    """What was written: rows, rows left out, and the names of the classes (none: a regression)."""

    rows: int
    skipped_rows: int
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Labelled:
    """A labelled file: where its texts are, and in which order its logits become the labels'."""

    path: Path
    text_columns: tuple[str, ...]
    labels: tuple[str, ...]
    order: list[int] | None
    rows: int


@dataclass(frozen=True)
class Row:
    """One row: its texts, and the teacher's probabilities (classes,), or its value (1,) in a regression."""

    id: str
    texts: tuple[str, ...]
    answer: np.ndarray


def hand_over(
    path: str | Path, output_path: str | Path, settings: HandOver, overwrite: bool = False
) -> HandedOver:
    """Write a labelled file in another library's format; the output is complete or absent.

    Args:
        path: a file of ``nlp-distill label``, or any Parquet file with ``teacher_logits``.
        output_path: ends in ``.spacy``, ``.txt`` or ``.npz``.
        settings: the format and its settings.
        overwrite: replace an output that exists.

    Raises:
        InputError: for a file without logits, columns or labels that do not fit, or a row that the format cannot hold.
    """
    output = Path(output_path)
    if output.suffix != ENDINGS[settings.form]:
        raise InputError(
            f"the output is {output}; for {settings.form} it must end in {ENDINGS[settings.form]}"
        )
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists; choose another output, or --overwrite to replace it")
    source = open_labelled(path, settings.text_columns, settings.labels)
    check_form(source, settings.form)
    nlp = make_blank(settings.language) if settings.form == "spacy" else None
    counted = {"rows": 0, "skipped": 0}
    with replacing(output) as temporary:
        with temporary.open("wb") as file:
            rows = _keep_good(source, _find_check(settings.form, nlp), settings, counted)
            chosen = choose_targets(rows, settings.chosen_targets, settings.seed)
            write(file, chosen, source, settings.form, nlp)
        if not counted["rows"]:
            raise InputError(f"{path} has no row that {settings.form} can hold")
    return HandedOver(counted["rows"], counted["skipped"], source.labels)


def write(file: IO[bytes], rows: Iterator[Row], source: Labelled, form: str, nlp: Any) -> None:
    """Write rows to an open file in one of the formats."""
    if form == "spacy":
        file.write(pack_documents(nlp, ((row.id, row.texts[0], row.answer) for row in rows), source.labels))
    elif form == "fasttext":
        file.writelines(line.encode() for line in write_fasttext(rows, source.labels))
    else:
        save_teacher_rows(file, collect_teacher_rows(rows, source))


def open_labelled(path: str | Path, text_columns: Sequence[str] = (), labels: Sequence[str] = ()) -> Labelled:
    """Find texts and labels: in the file's fingerprint, or as given where it has none.

    Raises:
        InputError: if they are in neither place, or contradict each other.
    """
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "does not exist"
        raise InputError(f"{path} {what}; give a file that `nlp-distill label` wrote")
    try:
        metadata, schema = pq.read_metadata(path), pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is no Parquet file; give one that `nlp-distill label` wrote") from error
    if "teacher_logits" not in schema.names:
        raise InputError(f"{path} has no column teacher_logits; make it with `nlp-distill label`")
    check_unaltered(path)
    found = read_fingerprint(path)
    if found is None:
        if not text_columns or not labels:
            raise InputError(
                f"{path} does not say what its teacher read and answered; give --text-column and --labels"
            )
        found = {"text_columns": text_columns, "labels": labels}
    if text_columns and list(text_columns) != list(found["text_columns"]):
        raise InputError(
            f"the text columns are {', '.join(text_columns)}, but the teacher of {path} read "
            f"{', '.join(found['text_columns'])}; leave out --text-column"
        )
    for column in ("id", *found["text_columns"]):
        if column not in schema.names:
            raise InputError(f"{path} has no column {column!r}; its columns are {', '.join(schema.names)}")
    named = tuple(labels or found["labels"])
    order = match_labels(named, found["labels"]) if named else None
    if len(set(named)) < len(named) or len(named) == 1 or not all(named):
        raise InputError(f"the labels are {', '.join(named)}; give two or more names, each once")
    return Labelled(Path(path), tuple(found["text_columns"]), named, order, metadata.num_rows)


def check_form(source: Labelled, form: str) -> None:
    """Refuse tasks that the format has no place for.

    Raises:
        InputError: for pairs or a regression in a format of single texts and classes.
    """
    if form == "sklearn":
        return
    if len(source.text_columns) > 1:
        raise InputError(
            f"{source.path} holds pairs ({', '.join(source.text_columns)}), and {form} classifies single texts; "
            "--format sklearn keeps both texts"
        )
    if not source.labels:
        raise InputError(
            f"{source.path} holds the values of a regression, and {form} learns classes; --format sklearn keeps them"
        )


def read_labelled(source: Labelled) -> Iterator[Row]:
    """The rows, a batch at a time in memory.

    Raises:
        InputError: for logits that are no numbers, or as many as there are labels.
    """
    columns = ["id", *source.text_columns, "teacher_logits"]
    width = len(source.labels) or 1
    with pq.ParquetFile(source.path) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=columns):
            try:
                logits = np.asarray(batch["teacher_logits"].to_pylist(), dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"{source.path}: not every row has the same number of teacher_logits"
                ) from error
            if logits.ndim not in (2, 3) or logits.shape[-1] != width or not np.isfinite(logits).all():
                raise InputError(
                    f"{source.path} has teacher_logits of shape {logits.shape[1:]} a row; {width} finite number(s), or "
                    "a list of them for each teacher, must go with its labels"
                )
            answers = average_teachers(logits if source.order is None else logits[..., source.order])
            texts = zip(*(batch[column].to_pylist() for column in source.text_columns), strict=True)
            for row_id, own, answer in zip(batch["id"].to_pylist(), texts, answers, strict=True):
                yield Row(str(row_id), own, answer)


def average_teachers(logits: np.ndarray) -> np.ndarray:
    """Probabilities from logits, the mean of those of several teachers; a regression's values as they are.

    Args:
        logits: (rows, classes) or (rows, teachers, classes).

    Returns:
        (rows, classes), float64; each row of a classification sums to 1.
    """
    stacked = logits[:, None] if logits.ndim == 2 else logits
    if stacked.shape[-1] > 1:
        stacked = np.exp(stacked - stacked.max(axis=-1, keepdims=True))
        stacked = stacked / stacked.sum(axis=-1, keepdims=True)
    return stacked.mean(axis=1)


def choose_targets(rows: Iterable[Row], targets: str, seed: int) -> Iterator[Row]:
    """The rows with 1 for the likeliest label, or for one drawn from the probabilities, and 0 for the others.

    Every row draws one number in its turn, so that the same seed gives the same labels.
    """
    source = np.random.default_rng(seed)
    for row in rows:
        answer = row.answer
        if targets == "likeliest":
            answer = np.eye(len(answer))[answer.argmax()]
        elif targets == "drawn":
            drawn = np.searchsorted(answer.cumsum(), source.random() * answer.sum(), side="right")
            answer = np.eye(len(answer))[min(drawn, len(answer) - 1)]
        yield replace(row, answer=answer)


def write_fasttext(rows: Iterable[Row], labels: Sequence[str]) -> Iterator[str]:
    """One line a row.

    White space and % in a label are written as in a URL (``not good`` -> ``not%20good``), which
    ``urllib.parse.unquote`` reverts. What separates words in a text becomes one space, as fastText reads it.
    """
    names = [re.sub(r"[\s%\0]", lambda found: quote(found[0]), label) for label in labels]
    for row in rows:
        name = names[row.answer.argmax()]
        yield f"{FASTTEXT_PREFIX}{name} {' '.join(split_words(row.texts[0]))}\n"


def split_words(text: str) -> list[str]:
    """The words of a text as fastText sees them."""
    return [word for word in FASTTEXT_SPACE.split(text) if word]


def collect_teacher_rows(rows: Iterator[Row], source: Labelled) -> TeacherRows:
    """The rows as columns."""
    kept = list(rows)
    if not kept:
        raise InputError("no row is left to hand over: the file has none, or all were skipped")
    answers = np.array([row.answer for row in kept], dtype=np.float32).reshape(len(kept), -1)
    pairs = [row.texts[1] for row in kept] if len(source.text_columns) > 1 else None
    is_regression = not source.labels
    return TeacherRows(
        ids=[row.id for row in kept],
        texts=[row.texts[0] for row in kept],
        text_pairs=pairs,
        class_names=source.labels,
        probabilities=None if is_regression else answers,
        targets=answers[:, 0] if is_regression else answers.argmax(axis=1),
        sample_weights=np.ones(len(kept), np.float32) if is_regression else answers.max(axis=1),
    )


def _find_check(form: str, nlp: Any) -> Callable[[str], str | None]:
    """What tells why a format cannot hold a text."""
    if form == "spacy":
        return lambda text: find_fault(nlp, text)
    return _find_fasttext_fault if form == "fasttext" else lambda text: None


def _find_fasttext_fault(text: str) -> str | None:
    words = split_words(text)
    if not words:
        return "holds no word, and fastText skips such lines"
    if FASTTEXT_END in words:
        return f"holds the word {FASTTEXT_END}, where fastText ends a line"
    if any(word.startswith(FASTTEXT_PREFIX) for word in words):
        return f"holds a word that begins with {FASTTEXT_PREFIX}, which fastText takes for a label"
    return None


def _keep_good(
    source: Labelled, check: Callable[[str], str | None], settings: HandOver, counted: dict[str, int]
) -> Iterator[Row]:
    """The rows that the format can hold, counted."""
    rows = tqdm(read_labelled(source), total=source.rows, desc="handing over", unit="row", unit_scale=True)
    for row in rows:
        texts = [text if isinstance(text, str) else None for text in row.texts]
        faults = ["holds no text" if text is None else check(text) for text in texts]
        fault = next((fault for fault in faults if fault), None)
        if fault is None:
            counted["rows"] += 1
            yield row
        elif settings.skip_bad_rows:
            counted["skipped"] += 1
        else:
            raise InputError(
                f"{source.path}: the row {row.id} {fault}; leave the row out, or --skip-bad-rows drops such rows"
            )
