"""Rows of several tasks and the order in which they are drawn."""

import numpy as np
import pytest
from scipy import stats
from torch.utils.data import DataLoader

from data_augment.errors import InputError
from nlp_distill.encoding import encode_rows
from nlp_distill.multitask import TASK_IDS, MixedTaskSampler, MultiTaskRows, SingleTaskSampler

SIZES = [1000, 200, 30]


def tasks_of(indices, sizes=SIZES):
    return np.searchsorted(np.cumsum(sizes), list(indices), side="right")


def draw(sampler, epochs):
    drawn = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        drawn.append(np.array(list(sampler)))
    return drawn


@pytest.mark.parametrize("exponent", [0, 0.5, 0.75, 1])
def test_tasks_are_drawn_as_often_as_the_formula_says(exponent):
    sampler = MixedTaskSampler(SIZES, exponent)
    drawn = tasks_of(np.concatenate(draw(sampler, 85)))  # 10^5 draws
    assert len(drawn) > 100_000
    weights = np.array(SIZES, dtype=float) ** exponent
    expected = weights / weights.sum() * len(drawn)
    assert stats.chisquare(np.bincount(drawn), expected).pvalue > 1e-4


def test_other_frequencies_would_be_noticed():
    drawn = tasks_of(np.concatenate(draw(MixedTaskSampler(SIZES, 0.7), 85)))
    weights = np.array(SIZES, dtype=float) ** 0.75
    assert stats.chisquare(np.bincount(drawn), weights / weights.sum() * len(drawn)).pvalue < 1e-4


def test_a_batch_mixes_tasks_and_rows_of_a_task_come_in_rounds():
    sampler = MixedTaskSampler(SIZES, 0.75)
    drawn = np.array(list(sampler))
    assert len(drawn) == len(sampler) == sum(SIZES)
    batches = tasks_of(drawn)[:1216].reshape(-1, 32)
    assert np.mean([len(set(batch)) for batch in batches]) > 1.9
    smallest = drawn[tasks_of(drawn) == 2]
    counts = np.bincount(smallest - 1200, minlength=30)
    assert len(smallest) > 40 and counts.max() - counts.min() <= 1


@pytest.mark.parametrize("lengths", [None, np.arange(1230) % 50 + 1], ids=["random", "by length"])
def test_single_task_batches_visit_every_row_and_every_batch_is_full(lengths):
    sampler = SingleTaskSampler(SIZES, 32, lengths=lengths)
    drawn = np.array(list(sampler))
    assert len(drawn) == len(sampler) == (32 + 7 + 1) * 32
    batches = tasks_of(drawn).reshape(-1, 32)
    assert all(len(set(batch)) == 1 for batch in batches)
    assert np.bincount(batches[:, 0]).tolist() == [32, 7, 1]  # in proportion to the sizes
    assert set(drawn) == set(range(1230))
    order = batches[:, 0].tolist()
    assert order != sorted(order)  # tasks take turns


def test_batches_by_length_pad_less():
    lengths = np.random.default_rng(0).integers(1, 100, 1230)

    def padding(sampler):
        rows = lengths[list(sampler)].reshape(-1, 32)
        return 1 - rows.sum() / (rows.max(axis=1) * 32).sum()

    assert padding(SingleTaskSampler(SIZES, 32, lengths=lengths)) < padding(SingleTaskSampler(SIZES, 32)) / 3


def test_mixed_batches_by_length_pad_less_and_mix_the_same_tasks():
    sizes = [8000, 2000, 500]
    lengths = np.random.default_rng(0).integers(1, 100, sum(sizes))

    def padding(drawn):
        """Share of padding where the rows of each task in a batch are padded to the longest of them."""
        cells = 0
        for batch in np.split(drawn, range(128, len(drawn), 128)):
            found = tasks_of(batch, sizes)
            cells += sum(lengths[batch[found == t]].max() * (found == t).sum() for t in set(found))
        return 1 - lengths[drawn].sum() / cells

    by_chance = draw(MixedTaskSampler(sizes, 0.75), 1)[0]
    by_length = draw(MixedTaskSampler(sizes, 0.75, 0, lengths, 128), 1)[0]
    tasks = tasks_of(by_chance, sizes)
    assert (tasks == tasks_of(by_length, sizes)).all()
    for task, size in enumerate(sizes):
        counts = np.bincount(by_length[tasks == task] - sum(sizes[:task]), minlength=size)
        assert counts.max() - counts.min() <= 1  # still in rounds
    assert padding(by_length) < padding(by_chance) / 3


