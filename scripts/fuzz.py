"""Feed the parts that read text whatever Unicode and whatever bytes there are, and count what breaks.

    python scripts/fuzz.py --examples 10000
    python scripts/fuzz.py --examples 500 --only round_trip_csv runtime --json fuzz.json

A target is a promise: a round trip is lossless or refused, a damaged file is one clear error, an answer does not
depend on the texts beside it. Only an ``InputError`` may refuse; any other exception is a failure, as a broken promise
is. Hypothesis draws the examples and shrinks the first that fails. The exit code is 1 if any target failed. The targets
need the test extra; the runtime's is left out where the packages of the onnx extra are missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import math
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

sys.path.insert(0, str(Path(__file__).parent))
import tiny_models

from data_augment import (
    Augmenter,
    Glove,
    GloveCandidates,
    InputError,
    MaskRule,
    NgramRule,
    PosRule,
    ReplaceRule,
    open_writer,
    read_rows,
    write_transfer_set,
)
from data_augment.parsing import LONGEST_LINE, make_one_line
from data_augment.rows import is_unicode
from nlp_distill.batching import DistillationCollator
from nlp_distill.encoding import encode_rows
from nlp_distill.tasks import load_own_files
from nlp_distill.tasks.glue import glue_task
from nlp_distill.tasks.glue_folder import read_glue_rows
from nlp_distill.tasks.labels import infer_labels, parse_label
from nlp_distill.text_blocks import TextBlocks, write_blocks

NASTY = [
    "", " ", "\t", "\n", "\r", "\r\n", "\x00", "\x0b", "\x1c", "\x85", "\u2028", "\u2029", "\ufeff", "\ufffe", "\xa0",
    "\u3000", "\u200b", "\u200d", "\u202e", "\ud800", "\udfff", "\udcff", '"', '""', "'", ",", ";", "\\", "\\N", "NA",
    "nan", "null", "None", "inf", "1e999", "-0", "0x1", "TRUE", "=1+1", "#", "<b>", "&amp;", "[MASK]", "[PAD]", "~1",
    "מה שלום", "مرحبا", "电影很好看", "映画", "👍🏽", "👨‍👩‍👧", "e\u0301", "ﬁ", "İ", "ß", "Ω" * 50,
    "a" * 300, "a b c d",
]  # fmt: skip
ANY = st.characters(exclude_categories=())  # half surrogate pairs too
TEXTS = st.one_of(
    st.text(ANY, max_size=30),
    st.lists(st.one_of(st.sampled_from(NASTY), st.text(ANY, max_size=5)), max_size=6).map("".join),
    st.lists(st.sampled_from(NASTY), min_size=1, max_size=8).map(" ".join),
)
CELLS = st.one_of(st.none(), TEXTS)
VALUES = st.one_of(CELLS, st.booleans(), st.integers(), st.floats(), st.lists(st.integers(0, 9), max_size=2))
MAX_LENGTH = 24
ROUND = 500  # examples


@dataclass(frozen=True)
class Target:
    """One promise.

    Args:
        name: what the table calls it.
        strategy: draws an example.
        check: raises for an example that breaks the promise; it may write below the folder that it is given.
    """

    name: str
    strategy: SearchStrategy
    check: Callable[[Any, Path], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a target: examples that were tried (those of the shrinking too), different failures, the first."""

    target: str
    examples: int
    failures: int
    seconds: float
    message: str = ""


# ---- what the targets share ------------------------------------------------------------------------------------------


@cache
def make_tokenizer() -> Any:
    """A small word-piece tokenizer."""
    return tiny_models.make_tokenizer(["film", "plot", "电", "影", "好", "."])


@cache
def export_classifier() -> Any:
    """The runtime of a tiny random BERT of two classes, exported."""
    from nlp_distill.export import export_model
    from nlp_distill.runtime import Classifier

    tokenizer = make_tokenizer()
    model = tiny_models.make_bert(tokenizer, layers=1)
    with tempfile.TemporaryDirectory() as folder:
        export_model(model, tokenizer, Path(folder), max_length=MAX_LENGTH)
        return Classifier(folder, threads=1)


