"""The page in a real browser: a person types, and reads what the models say."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from nlp_distill.runtime import Classifier
from nlp_distill.serve.models import open_exported

EVIL = "a good film <script>document.title = 'run'</script><img src=x onerror=\"document.title='run'\"> </textarea>"
# Chromium talks through its file descriptors 3 and 4 (--remote-debugging-pipe), which this program puts in place.
LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page of a headless Chromium, driven by its debugging protocol: JSON messages that end in a zero byte."""

    def __init__(self, to_browser, from_browser):
        self.to_browser, self.from_browser = to_browser, from_browser
        self.count, self.buffer, self.session = 0, b"", {}
        self.complaints = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """A method's result; what the browser complains about meanwhile is kept."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters, **self.session}
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            message = self.read()
            if message.get("id") == self.count:
                assert "error" not in message, message
                return message["result"]
            if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(message["params"])

    def read(self):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.from_browser], [], [], 60)
            assert ready, "the browser says nothing"
            part = os.read(self.from_browser, 2**16)
            assert part, "the browser has ended"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def evaluate(self, expression):
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression):
        """Until the expression is true."""
        deadline = time.monotonic() + 60
        while not self.evaluate(f"document.readyState === 'complete' && !!({expression})"):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.02)

    def open(self, url):
        """Go to an address."""
        self.evaluate("window.isOld = true")
        self.call("Page.navigate", url=url)
        self.wait_for("!window.isOld")

    def type(self, text, field):
        """Put the cursor into a field and type."""
        self.evaluate(f"document.getElementById('{field}').focus()")
        self.call("Input.insertText", text=text)

    def press_button(self):
        """Click the middle of the page's button with the mouse."""
        place = self.evaluate(
            "(() => { const button = document.querySelector('button'); button.scrollIntoView();"
            "const box = button.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        click = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **click)


@pytest.fixture(scope="module")
def open_browser(tmp_path_factory):
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("no Chromium here: apt-get install chromium")

    @contextmanager
    def run():
        ends = [
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 50) for pipe in (os.pipe(), os.pipe()) for end in pipe
        ]
        reads, we_write, we_read, writes = ends
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
        command = [sys.executable, "-c", LAUNCH, str(reads), str(writes), binary, *flags, profile]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, pass_fds=(reads, writes), **quiet)
        os.close(reads)
        os.close(writes)
        try:
            yield Browser(we_write, we_read)
        finally:
            process.kill()
            process.wait()
            os.close(we_write)
            os.close(we_read)

    return run


@pytest.fixture(scope="module")
def browser(open_browser):
    with open_browser() as running:
        yield running


def test_a_person_types_and_sees_both_answers_and_their_times(
    browser, service, student_folder, exported_teacher
):
    browser.open(f"http://127.0.0.1:{service.port}/")
    assert browser.evaluate("document.querySelectorAll('.card').length") == 0
    browser.type("a very good film", "text")
    browser.press_button()
    browser.wait_for("document.querySelectorAll('.card').length === 2")
    for name, folder in (("student", student_folder), ("teacher", exported_teacher)):
        shown = browser.evaluate(f"document.querySelector('.card.{name}').innerText")
        answer = Classifier(folder)(["a very good film"])[0]
        label = browser.evaluate(f"document.querySelector('.card.{name} .best').textContent")
        assert label == answer["label"]
        assert f"{100 * answer['score']:.1f} %" in shown and "ms in the model" in shown
        width = browser.evaluate(f"document.querySelector('.card.{name} .bar div').style.width")
        assert float(width[:-1]) == pytest.approx(100 * answer["score"], abs=0.01)
    said = browser.evaluate("document.getElementById('said').textContent")
    assert said.startswith(("They agree.", "They disagree.")) and "This time the student was" in said
    assert browser.complaints == []  # no refused script or style, no failed fetch, no exception


def test_mark_up_is_shown_as_text_and_never_run(browser, service):
    browser.open(f"http://127.0.0.1:{service.port}/")
    before = browser.evaluate("document.scripts.length")
    browser.type(EVIL, "text")
    browser.press_button()
    browser.wait_for("document.querySelectorAll('.card').length === 2")
    assert browser.evaluate("document.getElementById('asked').textContent") == EVIL
    assert browser.evaluate("document.getElementById('asked').children.length") == 0
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert browser.evaluate("document.scripts.length") == before == 1
    assert browser.evaluate("document.title") != "run" and browser.complaints == []


def test_labels_of_a_model_are_text_too(browser, run_service, student_folder):
    opened = open_exported(student_folder)
    named = type(opened)(EVIL, opened.classifier, (EVIL, EVIL + "2"))
    with run_service({"student": named}) as service:
        browser.open(f"http://127.0.0.1:{service.port}/?text=good")
        browser.wait_for("document.querySelectorAll('.card').length === 1")
        assert browser.evaluate("document.querySelector('.best').textContent").startswith(EVIL)
        assert browser.evaluate("document.querySelectorAll('img').length") == 0
        assert browser.evaluate("document.title") == "Try the student" and browser.complaints == []


def test_a_refusal_is_shown_where_the_answer_would_be(browser, service):
    browser.open(f"http://127.0.0.1:{service.port}/?text=good")
    browser.wait_for("document.querySelectorAll('.card').length === 2")
    browser.evaluate("text.value = '  '")
    browser.press_button()
    browser.wait_for("said.className === 'wrong'")
    assert browser.evaluate("said.textContent") == "texts[0] is empty"
    assert browser.evaluate("document.querySelectorAll('.card').length") == 0
    browser.complaints.clear()  # Chromium logs each 422


def test_a_model_of_pairs_has_two_fields(browser, run_service, pair_folder):
    with run_service({"student": open_exported(pair_folder)}) as service:
        browser.open(f"http://127.0.0.1:{service.port}/")
        browser.type("good film", "text")
        browser.type("a dull plot", "second")
        browser.press_button()
        browser.wait_for("document.querySelectorAll('.card').length === 1")
        label = browser.evaluate("document.querySelector('.best').textContent")
        shown = browser.evaluate("document.querySelector('.card').innerText")
    answer = Classifier(pair_folder)([("good film", "a dull plot")])[0]
    assert label == answer["label"] and f"{100 * answer['score']:.1f} %" in shown


@pytest.mark.parametrize("path", ["/?text=" + "good+film+" * 40, "/docs"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_reads_well_on_a_phone_and_in_the_dark(browser, service, path, scheme):
    browser.call(
        "Emulation.setDeviceMetricsOverride", width=375, height=700, deviceScaleFactor=2, mobile=True
    )
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(f"http://127.0.0.1:{service.port}{path}")
    if path != "/docs":
        browser.wait_for("document.querySelectorAll('.card').length === 2")
    assert (
        browser.evaluate("document.documentElement.scrollWidth") <= 375
    )  # nothing is cut or scrolls sideways
    color = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert color == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 22, 26)"}[scheme]
    browser.call("Emulation.clearDeviceMetricsOverride")
    browser.call("Emulation.setEmulatedMedia", features=[])
