"""The transfer set as a whole: what is in it, what is not, and that the same input gives the same bytes."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_augment import InputError, MaskRule, NgramRule, PosRule, read_rows, write_transfer_set
from data_augment.blocks import BlockVarier, vary_blocks
from data_augment.rules import combine_rules
from data_augment.scan import BLOCK_ROWS
from data_augment.tag_counts import TagCounter

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
MASK_ALL = (MaskRule(1.0),)


def make_rows(n: int, seed: int = 0) -> list[dict]:
    """Labelled sentences with some duplicates among them."""
    rng = random.Random(seed)
    words = [
        "the",
        "a",
        "film",
        "movie",
        "plot",
        "is",
        "was",
        "good",
        "bad",
        "dull",
        "fine",
        "and",
        "but",
        "not",
        "very",
        ",",
        ".",
        "it",
        "he",
        "moves",
        "slowly",
    ]
    return [
        {"sentence": " ".join(rng.choices(words, k=rng.randint(1, 12))), "label": rng.randint(0, 1)}
        for _ in range(n)
    ]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(rows, output: Path, **options):
    """Build a transfer set; return its summary and its rows."""
    options.setdefault("pos_tagger", "textblob")
    summary = write_transfer_set(rows, output, **options)
    return summary, list(read_rows(output))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_carry_id_source_and_rules_and_copies_no_label(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "in.tsv").write_text("label\tsentence\n1\ta  fine film \n0\tdull\n")
    _, rows = run(tmp_path / "in.tsv", tmp_path / f"out{suffix}", rules=MASK_ALL, n_iter=2)
    null = "" if suffix in (".csv", ".tsv") else None
    names = ("label", "sentence", "id", "source_id", "rules")
    assert rows == [
        dict(zip(names, values, strict=True))
        for values in (
            ("1", "a  fine film ", "1", "1", ""),
            (null, "[MASK] [MASK] [MASK]", "1~1", "1", "mask"),
            ("0", "dull", "2", "2", ""),
            (null, "[MASK]", "2~1", "2", "mask"),
        )
    ]


def test_every_copy_has_a_source_a_rule_and_words_of_its_own(tmp_path: Path) -> None:
    inputs = make_rows(300)
    summary, rows = run(inputs, tmp_path / "out.parquet", n_iter=6)
    originals = {row["id"]: row for row in rows if not row["rules"]}
    copies = [row for row in rows if row["rules"]]
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({" ".join(row["sentence"].split()) for row in rows}) == len(rows)
    assert all(row["source_id"] == row["id"] for row in originals.values())
    for copy in copies:
        source, _, number = copy["id"].partition("~")
        assert copy["source_id"] == source and source in originals and 1 <= int(number) <= 6
        assert copy["label"] is None
        words, original = copy["sentence"].split(), originals[source]["sentence"].split()
        assert ("mask" in copy["rules"]) == ("[MASK]" in words)
        assert ("ngram" in copy["rules"]) == (len(words) < len(original))
    assert {row["sentence"] for row in originals.values()} == {row["sentence"] for row in inputs}
    assert (summary.rows_in, summary.rows_out) == (300, len(rows))
    assert (summary.originals, summary.copies) == (len(originals), len(copies))
    assert summary.duplicate_originals == 300 - len(originals)
    assert summary.copies_drawn == 6 * len(originals)
    assert summary.duplicate_copies == summary.copies_drawn - len(copies)
    for rule in ("mask", "pos", "ngram"):
        assert summary.rules[rule] == sum(rule in row["rules"].split() for row in rows) > 0
    assert summary.tagger == "textblob lexicon"
    assert json.loads(json.dumps(summary.to_dict()))["rows_out"] == len(rows)


def test_ngrams_are_pieces_of_their_own_source(tmp_path: Path) -> None:
    inputs = [
        {"a": row["sentence"], "b": other["sentence"]}
        for row, other in zip(make_rows(100), make_rows(100, 9), strict=True)
    ]
    options = {"text_column": "a", "text_pair_column": "b", "rules": (NgramRule(0.8, 4),), "n_iter": 9}
    _, rows = run(inputs, tmp_path / "out.parquet", **options)
    sources = {row["id"]: row for row in rows if not row["rules"]}
    assert len(rows) > 4 * len(sources)
    for row in rows:
        for column in ("a", "b"):
            assert f" {row[column]} " in f" {sources[row['source_id']][column]} "


def test_replaced_words_have_the_tag_of_the_word_in_their_place(tmp_path: Path, initial_tagger) -> None:
    rng = random.Random(1)
    words = [f"{tag}{number}" for tag in "abc" for number in range(5)]
    inputs = [{"sentence": " ".join(rng.choices(words, k=rng.randint(1, 9)))} for _ in range(200)]
    options = {"rules": (PosRule(0.5),), "n_iter": 5, "pos_tagger": initial_tagger}
    _, rows = run(inputs, tmp_path / "out.parquet", **options)
    sources = {row["id"]: row["sentence"] for row in rows if not row["rules"]}
    changed = 0
    for row in rows:
        pairs = list(zip(row["sentence"].split(), sources[row["source_id"]].split(), strict=True))
        assert all(new[0] == old[0] for new, old in pairs)
        changed += sum(new != old for new, old in pairs)
    assert changed > 1000


def test_originals_and_their_copies_stand_together_in_input_order(tmp_path: Path) -> None:
    _, rows = run(make_rows(50), tmp_path / "out.parquet", n_iter=3)
    keys = [(int(row["source_id"]), *map(int, row["id"].split("~")[1:])) for row in rows]
    assert keys == sorted(keys)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_the_number_of_workers_does_not_change_a_byte(tmp_path: Path, suffix: str) -> None:
    rows = make_rows(2 * BLOCK_ROWS + 100)
    results = []
    for workers in (1, 2):
        output = tmp_path / f"out{workers}{suffix}"
        write_transfer_set(rows, output, n_iter=2, num_workers=workers, seed=3, pos_tagger="textblob")
        results.append(output.read_bytes())
    assert results[0] == results[1]


def test_the_seed_changes_the_copies_only(tmp_path: Path) -> None:
    rows = make_rows(100)
    (_, first), (_, second) = (run(rows, tmp_path / f"{seed}.jsonl", seed=seed, n_iter=3) for seed in (1, 2))
    assert first != second
    assert [row for row in first if not row["rules"]] == [row for row in second if not row["rules"]]


def test_a_file_a_dataset_and_rows_in_memory_give_the_same_set(tmp_path: Path) -> None:
    rows = make_rows(200)
    path = write_jsonl(tmp_path / "in.jsonl", rows)
    kinds = {"file": path, "dataset": datasets.Dataset.from_list(rows), "list": rows, "stream": iter(rows)}
    results = {}
    for kind, source in kinds.items():
        write_transfer_set(source, tmp_path / f"{kind}.parquet", n_iter=2, pos_tagger="textblob")
        results[kind] = (tmp_path / f"{kind}.parquet").read_bytes()
    assert len(set(results.values())) == 1


def test_rows_in_memory_are_left_alone(tmp_path: Path) -> None:
    rows = [{"id": 5, "sentence": "one two", "label": 1}]
    write_transfer_set(rows, tmp_path / "out.jsonl", rules=MASK_ALL)
    assert rows == [{"id": 5, "sentence": "one two", "label": 1}]


def test_an_original_wins_over_an_equal_copy_of_an_earlier_row(tmp_path: Path) -> None:
    # Every copy of row 1 equals row 2, which comes later.
    inputs = [{"sentence": "one two", "label": 0}, {"sentence": "[MASK] [MASK]", "label": 1}]
    summary, rows = run(inputs, tmp_path / "out.jsonl", rules=MASK_ALL, n_iter=4)
    assert [row["id"] for row in rows] == ["1", "2"]
    assert rows[1]["label"] == 1
    assert (summary.copies_drawn, summary.duplicate_copies) == (8, 8)


def test_of_duplicate_originals_the_first_is_kept_and_conflicts_are_counted(tmp_path: Path) -> None:
    inputs = [
        {"sentence": "same words", "label": 1},
        {"sentence": "same  words ", "label": 1},
        {"sentence": "same words", "label": 0},
        {"sentence": "same words", "label": None},
        {"sentence": "other words", "label": 0},
    ]
    summary, rows = run(inputs, tmp_path / "out.jsonl", n_iter=0)
    assert [(row["id"], row["sentence"], row["label"]) for row in rows] == [
        ("1", "same words", 1),
        ("5", "other words", 0),
    ]
    assert (summary.duplicate_originals, summary.conflicting_labels) == (3, 1)


def test_conflicts_are_counted_in_the_named_label_column(tmp_path: Path) -> None:
    inputs = [{"sentence": "same", "label": 1, "mark": "x"}, {"sentence": "same", "label": 1, "mark": "y"}]
    assert run(inputs, tmp_path / "1.jsonl", n_iter=0)[0].conflicting_labels == 0
    assert run(inputs, tmp_path / "2.jsonl", n_iter=0, label_column="mark")[0].conflicting_labels == 1


def test_ids_of_the_input_are_kept(tmp_path: Path) -> None:
    inputs = [{"id": "x", "sentence": "one two"}, {"id": 7, "sentence": "three"}]
    _, rows = run(
        inputs[:1] + [{"id": "7", "sentence": "three"}], tmp_path / "out.jsonl", rules=MASK_ALL, n_iter=2
    )
    assert [(row["id"], row["source_id"]) for row in rows] == [
        ("x", "x"),
        ("x~1", "x"),
        ("7", "7"),
        ("7~1", "7"),
    ]
    _, rows = run([{"id": 12, "sentence": "one"}], tmp_path / "number.jsonl", rules=MASK_ALL, n_iter=1)
    assert [row["id"] for row in rows] == ["12", "12~1"]


def test_pairs_keep_the_untouched_side_letter_by_letter(tmp_path: Path) -> None:
    inputs = [
        {"a": " first  text", "b": "second\ttext ", "label": 1},
        {"a": "third", "b": "fourth", "label": 0},
    ]
    options = {"text_column": "a", "text_pair_column": "b", "rules": MASK_ALL, "n_iter": 4}
    summary, rows = run(inputs, tmp_path / "out.jsonl", **options)
    masked = "[MASK] [MASK]"
    assert [(row["id"], row["a"], row["b"]) for row in rows[:4]] == [
        ("1", " first  text", "second\ttext "),
        ("1~1", masked, "second\ttext "),
        ("1~2", " first  text", masked),
        ("1~3", masked, masked),
    ]
    assert summary.duplicate_copies == 2  # of each row, iteration 4 repeats iteration 1
    assert [row["id"] for row in rows[4:]] == ["2", "2~1", "2~2", "2~3"]


def test_swapped_pairs_are_no_duplicates(tmp_path: Path) -> None:
    inputs = [{"a": "one", "b": "two"}, {"a": "two", "b": "one"}, {"a": "one", "b": "two"}]
    summary, rows = run(inputs, tmp_path / "out.jsonl", text_column="a", text_pair_column="b", n_iter=0)
    assert [row["id"] for row in rows] == ["1", "2"]
    assert summary.duplicate_originals == 1


def test_default_iterations_are_20_and_10_for_pairs(tmp_path: Path) -> None:
    summary, _ = run([{"sentence": "one two three"}], tmp_path / "1.jsonl")
    assert summary.copies_drawn == 20
    pair = [{"sentence": "one two three", "other": "four"}]
    summary, _ = run(pair, tmp_path / "2.jsonl", text_pair_column="other")
    assert summary.copies_drawn == 10


@pytest.mark.parametrize("kind", [".txt", ".tsv", ".jsonl", "list"])
def test_unlabelled_rows_are_added_and_augmented(tmp_path: Path, kind: str) -> None:
    inputs = [{"sentence": "one two", "label": 1}]
    texts = ["three four", "one two", "five"]  # the second one is there already
    unlabelled = [{"sentence": text, "label": 0, "source": "web"} for text in texts]
    more = tmp_path / f"more{kind}"
    if kind == ".txt":
        more.write_text("".join(f"{text}\n" for text in texts))
    elif kind == ".tsv":
        more.write_text("sentence\n" + "".join(f"{text}\n" for text in texts))
    elif kind == ".jsonl":
        write_jsonl(more, unlabelled)
    source = unlabelled if kind == "list" else more
    options = {"rules": MASK_ALL, "n_iter": 1}
    summary, rows = run(inputs, tmp_path / "out.jsonl", unlabelled=source, **options)
    assert [(row["id"], row["sentence"], row["label"]) for row in rows] == [
        ("1", "one two", 1),
        ("1~1", "[MASK] [MASK]", None),
        ("unlabelled-1", "three four", None),  # its copy equals that of row 1
        ("unlabelled-3", "five", None),
        ("unlabelled-3~1", "[MASK]", None),
    ]
    assert set(rows[0]) == {"sentence", "label", "id", "source_id", "rules"}
    assert (summary.rows_in, summary.unlabelled_rows_in, summary.duplicate_originals) == (4, 3, 1)
    assert summary.conflicting_labels == 0


def test_unlabelled_rows_have_their_own_number_of_iterations(tmp_path: Path) -> None:
    summary, rows = run(
        [{"sentence": "one two three four"}],
        tmp_path / "out.jsonl",
        unlabelled=[{"sentence": "five six", "id": "u"}],
        unlabelled_n_iter=0,
        n_iter=3,
    )
    assert summary.copies_drawn == 3
    assert [row["id"] for row in rows if row["id"].startswith("u")] == ["u"]


def test_words_of_unlabelled_rows_are_drawn_too(tmp_path: Path, initial_tagger) -> None:
    options = {"rules": (PosRule(1.0),), "n_iter": 1, "pos_tagger": initial_tagger}
    _, rows = run([{"sentence": "x1"}], tmp_path / "out.jsonl", unlabelled=[{"sentence": "y1 x2"}], **options)
    assert rows[1]["sentence"] == "x2"


def test_parquet_types_are_kept(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            ("sentence", pa.large_string()),
            ("label", pa.int8()),
            ("when", pa.timestamp("us")),
            ("tags", pa.list_(pa.int32())),
        ]
    )
    table = pa.table(
        {"sentence": ["one", "two"], "label": [1, None], "when": [0, 1], "tags": [[1, 2], []]}, schema=schema
    )
    pq.write_table(table, tmp_path / "in.parquet")
    write_transfer_set(tmp_path / "in.parquet", tmp_path / "out.parquet", rules=MASK_ALL, n_iter=1)
    result = pq.read_table(tmp_path / "out.parquet")
    assert result.schema.names == ["sentence", "label", "when", "tags", "id", "source_id", "rules"]
    for name in ("label", "when", "tags"):
        assert result.schema.field(name).type == schema.field(name).type
    originals = result.filter(pa.compute.equal(result["rules"], ""))
    for name in ("label", "when", "tags"):
        assert originals[name].to_pylist() == table[name].to_pylist()
    assert result["tags"].to_pylist() == [[1, 2], None, []]  # the copy of row 2 equals that of row 1


def test_values_that_would_come_out_changed_are_refused(tmp_path: Path) -> None:
    rows = [{"sentence": "one", "meta": {"a": 1}}, {"sentence": "two", "meta": {"b": 2}}]
    with pytest.raises(InputError, match="row 1: column 'meta' has another structure"):
        write_transfer_set(rows, tmp_path / "out.jsonl", n_iter=0)
    rows = [{"sentence": "one", "label": 1}, {"sentence": "two", "label": "good"}]
    with pytest.raises(InputError, match="column 'label' has values of no common type"):
        write_transfer_set(rows, tmp_path / "out.jsonl", n_iter=0)
    assert os.listdir(tmp_path) == []


def test_a_text_that_tsv_cannot_hold_is_refused_by_row(tmp_path: Path) -> None:
    rows = [{"sentence": "fine"}, {"sentence": "two\nlines"}]
    with pytest.raises(
        InputError, match=r"\(id 2\) cannot be written: column 'sentence' holds a tab or a line end"
    ):
        write_transfer_set(rows, tmp_path / "out.tsv", n_iter=0)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "there are none"),
        ([{"text": "one"}], {}, "no column 'sentence'; its columns are text"),
        ([{"sentence": "one"}], {"text_pair_column": "b"}, "no column 'b'; its columns are sentence"),
        ([{"sentence": "one"}], {"text_pair_column": "sentence"}, "two different columns"),
        ([{"sentence": "one"}], {"label_column": "y"}, "no column 'y'; its columns are sentence"),
        ([{"sentence": "one"}, {"sentence": " "}], {}, "row 2: column 'sentence' is empty"),
        ([{"sentence": "one"}, {"sentence": None}], {}, "row 2: column 'sentence' is null"),
        ([{"sentence": "one"}, {}], {}, "row 2: column 'sentence' is null"),
        ([{"sentence": "one"}, {"sentence": 2}], {}, "row 2: column 'sentence' holds a int"),
        ([{"sentence": "one"}, {"sentence": "two", "x": 1}], {}, "row 2: it has other columns"),
        ([{"sentence": "one", "rules": ""}], {}, "already has a column 'rules'"),
        ([{"sentence": "one", "id": ""}], {}, "row 1: column 'id' is empty"),
        ([{"sentence": "one", "id": "a~3"}], {}, "row 1: id 'a~3' ends like that of an augmented copy"),
        ([{"sentence": "one", "id": "a"}, {"sentence": "b", "id": "a"}], {}, "the id 'a' occurs twice"),
        ([{"sentence": "one", "x": 0.5}, {"sentence": "b", "x": True}], {}, "'x' has numbers and booleans"),
        ([{"sentence": "one"}], {"n_iter": -1}, "n_iter is -1"),
        ([{"sentence": "one"}], {"unlabelled_n_iter": -1}, "unlabelled_n_iter is -1"),
        ([{"sentence": "one"}], {"seed": -1}, "seed is -1"),
        ([{"sentence": "one"}], {"num_workers": 0}, "num_workers is 0"),
        (
            [{"sentence": "one"}],
            {"unlabelled": [{"text": "x"}]},
            "the unlabelled rows has no column 'sentence'",
        ),
        ([{"sentence": "one"}], {"rules": (MaskRule(0.9), PosRule(0.9))}, "p_mask"),
    ],
)
def test_wrong_input_is_one_clear_line_and_writes_nothing(
    tmp_path: Path, rows, options, message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        write_transfer_set(rows, tmp_path / "out.jsonl", pos_tagger="textblob", **options)
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_an_id_in_two_files_is_said_to_be_in_both(tmp_path: Path) -> None:
    first = write_jsonl(tmp_path / "first.jsonl", [{"sentence": "one"}, {"sentence": "two"}])
    second = write_jsonl(tmp_path / "second.jsonl", [{"sentence": "three", "id": 2}])
    with pytest.raises(
        InputError, match=r"the id '2' is in .*first.jsonl \(the .* and in .*second.jsonl; rename"
    ):
        write_transfer_set(first, tmp_path / "out.jsonl", unlabelled=second, pos_tagger="textblob")


def test_views_and_numbers_that_are_none_come_out_as_they_went_in(tmp_path: Path) -> None:
    columns = {
        "sentence": pa.array(["one two", "three"], pa.string_view()),
        "source": pa.array(["web", None], pa.string_view()),
        "blob": pa.array([b"x", b"y"], pa.binary_view()),
        "scores": pa.array([[0.5, float("nan")], None], pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    options = {"rules": MASK_ALL, "n_iter": 1, "pos_tagger": "textblob"}
    write_transfer_set(tmp_path / "rows.parquet", tmp_path / "out.parquet", **options)
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["sentence"], row["source"], row["blob"]) for row in rows] == [
        ("one two", "web", b"x"),
        ("[MASK] [MASK]", None, None),
        ("three", None, b"y"),
        ("[MASK]", None, None),
    ]
    assert str(rows[0]["scores"]) == "[0.5, nan]" and rows[2]["scores"] is None


def test_txt_is_refused_for_pairs(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("one\n")
    with pytest.raises(InputError, match="one text a line"):
        write_transfer_set(
            [{"sentence": "a", "b": "b"}],
            tmp_path / "o.tsv",
            text_pair_column="b",
            unlabelled=tmp_path / "more.txt",
        )


def test_bad_rows_are_skipped_and_counted_and_ids_stay_row_numbers(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("sentence\tlabel\none\t1\n\t0\ntwo\t0\nbroken\n")
    summary, rows = run(tmp_path / "in.tsv", tmp_path / "out.tsv", skip_bad_rows=True, n_iter=0)
    assert (summary.rows_in, summary.skipped_rows) == (2, 2)
    assert [row["id"] for row in rows] == ["1", "3"]
    memory = [{"sentence": "one"}, {"sentence": None}, {"sentence": "two"}]
    summary, rows = run(memory, tmp_path / "out.jsonl", skip_bad_rows=True, n_iter=0)
    assert (summary.skipped_rows, [row["id"] for row in rows]) == (1, ["1", "3"])


def test_an_existing_output_is_kept_without_overwrite_and_replaced_with_it(tmp_path: Path) -> None:
    output = tmp_path / "out.tsv"
    output.write_text("old")
    rows = [{"sentence": "one two"}]
    with pytest.raises(InputError, match="already exists"):
        write_transfer_set(rows, output, rules=MASK_ALL)
    assert output.read_text() == "old"
    write_transfer_set(rows, output, rules=MASK_ALL, overwrite=True)
    assert len(list(read_rows(output))) == 2


def test_an_input_is_never_the_output(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", make_rows(3))
    with pytest.raises(InputError, match="is also an input"):
        write_transfer_set(path, path, overwrite=True)


def test_an_input_that_changes_between_the_passes_is_noticed(tmp_path: Path, initial_tagger) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", make_rows(5))

    class ShorteningTagger:
        name = "shortens the file"

        def tag(self, texts):
            write_jsonl(path, make_rows(4))
            return initial_tagger.tag(texts)

    with pytest.raises(InputError, match="changed while it was read"):
        write_transfer_set(path, tmp_path / "out.jsonl", pos_tagger=ShorteningTagger())
    assert os.listdir(tmp_path) == ["in.jsonl"]


class Deadly:
    """Ends the process that unpickles it: the worker."""

    def __reduce__(self):
        return os._exit, (3,)


def test_a_dead_worker_is_a_clear_error() -> None:
    varier = BlockVarier(TagCounter().make_table(), combine_rules([MaskRule()]), seed=0)
    with pytest.raises(InputError, match="a worker process died; nothing was written"):
        list(vary_blocks([Deadly()], varier, 2))


def test_ngram_only_and_mask_only_sets_need_no_tagger(tmp_path: Path) -> None:
    summary, _ = run(make_rows(20), tmp_path / "out.jsonl", rules=(NgramRule(),), pos_tagger="nltk")
    assert summary.tagger == "none"
    assert summary.rules["mask"] == summary.rules["pos"] == 0 < summary.rules["ngram"]
