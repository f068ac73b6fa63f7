"""What an answer costs: latency, throughput, size, memory and load time, for saved and exported models side by side.

Times run from text to probabilities, tokenisation included. The models take turns of a few answers in one process, so
that their ratios hold on a machine that is busy with other things too.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data_augment.errors import InputError
from nlp_distill import runtime
from nlp_distill.evaluation import describe_size
from nlp_distill.models import read_tasks
from nlp_distill.subjects import (
    LARGEST_BATCH,
    Subject,
    Text,
    TorchSubject,
    is_exported,
    make_text,
    open_subject,
)

BATCHES = (1, 8, 32, LARGEST_BATCH)
WARM_UP = 5
CPUINFO = Path("/proc/cpuinfo")  # of Linux
TURN = 10


def measure_latency(
    subjects: Sequence[Subject], texts: Sequence[Text], threads: int, repeats: int
) -> list[dict[str, float]]:
    """How long one text at a time takes each model: ``{"p50_ms", "p95_ms", "first_ms"}``.

    The models take turns of ``TURN`` answers, so that a machine that is busy for a while slows all alike. Before each
    turn stands an answer that p50 and p95 leave out, because the models before have filled the processor's caches with
    their own weights; a service that holds one model does not see that. ``first_ms`` is the median of those answers.

    Args:
        subjects: the models.
        texts: given one after the other, again and again, to each model alike.
        threads: of each model.
        repeats: counted answers of each; some more warm up.

    Raises:
        TypeError: for one text that is in no list.
    """
    if isinstance(texts, str):
        raise TypeError("give a list of texts, not one string")
    for subject in subjects:
        subject.set_threads(threads)
        for _ in range(WARM_UP):
            subject.answer(texts[:1])
    times: list[list[float]] = [[] for _ in subjects]
    firsts: list[list[float]] = [[] for _ in subjects]
    for start in range(0, repeats, TURN):
        turn = [texts[number % len(texts)] for number in range(start, min(start + TURN, repeats))]
        for subject, seen, first in zip(subjects, times, firsts, strict=True):
            if isinstance(subject, TorchSubject):
                subject.set_threads(threads)  # torch has one number for all models
            first.append(_time_answer(subject, turn[-1]))
            seen.extend(_time_answer(subject, text) for text in turn)
    return [
        {
            "p50_ms": float(np.percentile(seen, 50)),
            "p95_ms": float(np.percentile(seen, 95)),
            "first_ms": float(np.percentile(first, 50)),
        }
        for seen, first in zip(times, firsts, strict=True)
    ]


def _time_answer(subject: Subject, text: Text) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    subject.answer([text])
    return 1000 * (time.perf_counter() - started)


def measure_throughput(subject: Subject, text: Text, threads: int, seconds: float) -> dict[str, float]:
    """Texts a second at the best of ``BATCHES``: ``{"texts_per_s", "batch"}``."""
    subject.set_threads(threads)
    best = {"texts_per_s": 0.0, "batch": 0}
    for batch in BATCHES:
        texts, done = [text] * batch, 0
        subject.answer(texts)
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            subject.answer(texts)
            done += batch
        rate = done / (time.perf_counter() - started)
        if rate > best["texts_per_s"]:
            best = {"texts_per_s": rate, "batch": batch}
    return best


UNSTEADY = 3.0  # p95 over median, beyond which ratios of medians say little


def measure_alone(folder: str, text: Text, task: str | None = None) -> dict[str, float]:
    """Load time and peak memory in a process of its own: ``{"load_s", "peak_mb"}``.

    Load time runs from the first import to the first answer, as a service that starts has to wait. An exported model
    is loaded by our own runtime, which imports no torch, and never by a program that lies beside it.
    """
    saved = LOAD_TASK if task and not is_exported(folder) and read_tasks(folder) else LOAD_SAVED
    load = LOAD_EXPORTED if is_exported(folder) else saved
    program = MEASURED.format(load=load)
    command = [sys.executable, "-c", program, folder, json.dumps(text), task or "", str(runtime.__file__)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "it was killed").splitlines()[-1]
        raise InputError(f"{folder} could not be measured alone: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


MEASURED = """
import json, resource, sys, time
started = time.perf_counter()
folder, text = sys.argv[1], json.loads(sys.argv[2])
{load}
seconds = time.perf_counter() - started
try:  # the kernel's own maximum begins with what the parent had
    status = open("/proc/self/status").read()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
except (OSError, IndexError):
    unit = 1024**2 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
print(json.dumps(dict(load_s=seconds, peak_mb=peak)))
"""
LOAD_EXPORTED = """
import importlib.util
found = importlib.util.spec_from_file_location("runtime", sys.argv[4])
module = importlib.util.module_from_spec(found)
found.loader.exec_module(module)
module.Classifier(folder)([text])
"""
ANSWER = """
encoded = tokenizer(*([text] if isinstance(text, str) else text), return_tensors="pt")
with torch.inference_mode():
    model.eval()(**{name: encoded[name] for name in tokenizer.model_input_names if name in encoded})
