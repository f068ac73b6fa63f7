"""Stages: a finished one is reused, an interrupted one continues, and nothing that exists is lost or mistaken."""

import json
import shutil
from pathlib import Path

import pytest

from data_augment.errors import InputError
from nlp_distill.locks import LOCK
from nlp_distill.stages import (
    FINISHED,
    STARTED,
    describe_difference,
    make_folder,
    read_finished,
    run_stage,
    write_json,
)

INPUTS = {"seed": 0, "data": {"train": "abc"}, "sizes": (1, 2)}


class Builder:
    """Counts its calls; each writes a file, after failing as often as told."""

    def __init__(self, *failures: Exception):
        self.failures, self.calls, self.seen = list(failures), 0, []

    def __call__(self, folder: Path) -> dict:
        self.calls += 1
        self.seen.append(sorted(path.name for path in folder.iterdir()))
        (folder / f"part{self.calls}").write_text("made")
        if self.failures:
            raise self.failures.pop(0)
        return {"score": 0.5, "call": self.calls}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "stage"


def test_a_finished_stage_is_reused_by_the_same_inputs(folder: Path, capsys: pytest.CaptureFixture) -> None:
    build = Builder()
    assert run_stage("work", folder, INPUTS, build) == {"score": 0.5, "call": 1}
    assert run_stage("work", folder, {**INPUTS, "sizes": [1, 2]}, build) == {"score": 0.5, "call": 1}
    assert build.calls == 1 and not (folder / STARTED).exists()
    out, err = capsys.readouterr()
    assert out == "" and f"work: reusing {folder} (finished earlier)" in err


def test_paths_in_a_result_follow_a_folder_that_was_moved_or_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(folder: Path) -> dict:
        (folder / "model").write_text("weights")
        inside = [{"path": str(folder)}, {"path": str(folder / "model")}]
        return {
            "entries": inside,
            "path": "teacher",
            "other": {"path": str(folder.parent)},
            "name": str(folder),
        }

    old, new = tmp_path / "run" / "stage", tmp_path / "copy" / "stage"
    first = run_stage("work", old, INPUTS, build)
    shutil.copytree(old.parent, new.parent)
    monkeypatch.chdir(tmp_path / "copy")
    for place in (new, Path("stage")):
        moved = [{"path": str(place)}, {"path": str(place / "model")}]
        assert run_stage("work", place, INPUTS, build) == {**first, "entries": moved}
        assert read_finished(place, INPUTS) == {**first, "entries": moved}
    assert run_stage("work", old, INPUTS, build) == first


