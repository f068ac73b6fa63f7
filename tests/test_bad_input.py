"""Inputs nobody expects, on every command of both packages: damaged files, hostile folders, numbers out of range.

Each is answered by one line that names what was given and what to do, with exit code 2, nothing on standard output, no
traceback, and before any training. A case is a command line with placeholders (see ``places``) and the parts that its
line must have. Everyday mistakes with ``nlp-distill`` are in ``nlp_distill/test_bad_input.py``.
"""

import json
import os
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

import data_augment.cli
import nlp_distill.cli

FINETUNE = "nlp-distill finetune --model {encoder} --output {tmp}/out --max-length 32 --num-train-epochs 1"
ROWS = "--text-column text --train-file"
DATA = f"{ROWS} {{bad}}/good.csv"
DISTILL = f"nlp-distill distill bilstm {DATA} --teacher {{teacher}} --output {{tmp}}/out --max-length 32"
CNN = DISTILL.replace("distill bilstm", "distill cnn")
LABEL = "nlp-distill label --text-column text --max-length 32 --output {tmp}/o.parquet --input {bad}/ids.csv"
EVALUATE = f"nlp-distill evaluate {DATA} --max-length 32 --model"
EXPORT = "nlp-distill export {teacher} --output {tmp}/out"
BENCHMARK = "nlp-distill benchmark --lengths 8 --threads 1 --repeats 1 --seconds 0"
REPORT = "nlp-distill report"
SHAPE = "--layers 1 --hidden-size 8 --heads 2 --ffn-size 8"
GENERAL = f"nlp-distill distill general --teacher {{encoder}} --output {{tmp}}/out --max-length 32 {SHAPE}"
SMALL_BERT = f"nlp-distill distill tinybert {DATA} --teacher {{teacher}} --output {{tmp}}/out --max-length 32"
TINYBERT = f"{SMALL_BERT} {SHAPE}"
SUITE = "--data-dir {bad}/glue --encoder {encoder} --output {tmp}/out --max-length 32 --tasks"
MT_DNN = f"nlp-distill distill mt-dnn {SUITE}"
BAM = f"nlp-distill distill bam {SUITE}"
OWN_SUITE = "nlp-distill distill bam --encoder {encoder} --output {tmp}/out --max-length 32 --suite"
FIT = f"nlp-distill fit {DATA} --teacher {{teacher}} --output {{tmp}}/out --max-length 32 --latency-ms 5"
SERVE = "nlp-distill serve --port 0"
RECORD = f"nlp-distill record {DATA} --teacher {{teacher}} --output {{tmp}}/out"
INVERT = "nlp-distill invert --teacher {teacher} --output {tmp}/out --record"
TAG_WORDS = (
    "nlp-distill finetune-tagger --model {encoder} --output {tmp}/out --max-length 32 --num-train-epochs 1"
)
TAG_ROWS = f"{TAG_WORDS} --test-file {{bad}}/tags.conll --train-file"
TAGS = "--validation-file {bad}/tags.conll --test-file {bad}/tags.conll"
TAGGER = f"nlp-distill distill tagger --output {{tmp}}/out --max-length 32 {TAGS} --teacher {{bad}}/tagger --train-file"
DEMO = f"nlp-distill demo {DATA} --teacher {{encoder}} --output {{tmp}}/out --max-length 32"
TAGGER_RESULTS = {
    "task": "t",
    "metric": "span_f1",
    "labels_tokens": True,
    "models": {"teacher": {"score": 0.5, "metrics": {"span_f1": 0.5}, "parameters": 1, "bytes": 4}},
    "data": {"train": {"rows": 1}, "test": {"rows": 1}},
    "seeds": [0],
    "timings_s": {},
    "versions": {},
}
AUGMENT = "data-augment --pos-tagger textblob --text-column text --output {tmp}/out.csv --input"
REPLACE = "data-augment --method tinybert --text-column text --output {tmp}/out.csv --input {bad}/good.csv"

