"""The files of a pretrained model: from the hub, a local directory or an S3 bucket."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.location import HubModel, LocalPath, ModelLocation, S3Address
from zeshel_tasks.store.runs import store_at

_MODEL_FILES = ["*.json", "*.txt", "*.safetensors"]
_PICKLED_WEIGHTS = "pytorch_model.bin"  # read with weights_only=True, and only without a safetensors file


def bert_directory(location: ModelLocation, scratch: Path) -> Path:
    """A local directory with the model's configuration, vocabulary and weights.

    Args:
        location: of the model.
        scratch: where a model in a bucket is downloaded to.

    Raises:
        ConfigError: there is no such model.
        StoreUnavailable: the hub or the store does not answer.
    """
    if isinstance(location, S3Address):
        directory = _from_s3(location, scratch / "bert_model")
    elif isinstance(location, LocalPath):
        directory = location.path
    else:
        directory = _from_hub(location)
    if not (directory / "config.json").is_file():
        raise ConfigError(f"bert_model: expected a directory with config.json, got none in {location.name}")
    return directory


def _from_hub(model: HubModel) -> Path:
    fetch = partial(snapshot_download, model.repository, revision=model.revision)
    try:
        directory = Path(fetch(allow_patterns=_MODEL_FILES))
        if not any(directory.glob("*.safetensors")):
            directory = Path(fetch(allow_patterns=[*_MODEL_FILES, _PICKLED_WEIGHTS]))
        return directory
    except (HFValidationError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        expected = "a model on the hub, a local directory or an s3 address"
        raise ConfigError(f"bert_model: expected {expected}, got {model.name!r}: {_first_line(error)}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        problem = f"{model.name!r} cannot be fetched from the hub: {_first_line(error)}"
        raise StoreUnavailable(f"bert_model: {problem}") from error


def _from_s3(location: S3Address, target: Path) -> Path:
    store = store_at(location)
    names = [key for key in store.keys("") if "/" not in key]
    if "config.json" not in names:
        raise ConfigError(f"bert_model: expected config.json at {location.name}, got {', '.join(names) or 'nothing'}")
    for name in names:
        store.local_copy(name, target / name)
    return target


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
