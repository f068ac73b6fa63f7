"""What one would train instead of distilling: TF-IDF with a logistic regression, fastText, model2vec.

Each learns from the labelled train rows; what can be chosen (regularisation, rates, epochs, n-grams) is chosen on the
validation rows, from the grids below. Pairs of texts are read as one text. A trained peer is a folder that holds all it
needs to answer, and answers like any other model of :mod:`nlp_distill.subjects`.

model2vec's distillation pins an older transformers than ours, so it runs in a virtual environment of its own
(``scripts/peer_model2vec.py``); the model that comes out needs NumPy only and is measured in this process.
"""

import itertools
import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from data_augment.errors import InputError
from nlp_distill.subjects import Text

TFIDF_FILES = ("model.npz", "vocabularies.json")  # no pickle, which would run whatever it holds
FASTTEXT_MODELS = {"fp32": "model.bin", "quantised": "model.ftz"}
REGULARISATION = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # C of the logistic regression
FASTTEXT_GRID = {"lr": (0.1, 0.5), "wordNgrams": (1, 2, 3), "epoch": (5, 25)}
FASTTEXT_BUCKET = 200_000  # hashed n-grams; the default of two million makes a model of 800 MB
FASTTEXT_CENTROIDS = 256  # that quantisation learns, from as many words at least
WORDS = re.compile(r"\w+|[^\w\s]")
INSTALL = {
    "fasttext": "fasttext-community",  # fasttext itself needs a compiler, and other builds end in NaN without n-grams
    "model2vec": "model2vec",
}


@dataclass(frozen=True)
class Rows:
    """Texts (pairs joined) and their class indices."""

    texts: list[str]
    labels: list[int]


def join(text: Text) -> str:
    """A pair as one text."""
    return text if isinstance(text, str) else " ".join(text)


def split_words(text: str) -> str:
    """Words and punctuation in lower case, with spaces between them: what fastText reads."""
    return " ".join(WORDS.findall(text.lower()))


def need(package: str) -> Any:
    """Import a package.

    Raises:
        InputError: naming what to install.
    """
    try:
        return import_module(package)
    except ImportError:
        raise InputError(f"this peer needs {package}; run `pip install {INSTALL[package]}`") from None


def count_right(labels: Sequence[int], probabilities: np.ndarray) -> float:
    """Accuracy."""
    return float((probabilities.argmax(axis=1) == np.asarray(labels)).mean())


# ---- TF-IDF and a logistic regression -------------------------------------------------------------------------------


def make_vectorizers() -> list[Any]:
    """Words (1 to 2) and letters within words (2 to 5)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return [
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=WORDS.pattern),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True),
    ]


def train_tfidf(folder: Path, train: Rows, validation: Rows) -> dict[str, Any]:
    """Both kinds of n-grams, and the best C; returns what was chosen."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_union

    vectorizers = make_vectorizers()
    features = make_union(*vectorizers)
    inputs, held_out = features.fit_transform(train.texts), features.transform(validation.texts)
    scores, models = {}, {}
    for strength in REGULARISATION:
        models[strength] = LogisticRegression(C=strength, max_iter=1000).fit(inputs, train.labels)
        scores[strength] = count_right(validation.labels, models[strength].predict_proba(held_out))
    best = max(scores, key=scores.__getitem__)
    weights, vocabularies = (folder / name for name in TFIDF_FILES)
    arrays = {f"idf_{number}": vectorizer.idf_ for number, vectorizer in enumerate(vectorizers)}
    found = models[best]
    np.savez_compressed(
        weights, coef=found.coef_, intercept=found.intercept_, classes=found.classes_, **arrays
    )
    terms = [list(vectorizer.get_feature_names_out()) for vectorizer in vectorizers]
    vocabularies.write_text(json.dumps(terms, ensure_ascii=False), encoding="utf-8")
    return {"C": best, "features": inputs.shape[1], "validation_accuracy": scores[best]}


class TfidfSubject:
    """A pipeline of scikit-learn with what :func:`train_tfidf` learnt."""

    kind = "scikit-learn"

    def __init__(self, folder: Path):
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline, make_union

        self.name = str(folder)
        weights, vocabularies = (folder / name for name in TFIDF_FILES)
        terms, vectorizers = json.loads(vocabularies.read_text(encoding="utf-8")), make_vectorizers()
        classifier = LogisticRegression()
        with np.load(weights, allow_pickle=False) as saved:
            for number, vectorizer in enumerate(vectorizers):
                vectorizer.set_params(vocabulary=terms[number])
                vectorizer.idf_ = saved[f"idf_{number}"]
            classifier.coef_, classifier.intercept_ = saved["coef"], saved["intercept"]
            classifier.classes_ = saved["classes"]
        self.pipeline = make_pipeline(make_union(*vectorizers), classifier)

    def set_threads(self, threads: int) -> None:
        """It has one."""

    def answer(self, texts: Sequence[Text]) -> np.ndarray:
        """Probabilities (texts, classes)."""
        return self.pipeline.predict_proba([join(text) for text in texts])


