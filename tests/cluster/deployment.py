"""The chart installed in a namespace of the cluster, with an S3 server beside it; and the runs of its Airflow."""

import base64
import json
import time
from dataclasses import dataclass
from typing import Any

import boto3

from tests.cluster.kubectl import Namespace, eventually
from zeshel_tasks.demo.local_airflow.client import AirflowClient, LogLine, TaskState
from zeshel_tasks.orchestration.settings import path_safe

DAG_ID = "zeshel"
BUCKET = "zeshel"
RUN_SECONDS = 1500.0


@dataclass(frozen=True)
class Deployment:
    """What the tests talk to.

    Args:
        namespace: where all of it is.
        airflow: of its REST API.
        s3: client of the store.
        release: name of the Helm release.
    """

    namespace: Namespace
    airflow: AirflowClient
    s3: Any
    release: str

    def trigger(self, run_id: str, **conf: Any) -> "DagRun":
        """Starts a run through the REST API."""
        self.airflow.trigger(DAG_ID, {key.replace("__", "."): value for key, value in conf.items()}, run_id)
        return DagRun(self, run_id)

    def forget(self, *stages: str) -> None:
        """Deletes the artifacts of stages, so that the next run has to make them again."""
        for stage in stages:
            objects = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"test/artifacts/{stage}/").get("Contents", [])
            assert objects, f"expected artifacts of {stage} in the store"
            for found in objects:
                self.s3.delete_object(Bucket=BUCKET, Key=found["Key"])

    def airflow_pod(self) -> dict[str, Any]:
        """The pod of the standalone Airflow that is not on its way out."""
        pods = self.namespace.get("pods", "--selector=app.kubernetes.io/component=airflow")["items"]
        (pod,) = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return dict(pod)


@dataclass(frozen=True)
class DagRun:
    """A run of the DAG in the cluster."""

    deployment: Deployment
    run_id: str

    @property
    def name(self) -> str:
        """As in the store, and in the pods' label zeshel/run."""
        return path_safe(self.run_id)

    def state(self) -> str:
        """queued, running, success or failed."""
        return self.deployment.airflow.run_state(DAG_ID, self.run_id)

    def wait(self, seconds: float = RUN_SECONDS) -> str:
        """The state in which it ends."""
        return eventually(
            lambda: state if (state := self.state()) in ("success", "failed") else None,
            f"the end of run {self.run_id}",
            seconds,
        )

    def succeed(self) -> "DagRun":
        """Waits for its success; a failure shows the logs of what failed."""
        if self.wait() != "success":
            failed = [task for task in self.tasks().values() if task.state == "failed"]
            logs = [f"{task.task_id}:\n" + "\n".join(self.log_text(task.task_id).splitlines()[-60:]) for task in failed]
            raise AssertionError(f"run {self.run_id} failed\n" + "\n".join(logs))
        return self

    def tasks(self) -> dict[str, TaskState]:
        """By task id."""
        return {task.task_id: task for task in self.deployment.airflow.task_states(DAG_ID, self.run_id)}

    def metrics(self, task_id: str) -> dict[str, Any]:
        """The task's XCom, without what depends on the machine."""
        xcom = self.deployment.airflow.xcom(DAG_ID, self.run_id, task_id)
        return {name: value for name, value in xcom.items() if "second" not in name}

    def log(self, task_id: str, try_number: int = 1) -> list[LogLine]:
        """As Airflow shows it."""
        return self.deployment.airflow.log(DAG_ID, self.run_id, task_id, try_number)

    def log_text(self, task_id: str, try_number: int = 1) -> str:
        """The same as one text."""
        return "\n".join(f"{line.level}: {line.text}" for line in self.log(task_id, try_number))

    def record(self, task_id: str) -> dict[str, Any]:
        """What the stage recorded in the run: where its artifact is, and whether it was reused."""
        key = f"test/runs/{self.name}/stages/{task_id}.json"
        body = self.deployment.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return dict(json.loads(body))

    def running_pod(self, stage: str, says: str = "") -> dict[str, Any]:
        """The stage's pod, once it runs and its log has the words ``says``."""
        namespace = self.deployment.namespace

        def look() -> dict[str, Any] | None:
            pods = [pod for pod in namespace.pods(run=self.name, stage=stage) if pod["status"]["phase"] == "Running"]
            return next((pod for pod in pods if says in namespace.run("logs", pod["metadata"]["name"])), None)

        return eventually(look, f"a running pod of {stage} that says {says!r}", 600)


def wait_for_retry(run: DagRun, task_id: str) -> None:
    """Until the task's first try has failed and it waits for its second."""

    def look() -> bool:
        task, state = run.tasks()[task_id], run.state()
        assert state in ("queued", "running"), f"expected {task_id} to be tried again; the run is over: {state}"
        return task.state == "up_for_retry" or task.try_number > 1

    eventually(look, f"a second try of {task_id}", 600)


def secret_value(namespace: Namespace, secret: str, key: str) -> str:
    """A value of a Secret."""
    return base64.b64decode(namespace.get("secret", secret)["data"][key]).decode()


def s3_client(endpoint: str, access_key: str, secret_key: str) -> Any:
    """A client of the test's S3 server, whatever the environment says."""
    return boto3.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
    )


def stopwatch() -> Any:
    """``seconds()`` since it was made."""
    start = time.monotonic()
    return lambda: time.monotonic() - start
