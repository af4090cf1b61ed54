"""A real HTTP server that answers like the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from tests.download.file_server import FileServer, running, send

NAME = "me/bert"


class HubServer(FileServer):
    """Has one model, :data:`NAME`.

    Attributes:
        files: files of the model, the same for every commit.
        commits: commits by branch or tag.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(b"")
        self.files = files
        self.commits = {"main": "a" * 40, "v1": "b" * 40}

    def serve(self, handler: BaseHTTPRequestHandler, cut_after: int | None = None) -> None:
        path = urlsplit(handler.path).path.removeprefix("/").removeprefix("api/models/")
        owner, name, what, revision, *file = path.split("/")
        commit = self.commits.get(unquote(revision), unquote(revision))
        if f"{owner}/{name}" != NAME or commit not in self.commits.values():
            send(handler, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif what == "revision":
            send(handler, 200, json.dumps({"id": NAME, "sha": commit, "siblings": []}).encode())
        elif what == "tree":
            entries = [
                {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for file, data in self.files.items()
            ]
            send(handler, 200, json.dumps(entries).encode(), {"Content-Type": "application/json"})
        else:
            data = self.files["/".join(file)]
            headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit}
            send(handler, 200, data, headers)


@contextmanager
def running_hub(files: dict[str, bytes]) -> Iterator[HubServer]:
    """Runs the hub at ``server.address``."""
    hub = HubServer(files)
    with running(hub):
        yield hub
