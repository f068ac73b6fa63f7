"""DistilBERT's triple loss for pre-training: Sanh et al. 2019, "DistilBERT, a distilled version of BERT", arXiv
1910.01108, section 2.
"""

from torch import Tensor
from transformers import PreTrainedConfig

from data_augment.errors import InputError
from nlp_distill.losses import cosine_loss
from nlp_distill.objectives.hard_labels import UNLABELLED, hard_label_loss
from nlp_distill.objectives.objective import (
    Objective,
    check_same_tokens,
    require_parts,
    require_teacher_logits,
)
from nlp_distill.objectives.soft_targets import soft_target_loss


class DistilBERT(Objective):
    """soft * tau^2 KL(T || S) + masked_lm * CE(y, z_S) + cosine * (1 - cos(H_S, H_T)), of masked language models.

    ``soft_targets`` is a mean over the real tokens of the batch, ``masked_lm`` over the masked ones, and ``cosine``
    over the real tokens of the last hidden states. Weights, temperature and which tokens count are those of the
    authors' training command; the paper prints none. 4 x 1 accumulated steps differ slightly from 2 x 2 where rows have
    different numbers of tokens, as in the authors' code.

    Deviation from the authors' code: in the cosine each row counts the same, however long it is.

    Args:
        student: the student's config, of a masked language model.
        teacher: the teacher's config.
        temperature: tau. 2.0: authors' command.
        soft: weight of the soft targets. 5.0: authors' command.
        masked_lm: weight of the masked tokens themselves. 2.0: authors' command.
        cosine: weight of the hidden states; it needs equal widths. 1.0: authors' command.
        only_masked: soft targets over the masked tokens alone, a seventh of the work over the vocabulary (the authors'
            ``--restrict_ce_to_mask``, which their command leaves out).

    Raises:
        InputError: for vocabularies that differ, widths that differ while ``cosine`` has a weight, or no weight at all;
            at a batch, for several teachers, or one that reads other tokens.
    """

    def __init__(
        self,
        student: PreTrainedConfig,
        teacher: PreTrainedConfig,
        temperature: float = 2.0,
        soft: float = 5.0,
        masked_lm: float = 2.0,
        cosine: float = 1.0,
        only_masked: bool = False,
    ):
        super().__init__()
        if not (soft or masked_lm or cosine):
            raise InputError("soft, masked_lm and cosine weigh 0, so nothing is learnt; give one a weight")
        self.only_masked = only_masked
        self.temperature = temperature
        self.weights = {"soft": soft, "masked_lm": masked_lm, "cosine": cosine}
        self.needs = frozenset({"hidden_states"} if cosine else ())
        if student.vocab_size != teacher.vocab_size:
            raise InputError(
                f"the student knows {student.vocab_size} tokens and the teacher {teacher.vocab_size}; soft targets "
                "over the vocabulary need one tokenizer for both"
            )
        if cosine and student.hidden_size != teacher.hidden_size:
            raise InputError(
                f"the student is {student.hidden_size} wide and the teacher {teacher.hidden_size}; the cosine of "
                "hidden states needs equal widths: keep the width, or give cosine=0"
            )

    def forward(self, student_outputs, teacher_outputs, batch, progress) -> dict[str, Tensor]:
        teacher_logits = require_teacher_logits(teacher_outputs, "DistilBERT")
        check_same_tokens(batch, "DistilBERT")
        if teacher_logits.dim() == 4:
            raise InputError(
                f"DistilBERT learns from one teacher, and there are {teacher_logits.shape[1]}; give one of them"
            )
        logits = student_outputs["logits"]
        if self.weights["masked_lm"] or self.only_masked:
            labels = batch["labels"]
            masked = labels != UNLABELLED
        softened = masked if self.only_masked else batch["attention_mask"].bool()
        terms = {}
        if self.weights["soft"]:
            terms["soft_targets"] = logits.sum() * 0.0
            if softened.any():  # a short batch may have no masked token
                loss = soft_target_loss(logits[softened], teacher_logits[softened], self.temperature)
                terms["soft_targets"] = self.weights["soft"] * loss
        if self.weights["masked_lm"]:
            terms["masked_lm"] = self.weights["masked_lm"] * hard_label_loss(logits[masked], labels[masked])
        if self.weights["cosine"]:
            teacher = require_parts(teacher_outputs, self.needs, "DistilBERT")
            states = (student_outputs["hidden_states"][-1], teacher["hidden_states"][-1])
            terms["cosine"] = self.weights["cosine"] * cosine_loss(*states, batch["attention_mask"])
        return terms
