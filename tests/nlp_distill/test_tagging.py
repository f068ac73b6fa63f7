"""Taggers: tokens as rows, sentences and their tags, scores by hand, the pipeline, and the exported model."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForTokenClassification,
    ElectraConfig,
    ElectraForTokenClassification,
    RobertaConfig,
    RobertaForTokenClassification,
    RobertaTokenizer,
    TrainingArguments,
    pipeline,
)
from transformers.modeling_outputs import TokenClassifierOutput

from data_augment.errors import InputError
from nlp_distill import DistillationTrainer
from nlp_distill.batching import DistillationCollator
from nlp_distill.objectives import HardLabels, Hints, LogitRegression, OverTokens, SoftTargets
from nlp_distill.objectives.hard_labels import hard_label_loss
from nlp_distill.pipelines.tagged_data import count_leaks, load_tagged_data
from nlp_distill.students import Shape, student_from_teacher
from nlp_distill.tagging import (
    Sentence,
    count_cut_words,
    encode_sentences,
    find_spans,
    predict_tags,
    read_gold,
    read_sentences,
    score_tags,
)
from nlp_distill.teachers import Teacher

TAGS = ("O", "B-FILM", "I-FILM", "B-WORD")
NAMES = {"id2label": dict(enumerate(TAGS)), "label2id": {tag: i for i, tag in enumerate(TAGS)}}
TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_tagger(tokenizer, kind="bert", seed=0, **changes):
    torch.manual_seed(seed)
    size = {"vocab_size": len(tokenizer), "pad_token_id": 0, "initializer_range": 0.2, **NAMES}
    if kind == "distilbert":
        shape = {"dim": 16, "hidden_dim": 32, "n_heads": 2, "n_layers": 2}
        return DistilBertForTokenClassification(DistilBertConfig(**shape, **size))
    if kind == "electra":
        return ElectraForTokenClassification(ElectraConfig(embedding_size=16, **TINY, **size))
    return BertForTokenClassification(BertConfig(max_position_embeddings=64, **(TINY | changes), **size))


def make_sentences(count, seed=0):
    """``good`` and ``bad`` begin a FILM, ``film`` after them continues it, ``it`` is a WORD, all else is outside."""
    random, sentences = np.random.default_rng(seed), []
    for _ in range(count):
        words = random.choice(
            ["good", "bad", "film", "it", "was", "plot"], size=random.integers(2, 9)
        ).tolist()
        tags, before = [], "O"
        for word in words:
            begins = {"good": "B-FILM", "bad": "B-FILM", "it": "B-WORD"}.get(word, "O")
            before = "I-FILM" if word == "film" and before.endswith("FILM") else begins
            tags.append(before)
        sentences.append(Sentence(tuple(words), tuple(tags)))
    return sentences


def write_columns(path, sentences):
    blocks = ["\n".join(f"{w} NN {t}" for w, t in zip(s.words, s.tags, strict=True)) for s in sentences]
    path.write_text("-DOCSTART- -X- O\n\n" + "\n\n".join(blocks) + "\n")
    return path


# ---- objectives ------------------------------------------------------------------------------------------------------


def test_tokens_that_count_are_rows_of_the_objective():
    student, teacher = draw(2, 4, 3), draw(2, 4, 3, seed=1)
    mask = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0]])
    labels = torch.tensor([[-100, 2, -100, -100], [-100, 0, -100, -100]])
    batch = {"attention_mask": torch.ones(2, 4), "token_mask": mask, "labels": labels}
    objective = OverTokens(SoftTargets(2.0) + HardLabels(0.5) + LogitRegression())
    sides = TokenClassifierOutput(logits=student), TokenClassifierOutput(logits=teacher)
    found = objective(*sides, batch, 0.0)
    places = [(0, 1), (0, 2), (1, 1)]
    soft = squares = 0.0
    for place in places:
        p, q = torch.softmax(student[place] / 2, -1), torch.softmax(teacher[place] / 2, -1)
        soft += 4 * (q * (q / p).log()).sum() / 3
        squares += (student[place] - teacher[place]).square().sum() / 3
    hard = -(torch.log_softmax(student[0, 1], -1)[2] + torch.log_softmax(student[1, 1], -1)[0]) / 2
    torch.testing.assert_close(found["soft_targets"], soft)
    torch.testing.assert_close(found["logit_regression"], squares)
    torch.testing.assert_close(found["hard_labels"], 0.5 * hard)
    torch.testing.assert_close(hard_label_loss(student, labels), hard)  # as evaluation computes it


def test_several_teachers_and_all_real_tokens_where_no_mask_says_which():
    student, teachers = draw(1, 3, 2), draw(1, 2, 3, 2, seed=1)
    batch = {"attention_mask": torch.tensor([[1, 1, 0]])}
    found = OverTokens(SoftTargets())(
        TokenClassifierOutput(logits=student), TokenClassifierOutput(logits=teachers), batch, 0.0
    )["soft_targets"]
    expected = 0.0
    for place in (0, 1):
        q = torch.softmax(teachers[0, :, place], -1).mean(0)
        expected += (q * (q / torch.softmax(student[0, place], -1)).log()).sum() / 2
    torch.testing.assert_close(found, expected)


def test_padding_has_no_gradient():
    student = draw(2, 4, 3).requires_grad_()
    batch = {"attention_mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])}
    outputs = TokenClassifierOutput(logits=student), TokenClassifierOutput(logits=draw(2, 4, 3, seed=1))
    sum(OverTokens(SoftTargets() + LogitRegression())(*outputs, batch, 0.0).values()).backward()
    assert (student.grad.abs().sum(-1) > 0).equal(batch["attention_mask"].bool())


def test_a_batch_in_which_no_token_counts_teaches_nothing():
    student = draw(1, 3, 2).requires_grad_()
    batch = {
        "attention_mask": torch.ones(1, 3),
        "token_mask": torch.zeros(1, 3),
        "labels": torch.full((1, 3), -100),
    }
    objective = OverTokens(SoftTargets() + LogitRegression() + HardLabels())
    outputs = TokenClassifierOutput(logits=student), TokenClassifierOutput(logits=draw(1, 3, 2, seed=1))
    terms = objective(*outputs, batch, 0.0)
    assert {name: value.item() for name, value in terms.items()} == {
        "soft_targets": 0.0,
        "logit_regression": 0.0,
        "hard_labels": 0.0,
    }
    sum(terms.values()).backward()
    assert not student.grad.any()


def test_a_teacher_of_other_tokens_is_refused():
    sides = TokenClassifierOutput(logits=draw(1, 3, 2)), TokenClassifierOutput(logits=draw(1, 5, 2))
    with pytest.raises(ValueError, match="give both one tokenizer, and the teacher in the loop"):
        OverTokens(SoftTargets())(*sides, {"attention_mask": torch.ones(1, 3)}, 0.0)


def test_rows_without_labels_stand_among_rows_of_tokens(tokenizer):
    rows = [{"input_ids": [5, 6], "labels": None}, {"input_ids": [5, 6, 7], "labels": [-100, 1, 2]}]
    for order in (rows, rows[::-1]):
        batch = DistillationCollator(tokenizer)(order)
        assert sorted(batch["labels"].tolist()) == [[-100, -100, -100], [-100, 1, 2]]
    assert rows[0]["labels"] is None


@pytest.mark.parametrize("objective", [SoftTargets(), LogitRegression()])
def test_objectives_over_texts_refuse_tokens_and_say_what_to_do(objective):
    outputs = TokenClassifierOutput(logits=draw(2, 4, 3))
    with pytest.raises(ValueError, match=r"put the objective in OverTokens\(...\)"):
        objective(outputs, outputs, {}, 0.0)


def test_an_objective_over_states_is_added_beside(make_bert):
    config = make_bert().config
    with pytest.raises(ValueError, match="Hints reads hidden_states, which OverTokens does not pass on"):
        OverTokens(Hints(config, config))
    assert (OverTokens(SoftTargets()) + Hints(config, config)).needs == {"hidden_states"}


# ---- sentences -------------------------------------------------------------------------------------------------------


def test_both_formats_hold_the_same_sentences(tmp_path):
    sentences = make_sentences(5)
    columns = write_columns(tmp_path / "a.conll", sentences)
    lines = [json.dumps({"tokens": s.words, "tags": s.tags}) for s in sentences]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n\n")
    assert read_sentences(columns) == read_sentences(tmp_path / "a.jsonl") == sentences


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.conll", "EU B-ORG\nrejects\n", "line 2 of .* has a word and no tag: 'rejects'"),
        (
            "a.conll",
            "EU NNP B-ORG\nrejects O\n",
            "line 2 of .* has 2 columns and the lines before it 3: 'rejects O'",
        ),
        ("a.conll", "a O\nNew York B-LOC\n", "line 2 of .* has 3 columns and the lines before it 2"),
        ("a.conll", "EU\tB-ORG\n\tO\n", "line 2 of .* has a tag and no word: 'O'"),
        ("a.conll", "EU\tNNP\tO\nx\tNNP\t\n", "line 2 of .* has 2 columns and the lines before it 3"),
        ("a.conll", "\n\n", "has no sentences"),
        ("a.jsonl", '{"tokens": ["EU"]}\n', "line 1 of .* is no JSON object with tokens and tags"),
        ("a.jsonl", "[1]\n", "line 1 of .* is no JSON object with tokens and tags"),
        ("a.jsonl", '{"tokens": ["EU", "x"], "tags": ["O"]}\n', "line 1 of .* has 2 tokens and 1 tags"),
        ("a.jsonl", '{"tokens": "EU", "tags": "OO"}\n', "tokens and tags are lists of strings"),
    ],
)
def test_what_is_no_tagged_sentence_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said):
        read_sentences(tmp_path / name)


def test_words_may_hold_spaces_between_tabs_and_other_white_space_anywhere(tmp_path):
    (tmp_path / "a.conll").write_text("New York \tB-LOC\t\n10\u00a0000\tO\n \n-DOCSTART-\n\nx\tO\n")
    assert read_sentences(tmp_path / "a.conll") == [
        Sentence(("New York", "10\u00a0000"), ("B-LOC", "O")),
        Sentence(("x",), ("O",)),
    ]
    (tmp_path / "b.conll").write_text("10\u00a0000  NN O\n")
    assert read_sentences(tmp_path / "b.conll") == [Sentence(("10\u00a0000",), ("O",))]


def test_a_missing_file_and_other_encodings_are_named(tmp_path):
    with pytest.raises(InputError, match="cannot read .*: No such file"):
        read_sentences(tmp_path / "nowhere")
    (tmp_path / "a.conll").write_bytes("é O\n".encode("utf-16"))
    with pytest.raises(InputError, match="it is no UTF-8 text"):
        read_sentences(tmp_path / "a.conll")


def test_the_first_piece_of_a_word_has_its_tag(tokenizer):
    sentences = [Sentence(("good", "xyz", "film"), ("B-FILM", "O", "B-WORD")), Sentence(("it", "was"))]
    rows = encode_sentences(sentences, tokenizer, TAGS, 32)
    pieces = tokenizer.convert_ids_to_tokens(rows[0]["input_ids"])
    assert pieces == ["[CLS]", "good", "x", "##y", "##z", "film", "[SEP]"]
    assert rows[0]["token_mask"].tolist() == [0, 1, 1, 0, 0, 1, 0]
    assert rows[0]["labels"].tolist() == [-100, 1, 0, -100, -100, 3, -100]
    assert rows[1]["token_mask"].tolist() == [0, 1, 1, 0] and set(rows[1]["labels"]) == {-100}
    batch = DistillationCollator(tokenizer)([rows[0], rows[1]])
    assert batch["labels"][1].tolist() == [-100] * 7 and batch["token_mask"][1].tolist() == [
        0,
        1,
        1,
        0,
        0,
        0,
        0,
    ]
    assert [tags.tolist() for tags in read_gold(rows)] == [[1, 0, 3], [-100, -100]]
    assert count_cut_words(sentences, encode_sentences(sentences, tokenizer, TAGS, 5)) == 1


def test_tags_and_tokenizers_that_do_not_fit_are_named(tokenizer):
    sentences = [Sentence(("a",), ("O",)), Sentence(("a", "plot"), ("O", "B-X"))]
    said = r"sentence 2 \('a plot'\): the tag 'B-X' is none of the model's: O, B-FILM"
    with pytest.raises(InputError, match=said):
        encode_sentences(sentences, tokenizer, TAGS, 32)
    with pytest.raises(InputError, match="object is no fast tokenizer"):
        encode_sentences([Sentence(("a",), ("O",))], object(), TAGS, 32)


# ---- scores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O", []),
        ("B-A I-A O B-A", [(0, 2, "A"), (3, 4, "A")]),
        ("B-A B-A", [(0, 1, "A"), (1, 2, "A")]),
        ("B-A I-B I-B", [(0, 1, "A"), (1, 3, "B")]),  # another kind begins a span
        ("I-A I-A O I-A", [(0, 2, "A"), (3, 4, "A")]),  # as conlleval reads it
        ("B-NEW-YORK I-NEW-YORK", [(0, 2, "NEW-YORK")]),
    ],
)
def test_spans_by_hand(tags, spans):
    assert find_spans(tags.split()) == set(spans)


def test_scores_by_hand():
    """Gold has spans (0,2) and (3,4); found are (0,1) and (3,4): 1 right of 2 and 2, F1 1/2; 4 of 5 words are right."""
    gold, found = [[1, 2, 0, 1], [0]], [[1, 0, 0, 1], [0]]
    assert score_tags(gold, found, TAGS) == {"span_f1": 0.5, "token_accuracy": 0.8}
    assert score_tags([[0, 1]], [[1, 1]], ("NN", "VB")) == {"token_accuracy": 0.5}
    assert score_tags([[0]], [[0]], TAGS)["span_f1"] == 0.0


@pytest.mark.parametrize("other", ["E-FILM", "S-FILM", "L-FILM", "U-FILM", "M-FILM"])
def test_tags_that_mark_ends_have_no_span_f1(other):
    assert score_tags([[1, 0]], [[1, 0]], ("O", "B-FILM", "I-FILM", other)) == {"token_accuracy": 1.0}


def test_tags_are_found_in_halves_of_a_batch_for_which_there_is_no_memory(tokenizer, monkeypatch):
    model, sentences = make_tagger(tokenizer), make_sentences(40)
    rows = encode_sentences(sentences, tokenizer, TAGS, 32)
    whole = predict_tags(model, tokenizer, rows)
    original, sizes = Teacher.run, []

    def run(self, inputs, *arguments):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, inputs, *arguments)

    monkeypatch.setattr(Teacher, "run", run)
    halved = predict_tags(model, tokenizer, rows)
    assert max(sizes) > 6 and sum(size for size in sizes if size <= 6) == 40
    assert [found.tolist() for found in halved] == [found.tolist() for found in whole]


# ---- students and training -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "distilbert", "electra"])
def test_a_student_is_cut_from_a_tagger_and_learns_its_tags(kind, tokenizer, tmp_path):
    teacher = make_tagger(tokenizer, kind, seed=1).eval()
    student = student_from_teacher(teacher, Shape(layers=1, hidden=8, heads=2, ffn=16))
    assert type(student) is type(teacher) and student.config.id2label == teacher.config.id2label
    sentences = [Sentence(s.words) for s in make_sentences(48)]
    rows = encode_sentences(sentences, tokenizer, TAGS, 32)

    def agree():
        sides = [np.concatenate(predict_tags(model, tokenizer, rows)) for model in (student, teacher)]
        student.requires_grad_(True)
        return (sides[0] == sides[1]).mean()

    before = agree()
    trainer = DistillationTrainer(
        model=student,
        teacher=teacher,
        objective=OverTokens(SoftTargets()),
        train_dataset=rows,
        processing_class=tokenizer,
        args=TrainingArguments(
            str(tmp_path),
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            num_train_epochs=20,
            per_device_train_batch_size=8,
            learning_rate=1e-2,
            save_strategy="no",
        ),
    )
    trainer.train()
    assert agree() > max(before, 0.75)


def test_texts_of_as_many_words_make_the_same_step_whole_and_accumulated(tokenizer, tmp_path):
    """Means run over the tokens of a micro-batch: with other numbers of words the steps would differ."""
    sentences = [s for s in make_sentences(60) if len(s.words) == 4][:4]
    teacher, after = make_tagger(tokenizer, seed=1), []
    for batch, accumulation in ((4, 1), (2, 2), (1, 4)):
        student = make_tagger(tokenizer, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        before = torch.cat([weight.detach().flatten().clone() for weight in student.parameters()])
        trainer = DistillationTrainer(
            model=student,
            teacher=teacher,
            objective=OverTokens(SoftTargets(2.0) + HardLabels()),
            train_dataset=encode_sentences(sentences, tokenizer, TAGS, 32),
            processing_class=tokenizer,
            args=TrainingArguments(
                str(tmp_path / str(batch)),
                use_cpu=True,
                report_to="none",
                disable_tqdm=True,
                max_steps=1,
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulation,
                learning_rate=0.1,
                lr_scheduler_type="constant",
                optim="sgd",
                max_grad_norm=0,
                save_strategy="no",
            ),
        )
        trainer.train()
        after.append(torch.cat([weight.detach().flatten() for weight in student.parameters()]))
    assert not torch.equal(before, after[0])
    for accumulated in after[1:]:
        torch.testing.assert_close(accumulated, after[0], rtol=1e-4, atol=1e-6)


def test_answers_that_are_no_numbers_are_refused(tokenizer):
    model = make_tagger(tokenizer)
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    rows = encode_sentences(make_sentences(2), tokenizer, TAGS, 32)
    with pytest.raises(InputError, match="answers with NaN or infinity"):
        predict_tags(model, tokenizer, rows)


def test_sentences_that_are_held_out_are_counted():
    held_out = [Sentence(("It", "was", "good", "!"))]
    assert count_leaks([Sentence(("it", "was", "good")), Sentence(("it", "was"))], held_out) == 1


@pytest.fixture(scope="module")
def tagger_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagged")
    for seed, (split, count) in enumerate({"train": 60, "validation": 16, "test": 16}.items()):
        write_columns(folder / f"{split}.conll", make_sentences(count, seed))
    (folder / "raw.txt").write_text("it was good film\n\nbad plot\n")
    return folder


@pytest.fixture(scope="module")
def tagger_folder(tagger_files, encoder_folder, tmp_path_factory):
    """A tagger that knows the tags: trained by the library on the same rows."""
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    folder = tmp_path_factory.mktemp("tagger")
    model = make_tagger(tokenizer)
    trainer = DistillationTrainer(
        model=model,
        objective=OverTokens(HardLabels()),
        train_dataset=encode_sentences(read_sentences(tagger_files / "train.conll"), tokenizer, TAGS, 32),
        processing_class=tokenizer,
        args=TrainingArguments(
            str(folder / "checkpoints"),
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            num_train_epochs=40,
            per_device_train_batch_size=16,
            learning_rate=1e-2,
            save_strategy="no",
        ),
    )
    trainer.train()
    trainer.save_model(str(folder / "model"))
    return folder / "model"


@pytest.fixture(scope="module")
def distilled(run_cli, tagger_files, tagger_folder, tmp_path_factory):
    """``distilled(*more)`` runs the command into one folder and returns (exit code, folder)."""
    output = tmp_path_factory.mktemp("runs") / "out"

    def run(*more, output=output):
        files = [
            part
            for s in ("train", "validation", "test")
            for part in (f"--{s}-file", tagger_files / f"{s}.conll")
        ]
        shape = ["--layers", 1, "--hidden-size", 8, "--ffn-size", 16, "--max-length", 32]
        training = ["--num-train-epochs", 8, "--learning-rate", "1e-2", "--per-device-train-batch-size", 8]
        given = [
            "distill",
            "tagger",
            "--teacher",
            tagger_folder,
            "--output",
            output,
            *files,
            *shape,
            *training,
        ]
        return run_cli(*given, *more), output

    return run


def test_the_command_shows_teacher_student_and_the_student_without_it(distilled, tagger_files, capsys):
    code, output = distilled("--unlabelled-file", tagger_files / "raw.txt", "--task", "films")
    printed = capsys.readouterr().out
    assert code == 0 and "span_f1" in printed and "student, without the teacher" in printed
    results = json.loads((output / "results.json").read_text())
    assert results["task"] == "films" and results["metric"] == "span_f1"
    assert list(results["models"]) == ["teacher", "student_without_teacher", "student"]
    teacher, student = results["models"]["teacher"], results["models"]["student"]
    assert teacher["score"] > 0.7 and student["score"] > 0.6 and student["agreement"] > 0.75
    assert student["parameters"] < teacher["parameters"]
    assert results["data"]["unlabelled"]["rows"] == 2 and results["transfer_set"]["rows"] == 62
    card = (output / "student-seed0" / "README.md").read_text()
    assert "pipeline_tag: token-classification\n" in card and 'pipeline("token-classification"' in card
    found = pipeline("token-classification", str(output / "student-seed0"))("it was good")
    assert [entry["word"] for entry in found if entry["entity"] != "O"]
    assert distilled("--unlabelled-file", tagger_files / "raw.txt", "--task", "films")[0] == 0
    assert capsys.readouterr().err.count("reusing") == 3
    assert distilled()[0] == 2  # the same folder without the raw text
    assert "unlabelled" in capsys.readouterr().err


COMMAND = """
import json, sys

