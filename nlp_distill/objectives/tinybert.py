"""TinyBERT's layerwise losses: Jiao et al. 2019, "TinyBERT: Distilling BERT for Natural Language Understanding",
arXiv 1909.10351, section 3.1.

    L_layer(m) = MSE(E_S W_e, E_T)                                    for m = 0 (equation 9)
    L_layer(m) = MSE(H_S^m W_h, H_T^g(m)) + 1/h sum_i MSE(A_i^m, A_i^g(m))   for M >= m > 0 (equations 7 and 8)

summed over the student's layers m, where g is the layer map, A are attention scores before the softmax, and W are
learnable. The prediction loss (equation 10) is ``SoftTargets(1.0)``, or ``LogitRegression`` for a regression.

Deviations from the paper: a projection a matched layer is the default, the paper's one W_h for all layers and another
W_e for the embeddings are ``share_projection=True``; where the widths agree there is none. Deviations from its code:
padding contributes nothing (see :func:`nlp_distill.losses.attention_score_loss`), and the teacher is in eval mode.
"""

from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import ModelOutput

from data_augment.errors import InputError
from nlp_distill.layer_map import LayerMap, LayerPairs, uniform
from nlp_distill.losses import attention_score_loss, hidden_state_loss, relation_loss, scale_scores, widen
from nlp_distill.objectives.minilm import check_relation_heads
from nlp_distill.objectives.objective import Objective, check_same_tokens, check_transformers, require_parts


class TinyBERTLayers(Objective):
    """The intermediate-layer distillation of TinyBERT, as the terms ``attention``, ``hidden`` and ``embedding``.

    Args:
        student: the student's config: its depth, width and heads.
        teacher: the teacher's config.
        layer_map: which teacher layer each student layer learns from; default g(m) = m * N / M (section 4.1).
        attention: weight of the attention term; 0 leaves it out. 1 in the paper, as the others.
        hidden: weight of the hidden-state term.
        embedding: weight of the embedding term.
        share_projection: one projection for all hidden states, as in the paper, instead of one a layer.
        project: make projections where the widths differ; without them different widths are an error.
        relation_heads: instead of attention scores, compare the query, key and value relations of MiniLMv2 (Wang et
            al. 2021, arXiv 2012.15828) with so many relation heads in every matched layer. The way to go where teacher
            and student have different numbers of attention heads.

    Raises:
        InputError: for a layer map out of range, different head counts without ``relation_heads``, different widths
            without ``project``, relation heads that do not divide both widths, or no term at all; at a batch, for a
            teacher that reads other tokens.

    Example:
        >>> objective = TinyBERTLayers(student.config, teacher.config)  # doctest: +SKIP
    """

    def __init__(
        self,
        student: PreTrainedConfig,
        teacher: PreTrainedConfig,
        layer_map: LayerMap = uniform,
        *,
        attention: float = 1.0,
        hidden: float = 1.0,
        embedding: float = 1.0,
        share_projection: bool = False,
        project: bool = True,
        relation_heads: int | None = None,
    ):
        super().__init__()
        check_transformers("TinyBERTLayers", student, teacher)
        self.weights = {"attention": attention, "hidden": hidden, "embedding": embedding}
        self.relation_heads = relation_heads
        pairs = layer_map(student.num_hidden_layers, teacher.num_hidden_layers)
        if not any(self.weights.values()):
            raise InputError(
                "attention, hidden and embedding weigh 0, so nothing is learnt; give one a weight"
            )
        self.embedding_pairs = [pair for pair in pairs if pair[0] == 0] if embedding else []
        self.hidden_pairs = [pair for pair in pairs if pair[0] > 0] if hidden else []
        self.attention_pairs = [pair for pair in pairs if pair[0] > 0] if attention else []
        if not (self.embedding_pairs or self.hidden_pairs or self.attention_pairs):
            raise InputError(
                f"the layer map pairs {', '.join(map(str, pairs))}, and the terms that have a weight compare none of "
                "them, so nothing is learnt; give their weights, or another map"
            )
        if self.attention_pairs:
            _check_attention(student, teacher, self.attention_pairs, relation_heads)
        self.projections = _make_projections(
            student.hidden_size,
            teacher.hidden_size,
            [pair[0] for pair in (*self.embedding_pairs, *self.hidden_pairs)],
            share_projection,
            project,
        )
        self.needs = self._collect_needs()

    def _collect_needs(self) -> frozenset[str]:
        states = {"hidden_states"} if self.hidden_pairs or self.embedding_pairs else set()
        scores = {"queries", "keys"} if self.attention_pairs else set()
        values = {"values"} if self.attention_pairs and self.relation_heads else set()
        return frozenset(states | scores | values)

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        teacher = require_parts(teacher_outputs, self.needs, "TinyBERTLayers")
        check_same_tokens(batch, "TinyBERTLayers")
        mask = batch["attention_mask"]
        terms = {
            "attention": [
                self._compare_attention(student_outputs, teacher, pair, mask) for pair in self.attention_pairs
            ],
            "hidden": [
                self._compare_states(student_outputs, teacher, pair, mask) for pair in self.hidden_pairs
            ],
            "embedding": [
                self._compare_states(student_outputs, teacher, pair, mask) for pair in self.embedding_pairs
            ],
        }
        return {
            name: self.weights[name] * sum(losses[1:], losses[0]) for name, losses in terms.items() if losses
        }

    def list_teacher_parts(self) -> list[tuple[str, int]]:
        """What :meth:`forward` reads of the teacher, as kind and index: what ``teacher_states`` has to keep."""
        states = {other for _, other in (*self.embedding_pairs, *self.hidden_pairs)}
        attention = {other - 1 for _, other in self.attention_pairs}
        kinds = ("queries", "keys", "values") if self.relation_heads else ("queries", "keys")
        return [("hidden_states", layer) for layer in sorted(states)] + [
            (kind, layer) for kind in kinds for layer in sorted(attention)
        ]

    def list_projected(self) -> list[tuple[str, int, int]]:
        """Every compared pair of states: name of its projection, student layer, teacher layer; 0 is the embeddings."""
        pairs = (*self.embedding_pairs, *self.hidden_pairs)
        return [(_projection_name(own, self.projections), own, other) for own, other in pairs]

    def _compare_states(
        self, student: ModelOutput, teacher: ModelOutput, pair: tuple[int, int], mask: Tensor
    ):
        states = student["hidden_states"][pair[0]]
        if self.projections:
            states = self.projections[_projection_name(pair[0], self.projections)](widen(states))
        return hidden_state_loss(states, teacher["hidden_states"][pair[1]], mask)

    def _compare_attention(
        self, student: ModelOutput, teacher: ModelOutput, pair: tuple[int, int], mask: Tensor
    ) -> Tensor:
        own, other = pair[0] - 1, pair[1] - 1  # layer m's attention is the (m - 1)-th that was recorded
        if self.relation_heads:
            kinds = ("queries", "keys", "values")
            losses = [
                relation_loss(student[kind][own], teacher[kind][other], mask, self.relation_heads)
                for kind in kinds
            ]
            return losses[0] + losses[1] + losses[2]
        return attention_score_loss(
            scale_scores(student["queries"][own], student["keys"][own]),
            scale_scores(teacher["queries"][other], teacher["keys"][other]),
            mask,
        )


