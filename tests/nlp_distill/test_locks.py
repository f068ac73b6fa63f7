"""One process a folder: another is refused while it is at work, and none is once it has ended, however it ended."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_augment.errors import InputError
from nlp_distill.locks import LOCK, hold_folder
from nlp_distill.stages import run_stage

HOLD = """
import os, sys, time
from pathlib import Path
from nlp_distill.locks import hold_folder
with hold_folder(Path(sys.argv[1])):
    if sys.argv[2] == "with a child":
        if os.fork() == 0:
            print("child", os.getpid(), flush=True)
            time.sleep(60)
            os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold():
    """``hold(folder, mode)``: another process that holds a folder; it is ended after the test."""
    processes = []

    def start(folder: Path, mode: str = "alone") -> subprocess.Popen:
        command = [sys.executable, "-c", HOLD, str(folder), mode]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        processes.append(process)
        for _ in range(2 if mode == "with a child" else 1):
            assert process.stdout.readline()
        return process

    yield start
    for process in processes:
        try:
            import os

            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        process.stdout.close()


def test_a_second_process_is_refused_and_the_first_one_s_work_untouched(hold, tmp_path: Path) -> None:
    process = hold(tmp_path)
    with pytest.raises(InputError, match=f"another process is at work in {tmp_path}; wait"):
        run_stage("work", tmp_path, {"seed": 0}, lambda folder: pytest.fail("it was built"))
    assert process.poll() is None and [path.name for path in tmp_path.iterdir()] == [LOCK]


@pytest.mark.parametrize("mode", ["alone", "with a child"])
def test_a_killed_process_holds_nothing_even_where_its_children_live_on(
    hold, tmp_path: Path, mode: str
) -> None:
    process = hold(tmp_path, mode)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / LOCK).exists()
    assert run_stage("work", tmp_path, {"seed": 0}, lambda folder: {"made": True}) == {"made": True}
    assert not (tmp_path / LOCK).exists()


def test_a_folder_is_free_after_the_block_and_after_an_error_in_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), hold_folder(tmp_path):
        raise RuntimeError
    with hold_folder(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_worked_on_without(tmp_path: Path, monkeypatch) -> None:
    import fcntl

    def refuse(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with hold_folder(tmp_path):
        pass
