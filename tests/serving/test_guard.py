"""What holds for every request, whatever the application does."""

import asyncio
from typing import Any

from tests.support.faults import Fault
from zeshel_tasks.serving.guard import Guard
from zeshel_tasks.serving.metrics import Metrics


def test_request_that_is_still_there_when_the_service_ends_may_be_repeated(fault: Fault) -> None:
    fault("service: end of the time after SIGTERM")

    async def cancelled(*_: Any) -> None:
        raise asyncio.CancelledError

    sent = list[dict[str, Any]]()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/v1/link", "method": "POST", "headers": []}
    asyncio.run(Guard(cancelled, Metrics(), 1)(scope, cancelled, send))
    (start, *_) = sent
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