def is_same(found: Any, wanted: Any) -> bool:
    """Whether two values are the same, type and all; a NaN is like a NaN, and parquet holds 1 beside 0.5 as 1.0."""
    if isinstance(wanted, float) and isinstance(found, float) and math.isnan(wanted):
        return math.isnan(found)
    is_widened = type(found) is float and type(wanted) is int
    return (type(found) is type(wanted) or is_widened) and found == wanted


# ---- the augmenter ---------------------------------------------------------------------------------------------------


def check_augmenter(example: tuple[list[str], list[str], int], folder: Path) -> None:
    """Variants consist of words of the fitted texts, of the text, and ``[MASK]``; the same seed gives the same ones."""
    fitted, texts, number = example
    rules = [MaskRule(0.3), PosRule(0.4), NgramRule(0.5, 3)]
    try:
        augmenter = Augmenter(rules, pos_tagger="textblob").fit(fitted)
    except InputError:
        assert not all(text.split() and is_unicode(text) for text in fitted)
        return
    known = {word for text in fitted for word in text.split()} | {"[MASK]"}
    for text in texts:
        check_variants(augmenter, text, known, number)


def check_replacement(example: tuple[str, int], folder: Path) -> None:
    """Word replacement takes words of GloVe, and refuses blank texts."""
    text, number = example
    augmenter = Augmenter([ReplaceRule(0.5)], candidates=make_candidates())
    check_variants(augmenter, text, {"film", "movie", "plot", "电影"}, number)


@cache
def make_candidates() -> GloveCandidates:
    """Four words, each near the others."""
    return GloveCandidates(Glove(["film", "movie", "plot", "电影"], np.eye(4, 3, dtype=np.float32) + 0.1), 2)


def check_variants(augmenter: Augmenter, text: str, known: set[str], number: int) -> None:
    """What holds of the variants of a text whatever the rules."""
    try:
        variants = augmenter.augment(text, n_iter=4, seed=number)
    except InputError:
        assert not text.split() or not is_unicode(text)
        return
    assert variants == augmenter.augment(text, n_iter=4, seed=number) and len(variants) == 4
    for variant in variants:
        words = variant.split()
        assert words and variant == " ".join(words)
        assert len(words) <= len(text.split()) and set(words) <= known | set(text.split())


def check_transfer_set(example: tuple[list[dict], str, bool], folder: Path) -> None:
    """A transfer set is complete or refused: originals as they were, copies with a source, and no row twice."""
    rows, suffix, is_pair = example
    output = folder / f"transfer{suffix}"
    columns = ("text", "second") if is_pair else ("text",)
    options: dict[str, Any] = {"text_column": "text", "text_pair_column": "second" if is_pair else None}
    output.unlink(missing_ok=True)
    try:
        write_transfer_set(rows, output, **options, n_iter=3, pos_tagger="textblob")
    except InputError:
        assert not list(folder.iterdir())
        return
    found = list(read_rows(output))
    originals = [row for row in found if not row["rules"]]
    keys = [tuple(tuple(row[column].split()) for column in columns) for row in found]
    assert len(set(keys)) == len(keys) and len({row["id"] for row in found}) == len(found)
    firsts: dict[Any, dict] = {}
    for row in rows:
        firsts.setdefault(tuple(tuple(row[column].split()) for column in columns), row)
    assert [row["id"] for row in originals] == [row["id"] for row in firsts.values()]
    for row, wanted in zip(originals, firsts.values(), strict=True):
        assert all(row[column] == wanted[column] for column in columns)
    ids = {row["id"] for row in originals}
    assert all(row["source_id"] in ids for row in found)
    assert all(not row["label"] for row in found if row["rules"])
    output.unlink()


# ---- readers and writers ---------------------------------------------------------------------------------------------


def check_round_trip(suffix: str) -> Callable[[Any, Path], None]:
    """What is written is read again as it was, or refused and then not there.

    Null is an empty cell in csv and tsv, whose cells are texts.
    """

    def check(example: tuple[list[str], list[list[Any]]], folder: Path) -> None:
        columns, table = example
        path = folder / f"rows{suffix}"
        rows = [dict(zip(columns, values, strict=False)) for values in table]
        path.unlink(missing_ok=True)
        try:
            with open_writer(path, columns) as writer:
                writer.write(rows)
        except InputError:
            assert not list(folder.iterdir())
            return
        reader = read_rows(path)
        found = list(reader)
        assert reader.columns == tuple(columns) and len(found) == len(rows)
        for row, wanted in zip(found, rows, strict=True):
            for name in columns:
                value = wanted.get(name)
                expected = ("" if value is None else value) if suffix in (".csv", ".tsv") else value
                if not isinstance(expected, str) and suffix in (".csv", ".tsv"):
                    expected = repr(expected)
                assert is_same(row[name], expected), (row[name], expected)

    return check


