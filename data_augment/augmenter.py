"""The augmenter: fit it on texts, then make variants of texts, of pairs, or of a ``datasets.Dataset``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from data_augment.candidates import CandidateSource, GloveCandidates
from data_augment.errors import InputError
from data_augment.rows import is_unicode
from data_augment.rules import (
    DEFAULT_ITERATIONS,
    DEFAULT_PAIR_ITERATIONS,
    DEFAULT_RULES,
    Rule,
    check_iterations,
    check_whole_number,
    combine_rules,
)
from data_augment.tag_counts import TagCounter, TagTable
from data_augment.tagging import Tagger, load_tagger
from data_augment.texts import Texts
from data_augment.variation import vary_texts

if TYPE_CHECKING:
    import datasets

FIT_BATCH = 2048  # texts tagged at a time


class Augmenter:
    """Makes variants of texts by the three rules of Tang et al. 2019 (arXiv 1903.12136, §3.3).

    Words are whitespace tokens, and the words of a variant are joined by single spaces. The rules work
    together as in the paper whatever their order here; a rule that is left out never fires.

    Args:
        rules: the rules, at most one of each kind.
        pos_tagger: ``auto``, ``nltk`` or ``textblob`` (see :func:`data_augment.tagging.load_tagger`), or an
            object with ``name`` and ``tag``.
        candidates: where :class:`ReplaceRule` takes its words from; default the packaged GloVe vectors.

    Example:
        >>> augmenter = Augmenter([MaskRule(0.1), NgramRule(0.25)])
        >>> augmenter.augment("a gripping , well acted film", n_iter=2, seed=1)  # doctest: +SKIP
        ['a gripping , well [MASK] film', 'well acted']
    """

    def __init__(
        self,
        rules: Iterable[Rule] = DEFAULT_RULES,
        *,
        pos_tagger: str | Tagger = "auto",
        candidates: CandidateSource | None = None,
    ):
        self.settings = combine_rules(rules)
        if candidates is not None and not self.settings.p_replace:
            raise InputError("candidates serve ReplaceRule alone; give it, or leave them out")
        if candidates is None and self.settings.p_replace:
            candidates = GloveCandidates()
        self.candidates = candidates
        self._pos_tagger = pos_tagger
        self._tagger: Tagger | None = None
        self.counter = TagCounter()
        self.is_fitted = False
        self._table: TagTable | None = None

    @property
    def tagger(self) -> Tagger:
        """The tagger, loaded when it is first needed; a stand-in with one tag if there is no PosRule."""
        if self._tagger is None:
            if self.settings.p_pos == 0:
                self._tagger = _NoTagger()
            else:
                tagger = self._pos_tagger
                self._tagger = load_tagger(tagger) if isinstance(tagger, str) else tagger
        return self._tagger

    def fit(self, texts: Iterable[str]) -> Augmenter:
        """Count the words of each part-of-speech tag in ``texts``, forgetting earlier texts; return ``self``.

        Only :class:`PosRule` needs this.
        """
        self.start_fit()
        stream = iter(texts)
        while batch := list(islice(stream, FIT_BATCH)):
            self.learn(batch)
        return self

    def start_fit(self) -> None:
        """Forget what was fitted; :meth:`learn` then takes texts batch by batch."""
        self.counter = TagCounter()
        self._table = None
        self.is_fitted = True

    def learn(self, texts: Sequence[str]) -> Texts:
        """Tag and count a batch of texts; return them in the token numbers of :attr:`table`."""
        words = [split_words(text) for text in texts]
        tokens = self.counter.number(chain.from_iterable(words), chain.from_iterable(self.tagger.tag(words)))
        self.counter.count(tokens)
        self._table = None
        return Texts(tokens, np.array([len(text) for text in words], dtype=np.int32))

    @property
    def table(self) -> TagTable:
        """The tag distributions of the fitted texts."""
        if self._table is None:
            self._table = self.counter.make_table()
        return self._table

    def augment(self, text: str, n_iter: int = DEFAULT_ITERATIONS, seed: int = 0) -> list[str]:
        """``n_iter`` random variants of ``text``, duplicates included; the same seed gives the same ones.

        Raises:
            InputError: a blank text, a bad ``n_iter``, or a PosRule before :meth:`fit`.
        """
        rng = np.random.default_rng(check_whole_number("seed", seed))
        return self._vary(text, check_iterations(n_iter), rng)

    def augment_pair(
        self, first: str, second: str, n_iter: int = DEFAULT_PAIR_ITERATIONS, seed: int = 0
    ) -> list[tuple[str, str]]:
        """Variants of a pair of texts: of the first only, of the second only, of both, and so on.

        The side that is not varied is the original text, unchanged.
        """
        rng = np.random.default_rng(check_whole_number("seed", seed))
        check_iterations(n_iter)
        sides = []
        for side, text in enumerate((first, second)):
            varied = np.arange(n_iter) % 3 != 1 - side
            texts = np.full(n_iter, text, dtype=object)
            texts[varied] = self._vary(text, int(varied.sum()), rng)
            sides.append(texts.tolist())
        return list(zip(*sides, strict=True))

    def augment_dataset(
        self,
        dataset: datasets.Dataset,
        *,
        text_column: str = "sentence",
        text_pair_column: str | None = None,
        label_column: str | None = None,
        n_iter: int | None = None,
        seed: int = 0,
        num_workers: int = 1,
    ) -> datasets.Dataset:
        """The transfer set of a dataset, in memory: originals and variants with provenance, no duplicates.

        The tag distributions are those of ``dataset`` itself. Arguments, result columns and errors are those
        of :func:`data_augment.write_transfer_set`.
        """
        from data_augment.transfer_set import build_dataset

        columns = (text_column,) if text_pair_column is None else (text_column, text_pair_column)
        return build_dataset(dataset, self, columns, label_column, n_iter, seed, num_workers)

    def _vary(self, text: str, n: int, rng: np.random.Generator) -> list[str]:
        if self.settings.p_pos and not self.is_fitted:
            raise InputError("PosRule draws words from fitted texts; call fit(texts) before augment()")
        words = split_words(text)
        tokens, unseen = self.counter.look_up(words, self.tagger.tag([words])[0])
        table = self.table.extend(unseen) if unseen else self.table
        texts = Texts(np.array(tokens, dtype=np.int32), np.array([len(words)], dtype=np.int32))
        proposed = None
        if self.candidates is not None:
            table, numbers = table.add_words(self.candidates.prepare(words))
            proposed = number_candidates(self.candidates.propose([words]), numbers)
        variants, _ = vary_texts(texts, np.zeros(n, dtype=np.int64), table, self.settings, rng, proposed)
        drawn = iter(variants.tokens.tolist())
        return [" ".join(table.words[word] for word in islice(drawn, n)) for n in variants.lengths.tolist()]


def number_candidates(proposed: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Places in a source's list of words as word numbers; -1 stays: int32, shape (words, K)."""
    if not len(numbers):
        return np.full_like(proposed, -1)
    return np.where(proposed >= 0, numbers[np.maximum(proposed, 0)], -1).astype(np.int32)


def split_words(text: str) -> list[str]:
    """The words of a text: its whitespace tokens.

    Raises:
        InputError: ``text`` is not a string, blank, or not Unicode.
    """
    if not isinstance(text, str):
        raise InputError(f"a text must be a string, not {type(text).__name__}")
    words = text.split()
    if not words:
        raise InputError("a text is empty; it needs at least one word")
    if not is_unicode(text):
        raise InputError(f"a text holds half of a surrogate pair, which is no Unicode text: {text[:40]!r}")
    return words


class _NoTagger:
    """Stands in for a tagger where no rule needs tags: one tag for every word."""

    name = "none"

    def tag(self, texts: Sequence[Sequence[str]]) -> list[list[str]]:
        return [[""] * len(words) for words in texts]
