"""The options of every command, by what they belong to. Nothing heavy is imported here."""

from nlp_distill.options.data_free import add_invert_options, add_record_options
from nlp_distill.options.multitask import add_bam_options, add_mt_dnn_options, add_suite_options
from nlp_distill.options.shared import (
    add_common_options,
    add_data_options,
    add_hub_options,
    add_teacher_options,
    add_trust_option,
)
from nlp_distill.options.shipping import (
    add_benchmark_options,
    add_compress_options,
    add_export_options,
    add_fit_options,
    add_hand_over_options,
    add_serve_options,
)
from nlp_distill.options.students import (
    add_distillation_options,
    add_finetune_options,
    add_general_options,
    add_spacy_options,
    add_tinybert_options,
)
from nlp_distill.options.taggers import add_sentence_options, add_tagger_options

__all__ = [
    "add_bam_options",
    "add_benchmark_options",
    "add_common_options",
    "add_compress_options",
    "add_data_options",
    "add_distillation_options",
    "add_export_options",
    "add_finetune_options",
    "add_fit_options",
    "add_general_options",
    "add_hand_over_options",
    "add_hub_options",
    "add_invert_options",
    "add_mt_dnn_options",
    "add_record_options",
    "add_sentence_options",
    "add_serve_options",
    "add_spacy_options",
    "add_suite_options",
    "add_tagger_options",
    "add_teacher_options",
    "add_tinybert_options",
    "add_trust_option",
]
