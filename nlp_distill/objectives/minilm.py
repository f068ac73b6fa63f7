"""MiniLM: what the last layer attends to, and how its values relate.

Wang et al. 2020, "MiniLM: Deep Self-Attention Distillation", arXiv 2002.10957 (v1), and Wang et al. 2021, "MiniLMv2:
Multi-Head Self-Attention Relation Distillation", arXiv 2012.15828 (v2).
"""

from torch import Tensor
from transformers import PreTrainedConfig

from data_augment.errors import InputError
from nlp_distill.internals import read_attention_width
from nlp_distill.limits import check_whole
from nlp_distill.losses import attention_distribution_loss, relation_loss, scale_scores
from nlp_distill.objectives.objective import Objective, check_same_tokens, check_transformers, require_parts
from nlp_distill.schedules import Schedule, value_at


class MiniLM(Objective):
    """L = L_AT + L_VR on the last layer (equations 6 to 8): terms ``attention`` and ``values``.

    L_AT = KL of the attention distributions softmax(Q K^T / sqrt(d)), L_VR = KL of the value relations
    softmax(V V^T / sqrt(d)), both the teacher's against the student's, mean over heads and positions.

    Args:
        student: the student's config.
        teacher: the teacher's config.
        weight: of both terms, a number or a schedule over progress. 1 in the paper.

    Raises:
        InputError: if the numbers of attention heads differ: ``MiniLMv2`` is for that; at a batch, for a teacher that
            reads other tokens.
    """

    needs = frozenset({"queries", "keys", "values"})

    def __init__(self, student: PreTrainedConfig, teacher: PreTrainedConfig, weight: float | Schedule = 1.0):
        super().__init__()
        check_transformers("MiniLM", student, teacher)
        self.weight = weight
        if student.num_attention_heads != teacher.num_attention_heads:
            raise InputError(
                f"MiniLM compares attention head by head, but the student has {student.num_attention_heads} heads and "
                f"the teacher {teacher.num_attention_heads}; take MiniLMv2, or equal heads"
            )

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        sides = (student_outputs, require_parts(teacher_outputs, self.needs, "MiniLM"))
        check_same_tokens(batch, "MiniLM")
        mask = batch["attention_mask"]
        own, other = (scale_scores(side["queries"][-1], side["keys"][-1]) for side in sides)
        own_values, other_values = (scale_scores(side["values"][-1], side["values"][-1]) for side in sides)
        weight = value_at(self.weight, progress)
        return {
            "attention": weight * attention_distribution_loss(own, other, mask),
            "values": weight * attention_distribution_loss(own_values, other_values, mask),
        }


class MiniLMv2(Objective):
    """KL of the query-query, key-key and value-value relations (equation 5): ``queries``, ``keys``, ``values``.

    The heads of a layer are joined and split again into relation heads, so that depth, width and number of heads of
    the two sides may all differ. The student's last layer learns.

    Args:
        student: the student's config.
        teacher: the teacher's config.
        relation_heads: more are finer. 48 for a base and 64 for a large teacher in the paper (section 4.1), of 16 and
            16 numbers each; here as many as the teacher has heads by default.
        teacher_layer: the layer to learn from, 1 to N; default the last. The paper takes an upper middle layer of
            large teachers (21 of 24) and the last of base ones (section 4.1).
        weight: of all terms, a number or a schedule over progress. 1 in the paper.

    Raises:
        InputError: for relation heads that do not divide both widths, or a layer out of range; at a batch, for a
            teacher that reads other tokens.
    """

    needs = frozenset({"queries", "keys", "values"})

    def __init__(
        self,
        student: PreTrainedConfig,
        teacher: PreTrainedConfig,
        relation_heads: int | None = None,
        teacher_layer: int | None = None,
        weight: float | Schedule = 1.0,
    ):
        super().__init__()
        check_transformers("MiniLMv2", student, teacher)
        self.weight = weight
        self.relation_heads = teacher.num_attention_heads if relation_heads is None else relation_heads
        self.teacher_layer = teacher.num_hidden_layers if teacher_layer is None else teacher_layer
        check_relation_heads(student, teacher, self.relation_heads)
        check_whole("teacher_layer", self.teacher_layer, at_least=1, at_most=teacher.num_hidden_layers)

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        teacher = require_parts(teacher_outputs, self.needs, "MiniLMv2")
        check_same_tokens(batch, "MiniLMv2")
        mask = batch["attention_mask"]
        weight = value_at(self.weight, progress)
        return {
            kind: weight
            * relation_loss(
                student_outputs[kind][-1], teacher[kind][self.teacher_layer - 1], mask, self.relation_heads
            )
            for kind in ("queries", "keys", "values")
        }


def check_relation_heads(student: PreTrainedConfig, teacher: PreTrainedConfig, relation_heads: int) -> None:
    """Refuse relation heads that do not divide both widths.

    Raises:
        InputError: naming the width and what would do.
    """
    check_whole("relation_heads", relation_heads, at_least=1)
    widths = {"student": read_attention_width(student), "teacher": read_attention_width(teacher)}
    for side, width in widths.items():
        if width % relation_heads:
            raise InputError(
                f"relation_heads is {relation_heads}, which does not divide the {side}'s width of {width}; give a "
                f"divisor of both {widths['student']} and {widths['teacher']}"
            )
