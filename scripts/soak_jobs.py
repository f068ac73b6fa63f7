"""What ``soak.py`` interrupts: small jobs of every kind, and their inputs."""

import csv
import importlib.util
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiny_models import make_bert, make_tagger, make_tokenizer

import data_augment.cli
import nlp_distill.cli

WORDS = ["film", "movie", "plot", "story", "it", "was", "a", "the", "and", "but", "with", "very", "not"]
DECIDING = {"positive": ["good", "great", "fine"], "negative": ["bad", "dull", "never"]}
TAGS = ("O", "B-NAME", "I-NAME")
SHORT = ["--max-length", "32", "--learning-rate", "1e-2", "--per-device-train-batch-size", "8"]
AUGMENT = ["--text-column", "text", "--n-iter", "3", "--pos-tagger", "textblob", "--num-workers", "2"]


@dataclass(frozen=True)
class Job:
    """A command, run in a folder of its own, where it makes ``out``.

    Args:
        name: for people.
        run: the command line's ``main``.
        arguments: of the command; the inputs are beside the job's folder.
    """

    name: str
    run: Callable[[Sequence[str]], int]
    arguments: tuple[str, ...]


def make_inputs(folder: Path) -> None:
    """A tiny encoder, rows in a file, a GLUE folder of two tasks, and plain text."""
    folder.mkdir(parents=True)
    words = [*WORDS, *sum(DECIDING.values(), [])]
    tokenizer = make_tokenizer(words)
    tokenizer.save_pretrained(folder / "encoder")
    make_bert(tokenizer, layers=2).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "tagger")
    make_tagger(tokenizer, layers=2, labels=TAGS).save_pretrained(folder / "tagger")
    source = random.Random(0)
    for split, size in {"train": 48, "validation": 12, "test": 12, "more": 30}.items():
        with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(make_row(source, number) for number in range(size))
        (folder / f"{split}.conll").write_text("\n".join(make_sentence(source) for _ in range(size)))
    (folder / "text.txt").write_text("\n".join(make_row(source, number)[0] for number in range(60)) + "\n")
    vectors = (f"{word} {source.gauss(0, 1):.3f} {source.gauss(0, 1):.3f}" for word in words)
    (folder / "glove.txt").write_text("\n".join(vectors) + "\n")
    for task, header in {"CoLA": "", "RTE": "index\tsentence1\tsentence2\tlabel\n"}.items():
        (folder / "glue" / task).mkdir(parents=True)
        for split, size in {"train": 24, "dev": 8}.items():
            rows = (make_glue_row(task, source, number) for number in range(size))
            (folder / "glue" / task / f"{split}.tsv").write_text(header + "\n".join(rows) + "\n")


def make_row(source: random.Random, number: int) -> tuple[str, str]:
    """A text of its own and its label."""
    label = ("negative", "positive")[number % 2]
    words = [
        *source.choices(WORDS, k=source.randint(3, 8)),
        source.choice(DECIDING[label]),
        str(source.randint(0, 10**6)),
    ]
    return " ".join(words), label


def make_sentence(source: random.Random) -> str:
    """Lines of a word and its tag; deciding words are the names."""
    words = source.choices([*WORDS, *sum(DECIDING.values(), [])], k=source.randint(3, 8))
    return "".join(
        f"{word}\t{TAGS[0] if word in WORDS else TAGS[1]}\n" for word in [*words, str(source.random())]
    )


def make_glue_row(task: str, source: random.Random, number: int) -> str:
    text, _ = make_row(source, number)
    if task == "CoLA":
        return f"x\t{number % 2}\t\t{text}"
    return f"{number}\t{text}\t{make_row(source, number)[0]}\t{('entailment', 'not_entailment')[number % 2]}"


