"""What a training in several processes does apart from training."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.faults import Fault
from zeshel_tasks.training import launch


def test_sigterm_while_processes_start_is_passed_on(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    stopped: list[bool] = []
    process = SimpleNamespace(terminate=lambda: stopped.append(True))
    context = SimpleNamespace(join=lambda timeout: bool(stopped), processes=[process, process])

    def start(*_: Any, **__: Any) -> SimpleNamespace:
        os.kill(os.getpid(), signal.SIGTERM)
        return context

    monkeypatch.setattr(launch, "start_processes", start)
    launch.run_in_processes(print, None, 2, Path())
    assert stopped == [True, True]
    fault("SIGTERM: while the processes of a training start")
