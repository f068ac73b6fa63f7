"""Model cards: what the hub reads is valid and true, and the code in them runs."""

import json
import re

import numpy as np
import pytest
import yaml

from nlp_distill.cards import render_card

RESULTS = {
    "task": "films",
    "metric": "accuracy",
    "is_pair": False,
    "seeds": [3],
    "command": "nlp-distill distill bilstm --task films",
    "data_source": "own files",
    "data": {"train": {"rows": 40}, "test": {"rows": 12, "sha256": "ab" * 32}},
    "transfer_set": {"rows": 400},
    "versions": {"torch": "2.13.0"},
}
MODEL = {"parameters": 100, "parameters_without_embeddings": 50, "bytes": 400}


@pytest.fixture
def results():
    models = {
        "teacher": {"score": 0.9, "metrics": {"accuracy": 0.9}, **MODEL},
        "student_without_teacher": {"score": 0.7, "metrics": {"accuracy": 0.7}, **MODEL},
        "student": {"score": 0.85, "metrics": {"accuracy": 0.85}, **MODEL},
    }
    return RESULTS | {"models": models}


def write_config(folder, kind):
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    return folder


def test_the_front_matter_is_what_the_hub_reads(results, tmp_path):
    card = render_card(results, results["models"]["student"], 3, write_config(tmp_path, "bert"))
    _, front, body = card.split("---\n", 2)
    fields = yaml.safe_load(front)
    [model] = fields["model-index"]
    [result] = model["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": 0.85, "name": "accuracy"}]
    assert result["dataset"]["name"] == "films" and fields["pipeline_tag"] == "text-classification"
    assert fields["library_name"] == "transformers" and "license" in fields
    for part in ("0.8500", "0.9000", "0.7000", "seed 3", RESULTS["command"], "400 rows", "## Limitations"):
        assert part in body


def test_a_student_is_compared_with_the_one_without_a_teacher_of_its_own_seed(results, tmp_path):
    models = results["models"]
    models["student_without_teacher"] |= {"score": 0.7, "scores": [0.65, 0.75]}
    card = render_card(results | {"seeds": [3, 8]}, models["student"], 8, tmp_path)
    assert "the same model trained without a teacher 0.7500" in card


@pytest.mark.parametrize(("kind", "imports"), [("bert", False), ("nlp-distill-bilstm", True)])
def test_custom_students_say_what_to_import(results, tmp_path, kind, imports):
    card = render_card(results, results["models"]["student"], 3, write_config(tmp_path, kind))
    assert ("import nlp_distill.students" in card) == imports
    pair = render_card(results | {"is_pair": True}, results["models"]["student"], 3, tmp_path)
    assert "text_pair" in pair and "text_pair" not in card


def read_front(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_numbers_and_names_of_any_kind_come_back_from_the_front_matter(results, tmp_path):
    """To YAML 1.1 1e-05 without a point is a text, and half a surrogate pair is written for an emoji in JSON."""
    (tmp_path / "films 🎬: #1").mkdir()
    folder = write_config(tmp_path / "films 🎬: #1", "bert")
    metrics = {"accuracy": np.float64(0.5), "calibration_error": 1e-05, "kl_to_teacher": 2.5e-07}
    student = results["models"]["student"] | {"metrics": metrics}
    [model] = read_front(render_card(results, student, 3, folder))["model-index"]
    assert model["name"] == "films 🎬: #1"
    assert {own["type"]: own["value"] for own in model["results"][0]["metrics"]} == metrics


def test_glue_is_named_as_the_hub_has_it_and_files_of_ones_own_are_not(results, tmp_path):
    folder, student = write_config(tmp_path, "bert"), results["models"]["student"]
    own = read_front(render_card(results | {"task": "mnli"}, student, 3, folder))
    assert "datasets" not in own and own["model-index"][0]["results"][0]["dataset"]["type"] == "mnli"
    glue = results | {"task": "mnli", "data_source": "GLUE folder, mnli"}
    fields = read_front(render_card(glue, student, 3, folder))
    assert fields["datasets"] == ["nyu-mll/glue"] and fields["metrics"] == ["accuracy"]
    dataset = fields["model-index"][0]["results"][0]["dataset"]
    assert dataset["config"] == "mnli" and dataset["split"] == "validation_matched"


def test_the_teacher_is_linked_by_its_hub_name_and_never_by_a_folder(results, tmp_path):
    folder, models = write_config(tmp_path, "bert"), results["models"]

    def render(path):
        teacher = models["teacher"] | {"path": path}
        return render_card(results | {"models": models | {"teacher": teacher}}, models["student"], 3, folder)

    linked = render("textattack/bert-base-uncased-SST-2")
    assert read_front(linked)["base_model"] == "textattack/bert-base-uncased-SST-2"
    for place in (str(tmp_path), "./runs/teacher", "runs/demo/teacher"):
        card = render(place)
        assert "base_model" not in read_front(card) and str(tmp_path) not in card
        assert "Teacher: `" in card


def test_the_card_goes_by_the_name_on_the_hub_and_holds_all_settings(results, tmp_path):
    described = results | {"config": {"hidden_size": 150, "training": {"learning_rate": 1.0}}}
    student, folder = results["models"]["student"], write_config(tmp_path, "bert")
    card = render_card(described, student, 3, folder, "me/films")
    assert read_front(card)["model-index"][0]["name"] == "films" and '"me/films")' in card
    settings = json.loads(re.search(r"```json\n(.*?)```", card, re.S)[1])
    assert settings == described["config"]


def test_a_spacy_student_says_how_spacy_loads_it(results, tmp_path):
    (tmp_path / "config.cfg").write_text("")
    card = render_card(results, results["models"]["student"], 3, tmp_path, "me/films")
    assert read_front(card)["library_name"] == "spacy" and "pipeline(" not in card
    assert 'spacy.load(snapshot_download("me/films"))' in card
    assert f'spacy.load("{tmp_path.name}")' in render_card(results, results["models"]["student"], 3, tmp_path)


def test_a_run_leaves_a_card_whose_code_runs(run_cli, data_options, teacher_folder, tmp_path, monkeypatch):
    shape = ["--hidden-size", 4, "--embedding-size", 4, "--n-iter", 1, "--pos-tagger", "textblob"]
    training = ["--max-length", 32, "--num-train-epochs", 1]
    run = tmp_path / "run"
    command = [
        "distill",
        "bilstm",
        *data_options,
        *shape,
        *training,
        "--teacher",
        teacher_folder,
        "--output",
        run,
    ]
    assert run_cli(*command) == 0
    card = (run / "student-seed0" / "README.md").read_text()
    assert str(tmp_path) not in card
    code = re.search(r"```python\n(.*?)```", card, re.S)[1]
    monkeypatch.chdir(run)
    exec(compile(code, "card", "exec"), {})
