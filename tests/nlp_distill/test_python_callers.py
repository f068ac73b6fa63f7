"""What only Python callers combine: other kinds of labels, own collators, half precision, copies of checkpoints."""

import shutil
import types
import warnings

import pytest
import torch
from transformers import BertModel, TrainingArguments
from transformers.modeling_outputs import ModelOutput

from data_augment.errors import InputError
from nlp_distill.batching import DistillationCollator
from nlp_distill.checkpoints import find_last_checkpoint, remove_checkpoints
from nlp_distill.encoding import encode_rows
from nlp_distill.losses import mean_of_tokens
from nlp_distill.objectives import (
    DistilBERT,
    Flow,
    HardLabels,
    Hints,
    OverTokens,
    PatientKD,
    RelationalKD,
    SoftTargets,
    TinyBERTLayers,
)
from nlp_distill.objectives.bam import annealed_loss
from nlp_distill.objectives.flow import flow_matrix
from nlp_distill.objectives.hard_labels import fit_labels, hard_label_loss
from nlp_distill.objectives.patient import take_first
from nlp_distill.objectives.similarity import similarity_loss
from nlp_distill.objectives.soft_targets import soft_target_loss
from nlp_distill.teachers import Teacher
from nlp_distill.trainer import DistillationTrainer

WIDE = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2}


@pytest.fixture
def rows(make_rows, tokenizer):
    return encode_rows(make_rows(12), tokenizer, ["text"], 48)


@pytest.fixture
def batch(rows, tokenizer):
    return DistillationCollator(tokenizer)([rows[i] for i in range(6)])


@pytest.fixture
def make_trainer(make_bert, rows, tokenizer, tmp_path):
    def make(**changes):
        own = {"model": make_bert(seed=2), "train_dataset": rows, "processing_class": tokenizer}
        settings = {"max_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "no"}
        settings |= changes.pop("settings", {})
        args = TrainingArguments(
            str(tmp_path / "run"),
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            logging_steps=1,
            **settings,
        )
        return DistillationTrainer(args=args, **own | changes)

    return make


# ---- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"problem_type": "multi_label_classification"},
        {"labels": (), "problem_type": "multi_label_classification"},  # one sigmoid logit, a cross-encoder's
        {"labels": ("x", "y", "z"), "problem_type": "regression"},
    ],
)
def test_outputs_that_are_neither_one_label_nor_one_value_are_refused_on_either_side(
    make_trainer, make_bert, config
):
    kind = f"problem_type='{config['problem_type']}'"
    with pytest.raises(InputError, match=f"the student's config says {kind}"):
        make_trainer(model=make_bert(**config))
    with pytest.raises(InputError, match=f"the teacher's config says {kind}"):
        make_trainer(teacher=make_bert(**config), objective=SoftTargets())
    DistillationTrainer(make_bert(labels=()), args=make_trainer().args)  # a regression of one value is fine


def test_labels_in_lists_of_one_are_the_labels(rows, tokenizer):
    collate = DistillationCollator(tokenizer)
    plain = [rows[i] for i in range(4)]
    listed = [{**row, "labels": [row["labels"]]} for row in plain]
    assert torch.equal(collate(listed)["labels"], collate(plain)["labels"])
    several = [{**row, "labels": [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]} for row in plain]
    with pytest.raises(InputError, match=r"a row has \d+ tokens and 7 labels; they are one a token, or one"):
        collate(several)


def test_large_whole_values_are_not_rounded_for_logits_in_half_precision():
    values = torch.tensor([1001, 70000, -100])
    for dtype in (torch.bfloat16, torch.float16):
        fitted = fit_labels(values, torch.zeros(3, 1, dtype=dtype))
        assert fitted[:2].tolist() == [1001, 70000] and fitted[2].isnan()
    assert hard_label_loss(torch.zeros(2, 1, dtype=torch.bfloat16), values[:1].repeat(2)) == 1001.0**2


# ---- what a trainer is made from -------------------------------------------------------------------------------------


