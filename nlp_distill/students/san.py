"""The stochastic answer network, MT-DNN's head for pairs: Liu et al. 2018, arXiv 1804.07888; as a head on BERT, Liu et
al. 2019, arXiv 1901.11504, section 3.

With premise states M_p (the first text) and hypothesis states M_h (the second):

    s_0 = sum_j a_j M_h[j],              a = softmax(w_0 . M_h)
    x_k = sum_j b_j M_p[j],              b = softmax(s_{k-1} W_1 M_p)
    s_k = GRU(s_{k-1}, x_k)
    P_k = softmax(W_2 [s_k ; x_k ; |s_k - x_k| ; s_k * x_k]),   k = 1 .. K
    P   = mean_k P_k

While training, each turn's answer is dropped with a probability (stochastic prediction dropout) and the mean runs over
those that are left, one at least.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from data_augment.errors import InputError

from .word_student import classification_loss

TURNS = 5  # MT-DNN, section 3
PREDICTION_DROPOUT = 0.1  # MT-DNN, section 4.2


class SANHead(nn.Module):
    """Answers from the states of two texts; see the module for its equations.

    Args:
        hidden_size: width of the states.
        num_labels: classes.
        turns: K.
        dropout: probability that a turn's answer is dropped while training.
    """

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        turns: int = TURNS,
        dropout: float = PREDICTION_DROPOUT,
    ):
        super().__init__()
        self.turns = turns
        self.dropout = dropout
        self.start = nn.Linear(hidden_size, 1, bias=False)
        self.attention = nn.Linear(hidden_size, hidden_size, bias=False)
        self.cell = nn.GRUCell(hidden_size, hidden_size)
        self.answer = nn.Linear(4 * hidden_size, num_labels)

    def forward(self, states: Tensor, premise: Tensor, hypothesis: Tensor) -> Tensor:
        """Logarithms of the answers' mean probabilities: logits whose softmax is P.

        Args:
            states: (batch, seq, hidden).
            premise: (batch, seq), true at the first text's tokens.
            hypothesis: (batch, seq), true at the second text's.

        Returns:
            (batch, classes).
        """
        state = attend(self.start(states).squeeze(-1), hypothesis, states)
        answers = []
        for _ in range(self.turns):
            scores = torch.einsum("bh,bsh->bs", self.attention(state), states)
            read = attend(scores, premise, states)
            state = self.cell(read, state)
            features = torch.cat([state, read, (state - read).abs(), state * read], dim=-1)
            answers.append(torch.log_softmax(self.answer(features), dim=-1))
        kept = self._keep_turns(states.shape[0], states.device)  # len() would fix the batch of an export
        stacked = torch.stack(answers, dim=1).masked_fill(~kept[:, :, None], float("-inf"))
        # The mean of the probabilities, in logarithms throughout so that small ones keep their gradient.
        return torch.logsumexp(stacked, dim=1) - kept.sum(dim=1, keepdim=True).log().to(stacked.dtype)

    def _keep_turns(self, rows: int, device: torch.device) -> Tensor:
        """(batch, turns), true for the turns that count."""
        if not self.training or self.dropout == 0:
            return torch.ones(rows, self.turns, dtype=torch.bool, device=device)
        kept = torch.rand(rows, self.turns, device=device) >= self.dropout
        spared = torch.randint(self.turns, (rows,), device=device)  # one turn at least
        return kept | (torch.arange(self.turns, device=device) == spared[:, None])


def attend(scores: Tensor, mask: Tensor, states: Tensor) -> Tensor:
    """softmax(scores) over the places of ``mask``, as weights of ``states``: (batch, hidden).

    Args:
        scores: (batch, seq).
        mask: (batch, seq), true where a place may be read.
        states: (batch, seq, hidden).
    """
    weights = torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=-1)
    return torch.einsum("bs,bsh->bh", weights, states)


class SANConfig(PreTrainedConfig):
    """An encoder with a SAN head.

    Args:
        encoder: the encoder's config as a dictionary with its ``model_type``.
        turns: K.
        prediction_dropout: probability that a turn is dropped while training.
    """

    model_type = "nlp-distill-san"

    encoder: dict | None = None
    turns: int = TURNS
    prediction_dropout: float | int = PREDICTION_DROPOUT


class SANForSequenceClassification(PreTrainedModel):
    """An encoder with a SAN head as a classifier of its own; pairs only, told apart by ``token_type_ids``."""

    config: SANConfig
    config_class = SANConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"

    def __init__(self, config: SANConfig):
        super().__init__(config)
        own = dict(config.encoder or {})
        encoder = AutoConfig.for_model(own.pop("model_type"), **own)
        self.num_labels = config.num_labels or 1
        self.encoder = AutoModel.from_config(encoder)
        self.san = SANHead(encoder.hidden_size, self.num_labels, config.turns, config.prediction_dropout)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """torch's own initialisation; the encoder brings its own."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """Logits (batch, classes), and the loss when labels are given. All inputs: (batch, seq); labels: (batch,).

        Raises:
            InputError: for rows without a second text.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        is_traced = torch.compiler.is_compiling()  # a graph cannot depend on what is in the rows
        if token_type_ids is None or not (is_traced or bool((token_type_ids * mask).any(dim=-1).all())):
            raise InputError(
                "a SAN head compares two texts: rows need token_type_ids with a second text (1); call the tokenizer "
                "with text and text_pair, or give the task a plain head"
            )
        real, second = mask.bool(), token_type_ids.bool()
        states = self.encoder(
            input_ids=input_ids, attention_mask=mask, token_type_ids=token_type_ids
        ).last_hidden_state
        logits = self.san(states, real & ~second, real & second)
        loss = None if labels is None else classification_loss(logits, labels, self.config.problem_type)
        if not (self.config.return_dict if return_dict is None else return_dict):
            return (logits,) if loss is None else (loss, logits)
        return SequenceClassifierOutput(loss=loss, logits=logits)
