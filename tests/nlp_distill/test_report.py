"""The report: right numbers, everything on one page, and text from data that stays text."""

import csv
import html.parser
import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest

from nlp_distill.evaluation import load_logits
from nlp_distill.report import svg
from nlp_distill.tasks import load_task

EVIL = "<script>alert(1)</script> good film | a `b` <img src=x onerror=alert(2)>"


@pytest.fixture
def finished(run_cli, own_files, encoder_folder, tmp_path):
    """A run of TinyBERT on files whose test rows hold mark-up, and the options of its data."""
    with (own_files / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    test = tmp_path / "test.csv"
    with test.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([rows[0], *([f"{EVIL} {number}", *row[1:]] for number, row in enumerate(rows[1:]))])
    data = ["--task", "mine", "--text-column", "text", "--test-file", test]
    for split in ("train", "validation"):
        data += [f"--{split}-file", own_files / f"{split}.csv"]
    training = ["--num-train-epochs", 2, "--learning-rate", "1e-3", "--max-length", 48]
    teacher, run = tmp_path / "teacher", tmp_path / "run"
    assert run_cli("finetune", *data, *training, "--model", encoder_folder, "--output", teacher) == 0
    shape = ["--layers", 1, "--hidden-size", 8, "--heads", 2, "--ffn-size", 8]
    more = ["--n-iter", 0, "--p-replace", 0, "--intermediate-epochs", 1]
    assert (
        run_cli("distill", "tinybert", *data, *training, *shape, *more, "--teacher", teacher, "--output", run)
        == 0
    )
    return run, data


class Page(html.parser.HTMLParser):
    """Tags and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_data(self, data):
        self.words.append(data)


def test_one_page_holds_everything_and_fetches_nothing(finished, run_cli):
    run, data = finished
    assert run_cli("report", run, *data) == 0
    text = (run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    fetched = {"src", "href", "srcset", "action"}
    assert not [own for own in page.attributes if own[1] in fetched or own[1].startswith("on")]
    assert "url(" not in text and "@import" not in text
    assert EVIL in " ".join(page.words)  # as text
    assert page.tags.count("svg") == 4  # size, time, curves, calibration
    results = json.loads((run / "results.json").read_text())
    shown = " ".join(page.words)
    for model in results["models"].values():
        assert f"{model['score']:.4f}" in shown
    assert f"{results['retention']:.1%}" in shown and "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_classes_confusion_and_disagreements_are_counted_from_the_logits(finished, run_cli):
    run, data = finished
    assert run_cli("report", run, *data) == 0
    logits = {
        side: load_logits(run / folder / "logits.npz")["test"].argmax(1)
        for side, folder in (("teacher", "teacher_scores"), ("student", "student-seed0"))
    }
    differing = int((logits["teacher"] != logits["student"]).sum())
    page = " ".join(Page((run / "report.html").read_text()).words)
    markdown = (run / "report.md").read_text()
    for text in (page, markdown):
        assert f"disagree on {differing} of 12 rows" in text
    files = {f"{option[2:-5]}_file": path for option, path in zip(data[4::2], data[5::2], strict=True)}
    truth = np.asarray(load_task("mine", text_column="text", **files).test["label"])
    for label, name in enumerate(("negative", "positive")):
        right = int(((logits["student"] == label) & (truth == label)).sum())
        precision = right / max((logits["student"] == label).sum(), 1)
        recall = right / (truth == label).sum()
        f1 = 2 * precision * recall / max(precision + recall, 1e-12)
        row = next(line for line in markdown.splitlines() if line.startswith(f"| {name} | 6"))
        assert row.endswith(f"| {f1:.3f} |")


def test_markdown_escapes_text_of_the_data(finished, run_cli):
    run, data = finished
    assert run_cli("report", run, *data) == 0
    examples = [line for line in (run / "report.md").read_text().splitlines() if "alert" in line]
    for line in examples:
        assert "\\<script\\>" in line and "good film \\|" in line and re.search(r"[^\\]<script", line) is None


def test_without_the_rows_the_page_leaves_them_out_and_says_so(finished, run_cli, capsys):
    run, _ = finished
    assert run_cli("report", run, "--output", run / "page") == 0
    assert "add the data options" in capsys.readouterr().out
    text = (run / "page" / "report.html").read_text()
    assert "Where they disagree" not in text and text.count("<svg") == 3


def test_a_page_of_someone_else_is_not_replaced(finished, run_cli, tmp_path, capsys):
    run, _ = finished
    page = tmp_path / "report.html"
    page.write_text("<h1>The year's results</h1>")
    assert run_cli("report", run, "--output", tmp_path) == 2
    assert "is no report of this command; give another --output" in capsys.readouterr().err
    assert page.read_text() == "<h1>The year's results</h1>" and not (tmp_path / "report.md").exists()


@pytest.mark.parametrize("kind", ["none", "other rows", "several tasks"])
def test_what_is_no_run_gets_one_line(finished, run_cli, tmp_path, capsys, own_files, kind):
    run, data = finished
    folder, options = run, []
    if kind == "none":
        folder, message = tmp_path, "holds no results.json"
    elif kind == "other rows":
        options = [own_files / "test.csv" if str(part).endswith("test.csv") else part for part in data]
        message = "reported on other rows"
    else:
        folder, message = tmp_path / "many", "results of several tasks"
        folder.mkdir()
        (folder / "results.json").write_text('{"tasks": {}}')
    assert run_cli("report", folder, *options) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_the_frontier_is_what_nothing_beats_in_both():
    points = [(1, 0.5, "a", ""), (2, 0.4, "b", ""), (3, 0.7, "c", ""), (3, 0.6, "d", ""), (9, 0.7, "e", "")]
    assert [name for *_, name, _ in svg.find_frontier(points)] == ["a", "c"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.666, 0.757, [0.68, 0.7, 0.72, 0.74]),
        (-0.1, 13.1, [0, 5, 10]),
        (-0.31, 0.2, [-0.3, -0.2, -0.1, 0, 0.1, 0.2]),
        (0.9, 1.06, [0.9, 0.95, 1, 1.05]),
    ],
)
def test_an_axis_has_round_numbers(low, high, expected):
    assert svg.find_ticks(low, high) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (4.99, 118, [5, 10, 20, 50, 100]),
        (0.02, 15, [0.03, 0.1, 0.3, 1, 3, 10]),
        (0.3, 35, [0.5, 1, 2, 5, 10, 20]),
        (0.00002, 15, [0.0001, 0.001, 0.01, 0.1, 1, 10]),
        (2.1, 4.4, [2.5, 3, 3.5, 4]),  # within a decade, as on a plain axis
        (13.1, 14.2, [13.2, 13.4, 13.6, 13.8, 14, 14.2]),
    ],
)
def test_a_logarithmic_axis_has_round_numbers(low, high, expected):
    assert svg.find_log_ticks(math.log10(low), math.log10(high)) == expected


def test_a_browser_shows_it(finished, run_cli, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    run, data = finished
    assert run_cli("report", run, *data) == 0
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        (run / "report.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "Price and performance" in done.stdout and "<script" not in done.stdout
