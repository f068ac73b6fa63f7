"""From tagged sentences to a tagger and a smaller one, by commands alone: splits, labels, results, reports."""

import json
import shutil

import numpy as np
import pytest
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

from data_augment.errors import InputError
from nlp_distill.models import labels_tokens
from nlp_distill.pipelines.tagged_data import TaggedData, hold_out_sentences, load_tagged_data
from nlp_distill.pipelines.tagged_rows import encode_data
from nlp_distill.tagging import Sentence, read_sentences

TAG_OF = {"good": "B-FILM", "bad": "B-FILM", "it": "B-WORD"}  # every other word is outside
FAST = ["--max-length", 32, "--per-device-train-batch-size", 8]


def make_sentences(count, seed=0):
    random, words = np.random.default_rng(seed), ["good", "bad", "film", "it", "was", "plot"]
    chosen = [tuple(random.choice(words, size=random.integers(2, 9)).tolist()) for _ in range(count)]
    return [Sentence(one, tuple(TAG_OF.get(word, "O") for word in one)) for one in chosen]


def write_sentences(path, sentences):
    blocks = ["\n".join(f"{w}\t{t}" for w, t in zip(s.words, s.tags, strict=True)) for s in sentences]
    path.write_text("\n\n".join(blocks) + "\n")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """train.conll and test.conll; a sentence of each has more words than 32 tokens hold."""
    folder = tmp_path_factory.mktemp("tagged")
    long = Sentence(("it",) * 40, ("B-WORD",) * 40)
    write_sentences(folder / "train.conll", [*make_sentences(80), long])
    write_sentences(folder / "test.conll", [*make_sentences(20, seed=1), long])
    return folder


@pytest.fixture(scope="module")
def tag(run_cli, files, encoder_folder):
    """``tag(output, *more)`` fine-tunes the tiny encoder; no validation file is given."""

    def run(output, *more, model=encoder_folder):
        data = ["--train-file", files / "train.conll", "--test-file", files / "test.conll", "--task", "films"]
        training = ["--num-train-epochs", 6, *FAST]
        return run_cli("finetune-tagger", "--model", model, "--output", output, *data, *training, *more)

    return run


@pytest.fixture(scope="module")
def tagger(tag, tmp_path_factory):
    """A tagger at the better of two rates, and the folder of its published results."""
    folder = tmp_path_factory.mktemp("tagger")
    rates = ["--learning-rates", "1e-9", "1e-2", "--results-dir", folder / "results"]
    assert tag(folder / "model", *rates) == 0
    return folder / "model"


@pytest.fixture(scope="module")
def distil(run_cli, files, tagger):
    """``distil(output, *more)`` makes smaller taggers of it; no validation file is given."""

    def run(output, *more):
        data = ["--train-file", files / "train.conll", "--test-file", files / "test.conll", "--task", "films"]
        shape = ["--layers", 1, "--hidden-size", 8, "--ffn-size", 16]
        training = ["--num-train-epochs", 2, "--learning-rate", "1e-2", *FAST]
        given = ["--teacher", tagger, "--output", output, *data, *shape, *training]
        return run_cli("distill", "tagger", *given, *more)

    return run


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


# ---- the commands ----------------------------------------------------------------------------------------------------


def test_finetune_tagger_makes_a_tagger_that_knows_its_tags(tagger, files):
    results = read(tagger / "results.json")
    entry = results["models"]["teacher"]
    assert results["metric"] == "span_f1" and entry["score"] > 0.9 and entry["validation_score"] > 0.9
    assert results["tuning"]["learning_rate"] == 0.01 and len(results["tuning"]["validation_scores"]) == 2
    model = AutoModelForTokenClassification.from_pretrained(tagger)
    assert model.config.id2label == {0: "O", 1: "B-FILM", 2: "B-WORD"}
    found = pipeline("token-classification", str(tagger))("it was good")
    assert [(entry["word"], entry["entity"]) for entry in found] == [("it", "B-WORD"), ("good", "B-FILM")]
    card = (tagger / "README.md").read_text()
    assert "pipeline_tag: token-classification\n" in card and 'pipeline("token-classification"' in card
    assert "type: token-classification\n" in card and "for films" in card


