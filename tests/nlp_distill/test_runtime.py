"""The single-file runtime: what it cuts, what it refuses, and its command line."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForTokenClassification

from nlp_distill import runtime
from nlp_distill.export import export_model
from nlp_distill.runtime import Classifier, Tagger
from nlp_distill.students import build_cnn

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")

WORDS = ["good", "bad", "film", "dull", "very", "plot", "never"]


@pytest.fixture
def export(tokenizer, make_bert, tmp_path):
    """``export("cnn", max_length=64)``: a tiny model of that kind, exported: its folder and the model."""

    def export(kind, max_length=64):
        folder = tmp_path / kind.replace(" ", "-")
        folder.mkdir()
        if kind == "bert":
            model, is_pair = make_bert(), None
        elif kind == "tagger":
            sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
            settings = {"vocab_size": len(tokenizer), "num_hidden_layers": 1, "max_position_embeddings": 64}
            model, is_pair = BertForTokenClassification(BertConfig(**sizes, **settings)), False
        else:
            is_pair = kind == "cnn pair"
            sizes = {"embedding_size": 8, "filters": 8, "embedding_std": 1.0}
            model = build_cnn(tokenizer, ("bad", "good"), pair=is_pair, **sizes)
        export_model(model, tokenizer, folder, max_length=max_length, is_pair=is_pair)
        return folder, model.eval()

    return export


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["bert", "cnn pair"])
def test_long_texts_are_cut_where_the_models_tokenizer_cuts_them(tokenizer, export, kind, side):
    tokenizer.truncation_side = side
    folder, model = export(kind, max_length=16)
    classifier, source = Classifier(folder), np.random.default_rng(0)
    for lengths in ((40, 3), (3, 40), (30, 31), (6, 8), (20, 0)):
        texts = [" ".join(source.choice(WORDS, size)) for size in lengths]
        texts = texts if kind == "cnn pair" else texts[:1]
        columns = [[text] for text in texts]
        encoded = tokenizer(*columns, truncation=True, max_length=16, return_tensors="pt")
        with torch.no_grad():
            expected = model(**encoded).logits.numpy()
        found = classifier.compute_logits([tuple(texts) if len(texts) == 2 else texts[0]])
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_long_pairs_are_read_without_every_combination_of_what_is_cut(export):
    classifier = Classifier(export("cnn pair")[0])
    assert classifier.tokenizer.truncation is None  # it keeps the remainders, of a pair all combinations
    text = "good film " * 20_000
    assert len(classifier([(text, text)])) == 1


def test_a_model_of_one_text_refuses_pairs(export):
    with pytest.raises(TypeError, match="this model reads one text"):
        Classifier(export("cnn")[0])([("good", "film")])
    assert len(Classifier(export("bert")[0])([("good", "film"), "good"])) == 2  # which does not say


@pytest.mark.parametrize("size", [0, -1])
def test_batches_of_nothing_are_refused(export, size):
    for open_folder, kind in ((Classifier, "cnn"), (Tagger, "tagger")):
        with pytest.raises(ValueError, match=f"batch_size is {size}; it must be at least 1"):
            open_folder(export(kind)[0], batch_size=size)


def test_a_word_that_is_cut_comes_back_whole(tokenizer, export):
    folder = export("tagger", max_length=5)[0]
    pieces = tokenizer.tokenize("poor")
    assert len(pieces) > 2  # so that "good poor" has more than the three that are read
    text = [answer["word"] for answer in Tagger(folder)(["good poor film"])[0]]
    listed = [answer["word"] for answer in Tagger(folder)([["good", "poor", "film"]])[0]]
    assert text == listed == ["good", "poor"]


def test_answers_are_utf8_wherever_they_go(export):
    output = export("tagger")[0]
    script = [sys.executable, str(output / "runtime.py"), str(output), "\u6f22 film"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(script, capture_output=True, check=False, env=environment)
    assert done.returncode == 0 and "\u6f22" in done.stdout.decode("utf-8")


def test_a_tagger_reads_texts_that_come_once(export):
    tagger, texts = Tagger(export("tagger")[0]), ["good film", "never"]
    assert tagger(text for text in texts) == tagger(texts) != []
    assert len(tagger.compute_logits(text for text in texts)) == 2


def test_the_command_line_answers_pairs_and_says_what_is_wrong_in_one_line(export, tmp_path, capsys):
    folder = str(export("cnn pair")[0])
    torn = tmp_path / "torn"
    shutil.copytree(folder, torn)
    (torn / "model.onnx").write_bytes(b"torn")
    for arguments, message in (
        ([], "usage: python runtime.py FOLDER TEXT"),
        ([folder], "usage: python runtime.py FOLDER TEXT"),
        ([str(tmp_path / "none"), "x"], "holds no model.onnx; give a folder that `nlp-distill export` made"),
        ([folder, "a", "b", "c"], "this model compares two texts; give FIRST SECOND ..., not 3 texts"),
        ([folder, "a", "\udcff"], "half of a surrogate pair"),
        ([str(torn), "a", "b"], "error: "),
    ):
        assert runtime.main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and message in err
    assert runtime.main([folder, "a", "b", "c", "d"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["label"] in ("bad", "good") for answer in answers] == [True, True]
