"""What MT-DNN and BAM share: the training and scoring of one model for several tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    TrainingArguments,
)

from data_augment.errors import InputError
from nlp_distill.evaluation import describe_size, save_logits
from nlp_distill.hashes import describe_architecture, hash_weights
from nlp_distill.manifest import hash_plain
from nlp_distill.models import check_max_length, check_vocabulary, load_pretrained
from nlp_distill.multitask import MultiTaskRows
from nlp_distill.multitask_trainer import MultiTaskTrainer, SamplerFactory
from nlp_distill.objectives import Objective, PerTask
from nlp_distill.pipelines.multitask_labels import Labels
from nlp_distill.pipelines.scoring import describe_test, predict_splits
from nlp_distill.pipelines.suite import Suite
from nlp_distill.processes import is_main_process
from nlp_distill.stages import run_stage
from nlp_distill.students import MultiTaskConfig, MultiTaskModel, TaskHead
from nlp_distill.training import make_training_arguments, train_and_save

DROPOUT_FIELDS = (
    *(
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
    ),  # BERT, RoBERTa, ELECTRA, ALBERT, MPNet, DeBERTa
    *("dropout", "attention_dropout"),  # DistilBERT, the BiLSTM and the CNN, XLNet
    *("embedding_dropout", "mlp_dropout"),  # ModernBERT
    *("hidden_dropout", "activation_dropout"),  # Funnel, EuroBERT
    *("resid_pdrop", "embd_pdrop", "attn_pdrop"),  # GPT-2
    "dropout_rate",  # T5
)


@dataclass(frozen=True)
class Recipe:
    """How one model is trained.

    Args:
        heads: its tasks.
        objectives: by task; those of tasks without a teacher learn from labels.
        sampler: makes the order of the rows.
        training: fields of ``TrainingArguments``.
        settings: whatever else decides the result, as plain values: it goes into the stage's inputs.
        layerwise_decay: see :func:`nlp_distill.optim.layerwise_groups`; ``None`` for one rate.
        adamax: Adamax instead of the optimiser that the training arguments name.
        dropout: of the encoder, in place of its own.
    """

    heads: Sequence[TaskHead]
    objectives: Mapping[str, Objective]
    sampler: SamplerFactory
    training: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    layerwise_decay: float | None = None
    adamax: bool = False
    dropout: float | None = None

    @property
    def names(self) -> list[str]:
        """The tasks' names."""
        return [head.name for head in self.heads]

    def describe(self) -> dict[str, Any]:
        """The settings as plain values."""
        return {
            # In order: it numbers the tasks, and with them the rows, the heads' first weights and their moments.
            "heads": [[head.name, head.head, list(head.labels), head.is_pair] for head in self.heads],
            "training": dict(self.training),
            "layerwise_decay": self.layerwise_decay,
            "adamax": self.adamax,
            "dropout": self.dropout,
            **self.settings,
        }


def check_training(training: Mapping[str, Any], folder: Path) -> None:
    """Refuse training arguments that no training of several tasks can have, before any work.

    Args:
        training: fields of ``TrainingArguments``.
        folder: where the run goes.

    Raises:
        InputError: as :func:`nlp_distill.training.make_training_arguments`; and for an order of rows that is not
            theirs, and checkpoints that are to be chosen by anything but the average score.
    """
    if "train_sampling_strategy" in training:
        raise InputError(
            "train_sampling_strategy has no effect on several tasks, whose rows are drawn task by task; leave it out"
        )
    chooses = str(training.get("metric_for_best_model", "score")).removeprefix("eval_")
    if chooses != "score":
        raise InputError(
            f"metric_for_best_model is {chooses}, which several tasks do not have in common; give score, the average "
            "of their scores"
        )
    if training.get("eval_strategy") == "no" and training.get("load_best_model_at_end", True):
        raise InputError(
            "eval_strategy is no, so that no checkpoint is the best; add --load-best-model-at-end false to keep the "
            "last weights"
        )
    make_training_arguments({}, training, folder, 0, ("score",))


