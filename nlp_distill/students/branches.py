"""Several students on one trunk: the model of ONE (Lan et al. 2018, "Knowledge Distillation by On-the-Fly Native
Ensemble", arXiv 1806.04606, section 3), built from any BERT-like classifier.

    h = trunk(x),   z_i = branch_i(h),   g = softmax(W mean(h) + b),   z_e = sum_i g_i z_i

The trunk is the embeddings and the lower layers, a branch the last ``depth`` layers and a head, each with weights of
its own; the gate mixes the branches' logits, row by row. Trained by ``objectives.ONE``, which teaches every branch what
all of them say together. Afterwards any ``branch(i)`` is a plain model as large as the one it was built from, and the
whole, the paper's ONE-E, an ensemble that costs ``depth`` layers a branch.

Deviations from the paper, whose nets are convolutional and start from random weights: the gate reads the mean of the
trunk's token states (the paper's the mean over places); and its scores go into the softmax as they are, where the paper
normalises them over the batch and cuts them at 0 first (batch norm, ReLU): a row's answer would depend on its batch,
batches of one row would fail and 4 x 1 accumulated rows would not be 2 x 2. Its weights start from 0, so that the
ensemble starts as the branches' mean.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from data_augment.errors import InputError
from nlp_distill.limits import check_whole
from nlp_distill.losses import mean_of_tokens

from .multitask import reads_token_types

LARGEST = 64  # branches: each is a few layers in memory


class BranchedConfig(PreTrainedConfig):
    """A classifier and how it is branched.

    Arguments
        encoder: the config of the classifier that a branch and the trunk make up, as a dictionary with its
            ``model_type``.
        branches: how many; the paper's target net and two more.
        depth: layers that each branch has for itself, the last ones; the paper's last block.
    """

    model_type = "nlp-distill-branched"

    encoder: dict | None = None
    branches: int = 3
    depth: int = 1


@dataclass
class BranchedOutput(SequenceClassifierOutput):
    """The ensemble's ``logits`` (batch, classes), ``branch_logits`` (batch, branches, classes), ``gate`` (batch,
    branches), which sums to 1."""

    branch_logits: Tensor | None = None
    gate: Tensor | None = None


# Kinds whose branched models answer as the plain ones do; the tests try each.
BRANCHABLE = (
    *("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"),
    *("convbert", "data2vec-text", "ernie", "mobilebert", "nlp-distill-compact-bert"),
)


class HandedOver(nn.Module):
    """In the place of a branch's embeddings: what the trunk computed is its input already."""

    def forward(self, input_ids=None, inputs_embeds=None, *args: Any, **kwargs: Any) -> Tensor:
        """The states, (batch, seq, hidden), as they come."""
        return inputs_embeds


