"""Runs of several tasks in two processes, and runs that were killed: both end where a plain run does."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nlp_distill.checkpoints import find_last_checkpoint
from nlp_distill.evaluation import load_logits

# Two commands in one launch: the processes part after the second.
SCRIPT = """
import json, sys
from nlp_distill import processes
from nlp_distill.cli import main

leave = processes.leave_processes
processes.leave_processes = lambda: None
for command in json.loads(sys.argv[1]):
    assert main(command) == 0
leave()
"""
STEPS = 10  # an epoch of 80 rows in batches of 8


@pytest.fixture
def encoder(make_bert, tokenizer, tmp_path):
    """An encoder without dropout, whose masks are other ones in every process."""
    folder = tmp_path / "encoder"
    make_bert().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def two_tasks(suite_file, own_files):
    """A suite of films and words: 80 rows."""
    path = own_files / "two.toml"
    text = suite_file.read_text()
    path.write_text(text[: text.index("[pairs]")] + text[text.index("[words]") :])
    return path


@pytest.fixture
def list_command(two_tasks, encoder):
    def make(method, output, batch, *more):
        data = ["--suite", two_tasks, "--encoder", encoder, "--max-length", 32, "--output", output]
        training = ["--per-device-train-batch-size", batch, "--learning-rate", 1e-2, "--logging-steps", 1]
        return [str(part) for part in ["distill", method, *data, *training, *more]]

    return make


def test_two_processes_train_several_tasks_as_one_does(
    list_command, run_cli, launch_two_processes, encoder, tmp_path
):
    """BAM: batches of one task for teachers, mixed ones for the student. MT-DNN: a task a batch, averaged teachers."""
    (tmp_path / "run.py").write_text(SCRIPT)
    bam = ["--single-epochs", 2, "--num-train-epochs", 3]
    mt_dnn = ["--num-teachers", 2, "--dropouts", 0, "--no-fine-tuning", "--num-train-epochs", 2]
    methods = {"bam": bam, "mt-dnn": mt_dnn}
    for method, more in methods.items():
        assert run_cli(*list_command(method, tmp_path / "one" / method, 8, *more)) == 0
    commands = [list_command(method, tmp_path / "two" / method, 4, *more) for method, more in methods.items()]
    launch_two_processes(tmp_path / "run.py", json.dumps(commands))
    students = {"bam": "student-all-seed0", "mt-dnn": "student-seed0"}
    for method, student in students.items():
        one, two = (tmp_path / name / method / student for name in ("one", "two"))
        finished = [
            json.loads((folder / "stage_finished.json").read_text())["result"] for folder in (one, two)
        ]
        assert finished[0]["training"]["steps"] == finished[1]["training"]["steps"] > STEPS
        for name in ("films", "words"):
            found, expected = (load_logits(folder / f"logits_{name}.npz")["test"] for folder in (two, one))
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
        start = load_file(encoder / "model.safetensors")["bert.encoder.layer.1.output.dense.weight"]
        weights, expected = load_file(two / "model.safetensors"), load_file(one / "model.safetensors")
        moved = expected["trunk.encoder.encoder.layer.1.output.dense.weight"] - start
        assert moved.abs().mean() > 0.01  # ten times what the two may differ by
        for name in expected:
            if not name.endswith(
                "key.bias"
            ):  # softmax cancels it: its gradient is rounding, which Adam scales up
                torch.testing.assert_close(weights[name], expected[name], rtol=1e-3, atol=1e-3, msg=name)
        scores = [
            json.loads((tmp_path / n / method / "results.json").read_text())["averages"]
            for n in ("one", "two")
        ]
        assert scores[0].keys() == scores[1].keys()


def test_a_killed_run_of_several_tasks_continues_to_the_same_weights(
    list_command, run_cli, tmp_path, monkeypatch
):
    """SIGKILL in the middle of an epoch of the student's training on mixed batches."""
    options = ["--combination", "multi", "--num-train-epochs", 25, "--save-total-limit", 100]
    options += ["--eval-strategy", "steps", "--eval-steps", 7]
    assert run_cli(*list_command("bam", tmp_path / "whole", 8, *options)) == 0

    command = [sys.executable, "-m", "nlp_distill", *list_command("bam", tmp_path / "killed", 8, *options)]
    student = tmp_path / "killed" / "student-all-seed0"
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, env={**os.environ}, stdout=log, stderr=log)
    deadline = time.monotonic() + 300
    while len(list(student.glob("checkpoints/*/checkpoint_complete"))) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, f"it ended before it could be killed: {(tmp_path / 'log').read_text()}"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (student / "stage_finished.json").exists()

    resumed_from: list = []

    def find(folder):
        resumed_from.append(find_last_checkpoint(folder))
        return resumed_from[-1]

    monkeypatch.setattr("nlp_distill.training.find_last_checkpoint", find)
    assert run_cli(*list_command("bam", tmp_path / "killed", 8, *options)) == 0
    [checkpoint] = resumed_from
    assert int(checkpoint.rpartition("-")[2]) % STEPS, "it was killed between two epochs"
    whole = tmp_path / "whole" / "student-all-seed0"
    assert (student / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    runs = [json.loads((folder / "stage_finished.json").read_text())["result"] for folder in (student, whole)]
    assert runs[0]["training"]["steps"] == runs[1]["training"]["steps"] == 25 * STEPS
    assert runs[0]["training"]["history"] == runs[1]["training"]["history"]
