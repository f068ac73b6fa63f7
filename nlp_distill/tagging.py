"""Sentences with a tag a word: reading, encoding, a model's tags, and their scores."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from transformers import PreTrainedModel

from data_augment.errors import InputError
from data_augment.rows import is_unicode
from nlp_distill.batching import DistillationCollator, plan_batches
from nlp_distill.encoding import EncodedRows
from nlp_distill.memory import run_in_memory
from nlp_distill.objectives.hard_labels import UNLABELLED
from nlp_distill.objectives.over_tokens import TOKEN_MASK
from nlp_distill.teachers import Teacher
from nlp_distill.trainer import NonFiniteLossError

BATCH_TOKENS = 1024
LONGEST_LINE = 1_000_000  # characters; a file of zeros is refused before it fills the memory
DOCUMENT = "-DOCSTART-"  # what CoNLL-2003 writes between articles
OUTSIDE = "O"
OTHER_MARKS = ("E-", "S-", "L-", "U-", "M-")  # of IOBES, BILOU and BMES


@dataclass(frozen=True)
class Sentence:
    """Words and their tags; no tags in raw text.

    Args:
        words: one or more.
        tags: one a word, or none at all.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...] = ()


def read_sentences(path: str | Path, tagged: bool = True) -> list[Sentence]:
    """Tagged sentences, from JSON lines (``.jsonl``: ``tokens`` and ``tags``) or columns as in CoNLL.

    In columns, a line is a word, any other columns, and its tag; an empty line ends a sentence. Columns stand between
    tabs where a line has any, so that words may hold spaces, and between spaces elsewhere.

    Args:
        path: the file.
        tagged: whether the lines of a ``.jsonl`` file must have ``tags``; where not, they are not looked at.

    Raises:
        InputError: naming the line, for a word without a tag, other numbers of columns than before or of tags than
            words, or a file without sentences.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = _read_lines(path, file)
            is_json = path.suffix == ".jsonl"
            sentences = list(_read_json(path, lines, tagged) if is_json else _read_columns(path, lines))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InputError(f"cannot read {path}: {reason}") from error
    if not sentences:
        raise InputError(
            f"{path} has no sentences; give lines of a word and its tag, or .jsonl of tokens and tags"
        )
    return sentences


def _read_lines(path: Path, file: TextIO) -> Iterator[str]:
    for number in itertools.count(1):
        line = file.readline(LONGEST_LINE)
        if len(line) == LONGEST_LINE:
            raise InputError(
                f"line {number} of {path} has {LONGEST_LINE:,} characters or more; give one word a line"
            )
        if not line:
            return
        yield line


def _read_columns(path: Path, lines: Iterator[str]) -> Iterator[Sentence]:
    words: list[str] = []
    tags: list[str] = []
    width = 0
    for number, line in enumerate(lines, start=1):
        columns = _split_columns(line)
        if columns and columns[0] != DOCUMENT:
            if len(columns) < 2:
                raise InputError(
                    f"line {number} of {path} has a word and no tag: {line.strip()[:40]!r}; give both"
                )
            if not columns[0]:
                raise InputError(
                    f"line {number} of {path} has a tag and no word: {line.strip()[:40]!r}; give both"
                )
            width = width or len(columns)
            if len(columns) != width:
                raise InputError(
                    f"line {number} of {path} has {len(columns)} columns and the lines before it {width}: "
                    f"{line.strip()[:40]!r}; give as many on every line, with tabs between them if words hold spaces"
                )
            words.append(columns[0])
            tags.append(columns[-1])
        elif words:
            yield Sentence(tuple(words), tuple(tags))
            words, tags = [], []
    if words:
        yield Sentence(tuple(words), tuple(tags))


def _split_columns(line: str) -> list[str]:
    """The columns of a line; none of an empty one."""
    if not line.strip():
        return []
    line = line.rstrip(" \t\r\n")
    if "\t" in line:
        return [column.strip(" ") for column in line.split("\t")]
    # Not split(): other white space, as in 10\u00a0000, is the word's.
    return [column for column in line.split(" ") if column]


def _read_json(path: Path, lines: Iterator[str], tagged: bool) -> Iterator[Sentence]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            words, tags = row["tokens"], row["tags"] if tagged else ["O"] * len(row["tokens"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise InputError(
                f"line {number} of {path} is no JSON object with tokens and tags; give "
                '{"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}'
            ) from None
        if not all(
            isinstance(part, list) and all(isinstance(one, str) for one in part) for part in (words, tags)
        ):
            raise InputError(f"line {number} of {path}: tokens and tags are lists of strings")
        if len(words) != len(tags):
            raise InputError(
                f"line {number} of {path} has {len(words)} tokens and {len(tags)} tags; give one each"
            )
        if not is_unicode("".join(words + tags)):
            raise InputError(
                f"line {number} of {path} holds half of a surrogate pair, which is no Unicode text"
            )
        if words:
            yield Sentence(tuple(words), tuple(tags))


def encode_sentences(
    sentences: Sequence[Sentence], tokenizer: Any, labels: Sequence[str], max_length: int
) -> EncodedRows:
    """Sentences as tokens: a word's tag stands at its first piece, which alone counts (BERT, section 5.3).

    Args:
        sentences: with tags or without.
        tokenizer: a fast one, which knows which word a piece is of.
        labels: tag names in index order.
        max_length: tokens a row; words beyond are cut.

    Returns:
        Rows with ``token_mask``, 1 at the first piece of each word, and ``labels``, -100 elsewhere.

    Raises:
        InputError: for a tokenizer that is not fast, or a tag that the labels lack.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} is no fast tokenizer, so it does not say which word a piece is of; take a "
            "fast one"
        )
    index = {label: number for number, label in enumerate(labels)}
    for number, sentence in enumerate(sentences, start=1):
        for tag in sentence.tags:
            if tag not in index:
                raise InputError(
                    f"sentence {number} ({' '.join(sentence.words)[:40]!r}): the tag {tag!r} is none of the model's: "
                    f"{', '.join(labels)}; correct the rows"
                )
    flat: dict[str, list[int]] = {"input_ids": [], TOKEN_MASK: [], "labels": []}
    lengths = [0]
    for start in range(0, len(sentences), 1000):
        chunk = sentences[start : start + 1000]
        encoded = tokenizer(
            [list(sentence.words) for sentence in chunk],
            is_split_into_words=True,
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
        )
        for row, sentence in enumerate(chunk):
            places = encoded.word_ids(row)
            firsts = [
                place is not None and (not position or places[position - 1] != place)
                for position, place in enumerate(places)
            ]
            flat["input_ids"] += encoded["input_ids"][row]
            flat[TOKEN_MASK] += [int(first) for first in firsts]
            flat["labels"] += [
                index[sentence.tags[place]] if first and sentence.tags else UNLABELLED
                for place, first in zip(places, firsts, strict=True)
            ]
            lengths.append(len(places))
    columns = {name: np.asarray(values, dtype=np.int32) for name, values in flat.items()}
    return EncodedRows(columns, np.cumsum(lengths))