CASES = {
    # ---- files of rows
    "augment: no file": (f"{AUGMENT} {{bad}}/nowhere.csv", "nowhere.csv does not exist"),
    "augment: a folder": (f"{AUGMENT} {{bad}}", "is a folder"),
    "augment: an empty file": (f"{AUGMENT} {{bad}}/empty.csv", "empty.csv is empty"),
    "augment: a header alone": (f"{AUGMENT} {{bad}}/header.csv", "header.csv has no rows"),
    "augment: a byte order mark alone": (f"{AUGMENT} {{bad}}/bom.csv", "bom.csv"),
    "augment: blank lines alone": (f"{AUGMENT} {{bad}}/blank.csv", "blank.csv"),
    "augment: no such column": (f"{AUGMENT} {{bad}}/good.csv --text-column words", "no column 'words'"),
    "augment: a column twice": (f"{AUGMENT} {{bad}}/twice.csv", "two columns 'text'"),
    "augment: ids twice": (f"{AUGMENT} {{bad}}/same_ids.csv", "the id '1' occurs twice"),
    "augment: too many values": (f"{AUGMENT} {{bad}}/ragged.csv", "row 2 (line 3)"),
    "augment: too few values": (f"{AUGMENT} {{bad}}/short.tsv", "row 2 (line 3)"),
    "augment: UTF-16": (f"{AUGMENT} {{bad}}/utf16.csv", "utf16.csv", "UTF-16"),
    "augment: UTF-16 lines": (f"{AUGMENT} {{bad}}/utf16.tsv", "utf16.tsv", "UTF-16"),
    "augment: UTF-16 JSON": (f"{AUGMENT} {{bad}}/utf16.jsonl", "utf16.jsonl"),
    "augment: Latin-1": (f"{AUGMENT} {{bad}}/latin1.csv", "row 1 (line 2)", "not UTF-8"),
    "augment: bytes": (f"{AUGMENT} {{bad}}/binary.csv", "binary.csv", "UTF-8"),
    "augment: bytes in parquet": (f"{AUGMENT} {{bad}}/binary.parquet", "not a readable parquet file"),
    "augment: half a parquet": (f"{AUGMENT} {{bad}}/torn.parquet", "torn.parquet"),
    "augment: parquet of bytes": (f"{AUGMENT} {{bad}}/bytes.parquet", "bytes.parquet row 1"),
    "augment: NUL in the header": (f"{AUGMENT} {{bad}}/nul_header.csv", "no column 'text'"),
    "augment: an open quote": (
        f"{AUGMENT} {{bad}}/open_quote.csv",
        "open_quote.csv: a quote that opens on line 2",
        "never closed",
    ),
    "augment: a header over two lines": (f"{AUGMENT} {{bad}}/two_lines.csv", "no column 'text'"),
    "augment: 100,000 columns": (f"{AUGMENT} {{bad}}/wide.csv", "wide.csv has no column 'text'"),
    "augment: JSON in one list": (f"{AUGMENT} {{bad}}/list.jsonl", "list.jsonl row 1", "list"),
    "augment: JSON texts that are numbers": (f"{AUGMENT} {{bad}}/numbers.jsonl", "numbers.jsonl row 1"),
    "augment: deeply nested JSON": (f"{AUGMENT} {{bad}}/deep.jsonl", "deep.jsonl row 1"),
    "augment: JSON keys that come and go": (f"{AUGMENT} {{bad}}/keys.jsonl", "row 2", "'more'"),
    "augment: huge integers": (f"{AUGMENT} {{bad}}/huge.jsonl", "huge.jsonl"),
    "augment: integers of 10,000 digits": (f"{AUGMENT} {{bad}}/digits.jsonl", "digits.jsonl row 1"),
    "augment: half a surrogate pair": (f"{AUGMENT} {{bad}}/surrogate.jsonl", "row 1", "surrogate"),
    "augment: a format that it is not": (f"{AUGMENT} {{bad}}/rows.xlsx", "unknown suffix '.xlsx'"),
    "augment: no suffix": (f"{AUGMENT} {{bad}}/rows", "unknown suffix"),
    "augment: a device": (f"{AUGMENT} /dev/null", "/dev/null"),
    # ---- options of data-augment
    "augment: unknown output format": (f"{AUGMENT} {{bad}}/good.csv --output {{tmp}}/o.xml", "'.xml'"),
    "augment: output exists": (f"{AUGMENT} {{bad}}/good.csv --output {{bad}}/header.csv", "already exists"),
    "augment: output is a folder": (f"{AUGMENT} {{bad}}/good.csv --output {{bad}}", "is a folder"),
    "augment: output in no folder": (
        f"{AUGMENT} {{bad}}/good.csv --output {{tmp}}/a/b.csv",
        "does not exist",
    ),
    "augment: output is the input": (
        f"{AUGMENT} {{bad}}/good.csv --output {{bad}}/good.csv --overwrite",
        "is also an input",
    ),
    "augment: output cannot hold tabs": (
        f"{AUGMENT} {{bad}}/tabs.csv --n-iter 0 --output {{tmp}}/o.tsv",
        "column 'label' holds a tab",
    ),
    "augment: a probability": (f"{AUGMENT} {{bad}}/good.csv --p-ngram -0.1", "p_ngram is -0.1"),
    "augment: infinity": (f"{AUGMENT} {{bad}}/good.csv --p-pos inf", "p_pos is inf"),
    "augment: copies": (f"{AUGMENT} {{bad}}/good.csv --n-iter -1", "n_iter is -1"),
    "augment: a million million copies": (
        f"{AUGMENT} {{bad}}/good.csv --n-iter 1000000000000",
        "n_iter is 1000000000000",
    ),
    "augment: a negative seed": (f"{AUGMENT} {{bad}}/good.csv --seed -1", "seed is -1"),
    "augment: a tagger that is not asked": (
        f"{REPLACE} --pos-tagger nltk --glove-file {{bad}}/glove.txt",
        "--pos-tagger belongs to --method tang",
    ),
    "augment: candidates": (
        f"{REPLACE} --num-candidates 0 --glove-file {{bad}}/glove.txt",
        "num_candidates is 0",
    ),
    "augment: no such model": (
        f"{REPLACE} --mlm ./none --glove-file {{bad}}/glove.txt",
        "./none",
    ),
    "augment: a model without a head": (
        f"{REPLACE} --mlm {{encoder}} --glove-file {{bad}}/glove.txt",
        "masked",
    ),
    "augment: GloVe with NaN": (
        f"{REPLACE} --glove-file {{bad}}/glove_nan.txt",
        "glove_nan.txt line 2",
    ),
    "augment: GloVe of two sizes": (
        f"{REPLACE} --glove-file {{bad}}/glove_ragged.txt",
        "glove_ragged.txt line 2",
    ),
    "augment: GloVe that is empty": (
        f"{REPLACE} --glove-file {{bad}}/empty.csv",
        "holds no vectors",
    ),
    "augment: GloVe that is a folder": (
        f"{REPLACE} --glove-file {{bad}}",
        "GloVe file",
    ),
    "augment: label column": (f"{AUGMENT} {{bad}}/good.csv --label-column gold", "no column 'gold'"),
    "augment: an option twice removed": (f"{AUGMENT} {{bad}}/good.csv --p-masks 0.1", "--p-masks"),
    "augment: a number that is none": (f"{AUGMENT} {{bad}}/good.csv --seed 1.5", "invalid int value: '1.5'"),
    "augment: pairs from lines": (
        f"{AUGMENT} {{bad}}/good.csv --text-pair-column second --include-unlabelled {{bad}}/lines.txt",
        "lines.txt holds one text a line",
    ),
    # ---- without the training rows
    "record: pairs": (f"{RECORD} --text-pair-column second", "is a task of pairs", "single texts"),
    "record: longer than the teacher reads": (f"{RECORD} --max-length 4096", "max_length is 4096"),
    "invert: no such record": (
        f"{INVERT} {{bad}}/nowhere.safetensors",
        "nowhere.safetensors",
        "nlp-distill record",
    ),
    "invert: a table for a record": (f"{INVERT} {{bad}}/good.csv", "good.csv is no record of activations"),
    "invert: weights for a record": (
        f"{INVERT} {{teacher}}/model.safetensors",
        "model.safetensors is no record of activations",
    ),
    "invert: a folder for a record": (f"{INVERT} {{teacher}}", "is no record of activations"),
    "invert: no rows": (f"{INVERT} {{bad}}/good.csv --rows 0", "rows is 0"),
    "invert: steps below none": (f"{INVERT} {{bad}}/good.csv --steps -1", "steps is -1"),
    "invert: a rate that is no number": (
        f"{INVERT} {{bad}}/good.csv --search-rate nan",
        "learning_rate is nan",
    ),
    # ---- labels
    "finetune: labels missing here and there": (
        f"{FINETUNE} {ROWS} {{bad}}/no_label.csv",
        "no_label.csv row 2",
        "'label'",
    ),
    "finetune: labels NaN": (f"{FINETUNE} {ROWS} {{bad}}/nan.jsonl", "nan.jsonl row 2", "'label' is null"),
    "finetune: labels infinite": (f"{FINETUNE} {ROWS} {{bad}}/inf.jsonl", "inf.jsonl row 2", "is infinite"),
    "finetune: labels beyond floats": (
        f"{FINETUNE} {ROWS} {{bad}}/1e400.csv",
        "1e400.csv",
        "regression needs",
    ),
    "finetune: labels of 5,000 digits": (f"{FINETUNE} {ROWS} {{bad}}/digits.csv", "digits.csv"),
    "finetune: a million labels": (
        f"{FINETUNE} {ROWS} {{bad}}/million.parquet",
        "1,000,000 different",
        "--label-column",
    ),
    "finetune: 20,000 numbers": (
        f"{FINETUNE} {ROWS} {{bad}}/numbers.parquet --label-column number",
        "20,000 different",
    ),
    "finetune: one class": (f"{FINETUNE} {ROWS} {{bad}}/one_class.csv", "holds yes alone"),
    "finetune: one row": (f"{FINETUNE} {ROWS} {{bad}}/one_row.csv", "alone"),
    "finetune: one text with two labels": (
        f"{FINETUNE} {ROWS} {{bad}}/one_text.csv",
        "fewer than 2 different texts",
    ),
    "finetune: labels that are lists": (f"{FINETUNE} {ROWS} {{bad}}/lists.jsonl", "lists.jsonl"),
    "finetune: texts that are lists": (f"{FINETUNE} {ROWS} {{bad}}/text_lists.jsonl", "text_lists.jsonl"),
    "finetune: UTF-16": (f"{FINETUNE} {ROWS} {{bad}}/utf16.csv", "utf16.csv", "UTF-16"),
    "finetune: the label column is the text": (f"{FINETUNE} {DATA} --label-column text", "'text'"),
    "finetune: both texts are one column": (f"{FINETUNE} {DATA} --text-pair-column text", "'text'"),
    "finetune: a column called id": (f"{FINETUNE} {DATA} --text-column id", "'id'"),
    "finetune: labels that clash": (
        f"{FINETUNE} {DATA} --validation-file {{bad}}/numbers.csv",
        "numbers.csv",
        "the task's labels are no, yes",
    ),
    "finetune: test rows are train rows": (
        f"{FINETUNE} {DATA} --test-file {{bad}}/good.csv",
        "are in test too",
    ),
    "finetune: a damaged data set": (f"{FINETUNE} {ROWS} {{bad}}/torn_dataset", "torn_dataset"),
    "finetune: a data set that is no data": (f"{FINETUNE} {ROWS} {{bad}}/no_dataset", "no_dataset"),
    "finetune: a data set without its rows": (f"{FINETUNE} {ROWS} {{bad}}/half_dataset", "half_dataset"),
    # ---- names
    "finetune: a task that is a path": (f"{FINETUNE} {DATA} --task ../../x", "'../../x'"),
    "finetune: a task of dots": (f"{FINETUNE} {DATA} --task ..", "'..'"),
    "finetune: a task without a name": (f"{FINETUNE} {DATA} --task ''", "''"),
    "finetune: a very long task": (f"{FINETUNE} {DATA} --results-dir {{tmp}}/r --task {'x' * 300}", "task"),
    "finetune: a task of two lines": (f"{FINETUNE} {DATA} --task 'a\nb'", "a\\nb"),
    "finetune: an argument that is not UTF-8": (f"{FINETUNE} {ROWS} {{bad}}/\udcff.csv", "UTF-8"),
    "augment: an argument that is not UTF-8": (
        f"{AUGMENT} {{bad}}/good.csv --output {{tmp}}/\udcff.csv",
        "UTF-8",
    ),
    # ---- settings of a training
    "finetune: a misspelt field": (f"{FINETUNE} {DATA} --learning_rte 1", "unknown option --learning_rte"),
    "finetune: an optimiser": (f"{FINETUNE} {DATA} --optim sgdd", "invalid choice: 'sgdd'"),
    "finetune: a seed too large": (f"{FINETUNE} {DATA} --seed 4294967296", "seed is 4294967296"),
    "finetune: negative epochs": (f"{FINETUNE} {DATA} --num-train-epochs -1", "num_train_epochs is -1.0"),
    "finetune: epochs nan": (f"{FINETUNE} {DATA} --num-train-epochs nan", "num_train_epochs is nan"),
    "finetune: epochs inf": (f"{FINETUNE} {DATA} --num-train-epochs inf", "num_train_epochs is inf"),
    "finetune: a huge length": (f"{FINETUNE} {DATA} --max-length 1000000000", "reads at most 64"),
    "finetune: accumulation": (
        f"{FINETUNE} {DATA} --gradient-accumulation-steps 0",
        "gradient_accumulation_steps is 0",
    ),
    "finetune: weight decay": (f"{FINETUNE} {DATA} --weight-decay nan", "weight_decay is nan"),
    "finetune: clipping": (f"{FINETUNE} {DATA} --max-grad-norm nan", "max_grad_norm is nan"),
    "finetune: warmup": (f"{FINETUNE} {DATA} --warmup-steps -3", "warmup_steps"),
    "finetune: optimiser arguments": (f"{FINETUNE} {DATA} --optim-args x", "optim_args"),
    "finetune: deepspeed": (f"{FINETUNE} {DATA} --deepspeed {{bad}}/empty.csv", "deepspeed"),
    "finetune: output is here": (f"{FINETUNE} {DATA} --learning-rates 1e-4 1e-3 --output /", "/"),
    "finetune: results that are not JSON": (
        f"{FINETUNE} {DATA} --task t --results-dir {{bad}}/published",
        "0.json",
    ),
    # ---- models
    "evaluate: config that is a list": (f"{EVALUATE} {{bad}}/config_list", "config_list", "names no kind"),
    "evaluate: config that is null": (f"{EVALUATE} {{bad}}/config_null", "config_null"),
    "evaluate: config that is not JSON": (
        f"{EVALUATE} {{bad}}/config_text",
        "config_text",
        "JSON",
        "save the model again",
    ),
    "evaluate: config that is empty": (f"{EVALUATE} {{bad}}/config_empty", "config_empty"),
    "evaluate: config in UTF-16": (f"{EVALUATE} {{bad}}/config_utf16", "config_utf16"),
    "evaluate: config without a type": (f"{EVALUATE} {{bad}}/config_plain", "config_plain", "names no kind"),
    "evaluate: config of an unknown type": (
        f"{EVALUATE} {{bad}}/config_unknown",
        "config_unknown",
        "is not registered",
        "--trust-remote-code",
    ),
    "export: config of an unknown type": (
        "nlp-distill export {bad}/config_unknown --output {tmp}/out",
        "is not registered",
    ),
    "evaluate: config type is a number": (f"{EVALUATE} {{bad}}/config_number", "config_number"),
    "evaluate: config sizes are texts": (f"{EVALUATE} {{bad}}/config_sizes", "config_sizes"),
    "evaluate: config heads": (f"{EVALUATE} {{bad}}/config_heads", "config_heads"),
    "evaluate: config of a giant": (f"{EVALUATE} {{bad}}/config_giant", "config_giant"),
    "evaluate: config of other widths": (f"{EVALUATE} {{bad}}/config_width", "config_width"),
    "evaluate: config activation": (f"{EVALUATE} {{bad}}/config_activation", "config_activation"),
    "evaluate: config labels": (f"{EVALUATE} {{bad}}/config_labels", "config_labels"),
    "evaluate: config names a path": (f"{EVALUATE} {{bad}}/config_path", "config_path"),
    "evaluate: a model of another kind": (f"{EVALUATE} {{bad}}/config_vision", "config_vision"),
    "evaluate: half the weights": (
        f"{EVALUATE} {{bad}}/weights_half",
        "weights_half",
        "save the model again",
    ),
    "evaluate: a header that lies": (f"{EVALUATE} {{bad}}/weights_header", "weights_header"),
    "evaluate: weights NaN": (f"{EVALUATE} {{bad}}/weights_nan", "weights_nan"),
    "evaluate: weights that are empty": (f"{EVALUATE} {{bad}}/weights_empty", "weights_empty"),
    "evaluate: weights are a folder": (f"{EVALUATE} {{bad}}/weights_folder", "weights_folder"),
    "evaluate: weights in a torn pickle": (f"{EVALUATE} {{bad}}/pickle_torn", "pickle_torn"),
    "evaluate: weights in a hostile pickle": (f"{EVALUATE} {{bad}}/pickle_hostile", "pickle_hostile"),
    "evaluate: a tokenizer that is not JSON": (f"{EVALUATE} {{bad}}/tokenizer_text", "tokenizer_text"),
    "evaluate: a tokenizer that is a list": (f"{EVALUATE} {{bad}}/tokenizer_list", "tokenizer_list"),
    "evaluate: a tokenizer that is empty": (f"{EVALUATE} {{bad}}/tokenizer_empty", "tokenizer_empty"),
    "evaluate: more tokens than vectors": (f"{EVALUATE} {{bad}}/tokenizer_large", "tokenizer_large"),
    "evaluate: a tokenizer without padding": (f"{EVALUATE} {{bad}}/tokenizer_padding", "tokenizer_padding"),
    "evaluate: several labels a text": (
        f"{EVALUATE} {{bad}}/config_several",
        "config_several",
        "one label a text",
    ),
    "label: several labels a text": (f"{LABEL} --teacher {{bad}}/config_several", "one label a text"),
    "label: a folder without a model": (f"{LABEL} --teacher {{bad}}", "without a config.json"),
    "label: a data set for a model": (f"{LABEL} --teacher {{bad}}/half_dataset", "without a config.json"),
    "label: weights NaN": (f"{LABEL} --teacher {{bad}}/weights_nan", "NaN or infinite", "ids ['1'"),
    "label: an empty name": (f"{LABEL} --teacher ''", "''"),
    "label: a name that is no name": (f"{LABEL} --teacher 'a b/c d/e'", "a b/c d/e"),
    "label: no rows": (f"{LABEL} --teacher {{teacher}} --input {{bad}}/header_ids.csv", "has no rows"),
    "label: a huge number": (
        f"{LABEL} --teacher {{teacher}} --input {{bad}}/huge_number.jsonl",
        "huge_number.jsonl has a whole number that is too large for 64 bits",
    ),
    "label: mixed columns": (f"{LABEL} --teacher {{teacher}} --input {{bad}}/mixed.jsonl", "mixed.jsonl"),
    "label: rows without ids": (
        f"{LABEL} --teacher {{teacher}} --input {{bad}}/good.csv",
        "has no column 'id'",
        "number its rows",
    ),
    "label: a read-only system": (f"{LABEL} --teacher {{teacher}} --output /proc/o.parquet", "/proc"),
    "distill: labels that clash": (f"{DISTILL} --teacher {{bad}}/three_labels", "[no, yes]", "[a, b, c]"),
    "distill: weights in a hostile pickle": (f"{DISTILL} --teacher {{bad}}/pickle_hostile", "pickle_hostile"),
    "distill: a huge seed": (f"{DISTILL} --seeds 99999999999999999999", "a seed is 99999999999999999999"),
    "distill: a huge layer": (f"{DISTILL} --hidden-size 1000000000", "hidden_size is 1000000000"),
    "distill: an optimiser that is not used": (
        f"{DISTILL} --optimizer adadelta --optim sgd",
        "optim is sgd, which has no effect on Adadelta",
    ),
    "distill: two optimisers": (
        f"{DISTILL} --optimizer adamw --optim sgd",
        "--optimizer adamw and --optim sgd are two optimisers",
    ),
    "distill: no whole batch": (
        f"{DISTILL} --dataloader-drop-last true --per-device-train-batch-size 500",
        "dataloader_drop_last",
        "no whole batch of 500",
    ),
    "distill: epochs of no student": (
        f"{DISTILL} --no-baseline --baseline-epochs 3",
        "--baseline-epochs is of the student without the teacher",
    ),
    "distill: copies of no rows": (
        f"{DISTILL} --unlabelled-n-iter 5",
        "--unlabelled-n-iter is 5",
        "add --unlabelled-file",
    ),
    "distill cnn: no filters": (f"{CNN} --filters 0", "filters is 0"),
    "distill cnn: huge filters": (f"{CNN} --filters 1000000000", "filters is 1000000000"),
    "distill cnn: filters that are no number": (f"{CNN} --filters 1.5", "--filters", "'1.5'"),
    "distill cnn: no widths": (f"{CNN} --widths", "--widths", "expected at least one argument"),
    "distill cnn: a width of no word": (f"{CNN} --widths 3 0", "a width is 0"),
    "distill cnn: a huge width": (f"{CNN} --widths 1000000", "a width is 1000000"),
    "distill cnn: a width twice": (f"{CNN} --widths 3 4 3", "widths are [3, 4, 3]", "each once"),
    "distill cnn: a BiLSTM's size": (f"{CNN} --hidden-size 150", "--hidden-size"),
    "distill: a CNN's size": (f"{DISTILL} --filters 100", "--filters"),
    "distill: a teacher with heads of its own": (f"{DISTILL} --teacher {{bad}}/config_list", "config_list"),
    # ---- evaluate, export, benchmark, report
    "evaluate: no length": (f"{EVALUATE} {{teacher}} --max-length 0", "max_length is 0"),
    "export: no such model": ("nlp-distill export ./none --output {tmp}/out", "no folder ./none"),
    "export: a task": (f"{EXPORT} --task rte", "no multi-task model"),
    "export: old operators": (f"{EXPORT} --opset 3", "opset is 3"),
    "export: a format": (f"{EXPORT} --format tflite", "invalid choice: 'tflite'"),
    "export: int8 in torch": (f"{EXPORT} --format exported-program --quantize int8-dynamic", "leave it out"),
    "export: int8 without texts": (
        f"{EXPORT} --quantize int8-static",
        "int8-static needs texts",
        "add --sample-file",
    ),
    "export: a length of 0": (f"{EXPORT} --max-length 0", "max_length is 0"),
    "export: a column of no sample": (f"{EXPORT} --text-column text", "--text-column is of --sample-file"),
    "export: a sample of lists": (
        f"{EXPORT} --sample-file {{bad}}/lists.jsonl --text-column text",
        "which is no text",
    ),
    "export: over a teacher": (
        "nlp-distill export {teacher} --output {bad}/finished --overwrite",
        "holds what another command made",
    ),
    "benchmark: a task of an exported model": (
        f"{BENCHMARK} {{bad}}/exported_model --task rte",
        "--task is of multi-task models",
    ),
    "benchmark: a crowd of threads": (f"{BENCHMARK} {{teacher}} --threads 9999", "--threads is 9999"),
    "hand-over: no such file": (
        "nlp-distill hand-over ./none.parquet --format sklearn --output {tmp}/o.npz",
        "none.parquet does not exist",
        "nlp-distill label",
    ),
    "hand-over: a folder": (
        "nlp-distill hand-over {bad} --format sklearn --output {tmp}/o.npz",
        "is a folder",
    ),
    "export: no text column": (f"{EXPORT} --sample-file {{bad}}/good.csv", "--text-column"),
    "export: no such column": (f"{EXPORT} --sample-file {{bad}}/good.csv --text-column x", "no column 'x'"),
    "export: too long": (f"{EXPORT} --max-length 65", "reads at most 64"),
    "export: a negative length": (f"{EXPORT} --max-length -1", "max_length is -1"),
    "export: into a file": (f"{EXPORT} --output {{bad}}/good.csv", "good.csv"),
    "export: over someone's files": (f"{EXPORT} --output {{bad}}", "not made by this command"),
    "export: weights in a hostile pickle": (
        "nlp-distill export {bad}/pickle_hostile --output {tmp}/out",
        "pickle_hostile",
    ),
    "benchmark: no such model": (f"{BENCHMARK} ./none", "no folder ./none"),
    "benchmark: no length": (f"{BENCHMARK} {{teacher}} --lengths 0", "--lengths is 0"),
    "benchmark: a huge length": (f"{BENCHMARK} {{teacher}} --lengths 1000", "reads at most 64"),
    "benchmark: no repeats": (f"{BENCHMARK} {{teacher}} --repeats 0", "--repeats is 0"),
    "benchmark: seconds": (f"{BENCHMARK} {{teacher}} --seconds nan", "--seconds is nan"),
    "benchmark: no threads": (f"{BENCHMARK} {{teacher}} --threads 0", "--threads is 0"),
    "benchmark: exported settings torn": (f"{BENCHMARK} {{bad}}/exported_settings", "exported_settings"),
    "benchmark: exported model torn": (f"{BENCHMARK} {{bad}}/exported_model", "exported_model"),
    "benchmark: figures into no folder": (
        f"{BENCHMARK} {{teacher}} --json {{tmp}}/a/b.json",
        "/a does not exist",
    ),
    "report: no such run": (f"{REPORT} {{tmp}}/none", "holds no results.json"),
    "report: a file": (f"{REPORT} {{bad}}/good.csv", "holds no results.json"),
    "report: results that are not JSON": (
        f"{REPORT} {{bad}}/results_text --output {{tmp}}/o",
        "results_text",
    ),
    "report: results that are a list": (f"{REPORT} {{bad}}/results_list --output {{tmp}}/o", "results_list"),
    "report: results without scores": (f"{REPORT} {{bad}}/results_short --output {{tmp}}/o", "results_short"),
    "report: into a file": (f"{REPORT} {{bad}}/results_text --output {{bad}}/good.csv", "results_text"),
    # ---- general distillation
    "general: no such text": (f"{GENERAL} --text {{bad}}/none.txt", "none.txt"),
    "general: a folder of texts": (f"{GENERAL} --text {{bad}}", "no file"),
    "general: an empty text": (f"{GENERAL} --text {{bad}}/empty.csv", "is empty"),
    "general: blank lines": (f"{GENERAL} --text {{bad}}/blank.csv", "holds no text"),
    "general: UTF-16": (f"{GENERAL} --text {{bad}}/utf16.csv", "utf16.csv line 1", "UTF-8"),
    "general: heads that do not divide": (
        f"{GENERAL} --text {{bad}}/lines.txt --heads 3",
        "hidden is 8 and heads 3",
    ),
    "general: no layers": (f"{GENERAL} --text {{bad}}/lines.txt --layers 0", "layers is 0"),
    "general: more layers than the teacher": (f"{GENERAL} --text {{bad}}/lines.txt --layers 3", "3", "2"),
    "general: wider than the teacher": (f"{GENERAL} --text {{bad}}/lines.txt --hidden-size 32", "32", "16"),
    "general: other heads than the teacher": (f"{GENERAL} --text {{bad}}/lines.txt --heads 4", "heads"),
    "general: relation heads": (f"{GENERAL} --text {{bad}}/lines.txt --relation-heads 3", "relation"),
    "general: relation heads of none": (
        f"{GENERAL} --text {{bad}}/lines.txt --objective minilm-v2 --relation-heads 0",
        "relation",
    ),
    "general: no masked words": (f"{GENERAL} --text {{bad}}/lines.txt --objective distilbert", "masked"),
    "general: too long": (f"{GENERAL} --text {{bad}}/lines.txt --max-length 65", "reads at most 64"),
    "general: an objective": (f"{GENERAL} --text {{bad}}/lines.txt --objective mse", "invalid choice: 'mse'"),
    "general: a seed": (f"{GENERAL} --text {{bad}}/lines.txt --seed -1", "seed is -1"),
    "general: deeper than the teacher at random": (
        f"{GENERAL} --text {{bad}}/lines.txt --random-start --layers 5",
        "5",
        "2",
    ),
    # ---- TinyBERT
    "tinybert: epochs that end earlier": (
        f"{TINYBERT} --max-steps 3 --intermediate-epochs 2",
        "--intermediate-epochs has no effect",
    ),
    "tinybert: an unknown part": (f"{TINYBERT} --without memory", "without memory", "attention"),
    "tinybert: nothing left": (f"{TINYBERT} --without intermediate prediction", "nothing is distilled"),
    "tinybert: an ablation": (f"{TINYBERT} --ablations memory", "ablation memory"),
    "tinybert: temperature": (f"{TINYBERT} --temperature 0", "temperature is 0.0"),
    "tinybert: cache": (f"{TINYBERT} --teacher-cache-gb nan", "teacher_cache_gb is nan"),
    "tinybert: no such general student": (
        f"{SMALL_BERT} --general ./none",
        "no folder ./none",
    ),
    "tinybert: a shape for the general student": (
        f"{TINYBERT} --general {{encoder}}",
        "do not go with --general",
    ),
    "tinybert: layers": (f"{TINYBERT} --layers 3", "3", "2"),
    "tinybert: heads": (f"{TINYBERT} --heads 4", "heads"),
    "tinybert: candidates": (f"{TINYBERT} --num-candidates 0", "num_candidates is 0"),
    "tinybert: a probability": (f"{TINYBERT} --p-replace 2", "p_replace is 2.0"),
    "tinybert: intermediate epochs": (
        f"{TINYBERT} --intermediate-epochs -1 --n-iter 0",
        "num_train_epochs is -1.0",
    ),
    "tinybert: a teacher of other labels": (f"{TINYBERT} --teacher {{bad}}/three_labels", "[a, b, c]"),
    "tinybert: weights in a hostile pickle": (
        f"{TINYBERT} --teacher {{bad}}/pickle_hostile",
        "pickle_hostile",
    ),
    # ---- several tasks
    "mt-dnn: an unknown task": (f"{MT_DNN} rte mine", "unknown task 'mine'"),
    "mt-dnn: a task twice": (f"{MT_DNN} rte rte", "give each once"),
    "mt-dnn: a task without a file": (f"{MT_DNN} rte qnli", "no folder QNLI"),
    "mt-dnn: a GLUE file in UTF-16": (f"{MT_DNN} mrpc", "not UTF-8"),
    "mt-dnn: a GLUE score of NaN": (f"{MT_DNN} stsb", "row 1 has the score 'nan'"),
    "mt-dnn: keep more than there are": (f"{MT_DNN} rte --num-teachers 2 --keep 3", "from 1 to 2"),
    "mt-dnn: dropout": (f"{MT_DNN} rte --dropouts 0.1 nan", "dropouts are"),
    "mt-dnn: a SAN head for single texts": (f"{MT_DNN} cola --san cola", "cola"),
    "mt-dnn: a SAN head for no task": (f"{MT_DNN} rte --san qqp", "qqp"),
    "mt-dnn: teachers": (f"{MT_DNN} rte --teachers rte", "TASK=DIR"),
    "mt-dnn: teachers of no task": (f"{MT_DNN} rte --teachers qqp={{teacher}}", "qqp"),
    "mt-dnn: an encoder that is none": (f"{MT_DNN} rte --encoder {{bad}}", "without a config.json"),
    "bam: layerwise decay": (f"{BAM} rte --layerwise-decay nan", "layerwise decay is nan"),
    "bam: exponent": (f"{BAM} rte --sampling-exponent nan", "exponent of task sampling is nan"),
    "bam: doubled single texts": (f"{BAM} cola --doubled cola", "cola"),
    "bam: doubled no task": (f"{BAM} rte --doubled qqp", "qqp"),
    "bam: teachers without a place": (f"{BAM} rte --combination multi --teachers rte={{teacher}}", "multi"),
    "bam: two teachers of a task": (f"{BAM} rte --teachers rte={{teacher}} rte={{encoder}}", "2 teachers"),
    "bam: an order of rows": (
        f"{BAM} rte --train-sampling-strategy group_by_length",
        "train_sampling_strategy has no effect on several tasks",
    ),
    "bam: no length": (f"{BAM} rte --max-length 3", "max_length is 3"),
    "bam: a teacher of other labels": (f"{BAM} rte --teachers rte={{bad}}/three_labels", "[a, b, c]"),
    "bam: a hostile encoder": (f"{BAM} rte --encoder {{bad}}/pickle_hostile", "pickle_hostile"),
    "bam: single epochs": (f"{BAM} rte --single-epochs 0", "num_train_epochs is 0.0"),
    "bam: no such suite": (f"{OWN_SUITE} {{bad}}/none.toml", "none.toml"),
    "bam: a suite that is a folder": (f"{OWN_SUITE} {{bad}}", "bad"),
    "bam: a suite that is not TOML": (f"{OWN_SUITE} {{bad}}/torn.toml", "torn.toml"),
    "bam: a suite in UTF-16": (f"{OWN_SUITE} {{bad}}/utf16.toml", "utf16.toml"),
    "bam: an empty suite": (f"{OWN_SUITE} {{bad}}/empty.toml", "empty.toml"),
    "bam: a suite of numbers": (f"{OWN_SUITE} {{bad}}/numbers.toml", "numbers.toml"),
    "bam: a task without a file": (f"{OWN_SUITE} {{bad}}/no_file.toml", "no_file.toml", "train_file"),
    "bam: a misspelt key": (f"{OWN_SUITE} {{bad}}/misspelt.toml", "misspelt.toml", "txt_column"),
    "bam: a file that is a number": (f"{OWN_SUITE} {{bad}}/number.toml", "number.toml", "train_file"),
    "bam: a task that is a path": (f"{OWN_SUITE} {{bad}}/path.toml", "'../../x'"),
    "bam: a task of the suite without rows": (f"{OWN_SUITE} {{bad}}/rows.toml", "none.csv does not exist"),
    # ---- taggers
    "tagger: no file": (f"{TAGGER} {{bad}}/nowhere", "cannot read", "No such file"),
    "tagger: a folder": (f"{TAGGER} {{bad}}", "cannot read", "directory"),
    "tagger: an empty file": (f"{TAGGER} {{bad}}/empty.csv", "empty.csv has no sentences"),
    "tagger: blank lines": (f"{TAGGER} {{bad}}/blank.csv", "blank.csv has no sentences"),
    "tagger: UTF-16": (f"{TAGGER} {{bad}}/utf16.csv", "utf16.csv: it is no UTF-8 text"),
    "tagger: a word without a tag": (
        f"{TAGGER} {{bad}}/no_tag.conll",
        "line 2 of",
        "has a word and no tag: 'plot'",
    ),
    "tagger: a tag of others": (
        f"{TAGGER} {{bad}}/other.conll",
        "the tag 'MISC' is none of the model's: no, yes",
    ),
    "tagger: a line without end": (
        f"{TAGGER} {{bad}}/zeros.conll",
        "line 1 of",
        "1,000,000 characters or more",
    ),
    "tagger: rows of texts": (
        f"{TAGGER} {{bad}}/list.jsonl",
        "line 1 of",
        "no JSON object with tokens and tags",
    ),
    "tagger: deep JSON": (f"{TAGGER} {{bad}}/deep.jsonl", "line 1 of", "no JSON object with tokens and tags"),
    "tagger: too few tags": (f"{TAGGER} {{bad}}/few.jsonl", "line 1 of", "has 2 tokens and 1 tags"),
    "tagger: half a surrogate pair": (f"{TAGGER} {{bad}}/half.jsonl", "half of a surrogate pair"),
    "tagger: a classifier": (f"{TAGGER} {{bad}}/tags.conll --teacher {{teacher}}", "is no token classifier"),
    "tagger: too deep": (
        f"{TAGGER} {{bad}}/tags.conll --layers 9",
        "the student's layers is 9 but the teacher has",
    ),
    "tagger: no soft targets": (f"{TAGGER} {{bad}}/tags.conll --soft-weight 0", "give the first above 0"),
    "tagger: a temperature": (f"{TAGGER} {{bad}}/tags.conll --temperature nan", "temperature"),
    "tagger: one sentence to hold out of": (
        f"{TAGGER} {{bad}}/one.conll".replace("--validation-file {bad}/tags.conll", ""),
        "fewer than 2 different texts",
    ),
    "tagger: results that are not JSON": (
        f"{TAGGER} {{bad}}/tags.conll --task t --layers 1 --results-dir {{bad}}/published",
        "0.json is no result of ours",
    ),
    "tagger: a task that is a path": (f"{TAGGER} {{bad}}/tags.conll --task ../../x", "'../../x'"),
    "finetune-tagger: no file": (f"{TAG_ROWS} {{bad}}/nowhere", "cannot read", "No such file"),
    "finetune-tagger: no test file": (f"{TAG_WORDS} --train-file {{bad}}/tags.conll", "--test-file"),
    "finetune-tagger: raw text": (
        f"{TAG_ROWS} {{bad}}/tags.conll --unlabelled-file {{bad}}/lines.txt",
        "--unlabelled-file",
    ),
    "finetune-tagger: an empty file": (f"{TAG_ROWS} {{bad}}/empty.csv", "empty.csv has no sentences"),
    "finetune-tagger: UTF-16": (f"{TAG_ROWS} {{bad}}/utf16.csv", "utf16.csv: it is no UTF-8 text"),
    "finetune-tagger: one sentence to hold out of": (
        f"{TAG_ROWS} {{bad}}/one.conll",
        "fewer than 2 different texts",
    ),
    "finetune-tagger: one tag": (
        f"{TAG_ROWS} {{bad}}/one_tag.conll",
        "train: every word has the tag 'no'; give sentences with two tags or more",
    ),
    "finetune-tagger: a tag that train lacks": (
        f"{TAG_ROWS} {{bad}}/tags.conll --validation-file {{bad}}/other.conll",
        "validation: sentence 1 ('a'): the tag 'MISC' is not in train, which has no, yes; correct the rows",
    ),
    "finetune-tagger: a tag of test alone": (
        f"{TAG_ROWS} {{bad}}/tags.conll --test-file {{bad}}/other.conll",
        "test: sentence 1 ('a'): the tag 'MISC' is not in train",
    ),
    "finetune-tagger: ids for tags": (
        f"{TAG_ROWS} {{bad}}/ids.conll",
        "20,000 different tags",
        "the tag is the last column of a line",
    ),
    "finetune-tagger: no such model": (f"{TAG_ROWS} {{bad}}/tags.conll --model ./none", "no folder ./none"),
    "finetune-tagger: a hostile model": (
        f"{TAG_ROWS} {{bad}}/tags.conll --model {{bad}}/pickle_hostile",
        "pickle",
        "not run",
    ),
    "finetune-tagger: a model of images": (
        f"{TAG_ROWS} {{bad}}/tags.conll --model {{bad}}/config_vision",
        "config_vision",
        "its kind of model has no head for this; give a BERT",
    ),
    "finetune-tagger: more tokens than vectors": (
        f"{TAG_ROWS} {{bad}}/tags.conll --model {{bad}}/tokenizer_large",
        "has vectors for",
    ),
    "finetune-tagger: too long": (f"{TAG_ROWS} {{bad}}/tags.conll --max-length 65", "reads at most 64"),
    "finetune-tagger: a length": (f"{TAG_ROWS} {{bad}}/tags.conll --max-length 7", "max_length is 7"),
    "finetune-tagger: a seed": (f"{TAG_ROWS} {{bad}}/tags.conll --seed -1", "seed is -1"),
    "finetune-tagger: a rate twice": (
        f"{TAG_ROWS} {{bad}}/tags.conll --learning-rates 1e-4 1e-4",
        "give each once",
    ),
    "finetune-tagger: a misspelt field": (
        f"{TAG_ROWS} {{bad}}/tags.conll --learning_rte 1",
        "unknown option --learning_rte",
    ),
    "finetune-tagger: a metric of texts": (
        f"{TAG_ROWS} {{bad}}/tags.conll --metric-for-best-model f1",
        "metric_for_best_model is f1; give score, loss, token_accuracy",
    ),
    "finetune-tagger: results that are not JSON": (
        f"{TAG_ROWS} {{bad}}/tags.conll --task t --results-dir {{bad}}/published",
        "0.json is no result of ours",
    ),
    "finetune-tagger: a task that is a path": (f"{TAG_ROWS} {{bad}}/tags.conll --task ../../x", "'../../x'"),
    "finetune: a tagger's files": (f"{FINETUNE} {ROWS} {{bad}}/tags.conll", "unknown suffix '.conll'"),
    "report: rows of a tagger": (
        f"{REPORT} {{bad}}/results_tagger --train-file {{bad}}/tags.conll",
        "is a tagger's run",
        "leave out the data options",
    ),
    "evaluate: a tagger": (f"{EVALUATE} {{bad}}/tagger", "is a tagger, which labels words and not texts"),
    "serve: a tagger": (f"{SERVE} {{bad}}/tagger", "is a tagger"),
    "label: a tagger": (f"{LABEL} --teacher {{bad}}/tagger", "is a tagger"),
    "compress: a tagger": (
        f"nlp-distill compress {{bad}}/tagger --teacher {{teacher}} {DATA} --output {{tmp}}/out --trim-vocabulary",
        "is a tagger",
    ),
    "compress: a task of no multi-task teacher": (
        f"nlp-distill compress {{teacher}} --teacher {{teacher}} --teacher-task rte {DATA} --output {{tmp}}/out "
        "--trim-vocabulary",
        "no multi-task model",
        "--teacher-task",
    ),
    # ---- serve
    "serve: no such model": (f"{SERVE} ./none", "no folder ./none"),
    "serve: a folder without a model": (f"{SERVE} {{bad}}", "holds neither runtime.json"),
    "serve: a file": (f"{SERVE} {{bad}}/good.csv", "good.csv is a file"),
    "serve: exported settings torn": (f"{SERVE} {{bad}}/exported_settings", "exported_settings"),
    "serve: exported model torn": (f"{SERVE} {{bad}}/exported_model", "exported_model"),
    "serve: a hostile model": (f"{SERVE} {{bad}}/pickle_hostile", "pickle", "not run"),
    "serve: a hostile teacher": (
        f"{SERVE} {{teacher}} --teacher {{bad}}/pickle_hostile",
        "pickle",
        "not run",
    ),
    "serve: a port": (f"{SERVE} {{teacher}} --port 65536", "--port is 65536"),
    "serve: a host": (f"{SERVE} {{teacher}} --host no..host", "no..host"),
    "serve: no batch": (f"{SERVE} {{teacher}} --max-batch 0", "is 0"),
    "serve: a wait": (f"{SERVE} {{teacher}} --max-wait-ms nan", "--max-wait-ms is nan"),
    "serve: more tokens than vectors": (f"{SERVE} {{bad}}/tokenizer_large", "has vectors for"),
    # ---- fit
    "fit: no time": (f"{FIT} --latency-ms 0", "latency_ms is 0.0"),
    "fit: a time that is no number": (f"{FIT} --latency-ms nan", "latency_ms is nan"),
    "fit: a drop": (f"{FIT} --max-drop nan", "max_drop is nan"),
    "fit: a size": (f"{FIT} --max-mb -1", "max_mb is -1"),
    "fit: no tokens": (f"{FIT} --tokens 0", "tokens is 0"),
    "fit: too many tokens": (f"{FIT} --tokens 1000", "tokens is 1000", "--tokens 32 or less"),
    "fit: no threads": (f"{FIT} --threads 0", "threads is 0"),
    "fit: no repeats": (f"{FIT} --repeats 0", "repeats is 0"),
    "fit: a shape": (f"{FIT} --shapes large", "'large' is no shape; give LAYERSxWIDTH"),
    "fit: a CNN without filters": (f"{FIT} --shapes cnn:0", "the filters of cnn:0 is 0"),
    "fit: half a shape": (f"{FIT} --shapes 3x", "'3x' is no shape"),
    "fit: a shape of nothing": (f"{FIT} --shapes 0x8", "layers is 0"),
    "fit: no candidates": (f"{FIT} --max-candidates 0", "max_candidates is 0"),
    "fit: a seed": (f"{FIT} --seed -1", "seed is -1"),
    "fit: a length": (f"{FIT} --max-length 65", "reads at most 64"),
    "fit: no such general student": (f"{FIT} --general ./none", "./none"),
    "fit: a hostile teacher": (f"{FIT} --teacher {{bad}}/pickle_hostile", "pickle", "not run"),
    "fit: labels that clash": (f"{FIT} --teacher {{bad}}/three_labels", "[no, yes]", "[a, b, c]"),
    "fit: a task of no multi-task teacher": (f"{FIT} --teacher-task rte", "--teacher-task"),
    # ---- demo
    "demo: an unknown task": ("nlp-distill demo --task mine --output {tmp}/out", "unknown task 'mine'"),
    "demo: a hostile teacher": (f"{DEMO} --teacher {{bad}}/pickle_hostile", "pickle_hostile"),
    "demo: probabilities": (f"{DEMO} --p-mask 0.6 --p-pos 0.5", "p_mask + p_pos"),
}

