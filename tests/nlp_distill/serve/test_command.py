"""``nlp-distill serve`` as a process: it answers, leaves in order, and refuses wrong input in one line."""

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nlp_distill.students import MultiTaskModel, TaskHead

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")


@pytest.fixture
def start(connect, tmp_path):
    """``start(*arguments)``: the command in a process of its own, its service, and the file of its messages.

    It returns when the service is ready, or when its messages match ``until``.
    """
    processes = []

    def run(*arguments, until=r"at http://127\.0\.0\.1:(?P<port>\d+) "):
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(tmp_path / "tmp"),
        }
        (tmp_path / "tmp").mkdir()
        log = tmp_path / "log"
        command = [sys.executable, "-m", "nlp_distill", "serve", *map(str, arguments), "--port", "0"]
        with log.open("w") as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, cwd=tmp_path)
        processes.append(process)
        deadline = time.monotonic() + 240
        while not (found := re.search(until, log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        return process, connect(int(found.groupdict().get("port", 0))), log

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_saved_model_that_compares_two_texts_is_asked_pairs_alone(make_bert, tokenizer, tmp_path):
    """SAN's config has no word for it: its softmax over an empty second text would answer nonsense."""
    from nlp_distill.commands.serve import open_model

    heads = [TaskHead("entailment", ("no", "yes"), is_pair=True, head="san")]
    model = MultiTaskModel.from_encoder(make_bert(), heads).for_task("entailment")
    model.save_pretrained(tmp_path / "san")
    tokenizer.save_pretrained(tmp_path / "san")
    assert open_model(str(tmp_path / "san"), False).describe()["reads"] == "pairs"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_told_to_stop_answers_what_has_arrived_and_ends_well(start, student_folder, number):
    process, service, log = start(
        student_folder, "--max-wait-ms", 5000
    )  # so that all five wait when the signal comes
    with ThreadPoolExecutor(5) as clients:
        asked = [clients.submit(service.ask, f"good {n}") for n in range(5)]
        while json.loads(service.send("GET", "/health")[2])["waiting"] < 5:
            time.sleep(0.01)
        process.send_signal(number)
        replies = [one.result() for one in asked]
    assert [status for status, _ in replies] == [200] * 5
    assert {reply["batch"] for _, reply in replies} == {5}
    assert process.wait(60) == 0, log.read_text()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", service.port), timeout=5)
    assert log.read_text().endswith("stopped\n") and "Traceback" not in log.read_text()


def test_saved_models_are_exported_for_as_long_as_they_are_loaded(
    start, encoder_folder, teacher_folder, student_folder, exported_teacher, tmp_path
):
    process, service, log = start(encoder_folder, "--teacher", teacher_folder)
    status, reply = service.ask(["a good film", "dull"])
    health = json.loads(service.send("GET", "/health")[2])
    assert list((tmp_path / "tmp").glob("nlp-distill-*")) == []  # no copy is left while it serves
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert log.read_text().count("is no exported model; exporting it") == 2
    from nlp_distill.runtime import Classifier

    assert status == 200
    assert health["models"]["teacher"]["name"] == "teacher"
    for name, folder in (("student", student_folder), ("teacher", exported_teacher)):
        expected = Classifier(folder).compute_probabilities(["a good film", "dull"])
        found = [list(answer["probabilities"].values()) for answer in reply[name]["answers"]]
        assert found == [pytest.approx(row.tolist(), abs=1e-4) for row in expected]
        # The student's config has no names for its labels; the teacher's speak for both.
        assert set(reply[name]["answers"][0]["probabilities"]) == {"negative", "positive"}


def test_a_service_that_is_told_to_stop_while_it_exports_leaves_nothing_behind(
    start, encoder_folder, tmp_path
):
    process, _, log = start(encoder_folder, until="exporting it for as long as this runs")
    while not list((tmp_path / "tmp").glob("nlp-distill-*")):
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(60)
    except subprocess.TimeoutExpired:
        pytest.fail(f"it goes on after SIGTERM: {log.read_text()}")
    assert code == 128 + signal.SIGTERM and "Traceback" not in log.read_text()
    assert list((tmp_path / "tmp").glob("nlp-distill-*")) == []


LOADING = """
import os, signal, sys, time
from nlp_distill.cli import main
from nlp_distill.commands import serve

def load(options):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)  # the handler runs before this ends
    except BaseException:
        return {}

serve.open_models = load
sys.exit(main(["serve", "student", "--port", "0"]))
"""


def test_a_service_whose_loading_swallows_every_exception_still_ends_when_told_to(tmp_path):
    """Some libraries catch whatever is raised while they are imported, the exit of a signal's handler as well."""
    done = subprocess.run(
        [sys.executable, "-c", LOADING],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")


# ---- wrong input ----------------------------------------------------------------------------------------------------


@pytest.fixture
def places(student_folder, exported_teacher, pair_folder, single_folder, encoder_folder, tmp_path, run_cli):
    """Folders for the cases below, each made when a case names it."""

    def copy(name, source=student_folder):
        return shutil.copytree(source, tmp_path / name)

    def damage(name, file, content):
        (copy(name) / file).write_text(content)
        return tmp_path / name

    def relabel(name):
        settings = json.loads((copy(name) / "runtime.json").read_text()) | {"labels": ["calm", "angry"]}
        (tmp_path / name / "runtime.json").write_text(json.dumps(settings))
        return tmp_path / name

    def make_program(name):
        output = tmp_path / name
        assert run_cli("export", encoder_folder, "--output", output, "--format", "exported-program") == 0
        return output

    def make_empty(name):
        (tmp_path / name).mkdir()
        return tmp_path / name

    def make_multitask(name):
        from transformers import AutoModelForSequenceClassification

        encoder = AutoModelForSequenceClassification.from_pretrained(encoder_folder)
        MultiTaskModel.from_encoder(encoder, [TaskHead("films", ("bad", "good"))]).save_pretrained(
            tmp_path / name
        )
        return tmp_path / name

    makers = {
        "empty": make_empty,
        "other_labels": relabel,
        "program": make_program,
        "multitask": make_multitask,
        "torn_model": lambda name: damage(name, "model.onnx", "torn"),
        "torn_tokenizer": lambda name: damage(name, "tokenizer.json", "{"),
        "torn_settings": lambda name: damage(name, "runtime.json", '{"labels": ['),
        "old_settings": lambda name: damage(name, "runtime.json", "{}"),
        "student": lambda _: student_folder,
        "teacher": lambda _: exported_teacher,
        "pair": lambda _: pair_folder,
        "single": lambda _: single_folder,
        "nowhere": lambda name: tmp_path / name,
    }

    def find(part):
        return makers[part[1:-1]](part[1:-1]) if str(part).startswith("{") else part

    return find


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{empty}"], "holds neither runtime.json (nlp-distill export) nor config.json (save_pretrained)"),
        (["{nowhere}"], "no folder"),
        (["nobody/nothing"], "cannot load 'nobody/nothing'"),
        (["{student}", "--teacher", "{empty}"], "holds neither runtime.json"),
        (["{program}"], "an exported program runs in programs of torch; export as ONNX"),
        (["{multitask}"], "is a multi-task model; export the task to serve first"),
        (["{torn_model}"], "cannot serve"),
        (["{torn_tokenizer}"], "cannot serve"),
        (["{torn_settings}"], "export the model again"),
        (["{old_settings}"], "export the model again"),
        (["{teacher}", "--teacher", "{other_labels}"], "the teacher's are [calm, angry]"),
        (
            ["{pair}", "--teacher", "{single}"],
            "student reads pairs, teacher reads texts; give models of one task",
        ),
        (["{student}", "--max-batch", 0], "max_batch is 0; it must be a whole number of at least 1"),
        (["{student}", "--max-text-chars", -1], "max_text_chars is -1"),
        (["{student}", "--max-request-bytes", 0], "max_request_bytes is 0"),
        (["{student}", "--max-wait-ms", -1], "--max-wait-ms is -1.0; it must be from 0 to 10000"),
        (["{student}", "--max-wait-ms", "nan"], "--max-wait-ms is nan"),
        (["{student}", "--port", 70000], "--port is 70000; it must be a whole number from 0 to 65535"),
        (["{student}", "--port", -1], "--port is -1"),
        (["{student}", "--host", "no such host"], "--host is 'no such host', which names no machine"),
        (["{student}", "--host", "192.0.2.1"], "192.0.2.1 port 8000 is no address of this machine"),
    ],
)
def test_what_cannot_be_served_gets_one_line(run_cli, places, capsys, arguments, message):
    given = [places(part) for part in arguments]
    capsys.readouterr()
    given += [] if {"--port", "--host"} & set(arguments) else ["--port", 0]
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run_cli("serve", *given) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ") and message in lines[-1] and "Traceback" not in "".join(lines)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_port_in_use_is_refused_before_any_model_is_loaded(run_cli, capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run_cli("serve", tmp_path / "not even looked at", "--port", port) == 2
    error = capsys.readouterr().err.strip()
    assert error == f"error: 127.0.0.1 port {port} is in use; give another --port, or 0 for any free one"


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "onnxruntime"])
def test_a_missing_extra_names_its_installation(run_cli, student_folder, capsys, monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    assert run_cli("serve", student_folder) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error == f'error: serving needs {package}; run `pip install "nlp_distill[serve]"`'