def predict_tags(model: PreTrainedModel, tokenizer: Any, rows: EncodedRows) -> list[np.ndarray]:
    """The likeliest label of every word that was not cut, by sentence: (words,) indices each.

    The model is put in eval mode and its gradients are stopped.

    Raises:
        InputError: for answers that are no numbers.
    """
    teacher, collator = Teacher(model), DistillationCollator(tokenizer)
    found: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * len(rows)

    def run(part: Mapping[str, Tensor]) -> Tensor:
        return teacher.run({name: value.to(model.device) for name, value in part.items()})["logits"].cpu()

    with teacher.on_accelerator():
        for indices in plan_batches(rows.lengths, BATCH_TOKENS):
            batch = collator([rows[int(i)] for i in indices])
            inputs = {name: value for name, value in batch.items() if name not in ("labels", TOKEN_MASK)}
            logits = torch.cat(run_in_memory(run, inputs))
            if not logits.isfinite().all():
                raise InputError(
                    f"{model.config.name_or_path or 'the model'} answers with NaN or infinity; check its weights, or "
                    "train it at a lower learning rate"
                )
            answers = logits.argmax(dim=-1)
            for place, row in enumerate(indices):
                found[int(row)] = answers[place][batch[TOKEN_MASK][place].bool()].numpy()
    return found