# Run as a user who owns none of the files; a root user could read and write them all.
LOCKED = {
    "augment: a file that may not be read": (
        f"{AUGMENT} {{bad}}/locked.csv",
        "locked.csv",
        "Permission denied",
    ),
    "augment: a folder that may not be written": (
        f"{AUGMENT} {{bad}}/good.csv --output {{bad}}/o.csv",
        "Permission denied",
    ),
    "finetune: a file that may not be read": (f"{FINETUNE} {ROWS} {{bad}}/locked.csv", "Permission denied"),
    "finetune: a folder that may not be written": (
        f"{FINETUNE} {DATA} --output {{bad}}/out",
        "cannot write to",
        "Permission denied",
    ),
    "evaluate: a model that may not be read": (f"{EVALUATE} {{bad}}/locked", "locked", "ermission"),
    "report: results that may not be read": (f"{REPORT} {{bad}}/locked", "locked"),
}
MARKER = "unpickled"


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def places(encoder_folder, tmp_path_factory):
    """Where the placeholders of the cases lead."""
    bad = tmp_path_factory.mktemp("bad")
    write_rows(bad)
    write_glue(bad / "glue")
    write_datasets(bad)
    teacher = tmp_path_factory.mktemp("models") / "teacher"
    shutil.copytree(encoder_folder, teacher)
    change_config(teacher, **name_labels("no", "yes"))
    write_models(bad, teacher)
    shutil.copytree(teacher, bad / "tagger")
    change_config(bad / "tagger", architectures=["BertForTokenClassification"])
    write_others(bad)
    return {"bad": bad, "encoder": encoder_folder, "teacher": teacher}


