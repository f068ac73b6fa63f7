"""How fast teachers label, beside what the machine can do: rows a second and the share of its matrix-multiply rate.

    python scripts/benchmark_labelling.py
    python scripts/benchmark_labelling.py --model runs/teacher --task sst2 --data-dir GLUE --rows 6000 --json out.json

Three ways to the same logits, from text (tokenisation included, reading and writing files left out):

* ``sorted by length``: :mod:`nlp_distill.labelling`, batches of rows of similar length, 1,024 tokens each;
* ``pipeline``: ``transformers.pipeline("text-classification", batch_size=32)``, rows in the order they come;
* ``fixed length``: the same batches of 32, every row padded to the maximum length.

They run in rounds, and the matrix product (2048 x 2048 x 2048, fp32, all threads; the best of all) is timed before and
after every one of them, so that a machine that is busy for a while slows all alike. Each way gets rows of its own from
one shuffled order; the slow ones get fewer.

Only work on real tokens counts. A row of s tokens costs, in floating-point operations (a multiplication and an
addition are two),

    2 * s * (weights of the encoder's linear layers) + layers * 4 * s^2 * hidden + 2 * (weights of pooler and head)

where 4 * s^2 * hidden are the two products of attention, Q K^T and P V, with 2 * s^2 * hidden each. The share of the
matrix-multiply rate is these operations a second over the rate measured; softmax, layer norm and GELU count nothing.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, logging, pipeline

from data_augment.errors import InputError
from nlp_distill.batching import DistillationCollator
from nlp_distill.encoding import encode_rows
from nlp_distill.labelling import compute_logits
from nlp_distill.models import load_pretrained
from nlp_distill.stages import write_json
from nlp_distill.tasks import load_task, packaged_teacher_path
from nlp_distill.teachers import Teacher

BATCH_ROWS = 32
HEADS = ("pooler", "classifier", "pre_classifier")  # linear layers that see one token a row
# Share of the rows that each way gets: about the time it takes, so that none dominates the run.
ROW_SHARES = {"sorted by length": 1.0, "pipeline": 0.2, "fixed length": 0.06}


@dataclass
class Measurement:
    """Totals of one way to label: rows, seconds, operations on real tokens, tokens with and without padding."""

    rows: int = 0
    seconds: float = 0.0
    operations: float = 0.0
    tokens: int = 0
    padded_tokens: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit code (2 for wrong input)."""
    options = build_parser().parse_args(arguments)
    logging.set_verbosity_error()  # the random head of the packaged model is meant
    try:
        model, tokenizer, rows, columns = load_inputs(options)
        report = run_benchmark(model, tokenizer, rows, columns, options.max_length, options.rounds)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = {"model": options.model, "task": options.task, **report}
    print(render(report))
    if options.json:
        write_json(Path(options.json), report)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--model", default="packaged", help="'packaged' (with a random head) or a saved model's folder"
    )
    parser.add_argument(
        "--task", default="tweets", help="tweets, or a GLUE name with --data-dir (default: %(default)s)"
    )
    parser.add_argument("--data-dir", metavar="DIR", help="a GLUE folder")
    parser.add_argument(
        "--rows", type=int, default=6000, metavar="N", help="rows to label (default: %(default)s)"
    )
    parser.add_argument("--max-length", type=int, default=128, help="tokens a row (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=2, help="rounds to spread them over (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    return parser


def load_inputs(options: argparse.Namespace) -> tuple[Any, Any, list[dict[str, Any]], tuple[str, ...]]:
    """Model, tokenizer, shuffled rows and their text columns.

    Raises:
        InputError: for a model, task or number that cannot be had.
    """
    if options.rows < options.rounds or options.rounds < 1:
        raise InputError(
            f"--rows is {options.rows} and --rounds {options.rounds}; give at least one row a round"
        )
    data = load_task(options.task, data_dir=options.data_dir)
    pool = data.unlabelled if data.unlabelled is not None else data.train
    order = random.Random(0).sample(range(len(pool)), min(options.rows, len(pool)))
    columns = data.task.text_columns
    rows = pool.select_columns(list(columns)).select(order).to_list()
    name = packaged_teacher_path() if options.model == "packaged" else options.model
    torch.manual_seed(0)  # of the random head
    model = load_pretrained(
        AutoModelForSequenceClassification,
        name,
        **({"num_labels": data.task.num_labels} if options.model == "packaged" else {}),
    )
    return model, load_pretrained(AutoTokenizer, name), rows, columns


def run_benchmark(
    model, tokenizer, rows: list[dict[str, Any]], columns: tuple[str, ...], max_length: int, rounds: int
) -> dict[str, Any]:
    """Measure every way, round by round, between matrix products.

    Returns:
        ``{"threads", "matmul_gflops", "rows", "max_length", "ways": {name: {"rows", "rows_per_second", "gflops",
        "matmul_share", "padding_share", "slower_than_sorted"}}}``.
    """
    ways: dict[str, Callable[[list[dict[str, Any]]], int]] = {
        "sorted by length": lambda some: label_sorted(model, tokenizer, some, columns, max_length),
        "pipeline": lambda some: label_by_pipeline(model, tokenizer, some, columns, max_length),
        "fixed length": lambda some: label_fixed(model, tokenizer, some, columns, max_length),
    }
    totals = {name: Measurement() for name in ways}
    model.eval()
    for way in ways.values():
        way(rows[:BATCH_ROWS])  # warms up caches and threads
    best = measure_matmul()
    for part in range(rounds):
        for name, way in ways.items():
            some = rows[part::rounds]
            some = some[: max(1, round(len(some) * ROW_SHARES[name]))]
            lengths = encode_rows(some, tokenizer, columns, max_length).lengths
            started = time.perf_counter()
            padded = way(some)
            total = totals[name]
            total.seconds += time.perf_counter() - started
            total.rows += len(some)
            total.operations += count_operations(model, lengths)
            total.tokens += int(lengths.sum())
            total.padded_tokens += padded
            best = max(best, measure_matmul())
    return {
        "threads": torch.get_num_threads(),
        "matmul_gflops": best,
        "rows": len(rows),
        "max_length": max_length,
        "ways": describe(totals, best),
    }


def describe(totals: Mapping[str, Measurement], matmul_gflops: float) -> dict[str, dict[str, float]]:
    """Rates, shares and ratios of each way; the first is what the others are compared with."""
    rates = {name: total.rows / total.seconds for name, total in totals.items()}
    first = next(iter(rates.values()))
    described = {}
    for name, total in totals.items():
        gflops = total.operations / total.seconds / 1e9
        described[name] = asdict(total) | {
            "rows_per_second": rates[name],
            "gflops": gflops,
            "matmul_share": gflops / matmul_gflops,
            "padding_share": 1 - total.tokens / total.padded_tokens,
            "slower_than_sorted": first / rates[name],
        }
    return described


def measure_matmul(size: int = 2048, repeats: int = 3) -> float:
    """Best rate of an fp32 matrix product of ``size`` cubed, all threads, in GFLOP/s."""
    left, right = torch.ones(size, size), torch.ones(size, size)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e9


def count_operations(model, lengths: np.ndarray) -> float:
    """Floating-point operations of a forward pass over rows of these many real tokens; see the formula above.

    Args:
        model: an encoder with a classification head; ``hidden_size`` and ``num_hidden_layers`` come from its config.
        lengths: (rows,) tokens of every row, special tokens included.
    """
    per_token = per_row = 0
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            if any(part in HEADS for part in name.split(".")):
                per_row += module.weight.numel()
            else:
                per_token += module.weight.numel()
    tokens = lengths.astype(np.float64)
    attention = model.config.num_hidden_layers * 4 * np.square(tokens).sum() * model.config.hidden_size
    return float(2 * per_token * tokens.sum() + attention + 2 * per_row * len(tokens))


def label_sorted(
    model, tokenizer, rows: list[dict[str, Any]], columns: tuple[str, ...], max_length: int
) -> int:
    """Label as this package does; returns the tokens computed, padding included."""
    encoded = encode_rows(rows, tokenizer, columns, max_length)
    return compute_logits(Teacher(model), encoded, DistillationCollator(tokenizer))[1]


def label_by_pipeline(
    model, tokenizer, rows: list[dict[str, Any]], columns: tuple[str, ...], max_length: int
) -> int:
    """Label with transformers' pipeline; returns the tokens computed, padding included."""
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    inputs: list[Any] = [
        dict(zip(("text", "text_pair"), map(row.get, columns), strict=False)) for row in rows
    ]
    counted = 0

    def count(module, arguments, keywords):
        nonlocal counted
        counted += keywords["input_ids"].numel()

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        classify(inputs, batch_size=BATCH_ROWS, top_k=None, truncation=True, max_length=max_length)
    finally:
        hook.remove()
    return counted


@torch.no_grad()
def label_fixed(
    model, tokenizer, rows: list[dict[str, Any]], columns: tuple[str, ...], max_length: int
) -> int:
    """Label in batches padded to the maximum length; returns the tokens computed, padding included."""
    computed = 0
    for start in range(0, len(rows), BATCH_ROWS):
        texts = [[row[column] for row in rows[start : start + BATCH_ROWS]] for column in columns]
        batch = tokenizer(
            *texts, truncation=True, padding="max_length", max_length=max_length, return_tensors="pt"
        )
        model(**batch)
        computed += batch["input_ids"].numel()
    return computed


def render(report: Mapping[str, Any]) -> str:
    """The report as a table for people."""
    lines = [
        f"{report['model']} on {report['task']}: {report['rows']:,} rows, at most {report['max_length']} tokens each",
        f"fp32 matrix product 2048^3 on {report['threads']} thread(s): {report['matmul_gflops']:.1f} GFLOP/s",
        "",
        f"{'':18}{'rows/s':>9}{'GFLOP/s':>10}{'of matmul':>11}{'padding':>9}{'slower':>9}",
    ]
    lines += [
        f"{name:18}{way['rows_per_second']:9.1f}{way['gflops']:10.1f}{way['matmul_share']:11.1%}"
        f"{way['padding_share']:9.1%}{way['slower_than_sorted']:8.1f}x"
        for name, way in report["ways"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
