"""First embeddings for a student: from a teacher's word pieces, or from GloVe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data_augment.errors import InputError

if TYPE_CHECKING:
    from data_augment.glove import Glove


def embeddings_from_teacher(
    teacher: PreTrainedModel | Tensor,
    kept_ids: Sequence[int] | None = None,
    size: int | None = None,
    *,
    std: float = 0.3,
) -> Tensor:
    """A teacher's word-piece vectors as a student's embedding matrix, float32 (len(kept_ids), size).

        X = E[kept_ids] - mean over rows;   X V_size (the top principal components) if size < width;
        then one factor for the whole matrix, so that its standard deviation is `std`.

    Scaling: a BERT's word pieces have a common offset and a standard deviation near 0.05, because layer norm
    follows them. An LSTM has no such norm and would start with its gates barely moved, so the offset goes and
    the scale becomes that of trained word vectors. One common factor keeps all angles and relative distances.

    Arguments
        teacher: a model, or its matrix (vocab, width).
        kept_ids: its rows in the student's order (from `trim_vocabulary`); None = all.
        size: numbers a row; None = the teacher's width.
        std: standard deviation of the result.

    Raises InputError when size exceeds the width (or the number of rows, which bounds the components), or an
    id is not a row of the matrix.
    """
    matrix = teacher if isinstance(teacher, Tensor) else _input_matrix(teacher)
    rows = np.arange(len(matrix)) if kept_ids is None else np.asarray(kept_ids, dtype=np.int64)
    width = int(matrix.shape[1])
    size = width if size is None else size
    if not 1 <= size <= width:
        raise InputError(
            f"embedding size {size} from teacher embeddings of width {width}: "
            f"give 1 to {width}, or use GloVe or random"
        )
    if len(rows) < 1 or rows.min() < 0 or rows.max() >= len(matrix):
        raise InputError(f"kept_ids must be ids of the teacher's {len(matrix)} word pieces, and at least one")
    if size < width and size > len(rows):
        raise InputError(f"embedding size {size} needs at least as many word pieces, {len(rows)} were kept")
    kept = matrix.detach().to("cpu", torch.float64).numpy()[rows]
    kept = kept - kept.mean(axis=0)
    if size < width:
        kept = kept @ _principal_axes(kept, size)
    spread = kept.std()
    return torch.from_numpy((kept * (std / spread if spread > 0 else 1.0)).astype(np.float32))


def _input_matrix(model: PreTrainedModel) -> Tensor:
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)  # for the type checker: modules type their attributes loosely
    return weight


def _principal_axes(centred: np.ndarray, count: int) -> np.ndarray:
    """The `count` directions (width, count) of largest variance of centred rows, largest first.

    Each is signed so that its largest number is positive: the same matrix on every machine.
    """
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    axes = axes[:, ::-1][:, :count]
    largest = np.abs(axes).argmax(axis=0)
    return axes * np.sign(axes[largest, np.arange(count)])


def embeddings_from_glove(
    tokenizer: PreTrainedTokenizerBase, glove: Glove, size: int | None = None, *, seed: int = 0
) -> tuple[Tensor, float]:
    """GloVe vectors for a tokenizer's words: (float32 matrix (vocab, size), share of words found).

    Words without a vector get normal noise with the standard deviation of the vectors found; so do special
    tokens, which do not count towards the share. The padding row is zero. A word is looked up as it is, then
    lower-cased. `size` must be the vectors' own size when given.

    Raises InputError when `size` differs from the vectors' size, or GloVe has none of the words.
    """
    width = int(glove.vectors.shape[1])
    if size is not None and size != width:
        raise InputError(
            f"embedding size {size} from GloVe vectors of {width} numbers: give {width}, or other vectors"
        )
    index = {word: row for row, word in enumerate(glove.words)}
    special = set(tokenizer.all_special_ids)
    vocabulary = {word: own for word, own in tokenizer.get_vocab().items() if own not in special}
    pairs = [(own, index.get(word, index.get(word.lower()))) for word, own in vocabulary.items()]
    found = [(own, row) for own, row in pairs if row is not None]
    if not found:
        raise InputError(
            "GloVe has none of the tokenizer's words: use a word-level tokenizer (`word_tokenizer`)"
        )
    own_rows, glove_rows = (np.array(side) for side in zip(*found, strict=True))
    vectors = np.asarray(glove.vectors[glove_rows], dtype=np.float32)
    matrix = (
        np.random.default_rng(seed).normal(0.0, vectors.std(), (len(tokenizer), width)).astype(np.float32)
    )
    matrix[own_rows] = vectors
    if tokenizer.pad_token_id is not None:
        matrix[tokenizer.pad_token_id] = 0.0
    return torch.from_numpy(matrix), len(found) / len(vocabulary)
