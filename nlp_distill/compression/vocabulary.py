"""Leave out the word pieces that a corpus never uses: the same answers on the corpus from a smaller embedding matrix.

Word pieces dominate small students: 30,522 x 312 numbers are 9.5M of the 14M parameters of a 3 x 312 BERT. The rows of
the pieces that stay are copied, so that on any text cut into kept pieces only the logits are the same to the bit. Words
that the corpus lacks are cut finer, down to single characters, which all stay, so that nothing becomes unknown.
"""

from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from data_augment.errors import InputError
from nlp_distill.compression.rebuild import change_config, check_kind, rebuild
from nlp_distill.students import trim_vocabulary

TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "unk_token_id")


def trim_model(model: PreTrainedModel, tokenizer: Any, texts: Iterable[str]) -> tuple[Any, Any]:
    """A model and tokenizer with the word pieces that ``texts`` use, the special tokens and the single characters.

    Args:
        model: a BERT, ELECTRA, DistilBERT, BiLSTM or CNN classifier; left as it is.
        tokenizer: its fast WordPiece tokenizer; left as it is.
        texts: the corpus, read once.

    Returns:
        The trimmed model, in training mode, and its tokenizer.

    Raises:
        InputError: for another kind of model or tokenizer, or a tokenizer with more pieces than the model.
    """
    check_kind(model, "trim-vocabulary")
    trimmed, kept = trim_vocabulary(tokenizer, texts)
    size = model.config.vocab_size
    if kept[-1] >= size:
        raise InputError(
            f"the tokenizer has a word piece {kept[-1]}, but the model has embeddings for {size} of them; give the "
            "tokenizer that belongs to the model"
        )
    matrices = find_word_matrices(model)
    weights = model.state_dict()
    weights |= {name: weights[name][kept] for name in matrices}
    new_id = {old: new for new, old in enumerate(kept)}
    ids = {name: getattr(model.config, name, None) for name in TOKEN_IDS}
    changes: dict[str, Any] = {name: new_id.get(old) for name, old in ids.items() if isinstance(old, int)}
    changes["pad_token_id"] = trimmed.pad_token_id
    if ignored := getattr(model.config, "ignored_token_ids", None):
        changes["ignored_token_ids"] = [new_id[old] for old in ignored if old in new_id]
    config = change_config(model.config, vocab_size=len(kept), **changes)
    return rebuild(type(model), config, weights), _like(tokenizer, trimmed)


def find_word_matrices(model: PreTrainedModel) -> list[str]:
    """The names of the weights with a row a word piece; a BiLSTM or CNN of two channels has two."""
    modules = [model.get_input_embeddings(), getattr(model, "static_embeddings", None)]
    owned = {id(module.weight) for module in modules if module is not None}
    return [name for name, weight in model.named_parameters() if id(weight) in owned]


def _like(tokenizer: Any, trimmed: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The trimmed tokenizer with the inputs that the model reads (DistilBERT takes no token types)."""
    return PreTrainedTokenizerFast(
        tokenizer_object=trimmed.backend_tokenizer,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        model_input_names=list(tokenizer.model_input_names),
        **trimmed.special_tokens_map,
    )
