"""Asks the Hugging Face hub, or a mirror of it, about a model's files and downloads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, ValidationError

from zeshel_tasks.download import hub_settings
from zeshel_tasks.download.deadline import Deadline
from zeshel_tasks.download.http_client import http_client
from zeshel_tasks.download.http_source import HttpSource, Page, described, refuse_status
from zeshel_tasks.download.hub_snapshot import COMMIT, HASH, has_hash
from zeshel_tasks.download.model_file_names import CONFIG, WEIGHTS, check_no_adapter, files_read
from zeshel_tasks.download.networks import Hops
from zeshel_tasks.download.transfer import Retry, retrying, transfer
from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.location import HubModel

_QUESTION = Retry(tries=1)  # without an answer there is the cache, and Airflow tries again
_FILE = Retry()
_QUESTION_SECONDS, _FILE_SECONDS = 60, 24 * 3600  # for a server that sends a byte now and then
_MAX_LIST_BYTES, _MAX_FILE_BYTES = 2**24, 10**11


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a revision that are read.

    Attributes:
        commit: 40 hexadecimal digits.
        files: name -> hash as in :class:`~zeshel_tasks.download.hub_snapshot.Snapshot`; None where a mirror lists none.
    """

    commit: str
    files: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class StatedFile:
    """What the hub says about a file: its hash and its size in bytes, each None if unknown."""

    content_hash: str | None
    size: int | None = None


class _LargeFile(BaseModel):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _ListedFile(BaseModel):
    name: str = Field(alias="rfilename")
    sha1: str | None = Field(None, alias="blobId", pattern=r"^[0-9a-f]{40}$")
    lfs: _LargeFile | None = None


class _Answer(BaseModel):
    """The hub's answer about a revision: https://huggingface.co/docs/hub/api"""

    sha: str | None = Field(None, pattern=f"^{COMMIT.pattern}$")
    siblings: list[_ListedFile]


def hub_for_questions(model: HubModel) -> AbstractContextManager[Hub]:
    """A connection to the hub that waits for seconds.

    Raises:
        ConfigError: a variable of the environment is wrong.
    """
    return _connected(model, hub_settings.question_timeout(), _QUESTION_SECONDS)


def hub_for_files(model: HubModel) -> AbstractContextManager[Hub]:
    """A connection to the hub that waits for large files.

    Raises:
        ConfigError: a variable of the environment is wrong.
    """
    return _connected(model, hub_settings.download_timeout(), _FILE_SECONDS)


@contextmanager
def _connected(model: HubModel, timeout_seconds: int, longest_seconds: int) -> Iterator[Hub]:
    address, header = hub_settings.endpoint(), hub_settings.token_header()
    with http_client(timeout_seconds, header) as client, Deadline(longest_seconds, "bert_model") as deadline:
        yield Hub(client, address, model, Hops("allow", deadline, setting="bert_model"))


