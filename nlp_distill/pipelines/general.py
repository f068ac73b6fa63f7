"""General distillation: a small encoder learns from a pre-trained teacher on plain text, before any task.

TinyBERT's first stage (Jiao et al. 2019, arXiv 1909.10351, section 3.2) by default; MiniLM's and DistilBERT's
objectives are alternatives. What comes out is an encoder that later stages load as they would the pre-trained one.

Deviation from TinyBERT: the text is packed into full blocks without sentence pairs (there is no next-sentence task to
serve), and the student starts from the teacher (see :func:`nlp_distill.students.student_from_teacher`) unless
``random_start`` is set, where TinyBERT starts from random weights.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PreTrainedConfig,
)

from data_augment.errors import InputError
from data_augment.masked_lm import check_has_head
from nlp_distill.batching import DistillationCollator
from nlp_distill.evaluation import describe_size
from nlp_distill.hashes import hash_file, hash_tokenizer, hash_weights
from nlp_distill.limits import check_whole
from nlp_distill.models import check_max_length, check_vocabulary, load_pretrained
from nlp_distill.objectives import DistilBERT, MiniLM, MiniLMv2, Objective, TinyBERTLayers
from nlp_distill.pipelines.projections import fit_projections
from nlp_distill.processes import is_main_process
from nlp_distill.results import collect_versions
from nlp_distill.stages import run_stage, write_json
from nlp_distill.students import SMALL_3X312, Shape, student_from_teacher
from nlp_distill.text_blocks import TextBlocks, write_blocks
from nlp_distill.trainer import DistillationTrainer
from nlp_distill.training import MAX_SEED, MIN_LENGTH, make_training_arguments, train_and_save

TRAINING: dict[str, Any] = {
    "learning_rate": 5e-5,  # TinyBERT's code, general_distill.py
    "num_train_epochs": 3,  # section 4.2
    "per_device_train_batch_size": 32,
    "gradient_accumulation_steps": 8,  # 256 blocks a step: section 4.2
    "warmup_steps": 0.1,  # TinyBERT's code
    "weight_decay": 0.01,  # TinyBERT's code
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "metric_for_best_model": None,
    "save_strategy": "steps",
    "save_steps": 500,
    "train_sampling_strategy": "random",
}

ObjectiveFactory = Callable[[PreTrainedConfig, PreTrainedConfig], Objective]


@dataclass(frozen=True)
class GeneralDistillation:
    """Settings of the stage.

    Args:
        shape: the student's shape.
        objective: makes the objective from the configs of student and teacher: ``TinyBERTLayers``, ``MiniLM``,
            ``MiniLMv2``, or ``DistilBERT`` (which needs a teacher with a masked-language-model head), or a
            ``functools.partial`` of one with settings of its own.
        max_length: tokens a block.
        random_start: start the student from random weights.
        seed: of what is random.
        training: fields of ``TrainingArguments`` over ``TRAINING``.
        trust_remote_code: run code that comes with the teacher.
    """

    shape: Shape = SMALL_3X312
    objective: ObjectiveFactory = TinyBERTLayers
    max_length: int = 128  # TinyBERT, section 4.2
    random_start: bool = False
    seed: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_whole("max_length", self.max_length, at_least=MIN_LENGTH)
        check_whole("seed", self.seed, at_least=0, at_most=MAX_SEED)

    @property
    def is_masked_lm(self) -> bool:
        """Whether the objective reads masked-language-model logits."""
        made_by: Any = self.objective  # a class, or a partial of one
        return getattr(made_by, "func", made_by) is DistilBERT

    def describe(self) -> dict[str, Any]:
        """The settings as plain values."""
        plain = {name: getattr(self, name) for name in ("max_length", "random_start", "seed")}
        function: Any = self.objective
        settings = dict(function.keywords) if isinstance(function, partial) else {}
        name = function.func.__name__ if isinstance(function, partial) else function.__name__
        described = {"name": name, **settings}
        return {
            "shape": asdict(self.shape),
            "objective": described,
            **plain,
            "training": {**TRAINING, **self.training},
        }


OBJECTIVES: dict[str, ObjectiveFactory] = {
    "tinybert": TinyBERTLayers,
    "minilm": MiniLM,
    "minilm-v2": MiniLMv2,
    "distilbert": DistilBERT,
}


def distill_general(
    config: GeneralDistillation,
    texts: Sequence[str | Path],
    teacher_path: str | Path,
    output_dir: str | Path,
    command: str = "",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Pack the text, train the student on it, and save it under ``output_dir/student`` with the teacher's tokenizer.

    Args:
        config: the settings.
        texts: UTF-8 files, a sentence or paragraph a line.
        teacher_path: a pre-trained encoder: folder or hub name.
        output_dir: where everything goes; finished stages are reused, an interrupted training continues.
        command: the command line, kept in the results.
        overwrite: make again what was made with other settings.

    Returns:
        The content of ``results.json``.

    Raises:
        InputError: for text that is missing or empty, a teacher without the parts that the objective reads, or shapes
            that do not fit.
    """
    output = Path(output_dir)
    code = {"trust_remote_code": config.trust_remote_code}
    teacher = (load_masked_lm if config.is_masked_lm else load_encoder)(teacher_path, code)
    tokenizer = load_pretrained(AutoTokenizer, teacher_path, **code)
    check_max_length(teacher, config.max_length)
    check_vocabulary(teacher, tokenizer)
    if config.is_masked_lm and tokenizer.mask_token_id is None:
        raise InputError("the teacher's tokenizer has no mask token; DistilBERT's objective needs one")
    make_student(config, teacher)  # refuses shapes and objectives that do not fit before any work

    def pack(folder: Path) -> dict[str, Any]:
        return asdict(write_blocks(texts, folder / "tokens.bin", tokenizer, config.max_length))

    files = {str(number): hash_file(path) for number, path in enumerate(check_texts(texts))}
    inputs = {"files": files, "tokenizer": hash_tokenizer(tokenizer), "max_length": config.max_length}
    packed = run_stage("packing the text", output / "text", inputs, pack, overwrite)

    def train(folder: Path) -> dict[str, Any]:
        args = make_training_arguments(TRAINING, config.training, folder, config.seed)
        student, objective = make_student(config, teacher)
        blocks = TextBlocks(output / "text" / "tokens.bin", tokenizer, config.max_length)
        collate = DistillationCollator(tokenizer)
        fit_projections(objective, student, teacher, blocks, collate, config.seed)
        trainer = (MaskingTrainer if config.is_masked_lm else DistillationTrainer)(
            model=student,
            teacher=teacher,
            objective=objective,
            args=args,
            train_dataset=blocks,
            data_collator=collate,
            processing_class=tokenizer,
        )
        trained = train_and_save(trainer, folder)
        return {"training": trained, "entry": describe_size(student, folder) | {"path": str(folder)}}

    inputs = {"settings": config.describe(), "teacher": hash_weights(teacher), "text": packed["sha256"]}
    run = run_stage(
        f"general distillation of {Path(str(teacher_path)).name}",
        output / "student",
        inputs,
        train,
        overwrite,
        every_process=True,
    )
    results = {
        "models": {"teacher": describe_size(teacher, str(teacher_path)), "student": run["entry"]},
        "text": packed,
        "training": run["training"],
        "config": config.describe(),
        "command": command,
        "versions": collect_versions(),
    }
    if is_main_process():
        write_json(output / "results.json", results)
    return results


