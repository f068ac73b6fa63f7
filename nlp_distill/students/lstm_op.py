"""A bidirectional LSTM layer as a single operator, so that exporters keep it whole.

Left to itself, ``torch.export`` takes an LSTM apart into the steps of the example that it saw, and the exported model
reads texts of that one length. One operator for both directions is also what runtimes compute fastest.
"""

import torch
from torch import Tensor, nn


@torch.library.custom_op("nlp_distill::bilstm", mutates_args=())
def run_bilstm(inputs: Tensor, lengths: Tensor, weights: list[Tensor]) -> Tensor:
    """Last states (batch, 2 * hidden) of a forward and a backward LSTM that start from zeros.

    Args:
        inputs: (batch, seq, inputs), real steps first.
        lengths: (batch,) real steps of each row, from 0; a row without any has states of zeros.
        weights: of the forward direction, then of the backward one: ``weight_ih``, ``weight_hh``, ``bias_ih``,
            ``bias_hh``, as ``torch.nn.LSTM`` lays them out (gates i, f, g, o).
    """

    def run(steps: Tensor, own: list[Tensor]) -> Tensor:
        start = steps.new_zeros(1, len(steps), own[1].shape[1])
        return torch.lstm(steps, (start, start), own, True, 1, 0.0, False, False, True)[0]

    return collect_last_states(inputs, lengths, lambda x: run(x, weights[:4]), lambda x: run(x, weights[4:]))


@run_bilstm.register_fake
def _(inputs: Tensor, lengths: Tensor, weights: list[Tensor]) -> Tensor:
    return inputs.new_empty(inputs.shape[0], 2 * weights[1].shape[1])


def run_modules(inputs: Tensor, lengths: Tensor, forward: nn.LSTM, backward: nn.LSTM) -> Tensor:
    """The operator with the weights of two modules of one layer and one direction."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return run_bilstm(
        inputs, lengths, [getattr(lstm, name) for lstm in (forward, backward) for name in names]
    )


def collect_last_states(inputs: Tensor, lengths: Tensor, run_forward, run_backward) -> Tensor:
    """What the directions, functions of (batch, seq, inputs), end with on each row: (batch, 2 * hidden).

    The backward one reads each row's real steps in reverse order, so that padding stays behind them.
    """
    last = (lengths - 1).clamp(min=0)
    position = torch.arange(inputs.shape[1], device=inputs.device)
    mirrored = (last[:, None] - position).clamp(min=0)[:, :, None].expand_as(inputs)
    forward_states = run_forward(inputs)
    backward_states = run_backward(inputs.gather(1, mirrored))
    at_last = last[:, None, None].expand(-1, 1, forward_states.shape[2])
    states = torch.cat([forward_states.gather(1, at_last), backward_states.gather(1, at_last)], dim=2)
    return states.squeeze(1) * (lengths > 0)[:, None].to(states.dtype)
