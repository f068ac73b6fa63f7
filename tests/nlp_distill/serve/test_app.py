"""The service over a real socket: the right answers under load, and a clear one to whatever else is sent."""

import base64
import dataclasses
import functools
import hashlib
import html.parser
import json
import re
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nlp_distill.runtime import Classifier
from nlp_distill.serve.batcher import Batcher
from nlp_distill.serve.models import Served, open_exported

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")

JSON = {"Content-Type": "application/json"}
WORDS = ["good", "bad", "film", "plot", "never", "dull", "great", "story", "it", "was"]
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def make_texts(count):
    """So many different texts of 1 to 12 words."""
    texts = [f"{WORDS[n % 10]} {WORDS[n // 10 % 10]} " * (1 + n % 6) + f"x{n}" for n in range(count)]
    assert len(set(texts)) == count
    return texts


def check_answers(found, classifier, texts, labels):
    expected = classifier.compute_probabilities(texts)
    for answer, row in zip(found, expected, strict=True):
        assert list(answer["probabilities"]) == labels
        assert list(answer["probabilities"].values()) == pytest.approx(row.tolist(), abs=1e-5)
        assert answer["label"] == labels[row.argmax()] and answer["score"] == max(
            answer["probabilities"].values()
        )


@pytest.mark.parametrize(("side", "end"), [("right", "first"), ("left", "last")])
def test_the_page_says_which_end_of_a_long_text_is_read(student_folder, tmp_path, side, end):
    from nlp_distill.serve.page import render_page
    from nlp_distill.serve.requests import Limits

    folder = shutil.copytree(student_folder, tmp_path / "student")
    settings = json.loads((folder / "runtime.json").read_text()) | {"truncation_side": side}
    (folder / "runtime.json").write_text(json.dumps(settings))
    page = render_page({"student": open_exported(folder)}, Limits(), None)
    assert f"reads the {end} {settings['max_length']} tokens" in page


# ---- answers --------------------------------------------------------------------------------------------------------


def test_student_and_teacher_answer_side_by_side(service, student_folder, exported_teacher):
    texts = make_texts(5)
    status, reply = service.ask(texts)
    assert status == 200 and list(reply) == ["student", "teacher", "batch", "waited_ms"]
    for name, folder in (("student", student_folder), ("teacher", exported_teacher)):
        classifier = Classifier(folder)
        check_answers(reply[name]["answers"], classifier, texts, classifier.labels)
        assert reply[name]["ms"] > 0
    assert reply["batch"] == 5 and reply["waited_ms"] >= 0


def test_one_text_may_come_without_a_list(service):
    one, listed = service.ask("a good film"), service.ask(["a good film"])
    assert (
        one[1]["student"]["answers"] == listed[1]["student"]["answers"]
        and len(listed[1]["student"]["answers"]) == 1
    )


def test_two_hundred_requests_at_a_time_get_their_own_answers_and_share_batches(
    run_service, student_folder, exported_teacher
):
    models = {"student": open_exported(student_folder), "teacher": open_exported(exported_teacher)}
    texts = make_texts(600)
    requests = [texts[3 * n : 3 * n + 1 + n % 3] for n in range(200)]
    together = threading.Barrier(len(requests))
    with run_service(models, max_wait=0.02) as service, ThreadPoolExecutor(len(requests)) as clients:

        def ask(request):
            together.wait(60)
            return service.ask(request)

        replies = list(clients.map(ask, requests))
    assert {status for status, _ in replies} == {200}
    classifiers = {"student": Classifier(student_folder), "teacher": Classifier(exported_teacher)}
    for name, classifier in classifiers.items():
        found = [answer for _, reply in replies for answer in reply[name]["answers"]]
        check_answers(
            found, classifier, [text for request in requests for text in request], classifier.labels
        )
    sizes = [reply["batch"] for _, reply in replies]
    assert max(sizes) <= 32 and sum(sizes) / len(sizes) > 4  # without batches it would be 2


