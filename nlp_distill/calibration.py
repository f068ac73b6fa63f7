"""Texts that a model is run on to see how wide its activations are, before they are written in int8."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from nlp_distill.runtime import Text
from nlp_distill.tasks import TaskData

CALIBRATION_ROWS = 200
DRAWN = 100  # texts, where there are none to be had


def draw_texts(tokenizer: Any, is_pair: bool | None, seed: int = 0) -> list[Text]:
    """Texts of random words of the vocabulary; pairs for a model that compares two, half where that is open."""
    source = np.random.default_rng(seed)
    words = sorted(word for word in tokenizer.get_vocab() if word.isalpha())

    def draw(longest: int) -> str:
        return " ".join(source.choice(words, size=source.integers(1, longest)))

    # The halves of a pair are shorter, so that few are cut.
    pairs = {True: DRAWN, False: 0, None: DRAWN // 2}[is_pair]
    singles: list[Text] = [draw(40) for _ in range(DRAWN - pairs)]
    return singles + [(draw(20), draw(20)) for _ in range(pairs)]


def draw_calibration(data: TaskData) -> list[Text]:
    """Train rows of a task, ``CALIBRATION_ROWS`` at most, spread evenly: nothing is scored on them."""
    count = min(CALIBRATION_ROWS, len(data.train))
    spread = np.linspace(0, len(data.train) - 1, count).astype(int)
    return list(data.task.read_texts(data.train.select(spread)))


def split_sample(texts: Sequence[Text]) -> tuple[list[Text], list[Text]]:
    """A fifth of some texts to calibrate on, ``CALIBRATION_ROWS`` at most, and the others to compare answers on.

    A single text is both.
    """
    count = max(1, min(len(texts) // 5, CALIBRATION_ROWS))
    return list(texts[:count]), list(texts[count:] or texts)


def calibrate(
    texts: Sequence[Text], tokenizer: Any, names: Sequence[str], max_length: int
) -> Iterator[dict[str, np.ndarray]]:
    """One text at a time as the model's inputs (1, seq), ``CALIBRATION_ROWS`` at most."""
    for text in texts[:CALIBRATION_ROWS]:
        encoded = encode(tokenizer, [text], names, max_length)
        yield {name: tensor.numpy() for name, tensor in encoded.items()}


def encode(tokenizer: Any, texts: Sequence[Text], names: Sequence[str], max_length: int) -> dict[str, Tensor]:
    """Texts, or pairs of them, as the model's inputs (batch, seq)."""
    pairs = [text if isinstance(text, tuple) else (text, None) for text in texts]
    first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    given = (first,) if second[0] is None else (first, second)
    encoded = tokenizer(
        *given,
        truncation=True,
        max_length=max_length,
        padding=True,
        return_tensors="pt",
        return_token_type_ids="token_type_ids" in names,
    )
    return {name: encoded[name] for name in names}
