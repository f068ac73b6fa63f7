"""Data-free distillation (Lopes et al. 2017): the record, the search, and the way from a teacher to a student."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from data_augment.errors import InputError
from nlp_distill.activation_records import RIDGE, ActivationRecord, ActivationSums, Frame, Inverter
from nlp_distill.hashes import hash_file
from nlp_distill.models import load_classifier
from nlp_distill.pipelines import data_free
from nlp_distill.pipelines.data_free import Inversion, invert_record, record_activations
from nlp_distill.tasks import load_task


@pytest.fixture
def record():
    """Of two classes and two activations, by hand."""
    factors = np.array([[[2.0, 0.0], [1.0, 3.0]], [[1.0, 0.0], [0.0, 1.0]]], dtype=np.float32)
    means = np.array([[1.0, -1.0], [10.0, 20.0]], dtype=np.float32)
    return ActivationRecord(
        np.array([3, 1]), means, factors, np.array([0, 1, 3]), "0" * 64, ("negative", "positive")
    )


def test_means_and_covariances_are_those_of_numpy_whatever_the_batches():
    generator = np.random.default_rng(0)
    activations = generator.normal(3.0, 2.0, (200, 5)).astype(np.float32)
    classes = generator.integers(2, size=200)
    sums = ActivationSums(2, 5)
    for start in range(0, 200, 7):
        sums.add(activations[start : start + 7], classes[start : start + 7])
    means, factors = sums.summarise()
    assert sums.counts.tolist() == np.bincount(classes).tolist()
    for label in (0, 1):
        own = activations[classes == label]
        covariance = np.cov(own.T)
        ridge = RIDGE * np.trace(covariance) / 5 * np.eye(5)
        np.testing.assert_allclose(means[label], own.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(
            factors[label] @ factors[label].T, covariance + ridge, rtol=1e-4, atol=1e-5
        )


def test_activations_without_variance_have_a_factor_too():
    sums = ActivationSums(1, 3)
    sums.add(np.ones((4, 3), dtype=np.float32), np.zeros(4, dtype=int))
    means, factors = sums.summarise()
    assert np.isfinite(factors).all() and abs(factors).max() < 1e-5
    assert means.tolist() == [[1.0, 1.0, 1.0]]


def test_a_class_with_one_row_is_refused():
    sums = ActivationSums(2, 3)
    sums.add(np.zeros((3, 3), dtype=np.float32), np.array([0, 0, 1]))
    with pytest.raises(InputError, match=r"\[2, 1\] rows; the covariance of a class needs at least two"):
        sums.summarise()


def test_what_is_drawn_is_the_mean_and_the_factor_times_noise(record):
    drawn = record.draw(np.array([0, 1]), np.random.default_rng(5))
    noise = np.random.default_rng(5).standard_normal((2, 2), dtype=np.float32)
    by_hand = [
        [1.0 + 2.0 * noise[0, 0], -1.0 + noise[0, 0] + 3.0 * noise[0, 1]],
        [10.0 + noise[1, 0], 20.0 + noise[1, 1]],
    ]
    np.testing.assert_allclose(drawn, by_hand, rtol=1e-5)


def test_what_is_drawn_has_the_recorded_mean_and_covariance(record):
    drawn = record.draw(np.zeros(20_000, dtype=int), np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(axis=0), [1.0, -1.0], atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), [[4.0, 2.0], [2.0, 10.0]], atol=0.4)


def test_a_record_comes_back_as_it_was(record, tmp_path):
    record.save(tmp_path / "record.safetensors")
    read = ActivationRecord.load(tmp_path / "record.safetensors")
    for name in ("counts", "means", "factors", "lengths"):
        np.testing.assert_array_equal(getattr(read, name), getattr(record, name))
    assert (read.teacher, read.labels) == (record.teacher, record.labels)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"means": np.zeros((2, 3), dtype=np.float32)}, "shapes that do not go together"),
        ({"counts": np.array([1, 1, 1])}, "shapes that do not go together"),
        ({"counts": np.array([0, 0])}, "of no rows"),
        ({"lengths": np.array([0, -1, 3])}, "of no rows"),
    ],
)
def test_a_record_that_cannot_be_is_refused(record, changed, message, tmp_path):
    dataclasses.replace(record, **changed).save(tmp_path / "record.safetensors")
    with pytest.raises(InputError, match=message):
        ActivationRecord.load(tmp_path / "record.safetensors")


def test_only_pieces_that_are_words_are_taken(tokenizer):
    frame = Frame.of(tokenizer)
    taken = tokenizer.convert_ids_to_tokens(frame.pieces.tolist())
    assert (frame.before, frame.after) == ((tokenizer.cls_token_id,), (tokenizer.sep_token_id,))
    assert "good" in taken and "g" in taken
    assert not [piece for piece in taken if piece.startswith("##") or piece.startswith("[")]


def find_naively(inverter, teacher, wanted, ids, steps):
    """One row, as the module's head says it: a vector a piece, read as the nearest embedding, Adam written out."""
    words = teacher.get_input_embeddings().weight.detach()
    pieces = inverter.frame.pieces.tolist()
    vectors = [words[i].clone() for i in ids]
    averages = [(torch.zeros_like(v), torch.zeros_like(v)) for v in vectors]
    best, distances = None, []
    for step in range(1, steps + 2):
        nearest = [min(pieces, key=lambda i, v=v: float((words[i] - v).square().sum())) for v in vectors]
        read = [words[i].clone().requires_grad_() for i in nearest]
        row = [words[i] for i in inverter.frame.before] + read + [words[i] for i in inverter.frame.after]
        top = teacher.base_model(inputs_embeds=torch.stack(row)[None]).last_hidden_state[0, 0]
        distance = (top - wanted).square().mean()
        distances.append(distance.item())
        if best is None or distance.item() < best[0]:
            best = (distance.item(), nearest)
        for position, gradient in enumerate(torch.autograd.grad(distance, read)):
            first, second = averages[position]
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            averages[position] = (first, second)
            move = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
            vectors[position] = vectors[position] - inverter.step_size * move
    return best, distances[0]