def train_model(
    suite: Suite,
    recipe: Recipe,
    encoder: str | Path,
    labels: Labels,
    seed: int,
    folder: Path,
    title: str,
    overwrite: bool = False,
) -> dict[str, Any]:
    """One model for the recipe's tasks, as a stage: trained, saved whole, and scored on every task.

    Returns:
        ``{"path", "weights", "training", "entries"}``; ``entries`` holds the result of each task.
    """

    def build(folder: Path) -> dict[str, Any]:
        args = make_training_arguments({}, recipe.training, folder, seed, ("score",))
        model = make_model(encoder, recipe, suite.code)
        check_vocabulary(model, suite.tokenizer)
        rows = {
            name: suite.encode(name, suite.list_train(name), labels.logits.get(name)) for name in recipe.names
        }
        trainer = MultiTaskTrainer(
            model=model,
            objective=PerTask(
                [recipe.objectives[name] for name in recipe.names],
                [len(head.labels) for head in recipe.heads],
                recipe.names,
            ),
            args=args,
            sampler=recipe.sampler,
            validation={
                name: suite.encode(name, suite.data[name].validation).sort_by_length()
                for name in recipe.names
            },
            tasks={name: suite.data[name].task for name in recipe.names},
            averaged=suite.averaged,
            layerwise_decay=recipe.layerwise_decay,
            train_dataset=MultiTaskRows(rows),
            processing_class=suite.tokenizer,
            optimizer_cls_and_kwargs=make_adamax(args) if recipe.adamax else None,
        )
        trained = train_and_save(trainer, folder)
        entries = {
            name: score_task(suite, model, name, folder, trained) | {"seed": seed} for name in recipe.names
        }
        return {"path": str(folder), "weights": hash_weights(model), "training": trained, "entries": entries}

    inputs = {
        "suite": suite.describe(recipe.names),
        "recipe": recipe.describe(),
        "encoder": describe_source(encoder, suite.code),
        "labels": {name: labels.fingerprints.get(name) for name in recipe.names},
        "seed": seed,
    }
    run = run_stage(title, folder, inputs, build, overwrite, every_process=True)
    history = run["training"]["history"]
    entries = {
        name: entry | {"validation_by_epoch": list_scores(history, name)}
        for name, entry in run["entries"].items()
    }
    return {**run, "entries": entries}


def list_scores(history: Sequence[Mapping[str, Any]], task: str) -> list[list[float]]:
    """A task's learning curve: [epoch, score on the validation rows] of every evaluation."""
    return [[round(seen["epoch"], 4), seen[f"eval_{task}"]] for seen in history]


def make_adamax(args: TrainingArguments) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Adamax, which ``TrainingArguments`` cannot name, with their settings of Adam."""
    betas = (args.adam_beta1, args.adam_beta2)
    return torch.optim.Adamax, {"lr": args.learning_rate, "betas": betas, "eps": args.adam_epsilon}


def check_encoder(suite: Suite, encoder: str | Path) -> None:
    """Refuse, before any work, rows that are longer than the encoder reads."""
    check_max_length(load_encoder(encoder, suite.code)[0], suite.max_length)


def make_model(encoder: str | Path, recipe: Recipe, code: Mapping[str, bool]) -> MultiTaskModel:
    """The model at its start: a pre-trained encoder with new heads, or a multi-task model's encoder and its heads."""
    config = load_pretrained(AutoConfig, encoder, **code)
    if isinstance(config, MultiTaskConfig):
        model = load_pretrained(AutoModel, encoder).select(recipe.names)
        if model.tasks != list(recipe.heads) or recipe.dropout is not None:
            raise InputError(
                f"{encoder} is a multi-task model with heads or dropouts of its own; give the encoder it was made from"
            )
        return model
    source = load_pretrained(AutoModelForSequenceClassification, encoder, **code)
    if recipe.dropout is not None:
        source.config.update(dropout_fields(source.config, recipe.dropout))
    return MultiTaskModel.from_encoder(source, recipe.heads)


def dropout_fields(config: Any, dropout: float) -> dict[str, float]:
    """The encoder's dropout rates under the names that its family gives them.

    Raises:
        InputError: for a family that has none of the known ones.
    """
    fields = {name: dropout for name in DROPOUT_FIELDS if hasattr(config, name)}
    if not fields:
        raise InputError(
            f"{type(config).__name__} names no dropout that is known here, so teachers cannot have dropouts of their "
            "own; give another encoder"
        )
    return fields


def score_task(
    suite: Suite, model: MultiTaskModel, name: str, folder: Path, trained: Mapping[str, Any]
) -> dict[str, Any]:
    """One task's result of a trained model."""
    logits = predict_splits(model.for_task(name), suite.tokenizer, suite.data[name], suite.max_length)
    if is_main_process():
        save_logits(folder / f"logits_{name}.npz", logits)
    entry = describe_test(suite.data[name], logits) | describe_size(model, folder)
    chosen = (seen for seen in trained["history"] if seen["step"] == trained["selected_step"])
    best: dict[str, Any] = next(chosen, {})
    return entry | {
        "validation_score": best.get(f"eval_{name}"),
        "seconds": trained["seconds"],
        "path": str(folder),
    }


def load_encoder(encoder: str | Path, code: Mapping[str, bool]) -> tuple[PreTrainedModel, dict[str, Any]]:
    """An encoder, or a multi-task model, with what ``from_pretrained`` says of loading it."""
    is_suite = isinstance(load_pretrained(AutoConfig, encoder, **code), MultiTaskConfig)
    kind = AutoModel if is_suite else AutoModelForSequenceClassification
    return load_pretrained(kind, encoder, output_loading_info=True, **code)


def describe_source(encoder: str | Path, code: Mapping[str, bool]) -> dict[str, Any]:
    """What a result depends on of the encoder: its weights, and how it is built, dropouts among it."""
    model, info = load_encoder(encoder, code)
    return {
        # What is missing is drawn at random.
        "weights": hash_weights(model, without=info["missing_keys"]),
        "config": hash_plain(describe_architecture(model.config)),
    }
