"""Memory that runs out: batches without gradients are run in halves, a training stops in one line and is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Trainer

from nlp_distill.batching import DistillationCollator
from nlp_distill.distillation_model import DistillationModel
from nlp_distill.encoding import encode_rows
from nlp_distill.labelling import compute_logits
from nlp_distill.memory import MemoryLackError, lacks_memory, run_in_memory
from nlp_distill.stages import run_stage
from nlp_distill.teacher_states import write_states
from nlp_distill.teachers import Teacher
from nlp_distill.trainer import DistillationTrainer, find_last_checkpoint

OPTIONS = ["--num-train-epochs", 2, "--per-device-train-batch-size", 8]  # 40 rows: 5 steps an epoch
FITTING = 6  # rows for which there is memory
ON_CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ...")
ON_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
ERRORS = [ON_CPU, ON_GPU, MemoryError()]
NAMES = ["CPU", "GPU", "Python"]


def fail(*arguments, **named):
    raise ON_CPU


@pytest.fixture
def limit(monkeypatch):
    """``limit(owner, name, error)``: there is memory for ``FITTING`` rows in that method; returns the sizes."""

    def prepare(owner, name, error=ON_CPU, of_evaluation=False):
        original, sizes = getattr(owner, name), []

        def run(self, batch, *arguments, **named):
            if of_evaluation and named.get("progress", (arguments or [None])[-1]) is not None:
                return original(self, batch, *arguments, **named)
            sizes.append(len(batch["input_ids"]))
            if sizes[-1] > FITTING:
                raise error
            return original(self, batch, *arguments, **named)

        monkeypatch.setattr(owner, name, run)
        return sizes

    return prepare


# ---- halves ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
def test_a_batch_without_memory_is_labelled_in_halves_with_the_same_logits(
    make_bert, make_rows, tokenizer, limit, error
):
    rows = encode_rows(make_rows(40), tokenizer, ["text"], 64)
    teacher, collator = Teacher(make_bert()), DistillationCollator(tokenizer)
    whole, _ = compute_logits(teacher, rows, collator)
    sizes = limit(Teacher, "run", error)
    halved, _ = compute_logits(teacher, rows, collator)
    assert max(sizes) > FITTING and sum(size for size in sizes if size <= FITTING) == 40
    np.testing.assert_allclose(halved, whole, atol=1e-5)


def test_states_are_kept_in_halves_as_they_are_in_whole_batches(
    make_bert, make_rows, tokenizer, limit, tmp_path
):
    rows, parts = encode_rows(make_rows(40), tokenizer, ["text"], 32), [("hidden_states", 1), ("queries", 0)]

    def write(folder):
        folder.mkdir()
        write_states(make_bert().eval(), rows, tokenizer, parts, folder)
        return [np.fromfile(file, dtype=np.float16) for file in sorted(folder.glob("*.f16"))]

    whole = write(tmp_path / "whole")
    sizes = limit(Teacher, "run")
    halved = write(tmp_path / "halved")
    assert max(sizes) > FITTING and len(whole) == 2
    for expected, found in zip(whole, halved, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-4)


def test_validation_rows_are_evaluated_in_halves_with_the_same_scores(fine_tune, limit, tmp_path):
    assert fine_tune(tmp_path / "whole", *OPTIONS) == 0
    sizes = limit(DistillationModel, "forward", of_evaluation=True)
    assert fine_tune(tmp_path / "halved", *OPTIONS) == 0
    assert (
        max(sizes) > FITTING and sum(size for size in sizes if size <= FITTING) == 20
    )  # 10 rows in 2 epochs
    found = []
    for name in ("whole", "halved"):
        stage = json.loads((tmp_path / name / "stage_finished.json").read_text())["result"]
        found.append([(entry["eval_score"], entry["eval_loss"]) for entry in stage["history"]])
    np.testing.assert_allclose(*found, atol=1e-5)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "halved")]
    assert weights[0] == weights[1]


def test_a_row_without_memory_is_one_error_and_other_errors_stay_as_they_are():
    batch = {"input_ids": torch.zeros(4, 7, dtype=torch.long), "attention_mask": torch.ones(4, 7)}
    with pytest.raises(MemoryLackError, match="on one row of 7 tokens; give a smaller --max-length"):
        run_in_memory(fail, batch)

    def break_(part):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        run_in_memory(break_, batch)
    assert [len(part["input_ids"]) for part in run_in_memory(dict, batch)] == [4]
    assert all(lacks_memory(error) for error in ERRORS)
    assert lacks_memory(
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    )
    assert not lacks_memory(RuntimeError("shapes do not fit")) and not lacks_memory(KeyError("x"))


# ---- trainings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
def test_a_step_without_memory_is_one_line_and_the_same_command_goes_on_at_the_checkpoint(
    fine_tune, tmp_path: Path, capsys, monkeypatch, error
):
    options = [*OPTIONS, "--save-strategy", "steps", "--save-steps", 3, "--eval-strategy", "steps"]
    options += ["--eval-steps", 3]
    original, steps = Trainer.training_step, []

    def step(self, *arguments, **named):
        steps.append(self.state.global_step)
        if len(steps) == 5:
            raise error
        return original(self, *arguments, **named)

    monkeypatch.setattr(Trainer, "training_step", step)
    assert fine_tune(tmp_path / "out", *options) == 2
    captured = capsys.readouterr().err
    message = captured.strip().splitlines()[-1]
    assert "Traceback" not in captured
    assert message.startswith("error: there is no memory for a step of 8 rows of ")
    assert "The same command goes on at the last checkpoint" in message
    assert "halve per_device_train_batch_size and double gradient_accumulation_steps" in message
    assert Path(find_last_checkpoint(tmp_path / "out" / "checkpoints")).name == "checkpoint-3"
    assert fine_tune(tmp_path / "out", *options) == 0
    assert steps == [0, 1, 2, 3, 4, *range(3, 10)]
    monkeypatch.undo()
    assert fine_tune(tmp_path / "whole", *options) == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "whole")]
    assert weights[0] == weights[1]


def test_what_the_line_says_to_make_smaller_is_taken(fine_tune, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", fail)
        assert fine_tune(tmp_path / "out", *OPTIONS) == 2
    assert "(--overwrite)" in capsys.readouterr().err.strip().splitlines()[-1]
    halved = ["--per-device-train-batch-size", 4, "--gradient-accumulation-steps", 2]
    assert fine_tune(tmp_path / "out", *OPTIONS[:2], *halved, "--overwrite") == 0


@pytest.mark.parametrize(
    ("owner", "name", "message"),
    [
        (
            torch.optim.AdamW,
            "step",
            "error: there is no memory to train. The same command goes on at the last",
        ),
        (
            DistillationTrainer,
            "_move_model_to_device",
            "error: there is no memory for this; what was finished",
        ),
    ],
    ids=["optimiser", "model"],
)
def test_memory_that_lacks_outside_of_a_step_is_one_line_too(
    fine_tune, tmp_path, capsys, monkeypatch, owner, name, message
):
    monkeypatch.setattr(owner, name, fail)
    assert fine_tune(tmp_path / "out") == 2
    captured = capsys.readouterr().err
    assert captured.strip().splitlines()[-1].startswith(message) and "Traceback" not in captured


def test_what_an_overwriting_stage_had_done_is_kept_where_memory_runs_out(tmp_path):
    """A wrong input brings the old result back; lack of memory is none, and the same command goes on."""

    def build(folder):
        if (folder / "checkpoint").exists():
            return {"went_on": True}
        (folder / "checkpoint").touch()
        raise MemoryLackError("there is no memory")

    folder = tmp_path / "stage"
    run_stage("work", folder, {"seed": 0}, lambda folder: {"went_on": False})
    with pytest.raises(MemoryLackError):
        run_stage("work", folder, {"seed": 1}, build, overwrite=True)
    assert run_stage("work", folder, {"seed": 1}, build, overwrite=True) == {"went_on": True}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage"]
