"""The chart in a namespace of the cluster, with an S3 server beside it, and the runs of its Airflow."""

import base64
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import yaml

from tests.cluster.kubectl import Namespace, eventually, helm
from tests.helm.chart import merged
from zeshel_tasks.config.splits import HELDOUT_SPLITS
from zeshel_tasks.demo.local_airflow.client import AirflowClient, LogLine, TaskState
from zeshel_tasks.orchestration.settings import path_safe

DAG_ID = "zeshel"
BUCKET = "zeshel"
RUN_SECONDS = 1500.0
# Evaluations on mentions that are held out of the train worlds. The sample worlds have none.
HELDOUT = [f"{stage}-{split}" for stage in ("eval-biencoder", "eval-crossencoder") for split in HELDOUT_SPLITS]
BASES = ("refresh-knowledge-bases", "encode-segment", "publish-knowledge-bases")
SKIPPED = {*HELDOUT, "cut-worlds", "encode-shard", *BASES}
"""Tasks that have nothing to do without held-out mentions, large worlds and knowledge bases."""


@dataclass(frozen=True)
class Release:
    """A release of the chart.

    Args:
        name: name of the Helm release.
        namespace: its namespace.
        chart: folder of the chart.
        values: the values that it is installed with.
        folder: for a file of values.
    """

    name: str
    namespace: Namespace
    chart: Path
    values: dict[str, Any]
    folder: Path

    def apply(self, command: str, changes: dict[str, Any]) -> None:
        """Installs the release, or upgrades it, with changed values."""
        file = self.folder / "values.yaml"
        file.write_text(yaml.safe_dump(merged(self.values, changes)))
        helm(command, self.name, str(self.chart), f"--namespace={self.namespace.name}", f"--values={file}")