def test_a_batch_of_rows_is_searched_as_each_row_alone_would_be(make_bert, tokenizer):
    teacher = make_bert().eval().requires_grad_(False)
    inverter = Inverter(teacher, Frame.of(tokenizer), tokenizer.pad_token_id, 6, 0.5)
    wanted = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    lengths = [5, 2, 4]
    rows, first, best = inverter.invert(wanted, lengths, np.random.default_rng(3))
    draws = np.random.default_rng(3)
    pieces = inverter.frame.pieces
    for row in range(3):
        start = pieces[draws.integers(len(pieces), size=lengths[row])].tolist()
        (distance, found), at_first = find_naively(inverter, teacher, wanted[row], start, 6)
        assert rows[row] == found
        assert float(best[row]) == pytest.approx(distance, rel=1e-4)
        assert float(first[row]) == pytest.approx(at_first, rel=1e-4)


def test_the_search_comes_nearer_and_says_how_near(make_bert, tokenizer):
    teacher = make_bert().eval().requires_grad_(False)
    frame = Frame.of(tokenizer)
    inverter = Inverter(teacher, frame, tokenizer.pad_token_id, 40, 0.5)
    texts = ["good film but dull plot", "very bad", "it was great"]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        wanted = teacher.base_model(**inputs).last_hidden_state[:, 0]
    rows, first, best = inverter.invert(wanted, [5, 2, 3], np.random.default_rng(0))
    assert (best <= first).all() and best.mean() < 0.5 * first.mean()
    for row, said in zip(rows, best.tolist(), strict=True):
        ids = torch.tensor([[*frame.before, *row, *frame.after]])
        with torch.no_grad():
            top = teacher.base_model(ids).last_hidden_state[0, 0]
        nearest = (wanted - top).square().mean(dim=-1).min().item()
        assert said == pytest.approx(nearest, rel=1e-3, abs=1e-6)


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("roberta", SMALL),
        ("electra", SMALL | {"embedding_size": 8}),
        ("distilbert", {"dim": 16, "n_heads": 2}),
    ],
)
def test_other_families_are_searched_too(kind, more, tokenizer):
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, initializer_range=0.2, **more
    )
    torch.manual_seed(0)
    teacher = AutoModelForSequenceClassification.from_config(config).eval().requires_grad_(False)
    frame = Frame.of(tokenizer)
    inverter = Inverter(teacher, frame, tokenizer.pad_token_id, 10, 1.0)
    wanted = 3 * torch.randn(2, 16)
    rows, first, best = inverter.invert(wanted, [4, 2], np.random.default_rng(0))
    assert (best < first).all()
    for row, goal, said in zip(rows, wanted, best.tolist(), strict=True):
        with torch.no_grad():
            ids = torch.tensor([[*frame.before, *row, *frame.after]])
            top = teacher.base_model(ids).last_hidden_state[0, 0]
        assert said == pytest.approx((goal - top).square().mean().item(), rel=1e-4)


@pytest.fixture(scope="module")
def task_data(own_files):
    return load_task("mine", train_file=own_files / "train.csv", text_column="text")


