"""Benchmark: every kind of model is measured, in turns, and the figures are what they are called."""

import json
from pathlib import Path

import pytest

from data_augment.errors import InputError
from nlp_distill import benchmark
from nlp_distill.benchmark import measure_latency, measure_throughput
from nlp_distill.students import BiLSTMConfig, BiLSTMForSequenceClassification
from nlp_distill.subjects import OnnxSubject, TorchSubject, make_text

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")


@pytest.fixture
def models(make_bert, tokenizer, run_cli, tmp_path):
    """A BERT and a BiLSTM, and the BiLSTM exported."""
    student = BiLSTMForSequenceClassification(
        BiLSTMConfig(vocab_size=len(tokenizer), embedding_size=8, hidden_size=8, head_size=8)
    )
    for name, model in (("bert", make_bert()), ("bilstm", student)):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    assert run_cli("export", tmp_path / "bilstm", "--output", tmp_path / "onnx") == 0
    return [str(tmp_path / name) for name in ("bert", "bilstm", "onnx")]


def test_models_are_measured_side_by_side(models, run_cli, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    options = ["--lengths", 8, 24, "--threads", 1, "--repeats", 5, "--seconds", 0.01, "--json", figures]
    assert run_cli("benchmark", *models, *options) == 0
    shown = capsys.readouterr().out
    assert "8 tokens, 1 thread(s):" in shown and "24 tokens" in shown and "1.0×" in shown
    results = json.loads(figures.read_text())
    assert [model["kind"] for model in results["models"]] == ["torch", "torch", "onnxruntime"]
    for model in results["models"]:
        assert (
            len(model["latency"]) == 2 and 0 < model["latency"][0]["p50_ms"] <= model["latency"][0]["p95_ms"]
        )
        assert model["throughput"][0]["batch"] in benchmark.BATCHES and model["load_s"] > 0
        assert model["mb"] > 0
    torch_mb, onnx_mb = results["models"][1]["peak_mb"], results["models"][2]["peak_mb"]
    assert onnx_mb < torch_mb / 2  # the runtime loads no torch


def test_a_text_has_the_tokens_that_were_asked_for(models):
    saved, exported = TorchSubject(models[0], 64), OnnxSubject(models[2])
    assert len(saved.tokenizer(make_text([saved], 11))["input_ids"]) == 11
    assert len(exported.classifier.tokenizer.encode(make_text([exported], 11)).ids) == 11
    first, second = make_text([TorchSubject(models[0], 64)], 12, is_pair=True)
    assert len(TorchSubject(models[0], 64).tokenizer(first, second)["input_ids"]) == 12


@pytest.mark.parametrize("words", [["Ġfilm", "Ġgood", "film", "good"], ["\u6f22", "\u5b57", "\u4e2d"]])
def test_a_text_has_them_of_vocabularies_of_other_kinds_too(words):
    from tokenizers import Tokenizer, models, pre_tokenizers

    class Words:
        name = "words"
        tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, words[0]))

    Words.tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    text = make_text([Words], 7)
    assert len(Words.tokenizer.encode(text).ids) == 7 and "Ġ" not in text


