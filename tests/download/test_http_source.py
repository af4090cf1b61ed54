"""Answers of web servers and proxies that users reported."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.download.file_server import FileServer, redirect, running, send
from zeshel_tasks.download.deadline import Deadline
from zeshel_tasks.download.http_client import http_client
from zeshel_tasks.download.http_source import HttpSource
from zeshel_tasks.download.networks import Hops
from zeshel_tasks.download.transfer import Retry, transfer
from zeshel_tasks.errors import ConfigError, StoreUnavailable

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running(FileServer(CONTENT)) as server:
        yield server


def fetched(address: str, path: Path) -> bytes:
    with http_client(5) as client, Deadline(60, "max_download_minutes") as deadline:
        source = HttpSource(client, address, Hops("allow", deadline), retry=Retry(tries=1))
        transfer(source, path, 10**9, Retry(tries=2, first_wait=0), deadline)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
        ("aws-chunked", bytes),  # an object of S3 that keeps the encoding of its upload
    ],
)
def test_compression_for_the_transfer_is_undone(
    server: FileServer, tmp_path: Path, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    server.script = [lambda handler: send(handler, 200, pack(CONTENT), {"Content-Encoding": encoding})]
    assert fetched(f"{server.address}/data.tar.bz2", tmp_path / "file") == CONTENT


@pytest.mark.parametrize("name", ["data.tar.gz", "data.TGZ"])
def test_compression_that_the_name_promises_is_kept(server: FileServer, tmp_path: Path, name: str) -> None:
    packed = gzip.compress(CONTENT)
    server.script = [lambda handler: send(handler, 200, packed, {"Content-Encoding": "gzip"})]
    assert fetched(f"{server.address}/{name}", tmp_path / "file") == packed


def test_compressed_transfer_that_breaks_starts_over(server: FileServer, tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT)
    server.headers = {"Content-Encoding": "gzip"}
    server.content = packed
    server.script = [partial(server.serve, cut_after=len(packed) // 2)]
    assert fetched(server.address, tmp_path / "file") == CONTENT
    assert [request.headers["Range"] for request in server.requests] == [None, None]


def test_damaged_compression_is_tried_again(server: FileServer, tmp_path: Path) -> None:
    server.script = [lambda handler: send(handler, 200, b"\x1f\x8bdamaged", {"Content-Encoding": "gzip"})] * 2
    with pytest.raises(StoreUnavailable, match="DecodingError"):
        fetched(server.address, tmp_path / "file")


def test_malformed_international_host_is_a_config_error(server: FileServer, tmp_path: Path) -> None:
    expected = "source: .*: expected a file, got a malformed name of a host"
    with pytest.raises(ConfigError, match=expected):
        fetched("http://xn--/data.tar", tmp_path / "file")
    server.script = [redirect("http://xn--/data.tar")]
    with pytest.raises(ConfigError, match=expected):
        fetched(server.address, tmp_path / "file")


@pytest.mark.parametrize(
    ("no_proxy", "is_direct"),
    [
        ("", False),
        ("*", True),
        ("10.0.0.0/8, fd00::/8 ,127.0.0.1", True),
        ("127.0.0.0/8", True),
        ("fe80::/10,[::1],[::1]:80,ä.example,foo:bar,a b", False),
    ],
)
def test_no_proxy_is_honoured(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxy: str, is_direct: bool
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("no_proxy", no_proxy)
    with running(FileServer(CONTENT)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:p%40ss@{proxy.address.removeprefix('http://')}")
        assert fetched(f"{server.address}/x", tmp_path / "file") == CONTENT
        assert (len(server.requests), len(proxy.requests)) == ((1, 0) if is_direct else (0, 1))
        if not is_direct:
            assert proxy.requests[0].headers["Proxy-Authorization"] == "Basic dXNlcjpwQHNz"
