"""Encoded rows equal what the tokenizer gives row by row."""

import time

import numpy as np
import pytest
from datasets import Dataset
from transformers import pipeline

from nlp_distill import encoding
from nlp_distill.batching import DistillationCollator
from nlp_distill.encoding import EncodedRows, encode_for_teacher, encode_rows, iterate_chunks
from nlp_distill.evaluation import predict_logits
from nlp_distill.export import list_inputs
from nlp_distill.tasks import Task


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK_ROWS", 7)  # so that twenty rows take three chunks


@pytest.fixture(params=["list", "dataset", "generator"])
def as_rows(request):
    """The same rows as a list, as a ``datasets.Dataset``, as a generator."""
    return {"list": list, "dataset": Dataset.from_list, "generator": lambda rows: (row for row in rows)}[
        request.param
    ]


def test_rows_equal_the_tokenizer_row_by_row(tokenizer, make_rows, as_rows):
    rows = make_rows(20)
    encoded = encode_rows(as_rows(rows), tokenizer, ("text",), 64)
    assert len(encoded) == 20
    for row, got in zip(rows, encoded, strict=True):
        assert got["input_ids"].tolist() == tokenizer(row["text"])["input_ids"]
        assert got["labels"] == row["label"]
        assert got.keys() == {"input_ids", "labels"}


def test_pairs_equal_the_tokenizer_row_by_row_with_their_segments(tokenizer, make_rows, as_rows):
    rows = make_rows(20)
    encoded = encode_rows(as_rows(rows), tokenizer, ("text", "second"), 64)
    for row, got in zip(rows, encoded, strict=True):
        expected = tokenizer(row["text"], row["second"])
        assert got["input_ids"].tolist() == expected["input_ids"]
        assert got["token_type_ids"].tolist() == expected["token_type_ids"]
        assert 1 in got["token_type_ids"]


@pytest.mark.parametrize("columns", [("text",), ("text", "second")])
def test_rows_are_cut_to_max_length_as_the_tokenizer_cuts_them(tokenizer, make_rows, columns):
    rows = make_rows(20)
    encoded = encode_rows(rows, tokenizer, columns, 8)
    assert encoded.lengths.max() == 8
    for row, got in zip(rows, encoded, strict=True):
        expected = tokenizer(*(row[column] for column in columns), truncation=True, max_length=8)
        assert got["input_ids"].tolist() == expected["input_ids"]


@pytest.mark.parametrize("side", ["right", "left"])
def test_pairs_are_cut_as_the_tokenizer_cuts_them_whichever_text_is_longer(tokenizer, make_rows, side):
    tokenizer.truncation_side = side
    lengths = [(first, second) for first in (0, 1, 4, 5, 9, 30) for second in (0, 1, 4, 5, 9, 30)]
    words = ["a", "the", "film", "movie", "plot", "good", "great", "bad", "dull", "fine"]
    rows = [
        {"text": " ".join((words * 3)[:first]), "second": " ".join((words[::-1] * 3)[:second])}
        for first, second in lengths
    ]
    for max_length in (8, 13, 64):
        encoded = encode_rows(rows, tokenizer, ("text", "second"), max_length)
        for row, got in zip(rows, encoded, strict=True):
            expected = tokenizer([row["text"]], [row["second"]], truncation=True, max_length=max_length)
            assert [got["input_ids"].tolist()] == expected["input_ids"], row
            assert [got["token_type_ids"].tolist()] == expected["token_type_ids"], row


def test_the_time_of_long_pairs_grows_as_their_length(tokenizer):
    def measure(words):
        text = "film " * words
        started = time.process_time()
        encode_rows([{"text": text, "second": text}], tokenizer, ("text", "second"), 16)
        return time.process_time() - started

    measure(10)
    assert measure(2500) < 30 * max(min(measure(250) for _ in range(3)), 1e-3)  # its square would be 100