class Hub:
    """The part of the hub that has one model. :func:`hub_for_questions` and :func:`hub_for_files` connect to it."""

    def __init__(self, client: httpx.Client, address: str, model: HubModel, hops: Hops) -> None:
        self._client, self._address, self._model, self._hops = client, address, model, hops
        self._name = f"bert_model: {model.name!r}"

    def listing(self, revision: str) -> Listing:
        """The files of a revision.

        Raises:
            ConfigError: the hub refuses, does not have this revision, or has no model there.
            StoreUnavailable: the hub does not answer, or answers with something else than a list.
        """
        path = f"api/models/{self._model.repository}/revision/{quote(revision, safe='')}?blobs=true"
        content = retrying(lambda: self._read(self._source(path)), self._name, _QUESTION)
        try:
            answer = _Answer.model_validate_json(content)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"])) or "all of it"
            raise StoreUnavailable(
                f"{self._name}: expected a list of files from the hub, got {where}: {problem['msg']}"
            ) from error
        hashes = {file.name: file.lfs.sha256 if file.lfs else file.sha1 for file in answer.siblings}
        files = {name: hashes[name] for name in self._checked(hashes)}
        return Listing(answer.sha or self._commit(revision), files)

    def stated(self, commit: str, name: str) -> StatedFile:
        """What the hub states at a file's own address, in the headers that huggingface_hub reads.

        Source: ``huggingface_hub.file_download.get_hf_file_metadata``

        Raises:
            StoreUnavailable: the hub does not answer, or answers with another commit.
        """
        headers = self._headers(commit, name, lambda headers: _stated_hash(headers) is not None)
        answered = headers.get("x-repo-commit", commit)
        if answered != commit:
            raise StoreUnavailable(f"{self._name}: {name}: expected the file of commit {commit}, got {answered}")
        size = headers.get("x-linked-size", "")
        return StatedFile(_stated_hash(headers), int(size) if re.fullmatch(r"[0-9]{1,18}", size) else None)

    def download(self, commit: str, name: str, stated: StatedFile, path: Path) -> None:
        """Downloads a file. Without a stated hash, it is accepted if it has the stated size.

        Raises:
            ConfigError: the hub refuses, or states nothing by which a complete file can be told from a part of it.
            StoreUnavailable: the hub does not answer, breaks off repeatedly, or sends another file than it stated.
        """
        source = self._source(self._path(commit, name))
        fetched = transfer(source, path, _MAX_FILE_BYTES, _FILE, self._hops.deadline)
        if stated.content_hash is not None:
            if not has_hash(path, stated.content_hash):
                raise StoreUnavailable(f"{self._name}: {name}: expected content with the hash {stated.content_hash}")
        elif stated.size is not None:
            if fetched.size != stated.size:
                raise StoreUnavailable(f"{self._name}: {name}: expected {stated.size:,} bytes, got {fetched.size:,}")
        elif not source.states_its_end:
            raise ConfigError(f"{self._name}: {name}: expected a hub that states its hash or its size, got neither")

    def beginning(self, commit: str, name: str, most_bytes: int) -> bytes:
        """The first bytes of a file, which nothing checks.

        Raises:
            ConfigError: the hub refuses, or does not have the file.
            StoreUnavailable: the hub does not answer.
        """
        source, content = self._source(self._path(commit, name)), bytearray()

        def read() -> bytes:
            content.clear()
            with source.open(0) as body:
                for chunk in body.chunks:
                    content.extend(chunk)
                    if len(content) >= most_bytes:
                        break
            return bytes(content[:most_bytes])

        return retrying(read, self._name, _QUESTION)

    def _commit(self, revision: str) -> str:
        """The commit that a revision is, for a mirror whose list lacks it."""
        if COMMIT.fullmatch(revision):
            return revision
        headers = self._headers(revision, CONFIG, lambda headers: "x-repo-commit" in headers)
        found = str(headers.get("x-repo-commit", ""))
        if not COMMIT.fullmatch(found):
            raise StoreUnavailable(f"{self._name}: expected the commit of {revision} from the hub, got {found!r}")
        return found

    def _checked(self, names: Collection[str]) -> list[str]:
        """The names of the files that are read."""
        check_no_adapter(names, self._name)
        read = files_read(names)
        if CONFIG not in read or set(read).isdisjoint(WEIGHTS):
            expected = f"{CONFIG} and {' or '.join(WEIGHTS)}"
            raise ConfigError(f"{self._name}: expected a model with {expected}, got {', '.join(read) or 'neither'}")
        return read

    def _path(self, revision: str, name: str) -> str:
        return f"{self._model.repository}/resolve/{quote(revision, safe='')}/{quote(name)}"

    def _headers(self, revision: str, name: str, enough: Callable[[httpx.Headers], bool]) -> httpx.Headers:
        source = self._source(self._path(revision, name))
        return retrying(lambda: source.headers(enough), self._name, _QUESTION)

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


def _stated_hash(headers: httpx.Headers) -> str | None:
    """The hash of the file at the end of all redirects, else of this answer; None if its ETag is something else."""
    etag = headers.get("x-linked-etag") or headers.get("etag", "")
    value = etag.removeprefix("W/").strip('"')
    return value if HASH.fullmatch(value) else None


def _refuse_page(page: Page) -> NoReturn:
    """A proxy or a login page of a network answers instead of the hub, perhaps only for now."""
    refuse_status(page)
    raise StoreUnavailable(f"{page.where}: expected {page.expected}, got {described(page)}")
