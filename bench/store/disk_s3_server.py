"""A minimal S3 server that keeps bodies on the disk: python bench/store/disk_s3_server.py DIRECTORY

moto keeps bodies in memory, and a small machine does not have 10 GB. This server checks neither signatures nor buckets
nor digests.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_BLOCK = 1 << 20


@dataclass
class _Stored:
    """Objects by path, each a list of files; unfinished uploads by id, their files by part number."""

    folder: Path
    objects: dict[str, list[Path]] = field(default_factory=dict)
    uploads: dict[str, dict[int, Path]] = field(default_factory=dict)
    turn: threading.Lock = field(default_factory=threading.Lock)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stored: _Stored

    def do_PUT(self) -> None:
        body = self._received()
        with self.stored.turn:
            if "uploadId" in self._query:
                self.stored.uploads[self._query["uploadId"]][int(self._query["partNumber"])] = body
            elif self.headers["If-None-Match"] and self._path in self.stored.objects:
                return self._answer(412, "<Error><Code>PreconditionFailed</Code></Error>")
            else:
                self.stored.objects[self._path] = [body]
        return self._answer(200)

    def do_POST(self) -> None:
        self._received().unlink()
        if "uploads" in self._query:
            upload = uuid.uuid4().hex
            self.stored.uploads[upload] = {}
            return self._answer(200, f"<X><UploadId>{upload}</UploadId></X>")
        with self.stored.turn:
            parts = self.stored.uploads.pop(self._query["uploadId"])
            self.stored.objects[self._path] = [parts[number] for number in sorted(parts)]
        return self._answer(200, "<X><ETag>whole</ETag></X>")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        files = self.stored.objects.get(self._path)
        if files is None:
            return self._answer(404, "<Error><Code>NoSuchKey</Code></Error>")
        size = sum(file.stat().st_size for file in files)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        first, last = (int(asked[1]), min(int(asked[2] or size), size - 1)) if asked else (0, size - 1)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("ETag", '"same"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        for block in _bytes_of(files, first, last + 1) if self.command == "GET" else ():
            self.wfile.write(block)
        return None

    def do_DELETE(self) -> None:
        self.stored.objects.pop(self._path, None)
        self._answer(204)

    @property
    def _path(self) -> str:
        return urlsplit(self.path).path

    @property
    def _query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query, True).items()}

    def _received(self) -> Path:
        left, path = int(self.headers.get("Content-Length", 0)), self.stored.folder / uuid.uuid4().hex
        with path.open("wb") as file:
            while left:
                block = self.rfile.read(min(left, _BLOCK))
                if not block:
                    raise ConnectionError("the client disconnected in the middle of a body")
                file.write(block)
                left -= len(block)
        return path

    def _answer(self, status: int, body: str = "") -> None:
        self.send_response(status)
        self.send_header("ETag", '"same"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def _bytes_of(files: list[Path], first: int, end: int) -> Iterator[bytes]:
    """Yield the bytes from ``first`` until before ``end`` of the concatenated files."""
    begins = 0
    for path in files:
        size = path.stat().st_size
        start, stop = max(first - begins, 0), min(end - begins, size)
        if start < stop:
            with path.open("rb") as file:
                os.lseek(file.fileno(), start, os.SEEK_SET)
                while start < stop:
                    block = os.read(file.fileno(), min(_BLOCK, stop - start))
                    yield block
                    start += len(block)
        begins += size


def main() -> None:
    """Serve on a free port, which is printed, until the process ends."""
    _Handler.stored = _Stored(Path(sys.argv[1]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