@dataclass(frozen=True)
class Deployment:
    """A deployment under test.

    Args:
        namespace: namespace of the deployment.
        airflow: client of its REST API.
        s3: client of the store.
        release: the Helm release.
    """

    namespace: Namespace
    airflow: AirflowClient
    s3: Any
    release: Release

    def trigger(self, run_id: str, dag_id: str = DAG_ID, **conf: Any) -> "DagRun":
        """Starts a run through the REST API."""
        self.airflow.trigger(dag_id, {key.replace("__", "."): value for key, value in conf.items()}, run_id)
        return DagRun(self, run_id, dag_id)

    def airflow_pods(self) -> list[dict[str, Any]]:
        """Returns the pods of the standalone Airflow that are not being deleted."""
        pods = self.namespace.get("pods", "--selector=app.kubernetes.io/component=airflow")["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def airflow_pod(self) -> dict[str, Any]:
        """Returns the only one of them."""
        (pod,) = self.airflow_pods()
        return pod


@dataclass(frozen=True)
class DagRun:
    """A run of a DAG in the cluster."""

    deployment: Deployment
    run_id: str
    dag_id: str = DAG_ID

    @property
    def name(self) -> str:
        """Name of the run in the store, and in the pods' label zeshel/run."""
        return path_safe(self.run_id)

    def state(self) -> str:
        """Returns queued, running, success or failed."""
        return self.deployment.airflow.run_state(self.dag_id, self.run_id)

    def wait(self, seconds: float = RUN_SECONDS) -> str:
        """Waits for the end of the run and returns its state."""
        return eventually(
            lambda: state if (state := self.state()) in ("success", "failed") else None,
            f"the end of run {self.run_id}",
            seconds,
        )

    def succeed(self) -> "DagRun":
        """Waits for the success of the run. A failure shows the logs of the failed tasks."""
        if self.wait() != "success":
            failed = [task for task in self.tasks().values() if task.state == "failed"]
            texts = {
                task.label or task.task_id: self.log_text(task.task_id, map_index=task.map_index) for task in failed
            }
            logs = [f"{name}:\n" + "\n".join(text.splitlines()[-60:]) for name, text in texts.items()]
            raise AssertionError(f"run {self.run_id} failed\n" + "\n".join(logs))
        return self

    def tasks(self) -> dict[str, TaskState]:
        """Returns the tasks by id, or by label if they are mapped."""
        states = self.deployment.airflow.task_states(self.dag_id, self.run_id)
        return {task.label or task.task_id: task for task in states}

    def wait_for_deferred(self, task_id: str, try_number: int = 1) -> TaskState:
        """Waits until a try of a task waits for its pod."""

        def look() -> TaskState | None:
            task = self.tasks().get(task_id)
            return task if task and (task.state, task.try_number) == ("deferred", try_number) else None

        return eventually(look, f"try {try_number} of {task_id} in state deferred", 300)

    def metrics(self, task_id: str) -> dict[str, Any]:
        """Returns the task's XCom without values that depend on the machine."""
        xcom = self.deployment.airflow.xcom(self.dag_id, self.run_id, task_id)
        return {name: value for name, value in xcom.items() if "second" not in name}

    def log(self, task_id: str, try_number: int = 1, map_index: int = -1) -> list[LogLine]:
        """Returns the log of a task as Airflow shows it."""
        return self.deployment.airflow.log(self.dag_id, self.run_id, task_id, try_number, map_index)

    def log_text(self, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Returns the log of a task as one text."""
        return "\n".join(f"{line.level}: {line.text}" for line in self.log(task_id, try_number, map_index))

    def record(self, task_id: str) -> dict[str, Any]:
        """Returns the stage's record in the run, which names the artifact and says if it was reused."""
        key = f"test/runs/{self.name}/stages/{task_id}.json"
        body = self.deployment.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return dict(json.loads(body))

    def forget(self, *stages: str) -> None:
        """Deletes the run's artifacts of stages, so that the next run with its settings must make them again."""
        for stage in stages:
            folder = f"test/{self.record(stage)['artifact']}/"
            objects = self.deployment.s3.list_objects_v2(Bucket=BUCKET, Prefix=folder).get("Contents", [])
            assert objects, f"expected an artifact of {stage} in the store"
            for found in objects:
                self.deployment.s3.delete_object(Bucket=BUCKET, Key=found["Key"])

    def give_up(self) -> None:
        """Marks the run as failed.

        That skips the tasks that have not begun. A scheduler that is deciding on the run at this moment takes skipped
        last tasks for a success, and overwrites the state, so it is looked at again.
        """

        def failed() -> bool:
            self.deployment.airflow.fail_run(self.dag_id, self.run_id)
            time.sleep(2)
            return self.state() == "failed"

        eventually(failed, "a failed run", 60)

    def running_pod(self, stage: str, says: str = "") -> dict[str, Any]:
        """Waits until the stage's pod runs and its log contains ``says``, and returns the pod."""
        namespace = self.deployment.namespace

        def look() -> dict[str, Any] | None:
            pods = [pod for pod in namespace.pods(run=self.name, stage=stage) if pod["status"]["phase"] == "Running"]
            return next(
                (pod for pod in pods if says in namespace.run("logs", pod["metadata"]["name"], "--container=base")),
                None,
            )

        return eventually(look, f"a running pod of {stage} that says {says!r}", 600)


def secret_value(namespace: Namespace, secret: str, key: str) -> str:
    """Returns a value of a Secret."""
    return base64.b64decode(namespace.get("secret", secret)["data"][key]).decode()


def s3_client(endpoint: str, access_key: str, secret_key: str, authorities: Path) -> Any:
    """Returns a client of the test's S3 server, independent of the environment.

    Args:
        endpoint: address of the server.
        access_key: id of the key.
        secret_key: the key.
        authorities: file with the certificates of those that may sign the server's.
    """
    return boto3.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        verify=str(authorities),
    )


def stopwatch() -> Any:
    """Returns a function that gives the seconds since this call."""
    start = time.monotonic()
    return lambda: time.monotonic() - start
