"""Objectives: one method, one file. What knowledge is transferred, as named and weighted loss terms."""

from nlp_distill.objectives.bam import TeacherAnnealing
from nlp_distill.objectives.distilbert import DistilBERT
from nlp_distill.objectives.hard_labels import HardLabels
from nlp_distill.objectives.logit_regression import LogitRegression
from nlp_distill.objectives.minilm import MiniLM, MiniLMv2
from nlp_distill.objectives.objective import Objective, Sum
from nlp_distill.objectives.per_task import PerTask
from nlp_distill.objectives.soft_targets import SoftTargets
from nlp_distill.objectives.tinybert import TinyBERTLayers

__all__ = [
    "DistilBERT",
    "HardLabels",
    "LogitRegression",
    "MiniLM",
    "MiniLMv2",
    "Objective",
    "PerTask",
    "SoftTargets",
    "Sum",
    "TeacherAnnealing",
    "TinyBERTLayers",
]
