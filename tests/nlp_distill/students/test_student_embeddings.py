"""Teacher matrices reduced by PCA, against scikit-learn; GloVe vectors land on the right rows."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from transformers import BertConfig, BertModel

from data_augment.errors import InputError
from data_augment.glove import load_glove
from nlp_distill.students import (
    build_bilstm,
    embeddings_from_glove,
    embeddings_from_teacher,
    trim_vocabulary,
    word_tokenizer,
)


@pytest.fixture
def matrix():
    generator = np.random.default_rng(0)
    mixed = generator.normal(size=(60, 12)) @ generator.normal(size=(12, 12)) + 3.0
    return torch.from_numpy(mixed.astype(np.float32))


def test_smaller_embeddings_are_the_principal_components_of_the_kept_rows(matrix):
    kept = [3, 5, *range(20, 55)]
    found = embeddings_from_teacher(matrix, kept, 4).numpy()
    expected = PCA(4, svd_solver="full").fit_transform(matrix.numpy().astype(np.float64)[kept])
    expected *= 0.3 / expected.std()
    signs = np.sign((found * expected).sum(axis=0))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected * signs, atol=1e-5)


def test_equal_size_keeps_all_relative_distances(matrix):
    found = embeddings_from_teacher(matrix, None, 12, std=0.1)
    assert found.std(correction=0).item() == pytest.approx(0.1, rel=1e-5)
    torch.testing.assert_close(found.mean(0), torch.zeros(12), rtol=0, atol=1e-6)
    ratio = torch.pdist(found) / torch.pdist(matrix)
    torch.testing.assert_close(ratio, ratio[0].expand_as(ratio), rtol=1e-4, atol=0)


def test_matrix_of_a_model_is_its_input_embeddings_and_stays_as_it_was():
    config = BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    teacher = BertModel(config)
    before = teacher.get_input_embeddings().weight.detach().clone()
    found = embeddings_from_teacher(teacher, [4, 2, 9, 7, 1], 3)
    assert torch.equal(found, embeddings_from_teacher(before.to(torch.float64), [4, 2, 9, 7, 1], 3))
    assert torch.equal(teacher.get_input_embeddings().weight, before) and not found.requires_grad


def test_trimmed_rows_belong_to_the_same_pieces_as_before(wordpiece):
    teacher_rows = torch.eye(len(wordpiece))
    trimmed, kept_ids = trim_vocabulary(wordpiece, ["good movies"])
    found = embeddings_from_teacher(teacher_rows, kept_ids)
    for piece, row in trimmed.get_vocab().items():
        assert found[row].argmax().item() == wordpiece.get_vocab()[piece]
    model = build_bilstm(trimmed, ("a", "b"), embeddings=found, hidden_size=3)
    assert model.config.vocab_size == len(kept_ids) and model.config.embedding_size == len(wordpiece)


@pytest.mark.parametrize(
    ("kept", "size", "message"),
    [
        (None, 13, "size 13 from teacher embeddings of width 12: give 1 to 12"),
        (None, 0, "size 0"),
        ([0, 60], 4, "60 word pieces"),
        ([], 4, "at least one"),
        ([1, 2, 3], 4, "at least as many word pieces, 3 were kept"),
    ],
)
def test_impossible_sizes_and_rows_are_refused(matrix, kept, size, message):
    with pytest.raises(InputError, match=message):
        embeddings_from_teacher(matrix, kept, size)


@pytest.fixture
def glove(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("the 0.1 0.2 0.3\nfilm 1.0 -1.0 0.5\nnever 9 9 9\n", encoding="utf-8")
    return load_glove(path)


def test_glove_words_take_their_vectors_and_others_matching_noise(glove):
    words = ["the", "film", *(f"unseen{index}" for index in range(400))]
    tokenizer = word_tokenizer([" ".join(words)])
    found, coverage = embeddings_from_glove(tokenizer, glove)
    vocabulary = tokenizer.get_vocab()
    assert found.dtype == torch.float32 and found.shape == (len(tokenizer), 3)
    assert found[vocabulary["film"]].tolist() == [1.0, -1.0, 0.5]
    assert found[vocabulary["the"]].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert coverage == 2 / 402
    assert not found[tokenizer.pad_token_id].any()
    noise = found[[row for word, row in vocabulary.items() if word.startswith("unseen")]]
    assert noise.std().item() == pytest.approx(np.std([0.1, 0.2, 0.3, 1.0, -1.0, 0.5]), rel=0.1)
    assert torch.equal(found, embeddings_from_glove(tokenizer, glove)[0])
    assert not torch.equal(found, embeddings_from_glove(tokenizer, glove, seed=1)[0])


def test_cased_words_fall_back_to_their_lower_case_vector(glove):
    tokenizer = word_tokenizer(["Film"], lowercase=False)
    found, coverage = embeddings_from_glove(tokenizer, glove, 3)
    assert coverage == 1.0 and found[tokenizer.get_vocab()["Film"]].tolist() == [1.0, -1.0, 0.5]


def test_other_sizes_and_foreign_vocabularies_are_refused(glove):
    with pytest.raises(InputError, match="size 50 from GloVe vectors of 3"):
        embeddings_from_glove(word_tokenizer(["film"]), glove, 50)
    with pytest.raises(InputError, match="none of the tokenizer's words"):
        embeddings_from_glove(word_tokenizer(["xyz"]), glove)
