"""The teacher: one frozen model or several, and the checks that run before any training."""

import functools
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import ModelOutput, SequenceClassifierOutput

from data_augment.errors import InputError
from nlp_distill.batching import OF_TEACHER, TEACHER_PREFIX
from nlp_distill.internals import ATTACHED_LOGITS, INPUT_EMBEDDINGS, run_model
from nlp_distill.models import check_vocabulary
from nlp_distill.processes import choose_device
from nlp_distill.stages import announce

SPARE_VECTORS = 128  # more than what embeddings are padded by, so that their number suits a GPU


class Teacher:
    """One model or several, frozen and in eval mode, that answer without gradients.

    Args:
        models: a ``PreTrainedModel`` or a sequence of them with the same labels.
        tokenizer: the teacher's tokenizer, where it differs from the student's. Rows then carry the teacher's own
            encoding in columns ``teacher_input_ids``, ``teacher_attention_mask``, ...

    Raises:
        InputError: if there is no model, the models have different labels, or one of them gives a text several.
    """

    def __init__(self, models: PreTrainedModel | Sequence[PreTrainedModel], tokenizer=None):
        given = [models] if isinstance(models, torch.nn.Module | str | Path) else list(models)
        if names := [model for model in given if not isinstance(model, torch.nn.Module)]:
            raise InputError(
                f"a teacher is {str(names[0])!r}; give the model itself, "
                "AutoModelForSequenceClassification.from_pretrained(...) of it"
            )
        if not given:
            raise InputError("the list of teachers is empty; give at least one model")
        self.models: list[PreTrainedModel] = [unwrap_compiled(model) for model in given]
        self.tokenizer = tokenizer
        for model in self.models:
            check_single_label(model, "teacher")
            freeze(model)
        self._orders = self._match_all(read_labels(self.models[0].config))

    def match_labels(self, student_config) -> None:
        """Reorder the logits to the student's labels where both name the same labels in another order.

        Raises:
            InputError: if the label sets differ.
        """
        self.follow(read_labels(student_config))

    def follow(self, labels: tuple[str, ...]) -> None:
        """As :meth:`match_labels`, for the labels themselves."""
        self._orders = self._match_all(labels)

    def _match_all(self, labels: tuple[str, ...]) -> list[list[int] | None]:
        own = [read_labels(model.config) if has_classes(model) else None for model in self.models]
        labels = choose_labels([labels, *(names for names in own if names)])
        return [None if names is None else match_labels(labels, names) for names in own]

    def check_reads(self, tokenizer: Any) -> None:
        """Refuse models without vectors for the tokens of the student's tokenizer, and warn of many more vectors.

        Raises:
            InputError: naming both numbers.
        """
        if self.tokenizer is not None:
            return
        for model in self.models:
            check_vocabulary(model, tokenizer)
            known, vectors = len(tokenizer), getattr(model.get_input_embeddings(), "num_embeddings", 0)
            if vectors - known >= SPARE_VECTORS:
                warnings.warn(
                    f"the teacher has vectors for {vectors} tokens and reads those of a tokenizer with {known}; if it "
                    "has a tokenizer of its own, give Teacher(model, tokenizer)",
                    stacklevel=3,
                )

    @property
    def inputs(self) -> set[str]:
        """What the models' ``forward`` takes, any of them; labels are none of it."""
        taken = (inspect.signature(model.forward).parameters for model in self.models)
        return set().union(*taken) - {"labels", "kwargs"}

    def to(self, device: torch.device | str) -> "Teacher":
        """Move the models to ``device``."""
        for model in self.models:
            model.to(device)  # type: ignore[arg-type]
        return self

    @contextmanager
    def on_accelerator(self) -> Iterator[torch.device]:
        """For a while, models that are on the CPU go where models run here; then back, as their owner left them."""
        device, moved = choose_device(), [model for model in self.models if model.device.type == "cpu"]
        try:
            for model in moved:
                model.to(device)  # type: ignore[arg-type]
            yield self.models[0].device
        finally:
            for model in moved:
                model.to("cpu")  # type: ignore[arg-type]

    @torch.no_grad()  # not inference_mode: its tensors may not be saved for the backward pass of a loss
    def run(self, batch: Mapping[str, Any], needs: frozenset[str] = frozenset()) -> ModelOutput:
        """The teacher's outputs for a collated batch.

        Args:
            batch: inputs of the model; columns that begin with ``teacher_`` win over the student's.
            needs: what else the objective reads (see :func:`nlp_distill.internals.run_model`); one teacher only.

        Returns:
            A ``ModelOutput`` whose ``logits`` are (batch, classes) for one teacher, (batch, teachers, classes) for
            several, in the order of the student's labels. Nothing in it has a gradient, except
            ``attached_logits`` by ``input_embeddings``, where those are needed.
        """
        if self.tokenizer is not None and TEACHER_PREFIX + "input_ids" not in batch:
            raise InputError(
                "the teacher has its own tokenizer, but the rows carry no teacher_input_ids; encode them for it too "
                "(nlp_distill.encoding.encode_for_teacher), or give the teacher without a tokenizer if it reads the "
                "student's tokens"
            )
        inputs = select_teacher_inputs(batch)
        if len(self.models) == 1:
            outputs = self._run_model(0, inputs, needs)
            if "logits" in outputs:  # an encoder alone has none
                with torch.set_grad_enabled(INPUT_EMBEDDINGS in needs):
                    outputs["logits"] = _reorder(outputs["logits"], self._orders[0])
            return detach_outputs(outputs) if INPUT_EMBEDDINGS in needs else outputs
        if needs:
            raise InputError(
                f"{len(self.models)} teachers were given, but the objective reads {sorted(needs)}, which only one "
                "teacher can provide; give one teacher, or an objective over logits"
            )
        logits = [
            _reorder(self._run_model(i, inputs, needs)["logits"], order)
            for i, order in enumerate(self._orders)
        ]
        return SequenceClassifierOutput(logits=torch.stack(logits, dim=1))

    def _run_model(self, index: int, inputs: Mapping[str, Tensor], needs: frozenset[str]) -> ModelOutput:
        model = self.models[index]
        parameters = inspect.signature(model.forward).parameters
        model.eval()  # the caller may have called train() on a shared model since
        accepted = {name: value for name, value in inputs.items() if name in parameters}
        return run_model(model, accepted, needs)


