"""What is said to spaCy: a blank pipeline, and texts as documents whose categories are a teacher's probabilities."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_augment.errors import InputError

INSTALL = 'pip install "nlp_distill[spacy]"'
LANGUAGE = "en"


def import_spacy() -> Any:
    """The package.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import spacy
    except ModuleNotFoundError as error:
        if error.name != "spacy":  # something that spaCy needs: its own message names it
            raise
        raise InputError(f"spaCy is not installed; run `{INSTALL}`") from error
    return spacy


def make_blank(language: str = LANGUAGE) -> Any:
    """A pipeline that only splits texts into tokens; nothing is downloaded.

    Raises:
        InputError: for a language that spaCy does not know, or that needs a package of its own.
    """
    spacy = import_spacy()
    try:
        return spacy.blank(language)
    except ImportError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"spaCy has no blank pipeline for the language {language!r}: {reason}") from error


def find_fault(nlp: Any, text: str) -> str | None:
    """Why a text cannot become a document, or ``None``."""
    if not text:
        return "holds an empty text, which spaCy drops"
    if len(text) > nlp.max_length:
        return f"holds a text of {len(text):,} characters; spaCy reads at most {nlp.max_length:,}"
    return None


def make_document(nlp: Any, text: str, probabilities: Mapping[str, float], row_id: str | None = None) -> Any:
    """A text as tokens, with a probability for each category, and its row's id in ``user_data``."""
    document = nlp.make_doc(text)
    document.cats = dict(probabilities)
    if row_id is not None:
        document.user_data["id"] = row_id
    return document


def pack_documents(
    nlp: Any,
    rows: Iterable[tuple[str, str, Iterable[float]]],
    labels: Sequence[str],
) -> bytes:
    """The content of a ``.spacy`` file, as ``spacy train`` and ``spacy.training.Corpus`` read it.

    Args:
        nlp: a blank pipeline of the language.
        rows: id, text, and probability of each label.
        labels: the categories.
    """
    tokens = import_spacy().tokens
    # No attributes but the tokens themselves: tags and entities are not known, and shall be read as missing.
    packed = tokens.DocBin(attrs=["ORTH"], store_user_data=True)
    for row_id, text, probabilities in rows:
        named = dict(zip(labels, map(float, probabilities), strict=True))
        document = make_document(nlp, text, named, row_id)
        if document.text != text:
            raise InputError(f"row {row_id}: spaCy's tokens do not give the text back; leave the row out")
        packed.add(document)
    return packed.to_bytes()
