"""Exported models as the service asks them: every label with its probability, and nothing that is no number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill import runtime
from nlp_distill.serve.batcher import Answer, Text


@dataclass(frozen=True)
class Served:
    """A model that answers.

    Args:
        name: for people; the last part of the folder's name.
        classifier: the exported model.
        labels: their names, in the order of the logits; none for a regression.
    """

    name: str
    classifier: runtime.Classifier
    labels: tuple[str, ...]

    @property
    def is_pair(self) -> bool | None:
        """Whether it compares two texts; ``None`` where the export did not say, and both are answered."""
        return self.classifier.settings["is_pair"]

    @property
    def max_length(self) -> int:
        """Tokens that it reads; longer texts are cut to the ``kept_end``."""
        return self.classifier.settings["max_length"]

    @property
    def kept_end(self) -> str:
        """Which tokens of a long text it reads: the ``first`` or, where texts are cut on the left, the ``last``."""
        return "last" if self.classifier.settings.get("truncation_side") == "left" else "first"

    def describe(self) -> dict[str, Any]:
        """``{"name", "labels", "reads", "max_length", "quantize"}``, for people and programs."""
        reads = {True: "pairs", False: "texts", None: "texts or pairs"}[self.is_pair]
        return {
            "name": self.name,
            "labels": list(self.labels),
            "reads": reads,
            "max_length": self.max_length,
            "quantize": self.classifier.settings.get("quantize", "none"),
        }

    def answer(self, texts: Sequence[Text]) -> list[Answer]:
        """``{"label", "score", "probabilities"}`` for each text, ``{"value"}`` of a regression.

        Raises:
            ValueError: if the model's output is no finite number, which JSON cannot hold.
        """
        if not self.labels:
            return [{"value": _check(float(value))} for value in self.classifier.compute_logits(texts)[:, 0]]
        rows = self.classifier.compute_probabilities(texts)
        return [self._name([_check(float(value)) for value in row]) for row in rows]

    def warm_up(self) -> None:
        """Answer once, so that the first person does not wait for the model's first run."""
        self.answer([("a text", "another") if self.is_pair else "a text"])

    def _name(self, row: list[float]) -> Answer:
        best = max(range(len(row)), key=row.__getitem__)
        return {
            "label": self.labels[best],
            "score": row[best],
            "probabilities": dict(zip(self.labels, row, strict=True)),
        }


def open_exported(folder: str | Path, name: str | None = None) -> Served:
    """The model in a folder that ``nlp-distill export`` wrote.

    Args:
        folder: holds model.onnx, tokenizer.json and runtime.json.
        name: for people, where it is not the folder's.

    Raises:
        InputError: for another folder, an exported program of torch, or damaged files.
    """
    folder = Path(folder)
    if (folder / runtime.SETTINGS).exists() and not (folder / runtime.MODEL).exists():
        raise InputError(
            f"{folder} holds no {runtime.MODEL}: an exported program runs in programs of torch; export as ONNX "
            "(--format onnx)"
        )
    try:
        classifier = runtime.Classifier(folder)
        served = Served(name or folder.resolve().name, classifier, tuple(classifier.labels))
        served.describe()
        served.warm_up()
    except ImportError as error:
        raise InputError(
            f'serving needs {error.name}, which is not installed; run `pip install "nlp_distill[serve]"`'
        ) from None
    except runtime.WrongKindError as error:
        raise InputError(f"{error}: only classifiers of whole texts can be served") from error
    # onnxruntime and tokenizers raise errors of their own, which share no other base
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"cannot serve {folder}: {reason}; export the model again") from error
    return served


def _check(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"the model's output is {value}")
    return value
