"""Runs the real command line in a separate process, with all debug logs."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.fork_server import fork_server
from zeshel_tasks import cli
from zeshel_tasks.text import logs

SECONDS = 240


def zeshel(*arguments: str, env: Mapping[str, str]) -> tuple[int, str]:
    """Returns the exit code and everything that the command printed."""
    with TemporaryDirectory() as folder:
        output = Path(folder, "output")
        process = fork_server().Process(target=_run, args=(arguments, {**os.environ, **env}, output))
        process.start()
        process.join(SECONDS)
        assert process.exitcode is not None, "hangs"
        return process.exitcode, output.read_text()


def _run(arguments: tuple[str, ...], environment: Mapping[str, str], output: Path) -> None:
    """Every library logs everything, and retries hardly wait."""
    os.environ.clear()
    os.environ.update(environment)
    with output.open("w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", buffering=1) for descriptor in (1, 2))
    sys.argv[1:] = arguments
    set_up_logs, sleep = logs.set_up_logs, time.sleep

    def talkative() -> None:
        set_up_logs(logging.DEBUG)
        for name in logs._NOISY:
            logging.getLogger(name).setLevel(logging.DEBUG)

    cli.set_up_logs = talkative
    time.sleep = lambda seconds: sleep(min(seconds, 0.01))
    sys.exit(cli.main())
