"""Worker processes that are killed, fail or lose their parent: nothing hangs or stays, and nothing is half written."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from data_augment.workers import WorkerDied, Workers

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")


# What workers compute is of the standard library: a spawned process cannot import a test's own module by its name.


def test_every_item_is_answered_and_an_error_is_its_own() -> None:
    with Workers(2, partial, (divmod, 12)) as workers:
        futures = [workers.submit(item) for item in (1, 2, 0, 3, 4, 6)]
        with pytest.raises(ZeroDivisionError):
            futures[2].result()
        assert [future.result()[0] for future in (*futures[:2], *futures[3:])] == [12, 6, 4, 3, 2]


def test_the_death_of_a_worker_is_told_with_the_signal() -> None:
    with Workers(1, partial, (signal.raise_signal,)) as workers:
        assert workers.submit(int(signal.SIGCHLD)).result(timeout=60) is None  # which is ignored
        with pytest.raises(WorkerDied, match="a worker process was killed by SIGKILL") as died:
            workers.submit(int(signal.SIGKILL)).result(timeout=60)
        assert died.value.was_killed
        with pytest.raises(WorkerDied):  # nobody is left to ask
            workers.submit(int(signal.SIGCHLD)).result(timeout=60)


def list_workers(parent: int) -> list[int]:
    """Process numbers of the running workers of a process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            is_worker = b"spawn_main" in (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if is_worker and fields[0] != "Z" and int(fields[1]) == parent:
            found.append(int(folder.name))
    return found


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Enough for several blocks, the variants of which no pipe holds."""
    draw = random.Random(0)
    texts = [" ".join(f"w{draw.randrange(2000)}" for _ in range(20)) for _ in range(6000)]
    path = tmp_path / "in.tsv"
    path.write_text("sentence\n" + "".join(f"{text}\n" for text in texts))
    return path


def start(rows: Path, output: str, workers: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "data_augment", "--input", str(rows), "--n-iter", "10"]
    command += [
        "--output",
        str(rows.parent / output),
        "--pos-tagger",
        "textblob",
        "--num-workers",
        str(workers),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_writing(process: subprocess.Popen, folder: Path) -> None:
    """Until the first variants have come, so that the workers are at work."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if any(path.stat().st_size for path in folder.glob(".*.tmp")):
            return
        time.sleep(0.005)
    raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize("killed", ["one", "all"])
def test_killed_workers_end_the_command_in_one_line_and_it_can_be_run_again(rows: Path, killed: str) -> None:
    process = start(rows, "out.jsonl", 2)
    wait_for_writing(process, rows.parent)
    workers = list_workers(process.pid)
    process.send_signal(signal.SIGSTOP)  # nobody reads what they write now: they stand in the middle of it
    time.sleep(2)
    for worker in workers if killed == "all" else workers[:1]:
        os.kill(worker, signal.SIGKILL)
    process.send_signal(signal.SIGCONT)
    try:
        error = process.communicate(timeout=60)[1].decode()
    finally:
        for worker in {process.pid, *list_workers(process.pid)} if process.poll() is None else ():
            os.kill(worker, signal.SIGKILL)
    assert process.returncode == 2 and "Traceback" not in error
    last = error.strip().splitlines()[-1]
    assert last.startswith("error: a worker process was killed by SIGKILL, perhaps for lack of memory;")
    assert "nothing was written. Run it again, with fewer workers" in last
    assert os.listdir(rows.parent) == ["in.tsv"]
    if killed == "all":
        return
    outputs = []
    for workers_again in (1, 2):
        again = start(rows, f"out{workers_again}.jsonl", workers_again)
        again.communicate(timeout=120)
        assert again.returncode == 0
        outputs.append((rows.parent / f"out{workers_again}.jsonl").read_bytes())
    assert outputs[0] == outputs[1]


def test_workers_end_when_their_parent_is_killed(rows: Path) -> None:
    process = start(rows, "out.jsonl", 2)
    wait_for_writing(process, rows.parent)
    workers = list_workers(process.pid)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while any(is_running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(worker) for worker in workers)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
