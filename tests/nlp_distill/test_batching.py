"""Order of the rows, and what a batch of them looks like."""

import random

import numpy as np
import pytest
import torch
from datasets import Dataset

from data_augment.errors import InputError
from nlp_distill import batching
from nlp_distill.batching import DistillationCollator, LengthGroupedSampler, collate_labels
from nlp_distill.encoding import encode_rows


@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(3, 60, size=1003)


def order_of(lengths, batch_size=8, seed=0, epoch=0):
    sampler = LengthGroupedSampler(lengths, batch_size, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def padding_share(lengths, order, batch_size):
    batches = [lengths[order[start : start + batch_size]] for start in range(0, len(order), batch_size)]
    return 1 - lengths.sum() / sum(batch.max() * len(batch) for batch in batches)


# ---- the sampler --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 512, 513, 1003])
def test_every_row_comes_exactly_once(lengths, rows):
    order = order_of(lengths[:rows])
    assert sorted(order) == list(range(rows))
    assert len(LengthGroupedSampler(lengths[:rows], 8)) == rows


def test_the_order_depends_on_seed_and_epoch_alone(lengths):
    first = order_of(lengths, seed=1, epoch=2)
    np.random.seed(99)
    torch.manual_seed(99)
    random.seed(99)
    assert order_of(lengths, seed=1, epoch=2) == first
    assert order_of(lengths, seed=1, epoch=3) != first
    assert order_of(lengths, seed=2, epoch=2) != first


def test_drawing_the_order_leaves_the_global_random_states_alone(lengths):
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    order_of(lengths)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]


def test_an_epoch_gives_its_order_again_when_it_is_asked_for_twice(lengths):
    sampler = LengthGroupedSampler(lengths, 8)
    assert list(sampler) == list(sampler)


def test_batches_hold_rows_of_similar_length(lengths):
    unsorted = padding_share(lengths, np.random.default_rng(1).permutation(len(lengths)), 8)
    grouped = padding_share(lengths, order_of(lengths), 8)
    assert unsorted > 0.3
    assert grouped < 0.05


def test_batch_lengths_come_in_no_order(lengths):
    order = order_of(lengths[:1000])
    means = lengths[order].reshape(-1, 8).mean(axis=1)
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_the_incomplete_batch_comes_last_and_all_others_are_whole_groups(lengths, monkeypatch):
    monkeypatch.setattr(batching, "POOL_BATCHES", 2)
    order = order_of(lengths[:43], batch_size=4)
    complete = np.array(order[:40]).reshape(10, 4)
    assert all((np.diff(lengths[batch]) <= 0).all() for batch in complete)
    assert len(order[40:]) == 3


@pytest.mark.parametrize(
    ("batch", "accumulation", "processes"), [(16, 1, 1), (4, 4, 1), (4, 2, 2), (2, 1, 8)]
)
def test_rows_of_a_step_do_not_depend_on_how_the_step_is_split(lengths, batch, accumulation, processes):
    lengths = lengths[:960]
    order = order_of(lengths, batch_size=batch * accumulation * processes)
    micro_batches = [order[start : start + batch] for start in range(0, 960, batch)]
    # accelerate hands micro-batch i to process i % processes
    shares = [micro_batches[process::processes] for process in range(processes)]
    steps = []
    for step in range(960 // 16):
        window = slice(step * accumulation, (step + 1) * accumulation)
        steps.append({row for share in shares for micro_batch in share[window] for row in micro_batch})
    whole = order_of(lengths, batch_size=16)
    assert steps == [set(whole[start : start + 16]) for start in range(0, 960, 16)]


# ---- the collator -------------------------------------------------------------------------------------------------

ROWS = [
    {"input_ids": [2, 7, 3], "token_type_ids": [0, 0, 1], "labels": 1},
    {"input_ids": [2, 8, 9, 10, 3], "token_type_ids": [0, 0, 1, 1, 1], "labels": 0},
]


def test_padding_goes_to_the_right_and_is_masked(tokenizer):
    batch = DistillationCollator(tokenizer)(ROWS)
    assert batch["input_ids"].tolist() == [[2, 7, 3, 0, 0], [2, 8, 9, 10, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1, 0, 0], [0, 0, 1, 1, 1]]
    assert batch["labels"].tolist() == [1, 0]
    assert {value.dtype for value in batch.values()} == {torch.int64}


def test_padding_goes_to_the_left_where_the_tokenizer_says_so(tokenizer):
    tokenizer.padding_side = "left"
    batch = DistillationCollator(tokenizer)(ROWS)
    assert batch["input_ids"].tolist() == [[0, 0, 2, 7, 3], [2, 8, 9, 10, 3]]
    assert batch["attention_mask"].tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]


def test_padding_uses_the_tokenizers_own_padding_token(other_tokenizer):
    assert DistillationCollator(other_tokenizer)(ROWS)["input_ids"][0].tolist() == [2, 7, 3, 26, 26]


@pytest.mark.parametrize(("multiple", "width"), [(1, 5), (4, 8), (5, 5), (8, 8)])
def test_widths_round_up_to_the_multiple(tokenizer, multiple, width):
    batch = DistillationCollator(tokenizer, pad_to_multiple_of=multiple)(ROWS)
    assert batch["input_ids"].shape == (2, width)
    assert batch["attention_mask"].sum(1).tolist() == [3, 5]


