"""Nothing that comes with data or models is run, written elsewhere, or sent away; and no secret is written down.

Every check of "it does not happen" stands beside one that it would be seen if it did.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainingArguments,
)

import data_augment
import data_augment.cli
import nlp_distill
import nlp_distill.cli
from data_augment import Glove, GloveCandidates, InputError, MaskedLMCandidates
from data_augment.atomic import open_atomically
from data_augment.blocks import BlockVarier, vary_blocks
from data_augment.rules import MaskRule, combine_rules
from data_augment.tag_counts import TagCounter
from nlp_distill import DistillationTrainer, HardLabels
from nlp_distill.encoding import encode_rows
from nlp_distill.models import load_classifier, load_pretrained

PACKAGES = [Path(package.__file__).parent for package in (data_augment, nlp_distill)]
SOURCES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
SCRIPTS = sorted((PACKAGES[0].parent / "scripts").glob("*.py"))


# ---- the sources -----------------------------------------------------------------------------------------------------

RUNS_CODE = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "code",
    "codeop",
}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"}


def find_dangers(source):
    """What a module does that data or a model could abuse, by line."""
    dangers = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
            dangers += [(node.lineno, f"import {name}") for name in names if name in RUNS_CODE]
        elif isinstance(node, ast.ImportFrom):
            name = (node.module or "").partition(".")[0]
            dangers += [(node.lineno, f"import {name}")] if name in RUNS_CODE else []
        elif isinstance(node, ast.Call):
            dangers += [(node.lineno, found) for found in judge_call(node)]
    return dangers


def judge_call(node):
    name = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in RUNS_TEXT | SHELLS or name == "tempfile.mktemp":
        yield name
    if name == "torch.load" and given.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
        yield f"{name} without allow_pickle=False"
    if name.startswith("yaml.") and name.endswith(("load", "load_all")) and not name.startswith("yaml.safe_"):
        yield name
    if given.get("shell", "False") != "False":
        yield "shell=True"
    if given.get("trust_remote_code") == "True":
        yield "trust_remote_code=True"


@pytest.mark.parametrize("path", [*SOURCES, *SCRIPTS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_sources_run_nothing_that_they_read(path):
    assert find_dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib as j",
        "def f():\n    import dill",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "tempfile.mktemp()",
    ],
)
def test_a_danger_in_a_source_would_be_found(source):
    assert len(find_dangers(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "yaml.safe_load(text)",
    ],
)
def test_the_harmless_forms_are_no_dangers(source):
    assert find_dangers(source) == []


# ---- pickles ---------------------------------------------------------------------------------------------------------


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path):
    """What appears when a bomb goes off, which here nothing may make."""
    path = tmp_path / "it ran"
    yield path
    assert not path.exists()


def test_the_bomb_works(tmp_path):
    torch.save({"a": Bomb(tmp_path / "it ran")}, tmp_path / "bomb")
    torch.load(tmp_path / "bomb", weights_only=False)
    assert (tmp_path / "it ran").exists()


@pytest.fixture
def make_pickled(encoder_folder, tmp_path):
    """``make_pickled(content)``: a copy of the encoder whose weights are a pickle of ``content``."""

    def make(content, sharded=False):
        folder = tmp_path / "pickled"
        shutil.copytree(encoder_folder, folder)
        (folder / "model.safetensors").unlink()
        torch.save(content, folder / ("shard.bin" if sharded else "pytorch_model.bin"))
        if sharded:
            index = {"metadata": {}, "weight_map": dict.fromkeys(content, "shard.bin")}
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        return folder

    return make


LOADERS = [AutoModel, AutoModelForSequenceClassification, AutoModelForMaskedLM]


@pytest.mark.parametrize("auto_class", LOADERS, ids=lambda loader: loader.__name__)
@pytest.mark.parametrize("sharded", [False, True])
def test_a_hostile_pickle_is_refused_and_does_not_run(auto_class, sharded, make_pickled, marker):
    folder = make_pickled({"classifier.bias": Bomb(marker)}, sharded)
    with pytest.raises(
        InputError, match=r"cannot load .* pickle .* is not run; save them as model\.safetensors"
    ):
        load_pretrained(auto_class, folder)


def test_a_hostile_pickle_beside_good_weights_is_not_even_opened(encoder_folder, tmp_path, marker):
    folder = tmp_path / "model"
    shutil.copytree(encoder_folder, folder)
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl"):
        torch.save(Bomb(marker), folder / name)
    load_classifier(folder)
    load_pretrained(AutoTokenizer, folder)


def test_a_hostile_pickle_does_not_run_as_a_masked_language_model(make_pickled, marker):
    fallback = GloveCandidates(Glove(["film", "plot"], np.eye(2, dtype=np.float32)), 1)
    with pytest.raises(InputError, match="cannot load the masked language model"):
        MaskedLMCandidates.load(make_pickled({"classifier.bias": Bomb(marker)}), fallback, 1)


def test_a_pickle_of_tensors_alone_is_loaded(encoder_folder, make_pickled):
    wanted = load_classifier(encoder_folder).state_dict()
    found = load_classifier(make_pickled(wanted)).state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


@pytest.fixture
def make_trainer(make_bert, make_rows, tokenizer, tmp_path):
    """A trainer whose checkpoints go to ``tmp_path / "run"``."""

    def make(steps):
        args = TrainingArguments(
            str(tmp_path / "run"),
            max_steps=steps,
            save_steps=1,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        rows = encode_rows(make_rows(16), tokenizer, ["text"], 16)
        return DistillationTrainer(
            model=make_bert(),
            objective=HardLabels(),
            args=args,
            train_dataset=rows,
            processing_class=tokenizer,
        )

    return make


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_hostile_checkpoint_does_not_run(name, make_trainer, tmp_path, marker):
    make_trainer(1).train()
    assert (tmp_path / "run" / "checkpoint-1" / name).exists()
    torch.save(Bomb(marker), tmp_path / "run" / "checkpoint-1" / name)
    with pytest.raises(Exception, match="[Ww]eights"):  # of torch, which refuses more than tensors
        make_trainer(2).train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))


def test_pickles_of_a_checkpoint_that_nobody_needs_are_not_opened(make_trainer, tmp_path, marker):
    make_trainer(1).train()
    torch.save(Bomb(marker), tmp_path / "run" / "checkpoint-1" / "training_args.bin")
    torch.save(Bomb(marker), tmp_path / "run" / "checkpoint-1" / "pytorch_model.bin")
    trainer = make_trainer(2)
    trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))
    assert trainer.state.global_step == 2


def test_a_trainer_state_that_is_a_pickle_does_not_run(make_trainer, tmp_path, marker):
    make_trainer(1).train()
    torch.save(Bomb(marker), tmp_path / "run" / "checkpoint-1" / "trainer_state.json")
    with pytest.raises(ValueError):  # it is read as JSON in UTF-8
        make_trainer(2).train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))


def test_a_saved_student_holds_no_pickle(trained, job):
    assert trained == 0
    assert not [path for path in job.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


# ---- code that comes with a model ------------------------------------------------------------------------------------

CODE = """
open({marker!r}, "w").close()
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast
class C(BertConfig): model_type = "own-code"
class M(BertForSequenceClassification): config_class = C
class T(BertTokenizerFast): pass
"""


@pytest.fixture
def with_code(encoder_folder, tmp_path):
    """A copy of the encoder that asks for code of its own, which leaves a file when it runs."""
    folder = tmp_path / "with_code"
    shutil.copytree(encoder_folder, folder)
    (folder / "own.py").write_text(CODE.format(marker=str(tmp_path / "it ran")))
    maps = {
        "config.json": {
            "model_type": "own-code",
            "auto_map": {
                "AutoConfig": "own.C",
                **{loader.__name__: "own.M" for loader in LOADERS},
            },
        },
        "tokenizer_config.json": {"tokenizer_class": "T", "auto_map": {"AutoTokenizer": [None, "own.T"]}},
    }
    for name, changes in maps.items():
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    "auto_class", [AutoConfig, AutoTokenizer, *LOADERS], ids=lambda loader: loader.__name__
)
def test_code_that_comes_with_a_model_is_refused_and_does_not_run(auto_class, with_code, marker):
    with pytest.raises(InputError, match="code of its own, which is not run; --trust-remote-code runs it"):
        load_pretrained(auto_class, with_code)


def test_code_does_not_run_with_a_masked_language_model(with_code, marker):
    fallback = GloveCandidates(Glove(["film", "plot"], np.eye(2, dtype=np.float32)), 1)
    with pytest.raises(InputError, match="cannot load the masked language model"):
        MaskedLMCandidates.load(with_code, fallback, 1)


def test_it_runs_only_where_it_is_asked_for(with_code, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    load_pretrained(AutoConfig, with_code, trust_remote_code=True)
    assert (tmp_path / "it ran").exists()


def test_python_files_in_a_model_folder_are_never_imported(encoder_folder, tmp_path, marker, monkeypatch):
    folder = tmp_path / "model"
    shutil.copytree(encoder_folder, folder)
    for name in (
        "__init__.py",
        "modeling_bert.py",
        "configuration_bert.py",
        "tokenization_bert.py",
        "torch.py",
    ):
        (folder / name).write_text(CODE.format(marker=str(marker)))
    load_classifier(folder)
    load_pretrained(AutoTokenizer, folder)


def test_the_runtime_beside_an_exported_model_is_not_run_by_the_benchmark(
    encoder_folder, tmp_path, marker, capsys
):
    exported = tmp_path / "exported"
    assert (
        nlp_distill.cli.main(["export", str(encoder_folder), "--output", str(exported), "--max-length", "32"])
        == 0
    )
    (exported / "runtime.py").write_text(CODE.format(marker=str(marker)))
    options = ["--lengths", "8", "--threads", "1", "--repeats", "1", "--seconds", "0"]
    assert nlp_distill.cli.main(["benchmark", str(exported), *options]) == 0
    assert "onnxruntime" in capsys.readouterr().out


# ---- paths, network, secrets, temporary files ------------------------------------------------------------------------

HOSTILE = [
    "../../outside",
    "/outside",
    "..\\outside",
    "a/b",
    "~/outside",
    "$(touch outside)",
    "outside\x1b[2J",
]
SECRETS = {
    "HF_TOKEN": "hf_secretmarker",
    "HUGGING_FACE_HUB_TOKEN": "hf_secretmarker",
    "WANDB_API_KEY": "secretmarker",
}


def write_task(path, labels=("no", "yes")):
    """A file of rows whose ids and labels are whatever they are."""
    lines = ["id,text,label"]
    lines += [f'"{HOSTILE[n % 7]}{n}",a film number {n},"{labels[n % len(labels)]}"' for n in range(40)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Where the small job below works."""
    return tmp_path_factory.mktemp("parent") / "work" / "job"


