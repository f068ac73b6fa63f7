"""Signals and full disks: what was done is kept, the message says how to go on, and nothing differs."""

import itertools
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from nlp_distill.checkpoints import find_last_checkpoint
from nlp_distill.interrupts import checkpoint_on_signals
from nlp_distill.trainer import DistillationTrainer

OPTIONS = ["--num-train-epochs", 2, "--per-device-train-batch-size", 8]  # 40 rows: 5 steps an epoch


@pytest.fixture
def raise_at_step(monkeypatch):
    """``raise_at_step(n, act)`` calls ``act`` in the n-th training step from now on."""

    def prepare(number, act):
        original, count = DistillationTrainer.training_step, 0

        def step(self, *arguments, **named):
            nonlocal count
            count += 1
            if count == number:
                act()
            return original(self, *arguments, **named)

        monkeypatch.setattr(DistillationTrainer, "training_step", step)

    return prepare


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("step", [2, 5, 7, 10])  # 5 and 10 end epochs
def test_a_signal_saves_a_checkpoint_and_the_next_run_ends_as_if_there_was_none(
    fine_tune, raise_at_step, tmp_path: Path, capsys, monkeypatch, number, step
) -> None:
    assert fine_tune(tmp_path / "whole", *OPTIONS) == 0
    handlers = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]
    with monkeypatch.context():
        raise_at_step(step, lambda: os.kill(os.getpid(), number))
        assert fine_tune(tmp_path / "stopped", *OPTIONS) == 128 + number
        monkeypatch.undo()
    assert [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)] == handlers
    message = capsys.readouterr().err
    assert "stopping after this step" in message and "run the same command again to continue" in message
    last = find_last_checkpoint(tmp_path / "stopped" / "checkpoints")
    assert Path(last).name == f"checkpoint-{step}"
    assert fine_tune(tmp_path / "stopped", *OPTIONS) == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("stopped", "whole")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "stopped" / "checkpoints").exists()


def test_a_clock_that_jumps_changes_nothing(fine_tune, raise_at_step, tmp_path: Path, monkeypatch) -> None:
    """The clock is set back and forth by a day all the time, and the older checkpoints look the newer ones."""
    options = [*OPTIONS, "--save-strategy", "steps", "--save-steps", 2, "--eval-strategy", "steps"]
    options += ["--eval-steps", 2, "--save-total-limit", 3]
    assert fine_tune(tmp_path / "whole", *options) == 0
    real, calls = time.time, itertools.count()
    with monkeypatch.context():
        monkeypatch.setattr(time, "time", lambda: real() + (-1) ** next(calls) * 86_400 * (1 + next(calls)))
        raise_at_step(8, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert fine_tune(tmp_path / "jumps", *options) == 128 + signal.SIGTERM
        folders = sorted(
            (tmp_path / "jumps" / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name[11:])
        )
        assert len(folders) == 3 and folders[-1].name == "checkpoint-8"
        for age, folder in enumerate(folders):
            os.utime(folder, (2e9 - age, 2e9 - age))
        monkeypatch.undo()
    monkeypatch.setattr(time, "time", lambda: real() - 86_400 * (1 + next(calls)))
    assert fine_tune(tmp_path / "jumps", *options) == 0
    assert next(calls) > 4  # it was asked for
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("jumps", "whole")]
    assert weights[0] == weights[1]
    assert json.loads((tmp_path / "jumps" / "results.json").read_text())["timings_s"]["training"] > 0


def test_the_time_of_a_training_counts_what_came_before_the_interruption(
    fine_tune, raise_at_step, tmp_path: Path, monkeypatch
) -> None:
    passed, real = [0.0], time.perf_counter

    def take_long_and_stop():
        passed[0] = 1000.0
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context():
        monkeypatch.setattr(time, "perf_counter", lambda: real() + passed[0])
        raise_at_step(2, take_long_and_stop)
        assert fine_tune(tmp_path / "out", *OPTIONS) == 128 + signal.SIGTERM
        monkeypatch.undo()
    assert fine_tune(tmp_path / "out", *OPTIONS) == 0
    seconds = json.loads((tmp_path / "out" / "results.json").read_text())["timings_s"]["training"]
    assert 1000 < seconds < 1100


def test_one_of_several_processes_waits_for_no_step_that_the_others_do_not_take():
    """Each hears a signal at a step of its own: a checkpoint of one would wait for the others for ever."""
    alone, several = (SimpleNamespace(args=SimpleNamespace(world_size=size)) for size in (1, 2))
    alone.add_callback = alone.remove_callback = lambda callback: None
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with checkpoint_on_signals(several):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    with checkpoint_on_signals(alone):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != handlers


