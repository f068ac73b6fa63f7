"""Candidates from a masked language model, TinyBERT's first source (Jiao et al. 2019, arXiv 1909.10351, Algorithm 1).

The model reads ``[CLS] masked text [SEP] original text [SEP]`` with one word masked, and its K most likely words there
are the candidates. Words that its tokenizer splits into pieces get GloVe's neighbours, as in the paper. All words and
rows of a block go through the model in batches, where the authors' code runs it once a word.

torch and transformers are imported when a model is loaded, so that everything else here stays light.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_augment.candidates import GloveCandidates, is_replaceable
from data_augment.errors import InputError
from data_augment.rules import CANDIDATES, check_whole_number

BATCH_TOKENS = 8192  # tokens in one forward pass, padding included


@dataclass(frozen=True)
class _Masked:
    """One word to be guessed: where it is among all words, and the tokens that the model reads."""

    place: int
    tokens: list[int]
    first_length: int  # of the masked text with its special tokens: the first segment
    position: int  # of the mask
    own: int  # the word itself, never its own candidate


def check_has_head(name: str | Path, missing_keys: Iterable[str], instead: str) -> None:
    """Refuse a model whose masked-language-model head was made up at random for want of weights.

    Args:
        name: folder or hub name of the model.
        missing_keys: what ``from_pretrained(output_loading_info=True)`` says is missing; the decoder's own weights are
            tied to the embeddings and may be.
        instead: what else can be done, for the message.

    Raises:
        InputError: naming what is missing.
    """
    missing = sorted(key for key in missing_keys if not key.endswith(("decoder.weight", "decoder.bias")))
    if missing:
        raise InputError(
            f"'{name}' has no masked-language-model head ({missing[0]} is missing); take a pre-trained BERT with its "
            f"head, or {instead}"
        )


def find_whole_words(tokenizer: Any) -> dict[str, int]:
    """The replaceable words that are one piece of a tokenizer's vocabulary, and their numbers.

    WordPiece vocabularies mark pieces inside a word (``##ing``), which are no letters; byte-level BPE and SentencePiece
    ones mark pieces at the start of one (``Ġmovie``, ``▁movie``), and the others are fragments.

    Args:
        tokenizer: a fast tokenizer of transformers.

    Returns:
        The number of each word, without its mark.
    """
    kind = type(tokenizer.backend_tokenizer.model).__name__
    marks = () if kind in ("WordPiece", "WordLevel") else ("Ġ", "▁")
    whole = {}
    for piece, number in tokenizer.get_vocab().items():
        if marks and not piece.startswith(marks):
            continue
        word = tokenizer.convert_tokens_to_string([piece]).strip() if marks else piece
        if is_replaceable(word):
            whole[word] = number
    return whole


class MaskedLMCandidates:
    """The K most likely words of a masked language model, and GloVe's neighbours where a word has several pieces.

    Args:
        model: a ``transformers`` model with a masked-language-model head.
        tokenizer: its fast tokenizer.
        fallback: candidates of words with several pieces, and of texts too long for the model to read twice.
        k: candidates a word.
    """

    def __init__(self, model: Any, tokenizer: Any, fallback: GloveCandidates, k: int = CANDIDATES):
        check_whole_number("k", k, at_least=1)
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._fallback = fallback
        self._k = k
        whole = find_whole_words(tokenizer)
        self._whole_words = sorted(whole)
        self._whole_ids = np.array([whole[word] for word in self._whole_words], dtype=np.int64)
        if len(self._whole_ids) <= k:
            raise InputError(
                f"the masked language model's vocabulary has {len(self._whole_ids)} whole words, too few for {k} "
                "candidates a word; take a model with a larger vocabulary, such as BERT's or RoBERTa's"
            )
        longest = (getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length)
        self._limit = min(limit for limit in longest if limit is not None)
        self._shift = 0
        self.name = f"{k} likeliest of {type(model).__name__}, {fallback.name} for words of several pieces"

    @classmethod
    def load(cls, name: str | Path, fallback: GloveCandidates, k: int = CANDIDATES) -> MaskedLMCandidates:
        """Load a model by folder or hub name.

        Raises:
            InputError: if it cannot be loaded, has no masked-language-model head, or no mask token.
        """
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        instead = "give a folder or a hub name, or leave it out and GloVe serves every word"
        if str(name).startswith((".", "/")) and not Path(name).is_dir():
            raise InputError(f"no folder {name} of a masked language model; {instead}")
        code = {"trust_remote_code": False}  # where it is left out, transformers asks at the terminal
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(name), **code)
            model, info = AutoModelForMaskedLM.from_pretrained(str(name), output_loading_info=True, **code)
        except Exception as error:  # a damaged folder makes transformers fail in ways without number
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"cannot load the masked language model '{name}': {reason}; {instead}") from None
        check_has_head(name, info["missing_keys"], "leave it out and GloVe serves every word")
        if tokenizer.mask_token_id is None:
            raise InputError(f"the tokenizer of '{name}' has no mask token; take a masked language model")
        return cls(model.float(), tokenizer, fallback, k)

    def prepare(self, vocabulary: Sequence[str], show_progress: bool = False) -> list[str]:
        """See :class:`data_augment.candidates.CandidateSource`."""
        others = self._fallback.prepare(vocabulary, show_progress)
        self._shift = len(self._whole_words)
        return [*self._whole_words, *others]

    def propose(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        """See :class:`data_augment.candidates.CandidateSource`."""
        proposed = self._fallback.propose(texts)
        proposed = np.where(proposed >= 0, proposed + self._shift, -1)
        if proposed.shape[1] < self._k:
            proposed = np.pad(proposed, ((0, 0), (0, self._k - proposed.shape[1])), constant_values=-1)
        masked = sorted(self._mask_words(texts), key=lambda item: len(item.tokens))
        for batch in _cut(masked):
            found = self._guess(batch)
            for item, candidates in zip(batch, found, strict=True):
                proposed[item.place] = -1
                proposed[item.place, : self._k] = candidates
        return proposed.astype(np.int32)

    def _mask_words(self, texts: Sequence[Sequence[str]]) -> Iterator[_Masked]:
        """Every word of one piece, masked in its text, with the text behind it; too long texts are left out."""
        tokenizer = self._tokenizer
        start, end, mask = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id
        place = 0
        for text in texts:
            # With a space before it, for vocabularies in which the start of a word is a piece's first character.
            spaced = [f" {word}" for word in text]
            pieces = tokenizer(spaced, add_special_tokens=False)["input_ids"]
            flat = [piece for word in pieces for piece in word]
            first = len(flat) + 2
            fits = first + len(flat) + 1 <= self._limit
            position = 1
            for word, own in zip(text, pieces, strict=True):
                if fits and len(own) == 1 and is_replaceable(word):
                    tokens = [start, *flat, end, *flat, end]
                    tokens[position] = mask
                    yield _Masked(place, tokens, first, position, own[0])
                position += len(own)
                place += 1

    def _guess(self, batch: Sequence[_Masked]) -> np.ndarray:
        """The K likeliest whole words at the mask of each item, itself left out: (batch, K) places, likeliest first."""
        import torch

        width = max(len(item.tokens) for item in batch)
        ids = torch.full((len(batch), width), self._tokenizer.pad_token_id)
        real = torch.zeros((len(batch), width), dtype=torch.long)
        segments = torch.zeros((len(batch), width), dtype=torch.long)
        for row, item in enumerate(batch):
            ids[row, : len(item.tokens)] = torch.tensor(item.tokens)
            real[row, : len(item.tokens)] = 1
            segments[row, item.first_length : len(item.tokens)] = 1
        inputs = {"input_ids": ids, "attention_mask": real}
        if "token_type_ids" in self._tokenizer.model_input_names:
            inputs["token_type_ids"] = segments
        device = self._model.device
        with torch.inference_mode():
            logits = self._model(**{name: values.to(device) for name, values in inputs.items()}).logits.cpu()
        at_mask = logits[torch.arange(len(batch)), torch.tensor([item.position for item in batch])]
        at_mask[torch.arange(len(batch)), torch.tensor([item.own for item in batch])] = -torch.inf
        return at_mask[:, torch.from_numpy(self._whole_ids)].topk(self._k, dim=1).indices.numpy()


def _cut(masked: Sequence[_Masked]) -> Iterator[Sequence[_Masked]]:
    """Batches of at most ``BATCH_TOKENS`` padded tokens of items sorted by length."""
    start = 0
    while start < len(masked):
        stop = start + 1
        while stop < len(masked) and (stop + 1 - start) * len(masked[stop].tokens) <= BATCH_TOKENS:
            stop += 1
        yield masked[start:stop]
        start = stop
