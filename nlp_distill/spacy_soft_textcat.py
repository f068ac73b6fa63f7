"""``soft_textcat``: spaCy's text classifier for ``spacy train`` on a ``.spacy`` file that holds probabilities.

spaCy's own ``textcat`` refuses all but 0 and 1 (3.8). This one takes any probabilities that sum to 1, and is the same
in every other way: with ``factory = "soft_textcat"`` in the config it trains on a teacher's answers, and with the line
changed back to ``factory = "textcat"`` in the ``config.cfg`` of the trained pipeline it loads without this package.
"""

import math
from collections.abc import Iterable
from typing import Any

from spacy.language import Language
from spacy.pipeline.textcat import DEFAULT_SINGLE_TEXTCAT_MODEL, TextCategorizer

TOLERANCE = 1e-3  # of the sum, which may have been rounded


class SoftTextCategorizer(TextCategorizer):
    """A ``textcat`` that learns from probabilities."""

    def _validate_categories(self, examples: Iterable[Any]) -> None:
        for example in examples:
            values = list(example.reference.cats.values())
            if values and not (min(values) >= 0 and math.isclose(sum(values), 1, abs_tol=TOLERANCE)):
                raise ValueError(
                    f"the categories of a document are {example.reference.cats}; give probabilities that sum to 1"
                )


@Language.factory(
    "soft_textcat",
    assigns=["doc.cats"],
    default_config={
        "threshold": 0.0,
        "model": DEFAULT_SINGLE_TEXTCAT_MODEL,
        "scorer": {"@scorers": "spacy.textcat_scorer.v2"},
    },
)
def make_soft_textcat(nlp: Any, name: str, model: Any, threshold: float, scorer: Any) -> SoftTextCategorizer:
    """The component, as spaCy asks for it."""
    return SoftTextCategorizer(nlp.vocab, model, name, threshold=threshold, scorer=scorer)
