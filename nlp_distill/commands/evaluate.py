"""``nlp-distill evaluate``: score saved models."""

import argparse
from pathlib import Path
from typing import Any

from nlp_distill.commands.inputs import check_json_output, choose_task, load_data
from nlp_distill.limits import check_whole


def run(options: argparse.Namespace) -> None:
    """``nlp-distill evaluate``."""
    from transformers import AutoTokenizer

    from nlp_distill.evaluation import describe_scores, describe_size, predict_logits
    from nlp_distill.models import (
        check_max_length,
        check_reads,
        check_vocabulary,
        load_classifier,
        load_pretrained,
    )
    from nlp_distill.results import collect_versions, render_model_table
    from nlp_distill.stages import write_json
    from nlp_distill.training import MIN_LENGTH

    check_whole("max_length", options.max_length, at_least=MIN_LENGTH)
    if options.json:
        check_json_output(options)  # now, rather than when the work is done
    data = load_data(options)
    code = {"trust_remote_code": options.trust_remote_code}
    task = choose_task(options.model, options.model_task, "--model-task", code, data.task.name)
    models: dict[str, Any] = {}
    reference = None
    for name in options.model:
        model = load_classifier(name, task, **code)
        tokenizer = load_pretrained(AutoTokenizer, name, **code)
        check_max_length(model, options.max_length)
        check_reads(name, data.task.is_pair, task, **code)
        check_vocabulary(model, tokenizer)
        logits = predict_logits(model, tokenizer, data.test, data.task, options.max_length)
        scores = describe_scores(data.task, logits, data.test["label"], reference)
        reference = logits if reference is None else reference
        models[name] = scores | describe_size(model, model.config.name_or_path)  # of one task, not of all
    print(render_model_table(models, data.task.metrics[0]))
    if options.json:
        scored = {
            "task": data.task.name,
            "metric": data.task.metrics[0],
            "models": models,
            "data": {"test": data.fingerprints()["test"]},
            "data_source": data.source,
            "command": options.command_line,
            "versions": collect_versions(),
        }
        write_json(Path(options.json), scored)