def write_rows(bad):
    good = ["text,second,label", *(f"a film number {n},a plot,{('no', 'yes')[n % 2]}" for n in range(40))]
    texts = {
        "good.csv": "\n".join(good) + "\n",
        "tags.conll": "a no\nfilm yes\n\na no\nplot no\n",
        "no_tag.conll": "a no\nplot\n",
        "other.conll": "a MISC\n",
        "one.conll": "a no\nfilm yes\n",
        "one_tag.conll": "a no\n\nplot no\n",
        "ids.conll": "\n\n".join(f"film{n} {n}" for n in range(20_000)),
        "few.jsonl": '{"tokens": ["a", "b"], "tags": ["no"]}\n',
        "half.jsonl": '{"tokens": ["\\ud800"], "tags": ["no"]}\n',
        "zeros.conll": "\0" * 2_000_000,
        "empty.csv": "",
        "header.csv": "text,label\n",
        "header_ids.csv": "id,text\n",
        "bom.csv": "\ufeff",
        "blank.csv": "\n\n\n",
        "lines.txt": "a fine film\na dull plot\n" * 20,
        "twice.csv": "text,text\na,b\n",
        "same_ids.csv": "id,text\n1,a film\n1,a plot\n",
        "ids.csv": "id,text\n1,a good film\n2,a bad plot\n",
        "ragged.csv": "text,label\na film,1\na plot,1,2,3\n",
        "short.tsv": "text\tlabel\na film\t1\na plot\n",
        "nul_header.csv": "text\0,label\na film,1\n",
        "open_quote.csv": 'text,label\n"a film,1\na plot,0\n',
        "two_lines.csv": '"text\nof a film",label\na film,1\n',
        "wide.csv": ",".join(f"c{n}" for n in range(100_000)) + "\n" + "," * 99_999 + "\n",
        "list.jsonl": '[{"text": "a film"}, {"text": "a plot"}]\n',
        "numbers.jsonl": '{"text": 1}\n{"text": 2}\n',
        "deep.jsonl": "[" * 100_000 + "]" * 100_000 + "\n",
        "keys.jsonl": '{"text": "a film"}\n{"text": "a plot", "more": 1}\n',
        "huge.jsonl": '{"text": "a film", "size": 1}\n{"text": "a plot", "size": 100000000000000000000000}\n',
        "digits.jsonl": '{"text": "a film", "size": %s}\n' % ("9" * 10_000),
        "surrogate.jsonl": '{"text": "\\ud800"}\n',
        "rows.xlsx": "text\na film\n",
        "rows": "text\na film\n",
        "tabs.csv": 'text,label\na film,"1\t2"\n',
        "glove.txt": "film 1.0 2.0\nplot 2.0 1.0\nmovie 1.1 2.1\n",
        "glove_nan.txt": "film 1.0 2.0\nplot nan 1.0\n",
        "glove_ragged.txt": "film 1.0 2.0\nplot 1.0\n",
        "no_label.csv": "text,label\na film,1\na plot,\na story,0\n",
        "nan.jsonl": '{"text": "a film", "label": 1.5}\n{"text": "a plot", "label": NaN}\n',
        "inf.jsonl": '{"text": "a film", "label": 1.5}\n{"text": "a plot", "label": Infinity}\n' * 20,
        "1e400.csv": "text,label\na film,1.5\na plot,1e400\n",
        "digits.csv": f"text,label\na film,1\na plot,{'9' * 5000}\n",
        "one_class.csv": "text,label\na film,yes\na plot,yes\n",
        "one_row.csv": "text,label\na film,yes\n",
        "one_text.csv": "text,label\na film,yes\na film,no\n",
        "lists.jsonl": '{"text": "a film", "label": [1]}\n{"text": "a plot", "label": [2]}\n' * 20,
        "text_lists.jsonl": '{"text": ["a", "film"], "label": 1}\n{"text": ["a", "plot"], "label": 2}\n' * 20,
        "numbers.csv": "text,label\na story,7\n",
        "huge_number.jsonl": '{"id": 1, "text": "a film", "x": 123456789012345678901234567890}\n',
        "mixed.jsonl": '{"id": 1, "text": "a film", "x": 1}\n{"id": 2, "text": "a plot", "x": [1]}\n',
        "torn.toml": "[mine\n",
        "empty.toml": "",
        "numbers.toml": "mine = 1\n",
        "no_file.toml": '[mine]\ntext_column = "text"\n',
        "misspelt.toml": '[mine]\ntrain_file = "good.csv"\ntxt_column = "text"\n',
        "number.toml": '[mine]\ntrain_file = 1\ntext_column = "text"\n',
        "path.toml": '["../../x"]\ntrain_file = "good.csv"\ntext_column = "text"\n',
        "rows.toml": '[mine]\ntrain_file = "none.csv"\ntext_column = "text"\n',
    }
    for name, text in texts.items():
        (bad / name).write_text(text, encoding="utf-8")
    for name in ("utf16.csv", "utf16.tsv"):
        (bad / name).write_bytes(
            "text,label\na film,1\n".replace(",", "\t" if "tsv" in name else ",").encode("utf-16")
        )
    (bad / "utf16.toml").write_bytes("[mine]\n".encode("utf-16"))
    (bad / "utf16.jsonl").write_bytes('{"text": "a film"}\n'.encode("utf-16"))
    (bad / "latin1.csv").write_bytes("text,label\nl'été,1\n".encode("latin-1"))
    scrambled = bytes(range(256)) * 16
    (bad / "binary.csv").write_bytes(scrambled[128:])
    (bad / "binary.parquet").write_bytes(scrambled)


