"""TinyBERT's word replacement: candidates from GloVe and a masked language model, and what is made of them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_augment import (
    Augmenter,
    Glove,
    GloveCandidates,
    InputError,
    MaskedLMCandidates,
    MaskRule,
    ReplaceRule,
    write_transfer_set,
)
from data_augment.candidates import find_neighbours, is_replaceable
from data_augment.cli import main
from data_augment.masked_lm import find_whole_words

WORDS = ["film", "movie", "story", "plot", "good", "great", "fine", "bad", "dull", "poor"]


@pytest.fixture
def glove() -> Glove:
    """Ten words around the circle, so that neighbours are known: i's nearest are i - 1 and i + 1."""
    angles = np.linspace(0, 3, len(WORDS)) ** 1.1  # uneven, so that no two are equally near
    lengths = np.linspace(1, 5, len(WORDS))  # cosine must not care
    vectors = np.stack([np.cos(angles) * lengths, np.sin(angles) * lengths], axis=1)
    return Glove(WORDS, vectors.astype(np.float32))


def naive_neighbours(glove: Glove, word: str, k: int) -> list[str]:
    own = glove.vectors[glove.words.index(word)]
    cosines = {
        other: float(own @ vector / np.linalg.norm(own) / np.linalg.norm(vector))
        for other, vector in zip(glove.words, glove.vectors, strict=True)
        if other != word
    }
    return sorted(cosines, key=lambda other: -cosines[other])[:k]


def propose(source, texts: list[list[str]]) -> list[list[str]]:
    words = source.prepare(sorted({word for text in texts for word in text}))
    return [[words[place] for place in row if place >= 0] for row in source.propose(texts).tolist()]


# ---- candidates from GloVe -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 9])
def test_glove_proposes_the_nearest_by_cosine_and_never_the_word_itself(glove: Glove, k: int) -> None:
    proposed = propose(GloveCandidates(glove, k), [WORDS])
    assert proposed == [naive_neighbours(glove, word, k) for word in WORDS]


