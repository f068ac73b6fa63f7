"""The sentences of a tagging task: read, cut into splits, and known to the rest of the pipelines as any other task."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from data_augment.errors import InputError
from nlp_distill.stages import announce
from nlp_distill.tagging import OUTSIDE, Sentence, name_metrics, read_sentences
from nlp_distill.tasks import Task, TaskData
from nlp_distill.tasks.labels import MAX_CLASSES, SHOWN
from nlp_distill.tasks.own_files import OWN_SHARE
from nlp_distill.tasks.splits import Row, hold_out, normalise_text

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class TaggedData:
    """The sentences of a task.

    Args:
        name: the task's.
        train: learnt.
        validation: chooses the checkpoint.
        test: is reported.
        unlabelled: raw sentences for the teacher to tag.
        source: where they come from, for people.
        selected_on: as in :class:`nlp_distill.tasks.TaskData`: ``"train"`` where validation was held out of it,
            ``"dev"`` where it holds the reported rows themselves, else ``"validation"``.
    """

    name: str
    train: Sequence[Sentence]
    validation: Sequence[Sentence]
    test: Sequence[Sentence]
    unlabelled: Sequence[Sentence] = ()
    source: str = ""
    selected_on: str = "validation"

    def list_labels(self) -> tuple[str, ...]:
        """Tags of the training rows in the order of a new model's: ``O`` first if it is one, the others sorted.

        Rows that were held out of train for validation are training rows here.

        Raises:
            InputError: for fewer than two tags or so many that they are none, and for a tag that is in validation or
                test alone, by its sentence.
        """
        held_out = self.validation if self.selected_on == "train" else ()
        found = {tag for sentence in (*self.train, *held_out) for tag in sentence.tags}
        labels = tuple(sorted(found, key=lambda tag: (tag != OUTSIDE, tag)))
        shown = ", ".join(labels[:SHOWN]) + (", ..." if len(labels) > SHOWN else "")
        if len(labels) < 2:
            raise InputError(f"train: every word has the tag {shown!r}; give sentences with two tags or more")
        if len(labels) > MAX_CLASSES:
            raise InputError(
                f"train: {len(labels):,} different tags ({shown}), and a tagger has at most {MAX_CLASSES:,}; the tag "
                "is the last column of a line"
            )
        for split in ("validation", "test"):
            for number, sentence in enumerate(getattr(self, split), start=1):
                if unknown := [tag for tag in sentence.tags if tag not in found]:
                    raise InputError(
                        f"{split}: sentence {number} ({' '.join(sentence.words)[:40]!r}): the tag {unknown[0]!r} is "
                        f"not in train, which has {shown}; correct the rows, or add sentences with it to train"
                    )
        return labels

    def as_task_data(self, labels: Sequence[str]) -> TaskData:
        """The same as other pipelines know it: for results, which name, count and hash the rows."""
        task = Task(self.name, "words", None, tuple(labels), name_metrics(labels))
        rows = {name: _as_dataset(getattr(self, name)) for name in SPLITS}
        extra = _as_dataset(self.unlabelled) if self.unlabelled else None
        return TaskData(task, **rows, unlabelled=extra, source=self.source, selected_on=self.selected_on)

    def warn_of_leaks(self) -> int:
        """How many sentences that are learnt, raw ones too, are in validation or test as well; says so."""
        learnt = [*self.train, *self.unlabelled]
        leaked = count_leaks(learnt, [*self.validation, *self.test])
        if leaked:
            announce(
                f"WARNING: {leaked:,} of {len(learnt):,} sentences that are learnt are in validation or test too (as "
                "lower-cased words); scores on these say less"
            )
        return leaked


def _as_dataset(sentences: Sequence[Sentence]) -> Dataset:
    return Dataset.from_dict(
        {"words": [list(one.words) for one in sentences], "tags": [list(one.tags) for one in sentences]}
    )


def load_tagged_data(
    name: str,
    train: str | Path,
    validation: str | Path | None,
    test: str | Path,
    unlabelled: str | Path | None = None,
) -> TaggedData:
    """Read the files of a task; the unlabelled one holds a sentence a line, its words between spaces.

    Without a validation file a tenth of train is held out for it, by a hash of the normalised words: the same
    sentences everywhere, and copies of a sentence on one side.

    Raises:
        InputError: as :func:`nlp_distill.tagging.read_sentences`; for a train file of which nothing can be held out.
    """
    raw = [] if unlabelled is None else list(_read_raw(Path(unlabelled)))
    learnt, reported = read_sentences(train), read_sentences(test)
    if validation is None:
        learnt, chosen = hold_out_sentences(learnt)
    else:
        chosen = read_sentences(validation)
    on_reported = "dev" if chosen == reported else "validation"
    return TaggedData(
        name,
        learnt,
        chosen,
        reported,
        raw,
        "own files: " + ", ".join(Path(path).name for path in (train, validation, test) if path is not None),
        "train" if validation is None else on_reported,
    )


def _read_raw(path: Path) -> Iterator[Sentence]:
    """Sentences without tags: the lines of a text file, or ``tokens`` of JSON lines."""
    if path.suffix == ".jsonl":
        yield from (Sentence(sentence.words) for sentence in read_sentences(path, tagged=False))
        return
    if path.suffix in (".csv", ".tsv", ".parquet", ".conll"):
        raise InputError(
            f"the unlabelled sentences are {path}; give a .txt file, a sentence a line, or .jsonl with tokens"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}; give a text file, a sentence a line") from error
    yield from (Sentence(tuple(line.split())) for line in lines if line.split())


def hold_out_sentences(sentences: Sequence[Sentence]) -> tuple[list[Sentence], list[Sentence]]:
    """Split sentences into ``(kept, held out)`` as rows of texts are: a tenth, by a hash of the normalised words."""
    rows = [Row(number, (" ".join(one.words),)) for number, one in enumerate(sentences)]
    kept, held = hold_out(rows, OWN_SHARE, salt="validation")
    return [sentences[row.number] for row in kept], [sentences[row.number] for row in held]


def count_leaks(sentences: Sequence[Sentence], held_out: Sequence[Sentence]) -> int:
    """How many of the sentences are held out as well, case and punctuation apart."""
    known = {normalise_text(" ".join(sentence.words)) for sentence in held_out}
    return sum(normalise_text(" ".join(sentence.words)) in known for sentence in sentences)
