"""Factorised embeddings: exact at full rank, the best of their rank below it, and models like any other."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, ElectraConfig, ElectraForSequenceClassification

import nlp_distill.students  # noqa: F401  registers the compact BERT
from data_augment.errors import InputError
from nlp_distill.compression.factorise import factorise_embeddings
from nlp_distill.compression.prune_structured import prune_heads, prune_units
from nlp_distill.students import CompactBertConfig, build_bilstm, build_cnn, count_parameters
from nlp_distill.students.compact_bert import CompactBertForSequenceClassification

TEXTS = ["a good film", "the plot was not very good", "never bad it is a dull story"]


def answer(model, tokenizer):
    with torch.no_grad():
        return model.eval()(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits


@pytest.fixture
def bilstm(tokenizer):
    matrix = torch.randn(len(tokenizer), 12, generator=torch.Generator().manual_seed(0))
    return build_bilstm(tokenizer, ("bad", "good"), embeddings=matrix, hidden_size=6, head_size=5)


@pytest.fixture
def cnn(tokenizer):
    matrix = torch.randn(len(tokenizer), 12)
    return build_cnn(tokenizer, ("bad", "good"), embeddings=matrix, filters=6, widths=(1, 3))


def test_a_bert_at_full_rank_gives_the_same_logits(make_bert, tokenizer, tmp_path):
    model = make_bert()
    full = factorise_embeddings(model, 16)
    torch.testing.assert_close(answer(full, tokenizer), answer(model, tokenizer), rtol=0, atol=1e-5)
    words, into = full.get_word_matrix()
    torch.testing.assert_close(words @ into, model.get_input_embeddings().weight, rtol=0, atol=1e-5)
    full.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "CompactBertForSequenceClassification"
    assert torch.equal(answer(loaded, tokenizer), answer(full, tokenizer))


def test_below_full_rank_it_is_the_nearest_matrix_of_that_rank(make_bert):
    model = make_bert()
    low = factorise_embeddings(model, 5)
    words, into = low.get_word_matrix()
    matrix = model.get_input_embeddings().weight.detach().double()
    values = torch.linalg.svdvals(matrix)
    error = (matrix - (words.double() @ into.double())).norm()
    torch.testing.assert_close(error, values[5:].norm(), rtol=1e-4, atol=0)
    vocabulary = len(matrix)
    before, after = count_parameters(model), count_parameters(low)
    assert after[0] == before[0] - vocabulary * (16 - 5) + 5 * 16
    assert after[1] == before[1] + 5 * 16  # the projection is no table


@pytest.mark.parametrize("kind", ["bilstm", "cnn"])
def test_a_bilstm_or_cnn_stays_one_and_is_exact_at_full_rank(request, kind, tokenizer, tmp_path):
    student = request.getfixturevalue(kind)
    full = factorise_embeddings(student, 12)
    torch.testing.assert_close(answer(full, tokenizer), answer(student, tokenizer), rtol=0, atol=1e-5)
    low = factorise_embeddings(student, 4)
    assert type(low) is type(student) and low.config.embedding_size == 4
    low.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(answer(loaded, tokenizer), answer(low, tokenizer))
    assert not torch.allclose(answer(low, tokenizer), answer(student, tokenizer), atol=1e-4)


def test_factorised_models_can_be_cut_further_in_any_order(make_bert, tokenizer):
    heads, units = [torch.tensor([1])] * 2, [torch.arange(20)] * 2
    one = prune_units(prune_heads(factorise_embeddings(make_bert(), 6), heads), units)
    other = factorise_embeddings(prune_heads(prune_units(make_bert(), units), heads), 6)
    assert one.config.head_size == other.config.head_size == 8 and one.config.intermediate_size == 20
    torch.testing.assert_close(answer(one, tokenizer), answer(other, tokenizer))
    again = factorise_embeddings(factorise_embeddings(make_bert(), 9), 6)
    once = factorise_embeddings(make_bert(), 6)
    torch.testing.assert_close(answer(again, tokenizer), answer(once, tokenizer), rtol=0, atol=1e-5)


def test_given_embeddings_are_projected_too(make_bert, tokenizer):
    model = factorise_embeddings(make_bert(), 6).eval()
    encoded = tokenizer(TEXTS, padding=True, return_tensors="pt")
    narrow = model.get_input_embeddings()(encoded.pop("input_ids"))
    assert torch.equal(model(inputs_embeds=narrow, **encoded).logits, answer(model, tokenizer))


def test_every_weight_of_a_compact_bert_gets_a_gradient(tokenizer):
    shape = {"hidden_size": 16, "num_attention_heads": 3, "intermediate_size": 8, "num_hidden_layers": 2}
    config = CompactBertConfig(vocab_size=len(tokenizer), head_size=4, embedding_size=6, **shape)
    model = CompactBertForSequenceClassification(config)
    model(
        **tokenizer(TEXTS, padding=True, return_tensors="pt"), labels=torch.tensor([0, 1, 0])
    ).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.parametrize("rank", [0, 17, -1])
def test_a_rank_out_of_range_is_refused(make_bert, rank):
    with pytest.raises(InputError, match=f"rank of --factorise-embeddings is {rank}; .* from 1 to 16"):
        factorise_embeddings(make_bert(), rank)


def test_kinds_that_have_no_such_form_are_refused(tokenizer):
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 1}
    electra = ElectraForSequenceClassification(ElectraConfig(vocab_size=20, embedding_size=8, **shape))
    with pytest.raises(InputError, match="--factorise-embeddings works with .*a electra"):
        factorise_embeddings(electra, 4)
    for make in (build_bilstm, build_cnn):
        two = make(tokenizer, ("bad", "good"), embedding_size=8, embedding_channels=2)
        with pytest.raises(InputError, match="frozen channel of a BiLSTM or CNN"):
            factorise_embeddings(two, 4)


@pytest.mark.parametrize("sizes", [{"head_size": 0}, {"embedding_size": 0}, {"num_attention_heads": 5}])
def test_sizes_that_make_no_model_are_refused(sizes):
    with pytest.raises(InputError, match="must be at least 1|need a head_size"):
        CompactBertConfig(**{"hidden_size": 16, "num_attention_heads": 4} | sizes)
