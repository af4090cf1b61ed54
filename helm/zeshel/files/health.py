"""Asks Airflow's API server, without importing Airflow: that alone takes seconds on a small machine.

health.py wait             returns once it answers
health.py alive COMPONENT  exit code 1 if the component's heartbeat has stopped
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
    """State and heartbeat of each component; None if the API server does not answer."""
    try:
        with urlopen(ADDRESS, timeout=10) as answer:
            return dict(json.load(answer))
    except (URLError, TimeoutError, ConnectionError):
        return None


def wait() -> None:
    """Tasks need the API server from their first moment, so the scheduler starts after it."""
    while health() is None:
        time.sleep(1)


def has_stopped(component: str) -> bool:
    """Whether the component said nothing for longer than Airflow allows.

    No answer means no: the API server has a probe of its own, and the others need not die with it.
    """
    answer = health()
    return answer is not None and answer[component]["status"] == "unhealthy"


if __name__ == "__main__":
    if sys.argv[1] == "wait":
        wait()
    elif has_stopped(sys.argv[2]):
        sys.exit(f"{sys.argv[2]}: no heartbeat")
