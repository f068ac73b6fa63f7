"""The training benchmark gives both sides the same loss to learn, and prints every way side by side."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("textbrewer", reason="textbrewer is not installed (it is in the test extra)")
SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_training.py"
WAYS = ["nlp_distill", "textbrewer_dynamic", "textbrewer_max"]


@pytest.fixture
def script(monkeypatch):
    """The script as a module, with rounds of a few rows."""
    spec = importlib.util.spec_from_file_location("benchmark_training", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROUND_ROWS", dict.fromkeys(WAYS, 64))
    return module


@pytest.mark.packaged
def test_every_way_is_measured_and_both_sides_start_from_the_same_loss(script, tmp_path, capsys):
    assert (
        script.main(["--against", "textbrewer", "--rounds", "1", "--json", str(tmp_path / "out.json")]) == 0
    )
    printed = capsys.readouterr().out
    assert all(name in printed for name in WAYS) and "loss of the first step" in printed
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["first_step"]["difference"] < 1e-4 * report["first_step"]["textbrewer"]
    assert report["first_step"]["nlp_distill"] > 0.1
    rates = {name: way["rows_per_second"] for name, way in report["ways"].items()}
    assert list(rates) == WAYS and all(way["rows"] == 64 for way in report["ways"].values())
    for name in WAYS[1:]:
        assert report["ratios"][name] == pytest.approx(rates["nlp_distill"] / rates[name])


def test_the_scores_that_textbrewer_gets_are_those_before_the_softmax_and_the_model_is_unchanged(
    script, make_bert
):
    script.register_scores()
    model = make_bert().eval()
    ids = torch.tensor([[5, 6, 7, 0], [5, 6, 7, 8]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    with torch.no_grad():
        model.set_attn_implementation("eager")
        plain = model(**inputs, output_attentions=True)
        model.set_attn_implementation("scores")
        ours = model(**inputs, output_attentions=True)
    torch.testing.assert_close(ours.logits, plain.logits)
    padding = ~inputs["attention_mask"].bool()[:, None, None, :]
    for scores, attention in zip(ours.attentions, plain.attentions, strict=True):
        torch.testing.assert_close(scores.masked_fill(padding, float("-inf")).softmax(-1), attention)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--rounds", "0"], "--rounds is 0; give at least 1"),
        (["--rounds", "500"], "give fewer rounds, or another task"),
        (["--task", "sst-2"], "unknown task 'sst-2'"),
    ],
)
@pytest.mark.packaged
def test_wrong_input_is_one_line(script, more, message, capsys):
    assert script.main(["--against", "textbrewer", *more]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error and "\n" not in error