def check_reader(example: tuple[bytes, str, bool], folder: Path) -> None:
    """Whatever bytes a file holds, its rows are read or one clear error says why not."""
    content, suffix, skip_bad_rows = example
    path = folder / f"rows{suffix}"
    path.write_bytes(content)
    with suppress(InputError):
        reader = read_rows(path, skip_bad_rows=skip_bad_rows)
        for row in reader:
            assert tuple(row) == reader.columns or suffix == ".jsonl"
            assert all(is_unicode(value) for value in row.values() if isinstance(value, str))


def check_glue(content: bytes, folder: Path) -> None:
    """The same of a GLUE folder's files."""
    path = folder / "train.tsv"
    path.write_bytes(content)
    for name in ("sst2", "cola", "stsb"):
        with suppress(InputError):
            rows = read_glue_rows(glue_task(name), path, Counter(), skip_bad_rows=True)
            assert rows and all(row.texts[0].strip() for row in rows)


def check_own_rows(example: tuple[list[tuple[str, Any]], str, bool], folder: Path) -> None:
    """Own files become splits whose texts are the file's, each row in one split at most."""
    pairs, suffix, skip_bad_rows = example
    path = folder / f"rows{suffix}"
    path.unlink(missing_ok=True)
    try:
        with open_writer(path, ["text", "label"]) as writer:
            writer.write({"text": text, "label": label} for text, label in pairs)
        data = load_own_files(path, text_column="text", skip_bad_rows=skip_bad_rows)
    except InputError:
        return
    given = {text.strip() for text, _ in pairs}
    ids: list[str] = []
    for split in data.splits().values():
        ids += split["id"]
        assert set(split["text"]) <= given and all(text.strip() for text in split["text"])
        if not data.task.is_regression:
            assert all(0 <= label < len(data.task.labels) for label in split["label"])
    assert len(set(ids)) == len(ids) <= len(pairs)


def check_labels(values: list[Any], folder: Path) -> None:
    """The labels that a column's values stand for contain each of them."""
    try:
        labels = infer_labels(values)
    except InputError:
        return
    assert len(set(labels)) == len(labels)
    for value in values:
        try:
            parsed = parse_label(value, labels)
        except InputError:
            assert not labels  # a number that is too large for a regression
            continue
        assert math.isfinite(parsed) if not labels else 0 <= parsed < len(labels)


def check_text_blocks(content: bytes, folder: Path) -> None:
    """Plain text is packed into blocks of whole tokens, or refused."""
    source, output = folder / "text.txt", folder / "tokens.bin"
    source.write_bytes(content)
    tokenizer = make_tokenizer()
    try:
        with redirect_stderr(io.StringIO()):  # a bar for each example
            summary = write_blocks([source], output, tokenizer, MAX_LENGTH)
    except InputError:
        return
    blocks = TextBlocks(output, tokenizer, MAX_LENGTH)
    assert len(blocks) == summary.blocks
    lengths = [len(blocks[number]["input_ids"]) for number in range(len(blocks))]
    assert sum(lengths) - 2 * len(blocks) == summary.tokens and max(lengths) <= MAX_LENGTH


# ---- tokens and answers ----------------------------------------------------------------------------------------------


def check_collator(example: tuple[list[tuple[str, str]], bool], folder: Path) -> None:
    """A padded batch holds the tokens that the tokenizer makes of each text alone, and padding for the rest."""
    rows, is_pair = example
    columns = ["text", "second"] if is_pair else ["text"]
    tokenizer = make_tokenizer()
    dicts = [
        {"text": first, "second": second, "label": number % 2} for number, (first, second) in enumerate(rows)
    ]
    try:
        encoded = encode_rows(dicts, tokenizer, columns, MAX_LENGTH)
    except InputError:
        assert not all(is_unicode(row[column]) for row in dicts for column in columns)
        return
    batch = DistillationCollator(tokenizer)([encoded[number] for number in range(len(encoded))])
    assert batch["labels"].tolist() == [row["label"] for row in dicts]
    for number, row in enumerate(dicts):
        # As lists of one, because a single pair whose second text is empty is taken for no pair.
        alone = tokenizer(*([row[column]] for column in columns), truncation=True, max_length=MAX_LENGTH)
        real = batch["attention_mask"][number].bool()
        assert batch["input_ids"][number][real].tolist() == alone["input_ids"][0]
        assert (batch["input_ids"][number][~real] == tokenizer.pad_token_id).all()


