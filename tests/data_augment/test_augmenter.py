"""The three rules: exact cases, and the loop of Tang et al. 2019 (§3.3) as the standard for distributions.

Seeds are fixed, so nothing here is left to chance: a comparison passes or fails for ever. Its bound says how
rare the outcome would be if the distributions were equal.
"""

from __future__ import annotations

import random
from collections import Counter

import datasets
import numpy as np
import pytest
from scipy import stats

from data_augment import Augmenter, InputError, MaskRule, NgramRule, PosRule


def count_tags(tagged_texts: list[list[tuple[str, str]]]) -> dict[str, Counter[str]]:
    """For each tag its unigram distribution: how often each word has the tag."""
    counts: dict[str, Counter[str]] = {}
    for text in tagged_texts:
        for word, tag in text:
            counts.setdefault(tag, Counter())[word] += 1
    return counts


def vary(
    tagged: list[tuple[str, str]],
    counts: dict[str, Counter[str]],
    rng: random.Random,
    p_mask: float = 0.1,
    p_pos: float = 0.1,
    p_ngram: float = 0.25,
    max_n: int = 5,
) -> str:
    """One variant of a tagged text."""
    result = []
    for word, tag in tagged:
        u = rng.random()
        if u < p_mask:
            result.append("[MASK]")
        elif u < p_mask + p_pos:
            others = {w: n for w, n in counts[tag].items() if w != word}
            result.append(rng.choices(list(others), list(others.values()))[0] if others else word)
        else:
            result.append(word)
    if rng.random() < p_ngram:
        n = min(rng.randint(1, max_n), len(result))
        start = rng.randint(0, len(result) - n)
        result = result[start : start + n]
    return " ".join(result)


def tag_by_initial(text: str) -> list[tuple[str, str]]:
    return [(word, word[0]) for word in text.split()]


def compare_counts(ours: Counter[str], theirs: Counter[str]) -> float:
    """p-value of "both samples come from one distribution" (chi-square; rare outcomes are pooled)."""
    common = [outcome for outcome in ours | theirs if ours[outcome] + theirs[outcome] >= 20]
    table = np.array([[counts[outcome] for outcome in common] for counts in (ours, theirs)])
    rest = np.array([[counts.total()] for counts in (ours, theirs)]) - table.sum(axis=1, keepdims=True)
    if rest.sum():
        table = np.hstack([table, rest])
    return stats.chi2_contingency(table).pvalue


# The paper's settings, and others that make every rule frequent; short, medium and one-word texts.
@pytest.mark.parametrize("text", ["a1 b1 c1", "a1 a2 b2 b1 a3 c1 a2", "a3", "c1 c1"])
@pytest.mark.parametrize("numbers", [(0.1, 0.1, 0.25, 5), (0.3, 0.5, 0.6, 2), (0.0, 1.0, 1.0, 3)])
def test_variants_are_distributed_as_in_the_loop_of_the_paper(corpus, initial_tagger, text, numbers) -> None:
    p_mask, p_pos, p_ngram, max_n = numbers
    rules = [MaskRule(p_mask), PosRule(p_pos), NgramRule(p_ngram, max_n)]
    augmenter = Augmenter(rules, pos_tagger=initial_tagger).fit(corpus)
    counts = count_tags([tag_by_initial(line) for line in corpus])
    rng = random.Random(5)
    n = 8000
    theirs = Counter(vary(tag_by_initial(text), counts, rng, *numbers) for _ in range(n))
    ours = Counter(augmenter.augment(text, n_iter=n, seed=3))
    assert ours.total() == n
    if len(ours | theirs) == 1:
        assert ours == theirs
    else:
        assert compare_counts(ours, theirs) > 1e-3


def test_the_comparison_notices_a_small_difference(corpus) -> None:
    counts = count_tags([tag_by_initial(line) for line in corpus])
    rng = random.Random(5)
    samples = [
        Counter(vary(tag_by_initial("a1 b1 c1"), counts, rng, p_mask=p) for _ in range(8000))
        for p in (0.1, 0.13)
    ]
    assert compare_counts(*samples) < 1e-3


