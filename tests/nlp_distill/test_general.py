"""General distillation, end to end from the command line on a tiny teacher, and its bad inputs."""

import json
import random
from functools import partial

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
)

from nlp_distill.hashes import hash_weights
from nlp_distill.objectives import DistilBERT, MiniLMv2
from nlp_distill.pipelines.general import OBJECTIVES, GeneralDistillation

SMALL = ["--layers", 1, "--hidden-size", 8, "--heads", 2, "--ffn-size", 12, "--max-length", 16]
TRAINING = [
    "--max-steps",
    4,
    "--save-steps",
    2,
    "--learning-rate",
    "1e-2",
    "--per-device-train-batch-size",
    4,
]
TRAINING += ["--gradient-accumulation-steps", 1, "--logging-steps", 1]
WORDS = ["good", "bad", "film", "plot", "story", "was", "never", "dull", "the", "a"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path, source = tmp_path_factory.mktemp("text") / "text.txt", random.Random(0)
    lines = [" ".join(source.choices(WORDS, k=source.randint(3, 9))) for _ in range(60)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def masked_lm_folder(encoder_folder, tmp_path_factory):
    """A tiny BERT with its masked-language-model head, and its tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    folder = tmp_path_factory.mktemp("masked_lm")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def distill_general(run_cli, text, encoder_folder, tmp_path):
    def run(*more, teacher=encoder_folder, texts=(text,), output=tmp_path / "run"):
        given = ["--text", *texts, "--teacher", teacher, "--output", output]
        return run_cli("distill", "general", *given, *SMALL, *TRAINING, *more)

    return run


def test_the_student_is_an_encoder_that_later_stages_load(distill_general, tmp_path, encoder_folder, capsys):
    assert distill_general() == 0
    assert "M parameters, the teacher has" in capsys.readouterr().out
    folder = tmp_path / "run" / "student"
    student = AutoModel.from_pretrained(folder)
    assert (student.config.num_hidden_layers, student.config.hidden_size) == (1, 8)
    AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    ours, theirs = (AutoTokenizer.from_pretrained(path) for path in (folder, encoder_folder))
    assert ours.get_vocab() == theirs.get_vocab()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["models"]["student"]["parameters"] < results["models"]["teacher"]["parameters"]
    assert results["text"]["tokens"] > 100 and results["training"]["steps"] == 4
    assert results["config"]["objective"] == {"name": "TinyBERTLayers"}

    before = hash_weights(student)
    assert distill_general() == 0
    assert "general distillation" in (error := capsys.readouterr().err) and "reusing" in error
    assert hash_weights(AutoModel.from_pretrained(folder)) == before


@pytest.mark.parametrize("objective", ["tinybert", "distilbert"])
def test_an_interrupted_run_continues_and_ends_at_the_same_weights(
    distill_general, masked_lm_folder, encoder_folder, objective, tmp_path, monkeypatch, capsys
):
    """In the middle of an epoch, where masks and dropout must be those of the run that was not stopped."""
    options = ["--objective", objective, *(["--hidden-size", 16] if objective == "distilbert" else [])]
    teacher = masked_lm_folder if objective == "distilbert" else encoder_folder
    kind = BertForMaskedLM if objective == "distilbert" else AutoModel
    assert distill_general(*options, teacher=teacher, output=tmp_path / "whole") == 0
    from nlp_distill.trainer import DistillationTrainer

    step, taken = DistillationTrainer.training_step, []

    def interrupt(*args, **kwargs):
        taken.append(1)
        if len(taken) == 4:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(DistillationTrainer, "training_step", interrupt)
    assert distill_general(*options, teacher=teacher, output=tmp_path / "torn") == 130
    monkeypatch.setattr(DistillationTrainer, "training_step", step)
    assert distill_general(*options, teacher=teacher, output=tmp_path / "torn") == 0
    assert "continuing in" in capsys.readouterr().err
    whole, torn = (kind.from_pretrained(tmp_path / name / "student") for name in ("whole", "torn"))
    assert hash_weights(whole) == hash_weights(torn)


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "distilbert"])
def test_every_objective_trains(distill_general, objective, tmp_path):
    assert distill_general("--objective", objective) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["config"]["objective"]["name"] == OBJECTIVES[objective].__name__


def test_distilbert_s_triple_loss_trains_with_a_masked_language_model(
    distill_general, masked_lm_folder, tmp_path
):
    same_width = ["--objective", "distilbert", "--hidden-size", 16]
    assert distill_general(*same_width, teacher=masked_lm_folder) == 0
    student = BertForMaskedLM.from_pretrained(tmp_path / "run" / "student")
    assert student.config.num_hidden_layers == 1


def test_the_triple_loss_sees_a_seventh_of_the_tokens_masked(
    distill_general, masked_lm_folder, tmp_path, monkeypatch
):
    batches, forward = [], DistilBERT.forward

    def note(self, student_outputs, teacher_outputs, batch, progress):
        batches.append((batch["input_ids"].clone(), batch["labels"].clone(), batch["attention_mask"].bool()))
        return forward(self, student_outputs, teacher_outputs, batch, progress)

    monkeypatch.setattr(DistilBERT, "forward", note)
    options = ["--objective", "distilbert", "--hidden-size", 16, "--max-steps", 20]
    assert distill_general(*options, teacher=masked_lm_folder) == 0
    tokenizer = AutoTokenizer.from_pretrained(masked_lm_folder)
    special = torch.tensor([tokenizer.cls_token_id, tokenizer.sep_token_id])
    guessed = masked = words = 0
    for tokens, labels, real in batches:
        chosen = labels != -100
        assert not chosen[~real].any() and not torch.isin(labels[chosen], special).any()
        original = torch.where(chosen, labels, tokens)
        words += int((real & ~torch.isin(original, special)).sum())
        guessed += int(chosen.sum())
        masked += int((tokens[chosen] == tokenizer.mask_token_id).sum())
    assert 0.11 < guessed / words < 0.19 and 0.7 < masked / guessed < 0.9  # 15 %, of which 80 % are [MASK]


def test_a_triple_loss_with_settings_of_its_own_reads_the_head_too():
    assert GeneralDistillation(objective=DistilBERT).is_masked_lm
    own = GeneralDistillation(objective=partial(DistilBERT, only_masked=True))
    assert own.is_masked_lm and own.describe()["objective"] == {"name": "DistilBERT", "only_masked": True}
    assert not GeneralDistillation(objective=partial(MiniLMv2, relation_heads=2)).is_masked_lm


def test_a_random_start_is_another_run(distill_general, tmp_path):
    assert distill_general() == 0 and distill_general("--random-start", output=tmp_path / "random") == 0
    one, two = (AutoModel.from_pretrained(tmp_path / name / "student") for name in ("run", "random"))
    assert hash_weights(one) != hash_weights(two)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--heads", 4], "student has 4 attention heads and the teacher 2"),
        (["--layers", 3], "layers is 3 but the teacher has 2; give 2 or less"),
        (["--hidden-size", 9], "the heads must divide the hidden size"),
        (["--objective", "minilm", "--heads", 1], "student has 1 heads and the teacher 2; take MiniLMv2"),
        (
            ["--objective", "minilm", "--relation-heads", 2],
            "--relation-heads does not go with --objective minilm",
        ),
        (["--objective", "minilm-v2", "--relation-heads", 3], "relation_heads is 3, which does not divide"),
        (["--objective", "distilbert"], "has no masked-language-model head"),
        (["--max-length", 2], "max_length is 2"),
        (["--max-length", 100], "max_length is 100, but"),
    ],
)
def test_settings_that_do_not_fit_get_one_line_before_any_work(
    distill_general, tmp_path, capsys, more, message
):
    assert distill_general(*more) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "run" / "student").exists()


def test_distilbert_needs_equal_widths(distill_general, masked_lm_folder, capsys):
    assert distill_general("--objective", "distilbert", teacher=masked_lm_folder) == 2
    assert (
        "8 wide and the teacher 16; the cosine of hidden states needs equal widths" in capsys.readouterr().err
    )


def test_text_that_is_missing_or_empty_gets_one_line(distill_general, tmp_path, capsys):
    empty, blank = tmp_path / "empty.txt", tmp_path / "blank.txt"
    empty.write_text("")
    blank.write_text("\n \n")
    for path, message in ((tmp_path / "no.txt", "no file"), (empty, "is empty"), (blank, "holds no text")):
        assert distill_general(texts=[path]) == 2
        assert message in capsys.readouterr().err
