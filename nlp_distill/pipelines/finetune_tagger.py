"""Fine-tune a pre-trained encoder to tag words: how a tagger's teacher is made.

L = CE(tag, model) at the first piece of each word,   mean over words          (BERT, section 5.3)
"""

from pathlib import Path
from typing import Any

from transformers import AutoModelForTokenClassification

from nlp_distill.evaluation import describe_size
from nlp_distill.models import (
    check_max_length,
    check_vocabulary,
    load_pretrained,
    load_tagger,
    load_word_tokenizer,
)
from nlp_distill.objectives import HardLabels, OverTokens
from nlp_distill.pipelines.finetune import TRAINING, FinetuneConfig
from nlp_distill.pipelines.tagged_rows import TaggedRows
from nlp_distill.tagging import name_metrics, score_predictions
from nlp_distill.trainer import DistillationTrainer
from nlp_distill.training import make_training_arguments, train_and_save


def finetune_tagger(config: FinetuneConfig, rows: TaggedRows, output_dir: str | Path) -> dict[str, Any]:
    """Fine-tune, and save the checkpoint with the best validation score; resumes where an earlier run stopped.

    Args:
        config: the settings, those of any fine-tuning.
        rows: of the model's own tokenizer. Train is learnt, validation selects the checkpoint, test is not looked at.
        output_dir: where model and tokenizer go; checkpoints go into ``checkpoints``, which the stage drops at its end.

    Returns:
        What :func:`nlp_distill.training.train_and_save` returns.

    Raises:
        InputError: for a model that cannot be loaded or reads fewer tokens than ``max_length``, or training arguments
            that do not fit.
    """
    output, labels = Path(output_dir), rows.labels
    args = make_training_arguments(TRAINING, config.training, output, config.seed, name_metrics(labels))
    code = {"trust_remote_code": config.trust_remote_code}
    tokenizer = load_word_tokenizer(config.model, **code)
    model = load_pretrained(
        AutoModelForTokenClassification,
        config.model,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={name: index for index, name in enumerate(labels)},
        ignore_mismatched_sizes=True,  # a head for another number of tags is replaced by a new one
        **code,
    )
    check_max_length(model, config.max_length)
    check_vocabulary(model, tokenizer)
    trainer = DistillationTrainer(
        model=model,
        objective=OverTokens(HardLabels()),
        args=args,
        train_dataset=rows.splits["train"],
        eval_dataset=rows.splits["validation"],
        processing_class=tokenizer,
        compute_metrics=score_predictions(labels),
    )
    return train_and_save(trainer, output)


def score_tagger(folder: Path, rows: TaggedRows, trust_remote_code: bool = False) -> dict[str, Any]:
    """The place of a saved tagger in the results: scores on validation and test, and its size."""
    model, tokenizer = load_tagger(folder, trust_remote_code=trust_remote_code)
    return rows.describe(rows.predict(model, tokenizer)) | describe_size(model, folder)
