"""Run a teacher over rows once and keep its logits, joined to the rows by id, fingerprinted and resumable."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from data_augment.errors import InputError
from data_augment.rows import RowReader, check_booleans, check_exact, read_rows
from nlp_distill.batching import DistillationCollator, plan_batches
from nlp_distill.encoding import EncodedRows, encode_rows, iterate_chunks
from nlp_distill.hashes import hash_tokenizer, hash_weights
from nlp_distill.labelled_files import METADATA_KEY, check_fingerprint, read_fingerprint
from nlp_distill.locks import LOCK, hold_folder
from nlp_distill.manifest import is_altered, read_arrays, replacing, write_arrays, write_checksum
from nlp_distill.memory import run_in_memory
from nlp_distill.students.vocabulary import MASK
from nlp_distill.teachers import Teacher, choose_labels, read_labels

SHARD_ROWS = 16_384  # rows between two saves: what an interruption can cost
# Tokens in one forward pass, padding included. On a CPU small batches stay in its cache and pad less, a fifth faster
# than 4,096 for a 6 x 384 encoder; an accelerator wants to be filled.
CPU_BATCH_TOKENS, ACCELERATOR_BATCH_TOKENS = 1024, 16_384
MASKED = re.compile(rf"(?<!\S){re.escape(MASK)}(?!\S)")
COUNTS_KEY = b"nlp_distill.labelling.counts"


@dataclass(frozen=True)
class LabellingSummary:
    """What labelling did: rows, real and padded tokens, seconds, and whether a finished result was reused.

    Counts and seconds are of all rows, ``earlier_rows`` of which an interrupted run had labelled. Seconds that went
    into rows lost with the interruption, or into a finished result that was reused, are not among them.
    """

    rows: int
    tokens: int
    padded_tokens: int
    seconds: float
    reused: bool = False
    skipped_rows: int = 0
    earlier_rows: int = 0

    @property
    def padding_share(self) -> float:
        """Share of the computed tokens that were padding."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0

    def __str__(self) -> str:
        if self.reused:
            return f"reused the logits of {self.rows:,} rows"
        rate = self.rows / self.seconds if self.seconds else 0.0
        skipped = f"; {self.skipped_rows:,} bad rows skipped" if self.skipped_rows else ""
        return (
            f"labelled {self.rows:,} rows in {self.seconds:.1f} s ({rate:,.0f} rows/s; "
            f"{self.padding_share:.1%} of {self.padded_tokens:,} tokens were padding){skipped}"
        )


def label_file(
    input_path: str | Path,
    output_path: str | Path,
    teachers: Sequence[tuple[PreTrainedModel, Any]],
    text_columns: Sequence[str],
    max_length: int,
    overwrite: bool = False,
    skip_bad_rows: bool = False,
) -> LabellingSummary:
    """Add a ``teacher_logits`` column to the rows of a file.

    Rows are read in shards, encoded, sorted by length within the shard, and run in batches of a fixed number
    of tokens. The logits of each finished shard are kept under ``<output>.partial`` with their row ids; when all are
    there they are joined to the rows **by id** and written to ``output_path`` (Parquet, complete or absent), which
    carries the fingerprint of teachers, tokenizers, maximum length and data in its metadata. Its SHA-256 lies beside
    it, as ``<output>.sha256``: a file that was altered since is made again.

    Args:
        input_path: rows with an ``id`` column and the text columns; any format of :mod:`data_augment.rows`.
        output_path: a ``.parquet`` file.
        teachers: (model, tokenizer) of every teacher. One gives logits (classes,) a row, several (teachers, classes),
            in the label order of the first, or where it has no names of the first that has some.
        text_columns: one, or two for pairs.
        max_length: tokens a row.
        overwrite: label again where the output exists with another fingerprint.
        skip_bad_rows: drop and count rows that are broken, or without an id or a text, instead of raising.

    Raises:
        InputError: if the output exists and was made by another teacher or from other data (naming what differs), if
            the teachers' labels differ, or if ids are missing or not unique.
    """
    output, partial = Path(output_path), Path(f"{output_path}.partial")
    if output.suffix != ".parquet":
        raise InputError(f"the output of labelling is {output}; it must end in .parquet")
    if output.exists() and output.samefile(input_path):
        raise InputError(f"the output {output} is also the input; give it another name")
    rows = Rows(Path(input_path), ("id", *text_columns), skip_bad_rows, tuple(text_columns))
    fingerprint = fingerprint_labelling(rows, teachers, text_columns, max_length)
    if output.exists():
        found = read_fingerprint(output)
        if not overwrite:
            check_fingerprint(found, fingerprint, output)
        if found == fingerprint and not is_altered(output):
            write_checksum(output, output.name)  # where it is gone, or from a version that had none
            shutil.rmtree(partial, ignore_errors=True)  # of one that was killed right after it
            return _read_summary(output)
    schema = infer_schema(rows, len(teachers))  # before the work, which a bad column should not waste
    partial.mkdir(exist_ok=True)
    with hold_folder(partial):
        _prepare_partial(partial, fingerprint)
        summary = _label_shards(rows, partial, teachers, text_columns, max_length, fingerprint["rows"])
        _join_shards(rows, partial, output, schema, fingerprint, summary)
        shutil.rmtree(partial)
    return summary


