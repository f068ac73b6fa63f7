"""The BiLSTM student of Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural
Networks" (arXiv 1903.12136), section 3.1, as a `PreTrainedModel`.

    h = [last state of the forward LSTM ; last state of the backward LSTM]
    one text:   features = h
    two texts:  features = [h1 ; h2 ; h1 * h2 ; |h1 - h2|]      (one shared encoder)
    logits = W2 dropout(relu(W1 features + b1)) + b2
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from data_augment.errors import InputError

from .bilstm_encoder import BiLSTMEncoder, compact_rows, plan_chunks

# (hidden_size, head_size) of the two forms in the paper, section 4.2. With two embedding channels of 300
# numbers they have 0.96M and 2.4M parameters besides the embeddings.
SMALL = (150, 200)
LARGE = (300, 400)


class BiLSTMConfig(PreTrainedConfig):
    """Shape of a BiLSTM student.

    Arguments
        vocab_size: rows of each embedding matrix.
        embedding_size: numbers a token and channel (300: paper, section 4.2).
        embedding_channels: 1 = one matrix, tuned; 2 = "multichannel": one matrix tuned, one frozen, side by
            side, so the LSTM reads 2 x embedding_size numbers a token.
        freeze_embeddings: with one channel, keep that channel frozen. Refused with two.
        hidden_size, head_size: LSTM state a direction and hidden layer of the head; `SMALL` and `LARGE` are
            the paper's.
        dropout: before the last linear layer. The paper names no rate; 0.2 is ours.
        embedding_dropout: on the numbers read by the LSTM. Not in the paper, off by default.
        pair: True when rows are pairs of texts, told apart by token_type_ids 0 and 1.
        ignored_token_ids: tokens that frame a text without being part of it ([CLS], [SEP]); the encoder skips
            them.
        embedding_std: standard deviation of random embeddings. 0.3 puts the gates' inputs near 0.25 at the
            start.
        num_labels / id2label / label2id / problem_type: as in any transformers configuration; problem_type
            defaults to "regression" for one label and "single_label_classification" otherwise.

    Raises InputError for a channel count other than 1 or 2, sizes below 1, or a pad id outside the
    vocabulary.
    """

    model_type = "nlp-distill-bilstm"

    vocab_size: int = 30522
    embedding_size: int = 300
    hidden_size: int = SMALL[0]
    head_size: int = SMALL[1]
    dropout: float | int = 0.2
    embedding_dropout: float | int = 0.0
    embedding_channels: int = 1
    freeze_embeddings: bool = False
    pair: bool = False
    pad_token_id: int | None = 0
    ignored_token_ids: list[int] | tuple[int, ...] = ()
    embedding_std: float | int = 0.3

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.ignored_token_ids = sorted(set(self.ignored_token_ids))
        if self.problem_type is None:
            # Said at once rather than guessed from the first labels: pipelines read it to choose the output
            # function.
            self.problem_type = "regression" if self.num_labels == 1 else "single_label_classification"
        if self.embedding_channels not in (1, 2):
            raise InputError(
                f"embedding_channels is {self.embedding_channels}: give 1 (tuned) or 2 (frozen and tuned)"
            )
        if self.embedding_channels == 2 and self.freeze_embeddings:
            raise InputError(
                "freeze_embeddings needs embedding_channels=1: of two channels one is always tuned"
            )
        if min(self.vocab_size, self.embedding_size, self.hidden_size, self.head_size) < 1:
            raise InputError("vocab_size, embedding_size, hidden_size and head_size must be at least 1")
        if self.pad_token_id is None or not 0 <= self.pad_token_id < self.vocab_size:
            raise InputError(
                f"pad_token_id is {self.pad_token_id}: give an id below vocab_size ({self.vocab_size})"
            )


class BiLSTMForSequenceClassification(PreTrainedModel):
    """BiLSTM classifier or regressor for one text or a pair of texts; see `BiLSTMConfig` for its parts."""

    config: BiLSTMConfig
    config_class = BiLSTMConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    _no_split_modules = ["BiLSTMEncoder"]

    def __init__(self, config: BiLSTMConfig):
        super().__init__(config)
        self.num_labels = config.num_labels or 1
        self.padding = config.pad_token_id or 0
        shape = (config.vocab_size, config.embedding_size)
        self.embeddings = nn.Embedding(*shape, padding_idx=self.padding)
        self.static_embeddings = None
        if config.embedding_channels == 2:
            self.static_embeddings = nn.Embedding(*shape, padding_idx=self.padding)
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)
        self.encoder = BiLSTMEncoder(config.embedding_size * config.embedding_channels, config.hidden_size)
        features = 2 * config.hidden_size * (4 if config.pair else 1)
        self.hidden = nn.Linear(features, config.head_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.head_size, self.num_labels)
        self.post_init()
        self._freeze_channels()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, whose loader makes every weight trainable: frozen channels are frozen again."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # a tuple with output_loading_info=True
        model._freeze_channels()
        return loaded

    def _freeze_channels(self) -> None:
        if self.static_embeddings is not None:
            self.static_embeddings.requires_grad_(False)
        if self.config.freeze_embeddings:
            self.embeddings.requires_grad_(False)

    def _init_weights(self, module: nn.Module) -> None:
        # torch's own bounds for LSTM and linear layers, U(-1/sqrt(fan), 1/sqrt(fan)): transformers' N(0,
        # 0.02) is made for deep stacks with layer norm and starves a one-layer LSTM. `init` skips what a
        # checkpoint filled.
        if isinstance(module, (nn.LSTM, nn.Linear)):
            fan = module.hidden_size if isinstance(module, nn.LSTM) else module.in_features
            for parameter in module.parameters(recurse=False):
                init.uniform_(parameter, -(fan**-0.5), fan**-0.5)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=self.config.embedding_std)
            if not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])

    def get_input_embeddings(self) -> nn.Embedding:
        """The first channel: the tuned one, unless `freeze_embeddings`."""
        return self.embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings = value  # type: ignore[assignment]

    def set_embedding_weights(self, matrix: Tensor) -> None:
        """Copy matrix (vocab, embedding) into every channel. Raises InputError when the shape differs."""
        channels = [self.embeddings, self.static_embeddings]
        if matrix.shape != self.embeddings.weight.shape:
            raise InputError(
                f"embedding matrix is {tuple(matrix.shape)}, "
                f"the student needs {tuple(self.embeddings.weight.shape)}"
            )
        with torch.no_grad():
            for channel in filter(None, channels):
                channel.weight.copy_(matrix)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Tensor, ...]:
        """Logits (batch, num_labels), and the loss when labels are given.

        input_ids, attention_mask (1 real, 0 padding, on either side), token_type_ids (0 first text, 1 second;
        used by pair models only): (batch, seq). labels: (batch,) class indices, (batch,) floats for
        regression, or (batch, num_labels) floats for multi-label. Without attention_mask, the pad token is
        padding.

        Raises InputError when a pair model gets no token_type_ids.
        """
        # The signature takes no **kwargs on purpose: the Trainer would change its loss scaling.
        real = input_ids.ne(self.padding) if attention_mask is None else attention_mask.ne(0)
        for token in self.config.ignored_token_ids:
            real = real & (input_ids != token)
        if self.config.pair:
            if token_type_ids is None:
                raise InputError(
                    "a pair student needs token_type_ids: call the tokenizer with text and text_pair"
                )
            second = token_type_ids != 0
            sides = torch.cat([real & ~second, real & second])
            states = self._encode(input_ids.repeat(2, 1), sides)
            rows = input_ids.shape[0]  # chunk(2) would fix the batch size of an exported model
            features = pair_features(states[:rows], states[rows:])
        else:
            features = self._encode(input_ids, real)
        logits = self.classifier(self.dropout(torch.relu(self.hidden(features))))
        loss = None if labels is None else classification_loss(logits, labels, self.config.problem_type)
        if return_dict is None:
            return_dict = self.config.return_dict
        if not return_dict:
            return (logits,) if loss is None else (loss, logits)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _embed(self, tokens: Tensor) -> Tensor:
        embedded = self.embeddings(tokens)
        if self.static_embeddings is not None:
            embedded = torch.cat([self.static_embeddings(tokens), embedded], dim=-1)
        return self.embedding_dropout(embedded)

    def _encode(self, input_ids: Tensor, real: Tensor) -> Tensor:
        """Encoder states (rows, 2 * hidden) of the tokens that `real` (rows, seq) marks."""
        tokens, lengths = compact_rows(input_ids, real, self.padding)
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            # A graph must not depend on this batch's lengths.
            return self.encoder(self._embed(tokens), lengths)
        order = lengths.argsort()
        sorted_lengths = lengths[order].tolist()
        # GPUs gain from one large batch; CPUs from not computing padding.
        sizes = plan_chunks(sorted_lengths) if input_ids.device.type == "cpu" else [len(sorted_lengths)]
        embedded = self._embed(tokens[order, : max(sorted_lengths[-1], 1)])
        states = [
            self.encoder(rows[:, : max(int(counts[-1]), 1)], counts)
            for rows, counts in zip(embedded.split(sizes), lengths[order].split(sizes), strict=True)
        ]
        return torch.cat(states)[order.argsort()]


def pair_features(first: Tensor, second: Tensor) -> Tensor:
    """[h1 ; h2 ; h1 * h2 ; |h1 - h2|] of (batch, n) states: (batch, 4n). Paper, section 3.1."""
    return torch.cat([first, second, first * second, (first - second).abs()], dim=-1)


def classification_loss(logits: Tensor, labels: Tensor, problem_type: str | None) -> Tensor:
    """Mean cross-entropy, squared error ("regression") or binary cross-entropy ("multi_label_...").

    logits: (batch, num_labels). labels: (batch,) indices or floats, or (batch, num_labels) floats.
    """
    if problem_type == "regression":
        return functional.mse_loss(logits, labels.to(logits.dtype).view_as(logits))
    if problem_type == "multi_label_classification":
        return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return functional.cross_entropy(logits, labels.view(-1))
