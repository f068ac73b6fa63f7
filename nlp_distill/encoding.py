"""Tokenised rows in flat arrays: small in memory, fast to batch, with labels and cached teacher logits beside them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch

from data_augment.errors import InputError
from data_augment.rows import is_unicode
from nlp_distill.objectives.hard_labels import UNLABELLED
from nlp_distill.runtime import cut

CHUNK_ROWS = 8192  # rows handed to the tokenizer at a time


class EncodedRows(torch.utils.data.Dataset):
    """Rows as a ``Trainer`` takes them, held as flat token arrays with offsets.

    Twelve tokens cost about 50 bytes a row, where a list of dictionaries costs some 2,000, and a row is a slice.

    Args:
        columns: flat int32 token arrays by input name (``input_ids``, and ``token_type_ids`` for pairs).
        offsets: (rows + 1,) where each row begins in them.
        labels: (rows,) int64 with -100 for "none", or float32 with NaN for "none"; or ``None``.
        teacher_logits: (rows, classes) or (rows, teachers, classes) float32, or ``None``.
    """

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        offsets: np.ndarray,
        labels: np.ndarray | None = None,
        teacher_logits: np.ndarray | None = None,
    ):
        self.columns = dict(columns)
        self.offsets = offsets
        self.labels = labels
        self.teacher_logits = teacher_logits

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of every row, special tokens included: (rows,)."""
        return np.diff(self.offsets)

    def sort_by_length(self) -> "EncodedRows":
        """The same rows, longest first: less padding where order does not matter, as in scoring a split."""
        order = np.argsort(-self.lengths, kind="stable")
        positions = (
            np.concatenate([np.arange(*self.offsets[i : i + 2]) for i in order]) if len(order) else order
        )
        return EncodedRows(
            {name: tokens[positions] for name, tokens in self.columns.items()},
            np.concatenate([[0], np.cumsum(self.lengths[order])]),
            None if self.labels is None else self.labels[order],
            None if self.teacher_logits is None else self.teacher_logits[order],
        )

    def label_by_teacher(self) -> "EncodedRows":
        """The same rows; those without a label get the teacher's: its most likely class, or its value.

        Tang et al. 2019, section 3.2, so that the hard-label term covers the whole transfer set. Needs
        ``teacher_logits`` of one teacher, (rows, classes).
        """
        logits = self.teacher_logits
        if logits is None or logits.ndim != 2:
            raise ValueError("labels by the teacher need teacher_logits of shape (rows, classes)")
        answers = logits[:, 0] if logits.shape[1] == 1 else logits.argmax(axis=1)
        if self.labels is None:
            return EncodedRows(self.columns, self.offsets, answers, logits)
        missing = np.isnan(self.labels) if self.labels.dtype.kind == "f" else self.labels == UNLABELLED
        return EncodedRows(self.columns, self.offsets, np.where(missing, answers, self.labels), logits)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        start, end = self.offsets[:-1][index], self.offsets[1:][index]
        row: dict[str, Any] = {name: tokens[start:end] for name, tokens in self.columns.items()}
        if self.labels is not None:
            row["labels"] = self.labels[index]
        if self.teacher_logits is not None:
            row["teacher_logits"] = self.teacher_logits[index]
        return row