def test_a_teacher_that_nobody_asks_is_warned_of(make_trainer, make_bert):
    with pytest.warns(UserWarning, match="the objective asks it nothing"):
        make_trainer(teacher=make_bert(seed=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make_trainer(teacher=make_bert(seed=1), objective=SoftTargets() + HardLabels())
        make_trainer()


def test_a_student_that_is_made_later_is_refused(make_trainer, make_bert):
    with pytest.raises(ValueError, match="model_init is not used here"):
        make_trainer(model_init=make_bert)


def test_compiled_models_are_taken_as_what_they_were_compiled_from(make_trainer, make_bert):
    student, teacher = make_bert(seed=2), make_bert(seed=1)
    trainer = make_trainer(
        model=torch.compile(student, backend="eager"),
        teacher=torch.compile(teacher, backend="eager"),
        objective=SoftTargets(),
    )
    assert trainer.student is student and trainer.teacher.models == [teacher]
    trainer.train()


def test_a_model_that_returns_tuples_is_told_how_to_return_names(make_trainer, make_bert):
    student = make_bert()
    student.config.return_dict = False
    with pytest.raises(InputError, match="set model.config.return_dict = True"):
        make_trainer(model=student).train()
    with pytest.raises(InputError, match="set model.config.return_dict = True"):
        make_trainer(model=student).evaluate(make_trainer().train_dataset)


def test_an_encoder_alone_learns_from_a_teacher_of_any_labels_and_has_nothing_to_score(
    make_trainer, make_bert, rows
):
    teacher = make_bert(seed=1, labels=("x", "y", "z"), **WIDE)
    encoder = BertModel(make_bert().config)
    layers = TinyBERTLayers(encoder.config, teacher.config)
    trainer = make_trainer(model=encoder, teacher=teacher, objective=layers)
    assert trainer.train().training_loss > 0
    with pytest.raises(InputError, match="a BertModel is an encoder without a head"):
        trainer.evaluate(rows)


def test_rows_that_do_not_fit_are_tried_in_smaller_batches_where_that_is_asked_for(make_trainer, make_bert):
    student, seen = make_bert(), []
    forward = student.forward

    def lack_memory(self, input_ids, attention_mask=None, token_type_ids=None, labels=None, **kwargs):
        seen.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)

    student.forward = types.MethodType(lack_memory, student)
    make_trainer(model=student, settings={"auto_find_batch_size": True}).train()
    assert seen[0] == 4 and seen[-1] <= 2


def test_kept_states_without_logits_do_not_stand_for_a_teacher_that_is_there(make_trainer, make_bert, batch):
    teacher = make_bert(seed=1, **WIDE)
    for objective, has_logits in ((HardLabels(), False), (SoftTargets(), True)):
        student = make_bert()
        layers = TinyBERTLayers(student.config, teacher.config, attention=0)
        trainer = make_trainer(model=student, teacher=teacher, objective=layers + objective)
        kept = {f"hidden_states.{layer}": torch.zeros(6, 48, 24) for layer in (0, 2, 4)}
        outputs = trainer._teacher_outputs({**batch, "teacher_states": kept})
        assert ("logits" in outputs) == has_logits


# ---- rows without a mask, padding on the left ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Hints, Flow, PatientKD, TinyBERTLayers, None])
def test_rows_of_one_length_need_no_mask(make_trainer, make_bert, make, tokenizer):
    blocks = [{"input_ids": [7, 8, 9, 10, 11, number + 5], "labels": number % 2} for number in range(8)]

    def collate(rows):
        return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}

    student, teacher = make_bert(), make_bert(seed=1, **WIDE)
    objective = RelationalKD() if make is None else make(student.config, teacher.config)
    losses = []
    for collator in (collate, DistillationCollator(tokenizer)):
        torch.manual_seed(0)
        trainer = make_trainer(
            model=make_bert(),
            teacher=teacher,
            objective=objective,
            train_dataset=blocks,
            data_collator=collator,
            settings={"max_steps": 1, "learning_rate": 0.0},
        )
        losses.append(trainer.train().training_loss)
    assert losses[0] == pytest.approx(losses[1]) and losses[0] > 0


def test_over_tokens_reads_its_own_mask_first():
    logits = ModelOutput(logits=torch.randn(2, 3, 2))
    batch = {
        "token_mask": torch.tensor([[1, 0, 0], [1, 1, 0]]),
        "labels": torch.zeros(2, 3, dtype=torch.long),
    }
    assert OverTokens(HardLabels())(logits, None, batch, 0.0)["hard_labels"] > 0


