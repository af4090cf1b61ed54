"""A model on the Hugging Face hub: asks which files its name stands for today, and downloads them.

A branch or a tag can move, so the name alone does not identify the content. The hub lists the files of a revision with
their hashes. Where it does not answer (a scheduler without a route to it), the files are those in the local cache of
huggingface_hub or, without one, those that this store's runs saw last.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from zeshel_tasks.download import hub_settings
from zeshel_tasks.download.hub_client import Hub, Listing, StatedFile, hub_for_files, hub_for_questions
from zeshel_tasks.download.hub_snapshot import HubCache, Snapshot, parsed
from zeshel_tasks.download.model_file_names import missing_files
from zeshel_tasks.download.stated import MAX_README_BYTES, README, beginning_of
from zeshel_tasks.errors import ConfigError, ZeshelError
from zeshel_tasks.location import HubModel
from zeshel_tasks.store import Store

log = logging.getLogger(__name__)


def snapshot_of(model: HubModel, store: Store) -> Snapshot:
    """The files that the model's name stands for.

    Args:
        model: a model with any revision; none means ``main``.
        store: the store in which they are noted for processes that cannot reach the hub.

    Raises:
        ConfigError: the hub refuses or does not have this model, it must not be asked and the model is not in the
            cache, or a variable of the environment is wrong.
        StoreUnavailable: the hub does not answer.
    """
    key = f"hub/{model.repository}@{_revision(model)}"
    noted = parsed(store.get(key))
    if noted is not None and noted.commit == model.revision:
        return noted  # the files of a commit never change
    found = _offline(model, noted) if hub_settings.is_offline() else _asked(model, noted)
    if found != noted:
        store.put(key, found.model_dump_json().encode())
    return found


def cached(model: HubModel, snapshot: Snapshot) -> Path:
    """The cache's folder with the files of a snapshot. Files that the cache lacks are downloaded into it.

    Raises:
        ConfigError: the hub refuses, it must not be asked and a file is missing, the cache is not writable, or a
            variable of the environment is wrong.
        StoreUnavailable: the hub does not answer, breaks off repeatedly, or sends another file than it listed.
    """
    cache = HubCache(model.repository)
    missing = [name for name, of in snapshot.files.items() if not cache.holds(snapshot.commit, name, of)]
    if missing and hub_settings.is_offline():
        raise _refusal_offline(model, missing, "none, or damaged ones")
    if missing:
        log.info("bert_model: downloading %s at commit %s", model.repository, snapshot.commit)
        with hub_for_files(model) as hub:
            for name in missing:
                with cache.adding(snapshot.commit, name, snapshot.files[name]) as part:
                    hub.download(snapshot.commit, name, StatedFile(snapshot.files[name]), part)
        cache.point(_revision(model), snapshot.commit)
    return cache.snapshot_folder(snapshot.commit)


def readme_of(model: HubModel) -> bytes | None:
    """The beginning of the README beside the cached files; None if it is not cached and the hub must not be asked.

    Raises:
        ConfigError: the hub refuses, or the model has no README.
        StoreUnavailable: the hub does not answer.
    """
    cache = HubCache(model.repository)
    commit = cache.commit(_revision(model))
    path = cache.snapshot_folder(commit) / README
    if path.is_file():
        return beginning_of(path)
    if hub_settings.is_offline():
        return None
    with hub_for_questions(model) as hub:
        return hub.beginning(commit, README, MAX_README_BYTES)


def _asked(model: HubModel, noted: Snapshot | None) -> Snapshot:
    # A wrong setting is an error here, also if the answer is known.
    with hub_for_questions(model) as hub:
        try:
            return _identified(model, noted, hub, hub.listing(_revision(model)))
        except ZeshelError as error:
            return _known(model, noted, error)


def _identified(model: HubModel, noted: Snapshot | None, hub: Hub, listing: Listing) -> Snapshot:
    """The listed files with the hash of each.

    A mirror may list files without hashes. Then a hash is the one that the store noted, that the file's own address
    states, or that its content has, which is downloaded for this if it is not in the cache.
    """
    known = noted.files if noted is not None and noted.commit == listing.commit else {}
    hashes = {name: of or known.get(name) for name, of in listing.files.items()}
    stated = {name: hub.stated(listing.commit, name) for name, of in hashes.items() if of is None}
    files = {name: of for name, of in hashes.items() if of is not None}
    files |= {name: file.content_hash for name, file in stated.items() if file.content_hash is not None}
    unstated = {name: file for name, file in stated.items() if file.content_hash is None}
    return Snapshot(commit=listing.commit, files=files | _hashed(model, listing.commit, unstated))


def _hashed(model: HubModel, commit: str, files: Mapping[str, StatedFile]) -> dict[str, str]:
    """The hashes of files that the hub identifies by nothing, computed from what is cached or arrives."""
    cache = HubCache(model.repository)
    absent = [name for name in files if cache.hash_of(commit, name) is None]
    if absent:
        log.warning("bert_model: %s: the hub states no hashes; downloading %s", model.repository, ", ".join(absent))
        with hub_for_files(model) as hub:
            for name in absent:
                with cache.adding(commit, name) as part:
                    hub.download(commit, name, files[name], part)
    hashes = {name: cache.hash_of(commit, name) for name in files}
    return {name: of for name, of in hashes.items() if of is not None}


def _known(model: HubModel, noted: Snapshot | None, problem: ZeshelError) -> Snapshot:
    """The files without an answer of the hub; raises the problem if they are not known either."""
    known = _remembered(model, noted)
    if known is None:
        raise problem
    log.warning("%s; assuming commit %s, which %s was before", problem, known.commit, model.name)
    return known


def _offline(model: HubModel, noted: Snapshot | None) -> Snapshot:
    known = _remembered(model, noted)
    if known is None:
        cache = HubCache(model.repository)
        missing = missing_files(cache.snapshot_folder(cache.commit(_revision(model))))
        raise _refusal_offline(model, missing, "none")
    log.info("bert_model: %s at commit %s, because HF_HUB_OFFLINE is set", model.name, known.commit)
    return known


def _remembered(model: HubModel, noted: Snapshot | None) -> Snapshot | None:
    """The files in the local cache or, without it, those that the store noted."""
    known = HubCache(model.repository).snapshot(_revision(model))
    return noted if known is None or (noted is not None and noted.commit == known.commit) else known


def _refusal_offline(model: HubModel, missing: list[str], got: str) -> ConfigError:
    folder, names = HubCache(model.repository).folder, ", ".join(missing)
    return ConfigError(
        f"bert_model: {model.name!r}: expected {names} in the cache {folder}, because HF_HUB_OFFLINE is set, got {got}"
    )


def _revision(model: HubModel) -> str:
    return model.revision or "main"
