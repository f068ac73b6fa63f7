"""Files appear whole or not at all, and what a killed writer left goes with the next."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_augment.atomic import open_atomically

WRITE = """
import sys, time
from data_augment.atomic import open_atomically
with open_atomically(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path: Path):
    """Another process in the middle of writing ``out``."""
    command = [sys.executable, "-c", WRITE, str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    with open_atomically(tmp_path / "out") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out").read_text() == "whole" and list_names(tmp_path) == ["out"]


def test_an_error_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("earlier")
    with pytest.raises(KeyboardInterrupt), open_atomically(tmp_path / "out") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "out").read_text() == "earlier" and list_names(tmp_path) == ["out"]


def test_what_a_killed_writer_left_is_removed_by_the_next_one(writer, tmp_path: Path) -> None:
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert [name for name in list_names(tmp_path) if name.endswith(".tmp")] and "out" not in list_names(
        tmp_path
    )
    with open_atomically(tmp_path / "out") as temporary:
        temporary.write_text("whole")
    assert list_names(tmp_path) == ["out"]


def test_what_another_process_is_writing_is_left_alone(writer, tmp_path: Path) -> None:
    (being_written,) = list_names(tmp_path)
    with open_atomically(tmp_path / "out") as temporary:
        temporary.write_text("ours")
    assert list_names(tmp_path) == [being_written, "out"]
    assert os.stat(tmp_path / being_written).st_size == len("half")