def test_an_interrupted_stage_finds_its_folder_as_it_was(folder: Path, capsys: pytest.CaptureFixture) -> None:
    build = Builder(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_stage("work", folder, INPUTS, build)
    assert run_stage("work", folder, INPUTS, build)["call"] == 2
    assert build.seen[1] == [LOCK, "part1", STARTED]
    assert f"work: continuing in {folder}" in capsys.readouterr().err


def test_a_stage_that_was_killed_while_its_first_mark_was_written_starts_again(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / f"{STARTED}.tmp").write_text("{")
    assert run_stage("work", folder, INPUTS, Builder())["call"] == 1
    assert sorted(path.name for path in folder.iterdir()) == ["part1", FINISHED]


def test_half_a_mark_that_a_failed_write_left_is_no_file_of_the_stage(folder: Path) -> None:
    """A refused rename leaves it; the next run replaces it, and the run after that must not miss it."""
    build = Builder(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_stage("work", folder, INPUTS, build)
    (folder / f"{FINISHED}.tmp").write_text("{")
    assert run_stage("work", folder, INPUTS, build)["call"] == 2
    assert run_stage("work", folder, INPUTS, build)["call"] == 2 and build.calls == 2


@pytest.mark.parametrize("error", [RuntimeError("crash"), InputError("refused"), KeyboardInterrupt()])
def test_a_crash_leaves_no_finished_mark(folder: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run_stage("work", folder, INPUTS, Builder(error))
    assert not (folder / FINISHED).exists() and (folder / "part1").exists()


def test_other_inputs_are_refused_by_the_names_of_what_differs(folder: Path) -> None:
    run_stage("work", folder, INPUTS, Builder())
    other = {"seed": 3, "data": {"train": "xyz"}, "sizes": [1, 2], "new": True}
    with pytest.raises(InputError) as error:
        run_stage("work", folder, other, Builder())
    message = str(error.value)
    assert "data.train: abc there, xyz now; new: nothing there, True now; seed: 0 there, 3 now" in message
    assert "sizes" not in message and "--overwrite" in message
    assert json.loads((folder / FINISHED).read_text())["inputs"]["seed"] == 0


def test_a_result_from_before_a_setting_existed_is_reused_where_it_is_not_set(folder: Path) -> None:
    run_stage("work", folder, INPUTS, Builder())
    newer = INPUTS | {"data": {"train": "abc", "trimmed_to": None}, "extras": {}}
    assert run_stage("work", folder, newer, Builder(RuntimeError("made again")))["call"] == 1
    newer["data"] = {"train": "abc", "trimmed_to": 100}
    with pytest.raises(InputError, match="data.trimmed_to: nothing there, 100 now"):
        run_stage("work", folder, newer, Builder())


def test_an_unfinished_stage_of_other_inputs_is_refused_too(folder: Path) -> None:
    with pytest.raises(RuntimeError):
        run_stage("work", folder, INPUTS, Builder(RuntimeError("crash")))
    with pytest.raises(InputError, match="seed: 0 there, 1 now"):
        run_stage("work", folder, {**INPUTS, "seed": 1}, Builder())
    assert (folder / "part1").exists()


def test_a_stage_that_made_nothing_does_not_occupy_its_folder(folder: Path) -> None:
    def refuse(inside: Path) -> dict:
        (inside / "checkpoints").mkdir()
        raise InputError("refused")

    with pytest.raises(InputError, match="refused"):
        run_stage("work", folder, INPUTS, refuse)
    assert run_stage("work", folder, {**INPUTS, "seed": 1}, Builder())["call"] == 1


def test_overwrite_replaces_other_inputs_and_reuses_the_same(folder: Path) -> None:
    run_stage("work", folder, INPUTS, Builder())
    (folder / "part1").write_text("of the old result")
    for of_old in ("results.json", "report.html"):
        (folder / of_old).touch()
    build = Builder()
    assert run_stage("work", folder, {**INPUTS, "seed": 1}, build, overwrite=True)["call"] == 1
    assert sorted(path.name for path in folder.iterdir()) == ["part1", FINISHED]
    assert (folder / "part1").read_text() != "of the old result"
    run_stage("work", folder, {**INPUTS, "seed": 1}, build, overwrite=True)
    assert build.calls == 1
    assert [path.name for path in folder.parent.iterdir()] == ["stage"]


@pytest.mark.parametrize("reason", ["overwrite", "damage"])
def test_what_is_not_a_stage_s_own_stays_when_it_is_made_again(folder: Path, reason: str) -> None:
    run_stage("work", folder, INPUTS, Builder())
    (folder / "notes.txt").write_text("mine")
    run_stage("other work", folder / "student", INPUTS, Builder())
    inputs = {**INPUTS, "seed": 1} if reason == "overwrite" else INPUTS
    if reason == "damage":
        (folder / "part1").write_text("altered")
    build = Builder()
    for _ in range(2):  # and it is no part of what is checked for damage afterwards
        run_stage("work", folder, inputs, build, overwrite=reason == "overwrite")
        assert (folder / "notes.txt").read_text() == "mine"
        (folder / "notes.txt").write_text("mine")
    assert build.calls == 1
    other = Builder()
    run_stage("other work", folder / "student", INPUTS, other)
    assert other.calls == 0 and [path.name for path in folder.parent.iterdir()] == ["stage"]
    (folder / "notes.txt").write_text("changed")
    run_stage("work", folder, inputs, build)
    assert build.calls == 1


def test_overwrite_brings_the_old_result_back_where_the_new_inputs_are_refused(folder: Path) -> None:
    run_stage("work", folder, INPUTS, Builder())
    with pytest.raises(InputError):
        run_stage("work", folder, {**INPUTS, "seed": 1}, Builder(InputError("refused")), overwrite=True)
    assert (
        run_stage("work", folder, INPUTS, Builder())["call"] == 1
    )  # reused: its builder would return the same
    assert [path.name for path in folder.parent.iterdir()] == ["stage"]
    assert sorted(path.name for path in folder.iterdir()) == ["part1", FINISHED]


def test_overwrite_keeps_the_old_result_beside_until_the_new_one_is_finished(folder: Path) -> None:
    run_stage("work", folder, INPUTS, Builder())
    (folder / "old").touch()
    build = Builder(RuntimeError("crash"))
    with pytest.raises(RuntimeError):
        run_stage("work", folder, {**INPUTS, "seed": 1}, build, overwrite=True)
    assert (folder.parent / "stage.replaced" / "old").exists()
    assert run_stage("work", folder, {**INPUTS, "seed": 1}, build)["call"] == 2
    assert [path.name for path in folder.parent.iterdir()] == ["stage"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_another_command_made_is_never_replaced(folder: Path, overwrite: bool) -> None:
    run_stage("work", folder, INPUTS, Builder())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = Builder()
    other.__module__ = "nlp_distill.commands.other"
    with pytest.raises(InputError, match="holds what another command made; choose another output, or remove"):
        run_stage("other work", folder, {**INPUTS, "seed": 1}, other, overwrite)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    # Of the same inputs it is reused, as two pipelines reuse each other's transfer set.
    assert run_stage("other work", folder, INPUTS, other, overwrite)["call"] == 1


def test_a_result_from_before_makers_were_kept_can_be_replaced(folder: Path) -> None:
    run_stage("work", folder, INPUTS, Builder())
    mark = folder / FINISHED
    kept = json.loads(mark.read_text())
    del kept["maker"], kept["sha256"]
    mark.write_text(json.dumps(kept))
    with pytest.raises(InputError, match="holds what another command made"):
        run_stage("work", folder, {"seed": 1, "opset": 20, "form": "onnx"}, Builder(), overwrite=True)
    assert run_stage("work", folder, {**INPUTS, "seed": 1}, Builder(), overwrite=True)["call"] == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_someone_else_is_never_touched(folder: Path, overwrite: bool) -> None:
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="was not made by this command"):
        run_stage("work", folder, INPUTS, Builder(), overwrite)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_used(folder: Path) -> None:
    folder.mkdir(parents=True)
    assert run_stage("work", folder, INPUTS, Builder())["call"] == 1


def test_the_working_folder_can_be_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run_stage("work", Path("."), INPUTS, Builder())["call"] == 1
    assert (tmp_path / "here" / FINISHED).exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file is a file"):
        run_stage("work", tmp_path / "file", INPUTS, Builder(), overwrite=True)
    with pytest.raises(InputError, match="cannot write to .*file/stage: Not a directory"):
        run_stage("work", tmp_path / "file" / "stage", INPUTS, Builder())
    with pytest.raises(InputError, match="cannot write to"):
        make_folder(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_json_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "values.json"
    write_json(path, {"β": [1.5, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"β": [1.5, None]}
    with pytest.raises(TypeError):
        write_json(path, {"not": object()})

    def fail(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("nlp_distill.manifest.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"new": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"β": [1.5, None]}
    assert list(path.parent.iterdir()) == [path]


def test_a_difference_is_cut_to_three_settings_and_forty_characters() -> None:
    found = {"a": 1, "b": 2, "c": "x" * 60, "d": 4, "same": {"inner": 1}}
    wanted = {"a": 2, "b": 3, "c": "y", "d": 5, "same": {"inner": 1}}
    text = describe_difference(found, wanted)
    assert text == f"a: 1 there, 2 now; b: 2 there, 3 now; c: {'x' * 37}... there, y now; ..."


def test_checkpoints_stay_until_the_stage_is_finished_and_are_no_part_of_it(folder: Path) -> None:
    def train(inside: Path, then: BaseException | None = None) -> dict:
        (inside / "checkpoints" / "checkpoint-1").mkdir(parents=True, exist_ok=True)
        (inside / "checkpoints" / "checkpoint-1" / "weights").write_text("1")
        (inside / "model").write_text("1")
        if then is not None:
            raise then
        return {}

    with pytest.raises(KeyboardInterrupt):
        run_stage("work", folder, INPUTS, lambda inside: train(inside, KeyboardInterrupt()))
    assert (folder / "checkpoints" / "checkpoint-1" / "weights").exists()
    run_stage("work", folder, INPUTS, train)
    assert sorted(path.name for path in folder.iterdir()) == ["model", FINISHED]
    train(folder)  # a kill came after the end, and before they were gone
    build = Builder()
    run_stage("work", folder, INPUTS, build)
    assert build.calls == 0 and sorted(path.name for path in folder.iterdir()) == ["model", FINISHED]


def test_weights_of_a_finished_stage_can_be_read_by_others(folder: Path) -> None:
    def build(folder: Path) -> dict:
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "model.safetensors").chmod(0o600)
        (folder / "plain").write_text("")
        return {}

    run_stage("writing", folder, {}, build)
    assert (folder / "model.safetensors").stat().st_mode == (folder / "plain").stat().st_mode
