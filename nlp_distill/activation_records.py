"""Data-free distillation: Lopes et al. 2017, "Data-Free Knowledge Distillation for Deep Neural Networks", arXiv
1710.07535, with the record of the top layer.

Whoever has the training rows keeps, instead of them, what the teacher's top layer made of them: for each class the mean
and the covariance of its activations h. Whoever has only the teacher and that record draws activations of a class c,

    h* = mu_c + L_c n,    L_c L_c^T = Sigma_c,    n ~ N(0, I)

and searches, from random inputs and by gradient descent through the frozen teacher T, for inputs that cause them:

    x* = argmin_x  mean_j (T(x)_j - h*_j)^2                              (Adam; here the mean over the layer's width)

On these x* the student learns from the teacher as from any rows.

The input of a BERT is a text, and has no gradient. So a row is a number of word pieces, drawn from the lengths that the
record keeps; what is optimised is one free vector a piece, and what the teacher reads is the word embedding nearest to
it, the gradient passing through as if it were the vector itself ("straight-through", Bengio et al. 2013, arXiv
1308.3432). What comes out is a list of pieces, the best of all steps for each row, which any student can read, whatever
its tokenizer. Pieces that do not stand for themselves (special tokens, continuations of words) are never taken.

The top layer here is the last hidden state of the first token, which the heads of BERT, RoBERTa, ELECTRA and DistilBERT
read. Deviations from the paper and its code: words instead of pixels (above); no ReLU around both sides of the
difference, since a hidden state has a sign; a small multiple of the identity on every covariance, where the code goes
back to standard deviations if one has no Cholesky factor; classes by their frequency in the record, where the code
makes as many of each; the records of all layers and the spectral ones are not here.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor
from transformers import PreTrainedModel

from data_augment.errors import InputError
from nlp_distill.manifest import replacing

RIDGE = 1e-3  # times the mean variance, on the diagonal of every covariance
ARRAYS = ("counts", "means", "factors", "lengths")


@dataclass(frozen=True)
class ActivationRecord:
    """What is kept of the training rows.

    Args:
        counts: rows of each class, (classes,).
        means: mu, (classes, width).
        factors: L, lower triangular, (classes, width, width).
        lengths: how many rows have 0, 1, 2, ... word pieces, special tokens not counted.
        teacher: SHA-256 of the weights that the activations are of.
        labels: the teacher's labels; none for a regression, which has one class here.
    """

    counts: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    lengths: np.ndarray
    teacher: str
    labels: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write it as safetensors, whole or not at all."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        with replacing(path) as temporary:
            save_file(arrays, temporary, {"teacher": self.teacher, "labels": json.dumps(self.labels)})

    @classmethod
    def load(cls, path: str | Path) -> "ActivationRecord":
        """What :meth:`save` wrote.

        Raises:
            InputError: for a file that is none, or damaged.
        """
        try:
            with safe_open(path, "numpy") as file:
                described = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in ARRAYS}
            labels = tuple(json.loads(described["labels"]))
            _check_shapes(**arrays, classes=max(len(labels), 1))
            return cls(**arrays, teacher=described["teacher"], labels=labels)
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise InputError(
                f"{path} is no record of activations ({error}); give a file that `nlp-distill record` wrote"
            ) from error

    def draw(self, classes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """h* of some rows, (rows, width), whose classes are given as indices, (rows,)."""
        noise = generator.standard_normal((len(classes), self.means.shape[1]), dtype=np.float32)
        return self.means[classes] + np.einsum("rij,rj->ri", self.factors[classes], noise)


def _check_shapes(
    counts: np.ndarray, means: np.ndarray, factors: np.ndarray, lengths: np.ndarray, classes: int
) -> None:
    width = means.shape[-1]
    shapes = (counts.shape, means.shape, factors.shape, lengths.ndim)
    if shapes != ((classes,), (classes, width), (classes, width, width), 1):
        raise ValueError(f"its arrays have shapes that do not go together: {shapes}")
    if min(counts.min(), lengths.min()) < 0 or not counts.sum() or not lengths.sum():
        raise ValueError("its counts are of no rows")


class ActivationSums:
    """Counts, sums and sums of products of the activations of each class, added up batch by batch in float64."""

    def __init__(self, classes: int, width: int):
        self.counts = np.zeros(classes, dtype=np.int64)
        self.sums = np.zeros((classes, width))
        self.products = np.zeros((classes, width, width))

    def add(self, activations: np.ndarray, classes: np.ndarray) -> None:
        """Take in activations, (rows, width), of rows whose classes are given, (rows,)."""
        for label in np.unique(classes):
            own = activations[classes == label].astype(np.float64)
            self.counts[label] += len(own)
            self.sums[label] += own.sum(axis=0)
            self.products[label] += own.T @ own

    def summarise(self) -> tuple[np.ndarray, np.ndarray]:
        """Means, (classes, width), and Cholesky factors of the covariances, (classes, width, width), in float32.

        Raises:
            InputError: for a class with fewer than two rows, which has no covariance.
        """
        if (self.counts < 2).any():
            raise InputError(
                f"classes have {self.counts.tolist()} rows; the covariance of a class needs at least two"
            )
        counts = self.counts[:, None, None]
        means = self.sums / self.counts[:, None]
        covariances = (self.products - counts * means[:, :, None] * means[:, None, :]) / (counts - 1)
        width = means.shape[1]
        variances = np.trace(covariances, axis1=1, axis2=2) / width
        covariances += RIDGE * np.maximum(variances, 1e-12)[:, None, None] * np.eye(width)
        return means.astype(np.float32), np.linalg.cholesky(covariances).astype(np.float32)


def read_top_layer(encoder: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """The last hidden state of the first token, (batch, width)."""
    return encoder(**inputs).last_hidden_state[:, 0]


@dataclass(frozen=True)
class Frame:
    """How a text stands among special tokens, and which pieces may stand in it.

    Args:
        before: ids of the special tokens before a text.
        after: of those behind it.
        pieces: ids of the pieces that stand for themselves, (pieces,).
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    pieces: Tensor

    @classmethod
    def of(cls, tokenizer: Any) -> "Frame":
        """The frame of a tokenizer: pieces that, written as text and read again, are themselves.

        Raises:
            InputError: for a tokenizer that puts no special token around a text, or has no such piece.
        """
        empty = tokenizer("")["input_ids"]
        if len(empty) < 2:
            raise InputError(
                f"{type(tokenizer).__name__} puts {len(empty)} special token(s) around a text; the teacher must read "
                "one before it and one behind it, as BERT, RoBERTa, ELECTRA and DistilBERT do"
            )
        special = set(tokenizer.all_special_ids)
        ids = [i for i in range(len(tokenizer)) if i not in special]
        written = tokenizer.batch_decode([[i] for i in ids], clean_up_tokenization_spaces=False)
        read = tokenizer(written, add_special_tokens=False)["input_ids"]
        kept = [i for i, text, own in zip(ids, written, read, strict=True) if own == [i] and text.strip()]
        if not kept:
            raise InputError(f"{type(tokenizer).__name__} has no piece that is a word of its own")
        return cls(tuple(empty[:1]), tuple(empty[1:]), torch.tensor(kept))


