"""Pushes an exported folder to the Hugging Face hub, or to a mirror of it (``HF_ENDPOINT``)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from zeshel_tasks.download import hub_settings
from zeshel_tasks.errors import ConfigError, StoreUnavailable

log = logging.getLogger(__name__)

_OF_THE_HUB = {".gitattributes", "README.md"}
_AGAIN = {408, 409, 412, 423, 425, 429}
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]  # of httpx, or of httpx2 from huggingface_hub 2 on


class Target:
    """A model repository to push to.

    Args:
        name: its name, ``owner/name``.
        marker: name of the file by which an earlier export is recognized.

    Raises:
        ConfigError: there is no token, or the environment forbids connections.
    """

    def __init__(self, name: str, marker: str) -> None:
        self._name, self._marker = name, marker
        self._address, token = hub_settings.endpoint(), hub_settings.token()
        if hub_settings.is_offline():
            raise ConfigError("--push: expected a connection to the hub, got HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE")
        if not token:
            raise ConfigError(
                "--push: expected a token in HF_TOKEN or in the file that `hf auth login` writes, got none"
            )
        self._hub = HfApi(endpoint=self._address, token=token)

    def push(self, folder: Path, *, public: bool, message: str) -> str:
        """Creates the repository if it does not exist, and makes one commit of the folder. Returns its address.

        The commit also removes files that an earlier export wrote and this one did not. If a push was interrupted, the
        repository is empty or has the earlier commit, and another push finishes it.

        Args:
            folder: the folder to push.
            public: for a new repository; one that exists stays as it is.
            message: of the commit.

        Raises:
            ConfigError: the hub refuses, or the repository has other files than those of an export.
            StoreUnavailable: the hub does not answer.
        """
        with self._errors_named():
            self._hub.create_repo(self._name, private=not public, exist_ok=True)
            present = set(self._hub.list_repo_files(self._name))
            if self._marker not in present and (others := present - _OF_THE_HUB):
                raise ConfigError(
                    f"--push: expected a new or empty repository, or one with an earlier export, got {self._name} with "
                    f"{len(others)} other files, such as {min(others)}"
                )
            # One commit, unlike `upload_folder`: nobody sees the vectors of one model with the scores of another.
            files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
            self._hub.create_commit(
                self._name,
                [
                    *(CommitOperationDelete(name) for name in sorted(present - files.keys() - _OF_THE_HUB)),
                    *(CommitOperationAdd(name, path) for name, path in files.items()),
                ],
                commit_message=message,
            )
        return f"{self._address}/{self._name}"

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        where = f"--push: {self._name} at {self._address}"
        try:
            yield
        except (_HTTP_ERROR, OSError, RuntimeError, ValueError) as error:
            told = error.__cause__ if isinstance(error, RuntimeError) else error  # of an upload in a thread
            if isinstance(told, HfHubHTTPError):
                raise _refusal(where, told) from error
            if isinstance(error, ValueError):
                raise ConfigError(f"{where}: expected files that the hub accepts, got: {_line(error)}") from error
            raise StoreUnavailable(f"{where}: no answer from the hub: {_line(told or error)}") from error


def _refusal(where: str, error: HfHubHTTPError) -> ConfigError | StoreUnavailable:
    status, said = error.response.status_code, error.server_message or error.response.reason_phrase
    answer = f"the hub answered {status}: {said}"
    if status >= 500 or status in _AGAIN:
        return StoreUnavailable(f"{where}: {answer}")
    if status == 401 and not isinstance(error, RepositoryNotFoundError):
        expected = "a valid token in HF_TOKEN"
    elif status in (401, 403, 404):
        expected = "an owner and a token that may write there"
    else:
        expected = "a name and files that the hub accepts"
    return ConfigError(f"{where}: expected {expected}, {answer}")


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