# ---- fastText -------------------------------------------------------------------------------------------------------


def train_fasttext(folder: Path, train: Rows, validation: Rows) -> dict[str, Any]:
    """The best of the grid, and the same model quantised; returns what was chosen."""
    fasttext = need("fasttext")
    with tempfile.TemporaryDirectory() as scratch:
        lines = Path(scratch) / "train.txt"
        lines.write_text(
            "".join(
                f"__label__{label} {split_words(text)}\n"
                for text, label in zip(train.texts, train.labels, strict=True)
            ),
            encoding="utf-8",
        )
        best: dict[str, Any] = {"validation_accuracy": -1.0}
        for values in itertools.product(*FASTTEXT_GRID.values()):
            settings = dict(zip(FASTTEXT_GRID, values, strict=True))
            try:
                model = fasttext.train_supervised(
                    str(lines), **settings, bucket=FASTTEXT_BUCKET, thread=1, seed=0, verbose=0
                )
            except RuntimeError:  # the rate was too high: it met a NaN
                continue
            score = count_right(validation.labels, ask_fasttext(model, validation.texts))
            if score > best["validation_accuracy"]:
                best = {**settings, "validation_accuracy": score}
                model.save_model(str(folder / FASTTEXT_MODELS["fp32"]))
        if "lr" not in best:
            raise InputError("fastText diverged with every rate of the grid; leave it out of --peers")
        model = fasttext.load_model(str(folder / FASTTEXT_MODELS["fp32"]))
        if len(model.words) >= FASTTEXT_CENTROIDS:
            model.quantize(input=str(lines), qnorm=True, retrain=True, cutoff=100_000, thread=1, verbose=0)
            model.save_model(str(folder / FASTTEXT_MODELS["quantised"]))
    return best


def ask_fasttext(model: Any, texts: Sequence[str]) -> np.ndarray:
    """Probabilities (texts, classes); fastText sorts them by size."""
    classes = len(model.labels)
    probabilities = np.zeros((len(texts), classes))
    for row, text in enumerate(texts):
        labels, values = model.predict(split_words(text), k=classes)
        for label, value in zip(labels, values, strict=True):
            probabilities[row, int(label.removeprefix("__label__"))] = value
    return probabilities


class FastTextSubject:
    """A trained fastText model, as it is or quantised."""

    kind = "fasttext"

    def __init__(self, folder: Path, form: str):
        self.name = str(folder)
        self.model = need("fasttext").load_model(str(folder / FASTTEXT_MODELS[form]))

    def set_threads(self, threads: int) -> None:
        """It has one."""

    def answer(self, texts: Sequence[Text]) -> np.ndarray:
        """Probabilities (texts, classes)."""
        return ask_fasttext(self.model, [join(text) for text in texts])


# ---- model2vec ------------------------------------------------------------------------------------------------------


def train_model2vec(
    folder: Path, train: Rows, validation: Rows, python: str, encoders: Sequence[str]
) -> dict[str, Any]:
    """Distil static embeddings from an encoder and tune them on the task, in another environment.

    Args:
        folder: where the pipeline goes.
        train: rows to learn from.
        validation: rows that choose.
        python: the interpreter of an environment with ``model2vec[distill,train,quantization]``.
        encoders: folders to distil from; the best on validation stays.

    Returns:
        What was chosen.

    Raises:
        InputError: if that process fails.
    """
    need("model2vec")
    with tempfile.TemporaryDirectory() as scratch:
        given = Path(scratch) / "rows.json"
        content = {
            name: {"texts": rows.texts, "labels": rows.labels}
            for name, rows in (("train", train), ("validation", validation))
        }
        given.write_text(json.dumps(content), encoding="utf-8")
        script = Path(__file__).with_name("peer_model2vec.py")
        try:
            done = subprocess.run(
                [python, str(script), str(given), str(folder), *map(str, encoders)],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise InputError(
                f"--model2vec-python {python}: {error.strerror}; give the python of a virtual environment"
            ) from error
    if done.returncode:
        reason = (done.stderr.strip() or "it was killed").splitlines()[-1]
        raise InputError(
            f"model2vec could not be trained by {python}: {reason}; its environment is made by "
            '`pip install "model2vec[distill,train,quantization]"`'
        )
    return json.loads(done.stdout.splitlines()[-1])


class Model2VecSubject:
    """A trained model2vec pipeline: static embeddings, their mean, a linear layer or two, in NumPy."""

    kind = "model2vec"

    def __init__(self, folder: Path):
        need("model2vec")
        from model2vec.inference import StaticModelPipeline

        self.name = str(folder)
        self.pipeline = StaticModelPipeline.from_pretrained(str(folder))
        self.order = np.argsort([int(name) for name in self.pipeline.classes_])

    def set_threads(self, threads: int) -> None:
        """It has one where there is one text."""

    def answer(self, texts: Sequence[Text]) -> np.ndarray:
        """Probabilities (texts, classes)."""
        return self.pipeline.predict_proba([join(text) for text in texts])[:, self.order]