def count_cut_words(sentences: Sequence[Sentence], rows: EncodedRows) -> int:
    """Words that did not fit into their row's tokens, or of which the tokenizer keeps nothing."""
    return sum(len(sentence.words) for sentence in sentences) - int(rows.columns[TOKEN_MASK].sum())


def read_gold(rows: EncodedRows) -> list[np.ndarray]:
    """The gold label of every word that was not cut, by sentence."""
    return [row["labels"][row[TOKEN_MASK].astype(bool)] for row in (rows[i] for i in range(len(rows)))]


# ---- scores ----------------------------------------------------------------------------------------------------------


def name_metrics(labels: Sequence[str]) -> tuple[str, ...]:
    """``span_f1`` first where tags are spans (``B-``, ``I-``), then ``token_accuracy``.

    Tags that also mark the ends of spans, or spans of one word, have the accuracy alone: read as ``B-`` and ``I-``,
    their spans would be others.
    """
    has_spans = any(label.startswith(("B-", "I-")) for label in labels)
    marks_ends = any(label.startswith(OTHER_MARKS) for label in labels)
    return ("span_f1", "token_accuracy") if has_spans and not marks_ends else ("token_accuracy",)


def score_tags(
    gold: Sequence[ArrayLike], predicted: Sequence[ArrayLike], labels: Sequence[str]
) -> dict[str, float]:
    """``token_accuracy`` over words, and ``span_f1`` where tags are spans.

    F1 is over exact spans of all sentences together (micro), as in CoNLL-2003: a span counts if begin, end and kind
    agree; 0 where neither side has any.

    Args:
        gold: label indices of each sentence's words.
        predicted: the same.
        labels: tag names in index order.
    """
    sides = [[np.asarray(tags) for tags in side] for side in (gold, predicted)]
    right = sum(int((one == other).sum()) for one, other in zip(*sides, strict=True))
    scores = {"token_accuracy": right / max(sum(map(len, sides[0])), 1)}
    if "span_f1" not in name_metrics(labels):
        return scores
    counts = np.zeros(3)
    for one, other in zip(*sides, strict=True):
        theirs, ours = (find_spans([labels[tag] for tag in tags]) for tags in (one, other))
        counts += len(theirs & ours), len(theirs), len(ours)
    return {"span_f1": float(2 * counts[0] / max(counts[1] + counts[2], 1)), **scores}


def find_spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """(first word, word after the last, kind) of every span.

    A span begins at ``B-x``, and at an ``I-x`` that continues none of its kind, as conlleval reads it.
    """
    spans: set[tuple[int, int, str]] = set()
    begin, kind = 0, ""
    for position, tag in enumerate([*tags, OUTSIDE]):
        mark, _, own = tag.partition("-")
        continues = mark == "I" and own == kind
        if kind and not continues:
            spans.add((begin, position, kind))
            kind = ""
        if mark in ("B", "I") and not continues:
            begin, kind = position, own
    return spans


def score_predictions(labels: Sequence[str]) -> Any:
    """A ``compute_metrics`` function for a Trainer: the scores, and the first of them as ``score``."""

    def compute(prediction: Any) -> Mapping[str, float]:
        if not np.isfinite(prediction.predictions).all():
            raise NonFiniteLossError(
                "the model's outputs on validation are NaN or infinite; lower the learning rate and run it again"
            )
        gold, answers = prediction.label_ids, prediction.predictions.argmax(axis=-1)
        pairs = [
            (row[row != UNLABELLED], found[row != UNLABELLED])
            for row, found in zip(gold, answers, strict=True)
        ]
        scores = score_tags([own for own, _ in pairs], [found for _, found in pairs], labels)
        return {"score": scores[name_metrics(labels)[0]], **scores}

    return compute
