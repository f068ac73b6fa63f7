"""One encoder, one head a task: the model of MT-DNN (Liu et al. 2019, arXiv 1901.11504) and BAM (Clark et al. 2019).

Every task is a complete classifier of the encoder's own kind (``BertForSequenceClassification``, the BiLSTM, the
CNN, a SAN head on BERT) whose trunk is the shared one. So a head computes here exactly what it computes alone, and
``for_task`` hands out a plain model.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from data_augment.errors import InputError
from nlp_distill.losses import widen

from .bilstm import BiLSTMConfig
from .san import SANConfig, SANForSequenceClassification
from .word_student import WordStudentConfig

HEADS = ("plain", "san")
WORD_TRUNK = ("embeddings", "static_embeddings", "embedding_dropout", "encoder")


@dataclass(frozen=True)
class TaskHead:
    """What one task needs of the model.

    Args:
        name: the task's name.
        labels: label names in index order; none for a regression.
        is_pair: whether a row holds two texts.
        head: ``plain`` (the encoder's usual classifier) or ``san`` (pairs with classes, on a transformer).

    Raises:
        InputError: for a name that no head can have, or a SAN head where it does not fit.
    """

    name: str
    labels: tuple[str, ...] = ()
    is_pair: bool = False
    head: str = "plain"

    def __post_init__(self) -> None:
        check_task_name(self.name)
        if self.head not in HEADS:
            raise InputError(f"the head of {self.name} is {self.head!r}; give one of {', '.join(HEADS)}")
        if self.head == "san" and not (self.is_pair and self.labels):
            raise InputError(
                f"task {self.name} cannot have a SAN head: it is made for pairs of texts with classes; give it a plain "
                "head"
            )

    @property
    def num_labels(self) -> int:
        """Width of the output: classes, 1 for a regression."""
        return len(self.labels) or 1


def check_task_name(name: str) -> None:
    """Refuse a name that cannot be that of a module and of a folder.

    Raises:
        InputError: naming it.
    """
    if not re.fullmatch(r"[\w-]+", name) or hasattr(nn.ModuleDict(), name):
        raise InputError(
            f"a task cannot be called {name!r} (letters, digits, _ and - make a name, and some, such as 'type' or "
            "'values', mean something to torch); give it another name"
        )


class MultiTaskConfig(PreTrainedConfig):
    """An encoder and its tasks.

    Args:
        encoder: the encoder's config as a dictionary with its ``model_type``.
        tasks: the fields of a :class:`TaskHead` for each task, in the order of ``task_ids``.
    """

    model_type = "nlp-distill-multitask"

    encoder: dict | None = None
    tasks: list | None = None

    def list_heads(self) -> list[TaskHead]:
        """The tasks as :class:`TaskHead`."""
        return [TaskHead(**{**task, "labels": tuple(task["labels"])}) for task in self.tasks or []]


class MultiTaskModel(PreTrainedModel):
    """A shared encoder with a head for each task.

    ``forward`` takes rows of any mixture of tasks with ``task_ids`` (batch,). The rows of each task run together with
    the padding that they need themselves, so that a batch of short and long tasks costs no more than its tokens.

    Example:
        >>> model = MultiTaskModel.from_encoder("bert-base-uncased", [TaskHead("sst2", ("negative", "positive"))])
        ... # doctest: +SKIP
        >>> model.for_task("sst2").save_pretrained("sst2")  # a BertForSequenceClassification  # doctest: +SKIP
    """

    config: MultiTaskConfig
    config_class = MultiTaskConfig
    _classifiers: dict[str, PreTrainedModel]
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True  # where the encoder's layers do

    def __init__(self, config: MultiTaskConfig):
        super().__init__(config)
        self.tasks = config.list_heads()
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) < len(names):
            raise InputError(f"the tasks are {names}; give one or more, each once")
        own = dict(config.encoder or {})
        encoder = AutoConfig.for_model(own.pop("model_type"), **own)
        classifiers = [make_classifier(encoder, task) for task in self.tasks]
        plain = (c for c in classifiers if not isinstance(c, SANForSequenceClassification))
        found = find_trunk(next(plain, classifiers[0]))
        # A transformer is one module, which every class calls otherwise; the parts of a BiLSTM or CNN keep their names.
        self.trunk = nn.ModuleDict(found if len(found) > 1 else {"encoder": next(iter(found.values()))})
        self.heads = nn.ModuleDict()
        for task, classifier in zip(self.tasks, classifiers, strict=True):
            own_trunk = find_trunk(classifier)
            for (name, _), module in zip(own_trunk.items(), self.trunk.values(), strict=True):
                setattr(classifier, name, module)
            rest = {name: module for name, module in classifier.named_children() if name not in own_trunk}
            self.heads[task.name] = nn.ModuleDict(rest)
        # Not registered: their modules are, in trunk and heads, under names that do not repeat.
        object.__setattr__(self, "_classifiers", dict(zip(names, classifiers, strict=True)))
        self.post_init()

    @classmethod
    def from_encoder(
        cls, source: str | Path | PreTrainedModel, tasks: Sequence[TaskHead], **kwargs: Any
    ) -> MultiTaskModel:
        """A model whose encoder is a pre-trained one and whose heads are new.

        Args:
            source: folder or hub name of an encoder or classifier, or a classifier in memory, whose encoder is copied.
            tasks: the tasks.
            kwargs: passed on to ``from_pretrained``; fields of the encoder's config among them (dropouts, say).
        """
        if isinstance(source, PreTrainedModel):
            classifier = source
        else:
            kwargs.setdefault("dtype", torch.float32)  # not the checkpoint's: new heads are float32
            classifier = AutoModelForSequenceClassification.from_pretrained(str(source), **kwargs)
        encoder = classifier.config.to_dict()
        plain = [
            {"name": t.name, "labels": list(t.labels), "is_pair": t.is_pair, "head": t.head} for t in tasks
        ]
        model = cls(MultiTaskConfig(encoder=encoder, tasks=plain))
        for module, other in zip(model.trunk.values(), find_trunk(classifier).values(), strict=True):
            missing = module.load_state_dict(other.state_dict(), strict=False).missing_keys
            if any("pooler" not in name for name in missing):  # RoBERTa's classifiers have none
                raise InputError(f"the encoder lacks {missing[0]}; give a model of the same kind")
        return model

    def _init_weights(self, module: nn.Module) -> None:
        """The classifiers initialised their modules when they were made."""

    def train(self, mode: bool = True) -> MultiTaskModel:
        """As in torch; the classifiers that share these modules follow."""
        super().train(mode)
        for classifier in getattr(self, "_classifiers", {}).values():
            classifier.train(mode)
        return self

    def get_input_embeddings(self) -> nn.Module:
        """The shared word embeddings."""
        return next(iter(self._classifiers.values())).get_input_embeddings()

    def get_classifier(self, task: str) -> PreTrainedModel:
        """The classifier of a task, which shares its weights with this model.

        Raises:
            InputError: for a task that the model does not have.
        """
        if task not in self._classifiers:
            raise InputError(f"the model has no task {task!r}; it has {', '.join(self._classifiers)}")
        return self._classifiers[task]

    def select(self, names: Sequence[str]) -> MultiTaskModel:
        """A model of some of the tasks, in this order, with weights of its own.

        Raises:
            InputError: for a task that the model does not have.
        """
        for name in names:
            self.get_classifier(name)
        known = {task["name"]: task for task in self.config.tasks or []}
        kept = [known[name] for name in names]
        model = type(self)(MultiTaskConfig(encoder=self.config.encoder, tasks=kept))
        missing = model.load_state_dict(self.state_dict(), strict=False).missing_keys
        if any("pooler" not in name for name in missing):  # SAN heads alone bring one, which they do not read
            raise InputError(f"the model lacks {missing[0]}; it is none of this kind")
        return model

    def for_task(self, task: str) -> PreTrainedModel:
        """A plain sequence-classification model of one task, with weights of its own.

        It gives the logits that this model gives for the task, and loads with
        ``AutoModelForSequenceClassification`` (a SAN head, a BiLSTM or a CNN after ``import nlp_distill.students``).
        """
        return copy.deepcopy(self.get_classifier(task))

    def forward(
        self,
        input_ids: Tensor,
        task_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Logits (batch, widest task); columns beyond a task's own classes are 0.

        Args:
            input_ids: (batch, seq).
            task_ids: (batch,), indices into the tasks.
            attention_mask: (batch, seq), 1 for real tokens; needed unless no row is padded.
            token_type_ids: (batch, seq), 1 for the second text.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        width = max(task.num_labels for task in self.tasks)
        # Once for all tasks: each look-up has a gradient as large as the vocabulary. (The BiLSTM and the CNN look up
        # sorted rows, and each text of a pair alone, and go on doing so.)
        embedded = self.get_input_embeddings()(input_ids)
        logits = None
        for number in task_ids.unique().tolist():
            task = self.tasks[number]
            rows = (task_ids == number).nonzero().squeeze(-1)
            # In mixed precision a SAN head answers in float32 and a plain one does not.
            own = widen(self._run_task(task, rows, input_ids, embedded, mask, token_type_ids))
            if logits is None:
                logits = own.new_zeros(len(input_ids), width)
            padded = nn.functional.pad(own, (0, width - task.num_labels))
            logits = logits.index_copy(0, rows, padded)
        return SequenceClassifierOutput(logits=logits)

    def _run_task(
        self,
        task: TaskHead,
        rows: Tensor,
        input_ids: Tensor,
        embedded: Tensor,
        mask: Tensor,
        token_type_ids: Tensor | None,
    ) -> Tensor:
        used = mask[rows].any(dim=0)  # columns that no row of this task fills are left out
        inputs = {"input_ids": input_ids[rows][:, used], "attention_mask": mask[rows][:, used]}
        classifier = self._classifiers[task.name]
        if token_type_ids is not None and reads_token_types(classifier):
            inputs["token_type_ids"] = token_type_ids[rows][:, used]
        with replace_output(self.get_input_embeddings(), inputs["input_ids"], embedded[rows][:, used]):
            return classifier(**inputs).logits


@contextmanager
def replace_output(module: nn.Module, ids: Tensor, output: Tensor) -> Iterator[None]:
    """Let a module return ``output``, which is known already, wherever it is asked for ``ids``.

    Some encoders ask it for rows in another order, or for token types as well, in tensors of the same shape.
    """

    def answer(_: nn.Module, asked: tuple[Tensor, ...], found: Tensor) -> Tensor:
        return output if asked and torch.equal(asked[0], ids) else found

    hook = module.register_forward_hook(answer)
    try:
        yield
    finally:
        hook.remove()


def make_classifier(encoder: PreTrainedConfig, task: TaskHead) -> PreTrainedModel:
    """A classifier of the encoder's kind with random weights and the head that the task wants.

    Raises:
        InputError: for a SAN head on a BiLSTM or CNN, which have no states to attend to.
    """
    names = dict(enumerate(task.labels)) or {0: "LABEL_0"}
    labels: dict[str, Any] = {
        "id2label": names,
        "label2id": {name: index for index, name in names.items()},
        "problem_type": "single_label_classification" if task.labels else "regression",
    }
    if task.head == "san":
        if isinstance(encoder, WordStudentConfig):
            kind = "BiLSTM" if isinstance(encoder, BiLSTMConfig) else "CNN"
            raise InputError(
                f"a {kind} has no SAN head: it returns one state a text; give the task a plain head"
            )
        if getattr(encoder, "type_vocab_size", 2) < 2:
            raise InputError(
                f"a SAN head tells two texts apart by token types, of which a {type(encoder).__name__} has one; give "
                "the task a plain head"
            )
        return SANForSequenceClassification(SANConfig(encoder=encoder.to_dict(), **labels))
    config = copy.deepcopy(encoder)
    config.num_labels = task.num_labels
    for name, value in labels.items():
        setattr(config, name, value)
    if isinstance(config, WordStudentConfig):
        config.pair = task.is_pair
    return AutoModelForSequenceClassification.from_config(config)


def find_trunk(classifier: nn.Module) -> dict[str, nn.Module]:
    """The children of a classifier that are no head, by name."""
    prefix = str(classifier.base_model_prefix)
    names = (prefix,) if prefix else WORD_TRUNK
    children: Mapping[str, nn.Module] = dict(classifier.named_children())
    return {name: children[name] for name in names if name in children}


def reads_token_types(classifier: PreTrainedModel) -> bool:
    """Whether a classifier takes ``token_type_ids`` (DistilBERT does not)."""
    return "token_type_ids" in inspect.signature(classifier.forward).parameters
