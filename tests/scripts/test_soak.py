"""The soak finds nothing lost in our jobs, and finds what is lost in jobs that are careless."""

import importlib.util
import json
import random
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "soak.py"


@pytest.fixture(scope="module")
def soak():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["soak"]


def test_a_short_soak_of_the_real_jobs_loses_nothing(soak, tmp_path, capsys):
    options = ["--cycles", "4", "--faults", "3", "--corruptions", "3", "--jobs", "bilstm", "augment"]
    assert soak.main([*options, "--seed", "3", "--json", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    assert "| **all** | **10** |" in printed
    counts = json.loads((tmp_path / "out.json").read_text())["faults"]
    assert set(counts) == {*soak.INTERRUPTIONS, *soak.FAULTS, *soak.CORRUPTIONS}
    assert all(count == {"tries": 1, "lost": 0} for count in counts.values())


def write_carelessly(arguments):
    """Half of the file appears under its final name first, and is believed to be whole ever after."""
    path = Path("out/weights")
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_text("half")
        time.sleep(0.4)
        path.write_text("half and half")
    return 0


def write_with_chance(arguments):
    Path("out").mkdir(exist_ok=True)
    Path("out/weights").write_text(str(random.SystemRandom().random()))
    return 0


@pytest.fixture
def make_soak(soak, tmp_path):
    def make(run):
        return soak.Soak(tmp_path, [soak.Job("careless", run, ())], random.Random(0))

    return make


def test_half_a_file_that_passes_for_a_whole_one_is_found(soak, make_soak):
    runs = make_soak(write_carelessly)
    for _ in range(4):
        runs.interrupt("SIGKILL")
    lost = runs.ledger.losses["SIGKILL"]
    assert lost and "weights differs" in lost[0] and runs.ledger.tries["SIGKILL"] == 4


def test_a_failing_operation_that_is_answered_with_a_traceback_is_found(soak, make_soak):
    runs = make_soak(write_carelessly)
    runs.fault("disk full")
    assert "No space left on device" in runs.ledger.losses["disk full"][0]


@pytest.mark.parametrize("kind", ["a changed byte", "a file cut short"])
def test_a_damaged_file_that_is_believed_is_found(soak, make_soak, kind):
    runs = make_soak(write_carelessly)
    runs.corrupt(kind)
    assert "out/weights" in runs.ledger.losses[kind][0]
    assert f"| {kind} | 1 | 0 | 1 |" in soak.render(runs.ledger)


def test_results_that_chance_decides_are_found(soak, make_soak):
    runs = make_soak(write_with_chance)
    runs.corrupt("a file removed")
    assert "weights differs" in runs.ledger.losses["a file removed"][0]


def test_times_are_no_difference(soak):
    left = {"results.json": soak.drop_times({"score": 0.5, "timings_s": {"student": 1.0}})}
    right = {"results.json": soak.drop_times({"score": 0.5, "timings_s": {"student": 2.0}})}
    assert soak.find_difference(left, right) == ""
    right["results.json"]["score"] = 0.6
    assert soak.find_difference(left, right) == "results.json differs"
    assert soak.find_difference(left, {}) == "results.json is left over"
    assert soak.find_difference({}, left) == "results.json is missing"


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--cycles", "-1"], "give 0 or more"), (["--jobs", "moon", "--cycles", "0"], "unknown job moon")],
)
def test_wrong_input_is_one_line(soak, capsys, options, message):
    assert soak.main(options) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
