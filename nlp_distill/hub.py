"""The model hub: whether it can be asked at all, and how a finished model gets there."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_augment.errors import InputError

REACH_SECONDS = 5.0  # one request; the hub's client would retry for minutes

# All that a model's folder sends; logits, marks of stages, result files and pages about them stay here.
MODEL_FILES = (
    "README.md",
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.py",  # of models that came with code
)
SPACY_FILES = ("README.md", "config.cfg", "meta.json", "tokenizer", "textcat/*")
# What a folder needs to be of use to others: one of each.
WHOLE_MODEL = ("README.md", "config.json", "*.safetensors", "tokenizer*")
WHOLE_SPACY = ("README.md", "config.cfg", "meta.json", "tokenizer", "textcat/model")


@dataclass(frozen=True)
class HubTarget:
    """Where a model goes.

    Args:
        repo: ``name`` or ``owner/name``.
        private: whether only its owner sees it, if the repository is new.
    """

    repo: str
    private: bool = False


def hub_is_reachable() -> bool:
    """Whether the hub answers one request of its own client, which knows proxies and certificates."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        answer = get_session().head(constants.ENDPOINT, timeout=REACH_SECONDS)
    except Exception:  # the client's exception types differ between versions, and each means no
        return False
    return answer.status_code < 400


def check_target(target: HubTarget) -> None:
    """Refuse what could not be uploaded, before the work is done; nothing is written to the hub.

    Raises:
        InputError: for a name that is none, a hub that does not answer, or nobody who is logged in.
    """
    import huggingface_hub
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(target.repo)
    except HFValidationError as error:
        reason = str(error).split(". ")[0].partition(":")[0]
        raise InputError(f"--push-to-hub got {target.repo!r}; give NAME or OWNER/NAME ({reason})") from error
    if not hub_is_reachable():
        raise InputError(
            "the hub does not answer, so nothing could be uploaded at the end; leave out --push-to-hub"
        )
    try:
        huggingface_hub.HfApi().whoami()
    except Exception as error:
        raise InputError(
            f"the hub does not know who you are ({_first_line(error)}); run `hf auth login`, or set HF_TOKEN"
        ) from error


def list_model_files(folder: Path) -> list[str]:
    """What is uploaded of a saved model's folder: the model, its tokenizer and its card.

    Raises:
        InputError: if a part is missing.
    """
    is_spacy = (folder / "config.cfg").is_file()
    wanted, whole = (SPACY_FILES, WHOLE_SPACY) if is_spacy else (MODEL_FILES, WHOLE_MODEL)
    found = {path.relative_to(folder).as_posix() for pattern in wanted for path in folder.glob(pattern)}
    for pattern in whole:
        if not any(folder.glob(pattern)):
            raise InputError(f"{folder} has no {pattern}; only a whole model with its card goes to the hub")
    return sorted(name for name in found if (folder / name).is_file() and not name.endswith(".tmp"))


def push_folder(folder: str | Path, target: HubTarget, write_card: Callable[[str], Any]) -> str:
    """Upload a finished model's folder, once, in one commit; returns its address.

    Args:
        folder: the saved model.
        target: where it goes; the repository is made if it is not there.
        write_card: writes the folder's card for the name that the model has on the hub.

    Raises:
        InputError: if the folder is not whole, or the hub refuses it.
    """
    import huggingface_hub

    folder = Path(folder)
    api = huggingface_hub.HfApi()
    try:
        repo = api.create_repo(target.repo, private=target.private or None, exist_ok=True)
        write_card(repo.repo_id)
        files = list_model_files(folder)
        api.upload_folder(
            repo_id=repo.repo_id,
            folder_path=folder,
            allow_patterns=files,
            commit_message=f"Upload {folder.name}, made with nlp_distill",
        )
    except InputError:
        raise
    except Exception as error:  # the client's own errors, and those of the network below it
        raise InputError(
            f"the model is saved in {folder}, but the hub refused it ({_first_line(error)}); run the same command "
            "again to upload it"
        ) from error
    return str(repo)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