@dataclass(frozen=True)
class Rows:
    """A file of rows that is read several times, with the same rows left out each time.

    Args:
        path: any format of :mod:`data_augment.rows`.
        required: columns that every row must have.
        skip_bad: drop bad rows instead of raising.
        texts: those of the columns that must hold text.
    """

    path: Path
    required: tuple[str, ...] = ()
    skip_bad: bool = False
    texts: tuple[str, ...] = ()

    def read(self) -> RowReader:
        """The rows from the beginning."""
        return read_rows(
            self.path,
            required_columns=self.required,
            text_columns=self.texts,
            skip_bad_rows=self.skip_bad,
        )


def compute_logits(
    teacher: Teacher,
    rows: EncodedRows,
    collator: DistillationCollator,
    progress: tqdm | None = None,
    batch_tokens: int | None = None,
) -> tuple[np.ndarray, int]:
    """Logits of every row, in row order, computed in batches of rows of similar length.

    Args:
        teacher: any model or models; a student is evaluated with it too. They run on the accelerator, where there is
            one, and are back where they were at the end.
        rows: encoded rows.
        collator: pads a batch.
        progress: a bar to advance by rows.
        batch_tokens: tokens in one batch, padding included; ``None`` for what suits the device.

    Returns:
        The logits, (rows, classes) or (rows, teachers, classes) float32, and the tokens computed, padding included.
    """
    logits: np.ndarray | None = None
    padded_tokens = 0
    with teacher.on_accelerator() as device:
        if batch_tokens is None:
            batch_tokens = CPU_BATCH_TOKENS if device.type == "cpu" else ACCELERATOR_BATCH_TOKENS

        def run(part: Mapping[str, torch.Tensor]) -> np.ndarray:
            moved = {name: value.to(device, non_blocking=True) for name, value in part.items()}
            return teacher.run(moved)["logits"].float().cpu().numpy()

        for indices in plan_batches(rows.lengths, batch_tokens):
            batch = collator([{k: v for k, v in rows[int(i)].items() if k != "labels"} for i in indices])
            padded_tokens += batch["input_ids"].numel()
            values = np.concatenate(run_in_memory(run, batch))
            if logits is None:
                logits = np.empty((len(rows), *values.shape[1:]), dtype=np.float32)
            logits[indices] = values
            if progress is not None:
                progress.update(len(indices))
    if logits is None:
        logits = np.empty((0, teacher.models[0].config.num_labels or 1), dtype=np.float32)
    return logits, padded_tokens


