"""Exported models, and the service in a thread behind a real socket."""

import http.client
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="session")
def export(run_cli, own_files, tmp_path_factory):
    """``export(saved_folder, *columns)``: the model exported; with columns it says whether it reads pairs."""
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="the extra 'onnx' is not installed")

    def run(saved, *columns):
        output = tmp_path_factory.mktemp("exported") / "model"
        options = ["--max-length", 32]
        if columns:
            options += ["--sample-file", own_files / "test.csv"]
            options += [
                part
                for pair in zip(("--text-column", "--text-pair-column"), columns, strict=False)
                for part in pair
            ]
        assert run_cli("export", saved, "--output", output, *options) == 0
        return output

    return run


@pytest.fixture(scope="session")
def student_folder(export, encoder_folder):
    """A tiny BERT with random weights, exported; nobody said whether it reads pairs."""
    return export(encoder_folder)


@pytest.fixture(scope="session")
def exported_teacher(export, teacher_folder):
    """The fine-tuned teacher, exported."""
    return export(teacher_folder)


@pytest.fixture(scope="session")
def pair_folder(export, encoder_folder):
    """A model of pairs, exported."""
    return export(encoder_folder, "text", "second")


@pytest.fixture(scope="session")
def single_folder(export, encoder_folder):
    """A model of single texts, exported."""
    return export(encoder_folder, "text")


@dataclass(frozen=True)
class Service:
    """A service that runs; ``ask`` talks to it over the network."""

    port: int

    def ask(self, texts, path="/predict"):
        """Status and JSON of a question."""
        status, _, reply = self.send("POST", path, json.dumps({"texts": texts}), JSON)
        return status, json.loads(reply)

    def send(self, method, path, body=None, headers=None):
        """Status, headers and body of any request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="session")
def connect():
    """``connect(port)``: a service that runs already."""
    return Service


@pytest.fixture(scope="session")
def run_service():
    """``with run_service(models, limits, **settings) as service``: uvicorn in a thread, as the command sets it up."""
    for package in ("starlette", "uvicorn"):
        pytest.importorskip(package, reason="the extra 'serve' is not installed")
    import uvicorn

    from nlp_distill.serve.app import make_app
    from nlp_distill.serve.server import bind, configure

    @contextmanager
    def run(models, limits=None, **settings):
        own = bind("127.0.0.1", 0)
        port = own.getsockname()[1]
        server = uvicorn.Server(configure(make_app(models, limits, **settings)))
        own.listen(server.config.backlog)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [own]})
        thread.start()
        try:
            yield Service(port)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()

    return run


@pytest.fixture(scope="session")
def service(run_service, student_folder, exported_teacher):
    """Student and teacher with the default limits."""
    from nlp_distill.serve.models import open_exported

    models = {"student": open_exported(student_folder), "teacher": open_exported(exported_teacher)}
    with run_service(models) as running:
        yield running
