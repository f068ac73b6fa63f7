"""bf16 on a CPU is tried before a training would die of it."""

import pytest
from transformers import TrainingArguments

from data_augment.errors import InputError
from nlp_distill import precision
from nlp_distill.training import make_training_arguments


@pytest.fixture(autouse=True)
def forget_trials():
    precision.try_bf16.cache_clear()
    yield
    precision.try_bf16.cache_clear()


@pytest.mark.parametrize(
    ("trial", "ending"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
        ("raise RuntimeError('no bf16')", "exit code 1"),
    ],
)
def test_a_processor_that_does_not_run_bf16_is_said_in_one_line(monkeypatch, tmp_path, trial, ending):
    monkeypatch.setattr(precision, "TRIAL", trial)
    given = {"bf16": True, "use_cpu": True}
    with pytest.raises(InputError) as refused:
        make_training_arguments({}, given, tmp_path, seed=0)
    assert f"a trial ended with {ending}" in str(refused.value) and "\n" not in str(refused.value)
    assert not make_training_arguments({}, given | {"bf16": False}, tmp_path, seed=0).bf16


def test_a_trial_that_goes_well_is_made_once(monkeypatch, tmp_path):
    made = tmp_path / "made"
    monkeypatch.setattr(precision, "TRIAL", f"open({str(made)!r}, 'a').write('x')")
    for _ in range(2):
        assert make_training_arguments({}, {"bf16": True, "use_cpu": True}, tmp_path, seed=0).bf16
    assert made.read_text() == "x"


def test_an_accelerator_needs_no_trial(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "TRIAL", "raise RuntimeError")
    args = TrainingArguments(str(tmp_path), bf16=True, use_cpu=True)

    class OnAccelerator:
        bf16 = True
        device = type("Device", (), {"type": "cuda"})

    precision.check_bf16(OnAccelerator())
    with pytest.raises(InputError):
        precision.check_bf16(args)


def test_the_trial_is_a_product_in_bf16_with_its_gradient():
    assert precision.try_bf16() in ("", "SIGILL")  # a machine that does not allow it ends the trial, not this
