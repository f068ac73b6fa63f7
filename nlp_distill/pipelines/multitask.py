"""What MT-DNN and BAM share: several tasks at once, the training of one model for them, and its teachers' outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    TrainingArguments,
)

from data_augment.errors import InputError
from nlp_distill.batching import DistillationCollator
from nlp_distill.encoding import EncodedRows, encode_rows
from nlp_distill.evaluation import describe_size, load_logits, save_logits, score_majority
from nlp_distill.hashes import describe_architecture, hash_tokenizer, hash_weights
from nlp_distill.labelling import compute_logits
from nlp_distill.limits import check_whole
from nlp_distill.manifest import hash_plain
from nlp_distill.metrics import compute_metrics
from nlp_distill.models import check_max_length, check_vocabulary, load_classifier, load_pretrained
from nlp_distill.multitask import MultiTaskRows
from nlp_distill.multitask_trainer import MultiTaskTrainer, SamplerFactory
from nlp_distill.objectives import Objective, PerTask
from nlp_distill.pipelines.scoring import describe_test, predict_splits
from nlp_distill.processes import is_main_process
from nlp_distill.stages import announce, run_stage
from nlp_distill.students import MultiTaskConfig, MultiTaskModel, TaskHead
from nlp_distill.students.multitask import check_task_name
from nlp_distill.tasks import TaskData
from nlp_distill.teachers import Teacher, match_labels, read_labels, warn_if_not_fine_tuned
from nlp_distill.training import MIN_LENGTH, make_training_arguments, train_and_save

NEVER_AVERAGED = frozenset({"wnli"})  # its dev set contradicts its train set; papers leave it out
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
# What the Trainer logs: a task of that name would write over it.
LOGGED = frozenset({"loss", "score", "learning_rate", "grad_norm", "epoch", "step"})


@dataclass(frozen=True)
class Suite:
    """Several tasks and how their rows become tokens.

    Args:
        data: every task's rows, by name.
        tokenizer: of the shared encoder.
        max_length: tokens a row.
        doubled: pair tasks whose order means nothing, learnt in both orders (BAM, section 4.1).
        trust_remote_code: run code that comes with encoders and teachers.

    Raises:
        InputError: for no task, a name that no task can have, a doubled task that has no pairs, or a task without rows
            to select on.
    """

    data: Mapping[str, TaskData]
    tokenizer: Any
    max_length: int = 128
    doubled: frozenset[str] = frozenset()
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not self.data:
            raise InputError("there are no tasks; give one or more")
        check_whole("max_length", self.max_length, at_least=MIN_LENGTH)
        for name, data in self.data.items():
            check_task_name(name)
            if name in LOGGED:
                raise InputError(f"a task cannot be called {name}, which training logs; give it another name")
            if not len(data.validation):
                raise InputError(f"task {name} has no rows to select on; give it a validation split")
        for name in sorted(self.doubled):
            if name not in self.data:
                raise InputError(
                    f"task {name} is to be doubled, but is none here; give any of {', '.join(self.data)}"
                )
            if not self.data[name].task.is_pair:
                raise InputError(
                    f"task {name} has one text a row, so there is nothing to swap; do not double it"
                )

    @property
    def code(self) -> dict[str, bool]:
        """What loading a model is told."""
        return {"trust_remote_code": self.trust_remote_code}

    @property
    def averaged(self) -> frozenset[str]:
        """Tasks whose scores count in an average: all but WNLI, unless it is alone."""
        return frozenset(set(self.data) - NEVER_AVERAGED or set(self.data))

    def list_train(self, name: str) -> Dataset:
        """The task's train rows, once more with the texts swapped where it is doubled."""
        data = self.data[name]
        if name not in self.doubled:
            return data.train
        first, second = data.task.text_columns
        swapped = data.train.rename_columns({first: second, second: first}).select_columns(
            data.train.column_names
        )
        return concatenate_datasets([data.train, swapped.cast(data.train.features)])

    def encode(self, name: str, rows: Dataset, logits: np.ndarray | None = None) -> EncodedRows:
        """Rows of a task as tokens, with teachers' outputs beside them."""
        columns = self.data[name].task.text_columns
        return encode_rows(rows, self.tokenizer, columns, self.max_length, logits)

    def make_head(self, name: str, head: str = "plain") -> TaskHead:
        """What the task needs of a model."""
        task = self.data[name].task
        return TaskHead(name, task.labels, task.is_pair, head)

    def describe(self, names: Sequence[str]) -> dict[str, Any]:
        """What a result depends on of these tasks, as plain values."""
        return {
            "data": {name: self.data[name].fingerprints() for name in names},
            "columns": {name: list(self.data[name].task.text_columns) for name in names},
            "doubled": sorted(self.doubled & set(names)),
            "max_length": self.max_length,
            "tokenizer": hash_tokenizer(self.tokenizer),
        }


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


