"""Two processes train as one does on the same rows: the objective's parameters, the logs and a resume included."""

import json
import os
import runpy
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nlp_distill.encoding import encode_rows

# Run as a script by each of the two processes, and as a module by the test for the one-process run.
SCRIPT = '''
import json, sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainingArguments

from nlp_distill.objectives import HardLabels, Objective
from nlp_distill.processes import leave_processes
from nlp_distill.trainer import DistillationTrainer


class Projection(Objective):
    needs = frozenset({"hidden_states"})

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.projection = nn.Linear(16, 24)

    def forward(self, student_outputs, teacher_outputs, batch, progress):
        student, teacher = student_outputs.hidden_states[-1][:, 0], teacher_outputs.hidden_states[-1][:, 0]
        return {"projection": (self.projection(student) - teacher).square().mean()}


def train(folder, name, batch_size, accumulation, student="student", resume_from=None):
    """Weights of student and objective go to ``<name>.safetensors``, all else to ``<name>.json``."""
    rows = torch.load(folder / "rows.pt", weights_only=False)
    trainer = DistillationTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(folder / student),
        teacher=AutoModelForSequenceClassification.from_pretrained(folder / "teacher"),
        objective=Projection() + HardLabels(),
        args=TrainingArguments(
            str(folder / name), num_train_epochs=2, per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation, per_device_eval_batch_size=3, optim="sgd", learning_rate=0.1,
            max_grad_norm=0.5, train_sampling_strategy="group_by_length", logging_steps=2, save_strategy="steps",
            save_steps=4, report_to="none", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
        ),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(folder / "student"),
        compute_metrics=lambda prediction: {},
    )
    trainer.train(resume_from_checkpoint=resume_from)
    predictions = trainer.predict(rows).predictions
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(state, folder / f"{name}.safetensors")
        found = {
            "processes": trainer.args.world_size,
            "steps": trainer.state.global_step,
            "logs": [entry for entry in trainer.state.log_history if "loss" in entry],
            "predictions": predictions.tolist(),
        }
        (folder / f"{name}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    train(folder, "two", 2, 1)
    train(folder, "two_resumed", 2, 1, "other_student", str(folder / "two" / "checkpoint-8"))
    train(folder, "two_accumulated", 1, 2)
    leave_processes()
'''


@pytest.fixture
def folder(tmp_path, make_bert, make_rows, tokenizer):
    make_bert().save_pretrained(tmp_path / "student")
    make_bert(seed=3).save_pretrained(tmp_path / "other_student")
    make_bert(seed=7, hidden_size=24).save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "student")
    torch.save(encode_rows(make_rows(24), tokenizer, ["text"], 64), tmp_path / "rows.pt")
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def read(folder, name):
    return load_file(folder / f"{name}.safetensors"), json.loads((folder / f"{name}.json").read_text())


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_two_processes_train_as_one_and_resume_as_if_they_had_never_stopped(folder, launch_two_processes):
    runpy.run_path(str(folder / "train.py"))["train"](folder, "one", 4, 1)
    launch_two_processes(folder / "train.py", folder)
    weights, one = read(folder, "one")
    assert one["processes"] == 1 and one["steps"] == 12
    assert "objective.parts.0.projection.weight" in weights
    for name in ("two", "two_resumed", "two_accumulated"):
        found_weights, found = read(folder, name)
        assert found["processes"] == 2 and found["steps"] == 12
        assert_close(found_weights, weights)
        torch.testing.assert_close(
            torch.tensor(found["predictions"]), torch.tensor(one["predictions"]), rtol=1e-4, atol=1e-5
        )
    resumed, whole = read(folder, "two_resumed")[0], read(folder, "two")[0]
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    for entry, expected in zip(read(folder, "two")[1]["logs"], one["logs"], strict=True):
        assert entry["projection"] + entry["hard_labels"] == pytest.approx(entry["loss"], rel=1e-4)
        assert entry["projection"] == pytest.approx(expected["projection"], rel=1e-4)
        assert entry["loss"] == pytest.approx(expected["loss"], rel=1e-4)


COMMAND = """
import json, sys

from nlp_distill.cli import main

if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
"""


def test_a_signal_ends_both_processes_and_the_next_run_ends_as_if_there_was_none(
    start_two_processes, launch_two_processes, list_processes, encoder_folder, data_options, tmp_path
):
    script = tmp_path / "run.py"
    script.write_text(COMMAND)

    def list_arguments(output):
        options = ["--num-train-epochs", 15, "--per-device-train-batch-size", 4, "--max-length", 32]
        given = ["finetune", "--model", encoder_folder, "--output", output, *data_options, *options]
        return json.dumps([str(value) for value in given])

    launched = start_two_processes(script, list_arguments(tmp_path / "stopped"))
    try:
        while launched.poll() is None and not list(
            tmp_path.glob("stopped/checkpoints/*/checkpoint_complete")
        ):
            time.sleep(0.05)
        if Path("/proc/self/stat").exists():
            assert len(list_processes(script)) == 3  # the launcher and both
        launched.terminate()
        error = launched.communicate(timeout=60)[1]
    except BaseException:
        for process in list_processes(script):
            os.kill(process, signal.SIGKILL)
        raise
    assert launched.returncode != 0
    assert error.count("stopped; run the same command again to continue") == 1
    assert list_processes(script) == []
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    for name in ("stopped", "whole"):
        launch_two_processes(script, list_arguments(tmp_path / name))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("stopped", "whole")]
    assert weights[0] == weights[1]