def write_datasets(bad):
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from datasets import Dataset

    pq.write_table(pa.table({"text": ["a film"] * 1000}), bad / "torn.parquet")
    (bad / "torn.parquet").write_bytes((bad / "torn.parquet").read_bytes()[:-20])
    pq.write_table(pa.table({"text": [b"a film", b"a plot"]}), bad / "bytes.parquet")
    numbers = pa.array(range(1_000_000))
    million = {"text": pa.array(["a film"] * 1_000_000).dictionary_encode(), "number": numbers}
    million["label"] = pc.binary_join_element_wise("x", numbers.cast(pa.string()), "")
    pq.write_table(pa.table(million), bad / "million.parquet")
    pq.write_table(pa.table(million).slice(0, 20_000), bad / "numbers.parquet")
    for name in ("torn_dataset", "no_dataset", "half_dataset"):
        Dataset.from_list([{"text": "a film", "label": "x"}]).save_to_disk(bad / name)
    rows = next((bad / "torn_dataset").glob("*.arrow"))
    rows.write_bytes(rows.read_bytes()[:50])
    (bad / "no_dataset" / "dataset_info.json").write_text("[")
    next((bad / "half_dataset").glob("*.arrow")).unlink()


def write_glue(folder):
    rows = {
        "RTE": (
            "index\tsentence1\tsentence2\tlabel",
            "{n}\ta film {n}\ta plot\t{label}",
            ("entailment", "not_entailment"),
        ),
        "CoLA": (None, "x\t{label}\t\ta film {n}", ("0", "1")),
        "STS-B": ("sentence1\tsentence2\tscore", "a film {n}\ta plot\tnan", ("", "")),
    }
    for name, (header, row, labels) in rows.items():
        (folder / name).mkdir(parents=True)
        for split, start in (("train", 0), ("dev", 100)):
            lines = [row.format(n=n, label=labels[n % 2]) for n in range(start, start + 30)]
            (folder / name / f"{split}.tsv").write_text(
                "\n".join([*([header] if header else []), *lines]) + "\n"
            )
    (folder / "MRPC").mkdir()
    for split in ("train", "dev"):
        text = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta film\ta plot\n"
        (folder / "MRPC" / f"{split}.tsv").write_bytes(text.encode("utf-16"))


