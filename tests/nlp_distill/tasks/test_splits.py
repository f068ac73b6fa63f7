"""Normalisation, hashing and holding out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_augment.errors import InputError
from nlp_distill.tasks.splits import Row, fixed_subset, hash_fraction, hold_out, normalise_text, to_dataset
from nlp_distill.tasks.task import Task

TASK = Task("t", "text", None, ("no", "yes"), ("accuracy",))
PAIR = Task("p", "a", "b", (), ("spearmanr",))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cool .", "Cool ?"),
        ("a  b\n", " A\tb"),
        ("ＡＢ", "ab"),
        ("Straße", "STRASSE"),
        ("it's", "it s"),
        ("1\u200b2", "1 2"),
    ],
)
def test_case_punctuation_width_and_blanks_are_no_difference(one, other):
    assert normalise_text(one) == normalise_text(other)


@pytest.mark.parametrize(("one", "other"), [(":)", ":("), ("cafe", "café"), ("कि", "की"), ("ab", "a b")])
def test_letters_marks_and_texts_of_punctuation_are_a_difference(one, other):
    assert normalise_text(one) != normalise_text(other)


def test_the_border_between_two_texts_is_a_difference():
    assert normalise_text("a b", "c") != normalise_text("a", "b c")


def test_hash_fraction_is_the_same_on_every_machine():
    assert hash_fraction("a film", "validation") == pytest.approx(0.274192749772141, abs=1e-15)


def test_hash_fraction_is_uniform_and_independent_of_another_salt():
    texts = [f"text {number}" for number in range(4000)]
    one, other = [hash_fraction(t, "x") for t in texts], [hash_fraction(t, "y") for t in texts]
    assert all(0 <= value < 1 for value in one)
    assert sum(one) / 4000 == pytest.approx(0.5, abs=0.02)
    both = sum(a < 0.5 and b < 0.5 for a, b in zip(one, other, strict=True))
    assert both / 4000 == pytest.approx(0.25, abs=0.03)


def numbered(count):
    return [Row(number, (f"text {number}",), 0) for number in range(1, count + 1)]


def test_hold_out_takes_about_the_share_asked_for_and_less_of_a_large_train_set():
    kept, held = hold_out(numbered(5000))
    assert len(held) == pytest.approx(500, abs=80)
    assert sorted(kept + held) == numbered(5000)
    assert len(hold_out(numbered(25_000))[1]) == pytest.approx(1250, abs=150)


def test_a_row_keeps_its_side_when_rows_are_added():
    held = {row.number for row in hold_out(numbered(1000))[1]}
    assert {row.number for row in hold_out(numbered(2000))[1] if row.number <= 1000} == held


def test_pairs_of_one_first_text_stay_together():
    rows = [Row(n, (f"premise {n // 3}", f"hypothesis {n}"), 0) for n in range(300)]
    kept, held = hold_out(rows)
    assert held
    assert not {row.texts[0] for row in kept} & {row.texts[0] for row in held}


@settings(max_examples=60, deadline=None)
@given(st.sets(st.text(alphabet="abcdefgh", min_size=1), min_size=2, max_size=20), st.floats(0, 1))
def test_neither_side_is_ever_empty(texts, fraction):
    kept, held = hold_out([Row(n, (t,), 0) for n, t in enumerate(sorted(texts))], fraction)
    assert kept
    assert held


@pytest.mark.parametrize("texts", [[], ["a"], ["a", "A."]])
def test_too_few_texts_to_hold_some_out_is_an_error(texts):
    with pytest.raises(InputError, match="fewer than 2 different texts"):
        hold_out([Row(n, (t,), 0) for n, t in enumerate(texts)])


def test_fixed_subset_does_not_depend_on_the_order_of_rows_and_smaller_ones_are_inside_larger_ones():
    rows = numbered(200)
    subset = fixed_subset(rows, 50)
    assert len(subset) == 50
    assert fixed_subset(rows[::-1], 50) == subset
    assert set(fixed_subset(rows, 20)) < set(subset)


def test_to_dataset_has_the_columns_and_types_of_the_contract():
    dataset = to_dataset(TASK, "train", [Row(7, ("seven",), 1)])
    assert dataset[0] == {"id": "train-7", "text": "seven", "label": 1}
    assert str(dataset.features["label"].dtype) == "int64"
    pair = to_dataset(PAIR, "test", [Row(2, ("x", "y"), 2.5)])
    assert pair[0] == {"id": "test-2", "a": "x", "b": "y", "label": 2.5}
    assert str(pair.features["label"].dtype) == "float32"
    assert to_dataset(TASK, "unlabelled", [Row(1, ("x",))], labelled=False).column_names == ["id", "text"]
