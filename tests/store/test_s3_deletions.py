"""Many objects are deleted with few requests, on servers that know such a request and on others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.store.s3_proxy import Answer, Forward, Request, refusal
from tests.support.faults import Fault
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.store import s3
from zeshel_tasks.store.s3 import S3Store

Server = Callable[[Request, Forward], Answer]
Behind = Callable[[Server], S3Store]
KEYS = [f"folder/{number}" for number in range(7)]


@pytest.fixture(autouse=True)
def _three_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_DELETED_AT_ONCE", 3)


def deletes_many(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("?delete")


def put_all(store: S3Store) -> None:
    for key in (*KEYS, "folder/stays"):
        store.put(key, b"x")


def test_objects_are_deleted_at_once(behind_proxy: Behind) -> None:
    requests = []

    def server(request: Request, forward: Forward) -> Answer:
        if deletes_many(request) or request.method == "DELETE":
            requests.append((request.method, "content-md5" in request.headers))
        return forward(request)

    store = behind_proxy(server)
    put_all(store)
    store.delete_all([*KEYS, "folder/missing"])
    assert list(store.keys("")) == ["folder/stays"]
    assert requests == [("POST", True)] * 3


@pytest.mark.parametrize(
    "answer",
    [
        refusal(501, "NotImplemented"),
        refusal(405, "MethodNotAllowed"),
        refusal(400, "MalformedXML"),
        Answer(200, {"Content-Type": "text/html"}, b"<html>Sign in</html>"),
        Answer(200, {}, b"<DeleteResult><Error><Key>folder/1</Key><Code>InternalError</Code></Error></DeleteResult>"),
    ],
    ids=["501", "405", "fewer at once", "a web page", "an error of one object"],
)
def test_objects_that_are_not_deleted_at_once_are_deleted_one_by_one(
    behind_proxy: Behind, answer: Answer, fault: Fault
) -> None:
    store = behind_proxy(lambda request, forward: answer if deletes_many(request) else forward(request))
    put_all(store)
    store.delete_all(KEYS)
    fault("store: objects are not deleted at once")
    assert list(store.keys("")) == ["folder/stays"]


def test_object_that_may_not_be_deleted_is_named(behind_proxy: Behind, fault: Fault) -> None:
    protected = Answer(200, {}, b"<DeleteResult><Error><Code>AccessDenied</Code></Error></DeleteResult>")

    def server(request: Request, forward: Forward) -> Answer:
        if request.method == "DELETE" and request.path.endswith("/folder/1"):
            return refusal(403, "AccessDenied")
        return protected if deletes_many(request) else forward(request)

    store = behind_proxy(server)
    put_all(store)
    fault("store: objects are not deleted at once")
    with pytest.raises(ConfigError, match="some/prefix/folder/1: the store answered AccessDenied"):
        store.delete_all(KEYS)


def test_refused_deletion_is_a_config_error(behind_proxy: Behind) -> None:
    store = behind_proxy(
        lambda request, forward: refusal(403, "AccessDenied") if deletes_many(request) else forward(request)
    )
    put_all(store)
    with pytest.raises(ConfigError, match=r"some/prefix.*the store answered AccessDenied"):
        store.delete_all(KEYS)
    assert len(list(store.keys(""))) == len(KEYS) + 1
