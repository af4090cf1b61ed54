"""A model on the Hugging Face hub: asks which files its name stands for today, and downloads them.

A branch or a tag can move, so the name alone does not identify the content. The hub lists the files of a revision with
their hashes. Where it does not answer (a scheduler without a route to it), the files are those in the local cache of
huggingface_hub or, without one, those that this store's runs saw last.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, ValidationError

from zeshel_tasks.download import hub_settings
from zeshel_tasks.download.deadline import Deadline
from zeshel_tasks.download.http_source import HttpSource, Page, described, http_client, refuse_status
from zeshel_tasks.download.hub_snapshot import COMMIT, HubCache, Snapshot, has_hash, parsed
from zeshel_tasks.download.model_file_names import CONFIG, WEIGHTS, files_read, missing_files
from zeshel_tasks.download.networks import Hops
from zeshel_tasks.download.transfer import Retry, retrying, transfer
from zeshel_tasks.errors import ConfigError, StoreUnavailable, ZeshelError
from zeshel_tasks.location import HubModel
from zeshel_tasks.store import Store

log = logging.getLogger(__name__)

_QUESTION = Retry(tries=1)  # without an answer there is the cache, and Airflow tries again
_FILE = Retry()
_QUESTION_SECONDS, _FILE_SECONDS = 60, 24 * 3600  # for a server that sends a byte now and then
_MAX_LIST_BYTES, _MAX_FILE_BYTES = 2**24, 10**11


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
    found = _known(model, noted, _missing_offline(model)) if hub_settings.is_offline() else _asked(model, noted)
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
        raise _refusal_offline(model, ", ".join(missing))
    if missing:
        log.info("bert_model: downloading %s at commit %s", model.repository, snapshot.commit)
        with _hub(model, hub_settings.download_timeout(), _FILE_SECONDS) as hub:
            for name in missing:
                with cache.adding(snapshot.commit, name, snapshot.files[name]) as part:
                    hub.download(snapshot, name, part)
        cache.point(_revision(model), snapshot.commit)
    return cache.snapshot_folder(snapshot.commit)


def _asked(model: HubModel, noted: Snapshot | None) -> Snapshot:
    # A wrong setting is an error here, also if the answer is known.
    with _hub(model, hub_settings.question_timeout(), _QUESTION_SECONDS) as hub:
        try:
            return hub.snapshot(_revision(model))
        except ZeshelError as error:
            return _known(model, noted, error)


def _known(model: HubModel, noted: Snapshot | None, problem: ZeshelError) -> Snapshot:
    """The files without an answer of the hub; raises the problem if they are not known either."""
    known = HubCache(model.repository).snapshot(_revision(model))
    if known is None or (noted is not None and noted.commit == known.commit):
        known = noted
    if known is None:
        raise problem
    log.warning("%s; assuming commit %s, which %s was before", problem, known.commit, model.name)
    return known


def _missing_offline(model: HubModel) -> ConfigError:
    cache = HubCache(model.repository)
    missing = missing_files(cache.snapshot_folder(cache.commit(_revision(model))))
    return _refusal_offline(model, ", ".join(missing))


def _refusal_offline(model: HubModel, missing: str) -> ConfigError:
    folder = HubCache(model.repository).folder
    return ConfigError(
        f"bert_model: {model.name!r}: expected {missing} in the cache {folder}, because HF_HUB_OFFLINE is set, got none"
    )


def _revision(model: HubModel) -> str:
    return model.revision or "main"


class _LargeFile(BaseModel):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _ListedFile(BaseModel):
    name: str = Field(alias="rfilename")
    sha1: str = Field(alias="blobId", pattern=r"^[0-9a-f]{40}$")
    lfs: _LargeFile | None = None


class _Listing(BaseModel):
    """The hub's answer about a revision: https://huggingface.co/docs/hub/api"""

    sha: str = Field(pattern=f"^{COMMIT.pattern}$")
    siblings: list[_ListedFile]


@contextmanager
def _hub(model: HubModel, timeout_seconds: int, longest_seconds: int) -> Iterator[_Hub]:
    """A connection to the hub.

    Raises:
        ConfigError: a variable of the environment is wrong.
    """
    address, header = hub_settings.endpoint(), hub_settings.token_header()
    with http_client(timeout_seconds, header) as client, Deadline(longest_seconds, "bert_model") as deadline:
        yield _Hub(client, address, model, Hops("allow", deadline, setting="bert_model"))


class _Hub:
    def __init__(self, client: httpx.Client, address: str, model: HubModel, hops: Hops) -> None:
        self._client, self._address, self._model, self._hops = client, address, model, hops
        self._name = f"bert_model: {model.name!r}"

    def snapshot(self, revision: str) -> Snapshot:
        """The files of a revision."""
        path = f"api/models/{self._model.repository}/revision/{quote(revision, safe='')}?blobs=true"
        content = retrying(lambda: self._read(self._source(path)), self._name, _QUESTION)
        try:
            listing = _Listing.model_validate_json(content)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"])) or "all of it"
            raise StoreUnavailable(
                f"{self._name}: expected a list of files from the hub, got {where}: {problem['msg']}"
            ) from error
        hashes = {file.name: file.lfs.sha256 if file.lfs else file.sha1 for file in listing.siblings}
        return Snapshot(commit=listing.sha, files={name: hashes[name] for name in self._checked(hashes)})

    def download(self, snapshot: Snapshot, name: str, path: Path) -> None:
        """Downloads a file."""
        source = self._source(f"{self._model.repository}/resolve/{snapshot.commit}/{quote(name)}")
        transfer(source, path, _MAX_FILE_BYTES, _FILE, self._hops.deadline)
        if not has_hash(path, snapshot.files[name]):
            raise StoreUnavailable(f"{self._name}: {name}: expected content with the hash {snapshot.files[name]}")

    def _checked(self, names: Iterable[str]) -> list[str]:
        """The names of the files that are read."""
        read = files_read(names)
        if CONFIG not in read or set(read).isdisjoint(WEIGHTS):
            expected = f"{CONFIG} and {' or '.join(WEIGHTS)}"
            raise ConfigError(f"{self._name}: expected a model with {expected}, got {', '.join(read) or 'neither'}")
        return read

    def _source(self, path: str) -> HttpSource:
        return HttpSource(
            self._client,
            f"{self._address}/{path}",
            self._hops,
            name=self._name,
            where=self._name,
            expected="a model on the hub",
            on_page=_refuse_page,
            retry=_FILE,
        )

    def _read(self, source: HttpSource) -> bytes:
        content = bytearray()
        with source.open(0) as body:
            for chunk in body.chunks:
                content += chunk
                if len(content) > _MAX_LIST_BYTES:
                    raise StoreUnavailable(
                        f"{self._name}: expected a list of files, got more than {_MAX_LIST_BYTES:,} bytes"
                    )
            self._hops.deadline.check()
        return bytes(content)


def _refuse_page(page: Page) -> NoReturn:
    """A proxy or a login page of a network answers instead of the hub, perhaps only for now."""
    refuse_status(page)
    raise StoreUnavailable(f"{page.where}: expected {page.expected}, got {described(page)}")