def test_the_first_state_is_that_of_the_first_real_token():
    states = torch.arange(12.0).reshape(2, 3, 2)
    left, right = torch.tensor([[0, 0, 1], [0, 1, 1]]), torch.tensor([[1, 0, 0], [1, 1, 0]])
    assert take_first(states, left).tolist() == [[4.0, 5.0], [8.0, 9.0]]
    assert take_first(states, right).tolist() == [[0.0, 1.0], [6.0, 7.0]]


# ---- half precision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Hints, Flow, PatientKD, TinyBERTLayers])
def test_students_in_half_precision_reach_their_projections(make_trainer, make_bert, make):
    student, teacher = make_bert(num_hidden_layers=3).bfloat16(), make_bert(seed=1, **WIDE)
    objective = make(student.config, teacher.config)
    assert any(parameter.dtype == torch.float32 for parameter in objective.parameters())
    make_trainer(model=student, teacher=teacher, objective=objective).train()


def test_products_that_are_compared_stay_in_single_precision():
    """Norms of 273 and an outlier dimension: beyond float16, and a few digits in bfloat16."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(8, 32, generator=generator) * 48
    states, mask = torch.full((1, 512, 4), 12.0), torch.ones(1, 512)
    expected = similarity_loss(rows, rows * 1.001), flow_matrix(states, states, mask)
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", dtype):
            found = similarity_loss(rows, rows * 1.001), flow_matrix(states, states, mask)
        for own, other in zip(found, expected, strict=True):
            torch.testing.assert_close(own, other)
    assert expected[1].max().item() == pytest.approx(144.0)
    halves = torch.full((1, 3000, 2), 100.0, dtype=torch.float16)
    assert mean_of_tokens(halves, torch.ones(1, 3000)).tolist() == [[100.0, 100.0]]


def test_the_gradient_of_annealing_in_half_precision_is_that_of_soft_targets():
    """Student and teacher nearly agree: rounded probabilities would leave noise."""
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(64, 30, generator=generator)
    labels = torch.full((64,), -100)
    gradients = []
    for loss in (lambda own: annealed_loss(own, teacher.bfloat16(), labels, 0.0), None):
        own = (teacher + 0.05 * torch.randn(64, 30, generator=torch.Generator().manual_seed(1))).bfloat16()
        own.requires_grad_()
        (soft_target_loss(own, teacher.bfloat16()) if loss is None else loss(own)).backward()
        gradients.append(own.grad.float().flatten())
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999


# ---- DistilBERT ------------------------------------------------------------------------------------------------------


def test_distilbert_reads_labels_only_where_it_learns_from_them(make_bert, batch):
    config = make_bert().config
    words = torch.randn(6, batch["input_ids"].shape[1], config.vocab_size)
    own, other = ModelOutput(logits=words), ModelOutput(logits=words + 1.0)
    unlabelled = {name: value for name, value in batch.items() if name != "labels"}
    terms = DistilBERT(config, config, masked_lm=0.0, cosine=0.0)(own, other, unlabelled, 0.0)
    assert terms["soft_targets"].item() == pytest.approx(0.0, abs=1e-5)
    several = ModelOutput(logits=torch.stack([words, words], dim=1))
    with pytest.raises(InputError, match="learns from one teacher, and there are 2"):
        DistilBERT(config, config, cosine=0.0)(own, several, batch, 0.0)


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def test_copies_of_checkpoints_are_neither_resumed_from_nor_removed(make_trainer, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    make_trainer(settings=saving | {"max_steps": 2}).train()
    run = tmp_path / "run"
    for name in ("checkpoint-2-backup", "checkpoint-good-9"):
        shutil.copytree(run / "checkpoint-2", run / name)
    assert find_last_checkpoint(run).endswith("checkpoint-2")
    make_trainer(settings=saving | {"max_steps": 4}).train(resume_from_checkpoint=True)
    assert {path.name for path in run.glob("checkpoint-*")} == {
        "checkpoint-2-backup",
        "checkpoint-good-9",
        "checkpoint-4",
    }
    remove_checkpoints(run / "checkpoint-4", None, None)  # no limit: nothing goes
    assert (run / "checkpoint-4").is_dir()


def test_a_list_of_teachers_is_still_checked_one_by_one(make_bert):
    with pytest.raises(InputError, match="the teacher's config says problem_type='multi_label"):
        Teacher([make_bert(), make_bert(problem_type="multi_label_classification")])