@pytest.fixture(scope="module")
def trained(job, encoder_folder):
    """A whole small job with hostile ids and labels, and secrets in the environment: the largest exit code."""
    job.mkdir(parents=True)
    rows = write_task(job / "rows.csv", HOSTILE)
    data = ["--train-file", str(rows), "--text-column", "text", "--task", "mine"]
    small = ["--max-length", "32", "--num-train-epochs", "1", "--results-dir", str(job / "published")]
    student = ["--hidden-size", "4", "--embedding-size", "4", "--n-iter", "1", "--pos-tagger", "textblob"]
    run = ["--teacher", str(job / "teacher"), "--output", str(job / "run")]
    labelled = ["--text-column", "text", "--output", str(job / "labelled.parquet")]
    commands = [
        ["finetune", "--model", str(encoder_folder), "--output", str(job / "teacher"), *data, *small],
        ["distill", "bilstm", *data, *run, *student, *small],
        ["report", str(job / "run"), *data],
        ["label", "--teacher", str(job / "teacher"), "--input", str(job / "copies.parquet"), *labelled],
    ]
    copies = [
        "--input",
        str(rows),
        "--output",
        str(job / "copies.parquet"),
        "--text-column",
        "text",
        "--n-iter",
        "2",
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        codes = [data_augment.cli.main([*copies, "--pos-tagger", "textblob", "--num-workers", "2"])]
        codes += [nlp_distill.cli.main([*command]) for command in commands[:-1]]
        codes += [nlp_distill.cli.main([*commands[-1], "--max-length", "32"])]
    return max(codes)


def test_ids_and_labels_that_are_paths_write_nothing_outside_the_output(trained, job):
    assert trained == 0
    model = json.loads((job / "teacher" / "config.json").read_text())
    assert "../../outside" in model["label2id"]
    top = job.parents[1]
    assert [path.name for path in top.iterdir()] == ["work"] and [
        path.name for path in job.parent.iterdir()
    ] == ["job"]
    labelled = {"labelled.parquet", "labelled.parquet.sha256"}
    expected = {"rows.csv", "copies.parquet", *labelled, "teacher", "run", "published"}
    assert {path.name for path in job.iterdir()} == expected
    assert not [path for path in job.rglob("*") if "outside" in path.name]
    assert not Path("/outside").exists() and not Path("outside").exists()


def test_a_report_shows_hostile_labels_as_text(trained, job, encoder_folder, tmp_path):
    page = (job / "run" / "report.html").read_text(encoding="utf-8")
    assert (
        "$(touch outside)" in page and "<script" not in page and "http" not in page.replace("http-equiv", "")
    )


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "a\\b", "/x", "x\n", "x\x1b[2J"])
def test_a_task_whose_name_is_a_path_is_refused(name, encoder_folder, tmp_path, capsys):
    rows = write_task(tmp_path / "rows.csv")
    options = ["--model", str(encoder_folder), "--output", str(tmp_path / "out"), "--task", name]
    code = nlp_distill.cli.main(["finetune", "--train-file", str(rows), "--text-column", "text", *options])
    assert code == 2 and "a name without slashes" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_no_output_file_holds_a_secret_of_the_environment(trained, job):
    assert trained == 0
    files = [path for path in job.rglob("*") if path.is_file()]
    assert {"results.json", "results.md", "README.md", "report.html", "0.json"} <= {
        path.name for path in files
    }
    assert [path for path in files if b"secretmarker" in path.read_bytes()] == []


