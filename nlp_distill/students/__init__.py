"""Students, and what they are built from. Importing it lets transformers' Auto classes load them."""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from .bilstm import LARGE, SMALL, BiLSTMConfig, BiLSTMForSequenceClassification
from .branches import BranchedConfig, BranchedForSequenceClassification
from .build import build_bilstm, build_cnn, count_parameters
from .cnn import CNNConfig, CNNForSequenceClassification
from .compact_bert import CompactBertConfig, CompactBertForSequenceClassification
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
from .multitask import MultiTaskConfig, MultiTaskModel, TaskHead
from .san import SANConfig, SANForSequenceClassification, SANHead
from .vocabulary import trim_vocabulary, word_tokenizer
from .word_student import WordStudent, WordStudentConfig

AutoConfig.register(BiLSTMConfig.model_type, BiLSTMConfig, exist_ok=True)
AutoModelForSequenceClassification.register(BiLSTMConfig, BiLSTMForSequenceClassification, exist_ok=True)
AutoConfig.register(CNNConfig.model_type, CNNConfig, exist_ok=True)
AutoModelForSequenceClassification.register(CNNConfig, CNNForSequenceClassification, exist_ok=True)
AutoConfig.register(CompactBertConfig.model_type, CompactBertConfig, exist_ok=True)
AutoModelForSequenceClassification.register(
    CompactBertConfig, CompactBertForSequenceClassification, exist_ok=True
)
AutoConfig.register(SANConfig.model_type, SANConfig, exist_ok=True)
AutoModelForSequenceClassification.register(SANConfig, SANForSequenceClassification, exist_ok=True)
AutoConfig.register(BranchedConfig.model_type, BranchedConfig, exist_ok=True)
AutoModelForSequenceClassification.register(BranchedConfig, BranchedForSequenceClassification, exist_ok=True)
AutoConfig.register(MultiTaskConfig.model_type, MultiTaskConfig, exist_ok=True)
AutoModel.register(MultiTaskConfig, MultiTaskModel, exist_ok=True)

__all__ = [
    "LARGE",
    "SMALL",
    "SMALL_2X128",
    "SMALL_3X312",
    "TINYBERT_4",
    "TINYBERT_6",
    "BiLSTMConfig",
    "BiLSTMForSequenceClassification",
    "BranchedConfig",
    "BranchedForSequenceClassification",
    "CNNConfig",
    "CNNForSequenceClassification",
    "CompactBertConfig",
    "CompactBertForSequenceClassification",
    "MultiTaskConfig",
    "MultiTaskModel",
    "SANConfig",
    "SANForSequenceClassification",
    "SANHead",
    "Shape",
    "TaskHead",
    "WordStudent",
    "WordStudentConfig",
    "build_bilstm",
    "build_cnn",
    "count_parameters",
    "embeddings_from_glove",
    "embeddings_from_teacher",
    "read_shape",
    "student_from_teacher",
    "trim_vocabulary",
    "word_tokenizer",
]