def test_one_word_has_the_probabilities_of_the_paper(corpus, initial_tagger) -> None:
    # a1 is masked with 0.1, replaced with 0.1: by a2 (2 of 3) or a3 (1 of 3); an n-gram of one word is that word.
    n = 100_000
    counts = Counter(Augmenter(pos_tagger=initial_tagger).fit(corpus).augment("a1", n_iter=n, seed=1))
    expected = {"[MASK]": 0.1, "a2": 0.1 * 2 / 3, "a3": 0.1 / 3, "a1": 0.8}
    assert counts.keys() == expected.keys()
    for outcome, p in expected.items():
        assert abs(counts[outcome] / n - p) < 4 * (p * (1 - p) / n) ** 0.5, (
            outcome
        )  # four standard deviations


def test_n_and_the_place_of_the_ngram_are_uniform() -> None:
    n = 60_000
    pieces = Counter(Augmenter([NgramRule(1.0, 3)]).augment("0 1 2 3 4 5 6 7", n_iter=n, seed=2))
    # n is 1, 2 or 3 with a third each; then there are 8, 7 or 6 places.
    expected = {
        " ".join(map(str, range(start, start + size))): 1 / 3 / (9 - size)
        for size in (1, 2, 3)
        for start in range(9 - size)
    }
    assert pieces.keys() == expected.keys()
    frequencies = [pieces[piece] for piece in expected]
    assert stats.chisquare(frequencies, [n * p for p in expected.values()]).pvalue > 1e-3


def test_certain_masking_masks_every_word() -> None:
    assert Augmenter([MaskRule(1.0)]).augment("one two three", n_iter=3) == ["[MASK] [MASK] [MASK]"] * 3


def test_without_rules_the_text_is_kept_with_single_spaces() -> None:
    assert Augmenter([]).augment("  one \t two\nthree ", n_iter=2) == ["one two three"] * 2


def test_an_ngram_longer_than_the_text_keeps_all_of_it() -> None:
    variants = set(Augmenter([NgramRule(1.0, 50)]).augment("one two", n_iter=2000))
    assert variants == {"one two", "one", "two"}


def test_a_replacement_has_the_same_tag_and_is_another_word(corpus, initial_tagger) -> None:
    augmenter = Augmenter([PosRule(1.0)], pos_tagger=initial_tagger).fit(corpus)
    for variant in augmenter.augment("a1 b1 c1 a3", n_iter=300):
        words = variant.split()
        assert [word[0] for word in words] == ["a", "b", "c", "a"]
        assert words[0] != "a1" and words[1] == "b2" and words[3] != "a3"
        assert words[2] == "c1"  # no other word has its tag


def test_unseen_words_are_replaced_by_fitted_words_of_their_tag_and_never_drawn(
    corpus, initial_tagger
) -> None:
    augmenter = Augmenter([PosRule(1.0)], pos_tagger=initial_tagger).fit(corpus)
    firsts, seconds, thirds = zip(
        *(v.split() for v in augmenter.augment("a9 z9 b9", n_iter=500)), strict=True
    )
    assert set(firsts) == {"a1", "a2", "a3"}
    assert set(seconds) == {"z9"}  # nobody has the tag z
    assert set(thirds) == {"b1", "b2"}
    frequency = firsts.count("a1") / 500
    assert abs(frequency - 4 / 7) < 4 * (4 / 7 * 3 / 7 / 500) ** 0.5
    assert augmenter.augment("a9", n_iter=5) == augmenter.augment("a9", n_iter=5)


def test_the_same_seed_gives_the_same_variants_and_another_seed_others(corpus, initial_tagger) -> None:
    augmenter = Augmenter(pos_tagger=initial_tagger).fit(corpus)
    first = augmenter.augment("a1 b1 c1 a2", n_iter=50, seed=4)
    assert augmenter.augment("a1 b1 c1 a2", n_iter=50, seed=4) == first
    assert augmenter.augment("a1 b1 c1 a2", n_iter=50, seed=5) != first


