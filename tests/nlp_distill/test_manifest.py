"""What is torn, altered or gone is found: lists of files, stages, checkpoints, labelled rows and their shards."""

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from data_augment.errors import InputError
from nlp_distill.labelled_files import load_labelled
from nlp_distill.labelling import _read_counts, _save_shard
from nlp_distill.manifest import find_damage, is_altered, list_files, read_arrays, write_arrays
from nlp_distill.stages import FINISHED, STARTED, run_stage

INPUTS = {"seed": 0}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {"cut short": cut, "a flipped bit": flip, "removed": Path.unlink}
damages = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


def build(folder: Path) -> dict:
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "weights").write_bytes(b"weights " * 100)
    (folder / "sub" / "more").write_bytes(b"more")
    return {"score": 0.5}


def test_a_list_of_files_names_size_and_hash_of_each_below_a_folder(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "left out").touch()
    listed = list_files(tmp_path, {"left out"})
    assert list(listed) == ["sub/more", "weights"] and listed["weights"]["bytes"] == 800
    # printf more | sha256sum
    assert listed["sub/more"]["sha256"].startswith("187897ce0afcf20b")
    assert find_damage(tmp_path, listed) == ""
    (tmp_path / "unlisted").write_text("a model card")
    assert find_damage(tmp_path, listed) == ""


@damages
@pytest.mark.parametrize("name", ["weights", "sub/more"])
def test_a_damaged_stage_is_made_again_and_its_result_never_used(tmp_path, name, damage, capsys) -> None:
    folder = tmp_path / "stage"
    run_stage("work", folder, INPUTS, build)
    before = (folder / name).read_bytes()
    damage(folder / name)
    calls = []

    def rebuild(folder: Path) -> dict:
        calls.append(sorted(path.name for path in folder.iterdir()))
        return build(folder)

    assert run_stage("work", folder, INPUTS, rebuild) == {"score": 0.5}
    assert len(calls) == 1 and "weights" not in calls[0]  # nothing of the damaged one is taken over
    assert (folder / name).read_bytes() == before
    message = capsys.readouterr().err
    assert f"{folder} is damaged ({name}" in message and message.count("is made again") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]
    assert run_stage("work", folder, INPUTS, rebuild) == {"score": 0.5} and len(calls) == 1


def test_a_setting_that_somebody_edited_costs_nothing_unasked(tmp_path: Path, capsys) -> None:
    def build_model(folder: Path) -> dict:
        (folder / "config.json").write_text('{"labels": ["a", "b"]}')
        return build(folder)

    folder = tmp_path / "stage"
    run_stage("work", folder, INPUTS, build_model)
    (folder / "config.json").write_text('{"labels": ["no", "yes"]}')
    with pytest.raises(InputError, match="config.json was changed after it had been finished; undo that"):
        run_stage("work", folder, INPUTS, build_model)
    assert "yes" in (folder / "config.json").read_text() and (folder / "weights").exists()
    assert run_stage("work", folder, INPUTS, build_model, overwrite=True) == {"score": 0.5}
    assert "yes" not in (folder / "config.json").read_text()

    (folder / "config.json").write_text('{"labels": ["no", "ye')  # torn, by no person
    capsys.readouterr()
    assert run_stage("work", folder, INPUTS, build_model) == {"score": 0.5}
    assert "is damaged (config.json has" in capsys.readouterr().err


def test_a_score_that_was_edited_in_a_stage_s_record_is_not_believed(tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    run_stage("work", folder, INPUTS, build)
    mark = folder / FINISHED
    mark.write_text(mark.read_text().replace("0.5", "0.9"))
    with pytest.raises(InputError, match="the record of what .* is damaged; --overwrite makes it again"):
        run_stage("work", folder, INPUTS, build)
    assert run_stage("work", folder, INPUTS, build, overwrite=True) == {"score": 0.5}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]"])
