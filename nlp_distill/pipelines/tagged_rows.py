"""The sentences of a tagging task as tokens of one tokenizer, and what the pipelines do with them: tags and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from data_augment.errors import InputError
from nlp_distill.encoding import EncodedRows
from nlp_distill.evaluation import save_logits
from nlp_distill.pipelines.tagged_data import SPLITS, TaggedData
from nlp_distill.processes import is_main_process
from nlp_distill.stages import announce
from nlp_distill.tagging import (
    count_cut_words,
    encode_sentences,
    name_metrics,
    predict_tags,
    read_gold,
    score_tags,
)

TAGS = "tags.npz"


@dataclass(frozen=True)
class TaggedRows:
    """The splits of a task as tokens.

    Args:
        labels: tag names in index order.
        splits: rows by split: train, validation, test and unlabelled, which may be empty.
        cut_words: by split, words that are left out, of training and of scores.
    """

    labels: tuple[str, ...]
    splits: Mapping[str, EncodedRows]
    cut_words: Mapping[str, int]

    @property
    def metric(self) -> str:
        """The metric that is the score."""
        return name_metrics(self.labels)[0]

    def predict(
        self, model: PreTrainedModel, tokenizer: Any, folder: Path | None = None
    ) -> dict[str, list[np.ndarray]]:
        """Tags of the words of validation and test, kept in ``folder`` as well where one is given."""
        tags = {name: predict_tags(model, tokenizer, self.splits[name]) for name in ("validation", "test")}
        if folder is not None and is_main_process():
            save_logits(folder / TAGS, {name: np.concatenate(found) for name, found in tags.items()})
        return tags

    def score(self, tags: Sequence[np.ndarray], split: str) -> dict[str, float]:
        """Scores of a model's tags of a split."""
        return score_tags(read_gold(self.splits[split]), tags, self.labels)

    def score_majority(self, split: str) -> float:
        """The score of the most frequent tag everywhere."""
        gold = read_gold(self.splits[split])
        most = np.bincount(np.concatenate(gold)).argmax()
        return self.score([np.full(len(tags), most) for tags in gold], split)[self.metric]

    def describe(
        self, tags: Mapping[str, Sequence[np.ndarray]], teacher: np.ndarray | None = None
    ) -> dict[str, Any]:
        """A model's place in the results, but for its size.

        Args:
            tags: the model's, of validation and test.
            teacher: the teacher's of test, of all words one after the other.
        """
        metrics = self.score(tags["test"], "test")
        entry = {
            "score": metrics[self.metric],
            "metrics": metrics,
            "validation_score": self.score(tags["validation"], "validation")[self.metric],
        }
        answers = np.unique(np.concatenate(tags["test"]))
        if len(answers) == 1:
            entry["collapsed_to"] = self.labels[int(answers[0])]
        if teacher is not None:
            entry["agreement"] = float((np.concatenate(tags["test"]) == teacher).mean())
        return entry


def encode_data(data: TaggedData, tokenizer: Any, labels: Sequence[str], max_length: int) -> TaggedRows:
    """All splits as tokens; says where words are cut.

    Raises:
        InputError: naming the split, as :func:`nlp_distill.tagging.encode_sentences`.
    """
    rows, cut_words = {}, {}
    for split in (*SPLITS, "unlabelled"):
        sentences = getattr(data, split)
        try:
            rows[split] = encode_sentences(sentences, tokenizer, labels, max_length)
        except InputError as error:
            raise InputError(f"{split}: {error}") from error
        if not sentences:
            continue
        cut_words[split] = count_cut_words(sentences, rows[split])
        if cut_words[split]:
            announce(
                f"{split}: {cut_words[split]} words are left out, of scores too: they do not fit into {max_length} "
                "tokens, or the tokenizer keeps nothing of them"
            )
    return TaggedRows(tuple(labels), rows, cut_words)


def join_rows(first: EncodedRows, second: EncodedRows) -> EncodedRows:
    """Rows of both, one after the other."""
    if not len(second):
        return first
    columns = {name: np.concatenate([first.columns[name], second.columns[name]]) for name in first.columns}
    return EncodedRows(columns, np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]]))
