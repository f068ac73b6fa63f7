"""What a student's embeddings start from: the teacher's word pieces, random vectors, or GloVe."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from data_augment.errors import InputError
from data_augment.glove import find_packaged_glove, load_glove
from nlp_distill.limits import check_whole
from nlp_distill.stages import announce
from nlp_distill.students import (
    embeddings_from_glove,
    embeddings_from_teacher,
    trim_vocabulary,
    word_tokenizer,
)


@dataclass(frozen=True)
class TeacherWordPieces:
    """Start from the teacher's word-piece vectors (reduced by PCA), trimmed to the pieces that the corpus uses.

    Args:
        size: numbers a piece; at most the teacher's width is used.
        vocabulary_size: at most so many pieces, the most frequent; ``None`` for all that occur.
    """

    size: int = 300
    vocabulary_size: int | None = None

    def __post_init__(self) -> None:
        check_vectors(self.size, self.vocabulary_size)

    def check(self, teacher: PreTrainedModel, tokenizer) -> None:
        """Refuse, before any work, a tokenizer that cannot be trimmed, or not so far."""
        trim_vocabulary(tokenizer, [], max_size=self.vocabulary_size)

    def build(self, teacher: PreTrainedModel, tokenizer, texts: Iterable[str]) -> tuple[Any, torch.Tensor]:
        """The student's tokenizer and (vocabulary, size) matrix."""
        trimmed, kept_ids = trim_vocabulary(tokenizer, texts, max_size=self.vocabulary_size)
        vectors: Any = (
            teacher.get_input_embeddings()
        )  # not the config's width: ELECTRA's and a SAN head's differ
        return trimmed, embeddings_from_teacher(teacher, kept_ids, min(self.size, vectors.weight.shape[1]))


@dataclass(frozen=True)
class RandomWordPieces:
    """The same trimmed word pieces with random vectors: nothing of the teacher is in them."""

    size: int = 300
    vocabulary_size: int | None = None

    def __post_init__(self) -> None:
        check_vectors(self.size, self.vocabulary_size)

    def check(self, teacher: PreTrainedModel, tokenizer) -> None:
        """Refuse, before any work, a tokenizer that cannot be trimmed, or not so far."""
        trim_vocabulary(tokenizer, [], max_size=self.vocabulary_size)

    def build(self, teacher: PreTrainedModel, tokenizer, texts: Iterable[str]) -> tuple[Any, torch.Tensor]:
        """The student's tokenizer and (vocabulary, size) matrix."""
        trimmed, kept_ids = trim_vocabulary(tokenizer, texts, max_size=self.vocabulary_size)
        generator = torch.Generator().manual_seed(0)
        return trimmed, torch.randn(len(kept_ids), self.size, generator=generator) * 0.3


@dataclass(frozen=True)
class GloveWords:
    """Whole words with GloVe vectors: the packaged 50-d ones, or those of a text file."""

    source: str | None = None

    def __post_init__(self) -> None:
        # Seen now, not when the labelling is done.
        if self.source is not None and not Path(self.source).is_file():
            raise InputError(f"no file {self.source}; give GloVe vectors as text, one word a line")

    def check(self, teacher: PreTrainedModel, tokenizer) -> None:
        """Refuse, before any work, vectors that are not there."""
        if self.source is None:
            find_packaged_glove()

    def build(self, teacher: PreTrainedModel, tokenizer, texts: Iterable[str]) -> tuple[Any, torch.Tensor]:
        """The student's tokenizer and (vocabulary, size) matrix."""
        glove = load_glove(self.source)
        words = word_tokenizer(texts, glove_words=set(glove.words), min_count=2)
        matrix, coverage = embeddings_from_glove(words, glove)
        announce(f"GloVe has vectors for {coverage:.1%} of the student's {len(words):,} words")
        return words, matrix


def check_vectors(size: int, vocabulary_size: int | None) -> None:
    """Refuse sizes that no embedding matrix has."""
    check_whole("embedding_size", size, at_least=1)
    if vocabulary_size is not None:
        check_whole("vocabulary_size", vocabulary_size, at_least=1)


WordVectors = TeacherWordPieces | RandomWordPieces | GloveWords
