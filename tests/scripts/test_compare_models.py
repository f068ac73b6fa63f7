"""The comparison: every model in every runtime and the peers in one table, each figure what it is called."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from nlp_distill import cli
from nlp_distill.students import BiLSTMConfig, BiLSTMForSequenceClassification
from nlp_distill.subjects import TorchSubject
from nlp_distill.tasks import load_task

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_models.py"

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])  # the script puts its folder there
    spec = importlib.util.spec_from_file_location("compare_models", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "compare_models", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def glue(tmp_path, make_rows):
    """A classic GLUE folder with a tiny SST-2, where "good" and "great" decide."""
    folder = tmp_path / "glue" / "SST-2"
    folder.mkdir(parents=True)
    for seed, (name, count) in enumerate((("train", 300), ("dev", 40))):
        lines = [
            f"{row['text']} {name} {number}\t{int('good' in row['text'] or 'great' in row['text'])}"
            for number, row in enumerate(make_rows(count, seed))
        ]
        (folder / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    return tmp_path / "glue"


@pytest.fixture
def models(make_bert, tokenizer, tmp_path):
    student = BiLSTMForSequenceClassification(
        BiLSTMConfig(vocab_size=len(tokenizer), embedding_size=8, hidden_size=8, head_size=8)
    )
    for name, model in (("teacher", make_bert()), ("bilstm", student)):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    return [f"{name}={tmp_path / name}" for name in ("teacher", "bilstm")]


@pytest.fixture
def run(script, glue, models, tmp_path):
    """``run(*more)``: the script on the tiny task, with its work folder."""

    def run(*more, models=models):
        data = ["--task", "sst2", "--data-dir", glue, "--work", tmp_path / "work", "--models", *models]
        return script.main([str(part) for part in (*data, "--repeats", 12, "--tokens", 9, *more)])

    return run


def test_models_and_peers_stand_in_one_table(run, tmp_path, capsys):
    outputs = ["--json", tmp_path / "out.json", "--markdown", tmp_path / "new" / "out.md"]
    assert run("--runtimes", "onnx", "int8", "--peers", "tfidf", *outputs) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    rows = report["rows"]
    assert [(row["name"], row["runs_in"]) for row in rows] == [
        ("teacher", "torch"),  # what the others are compared with
        ("teacher", "onnx"),
        ("teacher", "int8"),
        ("bilstm", "onnx"),
        ("bilstm", "int8"),
        ("TF-IDF, logistic regression", "scikit-learn"),
    ]
    first = rows[0]
    assert (first["agreement"], first["retention"], first["faster"], first["smaller"]) == (1, 1, 1, 1)
    for row in rows:
        assert row["faster"] == pytest.approx(first["p50_ms"] / row["p50_ms"])
        assert 0 < row["p50_ms"] <= row["p95_ms"] and row["first_ms"] > 0
        assert row["retention"] == pytest.approx(row["score"] / first["score"])
    # fp32 answers as in PyTorch; what learnt from labels beats what is random.
    assert rows[1]["agreement"] == 1 and rows[1]["score"] == first["score"]
    assert rows[1]["parity"]["max_abs_difference"] < 1e-4 and rows[3]["mb"] > rows[4]["mb"]
    assert rows[5]["score"] > 0.9 and rows[5]["chosen"]["validation_accuracy"] > 0.8
    exported = tmp_path / "work" / "exports" / "bilstm-int8"
    needed = ("model.onnx", "tokenizer.json", "runtime.json")
    assert rows[4]["mb"] == pytest.approx(sum((exported / name).stat().st_size for name in needed) / 1e6)
    tfidf = tmp_path / "work" / "peers" / "tfidf"
    needed = ("model.npz", "vocabularies.json")
    assert rows[5]["mb"] == pytest.approx(sum((tfidf / name).stat().st_size for name in needed) / 1e6)
    assert report["threads"] == 1 and report["data"]["test"]["rows"] == 40
    assert len(report["data"]["train"]["sha256"]) == 64 and "onnxruntime" in report["versions"]
    assert str(tmp_path) not in report["command"] and "teacher=teacher" in report["command"]
    shown, again = (tmp_path / "new" / "out.md").read_text(), capsys.readouterr()
    assert shown in again.out and "| bilstm | int8 |" in shown and "1.0×" in shown

    written = (exported / "model.onnx").stat().st_mtime_ns
    assert run("--runtimes", "int8", "--peers") == 0
    again = capsys.readouterr()
    assert again.err.count("reusing") == 2 and (exported / "model.onnx").stat().st_mtime_ns == written
    assert "TF-IDF" not in again.out and "| teacher | torch |" in again.out


def test_the_frontier_is_what_nothing_beats(script):
    rows = [
        {"score": 0.90, "p50_ms": 10.0},
        {"score": 0.90, "p50_ms": 5.0},  # as good as the first, and faster
        {"score": 0.85, "p50_ms": 1.0},
        {"score": 0.80, "p50_ms": 1.0},  # as fast as the one above, and worse
        {"score": 0.70, "p50_ms": 0.5},
        {"score": 0.70, "p50_ms": 0.5},  # as good and as fast as its neighbour
    ]
    script.mark_frontier(rows)
    assert [row["frontier"] for row in rows] == [False, True, True, False, True, True]


class Answering:
    """A model that says how many letters its texts have, in two columns."""

    name, kind, calls = "answering", "test", ()

    def answer(self, texts):
        self.calls = (*self.calls, len(texts))
        return np.array([[len(text), -len(text)] for text in texts], dtype=float)


def test_answers_keep_the_order_of_rows_and_labels(script, glue):
    data = load_task("sst2", data_dir=str(glue))
    texts = ["a" * length for length in (3, 1, 2, *range(4, 40))]
    model = Answering()
    same = script.Candidate("a", "test", model, ("negative", "positive"), 1.0)
    turned = script.Candidate("a", "test", model, ("positive", "negative"), 1.0)
    lengths = [len(text) for text in texts]
    assert script.predict(same, texts, data)[:, 0].tolist() == lengths
    assert script.predict(turned, texts, data)[:, 1].tolist() == lengths
    assert max(model.calls) == script.BATCH


def test_exported_models_are_scored_as_they_are_timed_one_text_at_a_time(script, glue):
    class Exported(Answering, script.OnnxSubject):
        def __init__(self):
            """It opens no folder."""

    data, model = load_task("sst2", data_dir=str(glue)), Exported()
    candidate = script.Candidate("a", "int8", model, ("negative", "positive"), 1.0)
    assert script.predict(candidate, ["aaa", "a"], data)[:, 0].tolist() == [3, 1]
    assert model.calls == (1, 1)


def test_an_exported_model_stands_under_its_own_form(run, tmp_path, models, capsys):
    teacher = models[0].partition("=")[2]
    exported = tmp_path / "exported"
    assert cli.main(["export", teacher, "--output", str(exported), "--quantize", "int8-dynamic"]) == 0
    assert run("--runtimes", "torch", models=[models[0], f"small={exported}"]) == 0
    table = capsys.readouterr().out
    assert "| small | int8 |" in table
    settings = json.loads((exported / "runtime.json").read_text())
    (exported / "runtime.json").write_text(json.dumps(settings | {"labels_tokens": True}))
    assert run("--runtimes", "torch", models=[models[0], f"small={exported}"]) == 2
    assert "only classifiers of whole texts" in capsys.readouterr().err.splitlines()[-1]


def test_texts_of_the_length_asked_for_are_timed(script, models):
    teacher = TorchSubject(models[0].partition("=")[2], 64)
    texts = ["good " * words for words in range(1, 60)]
    chosen = script.choose_texts(teacher, texts, 20)
    lengths = [len(teacher.tokenizer(text)["input_ids"]) for text in chosen]
    assert lengths[0] == 20 and len(chosen) == script.TEXTS and max(lengths) - min(lengths) < 21


def split(script, texts, labels):
    return script.peers.Rows(texts, labels)


def test_fasttext_learns_and_answers_in_the_order_of_the_labels(script, make_rows, tmp_path, monkeypatch):
    pytest.importorskip("fasttext", reason="the extra 'peers' is not installed")
    monkeypatch.setattr(
        script.peers, "FASTTEXT_GRID", {"lr": (0.001, 0.5), "wordNgrams": (1,), "epoch": (25,)}
    )
    texts = [row["text"] for row in make_rows(400)]
    labels = [int("good" in text) for text in texts]
    chosen = script.peers.train_fasttext(
        tmp_path, split(script, texts[:300], labels[:300]), split(script, texts[300:], labels[300:])
    )
    assert chosen["lr"] == 0.5 and chosen["validation_accuracy"] > 0.9
    found = script.peers.FastTextSubject(tmp_path, "fp32").answer(["A GOOD film", ("the plot", "it is dull")])
    assert found.argmax(axis=1).tolist() == [1, 0] and found.sum(axis=1) == pytest.approx(1, abs=1e-3)


def test_tfidf_reads_pairs_and_takes_the_best_regularisation(script, make_rows, tmp_path):
    rows = make_rows(400)
    texts = [script.peers.join((row["text"], row["second"])) for row in rows]
    labels = [int("bad" in text) for text in texts]
    chosen = script.peers.train_tfidf(
        tmp_path, split(script, texts[:300], labels[:300]), split(script, texts[300:], labels[300:])
    )
    assert chosen["C"] in script.peers.REGULARISATION and chosen["validation_accuracy"] > 0.9
    answers = script.peers.TfidfSubject(tmp_path).answer([("a film", "bad plot"), ("a film", "fine plot")])
    assert answers.shape == (2, 2) and answers[0, 1] > answers[1, 1]
    # What was saved answers as what was trained.
    found = script.peers.TfidfSubject(tmp_path).answer(texts[300:])
    assert script.peers.count_right(labels[300:], found) == chosen["validation_accuracy"]


def test_a_spacy_pipeline_is_measured_as_it_is(run, tmp_path, capsys, models):
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    pipeline = spacy.blank("en")
    classifier = pipeline.add_pipe("textcat")
    for label in ("positive", "negative"):  # in an order of its own
        classifier.add_label(label)
    pipeline.initialize()
    pipeline.to_disk(tmp_path / "spacy")
    assert run("--runtimes", "torch", "--peers", models=[models[0], f"cats={tmp_path / 'spacy'}"]) == 0
    assert "| cats | spacy |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--models", "teacher"], "give NAME=PATH"),
        (["--models", "teacher={tmp}/none"], "no folder"),
        (["--models", "a={tmp}/teacher", "a={tmp}/teacher"], "twice"),
        (["--models", "a={tmp}/glue"], "without a config.json"),
        (["--repeats", "0"], "--repeats is 0"),
        (["--runtimes", "tflite"], "invalid choice"),
        (["--task", "sst-2"], "unknown task 'sst-2'"),
        (["--peers", "model2vec"], "give its python with --model2vec-python"),
        (["--peers", "model2vec", "--model2vec-python", "{tmp}/none", "--runtimes", "torch"], "model2vec"),
        (["--max-length", "900", "--threads", "0"], "--threads is 0"),
    ],
)
def test_wrong_input_is_one_line(run, tmp_path, capsys, more, message):
    given = [part.replace("{tmp}", str(tmp_path)) for part in more]
    try:
        code = run(*given)
    except SystemExit as stop:  # of the parser
        code = stop.code
    error = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("•")]
    assert code == 2 and len(error) == 1 and error[0].startswith("error: ") and message in error[0]


def test_an_exported_teacher_is_refused(run, tmp_path, capsys):
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "model.onnx").touch()
    assert run(models=[f"teacher={tmp_path / 'exported'}"]) == 2
    assert "has to be a saved model in PyTorch" in capsys.readouterr().err
