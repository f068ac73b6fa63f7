"""Load models and tokenizers by name or path, with errors that say what to do."""

from pathlib import Path
from typing import Any

import torch

from data_augment.errors import InputError


def load_pretrained(auto_class, name: str | Path, **kwargs) -> Any:
    """``auto_class.from_pretrained(name)``, in fp32, without running code that came with a checkpoint.

    fp32 is the default because a checkpoint's own half precision is slow or unsupported on many CPUs; pass
    ``dtype`` for another. A folder is read without asking the network; a hub name may ask it.

    Args:
        auto_class: ``AutoTokenizer``, ``AutoModelForSequenceClassification``, ...
        name: a folder that ``save_pretrained`` wrote, or a hub name.
        kwargs: passed on to ``from_pretrained``.

    Raises:
        InputError: if there is no such folder and the hub does not answer or has no such model.
    """
    import nlp_distill.students  # noqa: F401  registers the custom student classes

    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(
                f"{name} is a folder without a config.json; give a folder that save_pretrained wrote"
            )
        kwargs["local_files_only"] = True
    elif path.is_absolute() or str(name).startswith("."):
        raise InputError(f"no folder {name}; give a saved model's folder or the name of a model on the hub")
    if "Tokenizer" not in auto_class.__name__:
        kwargs.setdefault("dtype", torch.float32)
    try:
        return auto_class.from_pretrained(str(name), **kwargs)
    except OSError as error:
        raise InputError(
            f"cannot load '{name}': no such folder here, and the hub did not answer or has no such model; give a "
            "saved model's folder, or 'packaged' for the teacher that comes with the demo extra"
        ) from error
