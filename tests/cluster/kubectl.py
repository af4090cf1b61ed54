"""Access to the cluster under test with kubectl and Helm."""

import atexit
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx

T = TypeVar("T")
POLL_SECONDS = 0.5


class KubectlFailed(Exception):
    """kubectl failed; the message contains its output."""


@cache
def tool_environment() -> Mapping[str, str]:
    """The environment of kubectl and Helm, with a temporary HOME.

    Both keep caches under HOME, or in the current folder if HOME is not set. Without KUBECONFIG they still read the
    user's own file.
    """
    home = tempfile.mkdtemp(prefix="kubectl-home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    kubeconfig = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    return {**os.environ, "HOME": home, "KUBECONFIG": kubeconfig}


class Namespace:
    """A namespace of the cluster that ``KUBECONFIG`` names."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Returns the stdout of ``kubectl --namespace ... <arguments>``."""
        done = subprocess.run(
            ["kubectl", "--namespace", self.name, *arguments],
            input=stdin,
            env=tool_environment(),
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """Returns an object, or a list of objects in ``items``."""
        found: dict[str, Any] = json.loads(self.run("get", *arguments, "--output=json"))
        return found

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Creates or changes objects."""
        self.run("apply", "--filename=-", stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": objects}))

    def pods(self, **labels: str) -> list[dict[str, Any]]:
        """Returns pods by their labels; ``stage="convert"`` means ``zeshel/stage=convert``."""
        selector = ",".join(f"zeshel/{name}={value}" for name, value in labels.items())
        items: list[dict[str, Any]] = self.get("pods", f"--selector={selector}")["items"]
        return items

    @contextmanager
    def forwarded(self, target: str, port: int, local_port: int) -> Iterator[None]:
        """Forwards 127.0.0.1:local_port to the port of ``target``, and reconnects if its pod is replaced."""
        command = ["kubectl", "--namespace", self.name, "port-forward", target, f"{local_port}:{port}"]
        closed = threading.Event()
        process: list[subprocess.Popen[bytes]] = []

        def keep_forwarding() -> None:
            while not closed.is_set():
                quiet = subprocess.DEVNULL
                process[:] = [subprocess.Popen(command, env=tool_environment(), stdout=quiet, stderr=quiet)]
                process[0].wait()
                closed.wait(POLL_SECONDS)

        thread = threading.Thread(target=keep_forwarding, daemon=True)
        thread.start()
        try:
            yield
        finally:
            closed.set()
            for started in process:
                started.terminate()
            thread.join()


def eventually(look: Callable[[], T | None], what: str, seconds: float = 300.0) -> T:
    """Calls ``look`` until its answer is neither None nor False. Ignores servers and pods that are not there yet.

    Raises:
        TimeoutError: the message names ``what`` and the last error, if any.
    """
    deadline, last_error = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        try:
            answer = look()
            if answer is not None and answer is not False:
                return answer
        except (httpx.TransportError, KubectlFailed) as error:
            last_error = f"; last error: {error}"
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"expected within {seconds:.0f} s: {what}{last_error}")


def helm(*arguments: str) -> str:
    """Returns the stdout of Helm ($HELM, or helm on PATH)."""
    command = [os.environ.get("HELM", "helm"), *arguments]
    done = subprocess.run(command, env=tool_environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"helm {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done.stdout
