"""Interrupt small jobs, run each again with the same command, and count what was lost or came out differently.

    python scripts/soak.py --cycles 200

Every job (a transfer set, labelling, fine-tuning, an export, and each pipeline) runs once undisturbed. Then, again and
again, one of them is

  interrupted   at a random moment: SIGKILL of the process alone or with its workers, SIGTERM, or Ctrl-C;
  faulted       at one of its operations on files: a kill right before it, a full disk, or a refused permission;
  corrupted     when it is finished: a byte of one of its files is changed, or the file cut short, or removed

and the same command runs again until it is done. A try is lost where the job does not end well, where a file differs
from the undisturbed run's (times apart), where a finished stage was made again without need, where a damaged folder
passes for a finished one, or where the faulted command answers with anything but one line. Models are tiny and random,
and nothing is downloaded. Exit status 1 if anything was lost.
"""

import argparse
import errno
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # bits depend on the number of threads
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))
from soak_jobs import Job, list_jobs, list_preparations, make_inputs

from nlp_distill.manifest import find_damage
from nlp_distill.stages import FINISHED

# What differs between two runs of the same work: times, and the hashes of files that hold some.
VOLATILE = frozenset(
    (
        "seconds",
        "timings_s",
        "wall_time_s",
        "speed",
        "other_rates_s",
        "eval_runtime",
        "date",
        "sha256",
        "bytes",
    )
)
UNCOMPARED = frozenset({".md", ".html", ".log"})  # pages with times in them
INTERRUPTIONS = ("SIGKILL", "SIGKILL of all", "SIGTERM", "Ctrl-C")
FAULTS = ("kill at a file operation", "disk full", "permission denied")
CORRUPTIONS = ("a changed byte", "a file cut short", "a file removed")
FILE_EVENTS = frozenset(
    {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
)
LONGEST = 300.0  # seconds after which a job counts as hanging


@dataclass
class Ledger:
    """Tries by kind of fault, and what went wrong in them."""

    tries: Counter = field(default_factory=Counter)
    untouched: Counter = field(default_factory=Counter)  # the job was done before the fault came
    losses: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


# ---- processes ------------------------------------------------------------------------------------------------------


def start(job: Job, folder: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Run a job in a forked process, which has everything imported, and return its number.

    Args:
        job: the job.
        folder: where it works; its messages go to ``log`` there.
        prepare: called in the new process before the job.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(folder)
        if job.name in ("augment", "label"):
            os.makedirs("out", exist_ok=True)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        prepare()
        arguments = list(job.arguments)
        if job.name == "augment" and Path("out/transfer.parquet").exists():
            arguments.append("--overwrite")  # it is no stage: a finished output is refused otherwise
        code = job.run(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(process: int) -> int:
    """The exit code; minus the signal's number where one ended the process."""
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -signal.SIGALRM  # it hung


def read_log(folder: Path) -> str:
    return (folder / "log").read_text(encoding="utf-8", errors="replace")


def fail_at(number: int, kind: str) -> Callable[[], None]:
    """What lets a process meet a fault at its n-th operation on a file below its folder."""

    def prepare() -> None:
        root, main, count = os.getcwd() + os.sep, os.getpid(), 0

        def watch(event: str, arguments: tuple) -> None:
            nonlocal count
            if event not in FILE_EVENTS or os.getpid() != main or not _writes(event, arguments, root):
                return
            count += 1
            if count != number:
                return
            if kind == FAULTS[0]:
                os.kill(main, signal.SIGKILL)
            code = errno.ENOSPC if kind == FAULTS[1] else errno.EACCES
            raise OSError(code, os.strerror(code), str(arguments[0]))

        sys.addaudithook(watch)

    return prepare


def count_operations(job: Job, folder: Path) -> int:
    """How many operations on files a job makes."""

    def prepare() -> None:
        root, main = os.getcwd() + os.sep, os.getpid()
        counter = os.open("../operations", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

        def watch(event: str, arguments: tuple) -> None:
            if event in FILE_EVENTS and os.getpid() == main and _writes(event, arguments, root):
                os.write(counter, b".")

        sys.addaudithook(watch)

    if wait(start(job, folder, prepare)) != 0:
        raise RuntimeError(f"{job.name} failed undisturbed: {read_log(folder)}")
    return (folder.parent / "operations").stat().st_size


def _writes(event: str, arguments: tuple, root: str) -> bool:
    path = arguments[0]
    if not isinstance(path, (str, bytes, os.PathLike)):
        return False
    inside = os.path.abspath(os.fsdecode(path)).startswith(root + "out")
    if event != "open":
        return inside
    flags = arguments[2] if isinstance(arguments[2], int) else 0
    return inside and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


# ---- comparison -----------------------------------------------------------------------------------------------------


def describe_output(folder: Path) -> dict[str, Any]:
    """What a job made: bytes of every file, JSON without its times."""
    described: dict[str, Any] = {}
    for path in sorted(
        path for path in folder.rglob("*") if path.is_file() and path.suffix not in UNCOMPARED
    ):
        name = path.relative_to(folder).as_posix()
        described[name] = drop_times(read_json(path)) if path.suffix == ".json" else path.read_bytes()
    return described


def read_json(path: Path) -> Any:
    """The content of a JSON file; its bytes where it is damaged."""
    content = path.read_bytes()
    try:
        return json.loads(content)
    except ValueError:
        return content


def drop_times(content: Any) -> Any:
    """JSON without what differs from run to run."""
    if isinstance(content, Mapping):
        kept = {key: drop_times(value) for key, value in content.items() if key not in VOLATILE}
        return {
            key: value
            for key, value in kept.items()
            if not (isinstance(key, str) and key.endswith("_per_second"))
        }
    return [drop_times(value) for value in content] if isinstance(content, list) else content


def find_difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first file that is missing, too many or other; "" if none."""
    for name in sorted(found.keys() | wanted.keys()):
        if name not in found or name not in wanted:
            return f"{name} is {'missing' if name in wanted else 'left over'}"
        if found[name] != wanted[name]:
            return f"{name} differs"
    return ""


def list_finished(folder: Path) -> dict[Path, int]:
    """Finished stages whose files are whole, with the time of their mark."""
    marks = {}
    for mark in folder.rglob(FINISHED):
        content = read_json(mark)
        if isinstance(content, dict) and not find_damage(mark.parent, content.get("files", {})):
            marks[mark] = mark.stat().st_mtime_ns
    return marks


# ---- the tries ------------------------------------------------------------------------------------------------------


class Soak:
    """Undisturbed runs, made once a job, and the tries against them.

    Args:
        folder: where everything happens.
        jobs: the jobs.
        source: of all chance.
    """

    def __init__(self, folder: Path, jobs: Sequence[Job], source: random.Random):
        self.folder, self.jobs, self.source = folder, list(jobs), source
        self.ledger = Ledger()
        self.references: dict[str, tuple[dict[str, Any], float, int]] = {}
        self.number = 0

    def get_reference(self, job: Job) -> tuple[dict[str, Any], float, int]:
        """Output, seconds and file operations of the undisturbed job."""
        if job.name not in self.references:
            folder = self._make_folder(f"reference-{job.name}")
            began = time.monotonic()
            operations = count_operations(job, folder)
            self.references[job.name] = describe_output(folder / "out"), time.monotonic() - began, operations
        return self.references[job.name]

    def interrupt(self, kind: str) -> None:
        """Stop a job at a random moment, then let it finish."""
        job = self._choose()
        described, seconds, operations = self.get_reference(job)
        folder = self._make_folder()
        began, process = time.monotonic(), start(job, folder)
        self._sleep(process, self.source.uniform(0, seconds * 1.05))
        number = {"SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}.get(kind, signal.SIGKILL)
        with suppress(ProcessLookupError):
            (os.killpg if kind == INTERRUPTIONS[1] else os.kill)(process, number)
        code = wait(process)
        if code == 0:  # the machine was busier when the undisturbed job was timed: aim earlier from now on
            self.ledger.untouched[kind] += 1
            self.references[job.name] = described, min(seconds, time.monotonic() - began), operations
        stopped = {signal.SIGTERM: (-number, 128 + number), signal.SIGINT: (-number, 128 + number)}
        problem = (
            ""
            if code in (0, *stopped.get(number, (-number,)))
            else f"exit code {code}: {read_log(folder)[-300:]}"
        )
        self._finish(kind, job, folder, problem)

    def fault(self, kind: str) -> None:
        """Let one of a job's operations on files fail, then let it finish."""
        job = self._choose()
        operations = self.get_reference(job)[2]
        folder = self._make_folder()
        code = wait(start(job, folder, fail_at(self.source.randint(1, operations), kind)))
        problem = ""
        if kind == FAULTS[0]:
            problem = "" if code in (0, -signal.SIGKILL) else f"exit code {code}"
        elif code not in (0, 1, 2) or "Traceback" in read_log(folder):
            problem = f"exit code {code}: {read_log(folder)[-300:]}"
        if code == 0:
            self.ledger.untouched[kind] += 1
        self._finish(kind, job, folder, problem)

    def corrupt(self, kind: str) -> None:
        """Damage one file of a finished job, then run it again: it makes the file again, or refuses it in one line."""
        job = self._choose()
        self.get_reference(job)
        folder = self._make_folder()
        shutil.copytree(self.folder / f"reference-{job.name}" / "out", folder / "out")
        files = sorted(path for path in (folder / "out").rglob("*") if path.is_file() and path.stat().st_size)
        path = self.source.choice(files)
        damage(path, kind, self.source)
        self._finish(kind, job, folder, "", f"{path.relative_to(folder)}", may_refuse=True)

    def _finish(
        self, kind: str, job: Job, folder: Path, problem: str, what: str = "", may_refuse: bool = False
    ) -> None:
        """Run a job to its end and compare."""
        self.ledger.tries[kind] += 1
        finished = list_finished(folder / "out")
        code = wait(start(job, folder))
        log = read_log(folder)
        if not problem and may_refuse and code == 2 and "Traceback" not in log and log.count("error:") == 1:
            shutil.rmtree(folder)
            return
        if not problem and code != 0:
            problem = f"the second run ended with {code}: {log[-300:]}"
        if not problem:
            problem = find_difference(describe_output(folder / "out"), self.get_reference(job)[0])
        kept = self.get_reference(job)[0]  # what is dropped when a job is done cannot be asked for its time
        again = [
            mark
            for mark, made in finished.items()
            if mark.relative_to(folder / "out").as_posix() in kept
            and (not mark.exists() or mark.stat().st_mtime_ns != made)
        ]
        if not problem and again:
            problem = f"{again[0].relative_to(folder)} was finished and made again"
        if problem:
            self.ledger.losses[kind].append(f"{job.name} {what} in {folder.name}: {problem}")
            tqdm.write(f"{kind}: {self.ledger.losses[kind][-1]}", file=sys.stderr)
        else:
            shutil.rmtree(folder)

    def _choose(self) -> Job:
        self.number += 1
        return self.jobs[(self.number - 1) % len(self.jobs)]

    def _make_folder(self, name: str | None = None) -> Path:
        folder = self.folder / (name or f"try-{self.number}")
        folder.mkdir()
        return folder

    @staticmethod
    def _sleep(process: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
            time.sleep(0.002)


def damage(path: Path, kind: str, source: random.Random) -> None:
    """Change a byte of a file, cut it short, or remove it."""
    content = bytearray(path.read_bytes())
    if kind == CORRUPTIONS[2]:
        path.unlink()
        return
    place = source.randrange(len(content))
    if kind == CORRUPTIONS[0]:
        content[place] ^= source.randint(1, 255)
    path.write_bytes(content if kind == CORRUPTIONS[0] else content[:place])


def render(ledger: Ledger) -> str:
    """The table of all tries."""
    lines = ["| fault | tries | of them after the end | lost or wrong |", "|---|---:|---:|---:|"]
    for kind in (*INTERRUPTIONS, *FAULTS, *CORRUPTIONS):
        if ledger.tries[kind]:
            late = ledger.untouched[kind]
            lines.append(f"| {kind} | {ledger.tries[kind]} | {late} | {len(ledger.losses[kind])} |")
    lost = sum(map(len, ledger.losses.values()))
    total, late = sum(ledger.tries.values()), sum(ledger.untouched.values())
    return "\n".join([*lines, f"| **all** | **{total}** | **{late}** | **{lost}** |"])


def run_tries(soak: Soak, tries: Sequence[tuple], amounts: Sequence[int]) -> None:
    """So many tries of each kind, in turns, so that those so far are always a fair sample."""
    rounds = [
        (number / amount, attempt, kinds[number % len(kinds)])
        for (attempt, kinds), amount in zip(tries, amounts, strict=True)
        for number in range(amount)
    ]
    with tqdm(total=len(rounds), unit="try") as progress:
        for _, attempt, kind in sorted(rounds, key=lambda one: one[0]):
            attempt(kind)
            progress.update()
            progress.set_postfix(lost=sum(map(len, soak.ledger.losses.values())))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--cycles", type=int, default=200, metavar="N", help="interruptions (%(default)s)")
    parser.add_argument(
        "--faults", type=int, metavar="N", help="failing file operations (a quarter of the cycles)"
    )
    parser.add_argument(
        "--corruptions", type=int, metavar="N", help="damaged files (a quarter of the cycles)"
    )
    parser.add_argument("--jobs", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work-dir", metavar="DIR", help="kept, with what went wrong in it (a temporary folder)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the counts there too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tries, print the table; 1 if anything was lost, 2 for wrong input."""
    options = parse_arguments(arguments)
    quarter = max(options.cycles // 4, 0)
    amounts = [options.cycles, *(quarter if n is None else n for n in (options.faults, options.corruptions))]
    if min(amounts) < 0:
        print(f"error: tries are {amounts}; give 0 or more", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    folder = Path(options.work_dir or tempfile.mkdtemp(prefix="soak.")).resolve()
    if folder.exists() and any(folder.iterdir()):
        print(f"error: --work-dir {folder} holds something; give a new folder", file=sys.stderr)
        return 2
    make_inputs(folder / "inputs")
    for job in list_preparations():
        if wait(start(job, folder / "inputs")) != 0:
            raise RuntimeError(f"{job.name} failed: {read_log(folder / 'inputs')}")
    jobs = list_jobs()
    if unknown := set(options.jobs or ()) - {job.name for job in jobs}:
        print(
            f"error: unknown job {unknown.pop()}; give any of {' '.join(job.name for job in jobs)}",
            file=sys.stderr,
        )
        return 2
    source = random.Random(options.seed)
    soak = Soak(folder, [job for job in jobs if not options.jobs or job.name in options.jobs], source)
    source.shuffle(soak.jobs)
    tries = [(soak.interrupt, INTERRUPTIONS), (soak.fault, FAULTS), (soak.corrupt, CORRUPTIONS)]
    try:
        run_tries(soak, tries, amounts)
    except KeyboardInterrupt:
        print("\nstopped; the tries so far:", file=sys.stderr)
    print(render(soak.ledger))
    lost = [f"{kind}: {loss}" for kind, losses in soak.ledger.losses.items() for loss in losses]
    for loss in lost:
        print(loss)
    if options.json:
        counts = {
            kind: {"tries": n, "lost": len(soak.ledger.losses[kind])} for kind, n in soak.ledger.tries.items()
        }
        Path(options.json).write_text(json.dumps({"seed": options.seed, "faults": counts}, indent=2) + "\n")
    if not options.work_dir:
        shutil.rmtree(folder)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
