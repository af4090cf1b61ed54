"""files/health.py, the script behind the standalone Airflow's probes."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helm.chart import CHART

SCRIPT = (CHART / "files" / "health.py").read_text()


class Answers(http.server.BaseHTTPRequestHandler):
    """Respond with the server's ``report``."""

    def do_GET(self) -> None:
        body = json.dumps(self.server.report).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def api_server() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def health(tmp_path: Path, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "health.py"
    script.write_text(SCRIPT.replace(":8080/", f":{port}/"))
    assert f":{port}/api/v2/monitor/health" in script.read_text()
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("status", "code"), [("healthy", 0), (None, 0), ("unhealthy", 1)])
def test_component_without_heartbeat_is_not_alive(
    tmp_path: Path, api_server: http.server.ThreadingHTTPServer, status: str | None, code: int
) -> None:
    api_server.report = {"scheduler": {"status": status}, "triggerer": {"status": "healthy"}}
    done = health(tmp_path, api_server.server_port, "alive", "scheduler")
    assert done.returncode == code, done.stderr
    assert ("scheduler: no heartbeat" in done.stderr) == bool(code)
    assert health(tmp_path, api_server.server_port, "alive", "triggerer").returncode == 0


def test_component_stays_alive_if_api_server_does_not_answer(
    tmp_path: Path, api_server: http.server.ThreadingHTTPServer
) -> None:
    port = api_server.server_port
    api_server.shutdown()
    api_server.server_close()
    assert health(tmp_path, port, "alive", "scheduler").returncode == 0


def test_scheduler_waits_for_api_server(tmp_path: Path, api_server: http.server.ThreadingHTTPServer) -> None:
    api_server.report = {}
    assert health(tmp_path, api_server.server_port, "wait").returncode == 0