def test_a_batch_equals_what_the_tokenizer_pads_itself(tokenizer, make_rows):
    rows = make_rows(9)
    expected = tokenizer(
        [row["text"] for row in rows], [row["second"] for row in rows], padding=True, return_tensors="pt"
    )
    encoded = encode_rows(rows, tokenizer, ("text", "second"), 64)
    batch = DistillationCollator(tokenizer)([encoded[i] for i in range(9)])
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert torch.equal(batch[name], expected[name]), name


def test_rows_of_a_datasets_dataset_and_encoded_rows_make_the_same_batch(tokenizer, make_rows):
    rows = make_rows(9)
    logits = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    encoded = encode_rows(rows, tokenizer, ("text", "second"), 64, teacher_logits=logits)
    as_lists = Dataset.from_list(
        [
            {
                "input_ids": row["input_ids"].tolist(),
                "token_type_ids": row["token_type_ids"].tolist(),
                "label": int(row["labels"]),
                "teacher_logits": row["teacher_logits"].tolist(),
            }
            for row in encoded
        ]
    )
    collator = DistillationCollator(tokenizer)
    one, two = collator([encoded[i] for i in range(9)]), collator([as_lists[i] for i in range(9)])
    assert one.keys() == two.keys() == {
        "input_ids", "token_type_ids", "attention_mask", "labels", "teacher_logits"
    }  # fmt: skip
    for name in one:
        assert torch.equal(one[name], two[name]) and one[name].dtype == two[name].dtype, name


def test_rows_that_were_padded_already_keep_their_attention_mask(tokenizer):
    texts = ["a good film", "bad"]
    padded = tokenizer(texts, padding=True)
    rows = [{name: values[i] for name, values in padded.items()} for i in range(2)]
    batch = DistillationCollator(tokenizer)(rows)
    assert batch["attention_mask"].tolist() == padded["attention_mask"]


def test_the_teachers_encoding_is_padded_by_the_teachers_tokenizer(tokenizer, other_tokenizer):
    rows = [
        row | {"teacher_input_ids": ids} for row, ids in zip(ROWS, [[30, 1, 2, 31], [30, 31]], strict=True)
    ]
    batch = DistillationCollator(tokenizer, other_tokenizer)(rows)
    assert batch["input_ids"].tolist() == [[2, 7, 3, 0, 0], [2, 8, 9, 10, 3]]
    assert batch["teacher_input_ids"].tolist() == [[30, 1, 2, 31], [30, 31, 26, 26]]
    assert batch["teacher_attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert "teacher_token_type_ids" not in batch


def test_teacher_logits_stack_to_float32_for_one_teacher_and_for_several(tokenizer):
    one = [row | {"teacher_logits": [0.5, 1.5]} for row in ROWS]
    several = [row | {"teacher_logits": [[0.5, 1.5], [2.0, 3.0], [0.0, 1.0]]} for row in ROWS]
    collator = DistillationCollator(tokenizer)
    assert collator(one)["teacher_logits"].tolist() == [[0.5, 1.5], [0.5, 1.5]]
    assert collator(several)["teacher_logits"].shape == (2, 3, 2)
    assert collator(several)["teacher_logits"].dtype == torch.float32


def test_columns_that_no_model_reads_stay_out_of_the_batch(tokenizer):
    batch = DistillationCollator(tokenizer)([row | {"id": "7", "text": "a film"} for row in ROWS])
    assert batch.keys() == {"input_ids", "token_type_ids", "attention_mask", "labels"}


def test_rows_without_label_column_make_a_batch_without_labels(tokenizer):
    assert "labels" not in DistillationCollator(tokenizer)([{"input_ids": [2, 3]}])


@pytest.mark.parametrize(
    ("labels", "expected", "dtype"),
    [
        ([1, 0, 2], [1, 0, 2], torch.int64),
        ([1, None, 2], [1, -100, 2], torch.int64),
        ([None, None], [-100, -100], torch.int64),
        ([0.5, 2.0], [0.5, 2.0], torch.float32),
        ([np.float32(0.5), np.float32(2)], [0.5, 2.0], torch.float32),
        (list(torch.tensor([0.5, 2.0])), [0.5, 2.0], torch.float32),
        (list(np.array([1, 2])), [1, 2], torch.int64),
    ],
)
def test_labels_keep_their_kind_and_missing_ones_become_minus_100(labels, expected, dtype):
    collated = collate_labels(labels)
    assert collated.tolist() == expected
    assert collated.dtype == dtype


def test_a_missing_label_among_numbers_becomes_nan():
    collated = collate_labels([0.5, None])
    assert collated[0] == 0.5 and collated[1].isnan()
    among_whole = collate_labels(
        [3, -100, 1.5]
    )  # the rows of a regression and of one of whole numbers together
    assert among_whole[[0, 2]].tolist() == [3.0, 1.5] and among_whole[1].isnan()


def test_a_tokenizer_without_a_padding_token_is_refused_with_advice(tokenizer):
    from copy import deepcopy

    bare = deepcopy(tokenizer)
    bare.pad_token = None
    with pytest.raises(InputError, match="has no padding token; set one"):
        DistillationCollator(bare)


def test_rows_of_text_are_refused_and_told_what_to_do(tokenizer):
    with pytest.raises(InputError, match="no input_ids but text, labels; encode their texts first"):
        DistillationCollator(tokenizer)([{"text": "a film", "labels": 1}])