def check_runtime(texts: list[Any], folder: Path) -> None:
    """Probabilities are probabilities, and the same whatever texts are in the batch; half pairs are refused."""
    classifier = export_classifier()
    parts = [part for text in texts for part in ((text,) if isinstance(text, str) else text)]
    try:
        found = classifier.compute_probabilities(texts)
    except ValueError:
        assert not all(map(is_unicode, parts))
        return
    assert np.isfinite(found).all() and np.allclose(found.sum(axis=1), 1, atol=1e-5)
    alone = np.concatenate([classifier.compute_probabilities([text]) for text in texts])
    assert np.allclose(found, alone, atol=1e-5)


def check_error_line(message: str, folder: Path) -> None:
    """An error is one line that a terminal can show, whatever is in it."""
    line = make_one_line(message)
    assert len(line.splitlines()) <= 1 and len(line) <= LONGEST_LINE and is_unicode(line)
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in line)


# ---- the table -------------------------------------------------------------------------------------------------------

COLUMNS = st.lists(st.one_of(st.sampled_from(["text", "id", "label"]), TEXTS), min_size=1, max_size=3)
ROWS = st.fixed_dictionaries(
    {"id": st.uuids().map(str), "text": TEXTS, "second": TEXTS, "label": st.sampled_from(["a", "b"])}
)
SUFFIXES = st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"])
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1"])
FILES = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda lines, end, encoding: end.join(lines).encode(encoding, "replace"),
        st.lists(
            st.one_of(
                TEXTS,
                st.sampled_from(
                    [
                        "text,label",
                        "text\tlabel",
                        "sentence\tlabel",
                        "a film,1",
                        "a film\t1",
                        "x\t1\t\ta film",
                    ]
                    + [
                        '{"text": "a film"}',
                        '{"text": NaN}',
                        "[1]",
                        "{}",
                        '{"text": {"a": [1e999]}}',
                        '"a\nb",1',
                    ]
                    + ["sentence1\tsentence2\tscore", "a film\ta plot\t4.5"]
                ),
            ),
            max_size=6,
        ),
        st.sampled_from(["\n", "\r\n", "\r"]),
        ENCODINGS,
    ),
)


