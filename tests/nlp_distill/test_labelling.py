"""Labelling: right logits on the right rows, made once, continued when interrupted, never mistaken for others."""

import csv
import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from data_augment.errors import InputError
from nlp_distill import labelling
from nlp_distill.batching import DistillationCollator, plan_batches
from nlp_distill.encoding import encode_rows
from nlp_distill.hashes import hash_tokenizer, hash_weights
from nlp_distill.labelled_files import load_labelled, read_fingerprint
from nlp_distill.labelling import (
    LabellingSummary,
    compute_logits,
    label_file,
    summarise,
)
from nlp_distill.processes import choose_device
from nlp_distill.teachers import Teacher

LABELS = ("negative", "neutral", "positive")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(labelling, "SHARD_ROWS", 10)
    monkeypatch.setattr(labelling, "CPU_BATCH_TOKENS", 40)


@pytest.fixture
def teacher(make_bert):
    return make_bert(labels=LABELS).eval()


@pytest.fixture
def rows(make_rows):
    return make_rows(35)


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.fixture
def source(tmp_path, rows):
    return write(tmp_path / "rows.parquet", rows)


def plain_logits(model, tokenizer, rows, columns=("text",), max_length=64):
    """Row by row, without padding or batching."""
    with torch.no_grad():
        return {
            row["id"]: model(
                **tokenizer(
                    *(row[column] for column in columns),
                    truncation=True,
                    max_length=max_length,
                    return_tensors="pt",
                )
            ).logits[0].numpy()
            for row in rows
        }  # fmt: skip


def read_logits(path):
    table = pq.read_table(path)
    return dict(zip(table["id"].to_pylist(), map(np.array, table["teacher_logits"].to_pylist()), strict=True))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, logits in expected.items():
        np.testing.assert_allclose(found[key], logits, atol=1e-5)


class Interruption(Exception):
    pass


def interrupt_after(monkeypatch, shards):
    """Make labelling fail after it saved so many shards."""
    save, saved = labelling._save_shard, []

    def save_or_stop(path, *arguments):
        if len(saved) == shards:
            raise Interruption
        saved.append(path)
        save(path, *arguments)

    monkeypatch.setattr(labelling, "_save_shard", save_or_stop)
    return lambda: monkeypatch.setattr(labelling, "_save_shard", save)


def count_rows(model, monkeypatch):
    """A list that grows by the rows of every forward pass of ``model``."""
    forward, counts = model.forward, []

    def counting(input_ids, attention_mask=None, token_type_ids=None):
        counts.append(len(input_ids))
        return forward(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)

    monkeypatch.setattr(model, "forward", counting)
    return counts


# ---- the logits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [("text",), ("text", "second")])
@pytest.mark.parametrize("max_length", [64, 6])
def test_logits_equal_a_plain_row_by_row_forward(
    tmp_path, source, rows, teacher, tokenizer, columns, max_length
):
    output = tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer)], columns, max_length)
    assert_same(read_logits(output), plain_logits(teacher, tokenizer, rows, columns, max_length))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_logits_and_keeps_the_columns(tmp_path, rows, teacher, tokenizer, suffix):
    source, output = write(tmp_path / f"rows{suffix}", rows), tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    assert_same(read_logits(output), plain_logits(teacher, tokenizer, rows))
    table = pq.read_table(output)
    assert table.column_names == ["id", "text", "second", "label", "teacher_logits"]
    assert table["text"].to_pylist() == [row["text"] for row in rows]
    typed = suffix in (".jsonl", ".parquet")
    assert table["label"].to_pylist() == [row["label"] if typed else str(row["label"]) for row in rows]
    assert table.schema.field("teacher_logits").type == pa.list_(pa.float32())


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_ids_may_be_numbers(tmp_path, rows, teacher, tokenizer, suffix):
    numbered = [row | {"id": 1000 - number} for number, row in enumerate(rows)]
    source, output = write(tmp_path / f"rows{suffix}", numbered), tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    assert_same(read_logits(output), plain_logits(teacher, tokenizer, numbered))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_labels_may_be_missing_from_the_first_rows(tmp_path, rows, teacher, tokenizer, suffix):
    partly = [row | {"label": None if number < 12 else row["label"]} for number, row in enumerate(rows)]
    source, output = write(tmp_path / f"rows{suffix}", partly), tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    assert pq.read_table(output)["label"].to_pylist() == [row["label"] for row in partly]


