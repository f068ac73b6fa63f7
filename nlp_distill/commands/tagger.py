"""``nlp-distill distill tagger``: a fine-tuned tagger -> a smaller one of its kind."""

import argparse
from pathlib import Path

from nlp_distill.commands.bilstm import show_results
from nlp_distill.commands.push import push_student


def run(options: argparse.Namespace) -> None:
    """``nlp-distill distill tagger``."""
    from nlp_distill.pipelines.tagger import TaggerDistillation, distill_tagger, load_tagged_data

    config = TaggerDistillation(
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
    files = (options.train_file, options.validation_file, options.test_file, options.unlabelled_file)
    data = load_tagged_data(options.task or Path(options.train_file).stem, *files)
    described = {"config": config.describe(), "command": options.command_line}
    results = distill_tagger(config, data, options.teacher, options.output, described, options.overwrite)
    push_student(options, results)
    show_results(results)
