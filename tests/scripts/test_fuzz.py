"""Every promise about whatever text there is, with a few examples; scripts/fuzz.py tries thousands."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from data_augment import Augmenter, InputError, MaskRule, NgramRule, PosRule, open_writer, read_rows
from nlp_distill.encoding import encode_rows

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz.py"
EXAMPLES = 25


def load_script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


fuzz = load_script()
TARGETS = {target.name: target for target in fuzz.list_targets()}


@pytest.mark.parametrize("name", TARGETS)
def test_a_promise_holds(name):
    outcome = fuzz.run_target(TARGETS[name], EXAMPLES, number=sum(name.encode()))
    assert outcome.failures == 0, outcome.message
    assert outcome.examples >= EXAMPLES


def test_a_broken_promise_is_counted_shrunk_and_printed(tmp_path, capsys):
    def break_it(example, folder):
        assert len(example) < 3, "too long"

    targets = [
        fuzz.Target("good", st.text(), lambda example, folder: None),
        fuzz.Target("broken", st.text(st.just("a")), break_it),
    ]
    assert fuzz.main(["--examples", "50", "--json", str(tmp_path / "out.json")], targets) == 1
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == ["target", "good", "broken"]
    assert table[1].split()[1:3] == ["50", "0"] and "too long" in table[2] and "'aaa'" in table[2]
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["good"]["failures"], written["broken"]["failures"]) == (0, 1)
    assert fuzz.main(["--examples", "5", "--only", "good"], targets) == 0


LONG = 1_000_000
LONG_TEXTS = {
    "words": "film " * (LONG // 5),
    "no blanks": "a" * LONG,
    "Chinese": "电影" * (LONG // 2),
    "emoji": "👍" * LONG,
    "line ends": "a\n" * (LONG // 2),
    "NUL": "\x00" * (LONG - 1) + "a",
    "right to left": "שלום " * (LONG // 5),
}


@pytest.mark.parametrize("name", LONG_TEXTS)
def test_a_text_of_a_million_characters_is_a_text(name, tmp_path):
    text = LONG_TEXTS[name]
    for suffix in (".csv", ".jsonl", ".parquet"):
        with open_writer(tmp_path / f"rows{suffix}", ["text", "label"]) as writer:
            writer.write([{"text": text, "label": "1"}])
        assert next(read_rows(tmp_path / f"rows{suffix}"))["text"] == text
    augmenter = Augmenter([MaskRule(0.1), PosRule(0.1), NgramRule(0.5)], pos_tagger="textblob").fit([text])
    assert len(augmenter.augment(text, n_iter=2)) == 2
    encoded = encode_rows([{"text": text}], fuzz.make_tokenizer(), ["text"], 24)
    assert 2 <= encoded.lengths[0] <= 24
    if "runtime" in TARGETS:
        probabilities = fuzz.export_classifier().compute_probabilities([text, "a film"])
        assert np.isfinite(probabilities).all()


@pytest.mark.parametrize("text", ["\ud800", "a film \udfff", "\udcff" * 3])
def test_half_a_surrogate_pair_is_refused_by_name_everywhere(text, tmp_path):
    with pytest.raises(InputError, match="half of a surrogate pair"):
        Augmenter([MaskRule(0.1)]).augment(text)
    with pytest.raises(InputError, match="half of a surrogate pair"):
        encode_rows([{"text": text}], fuzz.make_tokenizer(), ["text"], 24)
    for suffix in (".csv", ".tsv", ".jsonl", ".parquet"):
        with (
            pytest.raises(InputError, match="written"),
            open_writer(tmp_path / f"r{suffix}", ["text"]) as writer,
        ):
            writer.write([{"text": text}])
    assert list(tmp_path.iterdir()) == []
    if "runtime" in TARGETS:
        with pytest.raises(ValueError, match="half of a surrogate pair"):
            fuzz.export_classifier()([text])


@pytest.mark.parametrize("names", [["a", "a"], ["\ufeffa", "b"]])
def test_columns_that_would_not_come_back_are_refused(names, tmp_path):
    with (
        pytest.raises(InputError, match="two columns|byte order mark"),
        open_writer(tmp_path / "r.tsv", names),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_numbers_and_booleans_are_not_mixed_in_silence(tmp_path):
    with (
        pytest.raises(InputError, match="'x' has numbers and booleans"),
        open_writer(tmp_path / "r.parquet", ["x"]) as writer,
    ):
        writer.write([{"x": 0.5}, {"x": True}])
