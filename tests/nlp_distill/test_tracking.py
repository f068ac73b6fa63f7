"""Trackers: none unless asked for, any of transformers' by name, and what they wrote outlives the checkpoints."""

import sys
from types import SimpleNamespace

import pytest
from transformers.integrations import integration_utils

from data_augment.errors import InputError
from nlp_distill.training import finish_tracking, make_training_arguments


def test_nothing_is_reported_unless_asked_for(tmp_path):
    assert make_training_arguments({}, {}, tmp_path / "student-seed1", 0).report_to == []


def test_a_loss_chooses_the_lowest_and_a_score_the_highest(tmp_path):
    assert make_training_arguments({}, {}, tmp_path, 0).greater_is_better
    assert not make_training_arguments({}, {"metric_for_best_model": "loss"}, tmp_path, 0).greater_is_better


def test_a_run_is_named_after_its_folder(tmp_path):
    folder = tmp_path / "student-seed1"
    assert make_training_arguments({}, {}, folder, 0).run_name == "student-seed1"
    assert make_training_arguments({}, {"run_name": "mine"}, folder, 0).run_name == "mine"


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("nlp_distill.training.get_available_reporting_integrations", lambda: ["tensorboard"])
    with pytest.raises(InputError, match="`pip install trackio`"):
        make_training_arguments({}, {"report_to": ["trackio"]}, tmp_path, 0)


def test_tensorboard_has_the_scores_after_the_run(fine_tune, tmp_path):
    pytest.importorskip("torch.utils.tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "teacher"
    assert fine_tune(folder, "--report-to", "tensorboard", "--logging-steps", 1) == 0
    assert not (folder / "checkpoints").exists()
    [events] = (folder / "runs").rglob("events.*")
    found = EventAccumulator(str(events)).Reload()
    assert {"train/loss", "eval/score", "eval/accuracy"} <= set(found.Tags()["scalars"])
    assert len(found.Scalars("train/loss")) == 2  # 40 rows in batches of 32


def test_a_tracker_sees_the_terms_of_the_objective_of_every_student(distill, monkeypatch, tmp_path):
    from transformers import TrainerCallback

    runs, others = {}, {}

    class Tracker(TrainerCallback):
        told = runs

        def on_log(self, args, state, control, logs=None, **rest):
            self.told.setdefault(args.run_name, []).append(logs)

    class Other(Tracker):
        told = others

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", Tracker)
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "mlflow", Other)
    monkeypatch.setattr(
        "nlp_distill.training.get_available_reporting_integrations", lambda: ["trackio", "mlflow"]
    )
    assert distill(tmp_path / "run", "--report-to", "trackio", "mlflow", "--logging-steps", 1) == 0
    assert set(others) == set(runs)
    assert set(runs) == {"student-seed0", "student_without_teacher-seed0"}
    assert {"loss", "learning_rate", "logit_regression"} <= set(runs["student-seed0"][0])
    assert any("eval_score" in logs for logs in runs["student_without_teacher-seed0"])


def test_every_student_has_a_wandb_run_of_its_own(monkeypatch):
    finished = []
    wandb = SimpleNamespace(run=object(), finish=lambda: finished.append(True))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    finish_tracking([])
    assert not finished
    finish_tracking(["wandb"])
    assert finished == [True]
    wandb.run = None
    finish_tracking(["wandb"])
    assert finished == [True]
