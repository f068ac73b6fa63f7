"""``nlp-distill compress`` on tiny models: every step, what is kept and reused, resume, other students, bad input."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from nlp_distill.compression.prune_magnitude import list_prunable
from nlp_distill.hashes import hash_weights
from nlp_distill.pipelines import compress as pipeline_module
from nlp_distill.results import describe_selection
from nlp_distill.students import MultiTaskModel, TaskHead

FAST = ["--num-train-epochs", 1, "--learning-rate", "1e-3", "--max-length", 32]
CUTS = ["--trim-vocabulary", "--factorise-embeddings", 6, "--prune-heads", 1, "--prune-ffn", 0.25]
CUTS += ["--prune-magnitude", 0.5]
STEPS = ["trim-vocabulary", "factorise-embeddings", "prune-heads", "prune-ffn", "prune-magnitude"]


@pytest.fixture
def compress(run_cli, data_options, teacher_folder, tmp_path):
    def run(
        *steps, student=teacher_folder, output=tmp_path / "run", data=data_options, teacher=teacher_folder
    ):
        given = ["compress", student, "--teacher", teacher, "--output", output, *data, *FAST]
        return run_cli(*given, *steps)

    return run


@pytest.fixture(scope="module")
def cnn_folder(distill, tmp_path_factory):
    output = tmp_path_factory.mktemp("cnn") / "run"
    assert distill(output, "--no-baseline", kind="cnn") == 0
    return output / "student-seed0"


@pytest.fixture(scope="module")
def bilstm_folder(distill, tmp_path_factory):
    output = tmp_path_factory.mktemp("bilstm") / "run"
    assert distill(output, "--no-baseline") == 0
    return output / "student-seed0"


def read(folder):
    return json.loads((folder / "compress.json").read_text())


def load(folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def test_all_steps_make_the_student_smaller_in_their_order_and_are_reused(compress, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    run = tmp_path / "run"
    assert compress("--quantize", "int8-dynamic", *CUTS) == 0
    results = read(run)
    models = results["models"]
    assert list(models) == ["teacher", "start", *STEPS, "quantize"]
    parameters = [models[name]["parameters"] for name in ["start", *STEPS]]
    assert parameters[:5] == sorted(parameters[:5], reverse=True) and len(set(parameters[:5])) == 5
    assert parameters[5] == parameters[4]  # zeros are stored
    assert models["prune-magnitude"]["zipped_bytes"] < models["prune-ffn"]["zipped_bytes"]
    for step in STEPS:
        entry, (model, _) = models[step], load(run / step)
        assert entry["parameters"] == sum(weight.numel() for weight in model.parameters())
        assert 0 <= entry["score"] <= 1 and 0 <= entry["agreement"] <= 1
        assert ("before_distilling" in entry) == (step not in ("trim-vocabulary", "prune-magnitude"))
        assert ("training" in entry) == (step != "trim-vocabulary")
    model, tokenizer = load(run / "model")
    config = model.config
    assert (config.num_attention_heads, config.head_size, config.embedding_size) == (1, 8, 6)
    assert config.intermediate_size == 24 and config.vocab_size == len(tokenizer)
    assert hash_weights(model) == hash_weights(load(run / "prune-magnitude")[0])
    for weight in list_prunable(model).values():
        assert (weight == 0).sum() >= round(0.5 * weight.numel())
    zeros = sum(int((weight == 0).sum()) for weight in model.parameters())
    assert models["prune-magnitude"]["not_zero"] == parameters[5] - zeros
    assert pipeline("text-classification", str(run / "model"), device="cpu")("a good film")[0]["label"]
    from nlp_distill.runtime import Classifier

    found = torch.from_numpy(Classifier(run / "exported").compute_logits(["a good film"]))
    expected = model(**tokenizer(["a good film"], return_tensors="pt")).logits
    torch.testing.assert_close(found, expected, rtol=0.2, atol=0.2)

    printed = capsys.readouterr().out
    assert (run / "compress.md").read_text() in printed
    for words in (
        "2 → 1 heads a layer",
        "32 → 24 units a layer",
        "16 → 6 numbers",
        "50% of each matrix zero",
    ):
        assert words in printed
    assert "| drop vs. start | smaller |" in printed and "MB zipped" in printed
    assert str(tmp_path) not in json.dumps(results["config"])

    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    assert compress("--quantize", "int8-dynamic", *CUTS) == 0
    # Teacher, start, transfer set, labels, the steps, the model, the export.
    assert capsys.readouterr().err.count("reusing") == 4 + len(STEPS) + 2
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}


def test_a_step_can_be_added_later_and_the_ones_before_it_are_reused(compress, tmp_path, capsys):
    assert compress("--trim-vocabulary", "--prune-ffn", 0.5) == 0
    first = read(tmp_path / "run")["models"]
    capsys.readouterr()
    assert compress("--trim-vocabulary", "--prune-ffn", 0.5, "--prune-magnitude", 0.3, "--overwrite") == 0
    reused = [line for line in capsys.readouterr().err.splitlines() if "reusing" in line]
    assert [any(step in line for line in reused) for step in ("trim-vocab", "prune-ffn")] == [True, True]
    models = read(tmp_path / "run")["models"]
    assert list(models) == [*first, "prune-magnitude"]
    assert all(models[name] == first[name] for name in first)


def test_the_teacher_may_be_one_task_of_a_multi_task_model(compress, teacher_folder, tmp_path, capsys):
    encoder, tokenizer = load(teacher_folder)
    heads = [TaskHead("other", ("a", "b", "c")), TaskHead("reviews", ("negative", "positive"))]
    several = tmp_path / "several"
    MultiTaskModel.from_encoder(encoder, heads).save_pretrained(several)
    tokenizer.save_pretrained(several)
    assert compress("--trim-vocabulary", teacher=several) == 2
    assert "was not trained on mine; give --teacher-task, one of other, reviews" in capsys.readouterr().err
    assert compress("--trim-vocabulary", "--teacher-task", "reviews", teacher=several) == 0
    results = read(tmp_path / "run")
    assert results["config"]["teacher_task"] == "reviews" and "agreement" in results["models"]["start"]


def test_a_run_that_was_moved_goes_on_from_its_own_models(compress, tmp_path):
    assert compress("--trim-vocabulary") == 0
    moved = tmp_path / "moved"
    (tmp_path / "run").rename(moved)
    assert compress("--trim-vocabulary", "--prune-ffn", 0.5, "--overwrite", output=moved) == 0
    models = read(moved)["models"]
    assert models["trim-vocabulary"]["path"] == str(moved / "trim-vocabulary")
    assert models["prune-ffn"]["path"] == str(moved / "prune-ffn") and not (tmp_path / "run").exists()


@pytest.mark.parametrize("steps", [["--trim-vocabulary"], ["--prune-ffn", 0.5]])
def test_the_page_says_what_epochs_were_selected_on(compress, steps, tmp_path, capsys):
    """Where the reported rows select too, a reader has to know; what is not trained selects nothing."""
    assert compress(*steps) == 0
    said = describe_selection(read(tmp_path / "run")["selected_on"])
    page = (tmp_path / "run" / "compress.md").read_text()
    assert (f"epochs were selected on {said}" in page) == ("--prune-ffn" in steps)


def test_an_interrupted_step_continues_at_its_checkpoint(compress, tmp_path, monkeypatch, capsys):
    original = pipeline_module.train_and_save

    def stop_in_the_second_epoch(trainer, folder):
        class Stop(pipeline_module.MagnitudePruning):
            def on_step_begin(self, args, state, control, **kwargs):
                if state.epoch > 1.2:
                    raise KeyboardInterrupt

        trainer.add_callback(Stop(trainer.student, 0.0))
        return original(trainer, folder)

    monkeypatch.setattr(pipeline_module, "train_and_save", stop_in_the_second_epoch)
    options = ["--prune-magnitude", 0.5, "--num-train-epochs", 3, "--per-device-train-batch-size", 8]
    assert compress(*options) == 130
    assert list((tmp_path / "run" / "prune-magnitude" / "checkpoints").glob("checkpoint-*"))
    monkeypatch.undo()
    assert compress(*options) == 0
    assert "prune-magnitude: continuing" in capsys.readouterr().err
    assert compress(*options, output=tmp_path / "other") == 0
    models = [load(tmp_path / name / "model")[0] for name in ("run", "other")]
    assert hash_weights(models[0]) == hash_weights(models[1])


def test_trimming_keeps_the_pieces_of_train_unlabelled_rows_and_the_corpus_but_not_of_test(
    compress, own_files, tmp_path
):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("validationword\n")
    unlabelled = ["--unlabelled-file", own_files / "unlabelled.csv"]
    assert compress("--trim-vocabulary", "--corpus", corpus, *unlabelled) == 0
    pieces = load(tmp_path / "run" / "model")[1].get_vocab()
    assert {"trainword", "unlabelledword", "validationword"} <= pieces.keys()
    assert "testword" not in pieces and "##t" in pieces
    # Nothing was distilled, so that the teacher had nothing to label.
    assert not (tmp_path / "run" / "labels").exists()


def test_trimmed_logits_of_train_rows_are_the_same_to_the_bit(compress, own_files, teacher_folder, tmp_path):
    assert compress("--trim-vocabulary") == 0
    rows = pq.read_table(tmp_path / "run" / "transfer_set" / "transfer_set.parquet").to_pylist()
    texts = [row["text"] for row in rows]
    logits = []
    for folder in (teacher_folder, tmp_path / "run" / "model"):
        model, tokenizer = load(folder)
        with torch.no_grad():
            logits.append(model(**tokenizer(texts, padding=True, return_tensors="pt")).logits)
    assert len(texts) == 40 and torch.equal(*logits)


def test_copies_and_unlabelled_rows_are_distilled_on(compress, own_files, tmp_path):
    options = ["--unlabelled-file", own_files / "unlabelled.csv", "--n-iter", 1, "--pos-tagger", "textblob"]
    assert compress("--prune-ffn", 0.5, *options) == 0
    assert pq.read_metadata(tmp_path / "run" / "labels" / "labelled.parquet").num_rows > 40 + 15


@pytest.mark.parametrize("kind", ["BiLSTM", "CNN"])
def test_a_bilstm_or_cnn_is_trimmed_factorised_pruned_and_exported(request, compress, kind, tmp_path):
    folder = request.getfixturevalue(f"{kind.lower()}_folder")
    options = ["--trim-vocabulary", "--factorise-embeddings", 3, "--prune-magnitude", 0.5]
    assert compress(*options, student=folder) == 0
    model, _ = load(tmp_path / "run" / "model")
    assert type(model).__name__ == f"{kind}ForSequenceClassification" and model.config.embedding_size == 3
    finished = json.loads((tmp_path / "run" / "prune-magnitude" / "stage_finished.json").read_text())
    assert finished["inputs"]["training"]["load_best_model_at_end"] is False


@pytest.mark.parametrize("kind", ["pair", "regression"])
def test_pairs_and_regressions_are_compressed_too(
    compress, run_cli, encoder_folder, own_files, tmp_path, kind
):
    data = ["--task", "mine", "--text-column", "text", "--train-file", own_files / "train.csv"]
    data += ["--test-file", own_files / "test.csv"]
    data += ["--text-pair-column", "second"] if kind == "pair" else ["--label-column", "score"]
    teacher = tmp_path / "teacher"
    assert run_cli("finetune", "--model", encoder_folder, "--output", teacher, *data, *FAST) == 0
    assert (
        compress("--prune-heads", 0.5, "--prune-ffn", 0.5, student=teacher, teacher=teacher, data=data) == 0
    )
    model, _ = load(tmp_path / "run" / "model")
    assert model.config.num_labels == (2 if kind == "pair" else 1) and model.config.intermediate_size == 16


def test_quantising_alone_needs_no_training(compress, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    assert compress("--quantize", "int8-dynamic") == 0
    results = read(tmp_path / "run")["models"]
    assert list(results) == ["teacher", "start", "quantize"]
    assert results["quantize"]["bytes"] == (tmp_path / "run" / "exported" / "model.onnx").stat().st_size
    assert not (tmp_path / "run" / "transfer_set").exists()


BAD = {
    "no step": ([], "nothing to do; give at least one of --trim-vocabulary, --factorise-embeddings"),
    "all heads": (["--prune-heads", 2], "--prune-heads is 2, and a layer has 2; give a whole number from 1"),
    "a share of heads too large": (["--prune-heads", "1.5"], "--prune-heads is 1.5, and a layer has 2"),
    "no number of heads": (["--prune-heads", "many"], "--prune-heads is many; give a whole number of heads"),
    "no heads": (["--prune-heads", "0"], "--prune-heads is 0"),
    "heads nan": (["--prune-heads", "nan"], "--prune-heads is nan"),
    "all units": (["--prune-ffn", "1"], "--prune-ffn is 1.0, and a layer has 32; give a share"),
    "negative units": (["--prune-ffn", "-0.1"], "--prune-ffn is -0.1"),
    "all weights": (
        ["--prune-magnitude", "1"],
        "share of --prune-magnitude is 1.0; it must be from 0 to 1, 1 exc",
    ),
    "no weights": (["--prune-magnitude", "0"], "share of --prune-magnitude is 0"),
    "rank above the width": (["--factorise-embeddings", 17], "is 17; it must be a whole number from 1 to 16"),
    "best checkpoint of magnitude": (
        ["--prune-magnitude", 0.5, "--load-best-model-at-end", "True"],
        "--load-best-model-at-end does not go with --prune-magnitude",
    ),
    "corpus without trimming": (["--prune-ffn", 0.5, "--corpus", "x.txt"], "add --trim-vocabulary"),
    "missing corpus": (["--trim-vocabulary", "--corpus", "x.txt"], "no file x.txt; --corpus takes a file"),
    "other quantisation": (["--quantize", "int4"], "invalid choice: 'int4'"),
    "length": (["--prune-ffn", 0.5, "--max-length", 65], "reads at most 64 tokens"),
    "training option": (["--prune-ffn", 0.5, "--learning-rate", 0], "learning_rate is 0.0"),
}


def one_line(capsys):
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if "error: " in line]
    assert len(lines) == 1 and "Traceback" not in error
    return lines[0]


@pytest.mark.parametrize("name", BAD)
def test_wrong_input_gets_one_line(compress, tmp_path, capsys, name):
    options, message = BAD[name]
    try:
        code = compress(*options)
    except SystemExit as stopped:  # the parser's own way
        code = stopped.code
    assert code == 2 and message in one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_students_that_cannot_be_cut_so_are_refused(
    compress, bilstm_folder, cnn_folder, teacher_folder, own_files, tmp_path, capsys
):
    assert compress("--prune-heads", 1, student=bilstm_folder) == 2
    assert "--prune-heads works with models of the types bert" in one_line(capsys)
    assert compress("--prune-ffn", 0.5, student=bilstm_folder) == 2
    assert "this one is a nlp-distill-bilstm, so leave it out" in one_line(capsys)
    assert compress("--prune-heads", 1, student=cnn_folder) == 2
    assert "this one is a nlp-distill-cnn, so leave it out" in one_line(capsys)
    assert compress("--prune-ffn", 0.5, student=own_files) == 2
    assert "is a folder without a config.json" in one_line(capsys)
    turned = tmp_path / "turned"
    shutil.copytree(teacher_folder, turned)
    config = json.loads((turned / "config.json").read_text())
    config |= {"id2label": {"0": "positive", "1": "negative"}, "label2id": {"positive": 0, "negative": 1}}
    (turned / "config.json").write_text(json.dumps(config))
    assert compress("--prune-ffn", 0.5, student=turned) == 2
    assert "the student's labels are in the order positive, negative" in one_line(capsys)


def test_other_settings_or_files_of_others_are_not_overwritten(compress, tmp_path, capsys):
    assert compress("--trim-vocabulary", "--prune-ffn", 0.5) == 0
    capsys.readouterr()
    assert compress("--trim-vocabulary", "--prune-ffn", 0.25) == 2
    assert "prune-ffn was made with other settings" in one_line(capsys)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "compress.md").write_text("mine")
    assert compress("--trim-vocabulary", output=foreign) == 2
    assert "compress.md exists and was not made by this command" in one_line(capsys)
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(b"fine\n\xff\xfe\n")
    assert compress("--trim-vocabulary", "--corpus", corpus, output=tmp_path / "new") == 2
    assert "corpus.txt line 2 is not UTF-8" in one_line(capsys)
