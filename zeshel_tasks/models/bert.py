"""Loads the pretrained BERT from its directory."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.safe_text import quoted

log = logging.getLogger(__name__)

# transformers trusts its files, so broken ones raise any of these.
_BROKEN = (
    OSError,
    ValueError,
    RuntimeError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    EOFError,
    ImportError,
    AssertionError,
    SafetensorError,
    StrictDataclassError,
    pickle.UnpicklingError,
)


class ModelShape(BaseModel):
    """The values in a model's ``config.json`` that we rely on. Other model families name some of them differently."""

    model_config = ConfigDict(frozen=True, strict=True)
    model_type: str
    vocab_size: int | None = Field(None, ge=1, le=10_000_000)
    hidden_size: int | None = Field(None, ge=1, le=100_000)
    intermediate_size: int | None = Field(None, ge=1, le=1_000_000)
    num_hidden_layers: int | None = Field(None, ge=1, le=1000)
    num_attention_heads: int | None = Field(None, ge=1, le=10_000)
    max_position_embeddings: int | None = Field(None, ge=1, le=10_000_000)
    type_vocab_size: int | None = Field(None, ge=0, le=1000)


def model_shape(directory: Path) -> ModelShape:
    """The shape of the model, from the directory's ``config.json``.

    Raises:
        ConfigError: the file cannot be read or does not describe a model.
    """
    path = directory / "config.json"
    try:
        return ModelShape.model_validate(json.loads(path.read_bytes()))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "all of it"
        raise ConfigError(f"bert_model: {path}: {where}: {problem['msg']}; got {quoted(problem['input'])}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"bert_model: {path}: expected a JSON object, got: {error}") from error


def load_tokenizer(directory: Path, *, lowercase: bool) -> Any:
    """Load the directory's tokenizer.

    Raises:
        ConfigError: the tokenizer does not exist, or its vocabulary is larger than the model's.
    """
    size = model_shape(directory).vocab_size
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(directory), do_lower_case=lowercase, trust_remote_code=False)
        vocabulary: dict[str, int] = tokenizer.get_vocab()
    except Exception as error:
        # `tokenizers` raises plain Exceptions
        if type(error) is not Exception and not isinstance(error, _BROKEN):
            raise
        raise ConfigError(f"bert_model: expected a tokenizer in {directory}, got: {_described(error)}") from error
    _check_special_tokens(directory, tokenizer)
    highest = max(vocabulary.values(), default=0)
    if size is not None and highest >= size:
        raise ConfigError(
            f"bert_model: expected a vocabulary of at most {size} tokens, the vocab_size in {directory}/config.json, "
            f"got token number {highest}"
        )
    return tokenizer


def load_bert(directory: Path, attention_dropout: float | None = None) -> torch.nn.Module:
    """Load the directory's encoder in fp32, with a pooling layer.

    Args:
        directory: with ``config.json``, weights and vocabulary.
        attention_dropout: replaces ``attention_probs_dropout_prob`` of ``config.json``.

    Raises:
        ConfigError: the model is not of the BERT family, or its weights are unreadable, incomplete or not finite.
    """
    model_shape(directory)
    model: torch.nn.Module
    dropout = {} if attention_dropout is None else {"attention_probs_dropout_prob": attention_dropout}
    try:
        model, report = AutoModel.from_pretrained(
            str(directory),
            dtype=torch.float32,
            attn_implementation="sdpa",
            weights_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **dropout,
        )
    except _BROKEN as error:
        raise ConfigError(f"bert_model: expected a BERT model in {directory}, got: {_described(error)}") from error
    if not (hasattr(model, "encoder") and hasattr(model.encoder, "layer") and hasattr(model, "pooler")):
        raise ConfigError(f"bert_model: expected a model of the BERT family, got {type(model).__name__}")
    _check_all_weights_are_used(directory, report)
    check_finite(model, f"bert_model: {directory}")
    return model


def check_finite(model: torch.nn.Module, where: str) -> None:
    """Check the initial weights. Without a training, nothing else would notice NaNs.

    Raises:
        ConfigError: a weight is NaN or infinite.
    """
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise ConfigError(f"{where}: expected weights that are finite numbers, got others in {name}")


def check_length(model: torch.nn.Module, setting: str, tokens: int) -> None:
    """Check that the model has enough positions for this number of tokens.

    Raises:
        ConfigError: it has fewer; the message names ``setting``.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if isinstance(positions, int) and tokens > positions:
        raise ConfigError(f"{setting}: expected at most {positions}, the positions that bert_model has, got {tokens}")


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


def _check_all_weights_are_used(directory: Path, report: dict[str, Any]) -> None:
    """Refuse missing or unused weights, which transformers initializes randomly or ignores."""
    for name, found, expected in sorted(report["mismatched_keys"]):
        raise ConfigError(
            f"bert_model: expected {name} of {list(expected)}, as {directory}/config.json describes it, "
            f"got one of {list(found)}"
        )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    left_out = sorted(name for name in report["unexpected_keys"] if "encoder.layer." in name)
    for names, what in ((missing, "without"), (left_out, "with layers that config.json leaves out:")):
        if names:
            raise ConfigError(
                f"bert_model: expected all weights of the model that {directory}/config.json describes, got a file "
                f"{what} {names[0]} ({len(names)} such tensors)"
            )
    if report["missing_keys"]:
        log.warning("bert_model: %s has no pooling layer; it is initialized randomly", directory)


def _described(error: Exception) -> str:
    """The error with its type, because the text of a KeyError is only the key."""
    return f"{type(error).__name__}: {error}"
