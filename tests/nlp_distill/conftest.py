"""A task of our own in files, a teacher of it, and the command line as tests call it."""

import csv
import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

GOOD, BAD, NEUTRAL = (
    ["good", "great", "fine"],
    ["bad", "dull", "never"],
    ["film", "movie", "plot", "story", "it", "was"],
)
SIZES = {"train": 40, "validation": 10, "test": 12, "unlabelled": 15}
MAX_LENGTH = ["--max-length", "32"]


@pytest.fixture(scope="session")
def own_files(tmp_path_factory):
    """Folder with train.csv, validation.csv, test.csv (text, second, label, score) and unlabelled.csv (texts alone).

    Each text holds a word of its split, a number of neutral words, and one that decides the label; the score counts
    the words.
    """
    folder, source = tmp_path_factory.mktemp("own"), random.Random(0)
    for split, size in SIZES.items():
        rows, seen = [], set()
        while len(rows) < size:
            label = ("negative", "positive")[len(rows) % 2]
            words = [f"{split}word", *source.choices(NEUTRAL, k=source.randint(2, 7))]
            words.insert(source.randint(0, len(words)), source.choice(GOOD if label == "positive" else BAD))
            text = " ".join(words)
            if text not in seen:
                seen.add(text)
                second = " ".join(source.choices(NEUTRAL, k=4))
                rows.append([text, second, label, len(words) + 0.5])
        columns = ["text", "second"] if split == "unlabelled" else ["text", "second", "label", "score"]
        with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(row[: len(columns)] for row in rows)
    return folder


@pytest.fixture(scope="session")
def data_options(own_files):
    """The options that name the task in ``own_files``, its unlabelled rows left out."""
    options = ["--task", "mine", "--text-column", "text"]
    for split in ("train", "validation", "test"):
        options += [f"--{split}-file", str(own_files / f"{split}.csv")]
    return options


@pytest.fixture(scope="session")
def suite_file(own_files):
    """Three tasks of those files: films (classes), pairs (classes of two texts) and words (values of two texts)."""
    columns = {
        "films": {"label_column": "label"},
        "pairs": {"text_pair_column": "second"},
        "words": {"text_pair_column": "second", "label_column": "score"},
    }
    lines = []
    for name, more in columns.items():
        files = {f"{split}_file": f"{split}.csv" for split in ("train", "validation", "test")}
        lines += [f"[{name}]", *(f'{k} = "{v}"' for k, v in {**files, "text_column": "text", **more}.items())]
    path = own_files / "suite.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def start_two_processes():
    """``start_two_processes(script, *arguments)``: a Python script in two processes that ``accelerate`` starts.

    ``accelerate launch --cpu --num_processes 2`` needs an MPI launcher for its second process and quietly starts one
    without it; ``--multi_gpu`` starts both, on the processor (gloo) where the training arguments say ``use_cpu``.
    """

    def start(script, *arguments):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", 0))
            except OSError as error:
                pytest.skip(f"two processes cannot talk to each other here: {error}")
            port = probe.getsockname()[1]
        command = [
            *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
            *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
            *("--main_process_port", str(port), str(script), *map(str, arguments)),
        ]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "ACCELERATE_USE_CPU": "true",
            "CUDA_VISIBLE_DEVICES": "",
        }
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)

    return start


@pytest.fixture(scope="session")
def list_processes():
    """``list_processes(script)``: the running processes of a script, which the launcher gives sessions of their own."""

    def list_them(script):
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended
                is_running = (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                if is_running and str(script).encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    return list_them


@pytest.fixture(scope="session")
def launch_two_processes(start_two_processes, list_processes):
    """``launch_two_processes(script, *arguments)``: the same, to its end."""

    def launch(script, *arguments):
        launched = start_two_processes(script, *arguments)
        try:
            error = launched.communicate(timeout=500)[1]
        except BaseException:
            for process in list_processes(script):
                os.kill(process, signal.SIGKILL)
            raise
        assert launched.returncode == 0, error[-3000:]

    return launch


@pytest.fixture(scope="session")
def run_cli():
    """``run_cli("label", "--output", path, ...)`` runs the command in this process and returns the exit code."""
    from nlp_distill.cli import main

    return lambda *arguments: main([str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def fine_tune(run_cli, encoder_folder, data_options):
    """``fine_tune(output, *more)``: the tiny encoder, fine-tuned on the task for an epoch."""

    def run(output, *more):
        training = ["--num-train-epochs", 1, "--learning-rate", "1e-2", *MAX_LENGTH]
        return run_cli(
            "finetune", "--model", encoder_folder, "--output", output, *data_options, *training, *more
        )

    return run


@pytest.fixture(scope="session")
def teacher_folder(fine_tune, tmp_path_factory):
    """A fine-tuned teacher of the task."""
    folder = tmp_path_factory.mktemp("models") / "teacher"
    assert fine_tune(folder) == 0
    return folder


@pytest.fixture(scope="session")
def distill_arguments(data_options, teacher_folder):
    """``distill_arguments(output, *more)``: a tiny BiLSTM from the teacher in an epoch; later options win.

    ``kind="cnn"`` makes it a CNN.
    """

    def list_arguments(output, *more, teacher=teacher_folder, data=data_options, kind="bilstm"):
        sizes = {"bilstm": ["--hidden-size", 6, "--head-size", 5], "cnn": ["--filters", 4, "--widths", 2, 3]}
        student = [*sizes[kind], "--n-iter", 1]
        student += [] if "--glove-file" in more else ["--embedding-size", 8]
        training = ["--num-train-epochs", 1, *MAX_LENGTH, "--pos-tagger", "textblob"]
        options = [*data, "--teacher", teacher, "--output", output, *student, *training, *more]
        return ["distill", kind, *map(str, options)]

    return list_arguments


@pytest.fixture(scope="session")
def distill(run_cli, distill_arguments):
    """``distill(output, *more)`` runs the command of ``distill_arguments`` and returns the exit code."""
    return lambda *given, **named: run_cli(*distill_arguments(*given, **named))


class FakeHub:
    """Stands for the hub's client; ``uploads`` holds repository and {file: content} of every commit."""

    def __init__(self):
        self.created, self.uploads, self.refuses, self.asked = [], [], None, 0

    def HfApi(self, *arguments, **named):
        assert not arguments and not named  # no token is handed around
        return self

    def whoami(self):
        import huggingface_hub

        self.asked += 1
        if self.refuses == "login":
            raise huggingface_hub.errors.LocalTokenNotFoundError(
                "Token is required, but no token found.\nmore"
            )
        return {"name": "me"}

    def create_repo(self, repo_id, *, private=None, exist_ok=False):
        assert exist_ok
        import huggingface_hub

        self.created.append((repo_id, private))
        full = repo_id if "/" in repo_id else f"me/{repo_id}"
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{full}")

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
        from huggingface_hub.utils import filter_repo_objects

        if self.refuses == "upload":
            raise ConnectionError("the line is dead")
        folder = Path(folder_path)
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        sent = sorted(filter_repo_objects(files, allow_patterns=allow_patterns))
        self.uploads.append((repo_id, {name: (folder / name).read_bytes() for name in sent}))


@pytest.fixture
def fake_hub(monkeypatch):
    """A hub that answers and keeps what it is sent; the network is not touched."""
    import huggingface_hub

    from nlp_distill import hub

    fake = FakeHub()
    monkeypatch.setattr(huggingface_hub, "HfApi", fake.HfApi)
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: True)
    return fake
