"""Counts the faults that tests inject, and prints at the end of the run how many were survived.

A test takes the fixture ``fault`` and calls it at each injection: ``fault("store: 503")``. If the test passes, the
fault was survived: the run ended as docs/reliability.md says for that fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

Fault = Callable[..., None]
_PROPERTY = "faults injected"


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    """``fault(kind, count=1)`` records that a number of faults of a kind were injected."""

    def note(kind: str, count: int = 1) -> None:
        request.node.user_properties.append((_PROPERTY, (kind, count)))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints one line for each kind of fault."""
    injected, survived = Counter[str](), Counter[str]()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties if report.when == "call" else ():
                if name == _PROPERTY:
                    kind, count = value
                    injected[kind] += count
                    survived[kind] += count if outcome == "passed" else 0
    if not injected:
        return
    terminalreporter.section("faults injected and survived")
    for kind in sorted(injected):
        terminalreporter.line(f"{survived[kind]:>6,} of {injected[kind]:>6,}  {kind}")
    terminalreporter.line(f"{survived.total():>6,} of {injected.total():>6,}  in all")