class BranchedForSequenceClassification(PreTrainedModel):
    """Branches on a shared trunk; ``logits``, which evaluation reads, are those of the gated ensemble.

    Loads with ``AutoModelForSequenceClassification`` after ``import nlp_distill.students``.

    Raises:
        InputError: for a kind of model that has no layers to branch, or a number of branches or layers out of range.

    Example:
        >>> model = BranchedForSequenceClassification.from_classifier(bert, branches=3, depth=2)  # doctest: +SKIP
        >>> DistillationTrainer(model=model, objective=ONE(), ...).train()  # doctest: +SKIP
        >>> model.branch(0).save_pretrained("student")  # a BertForSequenceClassification  # doctest: +SKIP
    """

    config: BranchedConfig
    config_class = BranchedConfig
    base_model_prefix = ""
    main_input_name = "input_ids"

    def __init__(self, config: BranchedConfig):
        super().__init__(config)
        encoder = self._read_encoder()
        layers = getattr(encoder, "num_hidden_layers", 0)
        check_whole("branches", config.branches, at_least=2, at_most=LARGEST)
        check_branchable(encoder)
        check_whole("depth", config.depth, at_least=1, at_most=layers)
        self.shared_layers = layers - config.depth
        trunk: Any = _build(encoder, self.shared_layers).base_model
        if hasattr(trunk, "pooler"):
            trunk.pooler = None
        self.trunk: Any = trunk
        self.branches = nn.ModuleList(
            _cut_embeddings(_build(encoder, config.depth)) for _ in range(config.branches)
        )
        self.gate = nn.Linear(encoder.hidden_size, config.branches)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.post_init()

    @classmethod
    def from_classifier(
        cls,
        source: PreTrainedModel,
        branches: int = 3,
        depth: int = 1,
        *,
        copy_heads: bool = False,
        seed: int = 0,
    ) -> BranchedForSequenceClassification:
        """A branched model that starts from a classifier: its trunk, and its last layers in every branch.

        Args:
            source: a sequence classifier (BERT, RoBERTa, ELECTRA, DistilBERT or one built like them), which is copied.
            branches: how many.
            depth: layers of a branch.
            copy_heads: start every branch from the source's head as well, so that the model answers as the source
                does. Branches that are equal learn the same but for dropout; by default each draws a head of its own.
            seed: of the heads; the global random state is left as it was.

        Raises:
            InputError: for anything but a sequence classifier of these kinds, and for numbers out of range.
        """
        config = BranchedConfig(
            encoder=source.config.to_dict(),
            branches=branches,
            depth=depth,
            id2label=source.config.id2label,
            label2id=source.config.label2id,
            problem_type=source.config.problem_type,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(config)
        if type(source) is not type(model.branches[0]):
            raise InputError(
                f"{type(source).__name__} is no sequence classifier, which is what has a head to branch; give a "
                f"{type(model.branches[0]).__name__}"
            )
        weights = source.state_dict()
        for number in range(branches):
            names = model._map_names(number)
            chosen = {
                own: weights[name]
                for own, name in names.items()
                if copy_heads or name.startswith(f"{source.base_model_prefix}.")
            }
            model.load_state_dict(
                chosen, strict=False
            )  # loads what is there; the heads stay as they were drawn
        return model.to(source.dtype)  # type: ignore[arg-type]

    def branch(self, number: int) -> PreTrainedModel:
        """One branch and the trunk as a plain classifier, with weights of its own: it gives ``branch_logits[:, i]``.

        Raises:
            InputError: for a branch that the model does not have.
        """
        check_whole("branch", number, at_least=0, at_most=len(self.branches) - 1)
        encoder = self._read_encoder()
        with torch.random.fork_rng(devices=[]):
            whole = _build(encoder, encoder.num_hidden_layers)
        weights = self.state_dict()
        whole.load_state_dict({name: weights[own] for own, name in self._map_names(number).items()})
        return whole.to(self.device, self.dtype).train(self.training)  # type: ignore[arg-type]

    def _read_encoder(self) -> PreTrainedConfig:
        """The config of trunk and one branch, with this model's labels."""
        own = dict(self.config.encoder or {})
        encoder = AutoConfig.for_model(own.pop("model_type"), **own)
        encoder.id2label, encoder.label2id = self.config.id2label, self.config.label2id
        return encoder

    def _map_names(self, number: int) -> dict[str, str]:
        """The weights of trunk and a branch, by their name here and their name in a plain classifier."""
        branch: Any = self.branches[number]
        stack = name_layers(branch) + "."
        names = {f"trunk.{name}": f"{branch.base_model_prefix}.{name}" for name in self.trunk.state_dict()}
        for name in branch.state_dict():
            layer, _, rest = name.removeprefix(stack).partition(".")
            is_layer = name.startswith(stack)
            whole = f"{stack}{int(layer) + self.shared_layers}.{rest}" if is_layer else name
            names[f"branches.{number}.{name}"] = whole
        return names

    def _init_weights(self, module: nn.Module) -> None:
        """Trunk and branches initialised their modules when they were made."""

    def get_input_embeddings(self) -> nn.Module:
        """The trunk's word embeddings."""
        return self.trunk.get_input_embeddings()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> BranchedOutput:
        """The ensemble's logits, each branch's, and the gate.

        Args:
            input_ids: (batch, seq).
            attention_mask: (batch, seq), 1 for real tokens; needed unless no row is padded.
            token_type_ids: (batch, seq), 1 for the second text; left out for kinds that take none.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        if token_type_ids is not None and reads_token_types(self.trunk):
            inputs["token_type_ids"] = token_type_ids
        states = self.trunk(**inputs).last_hidden_state
        own = torch.stack([b(inputs_embeds=states, attention_mask=mask).logits for b in self.branches], dim=1)
        gate = torch.softmax(self.gate(mean_of_tokens(states, mask).to(self.gate.weight.dtype)), dim=-1)
        logits = (gate[:, :, None] * own).sum(dim=1)
        return BranchedOutput(logits=logits, branch_logits=own, gate=gate)


def name_layers(model: PreTrainedModel) -> str:
    """The name of the list of transformer layers in a model, as in its weights' names: ``bert.encoder.layer``."""
    depth = model.config.num_hidden_layers
    stacks = (
        name for name, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part) == depth
    )
    return next(stacks)


def check_branchable(encoder: PreTrainedConfig) -> None:
    """Refuse a kind of model that is not known to give the same answers in two pieces.

    Those that end in a norm of all layers (MegatronBERT, XLM-R-XL) would pass it twice.

    Raises:
        InputError: naming it.
    """
    if encoder.model_type not in BRANCHABLE:
        raise InputError(
            f"a model of the kind {encoder.model_type} has no layers that can be branched; give a sequence classifier "
            f"of one of these kinds: {', '.join(BRANCHABLE)}"
        )


def _build(encoder: PreTrainedConfig, layers: int) -> PreTrainedModel:
    """A classifier of so many layers, with random weights."""
    config = copy.deepcopy(encoder)
    config.num_hidden_layers = layers
    config.dtype = None  # that of the whole, which its loader decides on
    return AutoModelForSequenceClassification.from_config(config)


def _cut_embeddings(classifier: PreTrainedModel) -> PreTrainedModel:
    """The classifier without embeddings: it takes states as its ``inputs_embeds``."""
    base: Any = classifier.base_model
    base.embeddings = HandedOver()
    if hasattr(base, "embeddings_project"):  # ELECTRA's, from the embeddings' width to the layers'
        del base.embeddings_project
    return classifier
