"""Runs the real command line in a separate process, with all debug logs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

# Every library logs everything, and retries hardly wait.
_TALKATIVE = """
import logging, sys, time
from zeshel_tasks import cli
from zeshel_tasks.text import logs
def set_up_logs():
    logs.set_up_logs(logging.DEBUG)
    for name in logs._NOISY:
        logging.getLogger(name).setLevel(logging.DEBUG)
cli.set_up_logs = set_up_logs
sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.01))
sys.exit(cli.main(sys.argv[1:]))
"""


def zeshel(*arguments: str, env: Mapping[str, str]) -> tuple[int, str]:
    """Returns the exit code and everything that the command printed."""
    ended = subprocess.run(
        [sys.executable, "-c", _TALKATIVE, *arguments],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    return ended.returncode, ended.stdout
