"""A problem that lasts is logged at once, and then ever more rarely."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from zeshel_tasks.serving import lasting
from zeshel_tasks.serving.lasting import LastingProblems


def test_problem_is_logged_at_once_and_then_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    problems, now = LastingProblems(), 0.0
    monkeypatch.setattr(lasting, "time", SimpleNamespace(monotonic=lambda: now))
    logged = []
    while now < 6 * 3600:
        problems.note(["no store"])
        if caplog.messages:
            logged.append(now / 60)
            caplog.clear()
        now += 2.0
    assert logged[:6] == [0, 1, 3, 7, 15, 31]
    assert logged[-2:] == [logged[-3] + 60, logged[-3] + 120]


def test_problem_that_comes_back_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    problems = LastingProblems()
    for found in (["a"], ["a", "b"], ["a", "b"], [], ["a"]):
        problems.note(found)
    assert caplog.messages == ["a", "b", "a"]