def test_pairs_vary_the_first_the_second_and_both_in_a_cycle() -> None:
    pairs = Augmenter([MaskRule(1.0)]).augment_pair("one  two", "three ", n_iter=7)
    first, second, both = ("[MASK] [MASK]", "three "), ("one  two", "[MASK]"), ("[MASK] [MASK]", "[MASK]")
    assert pairs == [first, second, both, first, second, both, first]


def test_fitting_again_forgets_the_earlier_texts(initial_tagger) -> None:
    augmenter = Augmenter([PosRule(1.0)], pos_tagger=initial_tagger).fit(["a1 a2"]).fit(["a3 a4"])
    assert set(augmenter.augment("a3", n_iter=50)) == {"a4"}


def test_fit_takes_a_stream_longer_than_a_batch(initial_tagger) -> None:
    augmenter = Augmenter([PosRule(1.0)], pos_tagger=initial_tagger).fit(f"a{i}" for i in range(5000))
    assert len(set(augmenter.augment("a0", n_iter=2000))) > 1500


def test_a_dataset_keeps_its_types_and_gets_provenance(initial_tagger) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    rows = {"text": ["one two three", "four five", "one two three"], "label": [1, 0, 0]}
    dataset = datasets.Dataset.from_dict(rows, features=features)
    result = Augmenter([MaskRule(1.0)]).augment_dataset(dataset, text_column="text", n_iter=3)
    assert result.features["label"] == features["label"]
    assert result["text"] == ["one two three", "[MASK] [MASK] [MASK]", "four five", "[MASK] [MASK]"]
    assert result["label"] == [1, None, 0, None]
    assert result["id"] == ["1", "1~1", "2", "2~1"]
    assert result["source_id"] == ["1", "1", "2", "2"]
    assert result["rules"] == ["", "mask", "", "mask"]
    assert dataset.column_names == ["text", "label"]


def test_a_posrule_needs_fitting() -> None:
    with pytest.raises(InputError, match="call fit"):
        Augmenter(pos_tagger="textblob").augment("one two")


@pytest.mark.parametrize("text", ["", "  \t", None, 7])
def test_what_is_no_text_is_refused(text) -> None:
    with pytest.raises(InputError, match="a text"):
        Augmenter([MaskRule()]).augment(text)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("rule", [MaskRule, PosRule, NgramRule])
def test_probabilities_outside_0_to_1_are_refused(rule, p) -> None:
    with pytest.raises(InputError, match=r"between 0 and 1"):
        rule(p)


def test_bad_numbers_and_bad_sets_of_rules_are_refused() -> None:
    with pytest.raises(InputError, match="max_ngram is 0"):
        NgramRule(0.25, 0)
    with pytest.raises(InputError, match=r"max_ngram is 2\.5"):
        NgramRule(0.25, 2.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"p_mask \+ p_pos is 0\.6 \+ 0\.5"):
        Augmenter([MaskRule(0.6), PosRule(0.5)])
    with pytest.raises(InputError, match="MaskRule is given twice"):
        Augmenter([MaskRule(), MaskRule()])
    with pytest.raises(InputError, match="is not a rule"):
        Augmenter(["mask"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="n_iter is -1"):
        Augmenter([MaskRule()]).augment("one", n_iter=-1)
    with pytest.raises(InputError, match="seed is -1"):
        Augmenter([MaskRule()]).augment_pair("one", "two", seed=-1)


def test_p_mask_and_p_pos_may_add_up_to_one(corpus, initial_tagger) -> None:
    augmenter = Augmenter([MaskRule(0.7), PosRule(0.3)], pos_tagger=initial_tagger).fit(corpus)
    assert "a1" not in augmenter.augment("a1", n_iter=500)