def test_validation_is_the_same_slice_of_train_in_both_commands(tagger, distil, tmp_path):
    assert distil(tmp_path / "run", "--no-baseline") == 0
    first, second = read(tagger / "results.json"), read(tmp_path / "run" / "results.json")
    assert first["selected_on"] == second["selected_on"] == "train"
    assert first["data"] == second["data"]
    rows = {split: entry["rows"] for split, entry in first["data"].items()}
    assert rows["train"] + rows["validation"] == 81 and rows["validation"] > 1 and rows["test"] == 21
    assert "rows held out of train" in (tmp_path / "run" / "results.md").read_text()


def test_results_are_published_by_method_task_and_seed(tagger, distil, tmp_path, capsys):
    place = tmp_path / "results"
    assert distil(tmp_path / "run", "--seeds", 3, 4, "--results-dir", place) == 0
    found = sorted(path.relative_to(place).as_posix() for path in place.rglob("*.json"))
    methods = ("tagger_1x8", "tagger_1x8_without_teacher")
    assert found == [f"{method}/films/{seed}.json" for method in methods for seed in (3, 4)]
    results, student = (
        read(tmp_path / "run" / "results.json"),
        read(place / "tagger_1x8" / "films" / "3.json"),
    )
    assert student["score"] == results["models"]["student"]["scores"][0]
    assert student["metrics"]["span_f1"] == student["score"] and student["cut_words"] == results["cut_words"]
    assert student["transfer_set"]["rows"] == student["data"]["train"]["rows"]
    assert read(place / "tagger_1x8_without_teacher" / "films" / "3.json")["transfer_set"] is None
    teacher = read(tagger.parent / "results" / "teacher" / "films" / "0.json")
    assert teacher["method"] == "teacher" and teacher["score"] == results["models"]["teacher"]["score"]
    assert teacher["cut_words"] == student["cut_words"] and teacher["tuning"]["learning_rate"] == 0.01
    capsys.readouterr()
    again = ["--seeds", 3, "--results-dir", place]
    assert distil(tmp_path / "other", *again, "--temperature", 3) == 2
    assert "holds the result of other settings (temperature: 1.0 there, 3.0 now)" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_words_that_are_cut_are_counted_and_told_of(tagger, distil, tmp_path, capsys):
    assert distil(tmp_path / "run", "--no-baseline", "--max-length", 12) == 0
    said = capsys.readouterr()
    cut = read(tmp_path / "run" / "results.json")["cut_words"]
    assert cut["train"] + cut["validation"] >= 30 and cut["test"] == 30
    assert f"test: {cut['test']} words are left out" in said.err
    counts = ", ".join(f"{split} {count}" for split, count in cut.items() if count)
    assert f"Words that do not fit and are left out, of scores too: {counts}." in said.out
    assert read(tagger / "results.json")["cut_words"]["test"] == 10


def test_a_finished_tagger_is_reused_and_another_setting_is_named(tagger, tag, capsys):
    rates = ["--learning-rates", "1e-9", "1e-2", "--results-dir", tagger.parent / "results"]
    assert tag(tagger, *rates) == 0
    assert capsys.readouterr().err.count("reusing") == 3
    assert tag(tagger, *rates, "--max-length", 16) == 2
    assert "max_length: 32 there, 16 now" in capsys.readouterr().err


def test_one_answer_to_all_is_warned_of(tag, tmp_path, capsys):
    assert tag(tmp_path / "model", "--learning-rate", "1e-9") == 0
    entry = read(tmp_path / "model" / "results.json")["models"]["teacher"]
    assert ("collapsed_to" in entry) == ("to every test row" in capsys.readouterr().err)


def test_a_tagger_goes_to_the_hub_as_one(fake_hub, tag, tmp_path):
    assert tag(tmp_path / "model", "--num-train-epochs", 1, "--push-to-hub", "me/tags") == 0
    [(repo, sent)] = fake_hub.uploads
    assert repo == "me/tags" and 'pipeline("token-classification", "me/tags")' in sent["README.md"].decode()
    assert not [name for name in sent if "checkpoint" in name or name.endswith(".npz")]


def test_sentences_of_test_among_those_learnt_are_warned_of(run_cli, encoder_folder, tmp_path, capsys):
    train, test = make_sentences(30), make_sentences(5, seed=1)
    copy = Sentence(tuple(word.upper() for word in test[0].words), test[0].tags)
    data = ["--train-file", write_sentences(tmp_path / "train.conll", [*train, copy])]
    data += ["--test-file", write_sentences(tmp_path / "test.conll", test)]
    output = ["--model", encoder_folder, "--output", tmp_path / "model", "--num-train-epochs", 1, *FAST]
    assert run_cli("finetune-tagger", *data, *output) == 0
    assert "sentences that are learnt are in validation or test too" in capsys.readouterr().err


