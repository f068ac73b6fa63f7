"""``nlp-distill distill tagger``: a fine-tuned tagger -> a smaller one of its kind."""

import argparse
from pathlib import Path

from nlp_distill.commands.bilstm import show_results
from nlp_distill.commands.inputs import check_baseline_options
from nlp_distill.commands.publish import publish_runs
from nlp_distill.commands.push import push_student
from nlp_distill.stages import announce, make_folder


def run(options: argparse.Namespace) -> None:
    """``nlp-distill distill tagger``."""
    from nlp_distill.pipelines.tagger import distill_tagger
    from nlp_distill.published import check_unpublished
    from nlp_distill.results import drop_place

    config = configure_tagger(options)
    data = load_sentences(options)
    plain = config.describe() | {"teacher": drop_place(options.teacher)}
    described = {"config": plain, "command": options.command_line}
    methods = name_methods(options, config)
    if options.results_dir:
        named = [name for arm, name in methods.items() if config.baseline or arm == "student"]
        check_unpublished(options.results_dir, named, data.name, config.seeds, described, options.overwrite)
    results = distill_tagger(config, data, options.teacher, options.output, described, options.overwrite)
    published = described | {"cut_words": results["cut_words"]}
    task = data.as_task_data(results["labels"])
    publish_runs(options, results, task, methods, frozenset({"student"}), published)
    push_student(options, results)
    show_results(results)


def load_sentences(options: argparse.Namespace):
    """The sentences of the files that the data options name."""
    check_baseline_options(options)
    from nlp_distill.pipelines.tagged_data import SPLITS, load_tagged_data

    if options.results_dir:
        make_folder(Path(options.results_dir))  # now, rather than when the work is done
    raw = getattr(options, "unlabelled_file", None)  # finetune-tagger learns none
    files = (options.train_file, options.validation_file, options.test_file, raw)
    name = Path(options.train_file).stem if options.task is None else options.task
    data = load_tagged_data(name, *files)
    parts = (*SPLITS, *(["unlabelled"] if data.unlabelled else []))
    sizes = ", ".join(f"{part} {len(getattr(data, part)):,}" for part in parts)
    announce(f"{name} from {data.source}: {sizes} sentences")
    return data


def configure_tagger(options: argparse.Namespace):
    """The pipeline's settings from the options."""
    from nlp_distill.pipelines.tagger_config import TaggerDistillation

    return TaggerDistillation(
        layers=options.layers,
        hidden=options.hidden_size,
        heads=options.heads,
        ffn=options.ffn_size,
        temperature=options.temperature,
        soft_weight=options.soft_weight,
        hard_weight=options.hard_weight,
        max_length=options.max_length,
        seeds=tuple(options.seeds or (0,)),
        baseline=not options.no_baseline,
        baseline_learning_rates=tuple(options.baseline_learning_rates or ()),
        training=options.training,
        trust_remote_code=options.trust_remote_code,
    )


def name_methods(options: argparse.Namespace, config) -> dict[str, str]:
    """The published method of each arm, after the student's shape.

    Raises:
        InputError: for a teacher that is no tagger.
    """
    from transformers import AutoConfig

    from nlp_distill.models import check_is_tagger, load_pretrained
    from nlp_distill.students import read_shape

    code = {"trust_remote_code": options.trust_remote_code}
    check_is_tagger(options.teacher, **code)
    shape = config.choose_shape(read_shape(load_pretrained(AutoConfig, options.teacher, **code)))
    name = f"tagger_{shape.layers}x{shape.hidden}"
    return {"student_without_teacher": f"{name}_without_teacher", "student": name}
