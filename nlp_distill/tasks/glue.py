"""The GLUE table: columns, labels in their official order, metrics, and where the rows of each task are.

Wang et al. 2018, "GLUE: A Multi-Task Benchmark and Analysis Platform" (arXiv 1804.07461). Label order and
text column names are those of the hub data set ``nyu-mll/glue``; file and column names of the folder are
those of the archives that ``download_glue_data.py`` fetches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from data_augment.errors import InputError
from nlp_distill.tasks.task import Task

HUB_DATASET = "nyu-mll/glue"


@dataclass(frozen=True)
class GlueTask:
    """One GLUE task: what it is, and where its rows are.

    Args:
        task: columns, labels and metrics.
        folder: directory of the task inside a classic GLUE folder.
        columns: the folder's columns that hold the task's texts, in the order of ``task.text_columns``.
        label_column: the folder's label column.
        spelling: how the folder spells each label, in index order (``()`` for a regression).
        header: the columns of a file without a header line; ``None`` where the file names its columns.
        dev_file: file of the official development set, which is the reported split.
        hub_config: configuration of ``nyu-mll/glue``.
        hub_dev_split: split of the hub that is the reported one.
        extra_tests: names of further GLUE tasks whose reported rows are loaded along where they are present.
        subset: size of the task's own fixed subset of train; ``None`` for all of it.
        official_rows: rows of the official train and reported splits: fewer are called a sample.
    """

    task: Task
    folder: str
    columns: tuple[str, ...]
    label_column: str
    spelling: tuple[str, ...]
    hub_config: str
    header: tuple[str, ...] | None = None
    dev_file: str = "dev.tsv"
    hub_dev_split: str = "validation"
    extra_tests: tuple[str, ...] = field(default=())
    subset: int | None = None
    official_rows: tuple[int, int] = (0, 0)


_ACCURACY = ("accuracy",)
_ACCURACY_F1 = ("accuracy", "f1")
_ENTAILMENT = ("entailment", "not_entailment")
_MNLI_LABELS = ("entailment", "neutral", "contradiction")
_SENTENCES = ("sentence1", "sentence2")

_COLA = GlueTask(
    Task("cola", "sentence", None, ("unacceptable", "acceptable"), ("matthews_correlation", "accuracy")),
    folder="CoLA",
    columns=("sentence",),
    label_column="label",
    spelling=("0", "1"),
    hub_config="cola",
    official_rows=(8_551, 1_043),
    header=("source", "label", "mark", "sentence"),
)
_SST2 = GlueTask(
    Task("sst2", "sentence", None, ("negative", "positive"), _ACCURACY),
    folder="SST-2",
    columns=("sentence",),
    label_column="label",
    spelling=("0", "1"),
    hub_config="sst2",
    official_rows=(67_349, 872),
)
# A fixed subset for ablations and many seeds: the 10,000 train rows with the smallest hash of their
# normalised text.
_SST2_10K = replace(_SST2, task=replace(_SST2.task, name="sst2_10k"), subset=10_000)
_MRPC = GlueTask(
    Task("mrpc", *_SENTENCES, ("not_equivalent", "equivalent"), _ACCURACY_F1),
    folder="MRPC",
    columns=("#1 String", "#2 String"),
    label_column="Quality",
    spelling=("0", "1"),
    hub_config="mrpc",
    official_rows=(3_668, 408),
)
_QQP = GlueTask(
    Task("qqp", "question1", "question2", ("not_duplicate", "duplicate"), _ACCURACY_F1),
    folder="QQP",
    columns=("question1", "question2"),
    label_column="is_duplicate",
    spelling=("0", "1"),
    hub_config="qqp",
    official_rows=(363_846, 40_430),
)
_STSB = GlueTask(
    Task("stsb", *_SENTENCES, (), ("spearmanr", "pearson")),
    folder="STS-B",
    columns=_SENTENCES,
    label_column="score",
    spelling=(),
    hub_config="stsb",
    official_rows=(5_749, 1_500),
)
_MNLI = GlueTask(
    Task("mnli", "premise", "hypothesis", _MNLI_LABELS, _ACCURACY),
    folder="MNLI",
    columns=_SENTENCES,
    label_column="gold_label",
    spelling=_MNLI_LABELS,
    hub_config="mnli",
    official_rows=(392_702, 9_815),
    dev_file="dev_matched.tsv",
    hub_dev_split="validation_matched",
    extra_tests=("mnli_mm", "ax"),
)
_MNLI_MM = replace(
    _MNLI,
    task=replace(_MNLI.task, name="mnli_mm"),
    dev_file="dev_mismatched.tsv",
    hub_dev_split="validation_mismatched",
    official_rows=(392_702, 9_832),
    extra_tests=(),
)
# The diagnostic set has no training rows: its model is MNLI's. GLUE scores it by Matthews correlation, kept
# second here so that every classification task but CoLA has accuracy as its score. The hub's copy has no
# labels.
_AX = replace(
    _MNLI,
    task=replace(_MNLI.task, name="ax", metrics=("accuracy", "matthews_correlation")),
    dev_file="../diagnostic/diagnostic-full.tsv",
    columns=("Premise", "Hypothesis"),
    label_column="Label",
    official_rows=(392_702, 1_104),
    extra_tests=(),
)
_QNLI = GlueTask(
    Task("qnli", "question", "sentence", _ENTAILMENT, _ACCURACY),
    folder="QNLI",
    columns=("question", "sentence"),
    label_column="label",
    spelling=_ENTAILMENT,
    hub_config="qnli",
    official_rows=(104_743, 5_463),
)
_RTE = GlueTask(
    Task("rte", *_SENTENCES, _ENTAILMENT, _ACCURACY),
    folder="RTE",
    columns=_SENTENCES,
    label_column="label",
    spelling=_ENTAILMENT,
    hub_config="rte",
    official_rows=(2_490, 277),
)
_WNLI = GlueTask(
    Task("wnli", *_SENTENCES, ("not_entailment", "entailment"), _ACCURACY),
    folder="WNLI",
    columns=_SENTENCES,
    label_column="label",
    spelling=("0", "1"),
    hub_config="wnli",
    official_rows=(635, 71),
)

GLUE: Mapping[str, GlueTask] = MappingProxyType(
    {
        entry.task.name: entry
        for entry in (
            _COLA, _SST2, _SST2_10K, _MRPC, _QQP, _STSB, _MNLI, _MNLI_MM, _QNLI, _RTE, _WNLI, _AX,
        )
    }
)  # fmt: skip


def glue_task(name: str) -> GlueTask:
    """Return the entry of the GLUE table called ``name``.

    Raises:
        InputError: if there is no such task; the message lists the names.
    """
    if name not in GLUE:
        raise InputError(f"unknown GLUE task {name!r}; the tasks are {', '.join(GLUE)}")
    return GLUE[name]