def name_labels(*labels):
    return {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_models(bad, teacher):
    import torch
    from safetensors.torch import load_file, save_file

    def copy(name):
        return Path(shutil.copytree(teacher, bad / name))

    for name, text in {
        "list": "[1, 2]",
        "null": "null",
        "text": "{model_type: bert",
        "empty": "",
        "plain": "{}",
    }.items():
        (copy(f"config_{name}") / "config.json").write_text(text)
    (copy("config_utf16") / "config.json").write_bytes((teacher / "config.json").read_text().encode("utf-16"))
    for name, changes in {
        "unknown": {"model_type": "no-such-model"},
        "number": {"model_type": 5},
        "sizes": {"hidden_size": "many"},
        "heads": {"num_attention_heads": 3},
        "giant": {"vocab_size": 10**15},
        "width": {"hidden_size": 8},
        "activation": {"hidden_act": "no-such-function"},
        "labels": {"id2label": ["no", "yes"]},
        "path": {"model_type": "../../etc"},
        "vision": {"model_type": "vit"},
        "several": {"problem_type": "multi_label_classification"},
    }.items():
        change_config(copy(f"config_{name}"), **changes)
    change_config(copy("three_labels"), **name_labels("a", "b", "c"))
    head = load_file(bad / "three_labels" / "model.safetensors")
    head |= {"classifier.weight": torch.zeros(3, 16), "classifier.bias": torch.zeros(3)}
    save_file(head, bad / "three_labels" / "model.safetensors", {"format": "pt"})

    weights = (teacher / "model.safetensors").read_bytes()
    (copy("weights_half") / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    (copy("weights_header") / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + weights[8:])
    (copy("weights_empty") / "model.safetensors").write_bytes(b"")
    (copy("weights_folder") / "model.safetensors").unlink()
    (bad / "weights_folder" / "model.safetensors").mkdir()
    tensors = load_file(copy("weights_nan") / "model.safetensors")
    tensors["classifier.bias"] = torch.full_like(tensors["classifier.bias"], float("nan"))
    save_file(tensors, bad / "weights_nan" / "model.safetensors", {"format": "pt"})
    for name in ("pickle_torn", "pickle_hostile"):
        (copy(name) / "model.safetensors").unlink()
    (bad / "pickle_torn" / "pytorch_model.bin").write_bytes(b"\x80\x02torn")
    torch.save({"classifier.bias": Hostile(bad / MARKER)}, bad / "pickle_hostile" / "pytorch_model.bin")

    for name, text in {"text": "{not json", "list": "[]", "empty": ""}.items():
        (copy(f"tokenizer_{name}") / "tokenizer.json").write_text(text)
    path = copy("tokenizer_large") / "tokenizer.json"
    definition = json.loads(path.read_text())
    vocabulary = definition["model"]["vocab"]
    vocabulary["number"] = len(vocabulary) + 1000
    path.write_text(json.dumps(definition))
    for name, changes in {
        "padding": {"pad_token": None},
    }.items():
        path = copy(f"tokenizer_{name}") / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_others(bad):
    (bad / "lists.jsonl").write_text('{"text": ["a film", "a plot"]}\n')
    (bad / "finished").mkdir()
    finished = {"inputs": {}, "result": {}, "files": {}, "maker": "nlp_distill.commands.finetune"}
    (bad / "finished" / "stage_finished.json").write_text(json.dumps(finished))
    for name in ("exported_settings", "exported_model"):
        (bad / name).mkdir()
        (bad / name / "model.onnx").write_bytes(b"no model")
        (bad / name / "runtime.json").write_text(
            "{" if name == "exported_settings" else '{"labels": ["a", "b"], "max_length": 64}'
        )
        (bad / name / "tokenizer.json").write_text("{}")
    for name, text in {
        "results_text": "{",
        "results_list": "[1]",
        "results_short": '{"task": "x", "models": {"teacher": {}}}',
        "results_tagger": json.dumps(TAGGER_RESULTS),
        "published/teacher/t": "{",
        "published/tagger_1x16/t": "{",
    }.items():
        (bad / name).mkdir(parents=True)
        (bad / name / ("0.json" if "/" in name else "results.json")).write_text(text)


def run(command, places, tmp_path):
    program, *arguments = shlex.split(command.format(tmp=tmp_path, **places))
    main = {"data-augment": data_augment.cli.main, "nlp-distill": nlp_distill.cli.main}[program]
    try:
        return main(arguments)
    except SystemExit as stop:  # the parser's own refusals
        return stop.code


def check_refusal(code, out, err, parts):
    assert code == 2, (code, err)
    assert out == "" and "Traceback" not in err
    lines = err.splitlines()
    errors = [line for line in lines if "error:" in line.lower()]
    assert len(errors) == 1 and errors[0] == lines[-1] and errors[0].startswith("error: "), err
    assert all(part in errors[0] for part in parts), errors[0]
    assert len(errors[0]) <= 700 and errors[0].isprintable()


@pytest.mark.parametrize("case", CASES)
def test_an_unexpected_input_is_one_line(case, places, tmp_path, capsys):
    command, *parts = CASES[case]
    code = run(command, places, tmp_path)
    out, err = capsys.readouterr()
    check_refusal(code, out, err, parts)
    assert not (places["bad"] / MARKER).exists()
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.glob("*.csv"))


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="this system has no users to change to")
@pytest.mark.parametrize("case", LOCKED)
def test_what_may_not_be_read_or_written_is_one_line(case, places, capsys):
    command, *parts = LOCKED[case]
    with tempfile.TemporaryDirectory() as name:  # a folder that any user may enter, which pytest's is not
        folder = Path(name)
        folder.chmod(0o555)
        shutil.copy(places["bad"] / "good.csv", folder)
        shutil.copy(places["bad"] / "good.csv", folder / "locked.csv")
        shutil.copytree(places["encoder"], folder / "encoder")
        shutil.copytree(places["encoder"], folder / "locked")
        (folder / "locked" / "results.json").write_text("{}")
        for path in ("locked.csv", "locked"):
            (folder / path).chmod(0)
        own = {"bad": folder, "encoder": folder / "encoder", "teacher": folder / "encoder"}
        import_all_that_a_command_needs(command, places, folder)
        capsys.readouterr()
        with another_user():
            code = run(command, own, folder)
        for path in (folder, folder / "locked"):
            path.chmod(0o755)
    out, err = capsys.readouterr()
    check_refusal(code, out, err, parts)