def list_jobs() -> list[Job]:
    """Every kind of work that leaves files behind, run beside the folder ``inputs``."""
    data = name_splits("../inputs/")
    short = SHORT
    epochs = ["--num-train-epochs", "3"]
    given = [*data, "--teacher", "../inputs/teacher", "--output", "out"]
    small = ["--layers", "1", "--hidden-size", "8", "--heads", "2", "--ffn-size", "12"]
    augment = AUGMENT
    tiny_bilstm = ["--hidden-size", "6", "--head-size", "5", "--embedding-size", "8", "--n-iter", "2"]
    suite = ["--tasks", "cola", "rte", "--data-dir", "../inputs/glue", "--encoder", "../inputs/encoder"]
    suite += ["--output", "out", *short]
    tagged = [f"--{split}-file=../inputs/{split}.conll" for split in ("train", "validation", "test")]
    cli, augmenter = nlp_distill.cli.main, data_augment.cli.main
    jobs = [
        Job("finetune", cli, ("finetune", "--model", "../inputs/encoder", "--output", "out", *data, *short, *epochs)),
        Job("augment", augmenter, ("--input", "../inputs/train.csv", "--output", "out/transfer.parquet", *augment)),
        Job(
            "label", cli,
            ("label", "--teacher", "../inputs/teacher", "--input", "../inputs/transfer.parquet",
             "--text-column", "text", "--max-length", "32", "--output", "out/labelled.parquet"),
        ),
        Job(
            "bilstm", cli,
            ("distill", "bilstm", *given, *tiny_bilstm, "--pos-tagger", "textblob", *short, *epochs,
             "--unlabelled-file", "../inputs/more.csv"),
        ),
        Job(
            "cnn", cli,
            ("distill", "cnn", *given, "--filters", "6", "--embedding-size", "8", "--n-iter", "2",
             "--pos-tagger", "textblob", *short, *epochs),
        ),
        Job(
            "tagger", cli,
            ("distill", "tagger", *tagged, "--teacher", "../inputs/tagger", "--output", "out", "--layers", "1", *short,
             *epochs),
        ),
        Job(
            "general", cli,
            ("distill", "general", "--teacher", "../inputs/encoder", "--text", "../inputs/text.txt", "--output", "out",
             *small, *short, "--num-train-epochs", "2", "--gradient-accumulation-steps", "1"),
        ),
        Job(
            "tinybert", cli,
            ("distill", "tinybert", *given, *small, *short, *epochs, "--intermediate-epochs", "2", "--n-iter", "2",
             "--glove-file", "../inputs/glove.txt"),
        ),
        Job("mt-dnn", cli, ("distill", "mt-dnn", *suite, "--num-train-epochs", "2", "--num-teachers", "2")),
        Job("bam", cli, ("distill", "bam", *suite, "--num-train-epochs", "2", "--single-epochs", "1")),
        Job("export", cli, ("export", "../inputs/teacher", "--output", "out", "--quantize", "int8-dynamic")),
    ]  # fmt: skip
    if importlib.util.find_spec("spacy"):
        options = ("--n-iter", "2", "--pos-tagger", "textblob", "--epochs", "2", "--batch-size", "8")
        jobs.append(Job("spacy", cli, ("distill", "spacy", *given, *options, "--max-length", "32")))
    return jobs


def list_preparations() -> list[Job]:
    """What makes the teacher and the transfer set that the jobs need, run inside the folder ``inputs``."""
    teacher = ("finetune", "--model", "encoder", "--output", "teacher", *name_splits(""), *SHORT)
    transfer = ("--input", "train.csv", "--output", "transfer.parquet", *AUGMENT)
    return [
        Job("teacher", nlp_distill.cli.main, teacher),
        Job("transfer", data_augment.cli.main, transfer),
    ]


def name_splits(folder: str) -> list[str]:
    """The options that name the task's files."""
    options = ["--task", "mine", "--text-column", "text", "--label-column", "label"]
    for split in ("train", "validation", "test"):
        options += [f"--{split}-file", f"{folder}{split}.csv"]
    return options
