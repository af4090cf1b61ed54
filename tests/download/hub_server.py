"""A real HTTP server that answers like the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.download.file_server import FileServer, running, send
from zeshel_tasks.location import HubModel, model_location

NAME = "me/bert"
FILES = {
    "README.md": b"# A model",
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": bytes(range(256)) * 64,
    "onnx/model.onnx": b"another format",
    "pytorch_model.bin": b"the same weights",
    "tokenizer_config.json": b"{}",
    "vocab.txt": b"[PAD]\n[UNK]\n",
}
READ = ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]


class HubServer(FileServer):
    """Has one model, :data:`NAME`.

    Attributes:
        files: files of the model, the same for every commit. Weights are large files, which the hub keeps apart.
        commits: commits by branch or tag.
        answer_to: answers to requests for some files instead of the normal one.
        listed: the list of files as it is sent, from the one of the real hub.
        stated: the headers at a file's address, from its name and content.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(b"")
        self.files = files
        self.commits = {"main": "a" * 40, "v1": "b" * 40}
        self.answer_to: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.listed: Callable[[dict[str, Any]], dict[str, Any]] = lambda listing: listing
        self.stated: Callable[[str, bytes], dict[str, str]] = lambda name, data: {"ETag": f'"{hash_of(name, data)}"'}
        self._one_answer = threading.Lock()  # the content of the file server is that of the file being sent

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
            siblings = [_listed(name, data) for name, data in self.files.items()]
            listing = self.listed({"id": NAME, "sha": commit, "siblings": siblings})
            send(handler, 200, json.dumps(listing).encode())
        elif "/".join(file) not in self.files:
            send(handler, 404, b"{}", {"X-Error-Code": "EntryNotFound"})
        else:
            with self._one_answer:
                self.content = self.files["/".join(file)]
                self.headers = self.stated(file[-1], self.content)
                self.etag = self.headers.get("ETag")
                super().serve(handler, cut_after)


def model(name: str = NAME) -> HubModel:
    location = model_location(name)
    assert isinstance(location, HubModel)
    return location


def fill(
    cache: Path,
    files: dict[str, bytes],
    commit: str = "f" * 40,
    *,
    links: bool = True,
    name_of: Callable[[str, bytes], str] | None = None,
) -> None:
    """Caches files as huggingface_hub does, with links to blobs or, where the system has none, without."""
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    (cache / "snapshots" / commit).mkdir(parents=True)
    (cache / "blobs").mkdir()
    for name, data in files.items():
        path = cache / "snapshots" / commit / name
        if links:
            blob = cache / "blobs" / (name_of or hash_of)(name, data)
            blob.write_bytes(data)
            path.symlink_to(Path("..", "..", "blobs", blob.name))
        else:
            path.write_bytes(data)


def _listed(name: str, data: bytes) -> dict[str, Any]:
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
