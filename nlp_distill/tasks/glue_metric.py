"""GLUE as an ``evaluate.Metric`` that needs no download. Importing this module imports ``evaluate``."""

from __future__ import annotations

from typing import Any

import evaluate
from datasets import Features, Value

from nlp_distill.metrics import METRICS
from nlp_distill.tasks.glue import glue_task

_CITATION = "Wang et al. 2018, GLUE: A Multi-Task Benchmark and Analysis Platform, arXiv 1804.07461"


class Glue(evaluate.Metric):
    """The metrics of one GLUE task, by the definitions of the official evaluation.

    CoLA: Matthews correlation; STS-B: Spearman and Pearson correlation; MRPC and QQP: accuracy and F1 of
        class 1; the
    rest: accuracy. (CoLA also gives accuracy, and AX Matthews correlation.)

    Example::

        Glue("mrpc").compute(predictions=[1, 0, 1], references=[1, 1, 1])   # {"accuracy": ..., "f1": ...}

    Args:
        config_name: a name of the GLUE table.
        **kwargs: those of ``evaluate.Metric``, such as ``cache_dir`` and ``num_process``.

    Raises:
        InputError: for an unknown task.
    """

    def __init__(self, config_name: str, **kwargs: Any) -> None:
        super().__init__(config_name=config_name, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        kind = Value("float64" if glue_task(self.config_name).task.is_regression else "int64")
        return evaluate.MetricInfo(
            description=f"GLUE metrics of {self.config_name}",
            citation=_CITATION,
            inputs_description="predictions, references: class indices, or values for stsb",
            features=Features({"predictions": kind, "references": kind}),
            format="numpy",
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        task = glue_task(self.config_name).task
        return {name: METRICS[name](predictions, references) for name in task.metrics}
