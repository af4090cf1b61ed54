"""A mirror of the hub that lists files without hashes, as those do that ignore ``?blobs=true``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.download.file_server import FileServer, redirect, running, send, status
from tests.download.hub_server import FILES, NAME, READ, HubServer, fill, hash_of, is_large, model
from tests.support.faults import Fault
from zeshel_tasks.download.hub import cached, snapshot_of
from zeshel_tasks.download.hub_snapshot import Snapshot
from zeshel_tasks.errors import ConfigError, StoreUnavailable, ZeshelError
from zeshel_tasks.store import LocalStore

COMMIT = "a" * 40
SNAPSHOT = Snapshot(commit=COMMIT, files={name: hash_of(name, FILES[name]) for name in READ})
WEIGHTS = "model.safetensors"
States = Callable[[str, bytes], dict[str, str]]


@pytest.fixture
def mirror(hub: HubServer) -> HubServer:
    hub.listed = without_hashes
    return hub


def without_hashes(listing: dict[str, Any]) -> dict[str, Any]:
    return listing | {"siblings": [{"rfilename": file["rfilename"]} for file in listing["siblings"]]}


def methods(mirror: HubServer) -> list[str]:
    return [request.method for request in mirror.requests]


def strong(name: str, data: bytes) -> dict[str, str]:
    return {"ETag": f'"{hash_of(name, data)}"', "X-Repo-Commit": COMMIT}


def weak(name: str, data: bytes) -> dict[str, str]:
    return {"ETag": f'W/"{hash_of(name, data)}"'}


def bare(name: str, data: bytes) -> dict[str, str]:
    return {"ETag": hash_of(name, data)}


def linked(name: str, data: bytes) -> dict[str, str]:
    return {"ETag": '"of a redirect"', "X-Linked-Etag": f'"{hash_of(name, data)}"', "X-Linked-Size": str(len(data))}


@pytest.mark.parametrize("states", [strong, weak, bare, linked])
def test_hash_is_read_from_the_files_own_answer(
    mirror: HubServer, store: LocalStore, states: States, fault: Fault
) -> None:
    mirror.stated = states
    assert snapshot_of(model(), store) == SNAPSHOT
    assert methods(mirror) == ["GET", *["HEAD"] * len(READ)]
    folder = cached(model(), SNAPSHOT)
    assert {name: (folder / name).read_bytes() for name in READ} == {name: FILES[name] for name in READ}
    fault("download: a mirror lists no hashes")


def test_hash_is_read_from_a_redirect_that_is_not_followed(mirror: HubServer, store: LocalStore, fault: Fault) -> None:
    def moved(handler: BaseHTTPRequestHandler) -> None:
        headers = linked(WEIGHTS, FILES[WEIGHTS]) | {"Location": f"{other.address}/weights"}
        send(handler, 302, b"", headers)

    with running(FileServer(FILES[WEIGHTS])) as other:
        mirror.answer_to[WEIGHTS] = moved
        assert snapshot_of(model(), store) == SNAPSHOT
        assert other.requests == []
        assert (cached(model(), SNAPSHOT) / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    fault("download: a mirror lists no hashes")


def test_relative_redirect_is_followed_to_the_hash(mirror: HubServer, store: LocalStore) -> None:
    mirror.answer_to["vocab.txt"] = redirect(f"/{NAME}/resolve/{COMMIT}/vocab.txt?elsewhere")
    assert snapshot_of(model(), store) == SNAPSHOT


def test_listed_hashes_are_not_asked_for_again(mirror: HubServer, store: LocalStore) -> None:
    mirror.listed = lambda listing: {
        **listing,
        "siblings": [
            file if is_large(file["rfilename"]) else {"rfilename": file["rfilename"]} for file in listing["siblings"]
        ],
    }
    assert snapshot_of(model(), store) == SNAPSHOT
    assert [request.path.rpartition("/")[2] for request in mirror.requests[1:]] == [
        name for name in READ if not is_large(name)
    ]


def test_sha1_of_the_bytes_alone_identifies_a_file(mirror: HubServer, store: LocalStore, fault: Fault) -> None:
    mirror.stated = lambda _, data: {"ETag": hashlib.sha1(data, usedforsecurity=False).hexdigest()}
    folder = cached(model(), snapshot_of(model(), store))
    assert (folder / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    fault("download: a mirror lists no hashes")


def test_file_with_another_hash_than_stated_is_refused(mirror: HubServer, store: LocalStore, fault: Fault) -> None:
    mirror.stated = lambda name, data: strong(name, data + b"!")
    with pytest.raises(StoreUnavailable, match=r"config\.json: expected content with the hash "):
        cached(model(), snapshot_of(model(), store))
    fault("download: a mirror lists no hashes")


def of_disk(name: str, data: bytes) -> dict[str, str]:
    return {"ETag": f'"{len(name):x}-{len(data):x}"'}


def of_disk_and_weak(name: str, data: bytes) -> dict[str, str]:
    return {"ETag": f'W/"{len(name):x}-{len(data):x}"', "X-Linked-Size": str(len(data))}


def nothing(name: str, data: bytes) -> dict[str, str]:
    return {}


@pytest.mark.parametrize("states", [of_disk, of_disk_and_weak, nothing])
def test_file_without_any_hash_is_identified_by_its_content(
    mirror: HubServer, store: LocalStore, cache: Path, states: States, fault: Fault
) -> None:
    mirror.stated = states
    found = snapshot_of(model(), store)
    assert found == SNAPSHOT
    requests = len(mirror.requests)
    folder = cached(model(), found)
    assert {name: (folder / name).read_bytes() for name in READ} == {name: FILES[name] for name in READ}
    assert (folder / WEIGHTS).readlink().name == hash_of(WEIGHTS, FILES[WEIGHTS])
    assert list(cache.rglob("*.scratch")) == []
    assert len(mirror.requests) == requests
    fault("download: a mirror lists no hashes")


def test_content_is_identified_once_for_each_commit(mirror: HubServer, store: LocalStore, cache: Path) -> None:
    mirror.stated = nothing
    snapshot_of(model(), store)
    cache.rename(cache.with_name("elsewhere"))
    mirror.requests.clear()
    assert snapshot_of(model(), store) == SNAPSHOT
    assert len(mirror.requests) == 1
    mirror.files["vocab.txt"] = b"edited"
    mirror.commits["main"] = "c" * 40
    assert snapshot_of(model(), store).files == SNAPSHOT.files | {"vocab.txt": hash_of("vocab.txt", b"edited")}


@pytest.mark.parametrize("of", [hash_of, lambda name, data: f"{len(name):x}-{len(data):x}"])
def test_cached_file_without_any_hash_is_not_downloaded(
    mirror: HubServer, store: LocalStore, cache: Path, of: Callable[[str, bytes], str]
) -> None:
    mirror.stated = nothing
    fill(cache, {name: FILES[name] for name in READ}, COMMIT, name_of=of)
    assert snapshot_of(model(), store) == SNAPSHOT
    assert methods(mirror) == ["GET", *["HEAD"] * len(READ)]


def test_download_without_any_hash_resumes_on_the_condition_of_its_etag(
    mirror: HubServer, store: LocalStore, fault: Fault
) -> None:
    mirror.stated = of_disk
    mirror.script = [*[None] * 6, partial(mirror.serve, cut_after=5000)]
    assert snapshot_of(model(), store) == SNAPSHOT
    ranges = [(request.headers["Range"], request.headers["If-Range"]) for request in mirror.requests[6:8]]
    assert ranges == [(None, None), ("bytes=5000-", of_disk(WEIGHTS, FILES[WEIGHTS])["ETag"])]
    fault("download: a mirror lists no hashes")


@pytest.mark.parametrize("code", [403, 404, 405, 501])
def test_mirror_that_does_not_know_head_is_asked_for_the_file(
    mirror: HubServer, store: LocalStore, code: int, fault: Fault
) -> None:
    def only_get(handler: BaseHTTPRequestHandler) -> None:
        status(code)(handler) if handler.command == "HEAD" else mirror.serve(handler)

    mirror.answer_to = dict.fromkeys(READ, only_get)
    assert snapshot_of(model(), store) == SNAPSHOT
    fault("download: a mirror lists no hashes")


def endless(handler: BaseHTTPRequestHandler, chunked: bool) -> None:
    """Sends the vocabulary without its length."""
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Connection", "close")
    if chunked:
        handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    if handler.command == "GET":
        data = FILES["vocab.txt"]
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data) if chunked else data)


def test_file_in_chunks_is_complete_without_hash_and_size(mirror: HubServer, store: LocalStore) -> None:
    mirror.answer_to["vocab.txt"] = partial(endless, chunked=True)
    assert snapshot_of(model(), store) == SNAPSHOT


def shorter(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, FILES["vocab.txt"][:-1], {"X-Linked-Size": str(len(FILES["vocab.txt"]))})


def of_another_commit(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, b"", {"X-Repo-Commit": "e" * 40})


@pytest.mark.parametrize(
    ("answer", "kind", "expected"),
    [
        (partial(endless, chunked=False), ConfigError, "expected a hub that states its hash or its size, got neither"),
        (shorter, StoreUnavailable, "expected 12 bytes, got 11"),
        (of_another_commit, StoreUnavailable, f"expected the file of commit {COMMIT}, got {'e' * 40}"),
        (status(429), StoreUnavailable, "the server's answer 429 Too Many Requests"),
    ],
)
def test_file_that_cannot_be_trusted_is_refused(
    mirror: HubServer,
    store: LocalStore,
    cache: Path,
    answer: Callable[[BaseHTTPRequestHandler], None],
    kind: type[ZeshelError],
    expected: str,
    fault: Fault,
) -> None:
    mirror.answer_to["vocab.txt"] = answer
    with pytest.raises(kind, match=f"^bert_model: '{NAME}': .*{expected}$"):
        snapshot_of(model(), store)
    assert list(cache.rglob("*.scratch")) == []
    fault("download: a mirror lists no hashes")


def without_commit(listing: dict[str, Any]) -> dict[str, Any]:
    return {"siblings": listing["siblings"]}


def test_commit_that_is_not_listed_is_read_from_a_files_answer(mirror: HubServer, store: LocalStore) -> None:
    mirror.listed, mirror.stated = without_commit, strong
    assert snapshot_of(model(), store) == SNAPSHOT
    assert snapshot_of(model(f"{NAME}@{'b' * 40}"), store).commit == "b" * 40


def test_mirror_that_states_no_commit_is_refused(mirror: HubServer, store: LocalStore) -> None:
    mirror.listed = without_commit
    with pytest.raises(StoreUnavailable, match=f"^bert_model: '{NAME}': expected the commit of main from the hub"):
        snapshot_of(model(), store)
