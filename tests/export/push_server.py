"""A real HTTP server that takes models as the Hugging Face hub does."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_good"
OWNER = "me"


class PushServer:
    """Repositories of models.

    Attributes:
        repositories: content of the files by name, by full name of the repository.
        visible: "private" or "public", by full name of the repository.
        commits: their messages, in order.
        requests: method and path of each request.
        failures: statuses with which the next requests to a path that contains the key are answered.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.visible: dict[str, str] = {}
        self.commits: list[str] = []
        self.requests: list[str] = []
        self.failures: dict[str, list[int]] = {}
        self.address = ""
        self._large: dict[str, bytes] = {}

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, Any]:
        self.requests.append(f"{method} {path}")
        for part, statuses in self.failures.items():
            if part in path and statuses:
                return statuses.pop(0), {"error": "as the test wants"}
        if method == "PUT":  # the addresses of large files need no token
            self._large[path.rpartition("/")[2]] = body
            return 200, {}
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid username or password."}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        name, what = re.fullmatch(r"(?:/api/models)?/([^/]+/[^/]+?)((?:\.git)?/.*|)", path).groups()
        if name not in self.repositories:
            return 404, {"error": "Repository not found"}
        if name.partition("/")[0] != OWNER and method == "POST":
            return 403, {"error": "Forbidden: pass a token with write access"}
        files = self.repositories[name]
        if what.startswith("/tree/"):
            return 200, [
                {"type": "file", "path": p, "size": len(data), "oid": _sha1(data)} for p, data in files.items()
            ]
        if what.startswith("/preupload/"):
            return 200, {"files": [self._mode(files, asked) for asked in json.loads(body)["files"]]}
        if what.endswith("/objects/batch"):
            return 200, {"transfer": "basic", "objects": [self._upload(asked) for asked in json.loads(body)["objects"]]}
        if what.startswith("/commit/"):
            return self._commit(name, [json.loads(line) for line in body.splitlines()])
        return 200, {"id": name, "sha": "a" * 40, "siblings": []}

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.address}/{name}"}
        if name in self.repositories:
            return 409, {"error": "You already created this model repo", **url}
        if asked["organization"] != OWNER:
            return 403, {"error": "You don't have the rights to create a model under this namespace"}
        self.repositories[name] = {".gitattributes": b"*.safetensors filter=lfs"}
        self.visible[name] = asked.get("visibility", "public")
        return 200, url

    def _mode(self, files: dict[str, bytes], asked: dict[str, Any]) -> dict[str, Any]:
        path = asked["path"]
        mode = "lfs" if path.endswith(".safetensors") else "regular"
        present = _oid(files[path], mode) if path in files else None
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": present}

    def _upload(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] in self._large:
            return known
        return known | {"actions": {"upload": {"href": f"{self.address}/large/{asked['oid']}"}}}

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        files = dict(self.repositories[name])
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self._large[value["oid"]]
                assert hashlib.sha256(files[value["path"]]).hexdigest() == value["oid"]
            else:
                del files[value["path"]]
        self.repositories[name] = files
        return 200, {"commitUrl": f"{self.address}/{name}/commit/{'b' * 40}", "commitOid": "b" * 40, "success": True}


def _oid(data: bytes, mode: str) -> str:
    return hashlib.sha256(data).hexdigest() if mode == "lfs" else _sha1(data)


def _sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()


@contextmanager
def running_push_server() -> Iterator[PushServer]:
    """Runs the hub at ``server.address``."""
    hub = PushServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, token = urlsplit(self.path).path, self.headers.get("Authorization", "")
            status, answer = hub.answer(self.command, path, token, self._body())
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_GET  # noqa: N815

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
