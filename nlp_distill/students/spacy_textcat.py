"""spaCy's text classifier as a student: a blank pipeline with one ``textcat``, trained on probabilities.

    ensemble  a small CNN over hashed word features beside a bag of words (spaCy's own default)
    bow       the bag of words alone (TextCatBOW): smaller and faster

``textcat.update`` of spaCy 3.8 refuses categories other than 0 and 1, so its steps are made here. The loss is the
cross-entropy of the probabilities p with the targets t, so the gradient at the logits is p - t. That is spaCy's own
step for the ensemble. For the bag of words spaCy passes p - t through the derivative of the softmax as well, which is
the squared error of the probabilities: where p is near 0 or 1 and wrong, that hardly learns, and the sure targets of a
teacher bring it there. What is saved is a plain spaCy pipeline.

Nothing is downloaded: word features are hashes, learnt from random numbers.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nlp_distill.limits import check_positive, check_share, check_whole
from nlp_distill.processes import is_main_process
from nlp_distill.spacy_docs import import_spacy, make_blank, make_document
from nlp_distill.students.spacy_progress import Progress, load_progress, save_progress

ARCHITECTURES = ("ensemble", "bow")
PREDICTED_ROWS = 256  # documents in one forward pass
SMALLEST = 1e-12  # a probability of 0 has no logarithm


@dataclass(frozen=True)
class TextcatTraining:
    """How a text classifier is trained: Adam, spaCy's own settings but for the batch, which it counts in words."""

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = (
        0.001  # spaCy's default, as are the dropout, and weight decay 0.01 and clipping at 1
    )
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, at_least=1)
        check_whole("batch_size", self.batch_size, at_least=1)
        check_positive("learning_rate", self.learning_rate)
        check_share("dropout", self.dropout, below_one=True)


def build_textcat(
    labels: Sequence[str], architecture: str, language: str, seed: int, ngram_size: int = 1
) -> Any:
    """A blank pipeline with a text classifier of exclusive classes, its weights drawn with ``seed``.

    Args:
        labels: the classes.
        architecture: one of ``ARCHITECTURES``.
        language: whose tokens spaCy reads.
        seed: of the weights.
        ngram_size: tokens of the longest n-gram in the bag, for ``bow``.

    Raises:
        InputError: if spaCy is not installed or does not know the language.
    """
    spacy = import_spacy()
    spacy.util.fix_random_seed(seed)
    nlp = make_blank(language)
    nlp.meta["name"] = "student"
    textcat = nlp.add_pipe("textcat", config=_describe_model(architecture, ngram_size))
    for label in labels:
        textcat.add_label(label)
    # Weights are shaped by a look at some document; what is in it does not matter.
    document = make_document(nlp, "a text", {label: float(label == labels[0]) for label in labels})
    nlp.initialize(lambda: [spacy.training.Example(nlp.make_doc("a text"), document)])
    return nlp


def _describe_model(architecture: str, ngram_size: int) -> dict[str, Any]:
    if architecture == "ensemble":
        return {}  # what the component has by itself
    bow = {
        "@architectures": "spacy.TextCatBOW.v3",
        "exclusive_classes": True,
        "length": 262144,
        "ngram_size": ngram_size,
        "no_output_layer": False,
    }
    return {"model": bow}


def train_textcat(
    nlp: Any,
    texts: Sequence[str],
    targets: np.ndarray,
    training: TextcatTraining,
    seed: int,
    score: Callable[[Any], float],
    title: str,
    progress_file: Path | None = None,
) -> dict[str, Any]:
    """Train the pipeline in place; it ends with the weights of the best epoch.

    Args:
        nlp: what :func:`build_textcat` made.
        texts: the rows.
        targets: (rows, classes): probabilities, or 0 and 1, in the order of the pipeline's labels.
        training: the settings.
        seed: of order and dropout.
        score: the pipeline's score on validation; the first of the best epochs counts.
        title: what the progress bar says.
        progress_file: written after every epoch, and gone on from where it is there: an interrupted training ends
            with the bits of one that was not.

    Returns:
        ``{"validation_score", "epochs", "steps", "seconds", "history"}``, as the other trainings have it.

    Raises:
        FloatingPointError: if the loss is no number.
    """
    import_spacy().util.fix_random_seed(seed)
    from thinc.api import set_dropout_rate

    model, optimizer = nlp.get_pipe("textcat").model, nlp.create_optimizer()
    optimizer.learn_rate = training.learning_rate
    set_dropout_rate(model, training.dropout)
    done = load_progress(progress_file, model, optimizer) if progress_file is not None else None
    progress = Progress() if done is None else done
    with tqdm(
        total=training.epochs * len(texts),
        initial=progress.epoch * len(texts),
        desc=title,
        unit="row",
        unit_scale=True,
        disable=not is_main_process(),
    ) as bar:
        while progress.epoch < training.epochs:
            started = time.perf_counter()
            _train_epoch(nlp, texts, targets, training, seed, optimizer, progress, bar)
            reached = score(nlp)
            progress.history[-1]["eval_score"] = reached
            bar.set_postfix(score=f"{reached:.4f}")
            if progress.best is None or reached > progress.best:
                progress.best, progress.weights = reached, model.to_bytes()
            progress.seconds += time.perf_counter() - started
            if progress_file is not None:
                save_progress(progress_file, progress, model, optimizer)
    model.from_bytes(progress.weights)
    return {
        "validation_score": progress.best,
        "epochs": training.epochs,
        "steps": progress.steps,
        "seconds": round(progress.seconds, 1),
        "history": progress.history,
    }


