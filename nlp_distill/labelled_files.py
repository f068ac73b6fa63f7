"""Files of labelled rows: what they say that they were made from, and their logits for a student's labels."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_augment.errors import InputError
from nlp_distill.manifest import is_altered
from nlp_distill.teachers import match_labels

METADATA_KEY = b"nlp_distill.labelling"


def read_fingerprint(path: str | Path) -> dict[str, Any] | None:
    """The fingerprint in a labelled file, or ``None`` if the file was not made by labelling."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except pa.ArrowInvalid:  # no Parquet file
        return None
    return json.loads(metadata[METADATA_KEY]) if METADATA_KEY in metadata else None


def check_unaltered(path: str | Path) -> None:
    """Raise ``InputError`` for a file that is other than the checksum beside it says."""
    if is_altered(Path(path)):
        raise InputError(f"{path} is damaged (its checksum is another); label its rows again")


def check_fingerprint(found: Mapping[str, Any] | None, wanted: Mapping[str, Any], path: Path) -> None:
    """Raise ``InputError`` naming what differs between two fingerprints of labelling."""
    if found is None:
        raise InputError(
            f"{path} exists and holds no teacher logits of ours; choose another output or --overwrite"
        )
    names = {"max_length": "the maximum length", "data": "the data"}
    differing = [names.get(key, key) for key in wanted if key != "teachers" and found.get(key) != wanted[key]]
    differing = _name_teacher_differences(found.get("teachers", []), wanted["teachers"]) + differing
    if differing:
        raise InputError(
            f"{path} was labelled with other inputs: {', '.join(differing)} differ; "
            "choose another output, or --overwrite to label again"
        )


def _name_teacher_differences(found: Sequence[Mapping], wanted: Sequence[Mapping]) -> list[str]:
    if len(found) != len(wanted):
        return [f"the number of teachers ({len(found)} there, {len(wanted)} now)"]
    parts = [
        part
        for part in ("weights", "tokenizer")
        if any(a.get(part) != b[part] for a, b in zip(found, wanted, strict=True))
    ]
    return [f"the teacher's {part}" for part in parts]


def load_labelled(path: str | Path, labels: Sequence[str]) -> pa.Table:
    """A labelled file as a table whose ``teacher_logits`` follow ``labels``.

    Raises:
        InputError: if the file holds no logits, or the teacher's labels are others than ``labels``.
    """
    fingerprint = read_fingerprint(path)
    if fingerprint is None:
        raise InputError(f"{path} holds no teacher logits; make it with `nlp-distill label`")
    check_unaltered(path)
    order = match_labels(labels, fingerprint["labels"])
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except OSError as error:
        raise InputError(f"{path} is damaged ({error}); label its rows again") from error
    if order is None:
        return table
    logits = np.asarray(table["teacher_logits"].to_pylist(), dtype=np.float32)[..., order]
    field = table.schema.field("teacher_logits")
    position = table.column_names.index(field.name)
    return table.set_column(position, field, pa.array(logits.tolist(), type=field.type))
