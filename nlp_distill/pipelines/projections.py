"""Where TinyBERT's projections start: at the least-squares fit between student and teacher."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from nlp_distill.internals import run_model
from nlp_distill.objectives import Objective, TinyBERTLayers
from nlp_distill.teachers import Teacher

ROWS, BATCH = 256, 32  # some thousand tokens: a width of hundreds is well determined by them
MODEL_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
STATES = frozenset({"hidden_states"})


@torch.no_grad()
def fit_projections(
    objective: Objective,
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    rows: Sequence[Any] | torch.utils.data.Dataset,
    collate: Callable[[list[Any]], Mapping[str, Tensor]],
    seed: int = 0,
) -> None:
    """Set each projection of a ``TinyBERTLayers`` to W = argmin sum |H_S W - H_T|^2 over the tokens of some rows.

    The student knows something when the stage begins: it was cut from the teacher, or distilled on text before. A
    projection drawn at random makes its first gradients unlearn that until the projection is learnt; from the
    least-squares one they ask for no more than what is wrong. The paper and its code start at random.

    Args:
        objective: its projections are set in place; an objective without any is left as it is.
        student: the student at its start; its mode is left as it was.
        teacher: the teacher.
        rows: encoded rows, of which ``ROWS`` are drawn.
        collate: makes a batch of some of them.
        seed: of the draw.
    """
    if not isinstance(objective, TinyBERTLayers) or not objective.projections:
        return
    squares: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
    products: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
    was_training, frozen = student.training, Teacher(teacher)
    student.eval()
    for batch in draw_batches(rows, collate, seed):
        real = batch["attention_mask"].bool()
        inputs = {name: value for name, value in batch.items() if name in MODEL_INPUTS}
        own = run_model(student, _move(inputs, student.device), STATES)["hidden_states"]
        # An earlier training may have taken the teacher to an accelerator.
        other = frozen.run(_move(inputs, teacher.device), STATES)["hidden_states"]
        for name, layer, teacher_layer in objective.list_projected():
            x, y = own[layer].cpu()[real].double(), other[teacher_layer].cpu()[real].double()
            squares[name] = squares[name] + x.T @ x
            products[name] = products[name] + x.T @ y
    student.train(was_training)
    for name, gram in squares.items():
        # A little ridge, so that few rows still have one answer.
        ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        projection: Any = objective.projections[name]
        projection.weight.copy_(torch.linalg.solve(gram + ridge, products[name]).T)


def _move(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}


def draw_batches(
    rows: Any, collate: Callable[[list[Any]], Mapping[str, Tensor]], seed: int
) -> Iterator[Mapping[str, Tensor]]:
    """Batches of up to ``ROWS`` rows, drawn without repetition."""
    chosen = np.random.default_rng(seed).permutation(len(rows))[:ROWS]
    for start in range(0, len(chosen), BATCH):
        yield collate([rows[int(index)] for index in chosen[start : start + BATCH]])
