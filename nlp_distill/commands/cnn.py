"""``nlp-distill distill cnn``: BERT -> CNN, by the pipeline of ``distill bilstm``."""

import argparse

from nlp_distill.commands.bilstm import run_pipeline


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from nlp_distill.pipelines.bilstm_config import plan_cnn

    run_pipeline(options, plan_cnn())
