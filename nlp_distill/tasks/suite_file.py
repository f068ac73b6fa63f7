"""Several tasks of your own in one TOML file: a table a task, whose keys are the options of a single one.

[reviews]
train_file = "reviews.csv"
text_column = "review"
label_column = "stars"
labels = ["1", "2", "3", "4", "5"]  # where train may lack one

[duplicates]
train_file = "questions.tsv"
validation_file = "questions_dev.tsv"
text_column = "first"
text_pair_column = "second"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.tasks.glue import GLUE
from nlp_distill.tasks.packaged import TWEETS

FILES = ("train_file", "validation_file", "test_file")
COLUMNS = ("text_column", "text_pair_column", "label_column")
LABELS = "labels"
NEEDED = ("train_file", "text_column")


OwnTask = dict[str, str | list[str]]


def read_suite_file(path: str | Path) -> dict[str, OwnTask]:
    """The tasks of a file, as arguments of :func:`nlp_distill.tasks.load_own_files` by name, in the file's order.

    Args:
        path: the file. The paths in it start from its own folder.

    Raises:
        InputError: for a file that is missing or no TOML (a task that stands in it twice included), no task, a name
            that packaged data or a GLUE task has, or keys that are unknown, missing or no text.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML: {error}") from error
    if not tables:
        raise InputError(f"{path} holds no task; give each a table, [NAME], with {' and '.join(NEEDED)}")
    return {name: _read_task(path, name, table) for name, table in tables.items()}


def _read_task(path: Path, name: str, table: Any) -> OwnTask:
    where = f"{path}: task {name}"
    if not isinstance(table, dict):
        raise InputError(f"{path}: {name} is no table; give each task one, [NAME], and its keys below it")
    if name in GLUE or name == TWEETS.name:
        raise InputError(
            f"{where} has the name of a known data set; call yours otherwise, or give --tasks {name}"
        )
    for key, value in table.items():
        if key not in (*FILES, *COLUMNS, LABELS):
            raise InputError(
                f"{where} has the unknown key {key!r}; give any of {', '.join((*FILES, *COLUMNS, LABELS))}"
            )
        if key == LABELS and not (isinstance(value, list) and value and all(map(_is_name, value))):
            raise InputError(f"{where} has {key} = {value!r}; give a list of names in quotes")
        if key != LABELS and not _is_name(value):
            raise InputError(f"{where} has {key} = {value!r}; give a text in quotes")
    for key in NEEDED:
        if key not in table:
            raise InputError(f"{where} lacks {key}; it needs {' and '.join(NEEDED)}")
    return {key: str(path.parent / value) if key in FILES else value for key, value in table.items()}


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""
