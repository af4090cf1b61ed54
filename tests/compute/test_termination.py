"""A process that cannot unwind after SIGTERM ends nevertheless, without its scratch files."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.download.file_server import ETAG, FileServer, running, send
from tests.support.faults import Fault
from zeshel_tasks.compute import termination
from zeshel_tasks.compute.termination import ToldToStop, removed_on_sigterm, stoppable, until_sigterm
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_OK, EXIT_TRY_AGAIN

SCRIPT = """
import os, signal, sys
from pathlib import Path
from zeshel_tasks.compute import termination
from zeshel_tasks.store import open_store
termination.GRACE_SECONDS = 0.5
with termination.stoppable(), termination.scratch_folder(parent=Path(sys.argv[1])) as folder:
    (folder / "file").touch()
    with termination.removed_on_sigterm(Path(sys.argv[1]) / "part") as part:
        part.touch()
        {wait}
"""


def ended_by_sigterm(wait: str, folder: Path, is_waiting: threading.Event, **environment: str) -> int:
    """The exit code of a process that gets SIGTERM while it waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(wait=wait), str(folder)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process, process.stdout as printed:
        printed.readline()
        assert is_waiting.wait(60)
        process.terminate()
        return process.wait(200)


def test_waiting_in_a_library_is_ended(tmp_path: Path, fault: Fault) -> None:
    """As in the lookup of a host, no signal interrupts the main thread: it fills a pipe that nobody empties."""
    is_waiting = threading.Event()
    is_waiting.set()
    wait = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); os.write(1, b'\\n' * 2**20)"
    assert ended_by_sigterm(wait, tmp_path, is_waiting) == EXIT_TRY_AGAIN
    assert list(tmp_path.iterdir()) == []
    fault("download: SIGTERM")


def test_waiting_for_threads_of_boto3_is_ended(tmp_path: Path, fault: Fault) -> None:
    is_waiting, is_over = threading.Event(), threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 206, bytes(10), {"Content-Length": "1000", "Content-Range": "bytes 0-999/1000", "ETag": ETAG})
        is_waiting.set()
        is_over.wait()

    server = FileServer(bytes(1000))
    server.script = [None, stall, stall, stall]
    with running(server):
        wait = "print(flush=True); open_store('s3://bucket/store').local_copy('key', folder / 'key')"
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        code = ended_by_sigterm(wait, tmp_path, is_waiting, AWS_ENDPOINT_URL=server.address, **keys)
        is_over.set()
    assert code == EXIT_TRY_AGAIN
    assert list(tmp_path.iterdir()) == []
    fault("download: SIGTERM")


def sigterm(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_unwinding_comes_first(tmp_path: Path) -> None:
    with pytest.raises(ToldToStop), stoppable(), removed_on_sigterm(tmp_path):
        sigterm()
    assert tmp_path.is_dir()


def lost_in_a_callback() -> int:
    thing = threading.Event()
    _reference = weakref.ref(thing, sigterm)
    del thing
    threading.Event().wait()
    return EXIT_OK


def lost_in_an_import() -> int:
    with contextlib.suppress(BaseException):  # as some modules in C do
        sigterm()
    threading.Event().wait()
    return EXIT_OK


def replaced_in_an_import() -> int:
    try:
        sigterm()
    except BaseException:
        raise ImportError("cannot import name") from None
    return EXIT_OK


def reported_as_a_wrong_setting() -> int:
    with contextlib.suppress(BaseException):
        sigterm()
    return EXIT_CONFIG


@pytest.mark.parametrize(
    "command", [lost_in_a_callback, lost_in_an_import, replaced_in_an_import, reported_as_a_wrong_setting]
)
def test_lost_exception_still_ends_the_command(
    command: Callable[[], int], monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", lambda seen: ignored.append(seen.exc_type))
    monkeypatch.setattr(termination, "REPETITIONS", 1000)
    assert until_sigterm(command) == EXIT_TRY_AGAIN
    assert ignored == ([ToldToStop] if command is lost_in_a_callback else [])
    fault("SIGTERM: the exception is lost")


def test_further_sigterm_does_not_interrupt_the_cleanup(fault: Fault) -> None:
    cleaned = []

    def command() -> int:
        try:
            sigterm()
        finally:
            with contextlib.suppress(ValueError):
                try:
                    raise ValueError
                finally:
                    sigterm()
            sigterm()
            cleaned.append("scratch")
        return EXIT_OK

    assert until_sigterm(command) == EXIT_TRY_AGAIN
    assert cleaned == ["scratch"]
    fault("SIGTERM: again during the cleanup", 2)


def test_sigterm_after_the_end_changes_nothing() -> None:
    assert until_sigterm(lambda: EXIT_CONFIG) == EXIT_CONFIG
    sigterm()


def test_sigterm_while_python_ends_keeps_the_exit_code(fault: Fault) -> None:
    script = """if True:
        import os, signal, sys, types
        import zeshel_tasks.__main__ as start
        sys.modules["zeshel_tasks.cli"] = types.SimpleNamespace(main=lambda: 2)
        class Late:
            def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGTERM):
                kill(process, number)
        late = Late()
        sys.exit(start.main())
    """
    assert subprocess.run([sys.executable, "-c", script]).returncode == EXIT_CONFIG
    fault("SIGTERM: while Python ends")


def test_sigterm_during_the_first_imports_asks_for_retry(fault: Fault) -> None:
    script = """if True:
        import os, signal, sys
        import zeshel_tasks.__main__ as start
        class Finder:
            def find_spec(self, name, *_):
                if name == "zeshel_tasks.cli":
                    os.kill(os.getpid(), signal.SIGTERM)
        sys.meta_path.insert(0, Finder())
        sys.exit(start.main())
    """
    assert subprocess.run([sys.executable, "-c", script]).returncode == EXIT_TRY_AGAIN
    fault("SIGTERM: during the first imports")
