import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import sqlalchemy

from zeshel_tasks.demo.local_airflow import client
from zeshel_tasks.demo.local_airflow.client import AirflowClient, AirflowRefused
from zeshel_tasks.demo.local_airflow.configuration import airflow_environment

BUSY = (500, b'{"detail":{"reason":"Database error","orig_error":"hidden"}}')
BROKEN = (500, b'{"detail":"Internal Server Error"}')
TRIGGERED = (200, b'{"dag_run_id": "r1"}')


class Server(ThreadingHTTPServer):
    """Gives each request the next of its answers; the last one stays. No answer: the connection is dropped."""

    answers: list[tuple[int, bytes] | None]
    requests = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.server.answers[min(self.server.requests, len(self.server.answers) - 1)]
        self.server.requests += 1
        if answer is None:
            self.close_connection = True
            return
        status, body = answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(client, "_PAUSES", (0.0, 0.0))
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def airflow(server: Server) -> Iterator[AirflowClient]:
    airflow = AirflowClient(f"http://127.0.0.1:{server.server_port}", "admin", "")
    yield airflow
    airflow.close()


def test_request_is_repeated_while_the_database_is_busy(server: Server, airflow: AirflowClient) -> None:
    server.answers = [BUSY, BUSY, TRIGGERED]
    assert airflow.trigger("zeshel", {}, "r1") == "r1"
    assert server.requests == 3


@pytest.mark.parametrize(("answer", "requests"), [(BUSY, 3), (BROKEN, 1)])
def test_error_that_stays_is_raised(
    server: Server, airflow: AirflowClient, answer: tuple[int, bytes], requests: int
) -> None:
    server.answers = [answer]
    with pytest.raises(AirflowRefused, match="HTTP 500"):
        airflow.trigger("zeshel", {}, "r1")
    assert server.requests == requests


def test_question_is_repeated_if_its_connection_is_dropped(server: Server, airflow: AirflowClient) -> None:
    server.answers = [None, None, (200, b'{"state": "running"}')]
    assert airflow.run_state("zeshel", "r1") == "running"
    assert server.requests == 3


def test_change_is_not_repeated_if_its_connection_is_dropped(server: Server, airflow: AirflowClient) -> None:
    server.answers = [None, TRIGGERED]
    with pytest.raises(httpx.RemoteProtocolError):
        airflow.trigger("zeshel", {}, "r1")
    assert server.requests == 1


def test_connection_that_is_always_dropped_is_an_error(server: Server, airflow: AirflowClient) -> None:
    server.answers = [None]
    with pytest.raises(httpx.RemoteProtocolError):
        airflow.run_state("zeshel", "r1")
    assert server.requests == 3


def test_airflow_waits_a_minute_for_the_database(tmp_path: Path) -> None:
    address = airflow_environment(tmp_path, tmp_path, 8080, {})["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    with sqlalchemy.create_engine(address).connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000
    assert (tmp_path / "airflow.db").exists()