def encode_rows(
    rows: Iterable[Mapping[str, Any]],
    tokenizer,
    text_columns: Sequence[str],
    max_length: int,
    teacher_logits: np.ndarray | None = None,
) -> EncodedRows:
    """Tokenise the text columns of ``rows``, truncated to ``max_length`` tokens; nothing is padded.

    Args:
        rows: mappings, for example a ``datasets.Dataset``; a ``label`` column is taken along where there is one.
        tokenizer: the tokenizer of the model that will read them. Pairs get ``token_type_ids`` where it lists them
            among its ``model_input_names``.
        text_columns: one column, or two for pairs (truncated longest first).
        max_length: tokens a row, special tokens included.
        teacher_logits: cached logits in the order of ``rows``; by default the rows' own ``teacher_logits`` column.

    Raises:
        InputError: for a column that the rows do not have, and a text that is no Unicode.
    """
    flat: dict[str, list[np.ndarray]] = {}
    lengths: list[np.ndarray] = [np.zeros(1, dtype=np.int64)]
    labels: list[Any] = []
    logits: list[Any] = []
    # As pipelines and exported models ask it: what it does not list, they do not feed.
    with_types = len(text_columns) == 2 and "token_type_ids" in tokenizer.model_input_names
    names = ["input_ids", *(["token_type_ids"] if with_types else [])]
    for chunk in iterate_chunks(rows, CHUNK_ROWS):
        if missing := [column for column in text_columns if column not in chunk[0]]:
            raise InputError(f"the rows have no column {missing[0]!r}; theirs are {', '.join(chunk[0])}")
        texts = [[row[column] for row in chunk] for column in text_columns]
        if broken := [
            text for column in texts for text in column if isinstance(text, str) and not is_unicode(text)
        ]:
            raise InputError(
                f"a text holds half of a surrogate pair, which is no Unicode text: {broken[0][:40]!r}"
            )
        encoded = _tokenise(tokenizer, texts, max_length, with_types)
        lengths.append(np.fromiter(map(len, encoded["input_ids"]), dtype=np.int64, count=len(chunk)))
        for name in names:
            tokens = [token for row in encoded[name] for token in row]
            flat.setdefault(name, []).append(np.asarray(tokens, dtype=np.int32))
        labels += [row.get("label") for row in chunk]
        if teacher_logits is None and "teacher_logits" in chunk[0]:
            logits.append(np.asarray([row["teacher_logits"] for row in chunk], dtype=np.float32))
    if logits:
        teacher_logits = np.concatenate(logits)
    columns = {name: np.concatenate(flat[name]) if flat else np.zeros(0, np.int32) for name in names}
    return EncodedRows(columns, np.cumsum(np.concatenate(lengths)), _collect_labels(labels), teacher_logits)


def encode_for_teacher(
    rows: datasets.Dataset, tokenizer: Any, text_columns: Sequence[str], max_length: int
) -> datasets.Dataset:
    """Add the teacher's own encoding to rows, for an online teacher that tokenises differently from its student.

    Args:
        rows: rows with the text columns, which may already carry the student's encoding.
        tokenizer: the teacher's tokenizer.
        text_columns: one column, or two for pairs.
        max_length: tokens a row, special tokens included.

    Returns:
        The rows with ``teacher_input_ids``, and ``teacher_token_type_ids`` where the tokenizer makes them.
    """

    def encode(batch: Mapping[str, Any]) -> dict[str, Any]:
        texts = [batch[column] for column in text_columns]
        encoded = _tokenise(tokenizer, texts, max_length, "token_type_ids" in tokenizer.model_input_names)
        return {f"teacher_{name}": values for name, values in encoded.items()}

    return rows.map(encode, batched=True)


def iterate_chunks(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Lists of up to ``size`` rows, in order; fast over a ``datasets.Dataset``, whose rows come in columns."""
    if hasattr(rows, "column_names") and hasattr(rows, "__len__"):
        for start in range(0, len(rows), size):  # type: ignore[arg-type]
            columns = rows[start : start + size]  # type: ignore[index]
            names = list(columns)
            yield [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(dict(row))
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _tokenise(
    tokenizer: Any, texts: Sequence[Sequence[str]], max_length: int, with_types: bool
) -> Mapping[str, list[list[int]]]:
    """Texts, or pairs of them, as token ids (and types), cut to ``max_length``."""
    settings = {"return_attention_mask": False, "return_token_type_ids": with_types}
    if len(texts) == 1 or not tokenizer.is_fast:
        return tokenizer(*texts, truncation=True, max_length=max_length, **settings)
    # Cut by us: the tokenizer's own truncation of long pairs takes the square of their length, in time and memory.
    encoded = tokenizer(*texts, verbose=False, **settings)
    rows = [cut(row, max_length, tokenizer.truncation_side) for row in encoded.encodings]
    types = {"token_type_ids": [row.type_ids for row in rows]} if with_types else {}
    return {"input_ids": [row.ids for row in rows]} | types


def _collect_labels(labels: list[Any]) -> np.ndarray | None:
    if all(label is None for label in labels):
        return None
    if any(isinstance(label, float | np.floating) for label in labels):
        return np.array([np.nan if label is None else label for label in labels], dtype=np.float32)
    return np.array([UNLABELLED if label is None else label for label in labels], dtype=np.int64)
