"""Loads a model's tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from zeshel_tasks.data.tokens import NO_PROMPTS, Prompts, Tokens
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.broken import BROKEN, described
from zeshel_tasks.models.model_types import ModelShape, counts_after_padding, model_config, model_shape
from zeshel_tasks.text.safe_text import quoted

_RARE = "\u16a0\U00013000 \U0001f9ff"  # a rune, a hieroglyph and a picture, which few vocabularies have


def load_tokens(directory: Path, *, lowercase: bool, prompts: Prompts = NO_PROMPTS) -> Tokens:
    """The directory's tokenizer as :class:`~zeshel_tasks.data.tokens.Tokens`.

    Raises:
        ConfigError: see :func:`load_tokenizer`; or the vocabulary lacks a marker.
    """
    return Tokens(load_tokenizer(directory, lowercase=lowercase), lowercase=lowercase, prompts=prompts)


def load_tokenizer(directory: Path, *, lowercase: bool) -> Any:
    """Load the directory's tokenizer.

    Raises:
        ConfigError: the tokenizer does not exist, does not fit the model, or lower-cases text although it should not.
    """
    shape, config = model_shape(directory), model_config(directory)
    with _errors_named(directory):
        tokenizer = AutoTokenizer.from_pretrained(
            str(directory), config=config, do_lower_case=lowercase, trust_remote_code=False
        )
        vocabulary: dict[str, int] = tokenizer.get_vocab()
    if vocabulary.keys() <= set(tokenizer.all_special_tokens):  # which transformers assumes without a file
        raise ConfigError(f"bert_model: expected a vocabulary in {directory}, got none")
    _check_special_tokens(directory, tokenizer)
    _check_padding(directory, shape, tokenizer)
    if not lowercase:
        _check_case_is_kept(directory, tokenizer)
    highest = max(vocabulary.values(), default=0)
    if highest >= shape.vocab_size:
        raise ConfigError(
            f"bert_model: expected a vocabulary of at most {shape.vocab_size} tokens, the vocab_size in "
            f"{directory}/config.json, got token number {highest}"
        )
    _check_all_text_has_tokens(directory, tokenizer)
    return tokenizer


def is_cased(tokenizer: Any) -> bool:
    """True if a word in the vocabulary has a capital letter."""
    special = set(tokenizer.all_special_tokens)
    return any(token != token.lower() for token in tokenizer.get_vocab().keys() - special)


@contextmanager
def _errors_named(directory: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        # `tokenizers` raises plain Exceptions, and Rust's PanicException is not even one of them.
        of_tokenizers = type(error) is Exception or type(error).__name__ == "PanicException"
        if not of_tokenizers and not isinstance(error, BROKEN):
            raise
        raise ConfigError(f"bert_model: expected a tokenizer in {directory}, got: {described(error)}") from error


def _check_all_text_has_tokens(directory: Path, tokenizer: Any) -> None:
    """Refuse tokenizers that fail at a later text: everywhere because of an empty token, or at an unknown word."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    normalizer: Any = None if backend is None else backend.normalizer
    for token in () if normalizer is None else tokenizer.added_tokens_decoder.values():
        if token.normalized and not normalizer.normalize_str(token.content):
            raise ConfigError(
                f"bert_model: expected added tokens that the tokenizer in {directory} finds in text, got "
                f"{quoted(token.content)}, of which it leaves nothing"
            )
    with _errors_named(directory):
        tokenizer(_RARE, add_special_tokens=False)


def _check_special_tokens(directory: Path, tokenizer: Any) -> None:
    """Check the special tokens: transformers adds missing ones, with the number of another token."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    vocabulary = backend.get_vocab(with_added_tokens=False)
    for token in (tokenizer.pad_token, tokenizer.cls_token, tokenizer.sep_token):
        if token is not None and token not in vocabulary:
            raise ConfigError(
                f"bert_model: expected {token} in the vocabulary of {directory}, got {len(vocabulary):,} "
                "tokens without it"
            )


def _check_padding(directory: Path, shape: ModelShape, tokenizer: Any) -> None:
    """Check the number of the padding token, from which some models count positions."""
    if counts_after_padding(shape.model_type) and shape.pad_token_id != tokenizer.pad_token_id:
        raise ConfigError(
            f"bert_model: {directory}/config.json: pad_token_id: expected {tokenizer.pad_token_id}, the number of the "
            f"tokenizer's {tokenizer.pad_token}, got {shape.pad_token_id}"
        )


def _check_case_is_kept(directory: Path, tokenizer: Any) -> None:
    """Some tokenizers lower-case text whatever ``do_lower_case`` says."""
    backend = getattr(tokenizer, "backend_tokenizer", None)  # those in Python obey
    normalizer = None if backend is None else backend.normalizer
    if normalizer is not None and normalizer.normalize_str("A") == "a":
        raise ConfigError(
            f"lowercase: expected true for the tokenizer in {directory}, which lower-cases all text, got false"
        )
