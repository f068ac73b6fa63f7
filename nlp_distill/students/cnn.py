"""The CNN student: Kim 2014, "Convolutional Neural Networks for Sentence Classification" (arXiv 1408.5882), section 2,
as a `PreTrainedModel`.

    c_i = relu(w . x_{i:i+h-1} + b),  i = 1 .. n-h+1      (equation 2: a window of h words, their vectors end to end)
    c^  = max(c_1, ..., c_{n-h+1})                        (max over time, one number a filter)
    h   = [c^ of each filter of each width]
    one text:   features = h
    two texts:  features = [h1 ; h2 ; h1 * h2 ; |h1 - h2|]      (one shared encoder)
    logits = W dropout(features) + b                      (equation 5)

The paper's sizes (section 3.1): widths 3, 4 and 5 with 100 filters each, dropout 0.5, vectors of 300 numbers.

Deviations from the paper: pairs of texts, which it does not have, are compared as Tang et al. 2019 (arXiv 1903.12136,
section 3.1) do; a text of fewer words than a window is one window, filled up with zeros, and other windows never reach
over the end of a text (the paper pads "where necessary"); of two channels each has weights of its own in every filter;
weight vectors are not rescaled to an L2 norm of at most 3 after each step, a constraint that belongs to the optimiser;
random embeddings are normal, and other weights start as torch starts a convolution's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_augment.errors import InputError

from .bilstm_encoder import compact_rows
from .word_student import WordStudent, WordStudentConfig

FILTERS = 100  # of each width; section 3.1
WIDTHS = (3, 4, 5)  # section 3.1
DROPOUT = 0.5  # section 3.1


class CNNConfig(WordStudentConfig):
    """Shape of a CNN student.

    Arguments, besides those of `WordStudentConfig` (embedding_size is 300 in the paper, section 3.3)
        filters: filters of each width.
        widths: words a window, each once; kept in ascending order.
        dropout: before the linear layer.

    Raises InputError as `WordStudentConfig`, and for filters below 1 or widths that are none, below 1, or
    there twice.
    """

    model_type = "nlp-distill-cnn"

    filters: int = FILTERS
    widths: list[int] | tuple[int, ...] = WIDTHS
    dropout: float | int = DROPOUT

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        check_windows(self.filters, self.widths)
        self.widths = sorted(self.widths)


class CNNForSequenceClassification(WordStudent):
    """CNN classifier or regressor for one text or a pair of texts; see `CNNConfig` for its parts."""

    config: CNNConfig
    config_class = CNNConfig
    _no_split_modules = ["CNNEncoder"]

    def __init__(self, config: CNNConfig):
        super().__init__(config)
        inputs = config.embedding_size * config.embedding_channels
        self.encoder = CNNEncoder(inputs, config.filters, config.widths)
        self.dropout = nn.Dropout(config.dropout)
        features = config.filters * len(config.widths) * (4 if config.pair else 1)
        self.classifier = nn.Linear(features, self.num_labels)
        self.post_init()
        self._freeze_channels()

    def _classify(self, features: Tensor) -> Tensor:
        return self.classifier(self.dropout(features))

    def _encode(self, input_ids: Tensor, real: Tensor) -> Tensor:
        """Encoder states (rows, widths * filters) of the tokens that `real` (rows, seq) marks."""
        tokens, lengths = compact_rows(input_ids, real, self.padding)
        if not (torch.jit.is_tracing() or torch.compiler.is_compiling()):
            # Not computed where the whole batch is padding; a graph must not depend on this batch's lengths.
            tokens = tokens[:, : max(int(lengths.max()), 1)]
        return self.encoder(self._embed(tokens), lengths)


class CNNEncoder(nn.Module):
    """Convolutions of several widths over word vectors, and the maximum over time of each filter.

    A convolution is a linear layer over windows, the vectors of `width` words end to end: onnxruntime runs its
    int8 form several times as fast as that of a `Conv`, its fp32 form as fast. Weights are (filters, width *
    inputs); the same numbers as `nn.Conv1d`'s (filters, inputs, width), the last two turned.
    """

    def __init__(self, inputs: int, filters: int, widths: Sequence[int]):
        super().__init__()
        self.widths = list(widths)
        self.windows = nn.ModuleList(nn.Linear(width * inputs, filters) for width in widths)

    def forward(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """embedded (batch, seq, inputs), real tokens first; lengths (batch,) -> (batch, widths * filters).

        What stands behind a row's real tokens is not read.
        """
        length = embedded.shape[1]
        position = torch.arange(length, device=embedded.device)
        real = (position < lengths[:, None])[:, :, None]
        padded = functional.pad(embedded.masked_fill(~real, 0.0), (0, 0, 0, self.widths[-1] - 1))
        windows = torch.cat([padded[:, start : start + length] for start in range(self.widths[-1])], dim=2)
        maxima = []
        for width, linear in zip(self.widths, self.windows, strict=True):
            values = linear(windows[:, :, : linear.in_features])
            # A window that reaches over the end is no window; a text has one, however short it is.
            inside = (position < (lengths[:, None] - width + 1).clamp(min=1))[:, :, None]
            maxima.append(values.masked_fill(~inside, torch.finfo(values.dtype).min).amax(dim=1))
        return torch.relu(torch.cat(maxima, dim=1))  # the maximum of relus is the relu of the maximum


def check_windows(filters: int, widths: Sequence[int]) -> None:
    """Refuse filters and widths that make no CNN.

    Raises InputError naming them.
    """
    if filters < 1:
        raise InputError(f"filters is {filters}; give at least 1 filter a width")
    if not widths or min(widths) < 1 or len(set(widths)) < len(widths):
        raise InputError(
            f"widths are {list(widths)}; give one or more, each once and at least 1, such as 3 4 5"
        )