@dataclasses.dataclass(frozen=True)
class Fussy(Served):
    """A model that fails on one word."""

    def answer(self, texts):
        if any("never" in text for text in texts):
            raise RuntimeError("secret details")
        return super().answer(texts)


def test_a_request_on_which_the_model_fails_hurts_no_other(run_service, student_folder, caplog):
    opened = open_exported(student_folder)
    fussy = Fussy(opened.name, opened.classifier, opened.labels)
    texts = [f"never {n}" if n % 10 == 0 else f"good {n}" for n in range(40)]
    with run_service({"student": fussy}, max_wait=0.05) as service, ThreadPoolExecutor(40) as clients:
        replies = list(clients.map(service.ask, texts))
        status, headers, _ = service.send("POST", "/predict", '{"texts": "never"}', JSON)
    assert status == 500 and HEADERS.items() <= headers.items()
    for text, (status, reply) in zip(texts, replies, strict=True):
        if "never" in text:
            assert status == 500 and "secret" not in json.dumps(reply) and "failed" in reply["error"]
        else:
            assert status == 200
            check_answers(reply["student"]["answers"], opened.classifier, [text], list(opened.labels))
    assert "secret details" in caplog.text  # for whoever runs the service


def test_pairs_keep_their_sides_and_are_told_from_texts(
    run_service, pair_folder, single_folder, student_folder
):
    pairs = [["good film", "a dull plot"], ["a dull plot", "good film"]]
    expected = Classifier(pair_folder).compute_probabilities([tuple(pair) for pair in pairs])
    assert abs(expected[0] - expected[1]).max() > 1e-3
    with run_service({"student": open_exported(pair_folder)}) as service:
        _, reply = service.ask(pairs)
        for answer, row in zip(reply["student"]["answers"], expected, strict=True):
            assert list(answer["probabilities"].values()) == pytest.approx(row.tolist(), abs=1e-5)
        status, reply = service.ask(["one text"])
        assert status == 422 and "texts[0] is one text, and this model compares two" in reply["error"]
        status, reply = service.ask([["a", "b", "c"]])
        assert status == 422 and "texts[0] must be a pair of strings" in reply["error"]
        status, reply = service.ask([["a", " "]])
        assert status == 422 and reply["error"] == "texts[0][1] is empty"
    with run_service({"student": open_exported(single_folder)}) as service:
        status, reply = service.ask(pairs)
        assert status == 422 and "texts[0] is a pair, and this model reads one text" in reply["error"]
    with run_service({"student": open_exported(student_folder)}) as service:  # nobody said which it reads
        status, reply = service.ask(["good film", pairs[0]])
        assert status == 200 and len(reply["student"]["answers"]) == 2


def test_a_regression_answers_with_values(run_service, make_bert, tokenizer, run_cli, tmp_path):
    make_bert(labels=()).save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    assert run_cli("export", tmp_path / "saved", "--output", tmp_path / "out") == 0
    with run_service({"student": open_exported(tmp_path / "out")}) as service:
        _, reply = service.ask(["good", "bad"])
        api = json.loads(service.send("GET", "/openapi.json")[2])
    expected = Classifier(tmp_path / "out")(["good", "bad"])
    assert [answer["value"] for answer in reply["student"]["answers"]] == pytest.approx(
        [answer["value"] for answer in expected], abs=1e-5
    )
    check_schema(reply, api["components"]["schemas"]["Reply"])


# ---- refusals -------------------------------------------------------------------------------------------------------