def _check_attention(
    student: PreTrainedConfig, teacher: PreTrainedConfig, pairs: LayerPairs | list, relation_heads: int | None
) -> None:
    if any(teacher_layer == 0 for _, teacher_layer in pairs):
        raise InputError(
            "layer_map sends a student layer to the teacher's embeddings (0), which have no attention; map it to 1–"
            f"{teacher.num_hidden_layers}, or leave the attention term out"
        )
    if relation_heads is None:
        if student.num_attention_heads != teacher.num_attention_heads:
            raise InputError(
                f"the student has {student.num_attention_heads} attention heads and the teacher "
                f"{teacher.num_attention_heads}, so their scores cannot be compared head by head; give "
                "relation_heads (MiniLMv2's query, key and value relations; --relation-heads), equal heads, or "
                "attention=0 (--without attention)"
            )
        return
    check_relation_heads(student, teacher, relation_heads)


def _make_projections(
    student_width: int, teacher_width: int, layers: list[int], share: bool, project: bool
) -> nn.ModuleDict:
    if student_width == teacher_width or not layers:
        return nn.ModuleDict()
    if not project:
        raise InputError(
            f"the student is {student_width} wide and the teacher {teacher_width}; hidden states and embeddings need "
            "a projection (project=True), the same width, or a weight of 0"
        )
    names = {"embedding" if layer == 0 else "hidden" if share else f"hidden_{layer}" for layer in layers}
    return nn.ModuleDict(
        {name: nn.Linear(student_width, teacher_width, bias=False) for name in sorted(names)}
    )


def _projection_name(layer: int, projections: nn.ModuleDict) -> str:
    if layer == 0:
        return "embedding"
    return "hidden" if "hidden" in projections else f"hidden_{layer}"