def test_a_column_of_mixed_kinds_is_refused_before_the_teacher_runs(
    tmp_path, rows, teacher, tokenizer, monkeypatch
):
    mixed = [row | {"label": "good" if number == 30 else 1} for number, row in enumerate(rows)]
    source, counts = write(tmp_path / "rows.jsonl", mixed), count_rows(teacher, monkeypatch)
    with pytest.raises(InputError, match="mixes kinds of values in one column"):
        label_file(source, tmp_path / "labelled.parquet", [(teacher, tokenizer)], ["text"], 64)
    assert counts == []


def test_numbers_and_keys_of_later_shards_come_back_as_they_were(tmp_path, rows, teacher, tokenizer):
    """The first row of the second shard lacks the column, and a row behind it has no whole number."""
    changed = [row | {"stars": number} for number, row in enumerate(rows)]
    del changed[10]["stars"]
    changed[11]["stars"] = 1.5
    source, output = write(tmp_path / "rows.jsonl", changed), tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    assert pq.read_table(output)["stars"].to_pylist() == [row.get("stars") for row in changed]


def test_the_input_is_not_replaced(tmp_path, rows, teacher, tokenizer):
    source = write(tmp_path / "rows.parquet", rows)
    before = source.read_bytes()
    with pytest.raises(InputError, match="rows.parquet is also the input"):
        label_file(source, source, [(teacher, tokenizer)], ["text"], 64, overwrite=True)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ({"a": 1}, {"b": 2}, "another structure"),
        ([1.5], [True], "mixes kinds|another structure"),
        (1, 10**30, "too large for 64 bits"),
        (1.5, 2**53 + 1, "mixes kinds"),
    ],
)
def test_what_no_type_holds_unchanged_is_refused_before_the_teacher_runs(
    first, last, message, tmp_path, rows, teacher, tokenizer, monkeypatch
):
    changed = [row | {"x": last if number == 34 else first} for number, row in enumerate(rows)]
    source, counts = write(tmp_path / "rows.jsonl", changed), count_rows(teacher, monkeypatch)
    with pytest.raises(InputError, match=message):
        label_file(source, tmp_path / "labelled.parquet", [(teacher, tokenizer)], ["text"], 64)
    assert counts == []


def test_masked_words_are_masked_ones_for_a_tokenizer_with_another_mask(tmp_path, make_bert):
    vocabulary = {
        piece: i for i, piece in enumerate(("<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "film", "."))
    }
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    model = make_bert(labels=LABELS, vocab_size=len(tokenizer)).eval()
    texts = ["a [MASK] .", "[MASK]", "a [MASK]. [mask]"]  # the last has no masked word
    source = write(tmp_path / "rows.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(texts)])
    output = tmp_path / "labelled.parquet"
    label_file(source, output, [(model, tokenizer)], ["text"], 64)
    pieces = [["a", "<mask>", "."], ["<mask>"], ["a", "<unk>", "<unk>"]]
    for number, names in enumerate(pieces):
        ids = torch.tensor([[vocabulary[name] for name in names]])
        with torch.no_grad():
            expected = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        np.testing.assert_allclose(read_logits(output)[str(number)], expected, atol=1e-5)
    assert read_fingerprint(output)["teachers"][0]["mask"] == "<mask>"
    assert pq.read_table(output)["text"].to_pylist() == texts  # students read the words as they were


def test_logits_are_replaced_where_the_input_has_some(tmp_path, rows, teacher, tokenizer):
    source = write(tmp_path / "rows.parquet", [row | {"teacher_logits": [9.0]} for row in rows])
    output = tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    assert_same(read_logits(output), plain_logits(teacher, tokenizer, rows))


def test_several_teachers_give_one_row_of_logits_each_in_the_first_ones_label_order(
    tmp_path, source, rows, teacher, tokenizer, other_tokenizer, make_bert
):
    second = make_bert(1, LABELS[::-1], vocab_size=len(other_tokenizer)).eval()
    output = tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer), (second, other_tokenizer)], ["text"], 64)
    expected_first = plain_logits(teacher, tokenizer, rows)
    expected_second = plain_logits(second, other_tokenizer, rows)
    found = read_logits(output)
    assert found["row-0"].shape == (2, 3)
    assert_same({key: value[0] for key, value in found.items()}, expected_first)
    assert_same(
        {key: value[1] for key, value in found.items()}, {k: v[::-1] for k, v in expected_second.items()}
    )
    assert pq.read_schema(output).field("teacher_logits").type == pa.list_(pa.list_(pa.float32()))
    loaded = load_labelled(output, LABELS[::-1])  # for a task whose labels stand as the second teacher's
    np.testing.assert_allclose(
        loaded["teacher_logits"].to_pylist()[0][0], expected_first["row-0"][::-1], 1e-4, 1e-6
    )


