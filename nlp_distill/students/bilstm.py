"""The BiLSTM student of Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural
Networks" (arXiv 1903.12136), section 3.1, as a `PreTrainedModel`.

    h = [last state of the forward LSTM ; last state of the backward LSTM]
    one text:   features = h
    two texts:  features = [h1 ; h2 ; h1 * h2 ; |h1 - h2|]      (one shared encoder)
    logits = W2 dropout(relu(W1 features + b1)) + b2
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from data_augment.errors import InputError

from .bilstm_encoder import BiLSTMEncoder, compact_rows, plan_chunks
from .word_student import WordStudent, WordStudentConfig

# (hidden_size, head_size) of the two forms in the paper, section 4.2. With two embedding channels of 300
# numbers they have 0.96M and 2.4M parameters besides the embeddings.
SMALL = (150, 200)
LARGE = (300, 400)


class BiLSTMConfig(WordStudentConfig):
    """Shape of a BiLSTM student.

    Arguments, besides those of `WordStudentConfig` (embedding_size is 300 in the paper, section 4.2;
    embedding_dropout is not in the paper and off by default; embedding_std 0.3 puts the gates' inputs near
    0.25 at the start)
        hidden_size, head_size: LSTM state a direction and hidden layer of the head; `SMALL` and `LARGE` are
            the paper's.
        dropout: before the last linear layer. The paper names no rate; 0.2 is ours.

    Raises InputError as `WordStudentConfig`, and for sizes below 1.
    """

    model_type = "nlp-distill-bilstm"

    hidden_size: int = SMALL[0]
    head_size: int = SMALL[1]
    dropout: float | int = 0.2

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if min(self.hidden_size, self.head_size) < 1:
            raise InputError("hidden_size and head_size must be at least 1")


class BiLSTMForSequenceClassification(WordStudent):
    """BiLSTM classifier or regressor for one text or a pair of texts; see `BiLSTMConfig` for its parts."""

    config: BiLSTMConfig
    config_class = BiLSTMConfig
    _no_split_modules = ["BiLSTMEncoder"]

    def __init__(self, config: BiLSTMConfig):
        super().__init__(config)
        self.encoder = BiLSTMEncoder(config.embedding_size * config.embedding_channels, config.hidden_size)
        features = 2 * config.hidden_size * (4 if config.pair else 1)
        self.hidden = nn.Linear(features, config.head_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.head_size, self.num_labels)
        self.post_init()
        self._freeze_channels()

    def _classify(self, features: Tensor) -> Tensor:
        return self.classifier(self.dropout(torch.relu(self.hidden(features))))

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
