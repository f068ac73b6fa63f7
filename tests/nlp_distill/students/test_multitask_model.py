"""The multi-task model: heads alone and together agree, it is saved whole, and gradients go where they should."""

import functools
import inspect

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from data_augment.errors import InputError
from nlp_distill.batching import DistillationCollator
from nlp_distill.encoding import encode_rows
from nlp_distill.students import (
    BiLSTMConfig,
    BiLSTMForSequenceClassification,
    CNNConfig,
    CNNForSequenceClassification,
    MultiTaskModel,
    SANForSequenceClassification,
    SANHead,
    TaskHead,
)

TASKS = [
    TaskHead("films", ("bad", "good")),
    TaskHead("entailment", ("no", "maybe", "yes"), is_pair=True),
    TaskHead("similarity", (), is_pair=True),
]
SAN = TaskHead("entailment", ("no", "maybe", "yes"), is_pair=True, head="san")
TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 2}


def build(kind, tokenizer):
    size = {"vocab_size": len(tokenizer), "pad_token_id": 0}
    torch.manual_seed(0)
    if kind == "roberta":
        return RobertaForSequenceClassification(RobertaConfig(type_vocab_size=2, **TINY, **size))
    if kind == "electra":
        return ElectraForSequenceClassification(ElectraConfig(embedding_size=8, **TINY, **size))
    if kind == "distilbert":
        return DistilBertForSequenceClassification(
            DistilBertConfig(dim=16, hidden_dim=16, n_heads=2, n_layers=2, **size)
        )
    if kind == "cnn":
        return CNNForSequenceClassification(CNNConfig(embedding_size=8, filters=4, **size))
    return BiLSTMForSequenceClassification(BiLSTMConfig(embedding_size=8, hidden_size=8, head_size=8, **size))


@pytest.fixture
def batch(make_rows, tokenizer):
    """Six rows: pairs throughout; a single-sentence head reads them as well."""
    rows = make_rows(6)
    pairs = [{**row, "second": row["text"][::-1]} for row in rows]
    encoded = encode_rows(pairs, tokenizer, ["text", "second"], 48)
    batch = DistillationCollator(tokenizer)([encoded[i] for i in range(6)])
    return {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}


@pytest.fixture(params=["bert", "roberta", "electra", "distilbert", "bilstm", "cnn", "bert with san"])
def model(request, make_bert, tokenizer):
    kind = request.param
    tasks = [TASKS[0], SAN, TASKS[2]] if "san" in kind else TASKS
    torch.manual_seed(1)
    source = make_bert(seed=3) if kind.startswith("bert") else build(kind, tokenizer)
    return MultiTaskModel.from_encoder(source, tasks).eval()


MIXED = torch.tensor([0, 1, 2, 1, 0, 2])


def test_a_head_gives_the_same_logits_alone_and_in_a_mixed_batch(model, batch):
    logits = model(**batch, task_ids=MIXED).logits
    assert logits.shape == (6, 3)
    for number, task in enumerate(model.tasks):
        rows = number == MIXED
        alone = model.for_task(task.name)
        known = inspect.signature(alone.forward).parameters
        accepted = {name: tensor[rows] for name, tensor in batch.items() if name in known}
        own = alone(**accepted).logits
        torch.testing.assert_close(logits[rows][:, : task.num_labels], own, rtol=1e-4, atol=1e-5)
        assert not logits[rows][:, task.num_labels :].any()


