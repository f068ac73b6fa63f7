"""``DistillationModel``: student and objective as the one module that a Trainer trains."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import ModelOutput

from data_augment.errors import InputError
from nlp_distill.batching import TEACHER_PREFIX
from nlp_distill.internals import run_model
from nlp_distill.objectives.objective import Objective


def fill_masks(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """The batch with the attention masks that objectives read; where rows came without, all their tokens are real."""
    missing = {
        f"{side}attention_mask": torch.ones_like(batch[f"{side}input_ids"])
        for side in ("", TEACHER_PREFIX)
        if f"{side}input_ids" in batch and f"{side}attention_mask" not in batch
    }
    return {**batch, **missing} if missing else batch


class DistillationModel(nn.Module):
    """Student and objective as one module, whose forward computes the loss.

    The Trainer clips, checkpoints and distributes the parameters of one module; this is that module, so that what
    the objective learns takes part in all of it, also under DistributedDataParallel, where parameters used outside
    the wrapped forward get no gradient.
    """

    accepts_loss_kwargs = (
        False  # the loss is a plain mean per micro-batch; the Trainer divides it by their number
    )

    def __init__(self, student: PreTrainedModel, objective: Objective):
        super().__init__()
        self.student = student
        self.objective = objective
        self.student_inputs = set(inspect.signature(student.forward).parameters) - {"labels", "kwargs"}

    @property
    def config(self):
        return self.student.config

    def activation_checkpointing_enable(self, *args, **kwargs) -> None:
        try:
            self.student.activation_checkpointing_enable(*args, **kwargs)
        except ValueError as error:
            raise InputError(
                f"a {type(self.student).__name__} cannot compute activations again; leave out gradient_checkpointing"
            ) from error

    def gradient_checkpointing_enable(self, *args, **kwargs) -> None:  # its name in older transformers
        self.student.gradient_checkpointing_enable(*args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:  # neftune adds its noise there
        return self.student.get_input_embeddings()

    def forward(
        self,
        batch: Mapping[str, Any],
        teacher_outputs: ModelOutput | None = None,
        progress: float | None = None,
    ) -> dict[str, Any]:
        """The student's logits; with ``progress`` (share of training done, in [0, 1]) also the loss and its terms."""
        inputs = {name: value for name, value in batch.items() if name in self.student_inputs}
        if progress is None:
            outputs = run_model(self.student, inputs, frozenset())
            if "logits" not in outputs:
                raise InputError(
                    f"a {type(self.student).__name__} is an encoder without a head, so there are no answers to score; "
                    "train it without evaluation (eval_strategy='no'), or give a model with a head"
                )
            return {"logits": outputs["logits"]}
        outputs = run_model(self.student, inputs, self.objective.needs)
        terms = self.objective(outputs, teacher_outputs, fill_masks(batch), progress)
        loss = torch.stack(list(terms.values())).sum()
        return {"loss": loss, "terms": terms, "logits": outputs.get("logits")}  # an encoder alone has none
