"""Small vocabularies for small students: word pieces trimmed to what a corpus uses, or whole words.

A BERT vocabulary of 30,522 pieces times 300 numbers is 9.2M parameters, ten times the rest of a BiLSTM
student.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from data_augment.errors import InputError

MASK = "[MASK]"  # the augmentation rules write this literal word
_BATCH = 4096

# Words, their contractions as the Penn Treebank (and so SST-2 and GloVe) cuts them, and single other
# characters: "doesn't" and "does n't" both become does + n't.
_WORDS = r"\w+(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b|\w+|[^\w\s]"


def trim_vocabulary(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], *, max_size: int | None = None
) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """A WordPiece tokenizer with only the pieces that `texts` use; it cuts those texts as the old one does.

    Kept are the special and added tokens, every single-character piece ("a" and "##a", so that unseen words
    stay readable), and the pieces that occur; with `max_size`, at most that many pieces, the most frequent
    ones (then the texts' rare words are cut finer). Returns the tokenizer and `kept_ids`: row i of a trimmed
    embedding matrix is row kept_ids[i] of the old one. `texts` is read once, in batches; the given tokenizer
    is left as it was.

    Raises InputError when the tokenizer is not a fast WordPiece one, or `max_size` is below the pieces always
    kept.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    spec: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
    kind = spec.get("model", {"type": "a slow tokenizer"})["type"]
    if kind != "WordPiece":
        raise InputError(f"vocabulary trimming needs a fast WordPiece tokenizer (BERT's kind), not {kind}")
    vocabulary: dict[str, int] = spec["model"]["vocab"]
    if spec["model"]["unk_token"] not in vocabulary:
        raise InputError(
            f"vocabulary trimming needs a piece for unknown words, and this tokenizer's vocabulary has no "
            f"{spec['model']['unk_token']}"
        )
    always = {token["id"] for token in spec["added_tokens"]} | {vocabulary[spec["model"]["unk_token"]]}
    prefix = spec["model"]["continuing_subword_prefix"]
    always |= {index for piece, index in vocabulary.items() if len(piece.removeprefix(prefix)) == 1}
    if max_size is not None and max_size < len(always):
        raise InputError(
            f"the vocabulary size is {max_size}: give at least {len(always)}, for special tokens and characters"
        )
    counts = _count_pieces(
        Tokenizer.from_str(json.dumps(spec | {"truncation": None, "padding": None})), texts
    )
    used = sorted(counts.keys() - always, key=lambda index: (-counts[index], index))
    kept_ids = sorted(always | set(used if max_size is None else used[: max_size - len(always)]))
    trimmed = Tokenizer.from_str(json.dumps(_renumber(spec, {old: new for new, old in enumerate(kept_ids)})))
    return _wrap_like(tokenizer, trimmed), kept_ids


def _count_pieces(backend: Tokenizer, texts: Iterable[str]) -> Counter[int]:
    """How often each piece id occurs, with the first pieces of words that turn out unknown too."""
    counts: Counter[int] = Counter()
    unknown = backend.model.unk_token
    unknown_id = backend.token_to_id(unknown)
    for batch in _batches(texts):
        for text, encoding in zip(
            batch, backend.encode_batch_fast(batch, add_special_tokens=False), strict=True
        ):
            counts.update(encoding.ids)
            if unknown_id in encoding.ids:
                for word in _words_of(backend, text):
                    counts.update(_pieces_before_failure(backend, word))
    return counts


def _words_of(backend: Tokenizer, text: str) -> list[str]:
    normalized = backend.normalizer.normalize_str(text) if backend.normalizer is not None else text
    return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normalized)]


def _pieces_before_failure(backend: Tokenizer, word: str) -> list[int]:
    """The longest pieces WordPiece takes from an unknown word before it fails; [] for a known word.

    Without them a shorter first piece could be taken, and the word could come out as known.
    """
    limit, prefix = backend.model.max_input_chars_per_word, backend.model.continuing_subword_prefix
    pieces: list[int] = []
    start = 0
    while start < len(word) <= limit:
        for end in range(len(word), start, -1):
            piece = backend.model.token_to_id((prefix if start else "") + word[start:end])
            if piece is not None:
                pieces.append(piece)
                start = end
                break
        else:
            return pieces
    return []


def _renumber(spec: dict[str, Any], new_id: dict[int, int]) -> dict[str, Any]:
    """The tokenizer description with only the ids in `new_id` (old -> new), everywhere an id is written."""
    model = spec["model"]
    vocabulary = {piece: new_id[old] for piece, old in model["vocab"].items() if old in new_id}
    added = [token | {"id": new_id[token["id"]]} for token in spec["added_tokens"]]
    processor = spec["post_processor"]
    if processor is not None and processor["type"] == "TemplateProcessing":
        special = {
            name: entry | {"ids": [new_id[index] for index in entry["ids"]]}
            for name, entry in processor["special_tokens"].items()
        }
        processor = processor | {"special_tokens": special}
    elif processor is not None and processor["type"] in ("BertProcessing", "RobertaProcessing"):
        ends = {side: [processor[side][0], new_id[processor[side][1]]] for side in ("sep", "cls")}
        processor = processor | ends
    elif processor is not None:
        raise InputError(f"vocabulary trimming cannot renumber a {processor['type']} post-processor")
    changed = {"model": model | {"vocab": vocabulary}, "added_tokens": added, "post_processor": processor}
    return spec | changed | {"truncation": None, "padding": None}


def _wrap_like(tokenizer: PreTrainedTokenizerBase, backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **tokenizer.special_tokens_map,
    )


def word_tokenizer(
    texts: Iterable[str],
    glove_words: Collection[str] | None = None,
    *,
    min_count: int = 1,
    max_size: int | None = None,
    lowercase: bool = True,
) -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the words of `texts`, most frequent first; other words become [UNK].

    Text is cleaned and lower-cased as BERT does it, then cut into words, contractions (does n't) and single
    punctuation marks, which suits tokenised and raw text. A word is kept when it occurs `min_count` times, or
    when it is in `glove_words` (a rare word with a known vector is still of use); `max_size` counts the
    special tokens [PAD] [UNK] [SEP] [MASK] too. A text is encoded as `words [SEP]`, a pair as `words [SEP]
    words [SEP]` with token_type_ids 0 and 1. Saved and loaded by AutoTokenizer like any other.

    Raises InputError when `texts` has no words or `max_size` leaves no room for one.
    """
    special = ["[PAD]", "[UNK]", "[SEP]", MASK]
    if max_size is not None and max_size <= len(special):
        raise InputError(f"max_size is {max_size}: give more than the {len(special)} special tokens")
    backend = Tokenizer(WordLevel({}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    counts: Counter[str] = Counter()
    for text in texts:
        for part in text.split(MASK):
            counts.update(_words_of(backend, part))
    if not counts:
        raise InputError("no words in the texts given: a vocabulary needs at least one")
    known = frozenset(glove_words or ())
    words = [word for word, count in counts.items() if count >= min_count or word in known]
    words.sort(key=lambda word: (-counts[word], word))
    vocabulary = (special + words)[:max_size]
    backend.model = WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]")
    backend.post_processor = processors.TemplateProcessing(
        single="$A:0 [SEP]:0",
        pair="$A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[SEP]", special.index("[SEP]"))],
    )
    names = dict(zip(("pad_token", "unk_token", "sep_token", "mask_token"), special, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **names,
    )


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(texts)
    while batch := list(islice(stream, _BATCH)):
        yield batch
