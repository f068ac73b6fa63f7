"""The command line, run as users run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_augment import read_rows
from data_augment.cli import main

ARGUMENTS = ["--pos-tagger", "textblob", "--n-iter", "3"]


@pytest.fixture
def train(tmp_path: Path) -> Path:
    path = tmp_path / "train.tsv"
    path.write_text("sentence\tlabel\na fine film\t1\nthe plot is dull\t0\na fine film\t0\n")
    return path


def run_main(*arguments: object) -> int:
    return main([*map(str, arguments), *ARGUMENTS])


def test_the_command_writes_the_set_and_prints_a_summary(train: Path, capsys: pytest.CaptureFixture) -> None:
    output = train.parent / "out.parquet"
    assert run_main("--input", train, "--output", output) == 0
    rows = list(read_rows(output))
    out, _ = capsys.readouterr()
    assert "rows in:             3; 0 bad rows skipped" in out
    assert "duplicate originals: 1 dropped; 1 had another label" in out
    assert f"rows out:            {len(rows)} = 2 originals + {len(rows) - 2} variants" in out
    assert "tagger:              textblob lexicon" in out
    assert "rules fired:         mask in" in out


def test_the_options_reach_the_method(train: Path) -> None:
    output = train.parent / "out.jsonl"
    options = ["--p-mask", "1", "--p-pos", "0", "--p-ngram", "1", "--max-ngram", "1", "--seed", "4"]
    assert run_main("--input", train, "--output", output, *options) == 0
    assert {row["sentence"] for row in read_rows(output) if row["rules"]} == {"[MASK]"}


def test_unlabelled_texts_come_in(train: Path, capsys: pytest.CaptureFixture) -> None:
    (train.parent / "more.txt").write_text("more of it\n")
    more = ["--include-unlabelled", train.parent / "more.txt", "--unlabelled-n-iter", "0"]
    assert run_main("--input", train, "--output", train.parent / "out.csv", *more) == 0
    assert [row["id"] for row in read_rows(train.parent / "out.csv")][-1] == "unlabelled-1"
    assert "rows in:             4 (1 unlabelled)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text-column", "text"], "has no column 'text'; its columns are sentence, label"),
        (["--p-mask", "nan"], "p_mask is nan; a probability lies between 0 and 1"),
        (["--p-mask", "0.7", "--p-pos", "0.7"], "p_mask + p_pos is 0.7 + 0.7"),
        (["--max-ngram", "0"], "max_ngram is 0"),
        (["--unlabelled-n-iter", "-2"], "given without --include-unlabelled"),
        (["--num-workers", "0"], "num_workers is 0"),
        (["--include-unlabelled", "nowhere.txt"], "nowhere.txt does not exist"),
        (["--label-column", "gold"], "has no column 'gold'"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(
    train: Path, capsys: pytest.CaptureFixture, options: list[str], message: str
) -> None:
    assert run_main("--input", train, "--output", train.parent / "out.tsv", *options) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]
    assert os.listdir(train.parent) == ["train.tsv"]


def test_a_bad_row_is_named_or_skipped(train: Path, capsys: pytest.CaptureFixture) -> None:
    with open(train, "a") as file:
        file.write(" \t1\n")
    output = train.parent / "out.tsv"
    assert run_main("--input", train, "--output", output) == 2
    assert "row 4 (line 5): column 'sentence' is empty" in capsys.readouterr().err
    assert not output.exists()
    assert run_main("--input", train, "--output", output, "--skip-bad-rows") == 0
    assert "1 bad rows skipped" in capsys.readouterr().out


def test_an_existing_output_needs_overwrite(train: Path, capsys: pytest.CaptureFixture) -> None:
    output = train.parent / "out.tsv"
    output.write_text("old")
    assert run_main("--input", train, "--output", output) == 2
    assert "already exists" in capsys.readouterr().err and output.read_text() == "old"
    assert run_main("--input", train, "--output", output, "--overwrite") == 0
    assert output.read_text() != "old"


@pytest.mark.parametrize("option", [["--n-iter", "x"], ["--pos-tagger", "spacy"], ["--nonsense"]])
def test_options_the_parser_refuses_are_one_line_too(
    train: Path, capsys: pytest.CaptureFixture, option: list[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--input", str(train), "--output", "out.tsv", *option])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


def test_module_and_help_work_without_heavy_imports() -> None:
    code = (
        "import sys, data_augment\n"
        "from data_augment.cli import build_parser\n"
        "text = build_parser().format_help()\n"
        "assert 'Tang et al. 2019' in text and 'examples:' in text\n"
        "print(sorted({'torch', 'numpy', 'pyarrow', 'nltk', 'datasets'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
    result = subprocess.run([sys.executable, "-m", "data_augment", "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.startswith("usage: data-augment")


def test_the_package_imports_neither_torch_nor_nlp_distill() -> None:
    code = (
        "import sys, importlib, pkgutil, data_augment\n"
        "for module in pkgutil.iter_modules(data_augment.__path__):\n"
        "    if module.name != '__main__': importlib.import_module('data_augment.' + module.name)\n"
        "assert all(hasattr(data_augment, name) for name in data_augment.__all__)\n"
        "print(sorted({'torch', 'nlp_distill', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_file_behind(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "in.txt.tsv").write_text("sentence\n" + "".join(f"word{i} and more\n" for i in range(20_000)))
    command = [
        sys.executable,
        "-m",
        "data_augment",
        "--input",
        str(tmp_path / "in.txt.tsv"),
        "--n-iter",
        "500",
    ]
    command += ["--output", str(tmp_path / "out.jsonl"), "--pos-tagger", "textblob"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell starts background jobs with SIGINT ignored, and so would be started what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    # The temporary file appears when the first pass is over and writing begins.
    deadline = time.monotonic() + 60
    while len(os.listdir(tmp_path)) == 1 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], error
    assert b"Traceback" not in error
    assert os.listdir(tmp_path) == ["in.txt.tsv"]


def test_memory_that_runs_out_is_one_line(tmp_path: Path, capsys, monkeypatch) -> None:
    def fail(*arguments, **named):
        raise MemoryError

    source = tmp_path / "in.tsv"
    source.write_text("sentence\na good film\n")
    monkeypatch.setattr("data_augment.blocks.BlockVarier.vary", fail)
    given = ["--input", source, "--output", tmp_path / "out.tsv", "--pos-tagger", "textblob"]
    assert main([str(argument) for argument in given]) == 2
    captured = capsys.readouterr().err
    assert captured.strip().splitlines()[-1] == (
        "error: there is no memory for this; no output was written. Run it again, with more memory"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in.tsv"]
