"""A real HTTP server that answers like the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.download.file_server import FileServer, running, send

NAME = "me/bert"


class HubServer(FileServer):
    """Has one model, :data:`NAME`.

    Attributes:
        files: files of the model, the same for every commit. Weights are large files, which the hub keeps apart.
        commits: commits by branch or tag.
        answer_to: answers to requests for some files instead of the normal one.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(b"")
        self.files = files
        self.commits = {"main": "a" * 40, "v1": "b" * 40}
        self.answer_to: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        scripted = self.answer_to.get(handler.path.rpartition("/")[2])
        if scripted:
            scripted(handler)
        else:
            super().answer(handler)

    def serve(self, handler: BaseHTTPRequestHandler, cut_after: int | None = None) -> None:
        path = urlsplit(handler.path).path.removeprefix("/").removeprefix("api/models/")
        owner, name, what, revision, *file = path.split("/")
        commit = self.commits.get(unquote(revision), unquote(revision))
        if f"{owner}/{name}" != NAME or commit not in self.commits.values():
            send(handler, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif what == "revision":
            siblings = [self._listed(name, data) for name, data in self.files.items()]
            send(handler, 200, json.dumps({"id": NAME, "sha": commit, "siblings": siblings}).encode())
        elif "/".join(file) not in self.files:
            send(handler, 404, b"{}", {"X-Error-Code": "EntryNotFound"})
        else:
            self.content = self.files["/".join(file)]
            self.etag = f'"{hash_of(file[-1], self.content)}"'
            super().serve(handler, cut_after)

    def _listed(self, name: str, data: bytes) -> dict[str, Any]:
        listed = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
        return listed | ({"lfs": {"sha256": hash_of(name, data), "size": len(data)}} if is_large(name) else {})


def hash_of(name: str, data: bytes) -> str:
    """Returns the hash by which the hub lists a file."""
    return hashlib.sha256(data).hexdigest() if is_large(name) else git_sha1(data)


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


@contextmanager
def running_hub(files: dict[str, bytes]) -> Iterator[HubServer]:
    """Runs the hub at ``server.address``."""
    hub = HubServer(files)
    with running(hub):
        yield hub
