"""Records the stages' pods while they run, because successful pods are deleted."""

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubernetes import client, config, watch
from kubernetes.client import models as k8s
from urllib3.exceptions import HTTPError

from tests.cluster.kubectl import POLL_SECONDS


@dataclass
class SeenPod:
    """A pod. The times are those of its stage's container, or None before they happen."""

    name: str
    labels: dict[str, str]
    containers: list[str]
    started: datetime | None = None
    ended: datetime | None = None
    deleted: bool = False

    @property
    def stage(self) -> str:
        """Name of its task, such as ``eval-biencoder-test``."""
        return "-".join(filter(None, [self.labels["zeshel/stage"], self.labels.get("zeshel/split")]))

    @property
    def run(self) -> str:
        """Name of its run."""
        return self.labels["zeshel/run"]


class PodWatch:
    """Follows the stages' pods of a namespace within a ``with`` block."""

    def __init__(self, namespace: str) -> None:
        self._namespace, self._pods = namespace, dict[str, SeenPod]()
        self._closed, self._watch = threading.Event(), watch.Watch()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "PodWatch":
        config.load_kube_config()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._watch.stop()

    def of_run(self, run: str) -> list[SeenPod]:
        """Returns the pods of a run, in the order of their creation."""
        return [pod for pod in self._pods.values() if pod.run == run]

    def _follow(self) -> None:
        while not self._closed.is_set():
            stream = self._watch.stream(
                client.CoreV1Api().list_namespaced_pod,
                self._namespace,
                label_selector="app.kubernetes.io/name=zeshel,app.kubernetes.io/component=stage",
                timeout_seconds=20,
            )
            try:
                for event in stream:
                    self._note(event["type"], event["object"])
            except (HTTPError, client.ApiException):  # the server ended the watch early, or is away
                self._closed.wait(POLL_SECONDS)  # the next watch starts with the existing pods

    def _note(self, event: str, pod: k8s.V1Pod) -> None:
        names = [container.name for container in pod.spec.containers]
        seen = self._pods.setdefault(pod.metadata.uid, SeenPod(pod.metadata.name, dict(pod.metadata.labels), names))
        seen.deleted = event == "DELETED"
        state = _container_state(pod)
        if state is not None and state.running:
            seen.started = state.running.started_at
        if state is not None and state.terminated:
            seen.started, seen.ended = state.terminated.started_at, state.terminated.finished_at


def _container_state(pod: k8s.V1Pod) -> Any:
    return next((status.state for status in pod.status.container_statuses or [] if status.name == "base"), None)
