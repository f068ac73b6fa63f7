"""One LSTM layer as a single operator, so that exporters keep it whole.

Left to itself, ``torch.export`` takes an LSTM apart into the steps of the example that it saw, and the exported model
reads texts of that one length.
"""

import torch
from torch import Tensor, nn


@torch.library.custom_op("nlp_distill::lstm", mutates_args=())
def run_lstm(
    inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
) -> Tensor:
    """States (batch, seq, hidden) of an LSTM that starts from zeros over ``inputs`` (batch, seq, inputs).

    The weights are laid out as in ``torch.nn.LSTM``: gates i, f, g, o.
    """
    start = inputs.new_zeros(1, len(inputs), weight_hh.shape[1])
    weights = [weight_ih, weight_hh, bias_ih, bias_hh]
    states, _, _ = torch.lstm(inputs, (start, start), weights, True, 1, 0.0, False, False, True)
    return states.contiguous()


@run_lstm.register_fake
def _(inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    return inputs.new_empty(inputs.shape[0], inputs.shape[1], weight_hh.shape[1])


def run_module(lstm: nn.LSTM, inputs: Tensor) -> Tensor:
    """The operator with the weights of a module of one layer and one direction."""
    weights = (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0)
    return run_lstm(inputs, *weights)
