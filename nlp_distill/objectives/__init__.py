"""Objectives: one method, one file. What knowledge is transferred, as named and weighted loss terms."""

from nlp_distill.objectives.bam import TeacherAnnealing
from nlp_distill.objectives.distilbert import DistilBERT
from nlp_distill.objectives.flow import Flow
from nlp_distill.objectives.hard_labels import HardLabels
from nlp_distill.objectives.hints import Hints
from nlp_distill.objectives.logit_regression import LogitRegression
from nlp_distill.objectives.minilm import MiniLM, MiniLMv2
from nlp_distill.objectives.objective import Objective, Sum
from nlp_distill.objectives.one import ONE
from nlp_distill.objectives.over_tokens import OverTokens
from nlp_distill.objectives.patient import PatientKD
from nlp_distill.objectives.per_task import PerTask
from nlp_distill.objectives.relational import RelationalKD
from nlp_distill.objectives.similarity import SimilarityPreserving
from nlp_distill.objectives.sobolev import Sobolev
from nlp_distill.objectives.soft_targets import SoftTargets
from nlp_distill.objectives.tinybert import TinyBERTLayers

__all__ = [
    "ONE",
    "DistilBERT",
    "Flow",
    "HardLabels",
    "Hints",
    "LogitRegression",
    "MiniLM",
    "MiniLMv2",
    "Objective",
    "OverTokens",
    "PatientKD",
    "PerTask",
    "RelationalKD",
    "SimilarityPreserving",
    "Sobolev",
    "SoftTargets",
    "Sum",
    "TeacherAnnealing",
    "TinyBERTLayers",
]