@pytest.mark.parametrize("exponent", [0.75, 0.5, 0])
def test_copies_of_a_row_stay_out_of_its_step_where_there_are_others(exponent):
    """A small task is drawn more than once round in the steps that are sorted by length together."""
    sizes = [10_000, 100]
    lengths = np.random.default_rng(0).integers(1, 100, sum(sizes))
    drawn = draw(MixedTaskSampler(sizes, exponent, 0, lengths, 128), 1)[0]
    copies = draws = 0
    for step in np.split(drawn, range(128, len(drawn), 128)):
        own = step[step >= 10_000]
        draws += len(own)
        copies += len(own) - len(set(own))
    assert draws > 300 and copies < 0.02 * draws


def test_a_batch_is_filled_up_with_rows_that_are_not_in_it():
    lengths = np.random.default_rng(0).integers(1, 100, 33)
    batches = np.array(list(SingleTaskSampler([33], 32, lengths=lengths))).reshape(2, 32)
    assert min(len(set(batch)) for batch in batches) >= 31 and set(batches.ravel()) == set(range(33))


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: MixedTaskSampler(SIZES, 0.75, seed),
        lambda seed: MixedTaskSampler(SIZES, 0.75, seed, np.arange(1230) % 50 + 1, 16),
        lambda seed: SingleTaskSampler(SIZES, 16, seed),
    ],
    ids=["mixed", "mixed by length", "single"],
)
def test_the_order_depends_on_seed_and_epoch_alone(make):
    np.random.seed(1)
    first = draw(make(0), 2)
    np.random.seed(2)
    again, other = draw(make(0), 2), draw(make(1), 2)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not (first[0] == first[1]).all() and not (first[0] == other[0]).all()


def test_rows_know_their_task_and_any_loader_takes_the_sampler(make_rows, tokenizer):
    rows = {
        name: encode_rows(make_rows(size), tokenizer, ["text"], 32) for name, size in (("a", 5), ("b", 3))
    }
    joined = MultiTaskRows(rows)
    assert len(joined) == 8 and [joined[i][TASK_IDS] for i in range(8)] == [0] * 5 + [1] * 3
    assert (joined[6]["input_ids"] == rows["b"][1]["input_ids"]).all()
    assert joined.lengths.tolist() == [*rows["a"].lengths, *rows["b"].lengths]
    loader = DataLoader(
        joined, batch_size=4, sampler=SingleTaskSampler([5, 3], 4), collate_fn=lambda batch: batch
    )
    assert [{row[TASK_IDS] for row in batch} for batch in loader] in (
        [{0}, {0}, {1}],
        [{0}, {1}, {0}],
        [{1}, {0}, {0}],
    )
    with pytest.raises(IndexError):
        joined[8]


def test_nothing_to_draw_from_is_refused(make_rows, tokenizer):
    empty = encode_rows(make_rows(3), tokenizer, ["text"], 32).__class__({}, np.zeros(1, dtype=np.int64))
    with pytest.raises(InputError, match="task b has no rows"):
        MultiTaskRows({"b": empty})
    with pytest.raises(InputError, match="there are no tasks"):
        MultiTaskRows({})
    with pytest.raises(InputError, match="every task needs one or more"):
        MixedTaskSampler([3, 0])
    with pytest.raises(InputError, match=r"give 0 \(uniform\) or more"):
        MixedTaskSampler([3], -1)
    with pytest.raises(InputError, match="give 0"):
        MixedTaskSampler([3], float("nan"))
    with pytest.raises(InputError, match="too large for"):
        MixedTaskSampler([3, 1000], 500)
    with pytest.raises(InputError, match="batch_size is None"):
        MixedTaskSampler([3], lengths=[1, 2, 3])
    assert MixedTaskSampler([3, 1000], 0).probabilities.tolist() == [0.5, 0.5]