@dataclass(frozen=True)
class Labels:
    """Teachers' outputs on the train rows, by task: (rows, teachers, classes), and a hash of what made them."""

    logits: Mapping[str, np.ndarray] = field(default_factory=dict)
    fingerprints: Mapping[str, Any] = field(default_factory=dict)


def check_training(training: Mapping[str, Any], folder: Path) -> None:
    """Refuse training arguments that no training of several tasks can have, before any work.

    Args:
        training: fields of ``TrainingArguments``.
        folder: where the run goes.

    Raises:
        InputError: as :func:`nlp_distill.training.make_training_arguments`; and for checkpoints that are to be chosen
            by anything but the average score.
    """
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
    return run_stage(title, folder, inputs, build, overwrite, every_process=True)


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


def load_teacher(path: str | Path, name: str, suite: Suite) -> PreTrainedModel:
    """A teacher of one task, out of a multi-task model or a classifier.

    Raises:
        InputError: for a multi-task model without the task, or a classifier with other labels.
    """
    model = load_classifier(path, name, **suite.code)
    match_labels(suite.data[name].task.labels, read_labels(model.config))
    check_max_length(model, suite.max_length)
    if hash_tokenizer(load_pretrained(AutoTokenizer, path)) != hash_tokenizer(suite.tokenizer):
        raise InputError(
            f"the teacher {path} has another tokenizer than the encoder, whose tokens it would misread; give teachers "
            "that were fine-tuned from the same encoder"
        )
    return model


def label_tasks(
    suite: Suite, teachers: Mapping[str, Sequence[str | Path]], output: Path, overwrite: bool = False
) -> Labels:
    """Run every task's teachers over its train rows once; reused by every seed and variant.

    Args:
        suite: the tasks.
        teachers: folders or hub names by task, as many for each.
        output: each task is a stage in a folder of its own below it.

    Raises:
        InputError: for a teacher of a task that it was not trained on, or different numbers of teachers.
    """
    counts = {name: len(paths) for name, paths in teachers.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise InputError(f"the tasks have {counts} teachers; give each task as many, one at least")
    logits, prints = {}, {}
    for name, paths in teachers.items():
        if name not in suite.data:
            raise InputError(
                f"a teacher is given for {name}, which is no task here; give {', '.join(suite.data)}"
            )
        models = [load_teacher(path, name, suite) for path in paths]
        inputs = {
            "suite": suite.describe([name]),
            "teachers": [hash_weights(model) for model in models],
            "labels": [list(read_labels(model.config)) for model in models],
        }

        def build(
            folder: Path, name: str = name, models: Sequence[PreTrainedModel] = models
        ) -> dict[str, Any]:
            rows = suite.encode(name, suite.list_train(name).remove_columns("label"))
            found = [_run_teacher(suite, model, name, rows) for model in models]
            save_logits(folder / "logits.npz", {"train": np.stack(found, axis=1)})
            return {"rows": len(rows)}

        run_stage(f"labelling {name} by {len(models)} teacher(s)", output / name, inputs, build, overwrite)
        logits[name] = load_logits(output / name / "logits.npz")["train"]
        warn_of_weak_teachers(suite, name, logits[name])
        prints[name] = {part: inputs[part] for part in ("teachers", "labels")}
    return Labels(logits, prints)


def warn_of_weak_teachers(suite: Suite, name: str, logits: np.ndarray) -> None:
    """Say where a task's teachers do no better on its train rows than the most frequent answer."""
    task, labels = suite.data[name].task, np.asarray(suite.list_train(name)["label"])
    score = compute_metrics(task, logits.mean(axis=1), labels)[task.metrics[0]]
    if warning := warn_if_not_fine_tuned(score, score_majority(task, labels), f"the train rows of {name}"):
        announce(f"WARNING: {warning}")


def _run_teacher(suite: Suite, model: PreTrainedModel, name: str, rows: EncodedRows) -> np.ndarray:
    logits, _ = compute_logits(Teacher(model), rows, DistillationCollator(suite.tokenizer))
    order = match_labels(suite.data[name].task.labels, read_labels(model.config))
    return logits if order is None else logits[:, order]


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