def _train_epoch(
    nlp: Any,
    texts: Sequence[str],
    targets: np.ndarray,
    training: TextcatTraining,
    seed: int,
    optimizer: Any,
    progress: Progress,
    bar: tqdm,
) -> None:
    """One pass over the rows, in an order of its own; ``progress`` gets its loss."""
    loss, epoch = 0.0, progress.epoch + 1
    order = np.random.default_rng((seed, epoch)).permutation(len(texts))
    for start in range(0, len(order), training.batch_size):
        rows = order[start : start + training.batch_size]
        documents = [nlp.make_doc(texts[row]) for row in rows]
        found = take_step(nlp.get_pipe("textcat").model, documents, targets[rows], optimizer)
        progress.steps += 1
        if not math.isfinite(found):
            raise FloatingPointError(f"the loss is {found} at step {progress.steps}; lower the learning rate")
        loss += found
        bar.update(len(rows))
    progress.epoch = epoch
    progress.history.append({"epoch": epoch, "step": progress.steps, "loss": loss / len(texts)})


def take_step(model: Any, documents: Sequence[Any], targets: np.ndarray, optimizer: Any) -> float:
    """One step of a text classifier's model on the cross-entropy with ``targets``; returns the sum of squared errors.

    Args:
        model: ``textcat.model``.
        documents: tokens of the rows.
        targets: (rows, classes), each in [0, 1].
        optimizer: the pipeline's.
    """
    probabilities, backpropagate = model.begin_update(documents)
    errors = probabilities - targets.astype(np.float32)
    if any(layer.name == "softmax_activation" for layer in model.layers[-1].walk()):
        # It multiplies what it gets by its derivative, and makes p - t of the cross-entropy's -t/p.
        backpropagate(-targets.astype(np.float32) / np.maximum(probabilities, np.float32(SMALLEST)))
    else:  # a layer with weights and a softmax takes the gradient at its logits
        backpropagate(errors)
    model.finish_update(optimizer)
    return float((errors.astype(np.float64) ** 2).sum())


def predict_log_probabilities(nlp: Any, texts: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Logits of every text: logarithms of the pipeline's probabilities, whose softmax they are.

    Args:
        nlp: a pipeline with a ``textcat``.
        texts: the texts.
        labels: the order of the columns.

    Returns:
        (texts, classes), float32.
    """
    textcat = nlp.get_pipe("textcat")
    order = [textcat.labels.index(label) for label in labels]
    found = [
        textcat.predict([nlp.make_doc(text) for text in texts[start : start + PREDICTED_ROWS]])
        for start in range(0, len(texts), PREDICTED_ROWS)
    ]
    probabilities = np.concatenate(found) if found else np.empty((0, len(order)), np.float32)
    return np.log(np.clip(probabilities[:, order].astype(np.float64), SMALLEST, None)).astype(np.float32)


def save_textcat(nlp: Any, folder: Path) -> None:
    """Write the pipeline for ``spacy.load``, without the words of the training rows, which it has no use for."""
    nlp.to_disk(folder, exclude=["vocab"])


def describe_textcat(nlp: Any, folder: Path) -> dict[str, int]:
    """``{"parameters", "parameters_without_embeddings", "bytes"}``: bytes are those of the saved weights.

    The bag of words counts in full: its hashed n-grams have a weight for each class, and no vector.
    """
    sizes = {"embeddings": 0, "others": 0}
    for layer in nlp.get_pipe("textcat").model.walk():
        kind = "embeddings" if layer.name == "hashembed" else "others"
        sizes[kind] += sum(layer.get_param(name).size for name in layer.param_names if layer.has_param(name))
    return {
        "parameters": sum(sizes.values()),
        "parameters_without_embeddings": sizes["others"],
        "bytes": (folder / "textcat" / "model").stat().st_size,
    }