def test_teachers_without_names_follow_the_first_that_has_some(
    tmp_path, source, rows, teacher, tokenizer, make_bert
):
    anonymous = make_bert(1, ("LABEL_0", "LABEL_1", "LABEL_2")).eval()
    turned = make_bert(2, LABELS[::-1]).eval()
    output = tmp_path / "labelled.parquet"
    label_file(source, output, [(model, tokenizer) for model in (anonymous, turned, teacher)], ["text"], 64)
    assert read_fingerprint(output)["labels"] == list(LABELS[::-1])
    found = np.array(load_labelled(output, LABELS)["teacher_logits"].to_pylist()[0])
    expected = [plain_logits(model, tokenizer, rows[:1])["row-0"] for model in (anonymous, turned, teacher)]
    turned_to_ours = [expected[0][::-1], expected[1][::-1], expected[2]]
    np.testing.assert_allclose(found, turned_to_ours, rtol=1e-4, atol=1e-6)


def test_a_regression_teacher_gives_one_number_a_row(tmp_path, source, rows, tokenizer, make_bert):
    model, output = make_bert(labels=()).eval(), tmp_path / "labelled.parquet"
    label_file(source, output, [(model, tokenizer)], ["text"], 64)
    assert_same(read_logits(output), plain_logits(model, tokenizer, rows))


def test_logits_join_by_id_and_not_by_position(tmp_path, source, rows, teacher, tokenizer, monkeypatch):
    monkeypatch.setattr(labelling, "SHARD_ROWS", 50)
    join = labelling._join_shards

    def reverse_then_join(*arguments):
        write(source, rows[::-1])  # between labelling and joining the rows come in another order
        join(*arguments)

    monkeypatch.setattr(labelling, "_join_shards", reverse_then_join)
    output = tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    assert pq.read_table(output)["id"].to_pylist() == [row["id"] for row in rows[::-1]]
    assert_same(read_logits(output), plain_logits(teacher, tokenizer, rows))


def test_a_file_that_changes_while_it_is_labelled_is_refused(
    tmp_path, source, rows, teacher, tokenizer, monkeypatch
):
    join = labelling._join_shards

    def rename_then_join(*arguments):
        write(source, [row | {"id": f"other-{row['id']}"} for row in rows])
        join(*arguments)

    monkeypatch.setattr(labelling, "_join_shards", rename_then_join)
    with pytest.raises(InputError, match="changed while it was being labelled"):
        label_file(source, tmp_path / "labelled.parquet", [(teacher, tokenizer)], ["text"], 64)
    assert not (tmp_path / "labelled.parquet").exists()


def test_models_answer_on_the_accelerator_and_are_back_where_they_were(teacher, tokenizer, rows, monkeypatch):
    """There is none here: where the models are sent is seen, and they stay."""
    sent = []
    monkeypatch.setattr("nlp_distill.teachers.choose_device", lambda: torch.device("cuda", 1))
    monkeypatch.setattr(type(teacher), "to", lambda model, device: sent.append(str(device)))
    encoded = encode_rows(rows, tokenizer, ["text"], 64)
    compute_logits(Teacher([teacher, teacher]), encoded, DistillationCollator(tokenizer))
    assert sent == ["cuda:1", "cuda:1", "cpu", "cpu"]
    sent.clear()
    with pytest.raises(ZeroDivisionError), Teacher(teacher).on_accelerator():
        _ = 1 / 0
    assert sent == ["cuda:1", "cpu"]


def test_the_device_is_this_processs_accelerator_unless_the_cpu_is_asked_for(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 3)
    assert choose_device() == torch.device("cuda", 3)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert choose_device() == torch.device("cpu")
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")