@pytest.fixture(scope="module")
def recorded(task_data, teacher_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded") / "record"
    record_activations(task_data, str(teacher_folder), folder, max_length=32)
    return folder / "record.safetensors"


def test_the_record_is_of_the_train_rows(recorded, task_data, teacher_folder):
    record = ActivationRecord.load(recorded)
    teacher, tokenizer = load_classifier(teacher_folder).eval(), AutoTokenizer.from_pretrained(teacher_folder)
    names = [task_data.task.labels[i] for i in task_data.train["label"]]
    tops, lengths = [], []
    for text in task_data.train["text"]:
        inputs = tokenizer(text, truncation=True, max_length=32, return_tensors="pt")
        with torch.no_grad():
            tops.append(teacher.base_model(**inputs).last_hidden_state[0, 0].numpy())
        lengths.append(inputs["input_ids"].shape[1] - 2)
    tops = np.stack(tops)
    for index, label in enumerate(record.labels):
        own = np.array([name == label for name in names])
        assert record.counts[index] == own.sum()
        np.testing.assert_allclose(record.means[index], tops[own].mean(axis=0), atol=1e-4)
    assert record.lengths.tolist() == np.bincount(lengths).tolist()


def test_texts_are_answered_by_the_teacher_and_a_student_learns_from_them(
    recorded, teacher_folder, run_cli, distill_arguments, tmp_path, capsys
):
    made = ("invert", "--record", recorded, "--teacher", teacher_folder, "--rows", 60, "--steps", 5)
    assert run_cli(*made, "--output", tmp_path / "texts") == 0
    assert "saved" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "texts/texts.jsonl").read_text().splitlines()]
    assert len(rows) == 60 and all(row["text"] for row in rows)
    teacher = load_classifier(teacher_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(teacher_folder)
    for row in rows[:10]:
        with torch.no_grad():
            logits = teacher(**tokenizer(row["text"], return_tensors="pt")).logits[0]
        assert row["label"] == teacher.config.id2label[int(logits.argmax())]
    texts = ("--train-file", tmp_path / "texts/texts.jsonl", "--text-column", "text")
    assert run_cli(*distill_arguments(tmp_path / "student", data=map(str, texts))) == 0
    assert (tmp_path / "student/student-seed0/model.safetensors").exists()


def test_a_search_that_was_stopped_goes_on_to_the_same_texts(recorded, teacher_folder, tmp_path, monkeypatch):
    config, found, calls = Inversion(rows=30, steps=2), Inverter.invert, []
    monkeypatch.setattr(data_free, "BATCH_TOKENS", 64)

    def count(self, *arguments):
        calls.append(1)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return found(self, *arguments)

    monkeypatch.setattr(Inverter, "invert", count)
    stop_at = None
    invert_record(config, recorded, str(teacher_folder), tmp_path / "whole")
    batches, stop_at = len(calls), len(calls) + 3
    with pytest.raises(KeyboardInterrupt):
        invert_record(config, recorded, str(teacher_folder), tmp_path / "parts")
    invert_record(config, recorded, str(teacher_folder), tmp_path / "parts")
    assert batches > 3 and len(calls) == 2 * batches + 1  # the one that was stopped is searched again
    assert hash_file(tmp_path / "whole/texts.jsonl") == hash_file(tmp_path / "parts/texts.jsonl")


def test_a_regression_is_one_class_and_its_texts_have_values(own_files, fine_tune, tmp_path):
    options = ("--label-column", "score", "--overwrite")
    assert fine_tune(tmp_path / "teacher", *options) == 0
    data = load_task("mine", train_file=own_files / "train.csv", text_column="text", label_column="score")
    made = record_activations(data, str(tmp_path / "teacher"), tmp_path / "record", max_length=32)
    assert ActivationRecord.load(made["path"]).means.shape == (1, 16)
    config = Inversion(rows=8, steps=2)
    texts = invert_record(config, made["path"], str(tmp_path / "teacher"), tmp_path / "texts")
    rows = [json.loads(line) for line in (tmp_path / "texts/texts.jsonl").read_text().splitlines()]
    assert "as_intended" not in texts
    assert all(isinstance(row["label"], float) and row["intended"] is None for row in rows)


def test_labels_in_another_order_are_counted_for_the_teachers_own(task_data, teacher_folder, tmp_path):
    teacher = load_classifier(teacher_folder)
    teacher.config.id2label = {0: "positive", 1: "negative"}
    teacher.config.label2id = {"positive": 0, "negative": 1}
    teacher.save_pretrained(tmp_path / "turned")
    AutoTokenizer.from_pretrained(teacher_folder).save_pretrained(tmp_path / "turned")
    made = record_activations(task_data, str(tmp_path / "turned"), tmp_path / "record", max_length=32)
    record = ActivationRecord.load(made["path"])
    names = [task_data.task.labels[i] for i in task_data.train["label"]]
    assert record.labels == ("positive", "negative")
    assert record.counts.tolist() == [names.count("positive"), names.count("negative")]


def test_wrong_input_is_told_in_one_line(recorded, task_data, teacher_folder, own_files, fine_tune, tmp_path):
    pairs = load_task(
        "mine", train_file=own_files / "train.csv", text_column="text", text_pair_column="second"
    )
    with pytest.raises(InputError, match="mine is a task of pairs"):
        record_activations(pairs, str(teacher_folder), tmp_path / "record")
    with pytest.raises(InputError, match="is no record of activations"):
        ActivationRecord.load(teacher_folder / "model.safetensors")
    with pytest.raises(InputError, match="is no record of activations"):
        ActivationRecord.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="rows is 0; it must be a whole number of at least 1"):
        Inversion(rows=0)
    assert fine_tune(tmp_path / "other", "--seed", 7) == 0
    with pytest.raises(InputError, match="is a record of another teacher than"):
        invert_record(Inversion(rows=2), recorded, str(tmp_path / "other"), tmp_path / "texts")