from nlp_distill.cli import main

if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
"""


def test_two_processes_distil_a_tagger_as_one_does(
    run_cli, launch_two_processes, tagger_files, tagger_folder, tmp_path
):
    """As one with accumulation does: the mean over the words of a batch is the same there."""
    (tmp_path / "run.py").write_text(COMMAND)
    teacher = AutoModelForTokenClassification.from_pretrained(tagger_folder)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):  # its masks differ between processes
        setattr(teacher.config, name, 0.0)
    teacher.save_pretrained(tmp_path / "teacher")
    AutoTokenizer.from_pretrained(tagger_folder).save_pretrained(tmp_path / "teacher")
    files = [
        part for s in ("train", "validation", "test") for part in (f"--{s}-file", tagger_files / f"{s}.conll")
    ]

    def list_command(output, accumulation):
        shape = ["--layers", 1, "--max-length", 32]
        training = ["--num-train-epochs", 2, "--learning-rate", "1e-2", "--per-device-train-batch-size", 6]
        training += ["--gradient-accumulation-steps", accumulation]
        given = ["--teacher", tmp_path / "teacher", "--output", output, *files, *shape, *training]
        return [str(part) for part in ["distill", "tagger", *given]]

    assert run_cli(*list_command(tmp_path / "one", 2)) == 0
    launch_two_processes(tmp_path / "run.py", json.dumps(list_command(tmp_path / "two", 1)))
    for arm in ("student", "student_without_teacher"):
        found, expected = (
            AutoModelForTokenClassification.from_pretrained(tmp_path / name / f"{arm}-seed0").state_dict()
            for name in ("two", "one")
        )
        for name in expected:
            if not name.endswith("key.bias"):  # softmax cancels it: its gradient is rounding
                torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-3, msg=name)
    scores = [
        json.loads((tmp_path / name / "results.json").read_text())["models"]["student"]["score"]
        for name in ("one", "two")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.05)


def test_sentences_without_tags_are_lines_of_text_or_tokens_of_json(tagger_files, tmp_path):
    (tmp_path / "raw.txt").write_text("one two\x85three\u2028four\r\n\nfive\n", encoding="utf-8")
    (tmp_path / "raw.jsonl").write_text(
        '{"tokens": ["New York", "is"]}\n{"tokens": ["here"], "tags": ["O"]}\n'
    )
    read = {}
    for name in ("raw.txt", "raw.jsonl"):
        files = tagger_files / "train.conll", None, tagger_files / "test.conll"
        data = load_tagged_data("films", *files, tmp_path / name)
        read[name] = [sentence.words for sentence in data.unlabelled]
    assert read["raw.txt"] == [("one", "two", "three", "four"), ("five",)]
    assert read["raw.jsonl"] == [("New York", "is"), ("here",)]


def test_one_answer_to_all_and_held_out_sentences_are_warned_of(
    distilled, tagger_files, tagger_folder, tmp_path, capsys
):
    model = AutoModelForTokenClassification.from_pretrained(tagger_folder)
    model.classifier.bias.data[0] = 100.0  # and so has the student that is cut from it
    model.save_pretrained(tmp_path / "teacher")
    AutoTokenizer.from_pretrained(tagger_folder).save_pretrained(tmp_path / "teacher")
    words = read_sentences(tagger_files / "test.conll")[0].words
    (tmp_path / "raw.txt").write_text(" ".join(words).upper() + "\n")
    given = ["--teacher", tmp_path / "teacher", "--unlabelled-file", tmp_path / "raw.txt", "--no-baseline"]
    code, output = distilled(*given, "--learning-rate", "1e-9", output=tmp_path / "run")
    said = capsys.readouterr().err
    results = json.loads((output / "results.json").read_text())
    assert code == 0 and results["models"]["student"]["collapsed_to"] == "O"
    assert "WARNING: Student, distilled answers 'O' to every test row" in said
    assert "WARNING: the teacher scores 0.000 on validation" in said
    learnt = [*read_sentences(tagger_files / "train.conll"), Sentence(words)]
    held_out = [
        one for split in ("validation", "test") for one in read_sentences(tagger_files / f"{split}.conll")
    ]
    leaked = sum(sentence.words in {one.words for one in held_out} for sentence in learnt)
    assert results["transfer_set"]["leaked_rows"] == leaked >= 1
    assert f"{leaked} of 61 sentences that are learnt are in validation or test too" in said


def test_the_student_goes_to_the_hub_as_a_tagger(fake_hub, distilled, tmp_path):
    short = ["--no-baseline", "--num-train-epochs", 1, "--push-to-hub", "me/tags"]
    assert distilled(*short, output=tmp_path / "run")[0] == 0
    [(repo, files)] = fake_hub.uploads
    card = files["README.md"].decode()
    assert repo == "me/tags" and 'pipeline("token-classification", "me/tags")' in card
    assert not [name for name in files if "checkpoint" in name or name == "tags.npz"]


def test_wrong_input_of_the_command_is_one_line(distilled, tagger_files, teacher_folder, tmp_path, capsys):
    unknown = tmp_path / "unknown.conll"
    unknown.write_text("good B-NEW\n")
    cases = {
        ("--teacher", teacher_folder): "is no token classifier, as its config says",
        ("--layers", 9): "the student's layers is 9 but the teacher has 2",
        ("--soft-weight", 0): "give the first above 0",
        ("--temperature", 0): "temperature",
        ("--seeds", 1, 1): "each once",
        ("--train-file", tmp_path / "nowhere"): "cannot read",
        (
            "--validation-file",
            unknown,
        ): "validation: sentence 1 ('good'): the tag 'B-NEW' is none of the model's",
        ("--unlabelled-file", tmp_path / "nowhere"): "cannot read",
        ("--unlabelled-file", unknown): "give a .txt file, a sentence a line, or .jsonl with tokens",
        ("--max-length", 100): "reads at most 64 tokens",
    }
    for number, (options, said) in enumerate(cases.items()):
        assert distilled(*options, output=tmp_path / str(number))[0] == 2, options
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and said in error


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "--model"],
        ["benchmark", "--lengths", 8, "--repeats", 1, "--seconds", 0],
        ["distill", "bilstm", "--output", "{tmp}", "--teacher"],
    ],
)
def test_commands_for_texts_refuse_a_tagger(command, run_cli, tagger_folder, data_options, tmp_path, capsys):
    given = [str(part).replace("{tmp}", str(tmp_path / "out")) for part in command]
    data = [] if command[0] == "benchmark" else data_options
    assert run_cli(*given, tagger_folder, *data) == 2
    assert "is a tagger, which labels words and not texts" in capsys.readouterr().err


# ---- export ----------------------------------------------------------------------------------------------------------

TEXTS = ["it was good film", "bad film, it xyz was", "plot", ""]


@pytest.mark.parametrize(
    "options",
    [["--format", "onnx"], ["--quantize", "int8-dynamic"], ["--format", "exported-program"]],
    ids=str,
)
def test_an_exported_tagger_gives_the_same_tags(options, run_cli, tagger_folder, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    from nlp_distill.runtime import Classifier, Tagger

    output = tmp_path / "out"
    assert run_cli("export", tagger_folder, "--output", output, *options) == 0
    parity = json.loads((output / "parity.json").read_text())["parity"]
    quantised = "--quantize" in options
    # Processors without VNNI add products of int8 two by two in 16 bits, which saturates: less exact than elsewhere.
    processor = Path("/proc/cpuinfo")
    is_exact = not processor.exists() or "vnni" in processor.read_text()
    assert parity["rows"] == 100
    assert parity["max_abs_difference"] < ((2.0 if is_exact else 4.0) if quantised else 1e-4)
    assert parity["argmax_agreement"] > (0.95 if quantised else 0.9999)
    if "exported-program" in options:
        return
    tagger = Tagger(output)
    model = AutoModelForTokenClassification.from_pretrained(tagger_folder).eval()
    words = tagger(TEXTS)
    assert [[word["word"] for word in row] for row in words[:2]] == [
        TEXTS[0].split(),
        ["bad", "film", ",", "it", "xyz", "was"],
    ]
    assert words[3] == [] and all(TEXTS[1][w["start"] : w["end"]] == w["word"] for w in words[1])
    if not quantised:
        encoded = AutoTokenizer.from_pretrained(tagger_folder)(TEXTS[1], return_tensors="pt")
        answers = torch.softmax(model(**encoded).logits[0], -1)
        firsts = [1, 2, 3, 4, 5, 8]
        assert [word["label"] for word in words[1]] == [TAGS[int(answers[i].argmax())] for i in firsts]
        np.testing.assert_allclose(
            [w["score"] for w in words[1]], answers[firsts].max(-1).values.detach(), atol=1e-4
        )
    with pytest.raises(ValueError, match="holds a tagger, which labels words; open it with Tagger"):
        Classifier(output)
    with pytest.raises(TypeError, match="give a list of texts"):
        tagger("one text")
    with pytest.raises(TypeError, match="a text is a string"):
        tagger([("a", "b")])
    with pytest.raises(TypeError, match="a text is a string"):
        tagger([["a", 1]])
    # Words as the training's rows have them: those of the evaluation, punctuation inside and all.
    sentence = Sentence(("bad", "it,was", "film"))
    tokenizer = AutoTokenizer.from_pretrained(tagger_folder)
    [expected] = predict_tags(model, tokenizer, encode_sentences([sentence], tokenizer, TAGS, 32))
    split, whole = tagger([list(sentence.words), "bad it,was film"])
    assert [(word["word"], word["start"], word["end"]) for word in split] == [
        ("bad", 0, 3),
        ("it,was", 4, 10),
        ("film", 11, 15),
    ]
    assert len(whole) == 5
    if not quantised:
        assert [word["label"] for word in split] == [TAGS[tag] for tag in expected]
    code = (
        "import sys\nfor name in ('torch', 'transformers', 'nlp_distill'):\n    sys.modules[name] = None\n"
        "sys.argv = ['runtime.py', '.', 'it was good film']\n"
        "exec(compile(open('runtime.py').read(), 'runtime.py', 'exec'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=output, capture_output=True, text=True, check=True
    )
    assert [word["word"] for word in json.loads(done.stdout)] == TEXTS[0].split()


@pytest.mark.parametrize(
    ("command", "said"),
    [(["serve", "--port", 0], "can be served"), (["benchmark", "--lengths", 8], "can be measured")],
)
def test_an_exported_tagger_is_refused_where_texts_are_classified(
    command, said, run_cli, tagger_folder, tmp_path, capsys
):
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    assert run_cli("export", tagger_folder, "--output", tmp_path / "out") == 0
    assert run_cli(command[0], tmp_path / "out", *command[1:]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "holds a tagger, which labels words" in error and said in error


def make_roberta(folder):
    """A tiny RoBERTa tagger and its byte-level tokenizer, saved as one that was trained on whole texts."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet, "Ġg", "oo", "Ġgoo", "Ġgood"]
    tokenizer = RobertaTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)},
        merges=[("Ġ", "g"), ("o", "o"), ("Ġg", "oo"), ("Ġgoo", "d")],
        add_prefix_space=False,
    )
    torch.manual_seed(0)
    size = {"max_position_embeddings": 66, "type_vocab_size": 1, "initializer_range": 0.2}
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = RobertaConfig(vocab_size=len(tokenizer), **TINY, **size, **ids, **NAMES)
    RobertaForTokenClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_roberta_is_distilled_exported_and_tags_words_as_it_was_taught(distilled, run_cli, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    from nlp_distill.runtime import Tagger

    teacher, output = make_roberta(tmp_path / "roberta"), tmp_path / "run"
    assert distilled("--teacher", teacher, "--no-baseline", "--num-train-epochs", 1, output=output)[0] == 0
    student = output / "student-seed0"
    model = AutoModelForTokenClassification.from_pretrained(student).eval()
    assert type(model) is RobertaForTokenClassification and model.config.num_hidden_layers == 1
    assert run_cli("export", student, "--output", tmp_path / "out") == 0
    found = Tagger(tmp_path / "out")([" good  it \n was", "good it was"])
    assert [[word["word"] for word in row] for row in found] == [["good", "it", "was"]] * 2
    assert [(word["start"], word["end"]) for word in found[0]] == [(1, 5), (7, 9), (12, 15)]
    encoded = AutoTokenizer.from_pretrained(teacher, add_prefix_space=True)(
        ["good", "it", "was"], is_split_into_words=True, return_tensors="pt"
    )
    places = encoded.word_ids()
    answers = torch.softmax(model(**encoded).logits[0], -1)[[places.index(word) for word in range(3)]]
    assert [word["label"] for word in found[1]] == [TAGS[int(i)] for i in answers.argmax(-1)]
    np.testing.assert_allclose(
        [word["score"] for word in found[1]], answers.max(-1).values.detach(), atol=1e-4
    )


def test_a_classifier_is_no_tagger_and_a_tagger_reads_one_text(
    run_cli, teacher_folder, tagger_folder, tmp_path, capsys
):
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    from nlp_distill.runtime import Tagger

    assert run_cli("export", teacher_folder, "--output", tmp_path / "out") == 0
    with pytest.raises(ValueError, match="holds a classifier of whole texts; open it with Classifier"):
        Tagger(tmp_path / "out")
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b\nit,was\n")
    given = ["--sample-file", rows, "--text-column", "a", "--text-pair-column", "b"]
    assert run_cli("export", tagger_folder, "--output", tmp_path / "other", *given) == 2
    assert "is a tagger, which reads one text" in capsys.readouterr().err