class Inverter:
    """Texts that cause given activations in a teacher.

    Args:
        teacher: a classifier of texts, frozen, in eval mode.
        frame: of its tokenizer.
        padding_id: what stands behind shorter rows.
        steps: of Adam.
        learning_rate: of Adam, in standard deviations of the word embeddings.
    """

    def __init__(
        self, teacher: PreTrainedModel, frame: Frame, padding_id: int, steps: int, learning_rate: float
    ):
        self.encoder: Any = teacher.base_model
        self.frame, self.padding_id, self.steps = frame, padding_id, steps
        words: Any = teacher.get_input_embeddings()
        self.embeddings: Tensor = words.weight.detach()
        self.candidates = self.embeddings[frame.pieces.to(self.embeddings.device)]
        self.half_squares = self.candidates.square().sum(dim=-1) / 2
        self.step_size = learning_rate * float(self.candidates.std())

    def invert(
        self, wanted: Tensor, lengths: Sequence[int], generator: np.random.Generator
    ) -> tuple[list[list[int]], Tensor, Tensor]:
        """The best pieces found for every row.

        Args:
            wanted: h*, (rows, width).
            lengths: pieces of each row.
            generator: draws the pieces that the search begins with.

        Returns:
            Ids of the pieces of each row, without special tokens; and the mean squared distance to ``wanted`` of the
            random beginning and of what was found, (rows,) each.
        """
        ids, is_free = self._begin(lengths, generator)
        mask = (torch.arange(ids.shape[1]) < (is_free.sum(1) + len(self.frame.after) + 1)[:, None]).long()
        ids, is_free, mask = (part.to(wanted.device) for part in (ids, is_free, mask))
        free = self.embeddings[ids[is_free]].clone().requires_grad_()
        optimizer = torch.optim.Adam([free], lr=self.step_size)
        best, best_ids = wanted.new_full((len(lengths),), math.inf), ids.clone()
        for step in range(self.steps + 1):
            read, embedded = self._read(ids, is_free, free)
            top = read_top_layer(self.encoder, {"inputs_embeds": embedded, "attention_mask": mask})
            distances = (top - wanted).square().mean(dim=-1)
            found = distances.detach()
            if step == 0:
                first = found
            is_better = found < best
            best, best_ids[is_better] = torch.where(is_better, found, best), read[is_better]
            if step < self.steps:
                optimizer.zero_grad()
                distances.sum().backward()
                optimizer.step()
        return [row[own].tolist() for row, own in zip(best_ids, is_free, strict=True)], first, best

    def _read(self, ids: Tensor, is_free: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """The pieces nearest to the free vectors, in their places among ``ids``, and what the teacher reads of them.

        Returns:
            Ids, (rows, seq), and embeddings, (rows, seq, embedding size), whose gradient is that of ``free``.
        """
        read = ids.clone()
        read[is_free] = self._find_nearest(free.detach())
        embedded = self.embeddings[read]
        embedded[is_free] = free + (embedded[is_free] - free.detach())
        return read, embedded

    def _begin(self, lengths: Sequence[int], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Random pieces in their frame, (rows, seq), and where they are."""
        start = len(self.frame.before)
        width = start + max(lengths) + len(self.frame.after)
        ids = torch.full((len(lengths), width), self.padding_id)
        is_free = torch.zeros_like(ids, dtype=torch.bool)
        for row, length in enumerate(lengths):
            drawn = generator.integers(len(self.frame.pieces), size=length)
            whole = [*self.frame.before, *self.frame.pieces[drawn].tolist(), *self.frame.after]
            ids[row, : len(whole)] = torch.tensor(whole)
            is_free[row, start : start + length] = True
        return ids, is_free

    def _find_nearest(self, vectors: Tensor) -> Tensor:
        """Ids of the pieces whose embeddings are nearest: argmin |v - e|^2 = argmax (v . e - |e|^2 / 2)."""
        return self.frame.pieces.to(vectors.device)[
            (vectors @ self.candidates.T - self.half_squares).argmax(dim=-1)
        ]
