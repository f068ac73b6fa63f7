"""Load models and tokenizers by name or path, with errors that say what to do."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from data_augment.errors import InputError
from nlp_distill.hub import hub_is_reachable
from nlp_distill.stages import announce

TOKENIZER_FILES = ("tokenizer.json", "vocab*", "*.model")  # one of them is in every saved tokenizer's folder


def load_pretrained(auto_class, name: str | Path, **kwargs) -> Any:
    """``auto_class.from_pretrained(name)``, in fp32, without running code that came with a checkpoint.

    fp32 is the default because a checkpoint's own half precision is slow or unsupported on many CPUs; pass
    ``dtype`` for another. A folder is read without asking the network; a hub name may ask it.

    Args:
        auto_class: ``AutoTokenizer``, ``AutoModelForSequenceClassification``, ...
        name: a folder that ``save_pretrained`` wrote, or a hub name.
        kwargs: passed on to ``from_pretrained``.

    Raises:
        InputError: if there is no such folder and the hub does not answer or has no such model, or if the folder
            holds no model or tokenizer that can be loaded.
    """
    import nlp_distill.students  # noqa: F401  registers the custom student classes

    is_tokenizer = "Tokenizer" in auto_class.__name__
    is_folder = _check_name(name, is_tokenizer)
    reachable = is_folder or hub_is_reachable()
    if is_folder or not reachable:
        kwargs["local_files_only"] = (
            True  # else the client retries for minutes before it says that it is offline
        )
    if not is_tokenizer:
        kwargs.setdefault("dtype", torch.float32)
    kwargs.setdefault("trust_remote_code", False)  # where it is left out, transformers asks at the terminal
    try:
        return auto_class.from_pretrained(str(name), **kwargs)
    except InputError:
        raise
    except Exception as error:  # a damaged or hostile folder makes transformers fail in ways without number
        raise InputError(f"cannot load '{name}': {_explain(error, is_folder)}") from error


def load_classifier(name: str | Path, task: str | None = None, **kwargs) -> Any:
    """A model for sequence classification, with a warning where its head is not in the checkpoint but random.

    Of a multi-task model it is the plain classifier of one task, with weights of its own.

    Args:
        name: a folder that ``save_pretrained`` wrote, or a hub name.
        task: which task of a multi-task model; any other model has one task, whatever it is called.
        kwargs: passed on to ``from_pretrained``.

    Raises:
        InputError: as :func:`load_pretrained`; for a multi-task model without the task, or where none is named; for a
            tagger; for a model that gives a text several labels.
    """
    if tasks := read_tasks(name, **kwargs):
        if task not in tasks:
            said = "is a multi-task model" if task is None else f"was not trained on {task}"
            raise InputError(f"{name} {said}; name one of its tasks: {', '.join(tasks)}")
        model = load_pretrained(AutoModel, name, **kwargs).for_task(task)
        model.config.name_or_path = f"{name}, task {task}"
        return model
    if is_tagger(name, **kwargs):
        raise InputError(
            f"{name} is a tagger, which labels words and not texts; `nlp-distill distill tagger` and `export` take it"
        )
    model, info = load_pretrained(
        AutoModelForSequenceClassification, name, output_loading_info=True, **kwargs
    )
    if model.config.problem_type == "multi_label_classification":
        raise InputError(
            f"{name} gives a text any number of labels (its config says multi_label_classification), and what is done "
            "here is for one label a text: softmax, the likeliest label; give a classifier of single labels"
        )
    body = f"{model.base_model_prefix}."
    if head := sorted(key for key in info["missing_keys"] if not key.startswith(body)):
        announce(
            f"WARNING: {name} has no trained head for classification ({', '.join(head[:3])} are random): it was never "
            "fine-tuned on a task, and its answers mean nothing; fine-tune it with `nlp-distill finetune` first"
        )
    return model


def is_tagger(name: str | Path, **kwargs) -> bool:
    """Whether a saved model is a token classifier, as its config says.

    Raises:
        InputError: as :func:`load_pretrained`.
    """
    return labels_tokens(getattr(load_pretrained(AutoConfig, name, **kwargs), "architectures", None))


def labels_tokens(architectures: Any) -> bool:
    """Whether a model is a token classifier, by the names of its classes as a config has them; the first counts."""
    first = architectures[0] if isinstance(architectures, list) and architectures else ""
    return str(first).endswith("ForTokenClassification")


def load_tagger(name: str | Path, **kwargs) -> tuple[Any, Any]:
    """A token classifier and its tokenizer, told that words come apart.

    Args:
        name: a folder that ``save_pretrained`` wrote, or a hub name.
        kwargs: passed on to ``from_pretrained``.

    Raises:
        InputError: for another kind of model.
    """
    check_is_tagger(name, **kwargs)
    model = load_pretrained(AutoModelForTokenClassification, name, **kwargs)
    return model, load_word_tokenizer(name, **kwargs)


def check_is_tagger(name: str | Path, **kwargs) -> None:
    """Refuse a saved model that is no token classifier.

    Raises:
        InputError: saying how one is made.
    """
    if not is_tagger(name, **kwargs):
        raise InputError(
            f"{name} is no token classifier, as its config says; give a tagger, as `nlp-distill "
            "finetune-tagger` makes it"
        )


def load_word_tokenizer(name: str | Path, **kwargs) -> Any:
    """A tokenizer that is told that words come apart.

    Args:
        name: a folder that ``save_pretrained`` wrote, or a hub name.
        kwargs: passed on to ``from_pretrained``.

    Raises:
        InputError: as :func:`load_pretrained`.
    """
    tokenizer = load_pretrained(AutoTokenizer, name, **kwargs)
    if getattr(tokenizer, "add_prefix_space", None) is False:  # RoBERTa's refuses words without it
        tokenizer = load_pretrained(AutoTokenizer, name, add_prefix_space=True, **kwargs)
    return tokenizer


def read_tasks(name: str | Path, **kwargs) -> tuple[str, ...]:
    """The tasks of a multi-task model, from its config alone; none of any other model.

    Args:
        name: a folder that ``save_pretrained`` wrote, or a hub name.
        kwargs: passed on to ``from_pretrained``.

    Raises:
        InputError: as :func:`load_pretrained`.
    """
    from nlp_distill.students import MultiTaskConfig

    config = load_pretrained(AutoConfig, name, **kwargs)
    return tuple(head.name for head in config.list_heads()) if isinstance(config, MultiTaskConfig) else ()


def reads_pairs(name: str | Path, task: str | None = None, **kwargs) -> bool | None:
    """Whether a classifier compares two texts, as its config or the results beside it say; ``None`` where they do not.

    Args:
        name: a folder that ``save_pretrained`` wrote, or a hub name.
        task: of a multi-task model.
        kwargs: passed on to ``from_pretrained``.

    Raises:
        InputError: as :func:`load_pretrained`.
    """
    from nlp_distill.students import MultiTaskConfig, SANConfig, WordStudentConfig

    config = load_pretrained(AutoConfig, name, **kwargs)
    if is_tagger(name, **kwargs):
        return False
    if isinstance(config, MultiTaskConfig):
        return next((head.is_pair for head in config.list_heads() if head.name == task), None)
    if isinstance(config, WordStudentConfig):
        return config.pair
    if isinstance(config, SANConfig):
        return True
    return True if _was_tuned_on_pairs(Path(name)) else None  # one of single texts could read pairs


def _was_tuned_on_pairs(folder: Path) -> bool:
    """Whether the results that ``finetune`` wrote beside a model say that its task has pairs."""
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(results, dict) and results.get("is_pair") is True


def check_reads(name: str | Path, is_pair: bool, task: str | None = None, **kwargs) -> None:
    """Refuse rows of one text for a model that is known to compare two, and the other way round.

    Raises:
        InputError: saying which column to name, or to leave out.
    """
    reads = reads_pairs(name, task, **kwargs)
    if reads is True and not is_pair:
        raise InputError(f"{name} compares two texts; name the column of the second with --text-pair-column")
    if reads is False and is_pair:
        raise InputError(f"{name} reads one text; leave out --text-pair-column")


def check_max_length(model, max_length: int, option: str = "--max-length") -> None:
    """Refuse rows of more tokens than a model has positions for; it would fail at the first long row, or guess.

    Raises:
        InputError: if ``max_length`` is above the model's ``max_position_embeddings``.
    """
    positions = count_positions(model)
    if positions and max_length > positions:
        raise InputError(
            f"max_length is {max_length}, but {model.config.name_or_path or 'the model'} reads at most {positions} "
            f"tokens; give {option} {positions} or less"
        )


def check_vocabulary(model, tokenizer) -> None:
    """Refuse a tokenizer that makes tokens which the model has no vectors for; it would fail at the first of them.

    Raises:
        InputError: naming both numbers.
    """
    rows = getattr(model.get_input_embeddings(), "num_embeddings", None)
    largest = max(tokenizer.get_vocab().values(), default=0)
    if rows is not None and largest >= rows:
        raise InputError(
            f"the tokenizer {tokenizer.name_or_path} has tokens up to number {largest}, but "
            f"{model.config.name_or_path or 'the model'} has vectors for {rows}; give each model its own tokenizer"
        )


def count_positions(model) -> int | None:
    """Tokens that a model has positions for; ``None`` where any number is read."""
    own = getattr(model.config, "encoder", None)  # of a model around another
    positions = getattr(model.config, "max_position_embeddings", None)
    positions = own.get("max_position_embeddings") if isinstance(own, dict) else positions
    embeddings = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    padding = getattr(embeddings[0], "padding_idx", None) if embeddings else None
    if positions and padding is not None:
        positions -= padding + 1  # RoBERTa counts positions from the padding token on
    return positions


def _check_name(name: str | Path, is_tokenizer: bool) -> bool:
    """Whether ``name`` is a folder; refuses what can be neither a saved model nor the name of one on the hub."""
    path = Path(name)
    if not str(name).strip():
        raise InputError(f"the name of a model is {name!r}; give a saved model's folder or a name on the hub")
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(
                f"{name} is a folder without a config.json; give a folder that save_pretrained wrote"
            )
        if is_tokenizer and not any(next(path.glob(pattern), None) for pattern in TOKENIZER_FILES):
            raise InputError(f"{name} holds no tokenizer; save the model's tokenizer into it as well")
        return True
    if path.exists():
        raise InputError(f"{name} is a file; give the folder of a saved model")
    if path.is_absolute() or str(name).startswith("."):
        raise InputError(f"no folder {name}; give a saved model's folder or the name of a model on the hub")
    return False


def _shorten(error: Exception) -> str:
    """The first sentence."""
    return " ".join(re.split(r"\.\s", str(error))[0].split())


def _explain(error: Exception, is_folder: bool) -> str:
    if "custom code" in str(error) or "trust_remote_code" in str(error):
        return "it comes with code of its own, which is not run; --trust-remote-code runs it, if you trust it"
    if "Weights only load failed" in str(error):
        return (
            "its weights are a pickle that is damaged or holds more than tensors, which is not run; save them as "
            "model.safetensors"
        )
    if "ignore_mismatched_sizes" in str(error):
        return "its weights have other shapes than its config.json says; take a folder that save_pretrained wrote"
    if "Unrecognized configuration class" in str(error):
        return "its kind of model has no head for this; give a BERT or another encoder of texts"
    if unknown := re.search("has model type `(.*?)` but Transformers does not recognize", str(error)):
        return (
            f"the model type `{unknown[1]}` of its config.json is not registered; from Python, import what registers "
            "its class first; here, save its code with it (`register_for_auto_class`) and add --trust-remote-code"
        )
    if "Unrecognized model" in str(error):
        return "its config.json names no kind of model; give a folder that save_pretrained wrote"
    if "no file named" in str(error):
        return "it holds no weights (model.safetensors); give a folder that save_pretrained wrote"
    if isinstance(error, SafetensorError) or "valid JSON file" in str(error):
        return f"a file in it is damaged ({_shorten(error)}); save the model again"
    if not isinstance(error, OSError | ValueError):  # and says nothing about its cause
        return f"a file in it is damaged ({type(error).__name__}: {_shorten(error)}); save the model again"
    if is_folder:
        return _shorten(error)
    return (
        "no such folder here, and the hub did not answer or has no such model; give the folder of a saved model (to "
        "fine-tune one without a hub, --model packaged takes the one that comes with the demo extra)"
    )
