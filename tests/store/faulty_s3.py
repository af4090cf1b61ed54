"""An S3 server in trouble: each kind of fault as something a proxy answers."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

from tests.store.s3_proxy import Answer, Forward, Request, refusal

Fault = Callable[[Request, Forward], Answer]


def refuses(status: int, code: str) -> Fault:
    """Says no and does nothing."""
    return lambda request, forward: refusal(status, code)


def hangs_up(request: Request, forward: Forward) -> Answer:
    """Resets the connection instead of an answer; nothing was done."""
    return Answer(0, {}, b"", reset_after=-1)


def loses_the_answer(request: Request, forward: Forward) -> Answer:
    """Does what it is asked to, and hangs up before it says so."""
    return forward(request)._replace(reset_after=-1)


def resets_in_mid_body(request: Request, forward: Forward) -> Answer:
    answer = forward(request)
    return answer._replace(reset_after=len(answer.body) // 2)


def truncates(request: Request, forward: Forward) -> Answer:
    """Ends the body early, in good order, with the full length announced."""
    return forward(request)._replace(cut=True)


def flips_a_bit_down(request: Request, forward: Forward) -> Answer:
    """In an object that is read; lists and error messages arrive whole."""
    answer = forward(request)
    is_object = request.method == "GET" and answer.status in (200, 206) and "list-type" not in request.path
    return answer._replace(body=flipped(answer.body)) if is_object and answer.body else answer


def flips_a_bit_up(request: Request, forward: Forward) -> Answer:
    """In what is written; as any S3 server, it compares the body with the hash that the client has signed."""
    if request.method != "PUT" or not request.body:
        return forward(request)
    damaged = request._replace(body=flipped(request.body))
    signed = request.headers.get("x-amz-content-sha256")
    if signed == "UNSIGNED-PAYLOAD" or signed == hashlib.sha256(damaged.body).hexdigest():
        return forward(damaged)
    return refusal(400, "XAmzContentSHA256Mismatch")


def stalls(seconds: float) -> Fault:
    """Answers, but late."""

    def late(request: Request, forward: Forward) -> Answer:
        time.sleep(seconds)
        return forward(request)

    return late


def ignores_conditions(request: Request, forward: Forward) -> Answer:
    """A server that has never heard of conditional writes."""
    request.headers.pop("if-none-match", None)
    return forward(request)


def flipped(data: bytes) -> bytes:
    """One bit in the middle is another one."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


class Trouble:
    """Lets faults happen to the requests that a test chooses, and counts them.

    Args:
        fault: what happens to a chosen request.
        chosen: whether it happens to this one.
    """

    def __init__(self, fault: Callable[[], Fault], chosen: Callable[[Request], bool]) -> None:
        self._fault, self._chosen, self._lock = fault, chosen, threading.Lock()
        self.injected = 0

    def __call__(self, request: Request, forward: Forward) -> Answer:
        with self._lock:
            strikes = self._chosen(request)
            fault = self._fault()
            self.injected += strikes
        return fault(request, forward) if strikes else forward(request)
