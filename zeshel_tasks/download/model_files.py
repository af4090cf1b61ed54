"""Identifies and gets the files of a pretrained model on the hub, in a local directory or in an S3 bucket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from zeshel_tasks.download.hub import cached, readme_of, snapshot_of
from zeshel_tasks.download.model_file_names import CONFIG, check_no_adapter, files_read, without_weights
from zeshel_tasks.download.stated import README, StatedOrigin, beginning_of, stated_origin
from zeshel_tasks.errors import ConfigError, ZeshelError
from zeshel_tasks.location import HubModel, LocalPath, ModelLocation, S3Address
from zeshel_tasks.store import Store
from zeshel_tasks.store.identity import folder_identity
from zeshel_tasks.store.runs import store_at

log = logging.getLogger(__name__)


def model_identity(location: ModelLocation, store: Store) -> str:
    """The identity of the files that are read, for the fingerprint. Other files of the folder do not matter.

    Args:
        location: of the model.
        store: notes the files of a model on the hub (:func:`~zeshel_tasks.download.hub.snapshot_of`).

    Raises:
        ConfigError: there is no such model.
        DataError: the directory or prefix contains no file of a model.
        StoreUnavailable: the hub or the store does not answer.
    """
    if isinstance(location, HubModel):
        return snapshot_of(location, store).identity
    if isinstance(location, LocalPath) and not location.path.is_dir():
        raise ConfigError(f"bert_model: expected a model on the hub or an existing directory, got {location.name!r}")
    return folder_identity(location, files_read)


def bert_directory(location: ModelLocation, scratch: Path, store: Store) -> Path:
    """A local directory with the model's configuration, vocabulary and weights.

    Args:
        location: of the model.
        scratch: where a model in a bucket is downloaded to.
        store: as for :func:`model_identity`.

    Raises:
        ConfigError: there is no such model.
        StoreUnavailable: the hub or the store does not answer.
    """
    if isinstance(location, S3Address):
        directory = _downloaded(location, scratch / "bert_model")
    elif isinstance(location, LocalPath):
        directory = location.path
    else:
        directory = cached(location, snapshot_of(location, store))
    return _checked(directory, location)


def bert_description(location: ModelLocation, scratch: Path, store: Store) -> Path:
    """A local directory with the model's configuration and vocabulary. No weights are downloaded.

    Args:
        location: of the model.
        scratch: where files in a bucket are downloaded to.
        store: as for :func:`model_identity`.

    Raises:
        ConfigError: there is no such model.
        StoreUnavailable: the hub or the store does not answer.
    """
    if isinstance(location, S3Address):
        directory = _downloaded(location, scratch / "bert_description", without_weights)
    elif isinstance(location, LocalPath):
        directory = location.path
    else:
        snapshot = snapshot_of(location, store)
        files = {name: snapshot.files[name] for name in without_weights(snapshot.files)}
        directory = cached(location, snapshot.model_copy(update={"files": files}))
    return _checked(directory, location)


def model_origin(location: ModelLocation, scratch: Path) -> StatedOrigin:
    """What the model's README states about its making. A README that cannot be read states nothing.

    Args:
        location: of a model that :func:`bert_directory` has fetched.
        scratch: where a README in a bucket is downloaded to.
    """
    try:
        content = _readme(location, scratch)
    except (ZeshelError, OSError) as error:
        log.info("bert_model: no %s was read: %s", README, error)
        content = None
    return StatedOrigin() if content is None else stated_origin(content.decode(errors="replace"))


def _readme(location: ModelLocation, scratch: Path) -> bytes | None:
    if isinstance(location, HubModel):
        return readme_of(location)
    if isinstance(location, LocalPath):
        path: Path | None = location.path / README
    else:
        path = store_at(location).local_copy(README, scratch / README)
    return beginning_of(path) if path is not None and path.is_file() else None


def _checked(directory: Path, location: ModelLocation) -> Path:
    names = [path.name for path in directory.iterdir() if path.is_file()] if directory.is_dir() else []
    check_no_adapter(names, f"bert_model: {location.name!r}")
    if CONFIG not in names:
        raise ConfigError(f"bert_model: expected a directory with {CONFIG}, got none in {location.name}")
    return directory


def _downloaded(location: S3Address, folder: Path, wanted: Callable[[Iterable[str]], list[str]] = files_read) -> Path:
    store = store_at(location)
    found = list(store.keys(""))
    check_no_adapter(found, f"bert_model: {location.name!r}")
    names = files_read(found)
    if CONFIG not in names:
        raise ConfigError(f"bert_model: expected {CONFIG} at {location.name}, got {', '.join(names) or 'nothing'}")
    for name in wanted(names):
        store.local_copy(name, folder / name)
    return folder
