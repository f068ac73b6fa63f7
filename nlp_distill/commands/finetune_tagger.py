"""``nlp-distill finetune-tagger``: make a tagger, to be used or to teach a smaller one."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from nlp_distill.commands.finetune import (
    check_rates,
    describe_finetuning,
    describe_inputs,
    finetune_at_rates,
    write_teacher,
)
from nlp_distill.commands.inputs import find_model
from nlp_distill.commands.push import push_model
from nlp_distill.commands.tagger import load_sentences
from nlp_distill.processes import is_main_process
from nlp_distill.stages import run_stage
from nlp_distill.tasks import TaskData


def run(options: argparse.Namespace) -> None:
    """Fine-tune, score the test sentences, write ``results.json`` and its page into the model's folder."""
    from nlp_distill.cards import render_teacher_card
    from nlp_distill.models import load_word_tokenizer
    from nlp_distill.pipelines.finetune import FinetuneConfig
    from nlp_distill.pipelines.finetune_tagger import score_tagger
    from nlp_distill.pipelines.runs import warn
    from nlp_distill.pipelines.tagged_rows import encode_data
    from nlp_distill.published import check_unpublished

    config = FinetuneConfig(
        find_model(options.model),
        options.max_length,
        options.seed,
        options.training,
        options.trust_remote_code,
    )
    rates = check_rates(options)
    data, output = load_sentences(options), Path(options.output)
    labels = data.list_labels()
    task = data.as_task_data(labels)
    described = describe_finetuning(options, rates)
    if options.results_dir:
        given = (["teacher"], data.name, [options.seed], described, options.overwrite)
        check_unpublished(options.results_dir, *given)
    code = {"trust_remote_code": options.trust_remote_code}
    rows = encode_data(data, load_word_tokenizer(config.model, **code), labels, options.max_length)
    data.warn_of_leaks()

    def train(folder: Path, training: dict[str, Any]) -> dict[str, Any]:
        return train_tagger(options, config, rows, task, folder, training)

    result = finetune_at_rates(options, output, rates, train)
    if is_main_process():
        entry = score_tagger(output, rows, **code)
        warn({"the teacher": entry})
        parts = {"labels_tokens": True, "cut_words": dict(rows.cut_words)}
        results = write_teacher(options, task, output, result, described, entry, parts)

        def render(name: str) -> str:
            return render_teacher_card(results, options.model, output, name)

        push_model(options, output, render)


def train_tagger(
    options: argparse.Namespace, config, rows, data: TaskData, folder: Path, training: dict[str, Any]
) -> dict[str, Any]:
    """The fine-tuning stage, with training arguments of its own."""
    from nlp_distill.pipelines.finetune_tagger import finetune_tagger

    config = dataclasses.replace(config, training=training)
    inputs = describe_inputs(config, options.model, data)
    return run_stage(
        f"fine-tuning {options.model} on {data.task.name}",
        folder,
        inputs,
        lambda place: finetune_tagger(config, rows, place),
        options.overwrite,
        every_process=True,
    )
