"""Vary one block of rows, in this process or in a worker.

A block is fixed by the input alone and draws its randomness from (seed, block number), so the result does not
depend on who works on it.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_augment.errors import InputError
from data_augment.fingerprints import combine_fingerprints, fingerprint_texts
from data_augment.rules import RuleSettings
from data_augment.tag_counts import TagTable, load_table, save_table
from data_augment.texts import Texts
from data_augment.variation import vary_texts
from data_augment.workers import WorkerDied, Workers


@dataclass(frozen=True)
class Block:
    """Rows to be varied.

    Attributes:
        number: the block's number, part of its random seed.
        n_iter: variants a row.
        sides: the numbered texts of the one or two text columns.
        originals: for pairs the original strings of both sides (``pyarrow`` string arrays), else empty.
        candidates: for word replacement, word numbers that may replace each token of a side (tokens, K).
    """

    number: int
    n_iter: int
    sides: tuple[Texts, ...]
    originals: tuple[pa.Array, ...]
    candidates: tuple[np.ndarray | None, ...] = (None, None)


@dataclass(frozen=True)
class Variants:
    """The changed, mutually different variants of a block, row after row.

    Attributes:
        sources: int32, shape (variants,), the row in the block.
        iterations: int32, shape (variants,), counted from 1.
        flags: uint8, shape (variants,), the rule bits.
        fingerprints: uint64, shape (variants,).
        texts: the texts of each side, ``pyarrow`` string arrays of length ``variants``.
    """

    sources: np.ndarray
    iterations: np.ndarray
    flags: np.ndarray
    fingerprints: np.ndarray
    texts: tuple[pa.Array, ...]


class BlockVarier:
    """Holds what all blocks need: the words as an Arrow array, the tag table, the settings and the seed."""

    def __init__(self, table: TagTable, settings: RuleSettings, seed: int):
        self._table = table
        self._settings = settings
        self._seed = seed
        self._words = pa.array(table.words, type=pa.string())

    @property
    def settings(self) -> tuple[RuleSettings, int]:
        """The rules' numbers and the seed."""
        return self._settings, self._seed

    def save_table(self, path: Path) -> None:
        """Keep the words and the tag table in a file: see :func:`data_augment.tag_counts.load_table`."""
        save_table(self._table, path)

    def vary(self, block: Block) -> Variants:
        """Make the variants of a block and drop the unchanged and the repeated ones."""
        rng = np.random.default_rng([self._seed, block.number])
        rows = len(block.sides[0].lengths)
        sources = np.repeat(np.arange(rows, dtype=np.int32), block.n_iter)
        iterations = np.tile(np.arange(1, block.n_iter + 1, dtype=np.int32), rows)
        flags = np.zeros(len(sources), dtype=np.uint8)
        sides = []
        for side, texts in enumerate(block.sides):
            # Pairs are varied in a cycle: the first side only, the second only, both.
            chosen = np.arange(len(sources))
            if len(block.sides) > 1:
                chosen = np.flatnonzero((iterations - 1) % 3 != 1 - side)
            variants, fired = vary_texts(
                texts, sources[chosen], self._table, self._settings, rng, block.candidates[side]
            )
            flags[chosen] |= fired
            sides.append((chosen, variants))
        fingerprints = self._fingerprint(block, sources, sides)
        kept = np.flatnonzero(flags)
        kept = kept[np.sort(np.unique(fingerprints[kept], return_index=True)[1])]
        strings = tuple(self._join(block, side, sources, kept, *sides[side]) for side in range(len(sides)))
        return Variants(sources[kept], iterations[kept], flags[kept], fingerprints[kept], strings)

    def _fingerprint(
        self, block: Block, sources: np.ndarray, sides: list[tuple[np.ndarray, Texts]]
    ) -> np.ndarray:
        prints = []
        for texts, (chosen, variants) in zip(block.sides, sides, strict=True):
            if len(chosen) == len(sources):
                side_prints = np.empty(len(sources), dtype=np.uint64)
            else:
                side_prints = self._table.fingerprint(texts)[sources]
            side_prints[chosen] = fingerprint_texts(
                self._table.word_hashes[variants.tokens], variants.lengths
            )
            prints.append(side_prints)
        return prints[0] if len(prints) == 1 else combine_fingerprints(*prints)

    def _join(
        self,
        block: Block,
        side: int,
        sources: np.ndarray,
        kept: np.ndarray,
        chosen: np.ndarray,
        variants: Texts,
    ) -> pa.Array:
        """The strings of one side for the variants ``kept``; original strings where it was not varied."""
        place = np.full(len(sources), -1)
        place[chosen] = np.arange(len(chosen))
        wanted = place[kept]
        varied = wanted >= 0
        is_wanted = np.zeros(len(chosen), dtype=bool)
        is_wanted[wanted[varied]] = True
        words = self._words.take(pa.array(variants.tokens[np.repeat(is_wanted, variants.lengths)]))
        ends = np.cumsum(variants.lengths[is_wanted])
        offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
        joined = pc.binary_join(pa.ListArray.from_arrays(offsets, words), " ")
        if varied.all():
            return joined
        index = np.where(varied, np.cumsum(varied) - 1, len(joined) + sources[kept])
        return pa.concat_arrays([joined, block.originals[side]]).take(pa.array(index))


def vary_blocks(blocks: Iterable[Block], varier: BlockVarier, num_workers: int) -> Iterator[Variants]:
    """The variants of each block, in order; ``num_workers`` > 1 spawns that many processes.

    At most two blocks a worker are waiting, so memory does not grow with the input.

    Raises:
        InputError: a worker process died, or had no memory.
    """
    if num_workers == 1:
        yield from map(varier.vary, blocks)
        return
    waiting: deque[Future[Variants]] = deque()
    with tempfile.TemporaryDirectory(prefix="data_augment.") as folder:
        file = Path(folder, "table.npz")  # what all blocks need
        varier.save_table(file)
        try:
            with Workers(num_workers, _load_varier, (file, *varier.settings)) as workers:
                for block in blocks:
                    waiting.append(workers.submit(block))
                    if len(waiting) >= 2 * num_workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
        except WorkerDied as died:
            reason = ", perhaps for lack of memory" if died.was_killed else ""
            guard = '; a script needs an `if __name__ == "__main__":` guard to use workers'
            raise InputError(
                f"{died}{reason}; nothing was written. Run it again, with fewer workers (or one) or more memory"
                + ("" if died.was_killed else guard)
            ) from None
        except MemoryError:
            raise InputError(
                "there is no memory to vary a block of rows; nothing was written. Run it again with fewer workers"
            ) from None


def _load_varier(file: Path, settings: RuleSettings, seed: int) -> Callable[[Block], Variants]:
    return BlockVarier(load_table(file), settings, seed).vary