def test_more_candidates_than_words_are_as_many_as_there_are(glove: Glove) -> None:
    assert all(len(row) == 9 for row in propose(GloveCandidates(glove, 50), [["film"]]))


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_neighbours_do_not_depend_on_how_the_words_are_cut_into_parts(
    glove: Glove, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.array([0, 4, 5, 9])
    whole = np.concatenate([nearest for _, nearest in find_neighbours(glove.vectors, rows, 4)])
    monkeypatch.setattr("data_augment.candidates.QUERY_WORDS", chunk)
    parts = np.concatenate([nearest for _, nearest in find_neighbours(glove.vectors, rows, 4)])
    assert (whole == parts).all()


def test_rare_words_have_neighbours_but_are_none(glove: Glove, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_augment.candidates.NEIGHBOUR_WORDS", 6)
    proposed = propose(GloveCandidates(glove, 3), [["film", "poor"]])
    assert all(len(row) == 3 and set(row) <= set(WORDS[:6]) for row in proposed)


@pytest.mark.parametrize("word", ["not", "Not", "the", "3rd", "film's", "...", "co-op", "[MASK]", "12"])
def test_stop_words_and_what_is_no_word_stay(word: str) -> None:
    assert not is_replaceable(word)


def test_capital_letters_do_not_hide_a_word_and_unknown_words_have_no_candidates(glove: Glove) -> None:
    film, unknown, stop = propose(GloveCandidates(glove, 2), [["Film", "zyzzyva", "not"]])
    assert film == naive_neighbours(glove, "film", 2) and unknown == stop == []


# ---- the rule --------------------------------------------------------------------------------------------------------


def test_each_word_with_candidates_is_replaced_with_probability_p_by_any_of_them_alike(glove: Glove) -> None:
    """Counts of 20,000 draws within five standard deviations of the binomial's expectation."""
    augmenter = Augmenter([ReplaceRule(0.4)], candidates=GloveCandidates(glove, 4))
    variants = [text.split() for text in augmenter.augment("not film zyzzyva", n_iter=20_000, seed=3)]
    assert all(words[0] == "not" and words[2] == "zyzzyva" for words in variants)
    drawn = [words[1] for words in variants]
    deviation = (20_000 * 0.1 * 0.9) ** 0.5
    for candidate in naive_neighbours(glove, "film", 4):
        assert abs(drawn.count(candidate) - 2_000) < 5 * deviation, candidate
    assert abs(drawn.count("film") - 12_000) < 5 * (20_000 * 0.4 * 0.6) ** 0.5


@pytest.mark.parametrize(("p", "changed"), [(0.0, 0), (1.0, 50)])
def test_probability_zero_changes_nothing_and_one_every_word(glove: Glove, p: float, changed: int) -> None:
    if p == 0:
        assert Augmenter([ReplaceRule(p)]).augment("good film", 50, seed=0) == ["good film"] * 50
        return
    variants = Augmenter([ReplaceRule(p)], candidates=GloveCandidates(glove)).augment("good film", 50)
    assert sum(text.split()[0] != "good" and text.split()[1] != "film" for text in variants) == changed


def test_pairs_change_the_first_the_second_and_both_each_from_the_original(glove: Glove) -> None:
    augmenter = Augmenter([ReplaceRule(1.0)], candidates=GloveCandidates(glove, 3))
    for number, (first, second) in enumerate(augmenter.augment_pair("good film", "bad plot", n_iter=9)):
        assert (first != "good film") == (number % 3 != 1)
        assert (second != "bad plot") == (number % 3 != 0)
        for original, text in (("good film", first), ("bad plot", second)):
            for own, word in zip(original.split(), text.split(), strict=True):
                assert word == own or word in naive_neighbours(glove, own, 3)


def test_the_rule_stands_alone_and_candidates_belong_to_it(glove: Glove) -> None:
    with pytest.raises(InputError, match="stands alone"):
        Augmenter([ReplaceRule(), MaskRule()])
    with pytest.raises(InputError, match="candidates serve ReplaceRule alone"):
        Augmenter([MaskRule()], candidates=GloveCandidates(glove))
    with pytest.raises(InputError, match="p_replace is 1.5; a probability lies between 0 and 1"):
        ReplaceRule(1.5)
    with pytest.raises(InputError, match="k is 0; it must be a whole number of at least 1"):
        GloveCandidates(glove, 0)


# ---- transfer sets ---------------------------------------------------------------------------------------------------


def write_glove(path, glove: Glove) -> None:
    lines = [
        f"{word} {' '.join(map(str, vector))}"
        for word, vector in zip(glove.words, glove.vectors, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def rows() -> list[dict]:
    texts = ["a good film", "the plot was not bad", "Great story", "dull", "3 : 2", "good film and bad movie"]
    return [{"sentence": text, "label": number % 2} for number, text in enumerate(texts * 20)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_transfer_set_holds_originals_and_replacements_whatever_the_number_of_workers(
    glove: Glove, rows: list[dict], tmp_path, workers: int
) -> None:
    def write(name: str, workers: int):
        return write_transfer_set(
            rows, tmp_path / name, rules=[ReplaceRule(0.5)], n_iter=5, seed=2, num_workers=workers,
            candidates=GloveCandidates(glove, 4),
        )  # fmt: skip

    summary = write("one.parquet", workers)
    write("two.parquet", 1)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    made = pq.read_table(tmp_path / "one.parquet").to_pylist()
    originals = {row["id"]: row["sentence"] for row in made if not row["rules"]}
    assert len(originals) == 6 == summary.originals and summary.rules == {"replace": summary.copies}
    assert len({row["sentence"] for row in made}) == len(made) == summary.rows_out
    for row in made:
        if row["rules"]:
            assert row["rules"] == "replace" and row["label"] is None
            for own, word in zip(originals[row["source_id"]].split(), row["sentence"].split(), strict=True):
                assert word == own or word in naive_neighbours(glove, own.lower(), 4)
    assert summary.candidates == "4 nearest of 2-d GloVe"


def test_the_command_line_says_where_candidates_came_from(
    glove: Glove, rows: list[dict], tmp_path, capsys: pytest.CaptureFixture
) -> None:
    write_glove(tmp_path / "glove.txt", glove)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = ["--input", str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / "out.tsv")]
    more = ["--method", "tinybert", "--glove-file", str(tmp_path / "glove.txt"), "--num-candidates", "3"]
    assert main([*files, *more, "--n-iter", "4", "--p-replace", "0.9"]) == 0
    out = capsys.readouterr().out
    assert (
        "candidates:          3 nearest of 2-d GloVe" in out and "replace in" in out and "tagger" not in out
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--mlm", "x"], "--mlm belongs to --method tinybert, and this is tang"),
        (["--num-candidates", "3"], "--num-candidates belongs to --method tinybert, and this is tang"),
        (
            ["--method", "tinybert", "--p-mask", "0.5"],
            "--p-mask belongs to --method tang, and this is tinybert",
        ),
        (["--unlabelled-n-iter", "5"], "--unlabelled-n-iter is given without --include-unlabelled"),
        (["--method", "tinybert", "--p-replace", "2"], "p_replace is 2.0"),
        (["--method", "tinybert", "--num-candidates", "0", "--glove-file", "GLOVE"], "num_candidates is 0"),
        (["--method", "tinybert", "--glove-file", "missing.txt"], "GloVe file missing.txt does not exist"),
        (
            ["--method", "tinybert", "--glove-file", "GLOVE", "--mlm", "missing"],
            "cannot load the masked language",
        ),
    ],
)
def test_wrong_settings_get_one_line(
    glove: Glove, rows: list[dict], tmp_path, capsys: pytest.CaptureFixture, more: list[str], message: str
) -> None:
    write_glove(tmp_path / "glove.txt", glove)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    more = [str(tmp_path / "glove.txt") if word == "GLOVE" else word for word in more]
    files = ["--input", str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / "out.tsv")]
    assert main([*files, *more]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ") and message in lines[-1]
    assert not (tmp_path / "out.tsv").exists()


# ---- candidates from a masked language model -------------------------------------------------------------------------


@pytest.fixture
def masked_lm(tokenizer):
    import torch
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BertForMaskedLM(config).eval()


def naive_masked_lm(model, tokenizer, text: list[str], position: int, k: int) -> list[str]:
    """Algorithm 1, one word at a time: [CLS] masked [SEP] original [SEP], the K likeliest whole words, not itself."""
    import torch

    masked = [tokenizer.mask_token if i == position else word for i, word in enumerate(text)]
    encoded = tokenizer(" ".join(masked), " ".join(text), return_tensors="pt")
    place = encoded["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    with torch.no_grad():
        logits = model(**encoded).logits[0, place]
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    ranked = [names[i] for i in logits.argsort(descending=True).tolist()]
    return [word for word in ranked if is_replaceable(word) and word != text[position]][:k]


@pytest.mark.parametrize("batch_tokens", [1, 40, 8192])
def test_single_pieces_get_the_models_words_and_others_gloves(
    masked_lm, tokenizer, glove: Glove, batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_augment.masked_lm.BATCH_TOKENS", batch_tokens)
    texts = [["the", "good", "film"], ["poor", "plot", "!"], ["story"], ["it", "was", "great", "but", "dull"]]
    source = MaskedLMCandidates(masked_lm, tokenizer, GloveCandidates(glove, 4), k=4)
    proposed = iter(propose(source, texts))
    for text in texts:
        for position, word in enumerate(text):
            if not is_replaceable(word):
                expected = []
            elif word == "poor":  # no word of the tokenizer's, but five pieces
                expected = naive_neighbours(glove, "poor", 4)
            else:
                expected = naive_masked_lm(masked_lm, tokenizer, text, position, 4)
            assert next(proposed) == expected, (text, word)


def test_a_text_too_long_to_be_read_twice_gets_gloves_words(masked_lm, tokenizer, glove: Glove) -> None:
    source = MaskedLMCandidates(masked_lm, tokenizer, GloveCandidates(glove, 3), k=3)
    assert propose(source, [["film"] * 19])[0] == naive_neighbours(glove, "film", 3)  # 2 x 19 + 3 > 40
    assert propose(source, [["film"] * 18])[0] == naive_masked_lm(masked_lm, tokenizer, ["film"] * 18, 0, 3)


def test_a_masked_language_model_on_disk_serves_the_command_line(
    masked_lm, tokenizer, glove: Glove, rows: list[dict], tmp_path, capsys: pytest.CaptureFixture
) -> None:
    masked_lm.save_pretrained(tmp_path / "mlm")
    tokenizer.save_pretrained(tmp_path / "mlm")
    write_glove(tmp_path / "glove.txt", glove)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = [
        "--input",
        str(tmp_path / "rows.jsonl"),
        "--output",
        str(tmp_path / "out.parquet"),
        "--n-iter",
        "3",
    ]
    more = ["--method", "tinybert", "--glove-file", str(tmp_path / "glove.txt"), "--num-candidates", "3"]
    capsys.readouterr()
    assert main([*files, *more, "--mlm", str(tmp_path / "mlm")]) == 0
    assert "3 likeliest of BertForMaskedLM, 3 nearest of 2-d GloVe for words of several pieces" in (
        capsys.readouterr().out
    )
    assert len(pq.read_table(tmp_path / "out.parquet")) > 6


def test_a_model_without_the_head_or_with_too_few_words_is_refused(
    masked_lm, tokenizer, glove: Glove, tmp_path
) -> None:
    masked_lm.bert.save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(InputError, match="has no masked-language-model head"):
        MaskedLMCandidates.load(tmp_path / "bare", GloveCandidates(glove))
    with pytest.raises(InputError, match="whole words, too few for 500 candidates"):
        MaskedLMCandidates(masked_lm, tokenizer, GloveCandidates(glove), k=500)


@pytest.fixture(params=["byte-level", "metaspace"])
def pieces_that_start_words(request):
    """A tokenizer as RoBERTa's or XLM-R's: the first piece of a word holds the space before it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    space = "Ġ" if request.param == "byte-level" else "▁"
    words = ["good", "great", "film", "plot", "story", "dull"]
    pieces = [
        "<s>",
        "</s>",
        "<pad>",
        "<mask>",
        "<unk>",
        *(f"{space}{word}" for word in words),
        "lm",
        "ry",
        space,
    ]
    letters = sorted(set("".join(words)))
    if request.param == "byte-level":
        merges = []
        for word in words:
            done = space
            for letter in word:
                merges.append((done, letter))
                done += letter
                pieces += [done] if done not in pieces else []
        vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*pieces, *letters]))}
        backend = Tokenizer(models.BPE(vocabulary, merges))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
    else:
        scores = [(piece, -1.0) for piece in pieces] + [(letter, -9.0) for letter in letters]
        backend = Tokenizer(models.Unigram(scores, unk_id=4))
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", model_max_length=38, **names)


def test_pieces_that_start_words_are_words_and_fragments_are_not(
    pieces_that_start_words, glove: Glove
) -> None:
    import torch
    from transformers import RobertaConfig, RobertaForMaskedLM

    tokenizer = pieces_that_start_words
    settings = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=40,
        pad_token_id=2,
        initializer_range=0.5,
        **settings,
    )
    torch.manual_seed(0)
    model = RobertaForMaskedLM(config).eval()
    found = find_whole_words(tokenizer)
    assert {"good", "great", "film", "plot", "story", "dull"} <= set(found) and "lm" not in found
    source = MaskedLMCandidates(model, tokenizer, GloveCandidates(glove, 3), k=3)
    [first, second] = propose(source, [["great", "film"]])

    numbers = [found["great"], found["film"]]
    for position, proposed in enumerate((first, second)):
        masked = list(numbers)
        masked[position] = tokenizer.mask_token_id
        ids = [0, *masked, 1, *numbers, 1]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, 1 + position]
        ranked = sorted(
            (word for word in found if found[word] != numbers[position]), key=lambda w: -logits[found[w]]
        )
        assert proposed == ranked[:3]
    # The positions of RoBERTa start behind the padding's: what its tokenizer says it reads holds.
    assert propose(source, [["film"] * 18])[0] == naive_neighbours(glove, "film", 3)


@pytest.mark.packaged
def test_the_packaged_vectors_propose_sensible_words() -> None:
    source = GloveCandidates(k=15)
    film, terrible = propose(source, [["film", "terrible"]])
    assert {"movie", "films"} <= set(film) and {"horrible", "awful"} <= set(terrible)