"""
LOAD_SAVED = f"""
import torch
import nlp_distill.students
from transformers import AutoModelForSequenceClassification, AutoTokenizer
kinds = (AutoModelForSequenceClassification, AutoTokenizer)
model, tokenizer = (kind.from_pretrained(folder, trust_remote_code=False) for kind in kinds)
{ANSWER}"""
LOAD_TASK = f"""
import torch
import nlp_distill.students
from transformers import AutoModel, AutoTokenizer
kinds = (AutoModel, AutoTokenizer)
model, tokenizer = (kind.from_pretrained(folder, trust_remote_code=False) for kind in kinds)
model = model.for_task(sys.argv[3])
{ANSWER}"""


def describe_processor() -> list[Any]:
    """What times depend on of the machine: the kind of processor, its cores, and where Linux says so what it can do."""
    lines = CPUINFO.read_text(errors="replace").splitlines() if CPUINFO.is_file() else []
    told = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]
    return [platform.machine(), platform.processor(), os.cpu_count(), digest]


def has_int8_instructions() -> bool | None:
    """Whether the processor multiplies int8 (VNNI, or ARM's dot products); ``None`` where Linux does not say."""
    words = set(CPUINFO.read_text(errors="replace").split()) if CPUINFO.is_file() else set()
    return bool(words & {"avx512_vnni", "avx_vnni", "asimddp"}) if words else None


def measure_size(folder: str) -> float:
    """Megabytes of a model's weights on disk, of an ONNX model in two files (more than 2 GiB) those of both."""
    path = Path(folder)
    pattern = f"{runtime.MODEL}*" if (path / runtime.MODEL).exists() else "*.safetensors"
    return sum(file.stat().st_size for file in path.glob(pattern)) / 1e6


def find_size(subject: Subject) -> float:
    """Megabytes of a model's files, or in memory where they lie elsewhere (a hub name) or are in an old format."""
    if isinstance(subject, TorchSubject):
        return describe_size(subject.model, subject.name)["bytes"] / 1e6
    return measure_size(subject.name)


def benchmark(
    folders: Sequence[str],
    lengths: Sequence[int],
    threads: Sequence[int],
    repeats: int = 100,
    seconds: float = 0.5,
    is_pair: bool = False,
    task: str | None = None,
) -> dict[str, Any]:
    """Measure models side by side.

    Args:
        folders: saved or exported models; ratios are to the first.
        lengths: tokens of the texts, as the first model's tokenizer counts them.
        threads: numbers of threads.
        repeats: counted answers for each latency.
        seconds: for each batch size of the throughput; 0 leaves it out.
        is_pair: give pairs of texts, which share the tokens.
        task: of the multi-task models among them; size and load time are of the whole folder.

    Returns:
        ``{"models": [{"name", "kind", "mb", "load_s", "peak_mb", "latency": [...], "throughput": [...]}], ...}``.
    """
    subjects = [open_subject(folder, max(lengths), task) for folder in folders]
    models: list[dict[str, Any]] = [
        {
            "name": subject.name,
            "kind": subject.kind,
            "mb": find_size(subject),
            **measure_alone(subject.name, make_text(subjects, lengths[0], is_pair), task),
            "latency": [],
            "throughput": [],
        }
        for subject in subjects
    ]
    before = torch.get_num_threads()
    cases = [(count, length) for count in threads for length in lengths]
    with tqdm(cases, desc="measuring", unit=" cases") as progress:
        for count, length in progress:
            text = make_text(subjects, length, is_pair)
            for model, found in zip(models, measure_latency(subjects, [text], count, repeats), strict=True):
                model["latency"].append({"threads": count, "tokens": length, **found})
            for model, subject in zip(models, subjects, strict=True):
                if seconds:
                    found = measure_throughput(subject, text, count, seconds)
                    model["throughput"].append({"threads": count, "tokens": length, **found})
    torch.set_num_threads(before)
    return {"models": models, "lengths": list(lengths), "threads": list(threads), "repeats": repeats}


def render_benchmark(results: dict[str, Any]) -> str:
    """One table for every number of threads and length."""
    tables = []
    first = results["models"][0]
    for index, case in enumerate(first["latency"]):
        lines = [
            f"{case['tokens']} tokens, {case['threads']} thread(s):",
            "",
            "| model | runs in | p50 ms | p95 ms | faster | texts/s (batch) | MB | load s | peak MB |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for model in results["models"]:
            own = model["latency"][index]
            rate = ""
            if model["throughput"]:
                found = model["throughput"][index]
                rate = f"{found['texts_per_s']:,.0f} ({found['batch']})"
            lines.append(
                f"| {model['name']} | {model['kind']} | {own['p50_ms']:.2f} | {own['p95_ms']:.2f} | "
                f"{case['p50_ms'] / own['p50_ms']:.1f}× | {rate} | {model['mb']:.1f} | {model['load_s']:.2f} | "
                f"{model['peak_mb']:.0f} |"
            )
        tables.append("\n".join(lines))
    spread = max(case["p95_ms"] / case["p50_ms"] for model in results["models"] for case in model["latency"])
    if spread > UNSTEADY:
        tables.append(
            f"These times are unsteady: a p95 is {spread:.1f} times its median. Measure again while nothing else runs."
        )
    return "\n\n".join(tables)
