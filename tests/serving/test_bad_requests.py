"""Hostile and mistaken requests get an answer that says what is wrong, and nothing else happens."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.serving.conftest import WORLD
from tests.serving.running import ADMIN, Running, document
from tests.serving.test_batcher import Echo
from tests.support.faults import Fault
from zeshel_tasks.errors import ConfigError, CorruptArtifact, DataError
from zeshel_tasks.link_files.contexts import TextMention
from zeshel_tasks.linking.linker import Linker
from zeshel_tasks.serving.served import ServedBase

TEXT = document("They saw the sword .", "sword")
JSON = {"Content-Type": "application/json"}


def problem_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Checks that an answer is a problem with this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert "--" not in problem["detail"]  # no option of a command
    return problem


def with_mention(**mention: Any) -> dict[str, Any]:
    return {"kb": WORLD, "documents": [{"text": "a 😀 b\r\nc ", "mentions": [mention]}]}


def request_with(**fields: Any) -> dict[str, Any]:
    return {"kb": WORLD, "documents": [TEXT]} | fields


# The content of a request, the field that is wrong, and words of the reason.
WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing": ({}, "kb", "Field required"),
    "no documents": ({"kb": WORLD, "documents": []}, "documents", "at least 1 item"),
    "a field that does not exist": (request_with(topk=3), "topk", "Extra inputs"),
    "no text": ({"kb": WORLD, "documents": [{"mentions": []}]}, "documents[0].text", "Field required"),
    "null for a text": ({"kb": WORLD, "documents": [{"text": None, "mentions": []}]}, "documents[0].text", "string"),
    "a number for a text": ({"kb": WORLD, "documents": [{"text": 1, "mentions": []}]}, "documents[0].text", "string"),
    "documents as an object": (request_with(documents={}), "documents", "valid list"),
    "a string for a number": (request_with(top_k="3"), "top_k", "valid integer"),
    "true for a number": (request_with(top_k=True), "top_k", "valid integer"),
    "top_k of 0": (request_with(top_k=0), "top_k", "greater than or equal to 1"),
    "top_k beyond the limit": (request_with(top_k=101), "top_k", "at most 100"),
    "a huge top_k": (request_with(top_k=10**4000), "top_k", "at most"),
    "a threshold above 1": (request_with(threshold=1.5), "threshold", "a number from 0 to 1 or precision=0.95"),
    "a threshold of words": (request_with(threshold="high"), "threshold", "a number from 0 to 1 or precision=0.95"),
    "a mode that does not exist": (request_with(mode="fast"), "mode", "'rerank', 'cascade' or 'retrieve'"),
    "offsets of another kind": (request_with(offsets="bytes"), "offsets", "'code_points' or 'utf16'"),
    "too many documents": (request_with(documents=[TEXT] * 65), "documents", "at most 64 documents"),
    "too many mentions": (
        request_with(documents=[{"text": "a", "mentions": [{"start": 0, "end": 1}] * 257}]),
        "documents",
        "at most 256 mentions",
    ),
    "a long mention": (
        request_with(documents=[{"text": "a" * 1001, "mentions": [{"start": 0, "end": 1001}]}]),
        "documents[0].mentions[0]",
        "at most 1,000 characters; got 1,001",
    ),
    "an offset beyond the text": (with_mention(start=0, end=99), "documents[0].mentions[0].end", "at most 9 code"),
    "a huge offset": (with_mention(start=0, end=2**60), "documents[0].mentions[0].end", "less than or equal"),
    "a negative offset": (with_mention(start=-1, end=1), "documents[0].mentions[0].start", "greater than or equal"),
    "an offset that is no integer": (with_mention(start=0, end=1.0), "documents[0].mentions[0].end", "valid integer"),
    "no end": (with_mention(start=0), "documents[0].mentions[0].end", "Field required"),
    "an empty mention": (with_mention(start=2, end=2), "documents[0].mentions[0].end", "empty mention"),
    "a blank mention": (with_mention(start=8, end=9), "documents[0].mentions[0]", "white space"),
    "another text": (with_mention(start=0, end=1, text="b"), "documents[0].mentions[0].text", "differs"),
    "between CR and LF": (with_mention(start=0, end=6), "documents[0].mentions[0].end", "carriage return"),
    "within a surrogate pair": (
        with_mention(start=0, end=3) | {"offsets": "utf16"}, "documents[0].mentions[0].end", "surrogate pair",
    ),
    "half of a surrogate pair": (
        {"kb": WORLD, "documents": [{"text": "\ud800", "mentions": []}]}, "documents[0].text", "surrogate pair",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "field", "reason"), WRONG.values(), ids=WRONG.keys())
def test_wrong_field_is_named(served: Running, fault: Fault, content: dict[str, Any], field: str, reason: str) -> None:
    fault("service: wrong request")
    problem = problem_of(served.client.post("/v1/link", content=json.dumps(content), headers=JSON), 422)
    (first, *_) = problem["errors"]
    assert first["field"].startswith(field)
    assert reason in first["reason"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "broken JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b'\xef\xbb\xbf{"kb": "a"}', "broken JSON"),
        (b'{"kb": "a", "kb": "b"}', "field 'kb' twice"),
        (b'{"threshold": NaN}', "NaN"),
        (b'{"threshold": -Infinity}', "-Infinity"),
        (b'{"threshold": 1e999}', "beyond the range of a float"),
        (b'{"top_k": ' + b"9" * 5000 + b"}", "broken JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "broken JSON"),
        (b'{"a": ' + b"[" * 33 + b"]" * 33 + b"}", "too deep"),
        (b'{"kb": "a", "documents": [{"text": "a", "mentions": [], "metadata": {"k": "\xed\xa0\x80"}}]}', "not UTF-8"),
    ],
    ids=lambda value: "" if isinstance(value, str) else repr(value[:30]),
)
def test_body_that_is_no_plain_json_is_refused(served: Running, fault: Fault, body: bytes, reason: str) -> None:
    fault("service: wrong request")
    problem = problem_of(served.client.post("/v1/link", content=body, headers=JSON), 400)
    assert reason in problem["errors"][0]["reason"]


@pytest.mark.parametrize(
    ("content", "errors"),
    [
        ({"kb": WORLD, "documents": [0] * 100_000}, 1),
        ({"kb": WORLD, "documents": [{"text": "a", "mentions": [0] * 256}]}, 1),
        ({"kb": WORLD, "documents": [0] * 60}, 1),
        ({"kb": WORLD, "documents": [], **dict.fromkeys(map(str, range(50_000)), 0)}, 0),
        ({"kb": WORLD, "documents": [{"mentions": [dict.fromkeys(map(str, range(33)), 0)]}]}, 0),
    ],
    ids=["documents", "mentions", "few documents", "fields", "fields of a mention"],
)
def test_many_mistakes_are_answered_by_one(served: Running, fault: Fault, content: dict[str, Any], errors: int) -> None:
    """Collecting all of them would take seconds, in which nobody is answered."""
    fault("service: wrong request")
    problem = problem_of(served.client.post("/v1/link", json=content), 422)
    assert len(problem.get("errors", [])) == errors


def test_body_of_a_stranger_is_not_read(served: Running, fault: Fault) -> None:
    fault("service: no admin token")
    for method in ("PUT", "DELETE"):
        problem_of(served.client.request(method, f"/v1/kbs/{WORLD}/entities", content=b"{", headers=JSON), 401)


def test_too_many_entities_are_refused(served: Running, fault: Fault) -> None:
    for method, name in (("PUT", "entities"), ("DELETE", "ids")):
        fault("service: wrong request")
        address, body = f"/v1/kbs/{WORLD}/entities", {name: [0] * 1001}
        problem = problem_of(served.client.request(method, address, json=body, headers=ADMIN), 422)
        assert problem["errors"] == [
            {"field": name, "reason": f"expected at most 1,000 {name} in a request; got 1,001"}
        ]


def test_metadata_comes_back_whatever_it_is(served: Running) -> None:
    metadata = (
        '{"deep": '
        + "[" * 20
        + "]" * 20
        + ', "half": "\\ud800", "big": '
        + "9" * 4000
        + ', "": null, "\\u0000": 1e300}'
    )
    body = f'{{"kb": "{WORLD}", "documents": [{{"text": "a sword", "mentions": [], "metadata": {metadata}}}]}}'
    answer = served.client.post("/v1/link", content=body, headers=JSON)
    assert answer.status_code == 200
    assert answer.json()["documents"][0]["metadata"] == json.loads(metadata)


@pytest.mark.parametrize(
    ("number", "returned"),
    [
        *((same, same) for same in ("1", "1.0", "-0.0", "0.1", "5e-324", "9007199254740993", "1234567890" * 3)),
        ("1.10", "1.1"),
        ("1e5", "100000.0"),
        ("1e-400", "0.0"),
        ("-0", "0"),
        ("0.1000000000000000055511151231257827", "0.1"),
    ],
)
def test_numbers_of_metadata_come_back_as_docs_say(served: Running, number: str, returned: str) -> None:
    """Integers exactly, others as the nearest 64-bit float in its shortest form."""
    body = f'{{"kb": "{WORLD}", "documents": [{{"text": "a", "mentions": [], "metadata": {{"n": {number}}}}}]}}'
    answer = served.client.post("/v1/link", content=body, headers=JSON)
    assert f'"metadata": {{"n": {returned}}}' in answer.text


def test_large_body_is_refused_with_and_without_its_length(served: Running, fault: Fault) -> None:
    fault("service: wrong request")
    large = b'{"kb": "' + b"a" * 2**20 + b'"}'
    assert "1,048,576 bytes" in problem_of(served.client.post("/v1/link", content=large, headers=JSON), 413)["detail"]

    def parts() -> Iterator[bytes]:
        for _ in range(20):
            yield b"a" * 2**16

    problem_of(served.client.post("/v1/link", content=parts(), headers=JSON), 413)


def test_other_media_types_are_refused(served: Running, fault: Fault) -> None:
    for given_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "", "é"):
        fault("service: wrong request")
        headers = {"Content-Type": given_type.encode("latin-1")}
        problem_of(served.client.post("/v1/link", content=b"{}", headers=headers), 415)
    answer = served.client.post(
        "/v1/link", json=request_with(), headers={"Content-Type": "application/json;charset=UTF-8"}
    )
    assert answer.status_code == 200


def test_two_media_types_are_refused_even_if_they_are_equal(served: Running, fault: Fault) -> None:
    fault("service: wrong request")
    content = json.dumps(request_with()).encode()
    problem_of(served.client.post("/v1/link", content=content, headers=[*JSON.items(), *JSON.items()]), 415)
    assert served.client.post("/v1/link", content=content, headers=JSON).status_code == 200


@pytest.mark.parametrize(("given", "field"), [({}, "mode"), ({"threshold": "precision=0.95"}, "threshold")])
def test_threshold_of_the_settings_that_suits_only_another_mode_is_a_problem_of_the_mode(
    served: Running, fault: Fault, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], field: str
) -> None:
    fault("service: wrong request")
    reason = "expected a precision that the models reach on valid, got 0.95"

    def fails(*_: object) -> None:
        raise ConfigError(f"threshold: {reason}")

    monkeypatch.setattr(ServedBase, "answers", fails)
    problem = problem_of(served.link(WORLD, TEXT, mode="retrieve", **given), 422)
    assert problem["errors"] == [{"field": field, "reason": reason}]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/link/", 404),
        ("GET", "/v1/link", 405),
        ("DELETE", "/v1/kbs", 405),
        ("BREW", "/v1/link", 405),
        ("PUT", "/v1/kbs/..%2f..%2fmodels/entities", 404),
        ("PUT", "/v1/kbs/%00/entities", 401),
    ],
)
def test_wrong_address_or_method_is_a_problem(
    served: Running, fault: Fault, method: str, path: str, status: int
) -> None:
    fault("service: wrong request")
    problem_of(served.client.request(method, path, json={"ids": ["a"]}), status)


def test_base_that_is_not_served_is_unknown(served: Running) -> None:
    for name in ("other", "", "../models", f"{WORLD}/"):
        problem_of(served.link(name, TEXT), 404)
    problem_of(
        served.client.put(
            "/v1/kbs/other/entities", json={"entities": [{"id": "a", "title": "a", "text": "a"}]}, headers=ADMIN
        ),
        404,
    )


def test_client_that_hangs_up_leaves_no_work(served: Running, fault: Fault) -> None:
    fault("service: client gone")
    echo, batcher = Echo(), served.service.links._batcher
    echo.may_go.clear()
    blocking = batcher.submit(cast(Linker, echo), "rerank", [TextMention("", "a", "")])
    assert echo.has_begun.wait(30)
    body = json.dumps(request_with()).encode()
    address = (str(served.client.base_url.host), int(served.client.base_url.port or 0))
    with socket.create_connection(address, timeout=30) as connection:
        head = f"POST /v1/link HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        served.wait(lambda: "zeshel_waiting_mentions 1.0" in served.client.get("/metrics").text, "a waiting mention")
    gone = 'zeshel_requests_total{method="POST",path="/v1/link",status="499"} 1.0'
    served.wait(lambda: gone in served.client.get("/metrics").text, "an abandoned request")
    echo.may_go.set()
    assert blocking.result(30) == ["a"]
    served.wait(lambda: "zeshel_dropped_mentions_total 1.0" in served.client.get("/metrics").text, "a dropped mention")


@pytest.mark.parametrize("error", [RuntimeError, ConfigError, DataError, CorruptArtifact])
def test_unexpected_error_is_a_problem_and_its_text_is_not_logged(
    served: Running,
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    """Also an error that would be the user's in a command."""
    fault("service: unexpected error")

    def fails(*_: object) -> None:
        raise error(TEXT["text"])

    monkeypatch.setattr(served.service.links, "_written", fails)
    problem = problem_of(served.link(WORLD, TEXT), 500)
    assert "sword" not in json.dumps(problem) + caplog.text
    assert f"unexpected {error.__name__}" in caplog.text