def test_computed_logits_come_in_row_order_and_padding_is_counted(teacher, tokenizer, rows):
    encoded = encode_rows(rows, tokenizer, ["text"], 64)
    logits, padded = compute_logits(
        Teacher(teacher), encoded, DistillationCollator(tokenizer), batch_tokens=40
    )
    np.testing.assert_allclose(logits, list(plain_logits(teacher, tokenizer, rows).values()), atol=1e-5)
    batches = list(plan_batches(encoded.lengths, 40))
    assert padded == sum(encoded.lengths[batch].max() * len(batch) for batch in batches)
    assert padded > encoded.lengths.sum()


def test_no_rows_have_no_logits(teacher, tokenizer):
    encoded = encode_rows([], tokenizer, ["text"], 64)
    logits, padded = compute_logits(Teacher(teacher), encoded, DistillationCollator(tokenizer))
    assert logits.shape == (0, 3) and padded == 0


@pytest.mark.parametrize("batch_tokens", [1, 20, 100, 10_000])
def test_batches_hold_every_row_once_longest_first_within_the_budget(batch_tokens):
    lengths = np.random.default_rng(0).integers(1, 30, size=100)
    batches = list(plan_batches(lengths, batch_tokens))
    order = np.concatenate(batches)
    assert sorted(order) == list(range(100))
    assert (np.diff(lengths[order]) <= 0).all()
    for batch in batches:
        assert lengths[batch].max() * len(batch) <= batch_tokens or len(batch) == 1


# ---- kept, reused, refused ----------------------------------------------------------------------------------------


def test_nothing_but_the_output_and_its_checksum_is_left(tmp_path, source, teacher, tokenizer):
    label_file(source, tmp_path / "labelled.parquet", [(teacher, tokenizer)], ["text"], 64)
    (tmp_path / "labelled.parquet.partial").mkdir()  # killed before it was removed
    label_file(source, tmp_path / "labelled.parquet", [(teacher, tokenizer)], ["text"], 64)
    names = {"rows.parquet", "labelled.parquet", "labelled.parquet.sha256"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_finished_result_is_reused_without_running_the_teacher(
    tmp_path, source, teacher, tokenizer, monkeypatch
):
    output = tmp_path / "labelled.parquet"
    first = label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    before, counts = output.read_bytes(), count_rows(teacher, monkeypatch)
    for overwrite in (False, True):
        again = label_file(source, output, [(teacher, tokenizer)], ["text"], 64, overwrite)
        assert again.reused and again.rows == first.rows == 35
    assert counts == [] and output.read_bytes() == before
    assert not first.reused


def test_a_teacher_loaded_from_its_folder_counts_as_the_same(tmp_path, source, teacher, tokenizer):
    output = tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    teacher.save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    again = type(teacher).from_pretrained(tmp_path / "teacher")
    loaded = type(tokenizer).from_pretrained(tmp_path / "teacher")
    assert label_file(source, output, [(again, loaded)], ["text"], 64).reused


@pytest.mark.parametrize("what", ["the teacher", "the maximum length", "the data", "labels", "text_columns"])
def test_a_result_of_other_inputs_is_refused_and_the_message_names_what_differs(
    tmp_path, source, rows, teacher, tokenizer, make_bert, what
):
    output = tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    before = output.read_bytes()
    inputs = {"source": source, "teacher": teacher, "columns": ["text"], "max_length": 64}
    if what == "the teacher":
        inputs["teacher"] = make_bert(1, LABELS)
    elif what == "the maximum length":
        inputs["max_length"] = 32
    elif what == "the data":
        rows[3]["text"] += " good"
        write(source, rows)
    elif what == "labels":
        inputs["teacher"] = make_bert(0, ("low", "middle", "high"))
    else:
        inputs["columns"] = ["text", "second"]
    arguments = (
        inputs["source"],
        output,
        [(inputs["teacher"], tokenizer)],
        inputs["columns"],
        inputs["max_length"],
    )
    with pytest.raises(InputError, match=rf"labelled with other inputs: .*{what}") as caught:
        label_file(*arguments)
    others = {"the teacher", "the maximum length", "labels"} - {what}
    assert not any(other in str(caught.value).partition(" differ")[0] for other in others)
    assert output.read_bytes() == before
    assert not label_file(*arguments, overwrite=True).reused
    assert output.read_bytes() != before


def test_other_columns_that_changed_are_not_left_as_they_were(tmp_path, source, rows, teacher, tokenizer):
    output = tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    write(source, [row | {"label": "new", "weight": 2} for row in rows])
    with pytest.raises(InputError, match="labelled with other inputs: the data"):
        label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64, overwrite=True)
    table = pq.read_table(output)
    assert set(table["label"].to_pylist()) == {"new"} and set(table["weight"].to_pylist()) == {2}