BODIES = {
    "no JSON": (b"what a day", 400, "the body is no JSON"),
    "empty": (b"", 400, "the body is no JSON"),
    "no UTF-8": (b'{"texts": "\xff"}', 400, "the body is no UTF-8"),
    "deep nesting": (b"[" * 100_000, 400, "the body is no JSON"),
    "a long number": (b'{"texts": ' + b"9" * 100_000 + b"}", 400, "the body is no JSON"),
    "a list": (b'["a"]', 422, "must be an object with the field texts"),
    "null": (b"null", 422, "must be an object with the field texts"),
    "another field": (b'{"text": "a"}', 422, "must be an object with the field texts"),
    "one field more": (b'{"texts": "a", "top_k": 3}', 422, "fields besides texts"),
    "a number": (b'{"texts": 5}', 422, "texts must be a text or a list"),
    "NaN": (b'{"texts": [NaN]}', 422, "texts[0] must be a string"),
    "an empty list": (b'{"texts": []}', 422, "texts is empty; give at least one"),
    "a number inside": (b'{"texts": ["a", 5]}', 422, "texts[1] must be a string"),
    "null inside": (b'{"texts": [null]}', 422, "texts[0] must be a string"),
    "an object inside": (b'{"texts": [{"a": 1}]}', 422, "texts[0] must be a string"),
    "a number in a pair": (b'{"texts": [["a", 5]]}', 422, "texts[0][1] must be a string"),
    "an empty text": (b'{"texts": ["a", ""]}', 422, "texts[1] is empty"),
    "a blank text": (b'{"texts": " \\n "}', 422, "texts[0] is empty"),
    "too many": (json.dumps({"texts": ["a"] * 33}).encode(), 422, "texts holds 33; at most 32"),
    "too long": (json.dumps({"texts": ["a" * 10_001]}).encode(), 422, "10,001 characters; at most 10,000"),
    "a NUL": (b'{"texts": ["a\\u0000b"]}', 422, "texts[0] holds a NUL character"),
    "half a surrogate pair": (b'{"texts": ["\\ud83d"]}', 422, "half of a surrogate pair"),
    "the other half in a pair": (b'{"texts": [["a", "\\ude00"]]}', 422, "texts[0][1] holds half"),
    "too large": (b'{"texts": "' + b"a" * 2**20 + b'"}', 413, "the body has more than 1,048,576 bytes"),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_wrong_body_gets_a_clear_answer(service, case):
    body, expected, message = BODIES[case]
    status, headers, reply = service.send("POST", "/predict", body, JSON)
    assert status == expected and headers["content-type"] == "application/json"
    reply = json.loads(reply)
    assert list(reply) == ["error"] and message in reply["error"] and "\n" not in reply["error"]
    assert HEADERS.items() <= headers.items()


def test_a_whole_surrogate_pair_and_text_at_the_limits_are_answered(service):
    body = b'{"texts": ["\\ud83d\\ude00", "' + b"a" * 10_000 + b'", "\xf0\x9f\x98\x80", "\\u200b"]}'
    status, _, reply = service.send("POST", "/predict", body, JSON)
    first, _, third, _ = json.loads(reply)["student"]["answers"]
    assert status == 200 and first["score"] == pytest.approx(third["score"])
    assert service.ask(["a"] * 32)[0] == 200


def test_limits_are_what_was_asked_for(run_service, student_folder):
    from nlp_distill.serve.requests import Limits

    limits = Limits(max_batch=2, max_text_chars=5, max_request_bytes=100)
    with run_service({"student": open_exported(student_folder)}, limits) as service:
        assert service.ask(["aaaaa", "b"])[0] == 200
        assert service.ask(["a", "b", "c"])[0] == 422 and service.ask(["aaaaaa"])[0] == 422
        assert service.ask(["a" * 100])[0] == 413
        api = json.loads(service.send("GET", "/openapi.json")[2])
    question = json.dumps(api["components"]["schemas"]["Question"])
    assert '"maxItems": 2' in question and '"maxLength": 5' in question and "100 bytes" in question


def test_a_chunked_body_is_measured_as_well(service):
    def chunks():  # whose length http.client cannot know
        for _ in range(40):
            yield b" " * 2**16

    status, _, reply = service.send("POST", "/predict", chunks(), JSON)
    assert status == 413 and "more than" in reply
    body = iter([b'{"texts": ', b'"a good film"}'])
    assert service.send("POST", "/predict", body, JSON)[0] == 200


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_only_json_is_read_so_that_no_other_web_page_can_ask(service, kind):
    headers = {"Content-Type": kind} if kind else {}
    status, headers, reply = service.send("POST", "/predict", '{"texts": "a"}', headers)
    assert status == 415 and "Content-Type: application/json" in json.loads(reply)["error"]
    status, headers, _ = service.send("OPTIONS", "/predict", None, {"Origin": "http://evil.example"})
    assert status == 405 and not [name for name in headers if name.startswith("access-control")]
    ours = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert service.send("POST", "/predict", '{"texts": "a"}', ours)[0] == 200


@pytest.mark.parametrize("path", ["/nowhere", "/predict/", "/docs/x", "/../etc/passwd", "/favicon.ico"])
def test_other_addresses_are_404_in_json(service, path):
    status, headers, reply = service.send("GET", path)
    assert status == 404 and "see /docs" in json.loads(reply)["error"] and HEADERS.items() <= headers.items()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/predict", {"POST"}), ("PUT", "/predict", {"POST"}), ("POST", "/", {"GET", "HEAD"})],
)
def test_other_methods_are_405_in_json_and_name_the_right_one(service, method, path, allowed):
    status, headers, reply = service.send(method, path)
    assert status == 405 and set(re.split(", *", headers["allow"])) == allowed
    assert json.loads(reply)["error"].startswith("this address answers to ")