def test_texts_are_not_logged(served: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "zeshel_tasks")
    served.links(WORLD, document("They saw the xyzzy .", "xyzzy"))
    problem_of(served.link(WORLD, {"text": "plugh", "mentions": [{"start": 0, "end": 9}]}), 422)
    assert "xyzzy" not in caplog.text
    assert "plugh" not in caplog.text


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_OFFSETS = st.integers(-2, 40) | st.integers() | _VALUES
_MENTIONS = st.fixed_dictionaries({}, optional={"start": _OFFSETS, "end": _OFFSETS, "text": st.text() | _VALUES})
_DOCUMENTS = st.fixed_dictionaries(
    {"text": st.text(st.characters(exclude_categories=[]), max_size=40) | _VALUES},
    optional={"id": st.text() | _VALUES, "mentions": st.lists(_MENTIONS, max_size=3) | _VALUES, "metadata": _VALUES},
)
_REQUESTS = st.fixed_dictionaries(
    {"kb": st.just(WORLD) | _VALUES},
    optional={
        "documents": st.lists(_DOCUMENTS, max_size=3) | _VALUES,
        "top_k": st.integers(-1, 200) | _VALUES,
        "mode": st.sampled_from(["retrieve", "cascade", "rerank", "both"]) | _VALUES,
        "threshold": st.floats(0, 1) | st.sampled_from(["precision=0.9", "precision=2"]) | _VALUES,
        "offsets": st.sampled_from(["utf16", "code_points", "bytes"]) | _VALUES,
    },
)


@settings(max_examples=50)
@given(content=_REQUESTS)
def test_any_request_gets_an_answer_that_the_openapi_document_describes(served: Running, content: Any) -> None:
    described = served.server.config.app.openapi()
    answer = served.client.post("/v1/link", content=json.dumps(content), headers=JSON)
    expected = described["paths"]["/v1/link"]["post"]["responses"][str(answer.status_code)]["content"]
    media_type = answer.headers["content-type"]
    assert answer.status_code < 500, answer.text
    schema = expected[media_type]["schema"] | {"components": described["components"]}
    Draft202012Validator(schema).validate(answer.json())