def detach_outputs(outputs: ModelOutput) -> ModelOutput:
    """Outputs without gradients, but for the logits that ``input_embeddings`` leads to, kept as ``attached_logits``."""
    kept = {ATTACHED_LOGITS: outputs["logits"], INPUT_EMBEDDINGS: outputs[INPUT_EMBEDDINGS]}
    others = {name: _detach(value) for name, value in outputs.items() if name not in kept}
    return ModelOutput(others | kept)


def _detach(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else tuple(part.detach() for part in value)


def freeze(model: PreTrainedModel) -> PreTrainedModel:
    """Put ``model`` in eval mode and stop its gradients, in place; returns it."""
    return model.eval().requires_grad_(False)


def select_teacher_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The teacher's inputs of a batch: its own encoding if the batch carries one, else the student's."""
    own = {
        name.removeprefix(TEACHER_PREFIX): value
        for name, value in batch.items()
        if name.startswith(TEACHER_PREFIX) and name not in OF_TEACHER
    }
    if own:
        return own
    return {name: value for name, value in batch.items() if name not in {"labels", "label", *OF_TEACHER}}


def unwrap_compiled(model: torch.nn.Module) -> Any:
    """The model that ``torch.compile`` was given: what it returns hides which inputs the model takes."""
    return getattr(model, "_orig_mod", model)


def check_single_label(model: PreTrainedModel, side: str) -> None:
    """Refuse a model whose outputs are neither one distribution over classes nor one value.

    Raises:
        InputError: saying what its config says.
    """
    config: Any = model.config
    if not has_head(model) or config.problem_type not in ("multi_label_classification", "regression"):
        return
    if config.problem_type == "multi_label_classification" or config.num_labels > 1:
        raise InputError(
            f"the {side}'s config says problem_type={config.problem_type!r} with num_labels={config.num_labels}, and "
            "what is learnt here is one label a text (softmax over classes) or one value; give such a model, or clear "
            "problem_type where the config is wrong"
        )


def has_head(model: PreTrainedModel) -> bool:
    """Whether a model is more than an encoder, which has no logits, whatever labels its config invents."""
    return not model.base_model_prefix or model.base_model is not model


def has_classes(model: PreTrainedModel) -> bool:
    """Whether a model's logits are of its config's labels: it has a head, and not that of a language model."""
    return has_head(model) and model.get_output_embeddings() is None


def read_labels(config) -> tuple[str, ...]:
    """Label names of a model's config in index order; empty for a regression (one output)."""
    if config.num_labels == 1:
        return ()
    return tuple(config.id2label[i] for i in range(config.num_labels))


def is_anonymous(labels: Sequence[str]) -> bool:
    """Whether these are the names that transformers invents where a config has none: ``LABEL_0``, ..."""
    return len(labels) > 0 and list(labels) == [f"LABEL_{i}" for i in range(len(labels))]


def choose_labels(labels: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Whose order the logits of several models take: the first's, if it has names, else the next with as many."""
    named = (names for names in labels if len(names) == len(labels[0]) and not is_anonymous(names))
    return next(named, labels[0])


def match_labels(student_labels: Sequence[str], teacher_labels: Sequence[str]) -> list[int] | None:
    """How to pick the teacher's logits so that they follow the student's labels.

    Names that transformers invents (``LABEL_0``, ...) on either side say nothing: then only the number must agree, and
    the order is a guess, which is said once.

    Returns:
        Indices into the teacher's logits, or ``None`` where the order already agrees.

    Raises:
        InputError: if the two sides have different labels.
    """
    student, teacher = list(student_labels), list(teacher_labels)
    anonymous = is_anonymous(student) or is_anonymous(teacher)
    if student == teacher or (anonymous and len(student) == len(teacher)):
        if is_anonymous(student) != is_anonymous(teacher):
            _say_guess(tuple(student if is_anonymous(teacher) else teacher))
        return None
    if sorted(student) != sorted(teacher) or len(set(teacher)) != len(teacher):
        raise InputError(
            f"the student's labels are {_show(student)} but the teacher's are {_show(teacher)}; they must be the "
            "same names (any order): fix id2label in one of the two configs, or take a teacher of this task"
            + (
                ", or name all classes with --labels where the rows lack one"
                if set(student) < set(teacher)
                else ""
            )
        )
    return [teacher.index(label) for label in student]


@functools.cache  # once for the names of a task
def _say_guess(names: tuple[str, ...]) -> None:
    """Say which names are taken for LABEL_0, ..., where those are no numbers: nothing says that it is their order."""
    if not all(name.lstrip("+-").isdecimal() for name in names):
        announce(
            f"WARNING: a model names its classes LABEL_0, LABEL_1, ..., which are taken for {_show(names)} in this "
            "order; where it learnt another, give it the names (id2label in its config.json)"
        )


def _show(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
    return f"[{shown}]" if labels else "[none: a regression]"


def _reorder(logits: Tensor, order: list[int] | None) -> Tensor:
    return logits if order is None else logits[..., order]


def warn_if_not_fine_tuned(
    score: float,
    majority_score: float,
    split: str,
    model: str = "the teacher",
    advice: str = "it looks as if it was never fine-tuned on this task",
) -> str | None:
    """A warning text if the teacher does no better than answering the most frequent class, else ``None``.

    The usual cause is a pre-trained encoder given as the teacher: its classification head is random.
    """
    if score > majority_score:
        return None
    return (
        f"{model} scores {score:.3f} on {split}, no better than always answering the most frequent class "
        f"({majority_score:.3f}); {advice}"
    )
