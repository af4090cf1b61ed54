"""Workers of xdist, and their fork servers, are forks of a process that has imported the libraries."""

import multiprocessing
import os
from multiprocessing.connection import Connection

import psutil
import pytest

from tests.support.fork_server import fork_server


def send_parent(pipe: Connection) -> None:
    pipe.send(os.getppid())


def send_from_its_own_process(pipe: Connection) -> None:
    process = multiprocessing.get_context("forkserver").Process(target=send_parent, args=(pipe,))
    process.start()
    process.join()


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="this process is no worker of xdist")
def test_worker_and_fork_server_are_forks_of_the_template() -> None:
    context = fork_server()
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=send_parent, args=(writer,))
    process.start()
    server = psutil.Process(reader.recv())
    process.join()
    for forked in (psutil.Process(os.getppid()), server):  # xdist changes the title of the worker itself
        assert any("worker_template" in argument for argument in forked.cmdline())
    assert server.ppid() == os.getpid()


def test_process_of_the_fork_server_may_start_a_fork_server() -> None:
    context = fork_server()
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=send_from_its_own_process, args=(writer,))
    process.start()
    try:
        assert reader.poll(60)
    finally:
        process.kill()
        process.join()
