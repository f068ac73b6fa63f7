"""The hub source: offline it fails soon with one clear line; online it gives what a folder gives."""

import http.server
import threading
import time

import datasets
import pytest
from datasets import Dataset, DatasetDict
from huggingface_hub import constants

from data_augment.errors import InputError
from nlp_distill.tasks import glue_hub, load_glue_hub


@pytest.fixture(autouse=True)
def no_proxy_and_an_empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)


def serve(status):
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_without_a_network_it_says_soon_what_to_use_instead(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # a port that refuses at once
    start = time.monotonic()
    with pytest.raises(
        InputError, match="cannot load rte from the hub.*no network.*--data-dir FOLDER.*--train-file"
    ):
        load_glue_hub("rte")
    assert time.monotonic() - start < 30
    assert datasets.config.HF_HUB_OFFLINE is False  # the switch for this one call is back


def test_offline_mode_asks_nobody(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://192.0.2.1")  # a reserved address: a request would hang
    monkeypatch.setattr("nlp_distill.hub.REACH_SECONDS", 60)
    start = time.monotonic()
    with pytest.raises(InputError, match="no network"):
        load_glue_hub("rte")
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(("status", "reachable"), [(200, True), (403, False), (503, False)])
def test_a_hub_that_answers_with_an_error_is_not_reachable(status, reachable, monkeypatch):
    server = serve(status)
    try:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert glue_hub.hub_is_reachable() is reachable
    finally:
        server.shutdown()
        server.server_close()


def hub_mnli():
    def split(numbers, labels):
        texts = {"premise": [f"p {n}" for n in numbers], "hypothesis": [f"h {n} " for n in numbers]}
        return Dataset.from_dict(texts | {"label": labels, "idx": list(range(len(labels)))})

    return DatasetDict(
        train=split(range(30), [n % 3 for n in range(30)]),
        validation_matched=split([100, 101], [0, 1]),
        validation_mismatched=split([200, 3], [2, 0]),
    )


@pytest.fixture
def hub(monkeypatch):
    """A hub that answers, holding MNLI; returns the data set so that a test may change it."""
    held = hub_mnli()
    monkeypatch.setattr(glue_hub, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", lambda path, config: held)
    return held


def test_hub_rows_become_the_same_splits_as_those_of_a_folder(hub):
    data = load_glue_hub("mnli")
    assert data.test.to_dict() == {
        "id": ["test-1", "test-2"],
        "premise": ["p 100", "p 101"],
        "hypothesis": ["h 100", "h 101"],
        "label": [0, 1],
    }
    assert data.extra_tests["mnli_mm"]["label"][:] == [2, 0]
    assert data.counts == {"train_rows_found_in_test": 1}
    assert len(data.train) + len(data.validation) == 29
    assert load_glue_hub("mnli_mm").test["premise"][:] == ["p 200", "p 3"]
    assert load_glue_hub("mnli", select_on="dev").selected_on == "dev"


@pytest.mark.parametrize(
    ("column", "value", "fault"), [("label", -1, "no label"), ("premise", " ", "an empty text")]
)
def test_a_bad_hub_row_is_named_or_skipped(hub, column, value, fault):
    matched = hub["validation_matched"].to_dict()
    matched[column][1] = value
    hub["validation_matched"] = Dataset.from_dict(matched)
    with pytest.raises(InputError, match=f"nyu-mll/glue validation_matched: row 2 has {fault}"):
        load_glue_hub("mnli")
    data = load_glue_hub("mnli", skip_bad_rows=True)
    assert data.test["id"][:] == ["test-1"]
    assert data.counts["skipped_bad_rows"] == 1


def test_a_connection_lost_on_the_way_is_one_line_and_a_fault_of_the_program_is_not_hidden(hub, monkeypatch):
    def lose(path, config):
        raise ConnectionError("reset")

    def fail(path, config):
        raise KeyError("a bug")

    monkeypatch.setattr(datasets, "load_dataset", lose)
    with pytest.raises(InputError, match="ConnectionError; use --data-dir"):
        load_glue_hub("mnli")
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(KeyError, match="a bug"):
        load_glue_hub("mnli")


def test_ax_on_the_hub_has_no_labels_and_says_where_some_are():
    with pytest.raises(InputError, match=r"no labels; use --data-dir with diagnostic/diagnostic-full\.tsv"):
        load_glue_hub("ax")
