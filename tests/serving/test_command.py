"""``zeshel serve`` as a process: its flags, its start and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.serving.conftest import WORLD
from tests.serving.running import document
from tests.support.faults import Fault
from tests.support.fork_server import fork_server
from zeshel_tasks.cli import main
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_OK
from zeshel_tasks.serving import server
from zeshel_tasks.serving.served import ServedModels
from zeshel_tasks.store import Run

SECONDS = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def start(arguments: list[str], log: str) -> None:
    """Runs in a process of its own."""
    with open(log, "w") as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os._exit(main(arguments))


def test_sigterm_answers_what_has_begun_and_then_ends(run: Run, tmp_path: Path, fault: Fault) -> None:
    fault("service: SIGTERM under load")
    port, log = free_port(), tmp_path / "log"
    arguments = ["serve", "--store", run.store.address, "--kb", WORLD, "--port", str(port), "--batch-mentions", "4"]
    process = fork_server().Process(target=start, args=(arguments, str(log)))
    process.start()
    answers: list[int] = []
    text = document("the xyzzy of the old beast", "xyzzy", "beast")
    body = {"kb": WORLD, "documents": [text | {"mentions": text["mentions"] * 10}]}

    def ask() -> None:
        address = f"http://127.0.0.1:{port}/v1/link"
        answers.append(httpx.post(address, json=body, timeout=SECONDS, trust_env=False).status_code)

    try:
        wait_until_ready(port)
        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        wait_for_mentions(port)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        for client in clients:
            client.join(SECONDS)
        process.join(SECONDS)
    finally:
        process.kill()
    written = log.read_text()
    assert (answers, process.exitcode) == ([200, 200, 200], EXIT_OK), written
    assert "xyzzy" not in written
    assert "/v1/link" not in written  # no line for each request


def hang_while_loading(arguments: list[str], log: str, scratch: str) -> None:
    """Runs in a process of its own, in which the models never get loaded."""
    os.environ["ZESHEL_SCRATCH"] = scratch
    ServedModels.load = lambda *_: time.sleep(SECONDS)  # type: ignore[method-assign, assignment]
    start(arguments, log)


def test_sigterm_while_models_are_loaded_ends_at_once(run: Run, tmp_path: Path, fault: Fault) -> None:
    fault("service: SIGTERM while starting")
    log, scratch = tmp_path / "log", tmp_path / "scratch"
    scratch.mkdir()
    arguments = ["serve", "--store", run.store.address, "--kb", WORLD, "--port", "0", "--drain-seconds", "0"]
    process = fork_server().Process(target=hang_while_loading, args=(arguments, str(log), str(scratch)))
    process.start()
    try:
        while "loading the models" not in (log.read_text() if log.exists() else ""):
            assert process.is_alive(), log.read_text()
            time.sleep(0.05)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        process.join(SECONDS)
    finally:
        process.kill()
    assert process.exitcode == EXIT_OK, log.read_text()
    assert "the time to drain is over; still busy with the store" in log.read_text()
    assert list(scratch.iterdir()) == []


def test_sigterm_before_the_service_listens_says_so(
    run: Run, fault: Fault, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault("service: SIGTERM while starting")
    monkeypatch.setattr(server, "new_service", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert main(["serve", "--store", run.store.address, "--kb", WORLD]) == EXIT_OK
    assert capsys.readouterr().out == "INFO: stopped by SIGTERM\n"


def wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + SECONDS
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                if client.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    raise AssertionError("the service did not become ready")


def wait_for_mentions(port: int) -> None:
    """Waits until mentions wait."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        while "zeshel_open_requests 4.0" not in client.get("/metrics").text:
            time.sleep(0.005)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--kb", "unknown"], "expected a knowledge base of"),
        (["--kb", WORLD, "--port", "70000"], "port: "),
        (["--kb", WORLD, "--batch-mentions", "0"], "batch_mentions: "),
        (["--kb", WORLD, "--threshold", "2"], "threshold: "),
        (["--kb", WORLD, "--precision", "bf16"], "unrecognized arguments"),
        (["--kb", WORLD, "--host", "host.invalid"], "--host and --port: expected a free address of this machine"),
        (["--kb", WORLD, "--admin-token-file", "/nowhere"], "--admin-token-file: expected a file with a token"),
    ],
)
def test_wrong_arguments_are_refused(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    assert main(["serve", "--store", run.store.address, *arguments]) == EXIT_CONFIG
    assert problem in capsys.readouterr().out


def test_short_or_broken_token_is_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZESHEL_ADMIN_TOKEN", "short")
    assert main(["serve", "--store", run.store.address, "--kb", WORLD]) == EXIT_CONFIG
    assert "ZESHEL_ADMIN_TOKEN: expected a token of at least 16 characters" in capsys.readouterr().out
    monkeypatch.setenv("ZESHEL_ADMIN_TOKEN", "a token with a line end\n")
    assert main(["serve", "--store", run.store.address, "--kb", WORLD]) == EXIT_CONFIG
    (tmp_path / "token").write_bytes(b"\xff" * 20)
    arguments = ["--kb", WORLD, "--admin-token-file", str(tmp_path / "token")]
    assert main(["serve", "--store", run.store.address, *arguments]) == EXIT_CONFIG


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(
    ("host", "expected"),
    [("0.0.0.0", {"127.0.0.1"}), ("127.0.0.1", {"127.0.0.1"}), ("::", {"127.0.0.1", "::1"}), ("::1", {"::1"})],
)
def test_host_decides_which_addresses_reach_the_service(host: str, expected: set[str]) -> None:
    reached = set()
    with server.listening(host, 0) as listener:
        for address in ("127.0.0.1", "::1"):
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection((address, listener.getsockname()[1]), SECONDS).close()
                reached.add(address)
    assert reached == expected


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """The head and the body of an answer are two writes. The system would hold back the second one for up to 40 ms."""
    with server.listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname(), SECONDS):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_taken_port_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--store", run.store.address, "--kb", WORLD, "--port", str(port)]) == EXIT_CONFIG
    assert f"got 127.0.0.1:{port}" in capsys.readouterr().out