@pytest.mark.parametrize("name", [STARTED, FINISHED])
def test_a_torn_record_is_refused_and_made_again_on_demand(tmp_path: Path, name: str, content: bytes) -> None:
    folder = tmp_path / "stage"
    run_stage("work", folder, INPUTS, build)
    (folder / FINISHED).unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        run_stage("work", folder, INPUTS, build)
    assert run_stage("work", folder, INPUTS, build, overwrite=True) == {"score": 0.5}
    assert json.loads((folder / FINISHED).read_text())["inputs"] == INPUTS


def test_a_folder_that_is_not_ours_is_left_alone_even_where_overwriting_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="was not made by this command"):
        run_stage("work", tmp_path, INPUTS, build, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@damages
def test_a_damaged_shard_of_logits_is_no_shard(tmp_path: Path, damage) -> None:
    shard = tmp_path / "000000.npz"
    _save_shard(shard, ["a", "b"], np.ones((2, 3), dtype=np.float32), (5, 7, 1.5))
    assert _read_counts(shard) == (5, 7, 1.5)
    damage(shard)
    assert _read_counts(shard) is None


@damages
def test_labelled_rows_that_were_damaged_are_made_again(run_cli, teacher_folder, tmp_path, damage) -> None:
    rows, labelled = tmp_path / "rows.jsonl", tmp_path / "labelled.parquet"
    rows.write_text("".join(json.dumps({"id": str(n), "text": f"film {n}"}) + "\n" for n in range(50)))
    options = ["--teacher", teacher_folder, "--text-column", "text", "--max-length", 32]
    assert run_cli("label", "--input", rows, "--output", labelled, *options) == 0
    before, checksum = labelled.read_bytes(), tmp_path / "labelled.parquet.sha256"
    assert checksum.read_text() == f"{hashlib.sha256(before).hexdigest()}  labelled.parquet\n"
    for path in (labelled, checksum):
        damage(path)
        again = run_cli("label", "--input", rows, "--output", labelled, *options)
        # Without its end a Parquet file does not say what it is, and might be anyone's.
        assert again == (2 if path == labelled and damage is cut else 0)
        if again == 2:
            labelled.write_bytes(before)
        assert labelled.read_bytes() == before and not is_altered(labelled)
        assert checksum.read_text() == f"{hashlib.sha256(before).hexdigest()}  labelled.parquet\n"


def test_labelled_rows_with_a_flipped_bit_are_refused(run_cli, teacher_folder, own_files, tmp_path) -> None:
    rows, labelled = tmp_path / "rows.jsonl", tmp_path / "labelled.parquet"
    rows.write_text("".join(json.dumps({"id": str(n), "text": f"film {n}"}) + "\n" for n in range(50)))
    options = ["--teacher", teacher_folder, "--text-column", "text", "--max-length", 32]
    assert run_cli("label", "--input", rows, "--output", labelled, *options) == 0
    labels = ["negative", "positive"]
    assert load_labelled(labelled, labels).num_rows == 50
    content = bytearray(labelled.read_bytes())
    content[200] ^= 1  # inside the first page of the first column
    labelled.write_bytes(content)
    with pytest.raises(InputError, match="is damaged .*; label its rows again"):
        load_labelled(labelled, labels)


def test_arrays_of_which_any_bit_was_changed_are_passed_over(tmp_path: Path) -> None:
    path, arrays = tmp_path / "a.npz", {"ids": np.array(["a", "b"]), "logits": np.ones((2, 3), np.float32)}
    write_arrays(path, arrays)
    found = read_arrays(path)
    assert found is not None and found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    with np.load(path) as plain:  # an archive for others too
        assert sorted(plain.files) == ["ids", "logits"]
    whole = path.read_bytes()
    for place, bit in itertools.product(range(len(whole)), range(8)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
        assert read_arrays(path) is None


def test_arrays_that_were_cut_or_never_written_are_passed_over_and_what_the_system_refuses_is_told(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.npz"
    assert read_arrays(path) is None
    write_arrays(path, {"numbers": np.arange(100)})
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert read_arrays(path) is None
    with pytest.raises(IsADirectoryError):
        read_arrays(tmp_path)
