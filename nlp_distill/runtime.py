"""Answer with an exported model. All it needs is onnxruntime, tokenizers and NumPy; this one file is the whole runtime.

    from runtime import Classifier
    Classifier("exported")(["what a lovely day"])   # [{"label": "positive", "score": 0.98}]

or of a tagger ``Tagger("exported")(["EU rejects"])``,   # [[{"word": "EU", "start": 0, "end": 2, "label": "B-ORG", ...
or, without Python code, ``python runtime.py exported "what a lovely day"``. ``nlp-distill export`` puts a copy of this
file beside the model.
"""

import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MODEL, TOKENIZER, SETTINGS = "model.onnx", "tokenizer.json", "runtime.json"
# On CPUs a sum and a layer norm are several times faster apart than as the one operator that onnxruntime makes of them.
SLOW_FUSIONS = ["SkipLayerNormFusion"]

Text = str | tuple[str, str]


class WrongKindError(ValueError):
    """A folder holds a tagger where a classifier of texts was asked for, or the other way round."""


class Tokens(NamedTuple):
    """What is left of an encoded text, or pair, that was too long."""

    ids: list[int]
    type_ids: list[int]


class Classifier:
    """A classifier or regressor in a folder that ``nlp-distill export`` made.

    Args:
        folder: holds model.onnx, tokenizer.json and runtime.json.
        threads: of onnxruntime; ``None`` for as many as it likes.
        batch_size: rows in one call of the model.

    Raises:
        ValueError: if the folder lacks one of the files, or holds a tagger; for a batch size below 1.
    """

    def __init__(self, folder: str | Path, threads: int | None = None, batch_size: int = 32):
        self.settings, self.tokenizer, self.session = load(folder, threads)
        if is_tagger(self.settings):
            raise WrongKindError(f"{folder} holds a tagger, which labels words; open it with Tagger")
        self.labels: list[str] = self.settings["labels"]
        self.batch_size = check_batch_size(batch_size)
        self.tokenizer.no_truncation()  # too long texts are cut here, see cut()
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
        limits = self.settings["max_length"], self.settings.get("truncation_side", "right")
        encoded = [cut(one, *limits) for one in self._encode([self._check(text) for text in texts])]
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
        if self.settings["is_pair"] is False and is_pair:
            raise TypeError(f"this model reads one text; give a string, not {text!r}")
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
        ValueError: if the folder lacks one of the files, or holds no tagger; for a batch size below 1.
    """

    def __init__(self, folder: str | Path, threads: int | None = None, batch_size: int = 32):
        self.settings, self.tokenizer, self.session = load(folder, threads)
        if not is_tagger(self.settings):
            raise WrongKindError(f"{folder} holds a classifier of whole texts; open it with Classifier")
        self.labels: list[str] = self.settings["labels"]
        self.batch_size = check_batch_size(batch_size)

    def __call__(self, texts: Sequence[str | list[str]]) -> list[list[dict]]:
        """Each text's words with their place, likeliest label and its probability.

        A word is what the tokenizer takes for one, so that punctuation stands alone (and ``U.N.`` is four); its first
        piece decides, as in training. A text that comes as a list of words, split as the training's rows were, keeps
        them. Words beyond the tokens that the model reads are left out.

        Returns:
            For each text a list of ``{"word", "start", "end", "label", "score"}``; ``text[start:end]`` is the word, of
            a list ``" ".join(words)[start:end]``.
        """
        texts = texts if isinstance(texts, str) else list(texts)
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
        texts = list(texts)
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
        spans, given = encoded.offsets, text
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
        # A word of which only the first pieces were read ends where the last of them would have.
        last = next((word for word in reversed(encoded.word_ids) if word is not None), None)
        if isinstance(given, str) and last is not None:
            cut = [zip(rest.word_ids, rest.offsets, strict=True) for rest in encoded.overflowing]
            ends = [end for pieces in cut for word, (_, end) in pieces if word == last]
            words[-1]["end"] = max([words[-1]["end"], *ends])
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
    settings = read_settings(folder)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(settings["max_length"], direction=settings.get("truncation_side", "right"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(folder / MODEL), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
    )
    return settings, tokenizer, session


def read_settings(folder: Path) -> dict:
    """What ``nlp-distill export`` says of the model in a folder.

    Raises:
        ValueError: if the folder lacks one of the files.
    """
    for name in (MODEL, TOKENIZER, SETTINGS):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no {name}; give a folder that `nlp-distill export` made")
    return json.loads((folder / SETTINGS).read_text(encoding="utf-8"))


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


def check_batch_size(batch_size: int) -> int:
    """The batch size, if it is one.

    Raises:
        ValueError: for one below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    return batch_size


def cut(encoded: Any, max_length: int, side: str = "right") -> Any:
    """The tokens that a model reads of an encoded text or pair: all special ones, and as many others as have room.

    They are those that the tokenizer's own truncation ("longest first") leaves. That keeps what it cuts away too, of a
    pair in every combination: two texts of 20,000 characters took a second and 800 MB.

    Args:
        encoded: of the tokenizers library, not truncated.
        max_length: tokens at most, special ones included.
        side: where long texts are cut: ``right``, or ``left`` for their begin.

    Returns:
        Something with ``ids`` and ``type_ids``: ``encoded`` where it is short enough.
    """
    if len(encoded) <= max_length:
        return encoded
    ids, types = encoded.ids, encoded.type_ids
    sides = encoded.sequence_ids  # None of special tokens
    counts = sides.count(0), sides.count(1)
    room = max_length - len(ids) + sum(counts)
    short = min(*counts, room // 2)
    kept = (short, room - short) if counts[0] <= counts[1] else (room - short, short)
    firsts = [count - part if side == "left" else 0 for count, part in zip(counts, kept, strict=True)]
    chosen, seen = [], [0, 0]
    for place, own in enumerate(sides):
        if own is None or firsts[own] <= seen[own] < firsts[own] + kept[own]:
            chosen.append(place)
        if own is not None:
            seen[own] += 1
    return Tokens([ids[place] for place in chosen], [types[place] for place in chosen])


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


def answer_command(folder: Path, given: list[str]) -> Iterator[Any]:
    """The answers to texts of the command line, two arguments each of a pair model.

    Raises:
        ValueError: for a folder that holds no model, or half a pair.
    """
    if is_tagger(read_settings(folder)):
        yield from Tagger(folder)(given)
        return
    classifier = Classifier(folder)
    texts: list[Text] = list(given)
    if classifier.settings["is_pair"]:
        if len(given) % 2:
            raise ValueError(f"this model compares two texts; give FIRST SECOND ..., not {len(given)} texts")
        texts = list(zip(given[::2], given[1::2], strict=True))
    yield from classifier(texts)


def main(arguments: list[str]) -> int:
    """Run the command line: an answer a line as JSON, or what is wrong in one line; returns the exit code."""
    if len(arguments) < 2:
        print(
            "usage: python runtime.py FOLDER TEXT ...   (of a pair model: FIRST SECOND ...)", file=sys.stderr
        )
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # answers hold words of the text, which a code page may lack
    try:
        for answer in answer_command(Path(arguments[0]), arguments[1:]):
            print(json.dumps(answer, ensure_ascii=False))
    except (
        Exception
    ) as error:  # damaged files make onnxruntime and tokenizers raise errors without a common base
        print(f"error: {' '.join(str(error).split())[:500]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
