"""Token classification: every token as a row of its own, under any objective over logits.

    L = objective(logits of the tokens that count, teacher's logits of the same tokens, their labels)

Soft targets a token are how Tsai et al. 2019 ("Small and Practical BERT Models for Sequence Labeling", arXiv
1909.00100, section 3) distil a tagger: each token's distribution is a target, and text without tags will do.
"""

from typing import Any

from torch import Tensor
from transformers.modeling_outputs import TokenClassifierOutput

from nlp_distill.objectives.objective import Objective, check_same_tokens

TOKEN_MASK = "token_mask"  # (batch, seq), 1 where a token counts: the first piece of each word, usually


class OverTokens(Objective):
    """The objective over tokens instead of texts; its terms keep their names.

    The tokens are those that ``token_mask`` of the batch marks, or all real ones where the batch has none. Means run
    over the tokens of the micro-batch, as in transformers' own token classification: long texts count more than short
    ones, and 4 x 1 accumulated steps differ a little from 2 x 2 where texts have different numbers of words. Terms of
    a micro-batch in which no token counts are 0.

    Args:
        objective: over logits, for example ``SoftTargets(2.0) + HardLabels()``.

    Raises:
        ValueError: for an objective that reads hidden states or attention: those are compared token by token anyway,
            so add it beside; at a batch, for cached logits of other tokens.
        InputError: at a batch, for a teacher that reads other tokens.

    Example:
        >>> OverTokens(SoftTargets(2.0) + HardLabels())  # doctest: +SKIP
    """

    def __init__(self, objective: Objective):
        super().__init__()
        if objective.needs:
            raise ValueError(
                f"{type(objective).__name__} reads {', '.join(sorted(objective.needs))}, which OverTokens does not "
                "pass on; add it beside: OverTokens(SoftTargets()) + that"
            )
        self.objective = objective
        self.needs_teacher = objective.needs_teacher

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        counted = batch[TOKEN_MASK if TOKEN_MASK in batch else "attention_mask"].bool()
        own = TokenClassifierOutput(logits=student_outputs["logits"][counted])
        other = None
        if self.needs_teacher and teacher_outputs is not None:
            check_same_tokens(batch, "OverTokens")
            logits = teacher_outputs["logits"]
            if logits.dim() == 4:  # (batch, teachers, seq, classes)
                logits = logits.transpose(1, 2)
            _check_same_tokens(counted, logits)
            other = TokenClassifierOutput(logits=logits[counted])
        picked: dict[str, Any] = {}
        if "labels" in batch:
            picked["labels"] = batch["labels"][counted]
        terms = self.objective(own, other, picked, progress)
        if not counted.any():  # means over nothing are NaN
            nothing = student_outputs["logits"].sum() * 0
            return dict.fromkeys(terms, nothing)
        return terms


def _check_same_tokens(counted: Tensor, teacher_logits: Tensor) -> None:
    if teacher_logits.shape[:2] != counted.shape:
        raise ValueError(
            f"the teacher's logits are {tuple(teacher_logits.shape)} and the student's tokens {tuple(counted.shape)}; "
            "token by token only a teacher that reads the student's tokens can teach: give both one tokenizer, and the "
            "teacher in the loop"
        )