def test_too_many_waiting_texts_get_a_503(run_service, student_folder, monkeypatch):
    opened, started, go_on = open_exported(student_folder), threading.Event(), threading.Event()

    @dataclasses.dataclass(frozen=True)
    class Slow(Served):
        def answer(self, texts):
            started.set()
            assert go_on.wait(30)
            return super().answer(texts)

    monkeypatch.setattr("nlp_distill.serve.app.Batcher", functools.partial(Batcher, max_waiting=1))
    slow = Slow(opened.name, opened.classifier, opened.labels)
    with run_service({"student": slow}) as service, ThreadPoolExecutor(2) as clients:
        first = clients.submit(service.ask, "a")
        assert started.wait(30)
        second = clients.submit(service.ask, "b")
        while json.loads(service.send("GET", "/health")[2])["waiting"] < 1:
            time.sleep(0.01)
        status, headers, reply = service.send("POST", "/predict", '{"texts": "c"}', JSON)
        go_on.set()
        assert status == 503 and headers["retry-after"] == "1" and "waiting" in json.loads(reply)["error"]
        assert first.result()[0] == second.result()[0] == 200


def test_a_body_that_does_not_come_gets_a_408(service, monkeypatch):
    monkeypatch.setattr("nlp_distill.serve.requests.BODY_SECONDS", 0.2)
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_leaves_early_hurts_nobody(service, caplog):
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head.encode())
    assert service.ask("still here")[0] == 200
    assert not caplog.records


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8000", 421),
        ("localhost:8000@evil.example", 421),
        ("10.0.0.1", 421),
        ("", 421),
    ],
)
def test_only_requests_for_this_machine_are_answered(service, host, status):
    found, headers, reply = service.send("GET", "/health", None, {"Host": host})
    assert found == status and HEADERS.items() <= headers.items()
    assert json.loads(reply)


def test_a_service_for_others_answers_to_any_name(run_service, student_folder):
    with run_service({"student": open_exported(student_folder)}, local_only=False) as service:
        assert service.send("GET", "/health", None, {"Host": "models.example"})[0] == 200


# ---- documents ------------------------------------------------------------------------------------------------------


def check_schema(value, schema):
    """The part of JSON Schema that the document uses."""
    kinds = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int}
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), (value, schema)
    if "enum" in schema:
        assert value in schema["enum"]
    if "oneOf" in schema:
        assert sum(fits(value, one) for one in schema["oneOf"]) == 1
    if schema.get("type") == "object":
        assert set(schema["required"]) <= set(value) == set(schema["properties"])
        for name, part in value.items():
            check_schema(part, schema["properties"][name])
    if schema.get("type") == "array":
        assert schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        for part in value:
            check_schema(part, schema["items"])
    if schema.get("type") == "string":
        assert schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
    if schema.get("type") == "number":
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value)