@pytest.mark.parametrize("kind", ["bilstm", "gpt2"])
def test_words_stay_with_their_rows_where_an_encoder_asks_for_others(kind, tokenizer):
    """The BiLSTM looks up rows sorted by length; GPT-2 looks up token types in the embedding of words as well."""
    config = GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=len(tokenizer), pad_token_id=0)
    source = build(kind, tokenizer) if kind == "bilstm" else GPT2ForSequenceClassification(config)
    model = MultiTaskModel.from_encoder(source, TASKS[:1]).eval()
    ids = torch.tensor([[5, 6, 0, 0], [7, 8, 9, 10], [11, 12, 13, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).long(), "token_type_ids": torch.zeros_like(ids)}
    alone = model.for_task("films")
    read = inspect.signature(alone.forward).parameters
    with torch.no_grad():
        expected = alone(**{name: value for name, value in inputs.items() if name in read}).logits
        found = model(task_ids=torch.zeros(3, dtype=torch.long), **inputs).logits
    torch.testing.assert_close(found, expected)


def test_it_is_saved_and_loaded_whole(model, batch, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, MultiTaskModel)
    assert loaded.config.list_heads() == model.tasks
    pairs = zip(loaded.state_dict().items(), model.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(own, kept) for (name, own), (other, kept) in pairs)
    torch.testing.assert_close(loaded(**batch, task_ids=MIXED).logits, model(**batch, task_ids=MIXED).logits)


def test_a_task_s_gradients_reach_its_own_head_and_the_trunk_only(model, batch):
    model.train()
    model(**batch, task_ids=torch.ones(6, dtype=torch.long)).logits.square().sum().backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith("trunk") for name in reached)
    assert {name.split(".")[1] for name in reached if name.startswith("heads")} == {"entailment"}
    own = {name for name, _ in model.named_parameters() if name.startswith("heads.entailment")}
    assert own <= reached


def test_words_are_looked_up_once_for_all_tasks_with_the_gradient_of_each_alone(model, batch):
    logits = model(**batch, task_ids=MIXED).logits
    words = model.get_input_embeddings().weight
    whole_rows = (
        len(model.trunk) == 1
    )  # a transformer; the BiLSTM and the CNN look up each text of a pair alone
    assert count_uses(logits.grad_fn, words) == (1 if whole_rows else 3)
    logits.square().sum().backward()
    together = words.grad.clone()
    assert together.any() and not model.get_input_embeddings()._forward_hooks
    words.grad = None
    for number in range(len(model.tasks)):  # one task a batch: the rows of others are left out
        rows = number == MIXED
        alone = {name: tensor[rows] for name, tensor in batch.items()}
        model(**alone, task_ids=MIXED[rows]).logits.square().sum().backward()
    torch.testing.assert_close(together, words.grad, rtol=1e-4, atol=1e-6)


def count_uses(node, weight) -> int:
    """How many operations of a graph send a gradient to a weight."""
    seen, found, waiting = set(), 0, [node]
    while waiting:
        node = waiting.pop()
        for following, _ in node.next_functions:
            found += following is not None and getattr(following, "variable", None) is weight
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return found


def test_every_parameter_is_counted_once_and_training_mode_reaches_the_heads(model):
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert len(names) == len({id(p) for _, p in model.named_parameters(remove_duplicate=False)})
    model.train()
    assert all(classifier.training for classifier in model._classifiers.values())
    model.eval()
    assert not any(module.training for c in model._classifiers.values() for module in c.modules())


def test_the_trunk_is_the_encoders_copy(make_bert):
    source = make_bert(seed=5)
    model = MultiTaskModel.from_encoder(source, TASKS)
    key = "embeddings.word_embeddings.weight"
    assert torch.equal(model.trunk["encoder"].state_dict()[key], source.bert.state_dict()[key])
    with torch.no_grad():
        model.trunk["encoder"].embeddings.word_embeddings.weight.zero_()
    assert source.bert.state_dict()[key].any()


def test_a_plain_task_is_a_plain_model_that_pipelines_take(make_bert, tokenizer, tmp_path):
    model = MultiTaskModel.from_encoder(make_bert(), TASKS).eval()
    single = model.for_task("films")
    single.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "BertForSequenceClassification"
    answer = pipeline("text-classification", model=loaded, tokenizer=tokenizer)("good film")
    assert answer[0]["label"] in ("bad", "good")


