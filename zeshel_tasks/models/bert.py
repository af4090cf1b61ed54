"""Loads a pretrained model from its directory."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModel

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.model_types import model_shape

log = logging.getLogger(__name__)

# transformers trusts its files, so broken ones raise any of these.
BROKEN = (
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


def load_bert(directory: Path, attention_dropout: float | None = None) -> torch.nn.Module:
    """Load the directory's encoder in fp32, with a pooling layer.

    Args:
        directory: with ``config.json``, weights and vocabulary.
        attention_dropout: replaces ``attention_probs_dropout_prob`` of ``config.json`` in this process.

    Raises:
        ConfigError: the model's type is not accepted, or its weights are unreadable, incomplete or not finite.
    """
    shape = model_shape(directory)
    model: Any
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
    except BROKEN as error:
        raise ConfigError(f"bert_model: expected a BERT model in {directory}, got: {described(error)}") from error
    _check_all_weights_are_used(directory, report)
    check_finite(model, f"bert_model: {directory}")
    # A model that is saved must not pass on the setting as its own value.
    model.config.attention_probs_dropout_prob = shape.attention_probs_dropout_prob
    encoder: torch.nn.Module = model
    return encoder


def check_finite(model: torch.nn.Module, where: str) -> None:
    """Check the initial weights. Without a training, nothing else would notice NaNs.

    Raises:
        ConfigError: a weight is NaN or infinite.
    """
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise ConfigError(f"{where}: expected weights that are finite numbers, got others in {name}")


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


def described(error: Exception) -> str:
    """The error with its type, because the text of a KeyError is only the key."""
    return f"{type(error).__name__}: {error}"
