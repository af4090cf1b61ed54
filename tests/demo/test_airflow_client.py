import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy

from zeshel_tasks.demo.local_airflow import client
from zeshel_tasks.demo.local_airflow.client import AirflowClient, AirflowRefused
from zeshel_tasks.demo.local_airflow.configuration import airflow_environment

BUSY = (500, b'{"detail":{"reason":"Database error","orig_error":"hidden"}}')
BROKEN = (500, b'{"detail":"Internal Server Error"}')
TRIGGERED = (200, b'{"dag_run_id": "r1"}')


class Server(ThreadingHTTPServer):
    """Gives each request the next of its answers; the last one stays."""

    answers: list[tuple[int, bytes]]
    requests = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = self.server.answers[min(self.server.requests, len(self.server.answers) - 1)]
        self.server.requests += 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(client, "_DATABASE_PAUSES", (0.0, 0.0))
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


def trigger(server: Server) -> str:
    airflow = AirflowClient(f"http://127.0.0.1:{server.server_port}", "admin", "")
    try:
        return airflow.trigger("zeshel", {}, "r1")
    finally:
        airflow.close()


def test_request_is_repeated_while_the_database_is_busy(server: Server) -> None:
    server.answers = [BUSY, BUSY, TRIGGERED]
    assert trigger(server) == "r1"
    assert server.requests == 3


@pytest.mark.parametrize(("answer", "requests"), [(BUSY, 3), (BROKEN, 1)])
def test_error_that_stays_is_raised(server: Server, answer: tuple[int, bytes], requests: int) -> None:
    server.answers = [answer]
    with pytest.raises(AirflowRefused, match="HTTP 500"):
        trigger(server)
    assert server.requests == requests


def test_airflow_waits_a_minute_for_the_database(tmp_path: Path) -> None:
    address = airflow_environment(tmp_path, tmp_path, 8080, {})["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    with sqlalchemy.create_engine(address).connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000
    assert (tmp_path / "airflow.db").exists()
