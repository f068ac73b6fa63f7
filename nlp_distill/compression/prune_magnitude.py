"""Set the smallest weights to zero while training goes on: Zhu and Gupta 2017, "To prune, or not to prune", arXiv
1710.01878, section 3.

The share of zeros of every weight matrix follows

    s_t = s_f (1 - (1 - t / T)^3),   t = 0 .. T,   and s_f from T to the end

(their equation 1 from a dense start): fast while there is much to choose from, slow towards the end. From one update to
the next the masks stay as they are.

Pruned are the matrices of linear and recurrent layers and the word embeddings; biases, layer norms, positions and
segments stay whole. The zeros are stored like other numbers: a file gets smaller where it is packed (zip, gz) or where
what runs it has a sparse format.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from nlp_distill.limits import check_share

END = 0.7  # T as a share of the steps, ours: what is left then recovers with all its zeros
UPDATES = 100  # at most so many updates of the masks before T; the paper has one in 100 to 1,000 steps


class MagnitudePruning(TrainerCallback):
    """Prunes a model while a Trainer trains it.

    Masks are no state of their own: they are the smallest weights of each matrix, and zeros are the smallest there are,
    so that a run resumed from a checkpoint finds the masks of the uninterrupted one in the weights. Do not load the
    best checkpoint at the end: it may be of a time with fewer zeros.

    Args:
        model: the model that is trained.
        share: s_f, from 0 to 1, 1 excluded.
        end: T as a share of all steps.

    Raises:
        InputError: for a share out of range.
    """

    def __init__(self, model: PreTrainedModel, share: float, end: float = END):
        check_share("the share of --prune-magnitude", share, below_one=True)
        check_share("the end of the pruning schedule", end)
        self.weights = list(list_prunable(model).values())
        self.share = share
        self.end = end
        self.masks: list[Tensor] = []

    def on_train_begin(self, args, state, control, **kwargs):
        """Find the masks of the last update, where training goes on from a checkpoint."""
        step, last = state.global_step, self._last_step(state)
        self._update(last if step >= last else step - step % self._interval(state), last)

    def on_step_end(self, args, state, control, **kwargs):
        """Choose anew where an update is due, and set what is masked to zero."""
        last = self._last_step(state)
        due = state.global_step == last or state.global_step % self._interval(state) == 0
        if due and state.global_step <= last:
            self._update(state.global_step, last)
        self._apply()

    def _last_step(self, state: Any) -> int:
        return max(1, round(self.end * state.max_steps))

    def _interval(self, state: Any) -> int:
        return max(1, self._last_step(state) // UPDATES)

    def _update(self, step: int, last: int) -> None:
        share = schedule_share(step, last, self.share)
        self.masks = [find_smallest(weight.detach(), share) for weight in self.weights]
        self._apply()

    @torch.no_grad()
    def _apply(self) -> None:
        for weight, mask in zip(self.weights, self.masks, strict=True):
            weight.masked_fill_(mask, 0.0)


def schedule_share(step: int, last: int, share: float) -> float:
    """s_t of the equation above."""
    return share * (1 - (1 - min(step / last, 1.0)) ** 3)


def find_smallest(weight: Tensor, share: float) -> Tensor:
    """True at the round(share * n) smallest absolute values of a matrix, and at all that equal the largest of them."""
    count = round(share * weight.numel())
    sizes = weight.abs()
    if count == 0:
        return torch.zeros_like(sizes, dtype=torch.bool)
    return sizes <= sizes.flatten().kthvalue(count).values


def list_prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable matrices that are pruned, by name."""
    modules = dict(model.named_modules())
    chosen = {}
    for name, weight in model.named_parameters():
        owner = modules[name.rpartition(".")[0]]
        is_word_matrix = (
            isinstance(owner, nn.Embedding) and "position" not in name and "token_type" not in name
        )
        is_matrix = weight.dim() == 2 and (isinstance(owner, nn.Linear | nn.RNNBase) or is_word_matrix)
        if is_matrix and weight.requires_grad:
            chosen[name] = weight
    return chosen
