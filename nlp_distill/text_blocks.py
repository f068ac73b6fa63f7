"""Unlabelled text of any size as blocks of tokens on disk: read in a stream, packed without padding, mapped to memory.

Packing (many sentences in one block, cut where the block is full) is how BERT-like models are pre-trained; no token is
padding, and every block but the last has the same length.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data_augment.errors import InputError
from data_augment.readers import decode_lines

LINES = 2048  # lines given to the tokenizer at a time


@dataclass(frozen=True)
class BlockSummary:
    """What was packed: lines of text read, tokens, blocks, and the SHA-256 of the tokens."""

    lines: int
    tokens: int
    blocks: int
    sha256: str


def write_blocks(
    texts: Sequence[str | Path], output: str | Path, tokenizer: Any, max_length: int
) -> BlockSummary:
    """Tokenise text files line by line into one flat file of int32 tokens; memory holds a few thousand lines.

    Args:
        texts: UTF-8 files, a paragraph or sentence a line; empty lines are passed over.
        output: the file of tokens, without special tokens; it is complete when this returns.
        tokenizer: a fast tokenizer.
        max_length: tokens a block, special tokens included.

    Raises:
        InputError: for a missing file, a line that is not UTF-8, or no text at all.
    """
    room = block_room(tokenizer, max_length)
    digest, lines, tokens = hashlib.sha256(), 0, 0
    size = sum(_size(Path(path)) for path in texts)
    with (
        Path(output).open("wb") as file,
        tqdm(total=size, desc="packing text", unit="B", unit_scale=True) as progress,
    ):
        stream = _read_lines(texts, progress)
        while chunk := list(islice(stream, LINES)):
            encoded = tokenizer(chunk, add_special_tokens=False, return_attention_mask=False)
            flat = np.fromiter((token for row in encoded["input_ids"] for token in row), dtype=np.int32)
            file.write(flat.tobytes())
            digest.update(flat.tobytes())
            lines, tokens = lines + len(chunk), tokens + len(flat)
    if not tokens:
        raise InputError(f"{', '.join(map(str, texts))} holds no text; give files with a text a line")
    return BlockSummary(lines, tokens, -(-tokens // room), digest.hexdigest())


class TextBlocks(torch.utils.data.Dataset):
    """The blocks of a file that :func:`write_blocks` made, as a ``Trainer`` takes them.

    Args:
        path: the file.
        tokenizer: the tokenizer that made it; it frames each block with its special tokens.
        max_length: tokens a block, special tokens included.
    """

    def __init__(self, path: str | Path, tokenizer: Any, max_length: int):
        self.tokens = np.memmap(path, dtype=np.int32, mode="r")
        self.room = block_room(tokenizer, max_length)
        self.before, self.after = find_frame(tokenizer)

    def __len__(self) -> int:
        return -(-len(self.tokens) // self.room)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        block = self.tokens[index * self.room : (index + 1) * self.room]
        return {"input_ids": np.concatenate([self.before, block, self.after])}


def block_room(tokenizer: Any, max_length: int) -> int:
    """Tokens of text in a block of ``max_length``, special tokens left out."""
    special = sum(map(len, find_frame(tokenizer)))
    if max_length <= special:
        raise InputError(
            f"max_length is {max_length}; it must be more than the {special} special tokens of a block"
        )
    return max_length - special


def find_frame(tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """The special tokens that a tokenizer puts before and after a text: two int32 arrays."""
    text = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    start = next(i for i in range(len(framed)) if framed[i : i + len(text)] == text)
    before, after = framed[:start], framed[start + len(text) :]
    return np.array(before, dtype=np.int32), np.array(after, dtype=np.int32)


def _read_lines(texts: Iterable[str | Path], progress: tqdm) -> Iterator[str]:
    for path in texts:
        for number, line in enumerate(decode_lines(Path(path)), start=1):
            if line is None:
                raise InputError(f"{path} line {number} is not UTF-8; convert the file to UTF-8")
            progress.update(len(line))
            if line := line.strip():
                yield line


def _size(path: Path) -> int:
    if not path.is_file():
        raise InputError(f"no file {path}; --text takes files with a text a line")
    return path.stat().st_size
