"""Peak memory of ``nlp-distill label`` at 1x and 10x the rows, each in a process of its own.

    python scripts/benchmark_labelling_memory.py
    python scripts/benchmark_labelling_memory.py --model runs/sst2/teacher --rows 4000 --json figures.json

The teacher is a tiny random BERT unless ``--model`` names another: the less the model itself takes, the more a growth
with the rows shows. The texts are those of ``benchmark_augmentation.py``: tweets, and at 10x the same ten times over,
each repetition with a number of its own. Rows are cut to 64 tokens. Peak memory, in MiB, is the largest resident set of
the process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

from benchmark_augmentation import read_tweets
from tiny_models import make_bert, make_tokenizer

from data_augment import InputError, open_writer

RUN = """
import json, resource, sys
from nlp_distill.cli import main
main(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
print(json.dumps({"peak_mib": peak}))
"""


def save_tiny_teacher(folder: Path) -> Path:
    """A random BERT of two layers, with the tokenizer that ``nlp-distill label`` reads beside it."""
    tokenizer = make_tokenizer(["the", "a", "to", "and"])
    tokenizer.save_pretrained(folder)
    make_bert(tokenizer, layers=2).save_pretrained(folder)
    return folder


def write_rows(texts: list[str], times: int, path: Path) -> Path:
    """The texts ``times`` times with their ids, the repetitions each with a number of its own, as tsv."""
    with open_writer(path, ["id", "text"]) as writer:
        for repetition in range(times):
            end = f" {repetition}" if repetition else ""
            writer.write({"id": f"{i}-{repetition}", "text": text + end} for i, text in enumerate(texts))
    return path


def measure(model: Path, source: Path, output: Path) -> dict[str, float]:
    """Label one file in a fresh process: ``{"rows", "peak_mib"}``."""
    command = ["label", "--teacher", str(model), "--input", str(source), "--output", str(output)]
    result = subprocess.run(
        [sys.executable, "-c", RUN, *command, "--text-column", "text", "--max-length", "64"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    if result.returncode or not output.exists():
        raise InputError(f"the run failed: {(result.stderr.strip() or 'it said nothing').splitlines()[-1]}")
    with open(source, encoding="utf-8") as lines:
        rows = sum(1 for _ in lines) - 1
    return {"rows": rows, "peak_mib": json.loads(result.stdout.strip().splitlines()[-1])["peak_mib"]}


def main(arguments: list[str] | None = None) -> int:
    """Print the figures; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", metavar="DIR", help="a teacher (a tiny random BERT)")
    parser.add_argument("--rows", type=int, default=10_000, metavar="N", help="rows at 1x (%(default)s)")
    parser.add_argument(
        "--times", type=int, default=10, metavar="N", help="compare with N times the rows (10)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    try:
        if options.rows < 1 or options.times < 2:
            raise InputError(
                f"--rows is {options.rows} and --times {options.times}; give 1 row and 2 times, or more"
            )
        texts = list(islice(read_tweets(), options.rows))
        with tempfile.TemporaryDirectory() as name:
            model = Path(options.model) if options.model else save_tiny_teacher(Path(name, "teacher"))
            runs = {}
            for times in (1, options.times):
                source = write_rows(texts, times, Path(name, f"rows{times}.tsv"))
                runs[f"{times}x"] = measure(model, source, Path(name, f"labelled{times}.parquet"))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    small, large = runs["1x"], runs[f"{options.times}x"]
    ratio = large["peak_mib"] / small["peak_mib"]
    for label, run in runs.items():
        print(f"{label:>4} {run['rows']:>10,} rows {run['peak_mib']:>8.0f} MiB")
    print(f"memory at {options.times}x the rows: {ratio:.2f} times that at 1x")
    if options.json:
        figures = json.dumps({"runs": runs, "memory_ratio": ratio}, indent=2)
        Path(options.json).write_text(figures + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
