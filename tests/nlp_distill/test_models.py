"""Loading models: precision, foreign code, and errors that say what is wrong with the name or the folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, RobertaConfig

from data_augment.errors import InputError
from nlp_distill.models import check_max_length, check_reads, load_classifier, load_pretrained, reads_pairs
from nlp_distill.students import BiLSTMConfig, BiLSTMForSequenceClassification, build_bilstm


@pytest.fixture
def folder(encoder_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(encoder_folder, tmp_path / "model"))


def load_model(name, **kwargs):
    return load_pretrained(AutoModelForSequenceClassification, name, **kwargs)


def test_a_saved_model_comes_back(folder: Path) -> None:
    model, plain = load_model(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    assert type(model) is type(plain)
    for name, weight in plain.state_dict().items():
        assert model.state_dict()[name].equal(weight), name
    assert load_pretrained(AutoTokenizer, folder).tokenize("a good film") == ["a", "good", "film"]


def test_a_half_precision_checkpoint_is_loaded_in_fp32_unless_asked_otherwise(
    folder: Path, tmp_path: Path
) -> None:
    AutoModelForSequenceClassification.from_pretrained(folder).bfloat16().save_pretrained(tmp_path / "half")
    assert {weight.dtype for weight in load_model(tmp_path / "half").parameters()} == {torch.float32}
    half = load_model(tmp_path / "half", dtype=torch.bfloat16)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}


def test_a_student_of_ours_loads_like_any_model(encoder_folder: Path, tmp_path: Path) -> None:
    tokenizer = load_pretrained(AutoTokenizer, encoder_folder)
    build_bilstm(tokenizer, ("no", "yes"), hidden_size=4, embedding_size=4).save_pretrained(
        tmp_path / "student"
    )
    assert isinstance(load_model(tmp_path / "student"), BiLSTMForSequenceClassification)


def test_code_that_comes_with_a_model_is_not_run_unless_asked_for(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "foreign", "auto_map": {"AutoConfig": "foreign.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "foreign.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nraise ValueError('it ran')\n"
    )
    with pytest.raises(InputError, match="comes with code of its own, which is not run; --trust-remote-code"):
        load_model(folder)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(InputError, match="it ran"):
        load_model(folder, trust_remote_code=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/nowhere/at/all", "no folder /nowhere/at/all"),
        ("./nowhere", "no folder ./nowhere"),
        ("../nowhere", "no folder ../nowhere"),
        ("nobody/nothing", "cannot load 'nobody/nothing': no such folder here, and the hub did not answer"),
        ("a/b/c", "cannot load 'a/b/c': no such folder here"),
    ],
)
@pytest.mark.parametrize("kind", [AutoModelForSequenceClassification, AutoTokenizer])
def test_a_name_that_leads_nowhere_is_refused(kind, name: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_pretrained(kind, name)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(InputError, match="without a config.json"):
        load_model(tmp_path)
    with pytest.raises(InputError, match=r"notes.txt is a file; give the folder"):
        load_model(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "it holds no weights (model.safetensors)"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"torn"), "header"),
        (lambda folder: (folder / "config.json").write_text("{"), "JSON file"),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "new"}'),
            "model type `new` of its config.json is not registered",
        ),
    ],
    ids=["no weights", "torn weights", "torn config", "unknown type"],
)
def test_a_damaged_folder_is_named_with_the_fault(folder: Path, damage, message: str) -> None:
    damage(folder)
    with pytest.raises(InputError) as error:
        load_model(folder)
    assert str(error.value).startswith(f"cannot load '{folder}': ") and message in str(error.value)
    assert "\n" not in str(error.value) and "hub" not in str(error.value)


def test_a_model_without_its_tokenizer_is_not_given_an_empty_one(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="holds no tokenizer"):
        load_pretrained(AutoTokenizer, folder)


def test_rows_longer_than_the_models_positions_are_refused(make_bert, encoder_folder: Path) -> None:
    check_max_length(make_bert(), 64)
    with pytest.raises(InputError, match="max_length is 65, but the model reads at most 64 tokens"):
        check_max_length(make_bert(), 65)
    student = build_bilstm(load_pretrained(AutoTokenizer, encoder_folder), ("no", "yes"), hidden_size=4)
    check_max_length(student, 100_000)  # an LSTM has no positions to run out of


@pytest.mark.parametrize("make", ["bert", "roberta"])
def test_the_longest_row_that_is_allowed_is_one_that_the_model_reads(make: str) -> None:
    """RoBERTa's positions begin after the padding token: two of them are never used."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = {"bert": BertConfig, "roberta": RobertaConfig}[make](
        vocab_size=20, max_position_embeddings=12, pad_token_id=1, **sizes
    )
    model = AutoModelForSequenceClassification.from_config(config).eval()
    longest = 10 if make == "roberta" else 12
    check_max_length(model, longest)
    model(torch.full((1, longest), 5))
    with pytest.raises(InputError, match=f"reads at most {longest} tokens"):
        check_max_length(model, longest + 1)


def test_a_head_that_is_not_in_the_checkpoint_is_announced(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    load_classifier(folder)
    assert "WARNING" not in capsys.readouterr().err  # transformers may have drawn a bar
    AutoModelForSequenceClassification.from_pretrained(folder).base_model.save_pretrained(tmp_path / "bare")
    load_classifier(tmp_path / "bare")
    error = capsys.readouterr().err
    assert "WARNING" in error and "classifier.weight" in error and "never fine-tuned" in error


def test_a_model_that_was_fine_tuned_on_pairs_is_known_by_its_results(make_bert, tmp_path):
    make_bert().save_pretrained(tmp_path)
    assert reads_pairs(tmp_path) is None
    for content, expected in [
        ('{"is_pair": true}', True),
        ('{"is_pair": false}', None),
        ("[]", None),
        ("torn", None),
    ]:
        (tmp_path / "results.json").write_text(content)
        assert reads_pairs(tmp_path) is expected
    (tmp_path / "results.json").write_text('{"is_pair": true}')
    check_reads(tmp_path, True)
    with pytest.raises(InputError, match="compares two texts; name the column of the second"):
        check_reads(tmp_path, False)
    single = BiLSTMForSequenceClassification(
        BiLSTMConfig(vocab_size=9, embedding_size=4, hidden_size=4, head_size=4)
    )
    single.save_pretrained(tmp_path / "bilstm")
    with pytest.raises(InputError, match="reads one text; leave out --text-pair-column"):
        check_reads(tmp_path / "bilstm", True)
