"""The labelling benchmark counts operations as torch does and prints every way side by side."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_labelling.py"
WAYS = ["sorted by length", "pipeline", "fixed length"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_labelling", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def glue(tmp_path, make_rows):
    """A classic GLUE folder with a tiny SST-2."""
    folder = tmp_path / "glue" / "SST-2"
    folder.mkdir(parents=True)
    for name, count in (("train", 60), ("dev", 6)):
        lines = [
            f"{row['text']} {name} {number}\t{row['label']}" for number, row in enumerate(make_rows(count))
        ]
        (folder / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    return tmp_path / "glue"


@pytest.mark.parametrize("length", [3, 10, 40])
def test_operations_equal_torchs_own_count(script, make_bert, length):
    model = make_bert(attn_implementation="eager").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.ones(2, length, dtype=torch.int64))
    assert script.count_operations(model, np.array([length, length])) == counter.get_total_flops()


def test_operations_equal_the_value_worked_out_by_hand(script, make_bert):
    # 2 layers of hidden 16 and intermediate 32: 2 * (4 * 16^2 + 2 * 16 * 32) = 4096 weights a token;
    # pooler and head: 16^2 + 16 * 2 = 288 weights a row. Rows of 3 and 5 tokens:
    # 2 * 4096 * 8 + 2 * 4 * (9 + 25) * 16 + 2 * 288 * 2 = 65536 + 4352 + 1152
    assert script.count_operations(make_bert(), np.array([3, 5])) == 71_040


def test_the_matrix_rate_is_a_positive_number_of_gflops(script):
    assert 0 < script.measure_matmul(size=64, repeats=2) < 1e6


def test_every_way_is_measured_from_the_command_line(
    script, glue, make_bert, tokenizer, tmp_path, capsys, monkeypatch
):
    make_bert().save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    monkeypatch.setattr(script, "measure_matmul", lambda: 50.0)
    options = [
        "--model",
        tmp_path / "teacher",
        "--task",
        "sst2",
        "--data-dir",
        glue,
        "--rows",
        40,
        "--max-length",
        16,
    ]
    assert (
        script.main([str(option) for option in [*options, "--rounds", 2, "--json", tmp_path / "out.json"]])
        == 0
    )
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["matmul_gflops"] == 50.0 and report["rows"] == 40
    assert list(report["ways"]) == WAYS and all(way in printed for way in WAYS)
    for way in report["ways"].values():
        assert way["rows_per_second"] == pytest.approx(way["rows"] / way["seconds"])
        assert way["matmul_share"] == pytest.approx(way["gflops"] / 50.0)
        assert way["padding_share"] == pytest.approx(1 - way["tokens"] / way["padded_tokens"])
    assert report["ways"]["sorted by length"]["rows"] == 40
    assert report["ways"]["sorted by length"]["slower_than_sorted"] == 1.0
    assert report["ways"]["fixed length"]["padded_tokens"] == 16 * report["ways"]["fixed length"]["rows"]


def test_all_ways_pad_as_they_say(script, make_bert, make_rows, tokenizer):
    rows = [{"text": row["text"]} for row in make_rows(64)]
    lengths = np.array([len(tokenizer(row["text"])["input_ids"]) for row in rows])
    arguments = (make_bert().eval(), tokenizer, rows, ("text",), 64)
    assert script.label_by_pipeline(*arguments) == 32 * (lengths[:32].max() + lengths[32:].max())
    assert script.label_fixed(*arguments) == 64 * 64
    assert script.label_sorted(*arguments) <= 64 * lengths.max()


@pytest.mark.parametrize("options", [["--rows", "1"], ["--rounds", "0"], ["--model", "/no/such/folder"]])
def test_wrong_options_end_in_one_line_and_exit_code_2(script, glue, capsys, options):
    assert script.main(["--task", "sst2", "--data-dir", str(glue), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
