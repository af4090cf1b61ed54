"""Runs a command as a child process in its own process group, which is stopped as a whole."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

PR_SET_PDEATHSIG = 1  # from linux/prctl.h


class ChildProcess:
    """Starts ``command``. Read its output with :meth:`lines`.

    The group is killed as soon as its leader ends, so no helper process outlives it. On Linux, the leader gets SIGTERM
    if this process is killed: Airflow sends SIGKILL to a task's process five seconds after SIGTERM, which is too soon
    for a checkpoint. Linux tracks the parent thread, not the process: start the child from a thread that keeps running.

    Args:
        command: program and arguments.
        env: the complete environment.
        grace_seconds: time from SIGTERM to SIGKILL.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._process = subprocess.Popen(
            list(command),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            preexec_fn=sigterm_when_the_parent_dies(),
        )
        self._watcher = threading.Thread(target=self._kill_what_the_leader_left, daemon=True)
        self._watcher.start()

    def lines(self) -> Iterator[str]:
        """Yield the lines of stdout and stderr, without line ends, until the child ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield line.rstrip()

    def terminate(self) -> None:
        """Send SIGTERM to the group, and SIGKILL after the grace period. Returns at once; safe in a signal handler."""
        self._signal(signal.SIGTERM)
        timer = threading.Timer(self._grace_seconds, self._signal, [signal.SIGKILL])
        timer.daemon = True
        timer.start()

    def wait(self) -> int:
        """Wait for the end and return the exit code; for a signal, its negative number."""
        self._watcher.join()
        return self._process.wait()

    def close(self) -> None:
        """Terminate the child if it still runs, wait for it, and close the pipe."""
        if self._process.returncode is None:
            self.terminate()
        self.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:  # after wait(), the number may belong to another process
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _kill_what_the_leader_left(self) -> None:
        # With WNOWAIT, the leader stays a zombie until wait(), so no other group can get its number.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._signal(signal.SIGKILL)


def sigterm_when_the_parent_dies() -> Callable[[], None] | None:
    """Return a ``preexec_fn`` for Popen: the child gets SIGTERM if this thread dies first. None on other systems."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # look it up before the fork, because a lock could hang after it
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
