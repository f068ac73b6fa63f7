"""From padded rows of tokens to the last LSTM states of each row, with little computed on padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .lstm_op import collect_last_states, run_modules


class BiLSTMEncoder(nn.Module):
    """One bidirectional LSTM layer that returns each row's last state in both directions.

    Two one-directional LSTMs over unpacked input, exact for any padding: the backward one reads each row's
    real tokens in reverse order (index arithmetic, so that padding stays behind them), and both states are
    taken at the row's last real token. It equals `nn.LSTM(bidirectional=True)` over a packed sequence, is
    faster on CPUs, where packing leaves the fused kernels, and exports without packing operators.
    Weights have the names and the layout of one-directional `nn.LSTM`s.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.forward_lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.backward_lstm = nn.LSTM(input_size, hidden_size, batch_first=True)

    def forward(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """embedded (batch, seq, inputs), real tokens first; lengths (batch,) -> states (batch, 2 * hidden).

        A row of length 0 has the state an LSTM starts from: zeros.
        """
        if torch.compiler.is_exporting():
            return run_modules(embedded, lengths, self.forward_lstm, self.backward_lstm)
        forward, backward = self.forward_lstm, self.backward_lstm
        if embedded.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # Not every processor has a bfloat16 LSTM: "could not create a primitive descriptor" without AVX-512.
            with torch.autocast("cpu", enabled=False):
                return self.forward(embedded.float(), lengths)
        return collect_last_states(embedded, lengths, lambda x: forward(x)[0], lambda x: backward(x)[0])


def compact_rows(input_ids: Tensor, keep: Tensor, fill: int) -> tuple[Tensor, Tensor]:
    """Move each row's kept tokens to its front: (tokens (rows, seq), then `fill`; lengths (rows,)).

    input_ids, keep: (rows, seq). The order of the kept tokens stays.
    """
    rows, width = input_ids.shape
    counted = keep.long().cumsum(dim=1)
    slot = torch.where(keep, counted - 1, width)  # everything else goes to one spare column, dropped below
    spare = input_ids.new_full((rows, width + 1), fill)
    return spare.scatter(1, slot, input_ids)[:, :width], counted[:, -1]


def plan_chunks(sorted_lengths: list[int], step_cost: int = 8, largest: int = 128) -> list[int]:
    """How to cut rows sorted by length into chunks so that the encoder computes little padding: chunk sizes.

    A chunk of n rows whose longest has T tokens costs T * (n + step_cost): every time step has a fixed cost,
    worth about `step_cost` rows. Chunks above `largest` rows outgrow the caches. Chunks are equal, at
    most three more than that limit needs.
    """
    rows = len(sorted_lengths)

    def even(count: int) -> list[int]:
        return [rows // count + (index < rows % count) for index in range(count)]

    def cost(sizes: list[int]) -> int:
        total, end = 0, 0
        for size in sizes:
            end += size
            total += sorted_lengths[end - 1] * (size + step_cost)
        return total

    fewest = -(-rows // largest)
    return min((even(count) for count in range(fewest, min(fewest + 3, rows) + 1)), key=cost)
