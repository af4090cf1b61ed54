"""Finds and opens the pretrained BERT: a hub name, a local directory or an s3 address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from transformers import AutoModel, AutoTokenizer

from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.store import S3Store, open_store

_MODEL_FILES = ["*.json", "*.txt", "*.safetensors"]
_PICKLED_WEIGHTS = "pytorch_model.bin"  # read with weights_only=True, and only where there is no safetensors file


def bert_directory(bert_model: str, scratch: Path) -> Path:
    """A local directory with the model's configuration, vocabulary and weights.

    Args:
        bert_model: hub name, local directory or ``s3://bucket/prefix``.
        scratch: where an s3 model is downloaded to.

    Raises:
        ConfigError: there is no such model.
        StoreUnavailable: the hub or the store does not answer.
    """
    if bert_model.startswith("s3://"):
        directory = _from_s3(bert_model, scratch / "bert_model")
    elif Path(bert_model).is_dir():
        directory = Path(bert_model)
    else:
        directory = _from_hub(bert_model)
    if not (directory / "config.json").is_file():
        raise ConfigError(f"bert_model: expected a directory with config.json, got none in {bert_model}")
    return directory


def load_tokenizer(directory: Path, *, lowercase: bool) -> Any:
    """The directory's tokenizer.

    Raises:
        ConfigError: there is none.
    """
    try:
        return AutoTokenizer.from_pretrained(str(directory), do_lower_case=lowercase)
    except (OSError, ValueError) as error:
        raise ConfigError(f"bert_model: expected a tokenizer in {directory}, got: {error}") from error


def load_bert(directory: Path) -> torch.nn.Module:
    """The directory's encoder, in fp32, with a pooling layer.

    Raises:
        ConfigError: not a model of the BERT family, or unreadable weights.
    """
    try:
        model: torch.nn.Module = AutoModel.from_pretrained(
            str(directory), dtype=torch.float32, attn_implementation="sdpa", weights_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"bert_model: expected a BERT model in {directory}, got: {error}") from error
    if not (hasattr(model, "encoder") and hasattr(model.encoder, "layer") and hasattr(model, "pooler")):
        raise ConfigError(f"bert_model: expected a model of the BERT family, got {type(model).__name__}")
    return model


def _from_hub(name: str) -> Path:
    try:
        directory = Path(snapshot_download(name, allow_patterns=_MODEL_FILES))
        if not any(directory.glob("*.safetensors")):
            directory = Path(snapshot_download(name, allow_patterns=[*_MODEL_FILES, _PICKLED_WEIGHTS]))
        return directory
    except (HFValidationError, GatedRepoError, RepositoryNotFoundError) as error:
        expected = "a hub name, a local directory or an s3 address"
        raise ConfigError(f"bert_model: expected {expected}, got {name!r}: {_first_line(error)}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise StoreUnavailable(f"bert_model: {name!r} cannot be fetched from the hub: {_first_line(error)}") from error


def _from_s3(address: str, target: Path) -> Path:
    store = open_store(address)
    assert isinstance(store, S3Store)
    names = [key for key in store.keys("") if "/" not in key]
    if "config.json" not in names:
        raise ConfigError(f"bert_model: expected config.json at {address}, got {', '.join(names) or 'nothing'}")
    for name in names:
        store.local_copy(name, target / name)
    return target


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
