"""Texts with a teacher's answers in one ``.npz``, and how scikit-learn learns from them. Needs NumPy alone.

    from nlp_distill.teacher_rows import load_teacher_rows

    rows = load_teacher_rows("labelled.npz")
    texts, classes, weights = rows.spread()
    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    model.fit(texts, classes, logisticregression__sample_weight=weights)

The arrays of the file (no pickles): ``probabilities`` (rows, classes) float32, ``class_names``, ``targets`` (rows,),
``sample_weights`` (rows,) float32, and ``texts``, ``ids`` and, for pairs, ``text_pairs`` as UTF-8 bytes with
``texts_ends`` ... where each string ends. NumPy's own strings would pad every text to the longest and drop NULs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

STRINGS = ("ids", "texts", "text_pairs")


@dataclass(frozen=True)
class TeacherRows:
    """Texts and what the teacher answers.

    Args:
        ids: id of every row.
        texts: the (first) text of every row.
        text_pairs: the second text of every row, ``None`` where a row has one.
        class_names: names of the classes in the order of ``probabilities``; empty for a regression.
        probabilities: (rows, classes) float32, each row sums to 1; ``None`` for a regression.
        targets: (rows,) index of the likeliest class, int64; of a regression the teacher's value, float32.
        sample_weights: (rows,) float32, the probability of the likeliest class: how much the teacher vouches for the
            target; 1 in a regression.
    """

    ids: list[str]
    texts: list[str]
    text_pairs: list[str] | None
    class_names: tuple[str, ...]
    probabilities: np.ndarray | None
    targets: np.ndarray
    sample_weights: np.ndarray

    def spread(self, at_least: float = 0.0) -> tuple[list[Any], np.ndarray, np.ndarray]:
        """Every row once a class, weighted by the class's probability.

        A classifier that minimises the weighted log loss of these minimises the cross-entropy with the teacher's
        probabilities, sum_i sum_c p_ic (-log q_ic): the exact objective of soft labels, where ``fit`` takes none.

        Args:
            at_least: leave out classes with a smaller probability: fewer rows, and no longer exact.

        Returns:
            Texts (pairs as tuples), class indices, sample weights.

        Raises:
            ValueError: for a regression, which has no classes.
        """
        if self.probabilities is None:
            raise ValueError("the rows are of a regression, which has no classes; fit targets themselves")
        kept = (self.probabilities > 0) & (self.probabilities >= at_least)
        rows, classes = np.nonzero(kept)
        texts = self.texts if self.text_pairs is None else list(zip(self.texts, self.text_pairs, strict=True))
        return [texts[row] for row in rows], classes, self.probabilities[rows, classes]


def save_teacher_rows(file: Any, rows: TeacherRows) -> None:
    """Write the rows to an open binary file."""
    arrays: dict[str, np.ndarray] = {
        "class_names": np.array(rows.class_names, dtype=np.str_),
        "targets": rows.targets,
        "sample_weights": rows.sample_weights,
    }
    if rows.probabilities is not None:
        arrays["probabilities"] = rows.probabilities
    for name in STRINGS:
        if (strings := getattr(rows, name)) is not None:
            arrays |= _pack(name, strings)
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_teacher_rows(path: str | Path) -> TeacherRows:
    """What ``nlp-distill hand-over --format sklearn`` wrote.

    Raises:
        KeyError: if the file holds other arrays.
    """
    with np.load(path, allow_pickle=False) as arrays:
        strings = {name: _unpack(name, arrays) for name in STRINGS if name in arrays}
        return TeacherRows(
            ids=strings["ids"],
            texts=strings["texts"],
            text_pairs=strings.get("text_pairs"),
            class_names=tuple(arrays["class_names"].tolist()),
            probabilities=arrays.get("probabilities"),
            targets=arrays["targets"],
            sample_weights=arrays["sample_weights"],
        )


def _pack(name: str, strings: Sequence[str]) -> dict[str, np.ndarray]:
    encoded = [string.encode() for string in strings]
    ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
    return {name: np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{name}_ends": ends}


def _unpack(name: str, arrays: Any) -> list[str]:
    content, ends = arrays[name].tobytes(), arrays[f"{name}_ends"].tolist()
    return [content[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