def fingerprint_labelling(
    source: Rows,
    teachers: Sequence[tuple[PreTrainedModel, Any]],
    text_columns: Sequence[str],
    max_length: int,
) -> dict[str, Any]:
    """What the logits depend on: weights and tokenizer of each teacher, labels, maximum length, and the data."""
    if not teachers:
        raise InputError("no teacher was given; give at least one model")
    digest, rows = hashlib.sha256(), 0
    seen = set()
    for row in source.read():
        seen.add(hash(str(row["id"])))
        # Every column: the logits depend on the texts alone, but what is written has the others too.
        digest.update(repr(list(row.items())).encode())
        rows += 1
    if len(seen) < rows:
        raise InputError(
            f"{source.path} has {rows} rows but only {len(seen)} different ids; logits are joined by id"
        )
    labels = [read_labels(model.config) for model, _ in teachers]
    return {
        "teachers": [
            {"weights": hash_weights(model), "tokenizer": hash_tokenizer(tokenizer)}
            # Logits of masked words were of the letters of [MASK] once, for tokenizers with another mask.
            | ({} if name_mask(MASK, tokenizer) == MASK else {"mask": tokenizer.mask_token})
            for model, tokenizer in teachers
        ],
        "labels": list(choose_labels(labels)),  # in the order of the logits
        **({} if len(set(labels)) == 1 else {"teachers_labels": [list(names) for names in labels]}),
        "max_length": max_length,
        "text_columns": list(text_columns),
        "rows": rows,
        "data": digest.hexdigest(),
    }


def _read_summary(output: Path) -> LabellingSummary:
    """What labelling had counted when it wrote a file."""
    file = pq.read_metadata(output)
    counts = json.loads((file.metadata or {}).get(COUNTS_KEY, b'{"tokens": 0, "padded_tokens": 0}'))
    return LabellingSummary(rows=file.num_rows, seconds=0.0, reused=True, **counts)


def _prepare_partial(partial: Path, fingerprint: Mapping[str, Any]) -> None:
    """Keep finished shards of the same labelling, drop those of another."""
    marker = partial / "fingerprint.json"
    wanted = {**fingerprint, "shard_rows": SHARD_ROWS}
    if marker.exists() and marker.read_bytes() == json.dumps(wanted).encode():
        return
    for path in partial.iterdir():
        if path.name != LOCK:
            path.unlink()
    with replacing(marker) as temporary:
        temporary.write_bytes(json.dumps(wanted).encode())


def _label_shards(
    source: Rows, partial: Path, teachers, text_columns, max_length: int, total: int
) -> LabellingSummary:
    started, tokens, padded = time.perf_counter(), 0, 0
    labels = choose_labels([read_labels(model.config) for model, _ in teachers])
    runners = [(Teacher(model), tokenizer, DistillationCollator(tokenizer)) for model, tokenizer in teachers]
    for teacher, _, _ in runners:
        teacher.follow(labels)
    earlier, earlier_seconds, reader = 0, 0.0, source.read()
    with tqdm(total=total, desc="labelling", unit="row", unit_scale=True) as progress:
        for number, chunk in enumerate(iterate_chunks(reader, SHARD_ROWS)):
            shard = partial / f"{number:06d}.npz"
            if (kept := _read_counts(shard)) is not None:
                progress.update(len(chunk))
                tokens, padded, earlier = tokens + kept[0], padded + kept[1], earlier + len(chunk)
                earlier_seconds += kept[2]
                continue
            logits: list[np.ndarray] = []
            before = tokens, padded, time.perf_counter()
            for teacher, tokenizer, collator in runners:
                texts = [
                    {column: name_mask(row[column], tokenizer) for column in text_columns} for row in chunk
                ]
                encoded = encode_rows(texts, tokenizer, text_columns, max_length)
                bar = progress if not logits else None
                values, computed = compute_logits(teacher, encoded, collator, bar)
                logits.append(values)
                tokens += int(encoded.lengths.sum())
                padded += computed
            ids = [str(row["id"]) for row in chunk]
            counts = tokens - before[0], padded - before[1], time.perf_counter() - before[2]
            _save_shard(shard, ids, logits[0] if len(logits) == 1 else np.stack(logits, 1), counts)
    seconds = earlier_seconds + time.perf_counter() - started
    return LabellingSummary(total, tokens, padded, seconds, skipped_rows=reader.skipped, earlier_rows=earlier)


def name_mask(text: str, tokenizer: Any) -> str:
    """A text whose masked words, ``[MASK]`` in transfer sets, are this tokenizer's: ``<mask>`` for RoBERTa's."""
    own = tokenizer.mask_token
    return text if own in (None, MASK) else MASKED.sub(lambda _: own, text)


