"""A command as a child process in a process group of its own, which is stopped as a whole."""

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
    """Starts ``command``; its output is read by :meth:`lines`.

    The group is killed as soon as its leader has ended, so no helper process outlives it. On Linux the leader
    gets SIGTERM if this process dies without a word: Airflow ends a task's process with SIGKILL five seconds
    after SIGTERM, which is too soon for a checkpoint. (Linux means the thread: start it from one that stays.)

    Args:
        command: program and arguments.
        env: the whole environment.
        grace_seconds: from SIGTERM to SIGKILL.
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
        """Lines of stdout and stderr, without their ends, as they come; ends when the child has ended."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield line.rstrip()

    def terminate(self) -> None:
        """SIGTERM to the group now, SIGKILL after the grace period; does not wait. Safe in a signal handler."""
        self._signal(signal.SIGTERM)
        timer = threading.Timer(self._grace_seconds, self._signal, [signal.SIGKILL])
        timer.daemon = True
        timer.start()

    def wait(self) -> int:
        """Exit code; the negative number of the signal that ended it."""
        self._watcher.join()
        return self._process.wait()

    def close(self) -> None:
        """Ends the child if it still runs, waits, and closes the pipe."""
        if self._process.returncode is None:
            self.terminate()
        self.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:  # after wait() the number may belong to somebody else
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _kill_what_the_leader_left(self) -> None:
        # WNOWAIT: the leader stays a zombie until wait(), so its group's number is still its own.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._signal(signal.SIGKILL)


def sigterm_when_the_parent_dies() -> Callable[[], None] | None:
    """For Popen's ``preexec_fn``: the child gets SIGTERM should this thread die first. None where Linux is not."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork, where taking a lock could hang
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
