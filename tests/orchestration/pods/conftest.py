"""A fake Kubernetes API with one namespace, in memory, behind a real socket. It has only the calls of the operator."""

import json
import runpy
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
import yaml
from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors
from tenacity import stop_after_attempt

from zeshel_tasks.orchestration.pod_settings import PodSettings
from zeshel_tasks.orchestration.pods import trigger
from zeshel_tasks.orchestration.pods.operator import ZeshelPodOperator
from zeshel_tasks.orchestration.stage_command import StageCommand
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step
from zeshel_tasks.recipe import build_recipe

FAKE_STAGE = Path(__file__).parents[1] / "process" / "fake_stage.py"

CONNECTION_LOST = (0, "")
"""A refusal without an answer."""


class FakeCluster:
    """Stores pods as dictionaries, as in the API. A test changes their ``status``."""

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, list[str]] = {}
        self.events: list[dict[str, Any]] = []
        self.refusals: list[tuple[int, str]] = []
        """Status codes and messages of the next answers."""
        self.at_creation: list[tuple[int, str]] = []
        """The same for the creation of a pod."""
        self.at_deletion: list[tuple[int, str]] = []
        """The same for its deletion."""
        self.at_reading: list[Callable[[], None]] = []
        """What happens before each of the next readings of a pod."""

    @property
    def pod(self) -> dict[str, Any]:
        """The only pod."""
        (pod,) = self.pods.values()
        return pod

    def end(self, exit_code: int, message: str = "", reason: str = "Error") -> None:
        """Ends the stage of the only pod."""
        ended = {"terminated": {"exitCode": exit_code, "message": message, "reason": reason}}
        self.set_status("Failed" if exit_code else "Succeeded", ended)

    def set_status(self, phase: str, state: dict[str, Any] | None, **status: Any) -> None:
        """Sets the status of the only pod, as the kubelet does."""
        containers = [{"name": "base", "state": state, "image": "i", "imageID": "", "ready": False, "restartCount": 0}]
        self.pod["status"] = {"phase": phase, "containerStatuses": containers if state else None, **status}

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """Returns the status code, and an object or the lines of a log."""
        at_once = {"POST": self.at_creation, "DELETE": self.at_deletion}
        if refusals := self.refusals or at_once.get(method):
            status, message = refusals.pop(0)
            return status, {"kind": "Status", "message": message}
        _, _, kind, *rest = path.removeprefix("/api/v1/").split("/")
        if kind == "events":
            return 200, {"kind": "EventList", "metadata": {}, "items": self.events}
        if method == "POST":
            self.pods[body["metadata"]["name"]] = {**body, "status": {"phase": "Pending"}}
            return 201, body
        if not rest:
            wanted = [part.split("=") for part in query["labelSelector"][0].split(",") if "!" not in part]
            unwanted = [part.split("!=") for part in query["labelSelector"][0].split(",") if "!=" in part]
            items = [
                pod
                for pod in self.pods.values()
                if all(pod["metadata"]["labels"].get(name) == value for name, value in wanted)
                and not any(pod["metadata"]["labels"].get(name) == value for name, value in unwanted)
            ]
            return 200, {"kind": "PodList", "metadata": {}, "items": items}
        if rest[0] not in self.pods:
            return 404, {"kind": "Status", "message": f"pods {rest[0]} not found"}
        if rest[1:] == ["log"]:
            return 200, self.logs.get(rest[0], [])
        if method == "GET" and self.at_reading:
            self.at_reading.pop(0)()
        pod = self.pods[rest[0]]
        if method == "DELETE":
            del self.pods[rest[0]]
        if method == "PATCH":
            pod["metadata"]["labels"] |= body["metadata"]["labels"]
        return 200, pod


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """A running fake cluster, which $KUBECONFIG names."""
    fake = FakeCluster()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            url = urlparse(self.path)
            status, answer = fake.answer(
                self.command, url.path, parse_qs(url.query), json.loads(body) if body else None
            )
            if status == 0:
                self.close_connection = True
                return
            content = "".join(answer) if isinstance(answer, list) else json.dumps(answer)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(answer, list) else "application/json")
            self.send_header("Content-Length", str(len(content.encode())))
            self.end_headers()
            self.wfile.write(content.encode())

        do_GET = do_POST = do_DELETE = do_PATCH = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
        "users": [{"name": "me", "user": {}}],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    # The client reads its default path when it is imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    yield fake
    server.shutdown()
    server.server_close()


class TaskInstance:
    """A task instance with only the attributes that the operator uses."""

    def __init__(self, task_id: str) -> None:
        self.dag_id, self.task_id, self.map_index, self.try_number, self.start_date = "zeshel", task_id, -1, 1, None
        self.xcom: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        """Stores the value."""
        self.xcom[key] = value


MakeTask = Callable[..., tuple[ZeshelPodOperator, dict[str, Any]]]


@pytest.fixture(autouse=True)
def _retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's clients retry without a pause, and a trigger makes one attempt instead of three."""

    async def no_pause(_: float) -> None:
        return

    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(AsyncKubernetesHook.get_pod.retry, "sleep", no_pause)
    monkeypatch.setattr(KubernetesPodTrigger._get_pod.retry, "stop", stop_after_attempt(1))
    monkeypatch.setattr(trigger, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(trigger, "SETTLE_SECONDS", 0)


@pytest.fixture
def make_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MakeTask:
    """``make_task(step, params, **pod_settings)``: an operator whose fields are rendered, and its context."""
    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)

    def make(
        step: Step, params: dict[str, Any] | None = None, store: str = f"{tmp_path}/store", **settings: Any
    ) -> tuple[ZeshelPodOperator, dict[str, Any]]:
        pods = PodSettings.model_validate(
            {"image": "zeshel-tasks:1", "namespace": "ml", "inCluster": False, "pollIntervalSeconds": 1, **settings}
        )
        task = ZeshelPodOperator(command=StageCommand(step, store), pods=pods)
        context = {
            "ti": TaskInstance(step.name), "run_id": "r1", "params": {"preset": "smoke", **(params or {})},
            "outlet_events": OutletEventAccessors(), "dag": None, "task": task,
        }  # fmt: skip
        task.render_template_fields(context)
        return task, context

    return make


@pytest.fixture
def downloaded(tmp_path: Path, raw_archive: Path) -> dict[str, Any]:
    """Params of a run whose download was done by an earlier run."""
    params = {"download.source": str(raw_archive)}
    run_stage(STAGES["download"], f"{tmp_path}/store/runs/before", build_recipe("smoke", params))
    return params


def start(task: ZeshelPodOperator, context: dict[str, Any]) -> str:
    """Runs the task until it waits for its pod, and returns the pod's name."""
    with pytest.raises(TaskDeferred):
        task.execute(context)
    return str(context["ti"].xcom["pod_name"])


def come_back(task: ZeshelPodOperator, context: dict[str, Any], name: str, status: str, message: str = "") -> Any:
    """Resumes the task as the triggerer does when the pod has ended. Returns what the task returns."""
    return task.trigger_reentry(context, {"name": name, "namespace": "ml", "status": status, "message": message})


def commit(step: Step, store: Path) -> None:
    """Commits an artifact and a record, as a stage does at its end."""
    options = {"run": f"{store}/runs/r1"} | ({"split": step.split} if step.split else {})
    runpy.run_path(str(FAKE_STAGE))["commit"](step.stage.name, options)