def test_numbers_and_booleans_in_one_column_are_refused(tmp_path, rows, teacher, tokenizer):
    mixed = [row | {"label": True if number == 3 else 0.5} for number, row in enumerate(rows)]
    source = write(tmp_path / "rows.jsonl", mixed)
    with pytest.raises(InputError, match="'label' has numbers and booleans"):
        label_file(source, tmp_path / "labelled.parquet", [(teacher, tokenizer)], ["text"], 64)


def test_another_tokenizer_is_another_teacher(tmp_path, source, teacher, tokenizer, other_tokenizer):
    assert hash_tokenizer(tokenizer) != hash_tokenizer(other_tokenizer)
    before = hash_tokenizer(tokenizer)
    tokenizer(["a film", "bad"], padding=True, truncation=True, max_length=3)  # leaves settings behind
    assert hash_tokenizer(tokenizer) == before


def test_any_single_weight_changes_the_hash(make_bert):
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix = torch.nn.Parameter(torch.ones(2, 3))
            self.scalar = torch.nn.Parameter(torch.tensor(1.0))

    for name in ("matrix", "scalar"):
        model = Scaled()
        before = hash_weights(model)
        assert hash_weights(Scaled()) == before
        with torch.no_grad():
            getattr(model, name).view(-1)[0] += 1e-6
        assert hash_weights(model) != before, name


@pytest.mark.parametrize("content", ["parquet", "garbage"])
def test_a_file_that_is_not_ours_is_kept(tmp_path, source, rows, teacher, tokenizer, content):
    output = tmp_path / "labelled.parquet"
    if content == "parquet":
        write(output, rows)
    else:
        output.write_text("my notes")
    before = output.read_bytes()
    with pytest.raises(InputError, match="holds no teacher logits of ours"):
        label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    assert output.read_bytes() == before
    assert label_file(source, output, [(teacher, tokenizer)], ["text"], 64, overwrite=True).rows == 35


@pytest.mark.parametrize("shards", [0, 1, 3])
def test_interrupted_labelling_continues_without_computing_finished_shards_again(
    tmp_path, source, teacher, tokenizer, monkeypatch, shards
):
    arguments = [(teacher, tokenizer)], ["text"], 64
    label_file(source, tmp_path / "uninterrupted.parquet", *arguments)
    output = tmp_path / "labelled.parquet"
    let_go = interrupt_after(monkeypatch, shards)
    with pytest.raises(Interruption):
        label_file(source, output, *arguments)
    assert not output.exists()
    let_go()
    counts = count_rows(teacher, monkeypatch)
    summary = label_file(source, output, *arguments)
    assert sum(counts) == summary.rows - summary.earlier_rows == 35 - 10 * shards
    whole = label_file(source, tmp_path / "whole.parquet", [(teacher, tokenizer)], ["text"], 64)
    assert summarise(summary) | {"seconds": 0} == summarise(whole) | {"seconds": 0}
    assert pq.read_table(output).equals(pq.read_table(tmp_path / "uninterrupted.parquet"))
    assert not (tmp_path / "labelled.parquet.partial").exists()


def test_the_seconds_of_labelling_count_the_shards_before_an_interruption(
    tmp_path, source, teacher, tokenizer, monkeypatch
):
    passed, real = [0.0], time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: real() + passed[0])
    original, output = labelling.encode_rows, tmp_path / "labelled.parquet"

    def take_long(*arguments):  # once a shard
        passed[0] += 1000.0
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(labelling, "encode_rows", take_long)
        let_go = interrupt_after(patch, 2)
        with pytest.raises(Interruption):
            label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
        let_go()
    labelled = label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    assert 2000 <= labelled.seconds < 2900 and labelled.earlier_rows == 20
    assert summarise(labelled)["seconds"] == labelled.seconds
    assert f"({labelled.rows / labelled.seconds:,.0f} rows/s" in str(labelled)


