"""Problems that last."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

log = logging.getLogger(__name__)

_FIRST_SECONDS, _MOST_SECONDS = 60.0, 3600.0


class LastingProblems:
    """Logs problems that are found again and again: at once, and after 1, 2, 4, ... minutes, at most an hour apart."""

    def __init__(self) -> None:
        self._due: dict[str, tuple[float, float]] = {}

    def __contains__(self, problem: str) -> bool:
        """Returns True if the problem was there at the last look."""
        return problem in self._due

    def note(self, problems: Iterable[str]) -> None:
        """Notes which problems there are now."""
        now, due = time.monotonic(), dict[str, tuple[float, float]]()
        for problem in problems:
            at, wait = self._due.get(problem, (now, _FIRST_SECONDS))
            if now >= at:
                log.warning("%s", problem)
                at, wait = now + wait, min(2 * wait, _MOST_SECONDS)
            due[problem] = at, wait
        self._due = due
