"""What is measured: saved and exported models behind one face, from texts to probabilities."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import AutoTokenizer

from data_augment.errors import InputError
from nlp_distill import runtime
from nlp_distill.models import check_max_length, check_vocabulary, load_classifier, load_pretrained
from nlp_distill.runtime import Text

LARGEST_BATCH = 128


class Subject(Protocol):
    """A model that is measured."""

    name: str
    kind: str

    @property
    def tokenizer(self) -> Any: ...
    def set_threads(self, threads: int) -> None: ...
    def answer(self, texts: Sequence[Text]) -> np.ndarray: ...


class TorchSubject:
    """A saved model in PyTorch.

    Args:
        folder: what ``save_pretrained`` wrote, or a hub name.
        max_length: tokens a text.
        task: of a multi-task model.
        trust_remote_code: run code that comes with it.
    """

    kind = "torch"

    def __init__(
        self,
        folder: str | Path,
        max_length: int = 128,
        task: str | None = None,
        trust_remote_code: bool = False,
    ):
        self.name = str(folder)
        code = {"trust_remote_code": trust_remote_code}
        self.model = load_classifier(folder, task, **code).eval()
        check_max_length(self.model, max_length, "--lengths")
        self._tokenizer = load_pretrained(AutoTokenizer, folder, **code)
        check_vocabulary(self.model, self._tokenizer)
        self.max_length = max_length

    @property
    def tokenizer(self) -> Any:
        """The model's own."""
        return self._tokenizer

    def set_threads(self, threads: int) -> None:
        """Threads of every operator."""
        torch.set_num_threads(threads)

    @torch.inference_mode()
    def answer(self, texts: Sequence[Text]) -> np.ndarray:
        """Probabilities (texts, classes); the values of a regression."""
        columns = (
            [list(texts)]
            if isinstance(texts[0], str)
            else [list(column) for column in zip(*texts, strict=True)]
        )
        encoded = self.tokenizer(
            *columns, truncation=True, max_length=self.max_length, padding=True, return_tensors="pt"
        )
        accepted = {name: encoded[name] for name in self.tokenizer.model_input_names if name in encoded}
        logits = self.model(**accepted).logits
        return (logits if logits.shape[1] == 1 else logits.softmax(dim=-1)).numpy()


class OnnxSubject:
    """An exported model under onnxruntime.

    Args:
        folder: what ``nlp-distill export`` wrote.
    """

    kind = "onnxruntime"

    def __init__(self, folder: str | Path):
        self.name = str(folder)
        self.folder = folder
        self.set_threads(1)

    @property
    def tokenizer(self) -> Any:
        """The exported tokenizer."""
        return self.classifier.tokenizer

    def set_threads(self, threads: int) -> None:
        """A new session: onnxruntime fixes its threads when it loads."""
        self.classifier = runtime.Classifier(self.folder, threads=threads, batch_size=LARGEST_BATCH)

    def answer(self, texts: Sequence[Text]) -> np.ndarray:
        """Probabilities (texts, classes); the values of a regression."""
        if self.classifier.labels:
            return self.classifier.compute_probabilities(texts)
        return self.classifier.compute_logits(texts)


def is_exported(folder: str) -> bool:
    """Whether a folder is what ``export`` wrote."""
    return (Path(folder) / runtime.SETTINGS).exists()


def open_subject(folder: str, max_length: int = 128, task: str | None = None) -> Subject:
    """A saved or an exported model that reads texts of so many tokens.

    Raises:
        InputError: for a folder that is neither, or a model that reads fewer.
    """
    if is_exported(folder):
        if not (Path(folder) / runtime.MODEL).exists():
            raise InputError(
                f"{folder} holds an exported program, which runs in programs of torch; give an ONNX one"
            )
        try:
            subject = OnnxSubject(folder)
        except runtime.WrongKindError as error:
            raise InputError(f"{error}: only classifiers of whole texts can be measured") from error
        except Exception as error:  # of json, tokenizers and onnxruntime, whose own exceptions are bare ones
            raise InputError(
                f"the exported model {folder} cannot be loaded ({str(error).partition(chr(10))[0]}); export it again"
            ) from error
        if subject.classifier.settings["max_length"] < max_length:
            limit = subject.classifier.settings["max_length"]
            raise InputError(
                f"{folder} was exported for {limit} tokens; give --lengths up to {limit}, or export again"
            )
        return subject
    return TorchSubject(folder, max_length, task)


def make_text(subjects: Sequence[Subject], tokens: int, is_pair: bool = False) -> Text:
    """A text, or a pair of texts, of so many tokens of the first model, special ones included, of whole words.

    The words stand in every model's vocabulary where there are such words, because a model with fewer word pieces
    would cut other words up and read a longer text than the rest.

    Raises:
        InputError: for too few tokens to hold a word each.
    """
    subject, tokenizer = subjects[0], subjects[0].tokenizer
    known = [read_words(other.tokenizer) for other in subjects]
    pieces = set.intersection(*known) or known[0]
    letters = sorted(pieces)
    words = [piece for piece in letters if len(piece) > 2] or letters
    words = [words[(7 * number) % len(words)] for number in range(len(words))]
    special = tokenizer.num_special_tokens_to_add(is_pair)
    if tokens < special + 1 + is_pair:
        raise InputError(
            f"a text of {tokens} tokens has no room for words; give {special + 1 + is_pair} or more"
        )
    room = tokens - special
    shares = [room // 2, room - room // 2] if is_pair else [room]
    texts = [fill_words(tokenizer, words, share) for share in shares]
    if not all(texts):
        raise InputError(
            f"the vocabulary of {subject.name} has no words to make a text of; measure a model that reads words first"
        )
    return (texts[0], texts[1]) if is_pair else texts[0]


def read_words(tokenizer: Any) -> set[str]:
    """The pieces of a vocabulary that are made of letters alone, and may stand for a word."""
    # Byte-level and SentencePiece vocabularies have the space before a word in its first piece.
    return {word for piece in tokenizer.get_vocab() if (word := piece.lstrip("Ġ▁")).isalpha()}


def fill_words(tokenizer: Any, words: Sequence[str], room: int) -> str:
    """Words in their order, again from the first where they run out, as long as they fit into so many tokens.

    Their characters, where no word fits: texts without spaces, such as Chinese ones, are words of a sentence's length.

    Args:
        tokenizer: of transformers, or the runtime's.
        words: to choose from.
        room: tokens, without special ones.

    Returns:
        The text, shorter by a few tokens where nothing fits its end; empty where not even a character does.
    """
    characters = [character for word in words for character in word]
    return _fill(tokenizer, words, room) or _fill(tokenizer, characters, room)


def _fill(tokenizer: Any, words: Sequence[str], room: int) -> str:
    text, tries = "", 0
    while words and room > 0 and tries < 20 * room + len(words):
        longer = f"{text} {words[tries % len(words)]}".strip()
        count = count_tokens(tokenizer, longer)
        text = longer if count <= room else text
        tries += 1
        if count == room:
            break
    return text


def count_tokens(tokenizer: Any, text: str) -> int:
    """Tokens of a text, without special ones, of a tokenizer of transformers or of the runtime's."""
    if callable(tokenizer):
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])
    return len(tokenizer.encode(text, add_special_tokens=False).ids)