def test_shards_of_another_teacher_are_not_continued(
    tmp_path, source, rows, teacher, tokenizer, make_bert, monkeypatch
):
    output, other = tmp_path / "labelled.parquet", make_bert(1, LABELS).eval()
    let_go = interrupt_after(monkeypatch, 2)
    with pytest.raises(Interruption):
        label_file(source, output, [(other, tokenizer)], ["text"], 64)
    let_go()
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    assert_same(read_logits(output), plain_logits(teacher, tokenizer, rows))


def test_shards_of_another_size_are_not_continued(tmp_path, source, rows, teacher, tokenizer, monkeypatch):
    output = tmp_path / "labelled.parquet"
    let_go = interrupt_after(monkeypatch, 2)
    with pytest.raises(Interruption):
        label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    let_go()
    monkeypatch.setattr(labelling, "SHARD_ROWS", 15)
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    assert_same(read_logits(output), plain_logits(teacher, tokenizer, rows))


# ---- wrong input --------------------------------------------------------------------------------------------------


def test_rows_with_the_same_id_are_refused(tmp_path, rows, teacher, tokenizer):
    rows[20]["id"] = rows[3]["id"]
    source = write(tmp_path / "rows.parquet", rows)
    with pytest.raises(InputError, match="35 rows but only 34 different ids"):
        label_file(source, tmp_path / "labelled.parquet", [(teacher, tokenizer)], ["text"], 64)


def test_rows_without_an_id_column_are_refused(tmp_path, rows, teacher, tokenizer):
    source = write(tmp_path / "rows.parquet", [{"text": row["text"]} for row in rows])
    with pytest.raises(InputError, match="no column 'id'"):
        label_file(source, tmp_path / "labelled.parquet", [(teacher, tokenizer)], ["text"], 64)


def test_a_teacher_that_answers_nan_is_refused_and_the_rows_are_named(
    tmp_path, source, rows, teacher, tokenizer
):
    piece = tokenizer.convert_tokens_to_ids("story")
    with torch.no_grad():
        teacher.bert.embeddings.word_embeddings.weight[piece] = float("nan")
    bad = [row["id"] for row in rows[:10] if "story" in row["text"].split()]
    assert 0 < len(bad) <= 5
    with pytest.raises(InputError) as caught:
        label_file(source, tmp_path / "labelled.parquet", [(teacher, tokenizer)], ["text"], 64)
    assert f"NaN or infinite for {len(bad)} rows, the first with ids {bad}" in str(caught.value)


def test_teachers_of_different_tasks_are_refused(tmp_path, source, teacher, tokenizer, make_bert):
    teachers = [(teacher, tokenizer), (make_bert(labels=("yes", "no")), tokenizer)]
    with pytest.raises(InputError, match="must be the same names"):
        label_file(source, tmp_path / "labelled.parquet", teachers, ["text"], 64)


def test_no_teacher_is_refused(tmp_path, source):
    with pytest.raises(InputError, match="no teacher was given"):
        label_file(source, tmp_path / "labelled.parquet", [], ["text"], 64)


def test_another_suffix_is_refused(tmp_path, source, teacher, tokenizer):
    with pytest.raises(InputError, match=r"must end in \.parquet"):
        label_file(source, tmp_path / "labelled.csv", [(teacher, tokenizer)], ["text"], 64)


# ---- reading it back ----------------------------------------------------------------------------------------------


def test_loading_puts_the_logits_in_the_order_of_the_labels(tmp_path, source, rows, teacher, tokenizer):
    output = tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    expected = plain_logits(teacher, tokenizer, rows)
    order = [2, 0, 1]
    table = load_labelled(output, [LABELS[i] for i in order])
    found = dict(zip(table["id"].to_pylist(), table["teacher_logits"].to_pylist(), strict=True))
    assert_same(found, {key: logits[order] for key, logits in expected.items()})
    assert table.schema.equals(pq.read_schema(output))
    assert load_labelled(output, LABELS).equals(pq.read_table(output))


