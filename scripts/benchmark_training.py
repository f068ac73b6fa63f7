"""How fast layers are distilled, beside TextBrewer: the same teacher, student, losses, optimiser and rows, in one run.

    python scripts/benchmark_training.py --against textbrewer
    python scripts/benchmark_training.py --against textbrewer --task sst2 --data-dir GLUE --json out.json

The teacher is the packaged MiniLM (6 x 384), the student 3 x 312; hidden states (through a projection a layer) and
attention scores of three layers are matched, in batches of 32, with AdamW. The teacher runs in the loop on every side.

* ``nlp_distill``: ``DistillationTrainer`` with ``TinyBERTLayers``: rows of similar length together, scores read from
  queries and keys beside the fused attention kernel;
* ``textbrewer_dynamic``: TextBrewer's ``GeneralDistiller``, rows in random order, a batch padded to its longest row;
* ``textbrewer_max``: the same, every row padded to 128 tokens, as TextBrewer's examples do.

TextBrewer matches what a model returns, so its models run with an attention function that returns the scores before the
softmax, as its TinyBERT example has it; all padding is masked. They take turns in rounds, each on rows of its own from
one shuffled order, so that a machine that is busy for a while slows all alike; the slow ones get fewer rows. What is
timed is training alone, data loading included, models and tokenisation left out. The losses of both sides on one batch
of rows of one length (where the two define the same value) are printed first.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
    logging,
)
from transformers.masking_utils import eager_mask

from data_augment.errors import InputError
from nlp_distill.batching import DistillationCollator
from nlp_distill.encoding import EncodedRows, encode_rows
from nlp_distill.layer_map import uniform
from nlp_distill.models import load_pretrained
from nlp_distill.objectives import TinyBERTLayers
from nlp_distill.results import collect_versions
from nlp_distill.stages import write_json
from nlp_distill.students import SMALL_3X312, student_from_teacher
from nlp_distill.tasks import load_task, packaged_teacher_path
from nlp_distill.teachers import Teacher
from nlp_distill.trainer import DistillationTrainer

OUTPUTS = {"output_hidden_states": True, "output_attentions": True}  # what TextBrewer asks its models for
BATCH_ROWS, MAX_LENGTH, LEARNING_RATE = 32, 128, 5e-5
# Rows of a round: about the same time for each. Ours are a pool of 64 batches, in which lengths are grouped.
ROUND_ROWS = {"nlp_distill": 2048, "textbrewer_dynamic": 384, "textbrewer_max": 96}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit code (2 for wrong input)."""
    options = build_parser().parse_args(arguments)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        teacher, tokenizer, rows = load_inputs(options)
        report = run_benchmark(teacher, tokenizer, rows, options.rounds)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = {"task": options.task, "versions": collect_versions(), **report}
    print(render(report))
    if options.json:
        write_json(Path(options.json), report)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--against", choices=["textbrewer"], required=True, help="what to compare with")
    parser.add_argument(
        "--task", default="tweets", help="tweets, or a GLUE name with --data-dir (default: %(default)s)"
    )
    parser.add_argument("--data-dir", metavar="DIR", help="a GLUE folder")
    parser.add_argument("--rounds", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    return parser


def load_inputs(options: argparse.Namespace) -> tuple[Any, Any, EncodedRows]:
    """The teacher (with a random head, which no loss here reads), its tokenizer, and train rows, shuffled.

    Raises:
        InputError: for a task that cannot be had, too few rows, or TextBrewer missing.
    """
    try:
        import textbrewer  # noqa: F401
    except ImportError as error:
        raise InputError("TextBrewer is not installed; run `pip install textbrewer==0.2.1.post1`") from error
    if options.rounds < 1:
        raise InputError(f"--rounds is {options.rounds}; give at least 1")
    data = load_task(options.task, data_dir=options.data_dir)
    pool = data.train if data.unlabelled is None else data.unlabelled
    needed = sum(ROUND_ROWS.values()) * options.rounds
    if len(pool) < needed:
        raise InputError(
            f"{data.task.name} has {len(pool)} rows, {options.rounds} rounds need {needed}; give fewer rounds, or "
            "another task"
        )
    order = random.Random(0).sample(range(len(pool)), needed)
    tokenizer = load_pretrained(AutoTokenizer, packaged_teacher_path())
    texts = pool.select_columns(list(data.task.text_columns)).select(order)
    torch.manual_seed(0)
    teacher = load_pretrained(AutoModelForSequenceClassification, packaged_teacher_path(), num_labels=2)
    return teacher.eval(), tokenizer, encode_rows(texts, tokenizer, data.task.text_columns, MAX_LENGTH)


def run_benchmark(teacher: Any, tokenizer: Any, rows: EncodedRows, rounds: int) -> dict[str, Any]:
    """Compare the losses once, then time every way, round by round.

    Returns:
        ``{"threads", "ways": {name: {"rows", "seconds", "rows_per_second"}}, "ratios": {name: ours / its rate},
        "first_step": {"nlp_distill", "textbrewer", "difference"}}``.
    """
    register_scores()
    ways: dict[str, Callable[[EncodedRows], float]] = {
        "nlp_distill": lambda some: train_ours(teacher, tokenizer, some),
        "textbrewer_dynamic": lambda some: train_textbrewer(teacher, tokenizer, some, pad_to=1),
        "textbrewer_max": lambda some: train_textbrewer(teacher, tokenizer, some, pad_to=MAX_LENGTH),
    }
    first_step = compare_losses(teacher, tokenizer, rows)
    totals = {name: {"rows": 0, "seconds": 0.0} for name in ways}
    for way in ways.values():
        way(take(rows, 0, 2 * BATCH_ROWS))  # warms up
    start = 0
    for _ in range(rounds):
        for name, way in ways.items():
            some = take(rows, start, ROUND_ROWS[name])
            start += len(some)
            totals[name]["seconds"] += way(some)
            totals[name]["rows"] += len(some)
    described = {
        name: total | {"rows_per_second": total["rows"] / total["seconds"]} for name, total in totals.items()
    }
    own = described["nlp_distill"]["rows_per_second"]
    ratios = {name: own / way["rows_per_second"] for name, way in described.items() if name != "nlp_distill"}
    return {
        "threads": torch.get_num_threads(),
        "ways": described,
        "ratios": ratios,
        "first_step": first_step,
    }


def take(rows: EncodedRows, start: int, count: int) -> EncodedRows:
    """Rows ``start`` to ``start + count``."""
    begin, end = rows.offsets[start], rows.offsets[start + count]
    columns = {name: tokens[begin:end] for name, tokens in rows.columns.items()}
    return EncodedRows(columns, rows.offsets[start : start + count + 1] - begin)


def make_student(teacher: Any) -> Any:
    """A fresh 3 x 312 student in training mode, without dropout: both sides compute the same."""
    student = student_from_teacher(teacher, SMALL_3X312)
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    student.config.attention_probs_dropout_prob = student.config.hidden_dropout_prob = 0.0
    return student


def make_objective(student: Any, teacher: Any) -> TinyBERTLayers:
    """Hidden states and attention scores of matched layers; both sides learn these."""
    torch.manual_seed(0)  # of the projections
    return TinyBERTLayers(student.config, teacher.config, embedding=0.0)


def train_ours(teacher: Any, tokenizer: Any, rows: EncodedRows) -> float:
    """Seconds of one epoch with ``DistillationTrainer``."""
    student, timer = make_student(teacher), Timer()
    with tempfile.TemporaryDirectory() as folder:
        trainer = DistillationTrainer(
            model=student,
            teacher=teacher,
            objective=make_objective(student, teacher),
            args=TrainingArguments(
                folder,
                num_train_epochs=1,
                per_device_train_batch_size=BATCH_ROWS,
                learning_rate=LEARNING_RATE,
                lr_scheduler_type="constant",
                optim="adamw_torch_fused",
                max_grad_norm=0.0,
                train_sampling_strategy="group_by_length",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_strategy="no",
                use_cpu=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=[timer],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return timer.seconds


class Timer(TrainerCallback):
    """The time from the beginning of training to its end."""

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds = time.perf_counter() - self.started


def train_textbrewer(teacher: Any, tokenizer: Any, rows: EncodedRows, pad_to: int) -> float:
    """Seconds of one epoch with TextBrewer's ``GeneralDistiller``."""
    student = make_student(teacher)
    distiller = make_distiller(student, teacher)
    collate = DistillationCollator(tokenizer, pad_to_multiple_of=pad_to)
    batches = DataLoader(rows, BATCH_ROWS, shuffle=True, collate_fn=collate)
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, fused=True)
    started = time.perf_counter()
    with distiller:
        distiller.train(optimizer, batches, num_epochs=1, **OUTPUTS)
    seconds = time.perf_counter() - started
    teacher.set_attn_implementation("sdpa")
    return seconds


def make_distiller(student: Any, teacher: Any) -> Any:
    """TextBrewer's distiller for the layers that ``TinyBERTLayers`` matches; both models get the attention it needs."""
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

    matches = []
    for own, other in uniform(student.config.num_hidden_layers, teacher.config.num_hidden_layers)[1:]:
        projection = ["linear", student.config.hidden_size, teacher.config.hidden_size]
        hidden = {"layer_S": own, "layer_T": other, "feature": "hidden", "loss": "hidden_mse", "weight": 1}
        scores = {"layer_S": own - 1, "layer_T": other - 1, "feature": "attention", "loss": "attention_mse"}
        matches += [hidden | {"proj": projection}, scores | {"weight": 1}]
    folder = tempfile.mkdtemp()
    training = TrainingConfig(device="cpu", output_dir=folder, log_dir=None, ckpt_frequency=0)
    distillation = DistillationConfig(kd_loss_weight=0, intermediate_matches=matches)
    for model in (student, teacher):
        model.set_attn_implementation("scores")
    return GeneralDistiller(training, distillation, teacher, student, adapt, adapt)


def adapt(batch: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
    """What TextBrewer reads of a model's outputs."""
    return {
        "hidden": outputs.hidden_states,
        "attention": outputs.attentions,
        "inputs_mask": batch["attention_mask"],
    }


def register_scores() -> None:
    """Make ``attend_and_return_scores`` an attention implementation of transformers, with the mask it needs."""
    AttentionInterface.register("scores", attend_and_return_scores)
    AttentionMaskInterface.register("scores", eager_mask)


def attend_and_return_scores(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float,
    dropout: float,
    **rest: Any,
) -> tuple[Any, Any]:
    """Plain attention that returns the scores before the softmax in the place of its probabilities."""
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    masked = scores if attention_mask is None else scores + attention_mask
    probabilities = torch.nn.functional.dropout(torch.softmax(masked, dim=-1), dropout, module.training)
    return torch.matmul(probabilities, value).transpose(1, 2).contiguous(), scores


def compare_losses(teacher: Any, tokenizer: Any, rows: EncodedRows) -> dict[str, float]:
    """The loss of both sides on the same 32 rows of one length, from the same student and projections."""
    lengths = rows.lengths
    common = np.bincount(lengths).argmax()
    picked = np.flatnonzero(lengths == common)[:BATCH_ROWS]
    batch = DistillationCollator(tokenizer)([rows[int(i)] for i in picked])
    student = make_student(teacher)
    objective = make_objective(student, teacher)
    trainer_model = DistillationTrainer(
        model=student,
        teacher=teacher,
        objective=objective,
        args=TrainingArguments(tempfile.mkdtemp(), report_to="none", use_cpu=True),
        processing_class=tokenizer,
    ).model
    with torch.no_grad():
        ours = trainer_model(batch, Teacher(teacher).run(batch, objective.needs), 0.0)["loss"].item()
        distiller = make_distiller(student, teacher)
        linears = [projection for projection in distiller.projs if projection is not None]
        for own, theirs in zip(objective.projections.values(), linears, strict=True):
            theirs.weight.copy_(own.weight)
            theirs.bias.zero_()
        theirs_loss, _ = distiller.train_on_batch(dict(batch), OUTPUTS)
    teacher.set_attn_implementation("sdpa")
    return {
        "nlp_distill": ours,
        "textbrewer": theirs_loss.item(),
        "difference": abs(ours - theirs_loss.item()),
    }


def render(report: Mapping[str, Any]) -> str:
    """The report as a table for people."""
    first = report["first_step"]
    lines = [
        f"{report['task']}, teacher 6 x 384, student 3 x 312, batch {BATCH_ROWS}, {report['threads']} thread(s)",
        f"loss of the first step: nlp_distill {first['nlp_distill']:.6f}, TextBrewer {first['textbrewer']:.6f}, "
        f"difference {first['difference']:.1e}",
        "",
        f"{'':20}{'rows/s':>9}{'slower':>9}",
    ]
    lines += [
        f"{name:20}{way['rows_per_second']:9.1f}{report['ratios'].get(name, 1.0):8.1f}x"
        for name, way in report["ways"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
