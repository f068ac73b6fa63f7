"""The GLUE scripts, run as a reader of the README runs them, on a made-up GLUE folder."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
WORDS = ["film", "movie", "plot", "story", "it", "was", "a", "the"]


def run_script(name: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPTS / name, *arguments]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=ENVIRONMENT, check=False
    )


@pytest.fixture(scope="module")
def glue_folder(tmp_path_factory) -> Path:
    """SST-2 as the GLUE archive has it: unquoted TSV with the columns sentence and label."""
    folder, source = tmp_path_factory.mktemp("glue"), random.Random(0)
    (folder / "SST-2").mkdir()
    for split, size in {"train": 60, "dev": 10}.items():
        lines = ["sentence\tlabel"]
        for number in range(size):
            words = [*source.choices(WORDS, k=4), ("good", "bad")[number % 2], f'"{split}', str(number)]
            lines.append(f"{' '.join(words)}\t{1 - number % 2}")
        (folder / "SST-2" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_scripts_make_a_teacher_and_distil_it(
    glue_folder: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    data = ["--task", "sst2", "--data-dir", glue_folder, "--max-length", 32, "--num-train-epochs", 1]
    results = ["--results-dir", tmp_path / "results"]
    teacher, student = tmp_path / "teacher", tmp_path / "bilstm"

    made = run_script("finetune_glue.py", *data, *results, "--model", encoder_folder, "--output", teacher)
    assert made.returncode == 0, made.stderr
    assert f"saved {teacher}: accuracy" in made.stdout and "on test" in made.stdout

    small = ["--hidden-size", 4, "--embedding-size", 4, "--n-iter", 1, "--pos-tagger", "textblob"]
    distilled = run_script(
        "distill_bilstm.py", *data, *results, *small, "--teacher", teacher, "--output", student
    )
    assert distilled.returncode == 0, distilled.stderr
    assert "# sst2: accuracy on the test split" in distilled.stdout
    report = json.loads((student / "results.json").read_text(encoding="utf-8"))
    assert report["data"]["test"]["rows"] == 10 and report["selected_on"] == "train"
    assert report["data"]["train"]["rows"] + report["data"]["validation"]["rows"] == 60
    methods = {
        "teacher": "teacher",
        "bilstm_without_teacher": "student_without_teacher",
        "bilstm_distilled": "student",
    }
    for method, model in methods.items():
        entry = json.loads((tmp_path / "results" / method / "sst2" / "0.json").read_text(encoding="utf-8"))
        assert entry["method"] == method and entry["data"]["test"] == report["data"]["test"]
        assert entry["score"] == pytest.approx(report["models"][model]["score"])
        assert str(tmp_path) not in json.dumps(entry), "a published file names a place on this machine"

    glove = tmp_path / "glove.txt"
    glove.write_text("".join(f"{word} {number} 1\n" for number, word in enumerate([*WORDS, "good", "bad"])))
    shape = ["--layers", 1, "--hidden-size", 8, "--heads", 2, "--ffn-size", 8, "--intermediate-epochs", 1]
    more = ["--n-iter", 1, "--glove-file", glove, "--no-baseline", "--output", tmp_path / "tinybert"]
    smaller = run_script("distill_tinybert.py", *data, *results, *shape, *more, "--teacher", teacher)
    assert smaller.returncode == 0, smaller.stderr
    entry = json.loads(
        (tmp_path / "results" / "tinybert_1x8" / "sst2" / "0.json").read_text(encoding="utf-8")
    )
    assert entry["transfer_set"]["rules"].keys() == {"replace"} and str(tmp_path) not in json.dumps(entry)


@pytest.mark.parametrize(
    "name",
    ["finetune_glue.py", "distill_bilstm.py", "distill_tinybert.py", "distill_mt_dnn.py", "distill_bam.py"],
)
def test_the_scripts_explain_themselves(name: str) -> None:
    result = run_script(name, "--help")
    assert result.returncode == 0 and "--data-dir" in result.stdout and "--task" in result.stdout