def test_a_san_task_loads_by_the_auto_class_and_pipelines_take_it(make_bert, tokenizer, tmp_path):
    model = MultiTaskModel.from_encoder(make_bert(), [SAN]).eval()
    model.for_task("entailment").save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert isinstance(loaded, SANForSequenceClassification)
    pipe = pipeline("text-classification", model=loaded, tokenizer=tokenizer)
    assert pipe({"text": "good film", "text_pair": "bad film"})["label"] in ("no", "maybe", "yes")
    with pytest.raises(InputError, match="token_type_ids with a second text"):
        loaded(**tokenizer(["good film"], return_tensors="pt"))


def test_some_tasks_can_be_taken_out_in_any_order(make_bert, batch):
    model = MultiTaskModel.from_encoder(make_bert(), [TASKS[0], SAN, TASKS[2]]).eval()
    picked = model.select(["similarity", "films"]).eval()
    assert [task.name for task in picked.tasks] == ["similarity", "films"]
    whole, part = (
        own(**batch, task_ids=torch.full((6,), number)).logits for own, number in ((model, 0), (picked, 1))
    )
    torch.testing.assert_close(whole[:, :2], part[:, :2])


def test_a_san_task_alone_of_an_encoder_without_a_pooler(batch):
    """A SAN head brings the whole encoder, pooler included, which a RoBERTa classifier does not have."""
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=80, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=66, type_vocab_size=2, pad_token_id=0,
    )  # fmt: skip
    model = MultiTaskModel.from_encoder(RobertaForSequenceClassification(config), [TASKS[0], SAN]).eval()
    picked = model.select([SAN.name]).eval()
    whole, part = (
        own(**batch, task_ids=torch.full((6,), number)).logits for own, number in ((model, 1), (picked, 0))
    )
    torch.testing.assert_close(whole[:, :2], part[:, :2])
    config.type_vocab_size = 1
    with pytest.raises(
        InputError, match="tells two texts apart by token types, of which a RobertaConfig has one"
    ):
        MultiTaskModel.from_encoder(RobertaForSequenceClassification(config), [SAN])


def test_heads_of_other_precisions_answer_in_one_batch(make_bert, batch, monkeypatch):
    """On a GPU in mixed precision a SAN head answers in float32 and a plain one in half."""
    model = MultiTaskModel.from_encoder(make_bert(), TASKS[:2]).eval()
    expected = model(**batch, task_ids=MIXED % 2).logits
    plain = model.get_classifier("films")
    forward = plain.forward

    @functools.wraps(forward)  # which inputs it takes is read off it
    def in_half(**inputs):
        outputs = forward(**inputs)
        outputs.logits = outputs.logits.half()
        return outputs

    monkeypatch.setattr(plain, "forward", in_half)
    found = model(**batch, task_ids=MIXED % 2).logits
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)