def test_a_model_with_fewer_word_pieces_is_given_words_that_it_knows():
    """Else it would cut them up, and be timed on a longer text than the others."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    def make(name, words):
        pieces = {word: number for number, word in enumerate(["[UNK]", *"abcdefgh", *words])}
        pieces |= {f"##{letter}": len(pieces) + place for place, letter in enumerate("abcdefgh")}
        tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return type(name, (), {"name": name, "tokenizer": tokenizer})

    large, small = make("large", ["aba", "bad", "deaf", "head"]), make("small", ["head", "bad"])
    text = make_text([large, small], 9)
    assert [len(each.tokenizer.encode(text).ids) for each in (large, small)] == [9, 9]
    alone = make_text([large], 9)
    assert len(small.tokenizer.encode(alone).ids) > 9  # which is what would happen


@pytest.mark.parametrize(
    ("said", "expected"),
    [("flags : avx2 avx512_vnni fma", True), ("flags : avx avx2", False), ("Features : asimddp", True)],
)
def test_what_a_processor_can_do_is_read_from_linux(said, expected, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "CPUINFO", tmp_path / "cpuinfo")
    assert benchmark.has_int8_instructions() is None
    unknown = benchmark.describe_processor()
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{said}\ncpu MHz : 1234\n")
    assert benchmark.has_int8_instructions() is expected
    described = benchmark.describe_processor()
    assert described[:3] == unknown[:3] and described[3] != unknown[3]
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{said}\ncpu MHz : 4321\n")
    assert benchmark.describe_processor() == described  # its clock is no other kind of processor


def test_a_vocabulary_without_words_is_refused():
    from tokenizers import Tokenizer, models

    class Numbers:
        name = "numbers"
        tokenizer = Tokenizer(models.WordLevel({"1": 0, "[UNK]": 1}, "[UNK]"))

    with pytest.raises(InputError, match="the vocabulary of numbers has no words"):
        make_text([Numbers], 7)


def test_weights_in_an_old_format_have_their_size_in_memory(models):
    subject = TorchSubject(models[0], 64)
    on_disk = benchmark.find_size(subject)
    Path(models[0], "model.safetensors").unlink()
    assert 0 < benchmark.find_size(subject) == pytest.approx(on_disk, rel=0.2)


def test_sizes_count_all_files_of_the_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    assert benchmark.measure_size(str(tmp_path)) == 0.001
    (tmp_path / "model.onnx").write_bytes(b"x" * 10)
    (tmp_path / "model.onnx.data").write_bytes(b"x" * 5000)
    assert benchmark.measure_size(str(tmp_path)) == 0.00501


class Sleeper:
    """A model whose answers take as long as it says."""

    kind = "test"

    def __init__(self, name, seconds, clock):
        self.name, self.seconds, self.clock, self.calls = name, seconds, clock, []

    def set_threads(self, threads):
        self.threads = threads

    def answer(self, texts):
        self.calls.append(len(texts))
        self.clock[0] += self.seconds * len(texts) ** 0.5


def test_latency_and_throughput_are_worked_out_from_the_clock(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock[0])
    slow, fast = Sleeper("slow", 0.010, clock), Sleeper("fast", 0.002, clock)
    found = measure_latency([slow, fast], ["text", "other"], threads=2, repeats=25)
    assert [round(own["p50_ms"], 6) for own in found] == [10, 2] and slow.threads == fast.threads == 2
    turns = 3  # of 10, 10 and 5 answers
    assert len(slow.calls) == len(fast.calls) == 25 + turns + benchmark.WARM_UP
    best = measure_throughput(fast, "text", 1, seconds=0.1)
    assert best["batch"] == 128 and best["texts_per_s"] == pytest.approx(128 / (0.002 * 128**0.5), rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lengths", 2], "a text of 2 tokens has no room for words; give 3 or more"),
        (["--lengths", 0], "--lengths is 0"),
        (["--threads", 0], "--threads is 0"),
        (["--repeats", 0], "--repeats is 0"),
        (["--seconds", -1], "give 0 (no throughput) or more"),
    ],
)
def test_what_cannot_be_measured_gets_one_line(models, run_cli, capsys, options, message):
    assert run_cli("benchmark", models[0], *options) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_a_folder_that_is_no_model_is_refused(run_cli, tmp_path, capsys):
    assert run_cli("benchmark", tmp_path) == 2
    assert "config.json" in capsys.readouterr().err


class Forgetful(Sleeper):
    """A model that is slow after another one's turn, as one whose weights have left the processor's caches."""

    last = [None]

    def answer(self, texts):
        self.clock[0] += self.seconds * (10 if self.last[0] is not self else 1)
        self.last[0] = self


def test_the_first_answer_of_a_turn_counts_apart(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock[0])
    models = [Forgetful("one", 0.002, clock), Forgetful("two", 0.001, clock)]
    found = measure_latency(models, ["text"], threads=1, repeats=30)
    assert [round(own["p95_ms"], 6) for own in found] == [2, 1]
    assert [round(own["first_ms"], 6) for own in found] == [20, 10]


def test_unsteady_times_are_said_to_be():
    def render(p95):
        case = {"tokens": 8, "threads": 1, "p50_ms": 1.0, "p95_ms": p95}
        model = {"name": "m", "kind": "torch", "mb": 1.0, "load_s": 1.0, "peak_mb": 1.0, "latency": [case]}
        return benchmark.render_benchmark({"models": [model | {"throughput": []}]})

    assert "unsteady" not in render(2.0)
    assert "a p95 is 4.0 times its median. Measure again while nothing else runs" in render(4.0)
