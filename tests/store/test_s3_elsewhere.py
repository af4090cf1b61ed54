"""A proxy, a login page or another server answers instead of an S3 store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.download.file_server import FileServer, garbage, hang_up, page, redirect, running, status
from tests.store import s3_proxy
from tests.store.s3_proxy import Forward, Request
from tests.store.test_s3 import Behind
from tests.support.faults import Fault
from zeshel_tasks.errors import ConfigError, StoreUnavailable, ZeshelError
from zeshel_tasks.location import S3Address
from zeshel_tasks.store import open_store
from zeshel_tasks.store.s3 import object_tags
from zeshel_tasks.store.s3_client import s3_client

Answer = Callable[[BaseHTTPRequestHandler], None]
ADDRESS = S3Address("s3://bucket/store", "bucket", "store")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with running(FileServer(b"")) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        s3_client.cache_clear()
        yield server
        s3_client.cache_clear()


def read_with_every_operation(kind: type[ZeshelError], match: str, folder: Path) -> None:
    store = open_store(ADDRESS.address)
    reads = (
        lambda: store.get("key"),
        lambda: store.local_copy("key", folder / "copy"),
        lambda: list(store.keys("")),
        lambda: object_tags(ADDRESS),
    )
    for read in reads:
        with pytest.raises(kind, match=match):
            read()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (status(407), ConfigError),
        (status(502), StoreUnavailable),
        (hang_up, StoreUnavailable),
        (garbage, StoreUnavailable),
        (redirect("/again"), StoreUnavailable),
    ],
    ids=["407", "502", "closed", "garbage", "a redirect to itself"],
)
def test_answer_that_is_not_the_stores_is_named(
    server: FileServer, tmp_path: Path, answer: Answer, kind: type[ZeshelError], fault: Fault
) -> None:
    server.script = [answer] * 5000
    read_with_every_operation(kind, "^s3://bucket/store", tmp_path)
    fault("store: another server answers", 4)


def test_web_page_is_neither_an_object_nor_a_listing(server: FileServer, fault: Fault) -> None:
    store = open_store(ADDRESS.address)
    for read in (lambda: store.get("key"), lambda: list(store.keys("")), lambda: object_tags(ADDRESS)):
        server.script = [page("<html>Sign in</html>")]
        with pytest.raises(StoreUnavailable, match="expected the answer of an S3 store, got another one"):
            read()
    fault("store: another server answers", 3)


@pytest.mark.parametrize(("code", "kind"), [(403, ConfigError), (407, ConfigError), (502, StoreUnavailable)])
def test_answer_of_a_proxy_instead_of_the_store_is_named(
    server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    kind: type[ZeshelError],
    fault: Fault,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.address)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.test")
    server.script = [status(code)] * 100
    read_with_every_operation(kind, r"^s3://bucket/store.* prox", tmp_path)
    fault("store: another server answers", 4)


@pytest.mark.parametrize("megabytes", [0, 17])
def test_answer_without_an_etag_is_no_proof_that_an_object_is_stored(
    behind_proxy: Behind, tmp_path: Path, megabytes: int, fault: Fault
) -> None:
    def server(request: Request, forward: Forward) -> s3_proxy.Answer:
        return s3_proxy.Answer(200 if request.method in ("PUT", "POST") else 404, {}, b"")

    path = tmp_path / "file"
    path.write_bytes(bytes(megabytes << 20))
    store = behind_proxy(server)
    for write in (lambda: store.upload(path, "key"), lambda: store.put("key", b"x")):
        with pytest.raises(StoreUnavailable, match="expected the answer of an S3 store, got another one"):
            write()
        fault("store: another server answers")


def test_write_that_a_later_one_has_overtaken_is_repeated(behind_proxy: Behind, fault: Fault) -> None:
    """Swift stores the later of two writes that meet, and answers the other one with 202, which s3api makes a 200."""
    overtaken = [s3_proxy.Answer(200, {}, b"")] * 2

    def server(request: Request, forward: Forward) -> s3_proxy.Answer:
        if request.method == "PUT" and overtaken:
            fault("store: a write is overtaken")
            return overtaken.pop()
        return forward(request)

    store = behind_proxy(server)
    store.put("key", b"x")
    assert store.get("key") == b"x"
    assert not overtaken
