"""Query the health of Airflow from its API server. Importing Airflow instead would take seconds on a small machine.

health.py wait             waits until the API server answers
health.py alive COMPONENT  exits with code 1 if the component's heartbeat has stopped
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

ADDRESS = "http://127.0.0.1:8080/api/v2/monitor/health"


def health() -> dict[str, Any] | None:
    """Return the state and heartbeat of each component, or None if the API server does not answer."""
    try:
        with urlopen(ADDRESS, timeout=10) as answer:
            return dict(json.load(answer))
    except (URLError, TimeoutError, ConnectionError):
        return None


def wait() -> None:
    """Wait for the API server. Tasks need it as soon as they start, so the scheduler must start after it."""
    while health() is None:
        time.sleep(1)


def has_stopped(component: str) -> bool:
    """Return True if the component sent no heartbeat for longer than Airflow allows.

    Return False if the API server does not answer: it has its own probe, and its failure must not restart the others.
    """
    answer = health()
    return answer is not None and answer[component]["status"] == "unhealthy"


if __name__ == "__main__":
    if sys.argv[1] == "wait":
        wait()
    elif has_stopped(sys.argv[2]):
        sys.exit(f"{sys.argv[2]}: no heartbeat")