def fits(value, schema):
    try:
        check_schema(value, schema)
    except AssertionError:
        return False
    return True


def test_the_openapi_document_says_what_the_service_does(service):
    api = json.loads(service.send("GET", "/openapi.json")[2])
    assert api["openapi"] == "3.1.0" and api["info"]["title"] and api["info"]["version"]
    schemas = api["components"]["schemas"]
    references = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(api))
    assert set(references) == set(schemas)
    question = api["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    check_schema(question, schemas["Question"])
    status, reply = service.ask(question["texts"])
    assert status == 200
    check_schema(reply, schemas["Reply"])
    check_schema(service.ask([])[1], schemas["Error"])
    documented = {int(status) for status in api["paths"]["/predict"]["post"]["responses"]}
    assert {status for _, status, _ in BODIES.values()} | {200, 408, 415, 500, 503} == documented
    for path, methods in api["paths"].items():
        if "get" in methods:
            status, headers, _ = service.send("GET", path)
            [kind] = methods["get"]["responses"]["200"]["content"]
            assert status == 200 and headers["content-type"].startswith(kind)
            assert service.send("HEAD", path)[0] == 200
    for body, fitting in (
        ({"texts": []}, False),
        ({"texts": [["a", "b"], "c"]}, True),
        ({"texts": "a"}, True),
    ):
        assert fits(body, schemas["Question"]) is fitting
        assert (service.ask(body["texts"])[0] == 200) is fitting


def test_health_names_the_models(service):
    health = json.loads(service.send("GET", "/health")[2])
    assert health["status"] == "ok" and health["waiting"] == 0
    assert health["models"]["teacher"]["labels"] == ["negative", "positive"]
    assert (
        health["models"]["student"]["max_length"] == 32
        and health["models"]["student"]["reads"] == "texts or pairs"
    )


class Page(html.parser.HTMLParser):
    """Tags and attributes of a page, and what its styles and scripts hold."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.inline, self.inside = {"style": [], "script": []}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        self.inline.get(self.inside, self.words).append(data)


@pytest.mark.parametrize(("path", "scripts"), [("/", 1), ("/docs", 0)])
def test_a_page_fetches_nothing_and_allows_only_its_own_style_and_script(service, path, scripts):
    _, headers, text = service.send("GET", path)
    page = Page(text)
    assert page.tags.count("script") == scripts and page.tags.count("style") == 1
    assert not {"img", "iframe", "object", "base"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on") and name not in ("style", "src", "action")
        if name == "href":
            assert value in ("docs", "openapi.json", "./") or (tag == "link" and value == "data:,")
    assert "url(" not in text and "@import" not in text and "innerHTML" not in text
    assert 'name="viewport"' in text and "prefers-color-scheme: dark" in text
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    for tag, sources in (("style", page.inline["style"]), ("script", page.inline["script"])):
        digests = [base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in sources]
        allowed = policy.get(f"{tag}-src", "").split()
        assert [f"'sha256-{digest}'" for digest in digests] == allowed
    assert HEADERS.items() <= headers.items()


def test_names_of_models_are_text_on_every_page(run_service, student_folder):
    evil = "<script>alert(1)</script>"
    opened = open_exported(student_folder)
    named = Served(evil, opened.classifier, (evil, "b"))
    with run_service({"student": named}) as service:
        for path in ("/", "/docs"):
            text = service.send("GET", path)[2]
            assert evil not in text and evil in " ".join(Page(text).words)


def test_the_examples_on_the_docs_page_work(service):
    words = " ".join(Page(service.send("GET", "/docs")[2]).words)
    [url] = set(re.findall(r"http://\S+/predict", words))
    assert url == f"http://127.0.0.1:{service.port}/predict"
    program = words[words.index("import json") : words.index('["answers"])') + len('["answers"])')]
    printed = []
    exec(program, {"print": printed.append})
    assert printed[0] == service.ask("what a lovely day")[1]["student"]["answers"]