def test_encoding_leaves_the_tokenizers_own_settings_alone(tokenizer, make_rows):
    long_text = " ".join(row["text"] for row in make_rows(5))
    before = tokenizer(long_text)["input_ids"]
    encode_rows(make_rows(5), tokenizer, ("text",), 8)
    assert tokenizer(long_text)["input_ids"] == before


def test_lengths_count_special_tokens(tokenizer):
    encoded = encode_rows([{"text": "good film"}, {"text": "bad"}], tokenizer, ("text",), 64)
    assert encoded.lengths.tolist() == [4, 3]


@pytest.mark.parametrize(
    ("labels", "expected", "dtype"),
    [
        ([1, None, 0], [1, -100, 0], np.int64),
        ([None, 1, 0], [-100, 1, 0], np.int64),
        ([0.5, None, 2.0], [0.5, np.nan, 2.0], np.float32),
        ([None, 0.5, 2.0], [np.nan, 0.5, 2.0], np.float32),
        ([1, 2.5, None], [1.0, 2.5, np.nan], np.float32),
        ([np.float32(0.5), None, np.float32(2.0)], [0.5, np.nan, 2.0], np.float32),
        ([np.int64(1), None, np.int64(0)], [1, -100, 0], np.int64),
    ],
)
def test_labels_keep_their_kind_and_missing_ones_are_marked(tokenizer, labels, expected, dtype):
    rows = [{"text": "good", "label": label} for label in labels]
    encoded = encode_rows(rows, tokenizer, ("text",), 64)
    assert encoded.labels.dtype == dtype
    np.testing.assert_array_equal(encoded.labels, np.array(expected, dtype=dtype))


@pytest.mark.parametrize("row", [{"text": "good"}, {"text": "good", "label": None}])
def test_rows_without_any_label_have_no_labels(tokenizer, row):
    encoded = encode_rows([row, row], tokenizer, ("text",), 64)
    assert encoded.labels is None
    assert encoded[0].keys() == {"input_ids"}


def test_cached_teacher_logits_come_from_the_rows_or_from_the_argument(tokenizer, make_rows, as_rows):
    rows = [row | {"teacher_logits": [float(number), -1.0]} for number, row in enumerate(make_rows(20))]
    encoded = encode_rows(as_rows(rows), tokenizer, ("text",), 64)
    assert encoded.teacher_logits.dtype == np.float32
    assert [row["teacher_logits"].tolist() for row in encoded] == [row["teacher_logits"] for row in rows]
    given = np.ones((20, 3, 2), dtype=np.float32)
    assert encode_rows(rows, tokenizer, ("text",), 64, given)[4]["teacher_logits"].shape == (3, 2)


def test_sorting_by_length_keeps_every_row_whole(tokenizer, make_rows):
    rows = [row | {"teacher_logits": [float(number), -1.0]} for number, row in enumerate(make_rows(30))]
    encoded = encode_rows(rows, tokenizer, ("text", "second"), 64)
    ordered = encoded.sort_by_length()
    assert (np.diff(ordered.lengths) <= 0).all()
    assert ordered.lengths.tolist() != encoded.lengths.tolist()
    by_number = {int(row["teacher_logits"][0]): row for row in ordered}
    assert by_number.keys() == set(range(30))
    for number, row in enumerate(encoded):
        for name, value in row.items():
            np.testing.assert_array_equal(by_number[number][name], value)


def test_no_rows_make_an_empty_data_set(tokenizer):
    encoded = encode_rows([], tokenizer, ("text", "second"), 64)
    assert len(encoded) == 0 and list(encoded) == []
    assert encoded.labels is None
    assert encoded.lengths.tolist() == []
    assert len(encoded.sort_by_length()) == 0


def test_rows_are_reached_by_number_from_both_ends_and_not_beyond(tokenizer, make_rows):
    encoded = encode_rows(make_rows(5), tokenizer, ("text",), 64)
    assert encoded[-1]["input_ids"].tolist() == encoded[4]["input_ids"].tolist()
    for outside in (5, -6):
        with pytest.raises(IndexError):
            encoded[outside]