def test_a_checkpoint_in_half_precision_becomes_an_encoder_in_single(make_bert, tokenizer, tmp_path):
    make_bert().bfloat16().save_pretrained(tmp_path)
    model = MultiTaskModel.from_encoder(tmp_path, [TASKS[0], SAN])
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_activations_can_be_computed_again(make_bert, batch):
    """Memory for time: the same gradients."""
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)  # of the heads
        model = MultiTaskModel.from_encoder(make_bert(), TASKS[:2])
        if checkpointing:
            model.activation_checkpointing_enable()
        layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", None) is not None]
        assert layers and {layer.gradient_checkpointing for layer in layers} == {checkpointing}
        model(**batch, task_ids=torch.tensor([0, 1, 0, 1, 0, 1])).logits.square().sum().backward()
        found.append(
            {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        )
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        torch.testing.assert_close(found[1][name], found[0][name], msg=name)


def test_models_that_cannot_be_are_refused(make_bert, tokenizer):
    with pytest.raises(InputError, match="made for pairs of texts with classes"):
        TaskHead("films", ("a", "b"), head="san")
    with pytest.raises(InputError, match="give one of plain, san"):
        TaskHead("films", ("a", "b"), head="mlp")
    with pytest.raises(InputError, match="give one or more, each once"):
        MultiTaskModel.from_encoder(make_bert(), [TASKS[0], TASKS[0]])
    with pytest.raises(InputError, match="a BiLSTM has no SAN head"):
        MultiTaskModel.from_encoder(build("bilstm", tokenizer), [SAN])
    with pytest.raises(InputError, match="a CNN has no SAN head"):
        MultiTaskModel.from_encoder(build("cnn", tokenizer), [SAN])
    with pytest.raises(InputError, match="no task 'mnli'; it has films, entailment"):
        MultiTaskModel.from_encoder(make_bert(), TASKS).for_task("mnli")


# ---- SAN ------------------------------------------------------------------------------------------------------------


def naive_san(head, states, premise, hypothesis):
    """The equations of the module, a row and a turn at a time, without a word of its code."""
    probabilities = []
    for m, p_mask, h_mask in zip(states, premise, hypothesis, strict=True):
        premise_states, hypothesis_states = m[p_mask], m[h_mask]
        weights = torch.softmax(hypothesis_states @ head.start.weight[0], dim=0)
        s = (weights[:, None] * hypothesis_states).sum(dim=0)
        answers = []
        for _ in range(head.turns):
            weights = torch.softmax(premise_states @ (head.attention.weight @ s), dim=0)
            x = (weights[:, None] * premise_states).sum(dim=0)
            gates_x = head.cell.weight_ih @ x + head.cell.bias_ih
            gates_s = head.cell.weight_hh @ s + head.cell.bias_hh
            (rx, zx, nx), (rs, zs, ns) = gates_x.chunk(3), gates_s.chunk(3)
            r, z = torch.sigmoid(rx + rs), torch.sigmoid(zx + zs)
            s = (1 - z) * torch.tanh(nx + r * ns) + z * s
            features = torch.cat([s, x, (s - x).abs(), s * x])
            answers.append(torch.softmax(head.answer.weight @ features + head.answer.bias, dim=0))
        probabilities.append(torch.stack(answers).mean(dim=0))
    return torch.stack(probabilities)


@pytest.fixture
def head():
    torch.manual_seed(0)
    return SANHead(6, 3)


@pytest.fixture
def sides():
    """States of three rows, and which places are of the first and the second text; some of neither."""
    torch.manual_seed(1)
    premise = torch.tensor([[1, 1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0]]).bool()
    hypothesis = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0]]).bool()
    return 2 * torch.randn(3, 7, 6), premise, hypothesis


def test_san_equals_the_papers_equations(head, sides):
    head.eval()
    torch.testing.assert_close(head(*sides).softmax(dim=-1), naive_san(head, *sides))


def test_san_drops_turns_while_training_but_never_all(head, sides):
    head.train()
    head.dropout = 0.5
    kept = head._keep_turns(20_000, torch.device("cpu"))
    assert kept.any(dim=1).all()
    # A turn stays by its own chance, or because it is the spared one: 0.5 + 0.5 / 5.
    assert kept.float().mean().item() == pytest.approx(0.6, abs=0.01)
    head.dropout = 1.0  # only the spared turn is left
    states, premise, hypothesis = sides
    answers = torch.stack([head(states, premise, hypothesis).softmax(-1)[0] for _ in range(50)])
    head.eval()
    single = []
    for turn in range(1, head.turns + 1):
        head.turns = turn
        single.append(head(states, premise, hypothesis).softmax(-1)[0] * turn)
    head.turns = 5
    turns = torch.stack([single[0], *(b - a for a, b in zip(single, single[1:], strict=False))])
    distances = (answers[:, None] - turns[None]).abs().amax(dim=-1)
    assert (distances.amin(dim=1) < 1e-4).all() and len(set(distances.argmin(dim=1).tolist())) > 1