@pytest.fixture
def count_steps(monkeypatch):
    """A list that gets an entry for every training step from now on."""
    original, steps = DistillationTrainer.training_step, []

    def step(self, *arguments, **named):
        steps.append(self.state.global_step)
        return original(self, *arguments, **named)

    monkeypatch.setattr(DistillationTrainer, "training_step", step)
    return steps


def stop(*arguments, **named):
    raise KeyboardInterrupt


def read_results(folder: Path) -> tuple:
    """Steps, epochs and evaluations of a finished training, without times."""
    result = json.loads((folder / "stage_finished.json").read_text())["result"]
    history = [[entry[name] for name in ("step", "eval_score", "eval_loss")] for entry in result["history"]]
    return result["steps"], result["epochs"], result["validation_score"], history


def test_a_stop_in_the_scoring_of_a_student_costs_no_step_of_its_training(
    distill, count_steps, tmp_path: Path, monkeypatch
) -> None:
    assert distill(tmp_path / "whole") == 0
    needed = len(count_steps)
    with monkeypatch.context() as patch:
        patch.setattr("nlp_distill.pipelines.bilstm.predict_splits", stop)
        assert distill(tmp_path / "stopped") == 130
    assert distill(tmp_path / "stopped") == 0
    assert len(count_steps) == 2 * needed
    models = [sorted((tmp_path / name).glob("student*/model.safetensors")) for name in ("stopped", "whole")]
    assert len(models[0]) == 2
    for stopped, whole in zip(*models, strict=True):
        assert stopped.read_bytes() == whole.read_bytes()
        assert not (stopped.parent / "checkpoints").exists()


@pytest.mark.parametrize("length", [("--max-steps", 7), ("--num-train-epochs", 1.4)], ids=["steps", "epochs"])
def test_a_training_that_ends_within_an_epoch_takes_no_step_after_its_last(
    fine_tune, count_steps, tmp_path: Path, monkeypatch, length
) -> None:
    options = [*OPTIONS, *length, "--load-best-model-at-end", "false", "--lr-scheduler-type", "constant"]
    assert fine_tune(tmp_path / "whole", *options) == 0
    with monkeypatch.context() as patch:
        patch.setattr("nlp_distill.training._Clock.read", stop)  # when all checkpoints are written
        patch.setattr(
            "nlp_distill.training._Clock.state", lambda clock: {"args": {}, "attributes": {"seconds": 0}}
        )
        assert fine_tune(tmp_path / "stopped", *options) == 130
    assert fine_tune(tmp_path / "stopped", *options) == 0
    assert len(count_steps) == 14
    assert read_results(tmp_path / "stopped") == read_results(tmp_path / "whole")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("stopped", "whole")]
    assert weights[0] == weights[1]


def test_a_signal_in_the_last_step_of_all_waits_for_the_evaluation(
    fine_tune, raise_at_step, tmp_path: Path, monkeypatch
) -> None:
    options = [*OPTIONS, "--max-steps", 7]
    assert fine_tune(tmp_path / "whole", *options) == 0
    with monkeypatch.context():
        raise_at_step(7, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert fine_tune(tmp_path / "stopped", *options) == 128 + signal.SIGTERM
        monkeypatch.undo()
    assert fine_tune(tmp_path / "stopped", *options) == 0
    assert read_results(tmp_path / "stopped") == read_results(tmp_path / "whole")


def test_a_second_signal_stops_at_once(fine_tune, raise_at_step, tmp_path: Path) -> None:
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    raise_at_step(2, twice)
    assert fine_tune(tmp_path / "stopped", *OPTIONS) == 130
    assert find_last_checkpoint(tmp_path / "stopped" / "checkpoints") is None


@pytest.fixture
def small_disk(tmp_path: Path):
    """A folder on a file system of its own, of 600 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    try:
        made = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("mounting a small file system needs a right that this user has not")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_earlier_work_continues_once_there_is_room(
    distill, small_disk: Path, capsys
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"0" * 500_000)
    output = small_disk / "run"
    assert distill(output) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error and "No space left" in error.strip().splitlines()[-1]
    kept = [folder.name for folder in output.iterdir() if (folder / "stage_finished.json").exists()]
    assert kept  # the stages before the one that had no room
    filler.unlink()
    assert distill(output) == 0
    assert capsys.readouterr().err.count("reusing") == len(kept)
