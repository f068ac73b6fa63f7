"""Packed text: the same tokens as the tokenizer gives, in full blocks, whatever the size of the chunks."""

import numpy as np
import pytest

from data_augment.errors import InputError
from nlp_distill import text_blocks
from nlp_distill.text_blocks import TextBlocks, find_frame, write_blocks

LINES = ["a good film", "", "the plot was not bad", "   ", "it is dull but fine", "never"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


def flatten(tokenizer, lines):
    return [token for line in lines for token in tokenizer(line, add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize("chunk", [1, 2, 2048])
def test_blocks_hold_the_texts_tokens_in_order_and_are_full(text, tmp_path, tokenizer, chunk, monkeypatch):
    monkeypatch.setattr(text_blocks, "LINES", chunk)
    summary = write_blocks([text], tmp_path / "tokens", tokenizer, max_length=6)
    expected = flatten(tokenizer, LINES)
    assert (summary.lines, summary.tokens, summary.blocks) == (4, len(expected), -(-len(expected) // 4))
    blocks = TextBlocks(tmp_path / "tokens", tokenizer, max_length=6)
    rows = [blocks[i]["input_ids"].tolist() for i in range(len(blocks))]
    assert len(rows) == summary.blocks and all(len(row) == 6 for row in rows[:-1])
    assert all(row[0] == tokenizer.cls_token_id and row[-1] == tokenizer.sep_token_id for row in rows)
    assert [token for row in rows for token in row[1:-1]] == expected
    with pytest.raises(IndexError):
        blocks[len(blocks)]


def test_several_files_follow_each_other_and_the_hash_is_of_the_tokens(text, tmp_path, tokenizer):
    other = tmp_path / "other.txt"
    other.write_text("a story\n", encoding="utf-8")
    one = write_blocks([text, other], tmp_path / "one", tokenizer, 8)
    two = write_blocks([other, text], tmp_path / "two", tokenizer, 8)
    assert one.tokens == two.tokens and one.sha256 != two.sha256
    stored = np.fromfile(tmp_path / "one", dtype=np.int32).tolist()
    assert stored == flatten(tokenizer, [*LINES, "a story"])


def test_the_frame_is_what_the_tokenizer_puts_around_a_text(tokenizer):
    before, after = find_frame(tokenizer)
    assert before.tolist() == [tokenizer.cls_token_id] and after.tolist() == [tokenizer.sep_token_id]


def test_text_that_is_missing_empty_or_not_utf8_is_refused(tmp_path, tokenizer):
    blank, broken = tmp_path / "blank.txt", tmp_path / "broken.txt"
    blank.write_text("\n  \n")
    broken.write_bytes(b"fine\n\xff\xfe\n")
    with pytest.raises(InputError, match="no file .*missing.txt"):
        write_blocks([tmp_path / "missing.txt"], tmp_path / "out", tokenizer, 8)
    with pytest.raises(InputError, match="blank.txt holds no text"):
        write_blocks([blank], tmp_path / "out", tokenizer, 8)
    with pytest.raises(InputError, match="broken.txt line 2 is not UTF-8"):
        write_blocks([broken], tmp_path / "out", tokenizer, 8)
    with pytest.raises(InputError, match="max_length is 2; it must be more than the 2 special tokens"):
        write_blocks([blank], tmp_path / "out", tokenizer, 2)