@cache
def make_parquet() -> bytes:
    """A small parquet file, for damage."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.parquet")
        with open_writer(path, ["text", "label"]) as writer:
            writer.write({"text": f"a film number {number}", "label": number} for number in range(20))
        return path.read_bytes()


def damage(changes: Sequence[tuple[int, int]], cut: int) -> bytes:
    """The parquet file with some bytes changed and the end cut off."""
    content = bytearray(make_parquet())
    for place, value in changes:
        content[place % len(content)] = value
    return bytes(content[: len(content) - cut])


DAMAGED = st.builds(
    damage,
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
    st.sampled_from([0, 0, 0, 1, 8, 100]),
)


def list_targets() -> list[Target]:
    """Every target that can run here."""
    pairs = st.tuples(TEXTS, TEXTS)
    targets = [
        Target(
            "augmenter",
            st.tuples(st.lists(TEXTS, max_size=4), st.lists(TEXTS, max_size=3), st.integers(0, 9)),
            check_augmenter,
        ),
        Target("word_replacement", st.tuples(TEXTS, st.integers(0, 9)), check_replacement),
        Target(
            "transfer_set",
            st.tuples(st.lists(ROWS, min_size=1, max_size=5), SUFFIXES, st.booleans()),
            check_transfer_set,
        ),
    ]
    for suffix, cells in {".csv": CELLS, ".tsv": CELLS, ".jsonl": VALUES, ".parquet": VALUES}.items():
        tables = st.tuples(COLUMNS, st.lists(st.lists(cells, min_size=1, max_size=3), min_size=1, max_size=4))
        targets.append(Target(f"round_trip_{suffix[1:]}", tables, check_round_trip(suffix)))
    suffixes = st.sampled_from([".csv", ".tsv", ".jsonl", ".txt"])
    labels = st.one_of(TEXTS, st.integers(), st.sampled_from(["a", "b", "1", "2", "1.5"]))
    targets += [
        Target("reader_of_text", st.tuples(FILES, suffixes, st.booleans()), check_reader),
        Target("reader_of_parquet", st.tuples(DAMAGED, st.just(".parquet"), st.booleans()), check_reader),
        Target("reader_of_glue", FILES, check_glue),
        Target(
            "own_rows",
            st.tuples(st.lists(st.tuples(TEXTS, labels), min_size=1, max_size=8), SUFFIXES, st.booleans()),
            check_own_rows,
        ),
        Target(
            "labels",
            st.lists(st.one_of(TEXTS, st.integers(), st.floats(), st.booleans()), max_size=5),
            check_labels,
        ),
        Target("text_blocks", FILES, check_text_blocks),
        Target("collator", st.tuples(st.lists(pairs, min_size=1, max_size=5), st.booleans()), check_collator),
        Target("error_line", st.text(ANY), check_error_line),
    ]
    if all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")):
        texts = st.lists(st.one_of(TEXTS, pairs), min_size=1, max_size=4)
        targets.append(Target("runtime", texts, check_runtime))
    return targets


def run_target(target: Target, examples: int, number: int = 0) -> Outcome:
    """Try a target with so many examples, in rounds, because hypothesis remembers and compares all of a round.

    Args:
        target: the promise.
        examples: how many.
        number: the seed of the draws.
    """
    tried, started = 0, time.perf_counter()
    problems: list[BaseException] = []
    with tempfile.TemporaryDirectory(prefix="fuzz.") as folder:

        def check(example: Any) -> None:
            nonlocal tried
            tried += 1
            target.check(example, Path(folder))

        for start in range(0, examples, ROUND):
            wanted = min(ROUND, examples - start)
            try:
                make_round(target.strategy, check, wanted, f"{number} {start}")()
            except BaseExceptionGroup as group:
                problems = list(group.exceptions)
            except Exception as problem:
                problems = [problem]
            if problems:
                break
    message = describe_failure(problems[0]) if problems else ""
    return Outcome(target.name, tried, len(problems), round(time.perf_counter() - started, 1), message)


def make_round(
    strategy: SearchStrategy, check: Callable[[Any], None], examples: int, draws: str
) -> Callable[[], None]:
    """A function that tries ``examples`` examples and raises for the smallest that fails."""

    @seed(draws)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(example=strategy)
    def run(example: Any) -> None:
        check(example)

    return run


def describe_failure(problem: BaseException) -> str:
    """The exception in a line, with the example that hypothesis found smallest."""
    notes = " ".join(" ".join(note.split()) for note in getattr(problem, "__notes__", []))
    return make_one_line(f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]} {notes}")


def render(outcomes: Sequence[Outcome]) -> str:
    """The table."""
    lines = [f"{'target':<20} {'examples':>9} {'failures':>9} {'seconds':>8}"]
    for outcome in outcomes:
        lines.append(
            f"{outcome.target:<20} {outcome.examples:>9,} {outcome.failures:>9} {outcome.seconds:>8.1f}"
            + (f"  {outcome.message}" if outcome.message else "")
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None, targets: Sequence[Target] | None = None) -> int:
    """Run the targets; returns 1 if any failed, 2 for wrong options."""
    targets = list_targets() if targets is None else targets
    names: Mapping[str, Target] = {target.name: target for target in targets}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--examples", type=int, default=1000, metavar="N", help="of each target (default: 1000)"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="TARGET", choices=list(names), help="these targets alone"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (default: 0)")
    parser.add_argument("--json", metavar="FILE", help="also write the outcomes there")
    options = parser.parse_args(arguments)
    if options.examples < 1:
        parser.error(f"--examples is {options.examples}; give 1 or more")
    outcomes = []
    for name in options.only or names:
        outcomes.append(run_target(names[name], options.examples, options.seed))
        print(f"{name}: {outcomes[-1].failures} failures", file=sys.stderr, flush=True)
    print(render(outcomes))
    if options.json:
        written = {outcome.target: asdict(outcome) for outcome in outcomes}
        Path(options.json).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return int(any(outcome.failures for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