@pytest.mark.parametrize("option", ["--hub-token", "--hub_token", "--push-to-hub-token"])
def test_a_secret_on_the_command_line_is_refused(option, encoder_folder, tmp_path, capsys):
    rows = write_task(tmp_path / "rows.csv")
    options = ["--model", str(encoder_folder), "--output", str(tmp_path / "out"), option, "hf_secretmarker"]
    code = nlp_distill.cli.main(["finetune", "--train-file", str(rows), "--text-column", "text", *options])
    said = capsys.readouterr().err
    assert code == 2 and "secretmarker" not in said and ("HF_TOKEN" in said or "unknown option" in said)


# Any connection is written down and refused. Sockets of the machine itself (of multiprocessing) are no network.
WITHOUT_NETWORK = """
import socket, sys
def refuse(*given, **named):
    open({attempts!r}, "a").write(f"{{given}}\\n")
    raise OSError("no network here")
class Socket(socket.socket):
    def connect(self, address):
        return super().connect(address) if self.family == socket.AF_UNIX else refuse(address)
    connect_ex = connect
socket.socket = Socket
socket.create_connection = socket.getaddrinfo = refuse
import data_augment.cli, nlp_distill.cli
def run(package, *arguments):
    code = package.cli.main(list(arguments))
    if code: sys.exit(code)
"""