def test_loading_for_other_labels_is_refused(tmp_path, source, teacher, tokenizer):
    output = tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    with pytest.raises(InputError, match=r"\[negative, positive\]"):
        load_labelled(output, ("negative", "positive"))


def test_loading_a_file_without_logits_says_how_to_make_them(source):
    with pytest.raises(InputError, match="nlp-distill label"):
        load_labelled(source, LABELS)


def test_the_fingerprint_says_what_the_logits_depend_on(tmp_path, source, teacher, tokenizer):
    output = tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer)], ["text"], 64)
    fingerprint = read_fingerprint(output)
    assert fingerprint["labels"] == list(LABELS)
    assert fingerprint["max_length"] == 64 and fingerprint["rows"] == 35
    assert fingerprint["teachers"] == [
        {"weights": hash_weights(teacher), "tokenizer": hash_tokenizer(tokenizer)}
    ]
    assert read_fingerprint(source) is None


def test_the_second_teacher_s_labels_are_part_of_the_fingerprint(
    tmp_path, source, teacher, tokenizer, make_bert
):
    """Its logits are put into the first one's order, by names that its config may give in another."""
    second, output = make_bert(5, LABELS), tmp_path / "labelled.parquet"
    label_file(source, output, [(teacher, tokenizer), (second, tokenizer)], ["text"], 64)
    assert read_fingerprint(output)["labels"] == list(LABELS)
    second.config.id2label = dict(enumerate(reversed(LABELS)))
    with pytest.raises(InputError, match="labels"):
        label_file(source, output, [(teacher, tokenizer), (second, tokenizer)], ["text"], 64)


# ---- the summary --------------------------------------------------------------------------------------------------


def test_the_padding_share_is_the_share_of_computed_tokens_that_were_padding():
    summary = LabellingSummary(rows=10, tokens=75, padded_tokens=100, seconds=2.0)
    assert summary.padding_share == 0.25
    assert str(summary) == "labelled 10 rows in 2.0 s (5 rows/s; 25.0% of 100 tokens were padding)"
    assert summarise(summary)["padding_share"] == 0.25


def test_a_summary_of_nothing_computed_has_no_padding():
    summary = LabellingSummary(rows=10, tokens=0, padded_tokens=0, seconds=0.0, reused=True)
    assert summary.padding_share == 0.0
    assert str(summary) == "reused the logits of 10 rows"


def test_the_summary_counts_tokens_and_padding_of_the_file(tmp_path, source, rows, teacher, tokenizer):
    summary = label_file(source, tmp_path / "labelled.parquet", [(teacher, tokenizer)], ["text"], 64)
    lengths = np.array([len(tokenizer(row["text"])["input_ids"]) for row in rows])
    padded = 0
    for start in range(0, 35, 10):
        shard = lengths[start : start + 10]
        padded += sum(shard[batch].max() * len(batch) for batch in plan_batches(shard, 40))
    assert (summary.rows, summary.tokens, summary.padded_tokens) == (35, lengths.sum(), padded)


def test_bad_rows_are_dropped_and_counted_where_that_is_asked_for(make_bert, tokenizer, tmp_path):
    source, clean = tmp_path / "rows.jsonl", tmp_path / "clean.jsonl"
    good = [{"id": i, "text": text} for i, text in enumerate(["a film", "a plot", "a story"])]
    bad = [{"id": 7, "text": None}, {"id": 8, "text": " "}, {"id": None, "text": "a movie"}]
    mixed = [good[0], bad[0], good[1], bad[1], bad[2], good[2]]
    source.write_text("\n".join(json.dumps(row) for row in mixed))
    clean.write_text("\n".join(json.dumps(row) for row in good))
    teachers = [(make_bert(), tokenizer)]
    with pytest.raises(InputError, match="row 2 .*column 'text' is null"):
        label_file(source, tmp_path / "o.parquet", teachers, ["text"], 32)
    summary = label_file(source, tmp_path / "o.parquet", teachers, ["text"], 32, skip_bad_rows=True)
    assert (summary.rows, summary.skipped_rows) == (3, 3) and "3 bad rows skipped" in str(summary)
    label_file(clean, tmp_path / "c.parquet", teachers, ["text"], 32)
    made, expected = (pq.read_table(tmp_path / name) for name in ("o.parquet", "c.parquet"))
    assert made.to_pylist() == expected.to_pylist()