def import_all_that_a_command_needs(command, places, folder):
    """Another user may not read Python's own modules, where root has installed them for itself."""
    program, *arguments = shlex.split(command.format(tmp=folder, **places))
    name = {"evaluate": "evaluate", "report": "report"}.get(arguments[0], "finetune")
    if program == "nlp-distill":
        other = {
            "evaluate": f"{EVALUATE} {{bad}}/config_list",
            "report": f"{REPORT} {{bad}}/results_list",
            "finetune": f"{FINETUNE} {DATA} --num-train-epochs -1",
        }[name]
        run(other, places, folder)
    else:
        import textblob  # noqa: F401

        from data_augment.tagging import load_tagger

        load_tagger("auto")  # it keeps the lexicon that it reads
        run(f"{AUGMENT} {{bad}}/tabs.csv --n-iter 0 --output {{bad}}/none/o.tsv", places, folder)
        run(f"{AUGMENT} {{bad}}/ragged.csv", places, folder)


@contextmanager
def another_user():
    """Give up root's rights for a while, where there are any."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["-m", "data_augment", "--input", b"\xff.csv", "--output", "o.csv"], ["not UTF-8", "\\udcff.csv"]),
        (["-m", "data_augment", "--input", "{bad}/utf16.csv", "--output", "o.csv"], ["is UTF-16"]),
        (["-m", "nlp_distill", "export", "{bad}/pickle_hostile", "--output", "o"], ["pickle", "not run"]),
        (["-m", "nlp_distill", "report", "{bad}/results_text"], ["is no JSON"]),
        (["-m", "nlp_distill", "evaluate", "--model", b"\xff", "--task", "x"], ["not UTF-8"]),
    ],
)
def test_a_process_answers_in_one_line_whatever_the_encoding(arguments, parts, places, tmp_path):
    given = [argument if isinstance(argument, bytes) else argument.format(**places) for argument in arguments]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, *given], capture_output=True, env=environment, cwd=tmp_path, check=False
    )
    check_refusal(done.returncode, done.stdout.decode(), done.stderr.decode(), parts)
    assert not list(tmp_path.iterdir())
