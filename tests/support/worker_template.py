"""The process that imports the libraries of the tests, and forks the workers of pytest-xdist: see forked_workers.py.

The imports take 6 s of CPU time, and almost as much again in the fork server of each worker
(tests/support/fork_server.py), which is forked here, too.
"""

from __future__ import annotations

import gc
import multiprocessing.util
import os
import select
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from tests.support.fork_server import PRELOADED

# Left out: pandas and mlflow start threads, Airflow reads variables that tests/conftest.py sets in each worker, and
# pytest rewrites the assertions of plugins, such as hypothesis, when it imports them.
LIBRARIES = ["sqlalchemy.orm", "kubernetes.client", "kubernetes_asyncio.client", "scipy.stats", "moto.server"]
_spawnv_passfds = multiprocessing.util.spawnv_passfds


def serve(listener: int) -> None:
    """Imports the libraries, and forks a worker for each connection, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and pytest ends the workers
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as in pytest's settings
        for name in (*PRELOADED, *LIBRARIES):
            import_module(name)
    assert threading.active_count() == 1, "a fork would lack the other threads"
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=listener) as requests:
        while sys.stdin not in select.select([requests, sys.stdin], [], [])[0]:
            connection, _ = requests.accept()
            _, files, _, _ = socket.recv_fds(connection, 4, 3)
            if os.fork() == 0:
                requests.close()
                _work(files)
            for file in files:
                os.close(file)
            connection.close()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def _work(files: Sequence[int]) -> NoReturn:
    """Does what xdist asks on stdin, as ``python -c`` does with the code that xdist gives it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource_tracker.ensure_running()
    with mock.patch.object(multiprocessing.util, "spawnv_passfds", _forked):
        forkserver.ensure_running()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    exec(eval(sys.stdin.readline()), vars(sys.modules["__main__"]))
    sys.exit()


def _forked(_: object, arguments: Sequence[Any], kept: Sequence[int]) -> int:
    """Runs the code of ``python -c`` in a fork, where ``multiprocessing.util.spawnv_passfds`` starts another Python."""
    if pid := os.fork():
        return pid
    try:
        # A process of this server may start a server of its own: not in a fork, because it has threads, and not within
        # the lock that is held here.
        multiprocessing.util.spawnv_passfds = _spawnv_passfds
        forkserver._forkserver.__init__()  # type: ignore[misc]
        for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            if number > 2 and number not in kept:
                with suppress(OSError):  # the list itself
                    os.close(number)
        with suppress(SystemExit):  # raised when no process needs the server any more
            exec(arguments[-1], {})
    except BaseException:  # the caller's frames, which would handle it, belong to the template
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
