"""Faults of an S3 server, as answers of a proxy."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

from tests.store.s3_proxy import Answer, Forward, Request, refusal

Fault = Callable[[Request, Forward], Answer]


def refuses(status: int, code: str) -> Fault:
    """Refuses a request without doing anything."""
    return lambda request, forward: refusal(status, code)


def hangs_up(request: Request, forward: Forward) -> Answer:
    """Resets the connection without doing anything."""
    return Answer(0, {}, b"", reset_after=-1)


def loses_the_answer(request: Request, forward: Forward) -> Answer:
    """Handles the request, but hangs up before the answer."""
    return forward(request)._replace(reset_after=-1)


def resets_in_mid_body(request: Request, forward: Forward) -> Answer:
    answer = forward(request)
    return answer._replace(reset_after=len(answer.body) // 2)


def truncates(request: Request, forward: Forward) -> Answer:
    """Ends the body early and closes the connection properly, although the full length was announced."""
    return forward(request)._replace(cut=True)


def flips_a_bit_down(request: Request, forward: Forward) -> Answer:
    """Flips a bit in an object that is read. Lists and error messages arrive unchanged."""
    answer = forward(request)
    is_object = request.method == "GET" and answer.status in (200, 206) and "list-type" not in request.path
    return answer._replace(body=flipped(answer.body)) if is_object and answer.body else answer


def flips_a_bit_up(request: Request, forward: Forward) -> Answer:
    """Flips a bit in a written object. Like a real server, it checks the hash that the client has signed."""
    if request.method != "PUT" or not request.body:
        return forward(request)
    damaged = request._replace(body=flipped(request.body))
    signed = request.headers.get("x-amz-content-sha256")
    if signed == "UNSIGNED-PAYLOAD" or signed == hashlib.sha256(damaged.body).hexdigest():
        return forward(damaged)
    return refusal(400, "XAmzContentSHA256Mismatch")


def stalls(seconds: float) -> Fault:
    """Delays the answer."""

    def late(request: Request, forward: Forward) -> Answer:
        time.sleep(seconds)
        return forward(request)

    return late


def ignores_conditions(request: Request, forward: Forward) -> Answer:
    """Ignores conditional writes, like a server that does not support them."""
    request.headers.pop("if-none-match", None)
    return forward(request)


def flipped(data: bytes) -> bytes:
    """Returns the data with one flipped bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


class Trouble:
    """Injects faults into the requests that a test chooses, and counts them.

    Args:
        fault: the fault of a chosen request.
        chosen: returns True for a request to choose.
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
