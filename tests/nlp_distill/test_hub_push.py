"""What ``--push-to-hub`` sends: the finished model with its card, once, and nothing else. The hub is replaced."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainingArguments

from data_augment.errors import InputError
from nlp_distill import hub
from nlp_distill.commands.push import find_best
from nlp_distill.training import make_training_arguments

TRANSFORMERS = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def read_card(files):
    _, front, body = files["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(front), body


def test_finetune_sends_the_finished_model_once_and_nothing_else(fake_hub, fine_tune, tmp_path, capsys):
    folder = tmp_path / "teacher"
    assert fine_tune(folder, "--push-to-hub", "--hub-model-id", "me/films") == 0
    [(repo, files)] = fake_hub.uploads
    assert repo == "me/films" and fake_hub.created == [("me/films", None)]
    assert sorted(files) == TRANSFORMERS
    assert "https://huggingface.co/me/films" in capsys.readouterr().out
    assert (folder / "stage_finished.json").is_file() and (
        folder / "results.json"
    ).is_file()  # they stay here
    fields, body = read_card(files)
    [model] = fields["model-index"]
    scores = json.loads((folder / "results.json").read_text())["models"]["teacher"]["metrics"]
    assert {metric["type"]: metric["value"] for metric in model["results"][0]["metrics"]} == scores
    assert model["name"] == "films" and 'pipeline("text-classification", "me/films")' in body
    assert str(tmp_path) not in body and "## Limitations" in body


def test_the_files_that_are_sent_load_by_themselves(fake_hub, fine_tune, tmp_path):
    assert fine_tune(tmp_path / "teacher", "--push-to-hub", "me/films") == 0
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in fake_hub.uploads[0][1].items():
        (copy / name).write_bytes(content)
    model = AutoModelForSequenceClassification.from_pretrained(copy)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert AutoTokenizer.from_pretrained(copy)("a film")["input_ids"]


def test_a_second_run_trains_nothing_and_sends_again(fake_hub, fine_tune, tmp_path):
    assert fine_tune(tmp_path / "teacher") == 0
    assert fake_hub.asked == 0 and fake_hub.uploads == []  # nothing is asked of the hub without being told to
    before = (tmp_path / "teacher" / "stage_finished.json").stat().st_mtime_ns
    assert fine_tune(tmp_path / "teacher", "--push_to_hub", "--hub-private-repo") == 0
    assert (tmp_path / "teacher" / "stage_finished.json").stat().st_mtime_ns == before
    assert fake_hub.created == [("teacher", True)] and fake_hub.uploads[0][0] == "me/teacher"
    assert fine_tune(tmp_path / "teacher", "--push_to_hub", "False") == 0
    assert len(fake_hub.uploads) == 1


def test_of_several_students_the_best_on_validation_is_sent(fake_hub, distill, tmp_path):
    output = tmp_path / "run"
    assert distill(output, "--seeds", 0, 1, "--learning-rate", 0.5, "--push-to-hub", "me/small") == 0
    [(repo, files)] = fake_hub.uploads
    assert repo == "me/small" and sorted(files) == TRANSFORMERS
    scores = [
        json.loads((output / f"student-seed{seed}" / "stage_finished.json").read_text())["result"]["entry"][
            "validation_score"
        ]
        for seed in (0, 1)
    ]
    best = output / f"student-seed{find_best(scores)}"
    assert files["model.safetensors"] == (best / "model.safetensors").read_bytes()
    fields, body = read_card(files)
    assert fields["library_name"] == "transformers" and "import nlp_distill.students" in body
    assert "nlp_distill, which must be installed" in body
    assert not (output / "student_without_teacher-seed0" / "README.md").exists()


def test_the_highest_score_wins_and_the_first_of_equals():
    assert find_best([0.1, 0.7, 0.7]) == 1
    assert find_best([-0.3, None, -0.1]) == 2
    assert find_best([None, None]) == 0


def test_a_general_student_is_sent_with_a_card_of_its_own(fake_hub, run_cli, encoder_folder, tmp_path):
    (tmp_path / "text.txt").write_text("a good film and the plot was fine\n" * 60)
    shape = ["--layers", 1, "--hidden-size", 8, "--heads", 2, "--ffn-size", 16]
    training = ["--max-length", 32, "--num-train-epochs", 1, "--per-device-train-batch-size", 4]
    given = ["--text", tmp_path / "text.txt", "--teacher", encoder_folder, "--output", tmp_path / "general"]
    assert run_cli("distill", "general", *given, *shape, *training, "--push-to-hub", "me/tiny") == 0
    [(repo, files)] = fake_hub.uploads
    fields, body = read_card(files)
    assert repo == "me/tiny" and sorted(files) == TRANSFORMERS
    assert fields["pipeline_tag"] == "feature-extraction" and "model-index" not in fields
    assert 'AutoModel.from_pretrained("me/tiny")' in body and str(tmp_path) not in body


def test_tinybert_sends_its_student(fake_hub, run_cli, data_options, teacher_folder, tmp_path):
    shape = ["--layers", 1, "--hidden-size", 8, "--heads", 2, "--ffn-size", 16]
    settings = ["--max-length", 32, "--num-train-epochs", 1, "--intermediate-epochs", 1, "--n-iter", 0]
    given = [*data_options, "--teacher", teacher_folder, "--output", tmp_path / "run", "--no-baseline"]
    assert run_cli("distill", "tinybert", *given, *shape, *settings, "--push-to-hub", "tiny") == 0
    [(repo, files)] = fake_hub.uploads
    assert repo == "me/tiny" and sorted(files) == TRANSFORMERS
    assert "nlp_distill.students" not in files["README.md"].decode()  # a plain BERT


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--hub-model-id", "me/films"], "give --push-to-hub too"),
        (["--push-to-hub", "a/b", "--hub-model-id", "c/d"], "are two names"),
        (["--push-to-hub", "a/b/c"], "give NAME or OWNER/NAME"),
        (["--push-to-hub", "--hub-token", "hf_secret"], "would be kept in the results"),
        (["--push-to-hub", "--hub-strategy", "all_checkpoints"], "uploaded once"),
    ],
)
def test_options_that_do_not_go_together_are_refused_at_once(
    more, message, fake_hub, fine_tune, tmp_path, capsys
):
    assert fine_tune(tmp_path / "teacher", *more) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0] and "hf_secret" not in lines[0]
    assert not (tmp_path / "teacher").exists() and fake_hub.uploads == []


def test_a_hub_that_would_refuse_is_found_before_the_work(fake_hub, fine_tune, tmp_path, capsys, monkeypatch):
    fake_hub.refuses = "login"
    assert fine_tune(tmp_path / "teacher", "--push-to-hub") == 2
    assert "no token found.); run `hf auth login`" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: False)
    assert fine_tune(tmp_path / "teacher", "--push-to-hub") == 2
    assert "the hub does not answer" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "teacher").exists()


def test_a_failed_upload_says_where_the_model_is(fake_hub, fine_tune, tmp_path, capsys):
    fake_hub.refuses = "upload"
    assert fine_tune(tmp_path / "teacher", "--push-to-hub") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"saved in {tmp_path / 'teacher'}" in last and "the line is dead" in last
    fake_hub.refuses = None
    assert fine_tune(tmp_path / "teacher", "--push-to-hub") == 0 and len(fake_hub.uploads) == 1


def test_a_folder_with_a_part_missing_is_not_sent(fake_hub, teacher_folder, tmp_path):
    for name in TRANSFORMERS[:3]:
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=r"has no tokenizer\*"):
        hub.push_folder(tmp_path, hub.HubTarget("me/x"), lambda name: None)
    assert fake_hub.uploads == []


def test_strangers_in_the_folder_stay_here(tmp_path):
    strangers = [
        "optimizer.pt", "training_args.bin", "pytorch_model.bin", "logits.npz", "results.json", "report.html",
        "stage_finished.json", ".env", "checkpoints/checkpoint-1/model.safetensors", "runs/events.out", "README.md.tmp",
    ]  # fmt: skip
    for name in [*TRANSFORMERS, *strangers]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert hub.list_model_files(tmp_path) == TRANSFORMERS


def test_a_spacy_pipeline_is_sent_whole(tmp_path):
    wanted = ["README.md", "config.cfg", "meta.json", "textcat/cfg", "textcat/model", "tokenizer"]
    for name in [*wanted, "logits.npz", "stage_finished.json"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert hub.list_model_files(tmp_path) == wanted


def test_the_library_refuses_to_push_every_student_of_a_run_to_one_place(tmp_path):
    with pytest.raises(InputError, match="the finished one with --push-to-hub"):
        make_training_arguments({}, {"push_to_hub": True}, tmp_path, 0)


def test_ones_own_trainer_pushes_the_student_alone(monkeypatch, make_bert, tokenizer, make_rows, tmp_path):
    import transformers.trainer as module

    from nlp_distill import DistillationTrainer
    from nlp_distill.encoding import encode_rows

    sent = {}

    class Api:
        def create_repo(self, name, **rest):
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{name}")

        def upload_folder(self, *, repo_id, folder_path, **rest):
            sent[repo_id] = sorted(path.name for path in Path(folder_path).iterdir() if path.is_file())

    monkeypatch.setattr(module, "hf_api", Api)
    settings = {
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "max_steps": 1,
        "save_strategy": "no",
    }
    args = TrainingArguments(
        str(tmp_path / "out"),
        push_to_hub=True,
        hub_model_id="me/own",
        dataloader_pin_memory=False,
        **settings,
    )
    rows = encode_rows(make_rows(8), tokenizer, ("text",), 32)
    trainer = DistillationTrainer(
        model=make_bert(), args=args, train_dataset=rows, processing_class=tokenizer
    )
    trainer.train()
    trainer.push_to_hub()
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(sent["me/own"])
    _, found = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