def test_a_row_costs_tens_of_bytes(tokenizer, make_rows):
    encoded = encode_rows(make_rows(200), tokenizer, ("text",), 64)
    arrays = [*encoded.columns.values(), encoded.offsets, encoded.labels]
    assert sum(array.nbytes for array in arrays) / 200 < 100


def test_encoded_rows_without_labels_or_logits_give_their_columns_only():
    encoded = EncodedRows({"input_ids": np.arange(5, dtype=np.int32)}, np.array([0, 2, 5]))
    assert [row["input_ids"].tolist() for row in encoded] == [[0, 1], [2, 3, 4]]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6, 7])
def test_chunks_hold_all_rows_in_order(as_rows, count):
    rows = [{"id": str(number), "text": "x" * number} for number in range(count)]
    chunks = list(iterate_chunks(as_rows(rows), 3))
    assert [row for chunk in chunks for row in chunk] == rows
    assert [len(chunk) for chunk in chunks] == [3] * (count // 3) + ([count % 3] if count % 3 else [])


def test_rows_without_a_label_take_the_teachers_and_others_keep_theirs():
    logits = np.array([[0.1, 2.0], [3.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    offsets = np.array([0, 1, 2, 3])
    tokens = {"input_ids": np.array([5, 6, 7], dtype=np.int32)}
    filled = EncodedRows(tokens, offsets, np.array([0, -100, -100]), logits).label_by_teacher()
    assert filled.labels.tolist() == [0, 0, 1]
    assert EncodedRows(tokens, offsets, None, logits).label_by_teacher().labels.tolist() == [1, 0, 1]
    values = EncodedRows(tokens, offsets, np.array([0.5, np.nan, 2.0], dtype=np.float32), logits[:, :1])
    assert values.label_by_teacher().labels.tolist() == [0.5, 3.0, 2.0]
    with pytest.raises(ValueError, match="need teacher_logits"):
        EncodedRows(tokens, offsets).label_by_teacher()


@pytest.mark.parametrize("lists_types", [True, False])
def test_a_pair_is_read_as_a_pipeline_reads_it(tokenizer, make_rows, make_bert, lists_types):
    """A BERT whose tokenizer does not list token types never gets them from a pipeline, nor when it is exported."""
    if not lists_types:
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    rows, model = make_rows(6), make_bert()
    task = Task("pairs", "text", "second", ("negative", "positive"), ("accuracy",))
    logits = predict_logits(model, tokenizer, Dataset.from_list(rows), task, 64)
    ask = pipeline("text-classification", model, tokenizer=tokenizer, top_k=None, function_to_apply="none")
    for row, found in zip(rows, logits, strict=True):
        answer = ask({"text": row["text"], "text_pair": row["second"]})
        expected = {entry["label"]: entry["score"] for entry in answer}
        np.testing.assert_allclose(found, [expected[label] for label in task.labels], rtol=1e-4, atol=1e-5)
    assert ("token_type_ids" in list_inputs(model, tokenizer)) == lists_types


def test_rows_encoded_for_a_teacher_of_other_tokens_reach_it(
    tokenizer, other_tokenizer, make_rows, make_bert
):
    rows = Dataset.from_list(make_rows(5))
    both = encode_for_teacher(rows, other_tokenizer, ["text", "second"], 12)
    expected = other_tokenizer(rows["text"][:], rows["second"][:], truncation=True, max_length=12)
    assert both["teacher_input_ids"][:] == expected["input_ids"]
    assert both["teacher_token_type_ids"][:] == expected["token_type_ids"]
    assert both["text"][:] == rows["text"][:]
    own = encode_rows(both, tokenizer, ["text"], 12)
    examples = [own[i] | {"teacher_input_ids": both[i]["teacher_input_ids"]} for i in range(5)]
    batch = DistillationCollator(tokenizer, other_tokenizer)(examples)
    assert batch["teacher_input_ids"].shape[1] == max(map(len, expected["input_ids"]))
