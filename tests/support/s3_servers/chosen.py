"""The S3 server of this test run: ``S3_SERVER=radosgw`` or ``S3_SERVER=swift``; else moto."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.s3_servers import moto, radosgw, swift

NAME = os.environ.get("S3_SERVER", "moto")
_SERVERS = {"moto": moto, "radosgw": radosgw, "swift": swift}

needs_moto = pytest.mark.skipif(NAME != "moto", reason="a real server checks the signature of the changed headers")
needs_processes = pytest.mark.skipif(NAME == "moto", reason="moto is tested within this process, which takes less time")
needs_conditional_writes = pytest.mark.skipif(NAME == "swift", reason="Swift refuses If-Match and If-None-Match")


def running(folder: Path) -> AbstractContextManager[str]:
    """Runs the server with its files in a folder and yields its address.

    Without its programs, the test is skipped on a developer's machine and fails in continuous integration.
    """
    server = _SERVERS[NAME]
    if missing := server.missing_programs():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"not installed: {', '.join(missing)}")
    return server.running(folder)
