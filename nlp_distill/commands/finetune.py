"""``nlp-distill finetune``: make a teacher."""

import argparse
import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.commands.inputs import find_model, load_data
from nlp_distill.commands.publish import describe_rows
from nlp_distill.commands.push import push_model
from nlp_distill.limits import check_positive
from nlp_distill.processes import is_main_process
from nlp_distill.stages import announce, read_inputs, run_stage
from nlp_distill.tasks import TaskData


def run(options: argparse.Namespace) -> None:
    """Fine-tune, score the reported split, write ``results.json`` and its page into the model's folder."""
    from nlp_distill.cards import render_teacher_card
    from nlp_distill.pipelines.runs import warn
    from nlp_distill.published import check_unpublished

    rates = check_rates(options)
    data, output = load_data(options), Path(options.output)
    described = describe_finetuning(options, rates) | describe_rows(options, data)
    if options.results_dir:
        given = (["teacher"], data.task.name, [options.seed], described, options.overwrite)
        check_unpublished(options.results_dir, *given)

    def train(folder: Path, training: dict[str, Any]) -> dict[str, Any]:
        own = (options.seed, options.max_length)
        return finetune_teacher(options, options.model, data, folder, training, *own)

    result = finetune_at_rates(options, output, rates, train)
    if is_main_process():
        entry = score_teacher(options, data, output) | describe_weakness(data, result["validation_score"])
        warn({"the teacher": entry})
        results = write_teacher(options, data, output, result, described, entry)

        def render(name: str) -> str:
            return render_teacher_card(results, options.model, output, name)

        push_model(options, output, render)


def describe_weakness(data: TaskData, validation_score: float | None) -> dict[str, str]:
    """For the results, a warning of a model that is no better than the most frequent class; empty for a better one."""
    import numpy as np

    from nlp_distill.evaluation import score_majority
    from nlp_distill.teachers import warn_if_not_fine_tuned

    if validation_score is None:
        return {}
    majority = score_majority(data.task, np.asarray(data.validation["label"]))
    advice = "it has nothing to teach: give it more epochs, or another learning rate"
    warning = warn_if_not_fine_tuned(validation_score, majority, "validation", "the model", advice)
    return {} if warning is None else {"warning": warning}


def describe_finetuning(options: argparse.Namespace, rates: list[float]) -> dict[str, Any]:
    """All settings of the run as plain values, defaults included, and its command."""
    from nlp_distill.pipelines.finetune import TRAINING
    from nlp_distill.results import drop_place

    config = {
        "model": drop_place(options.model),
        "max_length": options.max_length,
        "training": {**TRAINING, **options.training, **({"learning_rate": rates} if rates else {})},
    }
    return {"config": config, "command": options.command_line}


def check_rates(options: argparse.Namespace) -> list[float]:
    """The learning rates to try; none for the one of the training arguments.

    Raises:
        InputError: for a rate that is none, one given twice, or one given in both ways.
    """
    rates = list(options.learning_rates or ())
    for rate in rates:
        check_positive("a learning rate", rate)
    if len(set(rates)) < len(rates):
        raise InputError(f"--learning-rates are {rates}; give each once")
    if rates and "learning_rate" in options.training:
        raise InputError("--learning-rate and --learning-rates are both given; give one of them")
    if rates and options.training.get("eval_strategy") == "no":
        raise InputError("--learning-rates chooses by validation scores; leave out --eval-strategy no")
    return rates


