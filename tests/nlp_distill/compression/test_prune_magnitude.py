"""Magnitude pruning: the schedule, what is zero and stays so, and a resume that finds its masks again."""

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

from data_augment.errors import InputError
from nlp_distill import DistillationTrainer
from nlp_distill.compression.prune_magnitude import (
    MagnitudePruning,
    find_smallest,
    list_prunable,
    schedule_share,
)
from nlp_distill.encoding import encode_rows
from nlp_distill.hashes import hash_weights
from nlp_distill.students import BiLSTMConfig, BiLSTMForSequenceClassification


class Watch(TrainerCallback):
    """The zeros of every matrix after each step, as masks; optionally stops after one."""

    def __init__(self, model, stop_after=None):
        self.model, self.stop_after, self.zeros = model, stop_after, []

    def on_step_end(self, args, state, control, **kwargs):
        self.zeros.append({name: weight == 0 for name, weight in list_prunable(self.model).items()})
        if state.global_step == self.stop_after:
            control.should_training_stop = True


@pytest.fixture
def train(make_bert, make_rows, tokenizer, tmp_path):
    def run(name, steps=12, stop_after=None, resume=None, share=0.8):
        model = make_bert(hidden_dropout_prob=0.1)
        pruning, watch = MagnitudePruning(model, share), Watch(model, stop_after)
        args = TrainingArguments(
            str(tmp_path / name),
            max_steps=steps,
            learning_rate=0.01,
            per_device_train_batch_size=4,
            save_strategy="steps",
            save_steps=1,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = DistillationTrainer(
            model=model,
            args=args,
            train_dataset=encode_rows(make_rows(20), tokenizer, ("text",), 32),
            processing_class=tokenizer,
            callbacks=[pruning, watch],
        )
        trainer.train(resume_from_checkpoint=resume)
        return model, watch

    return run


def test_the_schedule_is_cubic_and_ends_at_the_share():
    assert schedule_share(0, 10, 0.8) == 0
    assert schedule_share(5, 10, 0.8) == pytest.approx(0.8 - 0.8 * 0.5**3)
    assert schedule_share(10, 10, 0.8) == schedule_share(15, 10, 0.8) == 0.8
    shares = [schedule_share(step, 10, 0.8) for step in range(11)]
    gains = [after - before for before, after in zip(shares, shares[1:], strict=False)]
    assert gains == sorted(gains, reverse=True)


def test_the_smallest_are_masked():
    weight = torch.tensor([[3.0, -0.1], [0.0, -2.0]])
    assert find_smallest(weight, 0.5).tolist() == [[False, True], [True, False]]
    assert not find_smallest(weight, 0.1).any()  # 0.4 of a weight


def test_the_zeros_follow_the_schedule_and_stay_to_the_end(train):
    model, watch = train("run")
    assert len(watch.zeros) == 12
    last = round(0.7 * 12)
    for step, zeros in enumerate(watch.zeros, start=1):
        for name, mask in zeros.items():
            wanted = round(schedule_share(step, last, 0.8) * mask.numel())
            assert mask.sum() == wanted, (step, name)
    for before, after in zip(watch.zeros[last - 1 :], watch.zeros[last:], strict=False):
        assert all(torch.equal(before[name], after[name]) for name in before)
    for name, weight in list_prunable(model).items():
        assert torch.equal(weight == 0, watch.zeros[-1][name])
    untouched = [weight for name, weight in model.named_parameters() if name not in list_prunable(model)]
    assert all((weight != 0).any() for weight in untouched)


@pytest.mark.parametrize("stop_after", [3, 8, 10], ids=["before the end", "at it", "after it"])
def test_a_resumed_run_finds_its_masks_again(train, tmp_path, stop_after):
    whole, _ = train("whole")
    train("cut", stop_after=stop_after)
    resumed, watch = train("cut", resume=str(tmp_path / "cut" / f"checkpoint-{stop_after}"))
    assert len(watch.zeros) == 12 - stop_after
    assert hash_weights(resumed) == hash_weights(whole)


def test_masks_hold_between_two_updates_and_over_a_resume_there(train, tmp_path, monkeypatch):
    monkeypatch.setattr("nlp_distill.compression.prune_magnitude.UPDATES", 2)  # every 4 of 8 steps
    whole, watch = train("whole")
    counts = [int(sum(mask.sum() for mask in zeros.values())) for zeros in watch.zeros]
    padding = 16  # zeros from the start, the embedding of the padding token
    assert counts[:3] == [padding] * 3 and counts[3] == counts[6] < counts[7] == counts[11]
    train("cut", stop_after=6)
    resumed, _ = train("cut", resume=str(tmp_path / "cut" / "checkpoint-6"))
    assert hash_weights(resumed) == hash_weights(whole)


def test_matrices_of_linear_layers_lstms_and_words_are_pruned_and_nothing_else(make_bert):
    names = list_prunable(make_bert())
    assert "bert.embeddings.word_embeddings.weight" in names and "classifier.weight" in names
    assert "bert.encoder.layer.1.attention.self.query.weight" in names
    assert not [n for n in names if "bias" in n or "Norm" in n or "position" in n or "token_type" in n]
    shape = {"vocab_size": 30, "embedding_size": 4, "hidden_size": 4, "head_size": 4, "embedding_channels": 2}
    lstm = list_prunable(BiLSTMForSequenceClassification(BiLSTMConfig(**shape)))
    assert "encoder.forward_lstm.weight_hh_l0" in lstm and "embeddings.weight" in lstm
    assert "static_embeddings.weight" not in lstm  # frozen


@pytest.mark.parametrize("share", [1.0, -0.1, float("nan")])
def test_a_share_out_of_range_is_refused(make_bert, share):
    with pytest.raises(InputError, match="the share of --prune-magnitude is"):
        MagnitudePruning(make_bert(), share)
