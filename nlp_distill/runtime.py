"""Answer with an exported model. All it needs is onnxruntime, tokenizers and NumPy; this one file is the whole runtime.

    from runtime import Classifier
    Classifier("exported")(["what a lovely day"])   # [{"label": "positive", "score": 0.98}]

or of a tagger ``Tagger("exported")(["EU rejects"])``,   # [[{"word": "EU", "start": 0, "end": 2, "label": "B-ORG", ...
or, without Python code, ``python runtime.py exported "what a lovely day"``. ``nlp-distill export`` puts a copy of this
file beside the model.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MODEL, TOKENIZER, SETTINGS = "model.onnx", "tokenizer.json", "runtime.json"
# On CPUs a sum and a layer norm are several times faster apart than as the one operator that onnxruntime makes of them.
SLOW_FUSIONS = ["SkipLayerNormFusion"]

Text = str | tuple[str, str]


class WrongKindError(ValueError):
    """A folder holds a tagger where a classifier of texts was asked for, or the other way round."""


class Classifier:
    """A classifier or regressor in a folder that ``nlp-distill export`` made.

    Args:
        folder: holds model.onnx, tokenizer.json and runtime.json.
        threads: of onnxruntime; ``None`` for as many as it likes.
        batch_size: rows in one call of the model.

    Raises:
        ValueError: if the folder lacks one of the files, or holds a tagger.
    """

    def __init__(self, folder: str | Path, threads: int | None = None, batch_size: int = 32):
        self.settings, self.tokenizer, self.session = load(folder, threads)
        if is_tagger(self.settings):
            raise WrongKindError(f"{folder} holds a tagger, which labels words; open it with Tagger")
        self.labels: list[str] = self.settings["labels"]
        self.batch_size = batch_size
        # The fast one leaves out the tokens' places in the text, which nobody reads here; old versions lack it.
        self._encode = getattr(self.tokenizer, "encode_batch_fast", self.tokenizer.encode_batch)

    def __call__(self, texts: Sequence[Text]) -> list[dict]:
        """The likeliest label and its probability for each text, or ``{"value": ...}`` of a regression.

        Args:
            texts: strings, or (first, second) tuples for a task of pairs.
        """
        if not self.labels:
            return [{"value": float(value)} for value in self.compute_logits(texts)[:, 0]]
        probabilities = self.compute_probabilities(texts)
        best = probabilities.argmax(axis=1)
        return [
            {"label": self.labels[label], "score": float(row[label])}
            for label, row in zip(best, probabilities, strict=True)
        ]

    def compute_probabilities(self, texts: Sequence[Text]) -> np.ndarray:
        """softmax of the logits: (texts, labels)."""
        logits = self.compute_logits(texts)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)

    def compute_logits(self, texts: Sequence[Text]) -> np.ndarray:
        """The model's raw outputs: (texts, labels) float32, (texts, 1) of a regression.

        Raises:
            TypeError: for what is neither a string nor a pair of strings, or one where the other is needed.
            ValueError: for a string that is no Unicode text.
        """
        if isinstance(texts, str):
            raise TypeError("give a list of texts, not one string")
        encoded = self._encode([self._check(text) for text in texts])
        width = len(self.labels) or 1
        logits = np.empty((len(encoded), width), dtype=np.float32)
        # Texts of similar length go together, so that little is computed on padding.
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index].ids))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            logits[chosen] = self._run([encoded[index] for index in chosen])
        return logits

    def _check(self, text: Text) -> Text:
        is_pair = (
            isinstance(text, (tuple, list)) and len(text) == 2 and all(isinstance(part, str) for part in text)
        )
        if self.settings["is_pair"] is True and not is_pair:
            raise TypeError(f"this model compares two texts; give (first, second), not {text!r}")
        if not is_pair and not isinstance(text, str):
            raise TypeError(f"a text is a string, or (first, second) for a pair, not {text!r}")
        check_unicode(text)
        return (text[0], text[1]) if is_pair else text

    def _run(self, encoded: list) -> np.ndarray:
        return self.session.run(["logits"], pad(encoded, self.settings))[0]


class Tagger:
    """A token classifier (names, parts of speech) in a folder that ``nlp-distill export`` made.

    Args:
        folder: holds model.onnx, tokenizer.json and runtime.json.
        threads: of onnxruntime; ``None`` for as many as it likes.
        batch_size: rows in one call of the model.

    Raises:
        ValueError: if the folder lacks one of the files, or holds no tagger.
    """

    def __init__(self, folder: str | Path, threads: int | None = None, batch_size: int = 32):
        self.settings, self.tokenizer, self.session = load(folder, threads)
        if not is_tagger(self.settings):
            raise WrongKindError(f"{folder} holds a classifier of whole texts; open it with Classifier")
        self.labels: list[str] = self.settings["labels"]
        self.batch_size = batch_size

    def __call__(self, texts: Sequence[str | list[str]]) -> list[list[dict]]:
        """Each text's words with their place, likeliest label and its probability.

        A word is what the tokenizer takes for one, so that punctuation stands alone (and ``U.N.`` is four); its first
        piece decides, as in training. A text that comes as a list of words, split as the training's rows were, keeps
        them. Words beyond the tokens that the model reads are left out.

        Returns:
            For each text a list of ``{"word", "start", "end", "label", "score"}``; ``text[start:end]`` is the word, of
            a list ``" ".join(words)[start:end]``.
        """
        encoded = self._encode(texts)
        return [
            self._describe_words(text, one, logits)
            for text, one, logits in zip(texts, encoded, self._run(encoded), strict=True)
        ]

    def compute_logits(self, texts: Sequence[str | list[str]]) -> list[np.ndarray]:
        """The model's raw outputs for each text: (tokens, labels) float32, special tokens included.

        Raises:
            TypeError: for what is neither a string nor a list of strings.
            ValueError: for a string that is no Unicode text.
        """
        return self._run(self._encode(texts))

    def _encode(self, texts: Sequence[str | list[str]]) -> list:
        if isinstance(texts, str):
            raise TypeError("give a list of texts, not one string")
        for text in texts:
            for part in text if isinstance(text, list) else [text]:
                if not isinstance(part, str):
                    raise TypeError(f"a text is a string, or a list of words, not {text!r}")
                check_unicode(part)
        if all(isinstance(text, str) for text in texts):
            return self.tokenizer.encode_batch(list(texts))
        return [self.tokenizer.encode(text, is_pretokenized=isinstance(text, list)) for text in texts]

    def _run(self, encoded: list) -> list[np.ndarray]:
        logits: list[np.ndarray] = [np.empty(0)] * len(encoded)
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index].ids))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            rows = self.session.run(["logits"], pad([encoded[index] for index in chosen], self.settings))[0]
            for index, row in zip(chosen, rows, strict=True):
                logits[index] = row[: len(encoded[index].ids)]
        return logits

    def _describe_words(self, text: str | list[str], encoded, logits: np.ndarray) -> list[dict]:
        spans = encoded.offsets
        if isinstance(text, list):  # a piece's place is counted from the begin of its word
            begins = np.cumsum([0, *(len(word) + 1 for word in text)]).tolist()
            spans = [
                (begins[i], begins[i] + len(text[i])) if i is not None else (0, 0) for i in encoded.word_ids
            ]
            text = " ".join(text)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponents / exponents.sum(axis=1, keepdims=True)
        words: list[dict] = []
        before = None
        for (start, end), word, row in zip(spans, encoded.word_ids, probabilities, strict=True):
            if word is not None and word == before:
                words[-1]["end"] = end
            elif word is not None:
                best = int(row.argmax())
                words.append(
                    {"start": start, "end": end, "label": self.labels[best], "score": float(row[best])}
                )
            before = word
        # RoBERTa's tokenizer counts a leading space to its word, and takes a second one for a word.
        for word in words:
            piece = text[word["start"] : word["end"]]
            word["start"] += len(piece) - len(piece.lstrip())
            word["end"] -= len(piece) - len(piece.rstrip())
        return [
            {"word": text[word["start"] : word["end"]], **word}
            for word in words
            if word["start"] < word["end"]
        ]


def load(folder: str | Path, threads: int | None):
    """The settings, the tokenizer and the model of an exported folder.

    Raises:
        ValueError: if it lacks one of the files.
    """
    import onnxruntime
    from tokenizers import Tokenizer

    folder = Path(folder)
    for name in (MODEL, TOKENIZER, SETTINGS):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no {name}; give a folder that `nlp-distill export` made")
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(settings["max_length"])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(folder / MODEL), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
    )
    return settings, tokenizer, session


def is_tagger(settings: dict) -> bool:
    """Whether the model labels tokens; folders of older versions say nothing and hold classifiers."""
    return settings.get("labels_tokens", False)


def check_unicode(text: Text) -> None:
    """Refuse half of a surrogate pair.

    Raises:
        ValueError: quoting the text.
    """
    try:
        "".join(text).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"a text holds half of a surrogate pair, which is no Unicode text: {text!r}"
        ) from None


def pad(encoded: list, settings: dict) -> dict[str, np.ndarray]:
    """Encoded rows as the model's inputs: (rows, longest) each."""
    rows = [one.ids for one in encoded]
    width = max(max(map(len, rows)), 1)
    ids = np.full((len(rows), width), settings["pad_token_id"], dtype=np.int64)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
        if "token_type_ids" in settings["inputs"]:
            types[row, : len(tokens)] = encoded[row].type_ids
    columns = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: columns[name] for name in settings["inputs"]}


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(
            "usage: python runtime.py FOLDER TEXT ...   (of a pair model: FIRST SECOND FIRST SECOND ...)"
        )
    given = sys.argv[2:]
    if is_tagger(json.loads(Path(sys.argv[1], SETTINGS).read_text(encoding="utf-8"))):
        for words in Tagger(sys.argv[1])(given):
            print(json.dumps(words, ensure_ascii=False))
        sys.exit()
    classifier = Classifier(sys.argv[1])
    pairs: list[Text] = (
        list(zip(given[::2], given[1::2], strict=True)) if classifier.settings["is_pair"] else []
    )
    for answer in classifier(pairs or given):
        print(json.dumps(answer, ensure_ascii=False))