def finetune_at_rates(
    options: argparse.Namespace,
    output: Path,
    rates: list[float],
    train: Callable[[Path, dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """Fine-tune into ``output``; of several rates at each, in a folder beside it, and copy the best on validation.

    Args:
        options: the command's.
        output: where the model goes.
        rates: the rates to try; none for that of the training arguments.
        train: ``train(folder, training)`` makes one model.
    """
    if not rates:
        return train(output, options.training)
    output = output if output.name else output.resolve()  # "." has no name to put a rate behind
    if not output.name:
        raise InputError(
            f"--output is {output}, and each learning rate has a folder beside it; give a folder below it"
        )
    check_same_rates(output, rates, options.overwrite)
    folders = {rate: output.with_name(f"{output.name}-lr{rate:g}") for rate in rates}
    runs = {
        rate: train(folder, {**options.training, "learning_rate": rate}) for rate, folder in folders.items()
    }
    scores = {str(rate): run["validation_score"] for rate, run in runs.items()}
    best = max(rates, key=lambda rate: scores[str(rate)])
    tuning = {"learning_rate": best, "validation_scores": scores}

    def copy(folder: Path) -> dict[str, Any]:
        for path in folders[best].iterdir():
            if path.is_file() and not path.name.startswith(("stage_", "results.")):
                shutil.copy2(path, folder)
        seconds = sum(run["seconds"] for run in runs.values())
        return {**runs[best], "seconds": round(seconds, 1), "tuning": tuning}

    from nlp_distill.hashes import hash_file

    inputs = {"tuning": tuning, "weights": hash_file(folders[best] / "model.safetensors")}
    return run_stage(f"the best of {len(rates)} learning rates", output, inputs, copy, options.overwrite)


def check_same_rates(output: Path, rates: list[float], overwrite: bool) -> None:
    """Refuse, before any is trained, other rates than those whose best is there already.

    Raises:
        InputError: naming them.
    """
    inputs = read_inputs(output) or {}
    found = inputs.get("tuning", {}).get("validation_scores")
    if found and set(found) != {str(rate) for rate in rates} and not overwrite:
        raise InputError(
            f"{output} holds the best of the learning rates {', '.join(found)}, and other rates are given now; choose "
            "another output, or --overwrite to make it again"
        )


def finetune_teacher(
    options: argparse.Namespace,
    model: str,
    data: TaskData,
    output: Path,
    training: dict[str, Any],
    seed: int,
    max_length: int = 128,
) -> dict[str, Any]:
    """The fine-tuning stage."""
    from nlp_distill.pipelines.finetune import FinetuneConfig, finetune

    path = find_model(model)
    config = FinetuneConfig(path, max_length, seed, training, options.trust_remote_code)
    inputs = describe_inputs(config, model, data)
    title = f"fine-tuning {model} on {data.task.name}"
    return run_stage(
        title,
        output,
        inputs,
        lambda folder: finetune(config, data, folder),
        options.overwrite,
        every_process=True,
    )


def describe_inputs(config, model: str, data: TaskData) -> dict[str, Any]:
    """All that a fine-tuned model depends on.

    Args:
        config: the ``FinetuneConfig``.
        model: the pre-trained model by the name that was asked for: where a package lies differs from machine to
            machine.
        data: the task.
    """
    from nlp_distill.hashes import hash_file

    inputs: dict[str, Any] = {
        "config": dataclasses.asdict(config) | {"model": model},
        "data": data.fingerprints(),
        "labels": list(data.task.labels),
    }
    if weights := sorted(Path(config.model).glob("*.safetensors")):
        inputs["weights"] = [hash_file(file) for file in weights]
    return inputs


def score_teacher(options: argparse.Namespace, data: TaskData, folder: Path) -> dict[str, Any]:
    """Scores of a fine-tuned model on the reported split, and its size."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from nlp_distill.evaluation import describe_size
    from nlp_distill.models import load_pretrained
    from nlp_distill.pipelines.scoring import describe_test, predict_splits

    model = load_pretrained(AutoModelForSequenceClassification, folder)
    logits = predict_splits(model, load_pretrained(AutoTokenizer, folder), data, options.max_length)
    return describe_test(data, logits) | describe_size(model, folder)


def write_teacher(
    options: argparse.Namespace,
    data: TaskData,
    folder: Path,
    result: dict[str, Any],
    described: dict[str, Any],
    entry: Mapping[str, Any],
    parts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a fine-tuned model's results and its card, and publish them where asked to.

    Args:
        options: the command's.
        data: the task.
        folder: the model's.
        result: what its training returned.
        described: the settings and the command.
        entry: its scores and size.
        parts: what else the results keep.

    Returns:
        The content of ``results.json``.
    """
    from nlp_distill.cards import CARD, render_teacher_card
    from nlp_distill.published import publish_result
    from nlp_distill.results import collect_versions, render_model_table
    from nlp_distill.stages import write_json, write_whole

    entry = {**entry, "validation_score": result["validation_score"]}
    context = {
        **described,
        "data": data.fingerprints(),
        "data_source": data.source,
        "selected_on": data.selected_on,
        **({"tuning": result["tuning"]} if "tuning" in result else {}),
        **(parts or {}),
    }
    results = {
        "task": data.task.name,
        "metric": data.task.metrics[0],
        "is_pair": data.task.is_pair,
        "models": {"teacher": entry | {"path": str(folder)}},
        "seeds": [options.seed],
        "timings_s": {"training": result["seconds"]},
        "training": result,
        "versions": collect_versions(),
        **context,
    }
    table = render_model_table(results["models"], results["metric"])
    write_json(folder / "results.json", results)
    write_whole(
        folder / "results.md", f"# {data.task.name}: {results['metric']} on the test split\n\n{table}\n"
    )
    write_whole(folder / CARD, render_teacher_card(results, options.model, folder))
    if options.results_dir:
        context["wall_time_s"] = result["seconds"]
        seed = options.seed
        path = publish_result(options.results_dir, "teacher", data.task.name, seed, entry, context)
        announce(f"published {path}")
    validated = entry["validation_score"] is not None
    validation = f", {entry['validation_score']:.4f} on validation" if validated else ""
    print(f"saved {folder}: {results['metric']} {entry['score']:.4f} on test{validation}\n\n{table}")
    return results