# ---- reports ---------------------------------------------------------------------------------------------------------


def test_a_report_of_taggers_speaks_of_sentences_and_asks_for_no_rows(
    distil, tagger, files, run_cli, tmp_path, capsys
):
    assert distil(tmp_path / "run") == 0
    shutil.copytree(tagger, tmp_path / "tagger")
    capsys.readouterr()
    assert run_cli("report", tmp_path / "run", tmp_path / "tagger") == 0
    assert "add the data options" not in capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text()
    assert "span_f1 on the test split, 21 sentences" in page and page.count("<svg") >= 2
    assert "Words that do not fit and are left out" in page and "By class" not in page
    text = (tmp_path / "run" / "report.md").read_text()
    assert "# films: span_f1 on the test split" in text and "student, without the teacher" in text
    assert "# tagger: span_f1 on the test split" in text and " rows" not in text.replace("rows held out", "")
    assert run_cli("report", tmp_path / "run", "--train-file", files / "train.conll") == 2
    assert "is a tagger's run, whose page needs no rows" in capsys.readouterr().err


# ---- sentences -------------------------------------------------------------------------------------------------------


def test_copies_of_a_sentence_stay_on_one_side_whatever_the_order():
    sentences = make_sentences(300)
    copies = [Sentence(tuple(word.upper() for word in one.words), one.tags) for one in sentences]
    kept, held = hold_out_sentences([*sentences, *copies])
    words = [{tuple(word.lower() for word in one.words) for one in side} for side in (kept, held)]
    assert not words[0] & words[1] and len(kept) + len(held) == 600
    assert 0.05 < len(held) / 600 < 0.15
    again = hold_out_sentences([*copies, *sentences][::-1])
    assert [set(side) for side in again] == [set(kept), set(held)]


@pytest.mark.parametrize(
    ("tags", "labels"),
    [
        (["I-B", "O", "B-B", "B-A"], ("O", "B-A", "B-B", "I-B")),
        (["VERB", "NOUN", "PUNCT"], ("NOUN", "PUNCT", "VERB")),
    ],
)
def test_labels_are_sorted_and_the_outside_stands_first(tags, labels):
    rows = [Sentence(("a",) * len(tags), tuple(tags))]
    assert TaggedData("t", rows, rows, rows).list_labels() == labels


def test_a_tag_of_the_slice_alone_is_one_of_train():
    train, held = [Sentence(("a", "b"), ("O", "X"))], [Sentence(("c",), ("Y",))]
    assert TaggedData("t", train, held, train, selected_on="train").list_labels() == ("O", "X", "Y")
    with pytest.raises(InputError, match=r"validation: sentence 1 \('c'\): the tag 'Y' is not in train"):
        TaggedData("t", train, held, train).list_labels()


def test_selecting_on_the_reported_sentences_is_said(files):
    train, test = files / "train.conll", files / "test.conll"
    assert load_tagged_data("t", train, test, test).selected_on == "dev"
    assert load_tagged_data("t", train, train, test).selected_on == "validation"
    assert load_tagged_data("t", train, None, test).selected_on == "train"
    assert load_tagged_data("t", train, None, test).source == "own files: train.conll, test.conll"


def test_raw_text_is_counted_only_where_it_is_given(files, tagger):
    tokenizer = AutoTokenizer.from_pretrained(tagger)
    train, test = read_sentences(files / "train.conll"), read_sentences(files / "test.conll")
    data = TaggedData("t", train, train, test, [Sentence(("it",) * 10)])
    labels = data.list_labels()
    assert encode_data(data, tokenizer, labels, 8).cut_words["unlabelled"] == 4
    data = TaggedData("t", train, train, test)
    assert list(encode_data(data, tokenizer, labels, 8).cut_words) == ["train", "validation", "test"]


@pytest.mark.parametrize(
    ("architectures", "is_tagger"),
    [
        (["BertForTokenClassification"], True),
        (["BertForSequenceClassification", "BertForTokenClassification"], False),
        ([], False),
        (None, False),
        ("BertForTokenClassification", False),
        ([5], False),
    ],
)
def test_a_tagger_is_known_by_the_first_of_its_classes(architectures, is_tagger):
    assert labels_tokens(architectures) is is_tagger
