"""What the students that read word vectors share, the BiLSTM and the CNN: embedding channels, pairs of texts, losses.

    one text:   features = h
    two texts:  features = [h1 ; h2 ; h1 * h2 ; |h1 - h2|]      (one shared encoder)

A class of students says how `h` comes of a text's tokens (`_encode`) and logits of the features (`_classify`).
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


class WordStudentConfig(PreTrainedConfig):
    """The part of a student's shape that is the same for all kinds.

    Arguments
        vocab_size: rows of each embedding matrix.
        embedding_size: numbers a token and channel.
        embedding_channels: 1 = one matrix, tuned; 2 = "multichannel": one matrix tuned, one frozen, side by
            side, so the encoder reads 2 x embedding_size numbers a token.
        freeze_embeddings: with one channel, keep that channel frozen. Refused with two.
        embedding_dropout: on the numbers read by the encoder.
        pair: True when rows are pairs of texts, told apart by token_type_ids 0 and 1.
        ignored_token_ids: tokens that frame a text without being part of it ([CLS], [SEP]); the encoder skips
            them.
        embedding_std: standard deviation of random embeddings.
        num_labels / id2label / label2id / problem_type: as in any transformers configuration; problem_type
            defaults to "regression" for one label and "single_label_classification" otherwise.

    Raises InputError for a channel count other than 1 or 2, sizes below 1, or a pad id outside the
    vocabulary.
    """

    vocab_size: int = 30522
    embedding_size: int = 300
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
        if min(self.vocab_size, self.embedding_size) < 1:
            raise InputError("vocab_size and embedding_size must be at least 1")
        if self.pad_token_id is None or not 0 <= self.pad_token_id < self.vocab_size:
            raise InputError(
                f"pad_token_id is {self.pad_token_id}: give an id below vocab_size ({self.vocab_size})"
            )


class WordStudent(PreTrainedModel):
    """A classifier or regressor for one text or a pair of texts, over one or two channels of word vectors."""

    config: WordStudentConfig
    config_class = WordStudentConfig
    base_model_prefix = ""
    main_input_name = "input_ids"

    def __init__(self, config: WordStudentConfig):
        super().__init__(config)
        self.num_labels = config.num_labels or 1
        self.padding = config.pad_token_id or 0
        shape = (config.vocab_size, config.embedding_size)
        self.embeddings = nn.Embedding(*shape, padding_idx=self.padding)
        self.static_embeddings = None
        if config.embedding_channels == 2:
            self.static_embeddings = nn.Embedding(*shape, padding_idx=self.padding)
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)

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
        # 0.02) is made for deep stacks with layer norm and starves a one-layer encoder. `init` skips what a
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
        logits = self._classify(features)
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
        """What the encoder makes of the tokens that `real` (rows, seq) marks: (rows, states)."""
        raise NotImplementedError

    def _classify(self, features: Tensor) -> Tensor:
        """Logits (rows, num_labels) of the features of one text or two (rows, states or 4 * states)."""
        raise NotImplementedError


def pair_features(first: Tensor, second: Tensor) -> Tensor:
    """[h1 ; h2 ; h1 * h2 ; |h1 - h2|] of (batch, n) states: (batch, 4n). Tang et al. 2019, section 3.1."""
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
