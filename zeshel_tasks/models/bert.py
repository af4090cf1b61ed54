"""Loads a pretrained model from its directory."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModel

from zeshel_tasks.download.model_file_names import weights_in
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.attention import ATTENTION
from zeshel_tasks.models.broken import BROKEN, described
from zeshel_tasks.models.model_types import model_config

log = logging.getLogger(__name__)

# Of models that were converted from TensorFlow.
_NEW_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_OLD_NAME = re.compile(r"LayerNorm\.(gamma|beta)$")


def load_bert(directory: Path, attention_dropout: float | None = None) -> torch.nn.Module:
    """Load the directory's encoder in fp32, with a pooling layer.

    Args:
        directory: with ``config.json``, weights and vocabulary.
        attention_dropout: replaces ``attention_probs_dropout_prob`` of ``config.json`` in this process.

    Raises:
        ConfigError: the model's type is not accepted, or its weights are unreadable, incomplete, not finite,
            quantized or zeros.
    """
    config = model_config(directory)
    models_own = config.attention_probs_dropout_prob
    if attention_dropout is not None:
        config.attention_probs_dropout_prob = attention_dropout
    model: Any
    try:
        model, report = AutoModel.from_pretrained(
            str(directory),
            config=config,
            dtype=torch.float32,
            attn_implementation=ATTENTION,
            weights_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except BROKEN as error:
        raise ConfigError(f"bert_model: expected a BERT model in {directory}, got: {described(error)}") from error
    _check_all_weights_are_used(directory, report)
    _check_each_weight_is_given_once(directory, model.base_model_prefix)
    check_finite(model, f"bert_model: {directory}")
    _check_trained(directory, model)
    # A model that is saved must not pass on the setting as its own value.
    model.config.attention_probs_dropout_prob = models_own
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


def _check_trained(directory: Path, model: torch.nn.Module) -> None:
    """Refuse matrices of int8 and the like, which transformers converts to fp32 without their scales, and of zeros.

    Zeros come from files whose download was preallocated and never finished. RoBERTa's segments are zeros.
    """
    for name, weight in model.named_parameters():
        if weight.dim() != 2 or not ("encoder.layer." in name or "word_embeddings" in name):
            continue
        if torch.equal(weight, weight.round()):
            got = "only integers" if weight.any() else "only zeros"
            raise ConfigError(
                f"bert_model: expected trained weights in floating point in {directory}, got {got} in {name}"
            )


def _check_each_weight_is_given_once(directory: Path, prefix: str) -> None:
    """Refuse a weight under two names, such as with the prefix of a whole model and without. transformers takes any."""
    seen: dict[str, str] = {}
    for path in weights_in(directory):
        for name in _names_in(path):
            plain = _OLD_NAME.sub(lambda found: _NEW_NAMES[found[0]], name.removeprefix(f"{prefix}."))
            if plain in seen:
                raise ConfigError(
                    f"bert_model: expected each weight once in {directory}, got {seen[plain]} and {name} in {path.name}"
                )
            seen[plain] = name


def _names_in(path: Path) -> list[str]:
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as tensors:
            return list(tensors.keys())
    return list(torch.load(path, map_location="meta", weights_only=True))


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
            renamed = next((name for name in report["unexpected_keys"] if name.endswith(f".{names[0]}")), None)
            raise ConfigError(
                f"bert_model: expected all weights of the model that {directory}/config.json describes, got a file "
                f"{what} {names[0]} ({len(names)} such tensors){f', but with {renamed}' if renamed else ''}"
            )
    if report["missing_keys"]:
        log.warning("bert_model: %s has no pooling layer; it is initialized randomly", directory)
