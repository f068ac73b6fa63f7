"""Students, and what they are built from. Importing it lets transformers' Auto classes load them."""

from transformers import AutoConfig, AutoModelForSequenceClassification

from .bilstm import LARGE, SMALL, BiLSTMConfig, BiLSTMForSequenceClassification
from .build import build_bilstm, count_parameters
from .embeddings import embeddings_from_glove, embeddings_from_teacher
from .from_teacher import (
    SMALL_2X128,
    SMALL_3X312,
    TINYBERT_4,
    TINYBERT_6,
    Shape,
    read_shape,
    student_from_teacher,
)
from .vocabulary import trim_vocabulary, word_tokenizer

AutoConfig.register(BiLSTMConfig.model_type, BiLSTMConfig, exist_ok=True)
AutoModelForSequenceClassification.register(BiLSTMConfig, BiLSTMForSequenceClassification, exist_ok=True)

__all__ = [
    "LARGE",
    "SMALL",
    "SMALL_2X128",
    "SMALL_3X312",
    "TINYBERT_4",
    "TINYBERT_6",
    "BiLSTMConfig",
    "BiLSTMForSequenceClassification",
    "Shape",
    "build_bilstm",
    "count_parameters",
    "embeddings_from_glove",
    "embeddings_from_teacher",
    "read_shape",
    "student_from_teacher",
    "trim_vocabulary",
    "word_tokenizer",
]
