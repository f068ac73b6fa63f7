"""``nlp-distill distill spacy``: BERT -> a spaCy text classifier."""

import argparse
import dataclasses
from pathlib import Path

from nlp_distill.commands.bilstm import choose_transfer_set, show_results
from nlp_distill.commands.inputs import load_data
from nlp_distill.commands.publish import describe_rows, publish_runs
from nlp_distill.commands.push import push_student

METHODS = {  # the name in results of each arm
    "ensemble": {"student_without_teacher": "spacy_without_teacher", "student": "spacy_distilled"},
    "bow": {"student_without_teacher": "spacy_bow_without_teacher", "student": "spacy_bow_distilled"},
}


def run(options: argparse.Namespace) -> None:
    """``nlp-distill distill spacy``."""
    from nlp_distill.pipelines.spacy_textcat import check_task, distill_spacy
    from nlp_distill.published import check_unpublished
    from nlp_distill.spacy_docs import import_spacy

    import_spacy()  # before the data, which may take a while
    config = configure_spacy(options)
    data = load_data(options)
    check_task(data.task)
    methods = METHODS[config.architecture]
    described = {"config": config.describe(), "command": options.command_line, **describe_rows(options, data)}
    if options.results_dir:
        published = [name for arm, name in methods.items() if config.baseline or arm == "student"]
        given = (published, data.task.name, config.seeds, described, options.overwrite)
        check_unpublished(options.results_dir, *given)
    results = distill_spacy(config, data, options.teacher, Path(options.output), described, options.overwrite)
    publish_runs(options, results, data, methods, frozenset({"student"}), described)
    push_student(options, results)
    show_results(results)


def configure_spacy(options: argparse.Namespace):
    """The pipeline's settings from the options; those left out keep their values."""
    from nlp_distill.pipelines.spacy_textcat import SpacyDistillation
    from nlp_distill.students.spacy_textcat import TextcatTraining

    names = ("epochs", "batch_size", "learning_rate", "dropout")
    training = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    own = ("architecture", "ngram_size", "language", "max_length")
    given = {name: getattr(options, name) for name in own if getattr(options, name) is not None}
    if (epochs := options.baseline_epochs) is not None:  # other methods can have half an epoch
        given["baseline_epochs"] = int(epochs) if epochs.is_integer() else epochs
    config = SpacyDistillation(training=TextcatTraining(**training))
    return dataclasses.replace(
        config,
        **given,
        transfer_set=choose_transfer_set(config.transfer_set, options),
        seeds=tuple(options.seeds or config.seeds),
        baseline=not options.no_baseline,
        baseline_learning_rates=tuple(options.baseline_learning_rates or ()),
        trust_remote_code=options.trust_remote_code,
    )
