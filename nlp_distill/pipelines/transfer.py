"""The stages that every pipeline with a transfer set shares: build it, and let the teacher label it once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq
from transformers import PreTrainedModel

from data_augment.candidates import CandidateSource
from data_augment.rules import Rule
from data_augment.transfer_set import write_transfer_set
from nlp_distill.hashes import hash_file
from nlp_distill.labelling import label_file, summarise
from nlp_distill.pipelines.scoring import describe_teacher
from nlp_distill.stages import announce, run_stage
from nlp_distill.tasks import TaskData
from nlp_distill.tasks.splits import normalise_text


class TransferSettings(Protocol):
    """How a transfer set is made; each method has its own."""

    @property
    def rules(self) -> list[Rule]: ...
    @property
    def n_iter(self) -> int | None: ...
    @property
    def unlabelled_n_iter(self) -> int | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def num_workers(self) -> int: ...
    @property
    def pos_tagger(self) -> str: ...
    def make_candidates(self) -> CandidateSource | None: ...
    def describe(self) -> dict[str, Any]: ...
    def hash_sources(self) -> dict[str, str]: ...


def transfer_file(output: Path) -> Path:
    """Where the transfer set of a run lies."""
    return output / "transfer_set" / "transfer_set.parquet"


def labelled_file(output: Path) -> Path:
    """Where the labelled transfer set of a run lies."""
    return output / "labels" / "labelled.parquet"


def list_sources(data: TaskData) -> Sequence[str]:
    """The splits that a transfer set is made of."""
    return ("train",) if data.unlabelled is None else ("train", "unlabelled")


def list_scored(data: TaskData) -> Sequence[str]:
    """The splits that a trained model is selected on, and those that its scores are of."""
    return ("validation", "test", *data.extra_tests)


def make_transfer_set(
    settings: TransferSettings,
    data: TaskData,
    output: Path,
    prints: Mapping[str, Any],
    overwrite: bool = False,
) -> dict[str, Any]:
    """The augmented transfer set; returns its rows, hash, and what the augmenter counted."""
    task, path = data.task, transfer_file(output)

    def build(folder: Path) -> dict[str, Any]:
        summary = write_transfer_set(
            data.train,
            path,
            text_column=task.text_column,
            text_pair_column=task.text_pair_column,
            label_column="label",
            rules=settings.rules,
            n_iter=settings.n_iter,
            seed=settings.seed,
            num_workers=settings.num_workers,
            pos_tagger=settings.pos_tagger,
            candidates=settings.make_candidates(),
            unlabelled=data.unlabelled,
            unlabelled_n_iter=settings.unlabelled_n_iter,
            overwrite=True,
            show_progress=True,
        )
        counted = summary.to_dict()
        counted = {"rows": counted.pop("rows_out"), "sha256": hash_file(path)} | counted
        said = [summary.warning] if summary.warning else []
        return counted | {"leaked_rows": count_leaks(path, data), "warnings": said, "held_out": held_out}

    held_out = {name: prints[name] for name in prints if name not in list_sources(data)}
    asked = settings.describe() | settings.hash_sources()
    inputs = {"settings": asked, "data": {name: prints[name] for name in list_sources(data)}}
    made = run_stage("building the transfer set", output / "transfer_set", inputs, build, overwrite)
    if made.pop("held_out", held_out) != held_out:  # the same transfer set beside other rows to be scored on
        made["leaked_rows"] = count_leaks(path, data)
    said = list(made.get("warnings", ()))
    if made.get("leaked_rows") and not any("validation or test split" in text for text in said):
        said.append(
            f"{made['leaked_rows']:,} of {made['rows']:,} rows of the transfer set are texts of the validation or test "
            "split (as lower-cased words); scores on these say less. They are kept, with the teacher's labels only"
        )
    for warning in said:
        announce(f"WARNING: {warning}")
    return made | {"warnings": said}


def count_leaks(path: Path, data: TaskData) -> int:
    """Rows of a transfer set whose texts are those of a validation or test row, case and punctuation apart."""
    columns = data.task.text_columns
    held_out: set[str] = set()
    for rows in (data.validation, data.test, *data.extra_tests.values()):
        held_out.update(
            normalise_text(*texts) for texts in zip(*(rows[name] for name in columns), strict=True)
        )
    leaked = 0
    for batch in pq.ParquetFile(path).iter_batches(columns=list(columns)):
        texts = (batch[name].to_pylist() for name in columns)
        leaked += sum(normalise_text(*pair) in held_out for pair in zip(*texts, strict=True))
    return leaked


def label_transfer_set(
    teacher: PreTrainedModel,
    tokenizer: Any,
    data: TaskData,
    max_length: int,
    output: Path,
    overwrite: bool = False,
) -> dict[str, Any]:
    """The teacher's logits of every row of the transfer set; returns what labelling counted."""
    source = transfer_file(output)

    def build(folder: Path) -> dict[str, Any]:
        teachers = [(teacher, tokenizer)]
        summary = label_file(source, labelled_file(output), teachers, data.task.text_columns, max_length)
        announce(str(summary))
        return summarise(summary)

    inputs = {"teacher": describe_teacher(teacher, tokenizer, max_length), "transfer_set": hash_file(source)}
    return run_stage("labelling the transfer set", output / "labels", inputs, build, overwrite)