def _read_counts(shard: Path) -> tuple[int, int, float] | None:
    """Tokens, padded tokens and seconds of a shard that is there and as it was written, by its hash; or None."""
    content = read_arrays(shard)
    if content is None:
        return None
    tokens, padded = content["counts"].tolist()
    return tokens, padded, float(content["seconds"])


def _save_shard(path: Path, ids: list[str], logits: np.ndarray, counts: tuple[int, int, float]) -> None:
    finite = np.isfinite(logits).reshape(len(logits), -1).all(axis=1)
    if not finite.all():
        bad = [ids[i] for i in np.flatnonzero(~finite)[:5]]
        raise InputError(
            f"the teacher's logits are NaN or infinite for {int((~finite).sum())} rows, the first with ids {bad}; "
            "check the teacher's weights (or its precision) before distilling it"
        )
    arrays = {"ids": np.array(ids, dtype=np.str_), "logits": logits}
    write_arrays(path, arrays | {"counts": np.array(counts[:2]), "seconds": np.array(counts[2])})


def _join_shards(
    source: Rows,
    partial: Path,
    output: Path,
    schema: pa.Schema,
    fingerprint: Mapping[str, Any],
    summary: LabellingSummary,
) -> None:
    counts = {name: getattr(summary, name) for name in ("tokens", "padded_tokens", "skipped_rows")}
    metadata = {METADATA_KEY: json.dumps(fingerprint).encode(), COUNTS_KEY: json.dumps(counts).encode()}
    with replacing(output) as temporary:
        with pq.ParquetWriter(temporary, schema.with_metadata(metadata), write_page_checksum=True) as writer:
            for number, chunk in enumerate(iterate_chunks(source.read(), SHARD_ROWS)):
                with np.load(partial / f"{number:06d}.npz", allow_pickle=False) as shard:
                    logits_by_id = dict(zip(shard["ids"].tolist(), shard["logits"].tolist(), strict=True))
                if logits_by_id.keys() != {str(row["id"]) for row in chunk}:
                    raise InputError(
                        f"{source.path} changed while it was being labelled; run the same command again"
                    )
                rows = [row | {"teacher_logits": logits_by_id[str(row["id"])]} for row in chunk]
                table = pa.Table.from_pylist(rows, schema=schema.with_metadata(metadata))
                check_exact(str(source.path), chunk, table.drop_columns("teacher_logits"))
                writer.write_table(table)
        write_checksum(temporary, output.name)


def infer_schema(source: Rows, teachers: int) -> pa.Schema:
    """Column types of the labelled file: those of a Parquet input, those that hold every row of others, and logits.

    Raises:
        InputError: if the values of a column have no type in common.
    """
    reader = source.read()
    columns = reader.schema
    if columns is None:
        try:
            schemas = [_infer_types(source, chunk) for chunk in iterate_chunks(reader, SHARD_ROWS)]
            columns = pa.unify_schemas(schemas, promote_options="permissive")
            # Once more, for whether the types hold every value.
            for chunk in iterate_chunks(source.read(), SHARD_ROWS):
                check_exact(str(source.path), chunk, pa.Table.from_pylist(chunk, schema=columns))
        except OverflowError as error:
            raise InputError(f"{source.path} has a whole number that is too large for 64 bits") from error
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(f"{source.path} mixes kinds of values in one column: {error}") from error
    fields = [
        pa.field(field.name, pa.string()) if pa.types.is_null(field.type) else field
        for field in columns
        if field.name != "teacher_logits"
    ]
    logits = pa.list_(pa.float32())
    return pa.schema([*fields, ("teacher_logits", logits if teachers == 1 else pa.list_(logits))])


def _infer_types(source: Rows, rows: Sequence[Mapping[str, Any]]) -> pa.Schema:
    names = dict.fromkeys(name for row in rows for name in row)  # the first row may lack some
    schema = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]).schema
    check_booleans(str(source.path), rows, schema)
    return schema


def summarise(summary: LabellingSummary) -> dict[str, Any]:
    """A labelling summary as plain values, for result files: the same however often labelling was interrupted."""
    kept = {name: value for name, value in asdict(summary).items() if name not in ("reused", "earlier_rows")}
    return kept | {"padding_share": summary.padding_share}