def run_without_network(program, tmp_path):
    attempts = tmp_path / "attempts"
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    environment |= {
        "HF_HOME": str(tmp_path / "hf"),
        "PYTHONPATH": os.pathsep.join(map(str, [PACKAGES[0].parent])),
    }
    code = WITHOUT_NETWORK.format(attempts=str(attempts)) + program
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    return done, attempts.read_text() if attempts.exists() else ""


def test_a_job_on_files_of_this_machine_asks_no_network(encoder_folder, tmp_path):
    rows, out, copies = write_task(tmp_path / "rows.csv"), tmp_path / "out", tmp_path / "copies.csv"
    data = f"'--train-file', {str(rows)!r}, '--text-column', 'text', '--max-length', '32'"
    program = (
        f"run(data_augment, '--input', {str(rows)!r}, '--output', {str(copies)!r}, '--text-column', 'text')\n"
        f"run(nlp_distill, 'finetune', '--model', {str(encoder_folder)!r}, '--output', {str(out)!r}, {data}, "
        "'--num-train-epochs', '1')\n"
        f"run(nlp_distill, 'evaluate', '--model', {str(out)!r}, {data})\n"
    )
    done, attempts = run_without_network(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert attempts == ""


def test_a_name_of_the_hub_would_ask_the_network(tmp_path):
    program = "run(nlp_distill, 'export', 'nobody/nothing', '--output', 'out')\n"
    done, attempts = run_without_network(program, tmp_path)
    assert done.returncode == 2 and "cannot load 'nobody/nothing'" in done.stderr
    assert attempts


@pytest.fixture
def open_umask():
    """A user whose files are open to everybody unless a program closes them."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_unfinished_files_are_private(tmp_path, open_umask):
    with open_atomically(tmp_path / "rows.csv") as temporary:
        assert temporary.parent == tmp_path and temporary.stat().st_mode & 0o777 == 0o600


def test_what_goes_to_workers_is_private_and_goes_away(tmp_path, open_umask, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    class Watched(BlockVarier):
        def save_table(self, path):
            super().save_table(path)
            seen.append((path.parent.parent, path.parent.stat().st_mode & 0o777))

    varier = Watched(TagCounter().make_table(), combine_rules([MaskRule()]), seed=0)
    assert list(vary_blocks([], varier, 2)) == []
    assert seen == [(tmp_path, 0o700)] and list(tmp_path.iterdir()) == []


def test_a_job_leaves_nothing_in_the_temporary_folder(encoder_folder, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    rows = write_task(tmp_path / "rows.csv")
    options = ["--text-column", "text", "--pos-tagger", "textblob", "--num-workers", "2"]
    code = data_augment.cli.main(["--input", str(rows), "--output", str(tmp_path / "o.csv"), *options])
    assert code == 0 and list(folder.iterdir()) == []
