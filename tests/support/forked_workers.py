"""Makes pytest-xdist fork its workers from a process that has imported the libraries of the tests.

The template (``worker_template.py``) imports them once. xdist starts each worker with ``worker_launcher.py`` as its
Python.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[Any]) -> None:
    """Starts the template, and makes xdist start its workers from there."""
    folder = tempfile.TemporaryDirectory(prefix="template-")
    address = f"{folder.name}/socket"
    with socket.create_server(address, family=socket.AF_UNIX) as listener:
        number = listener.fileno()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from tests.support.worker_template import serve; serve({number})"
        )
        command = [sys.executable, "-c", code]
        template = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[number])
    for spec in specs:
        spec.python = shlex.join([sys.executable, "-I", "-S", str(HERE / "worker_launcher.py"), address])

    def end() -> None:
        template.communicate()  # ends its stdin, and waits until the workers have ended
        folder.cleanup()

    config.add_cleanup(end)