def make_student(config: GeneralDistillation, teacher) -> tuple[Any, Objective]:
    """The student at its start, and the objective for it."""
    student = student_from_teacher(teacher, config.shape, random=config.random_start, seed=config.seed)
    return student, config.objective(student.config, teacher.config)


class MaskingTrainer(DistillationTrainer):
    """Masks 15 % of a batch's tokens as BERT does (Devlin et al. 2018, section 3.1); ``labels`` are the masked ones.

    In the step, where the random state is a checkpoint's again after a resume, and not in the loader, which is ahead of
    it: the masks are those of a training that was never interrupted.
    """

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self._masking = DataCollatorForLanguageModeling(self.processing_class, mlm_probability=0.15)

    def _prepare_inputs(self, inputs):
        tokens = inputs["input_ids"].cpu().clone()  # where the collator draws; it writes into them
        masked, labels = self._masking.torch_mask_tokens(tokens)
        return super()._prepare_inputs({**inputs, "input_ids": masked, "labels": labels})


def check_texts(texts: Sequence[str | Path]) -> list[Path]:
    """The text files, after a look that each is there and holds something.

    Raises:
        InputError: naming the file.
    """
    paths = [Path(path) for path in texts]
    for path in paths:
        if not path.is_file():
            raise InputError(f"no file {path}; --text takes files with a sentence or paragraph a line")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty; --text takes files with a sentence or paragraph a line")
    return paths


def load_encoder(teacher_path: str | Path, code: Mapping[str, Any]) -> Any:
    """The teacher without a head."""
    return load_pretrained(AutoModel, teacher_path, **code)


def load_masked_lm(teacher_path: str | Path, code: Mapping[str, Any]) -> Any:
    """The teacher with its masked-language-model head.

    Raises:
        InputError: if weights of the head are missing.
    """
    model, info = load_pretrained(AutoModelForMaskedLM, teacher_path, output_loading_info=True, **code)
    check_has_head(teacher_path, info["missing_keys"], "another objective: tinybert, minilm or minilm-v2")
    return model
