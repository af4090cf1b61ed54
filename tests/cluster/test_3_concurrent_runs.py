"""Runs beside the second one: one with a team's own data, and one that is given up after a look into its pod."""

import json
from typing import Any

import pytest

from tests.cluster.deployment import BUCKET, HELDOUT, DagRun, Deployment
from tests.cluster.kubectl import eventually

LOOK_FROM_INSIDE = """
import json, os, pathlib
def writable(path):
    try:
        (pathlib.Path(path) / "probe").write_text("x")
        (pathlib.Path(path) / "probe").unlink()
        return True
    except OSError:
        return False
status = dict(line.split(":\\t", 1) for line in open("/proc/1/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "user": os.getuid(),
    "writable": [path for path in "/ /tmp /opt/zeshel /home /etc /var/tmp /scratch /dev/shm".split() if writable(path)],
    "token": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token"),
    "capabilities": int(status["CapEff"], 16) | int(status["CapPrm"], 16) | int(status["CapBnd"], 16),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "seccomp": status["Seccomp"].strip(),
}))
"""

SHOW_CHAMPION = """
from mlflow import MlflowClient
print(MlflowClient().get_model_version_by_alias("zeshel", "champion").tags["zeshel.run"])
"""


@pytest.fixture(scope="module")
def endless_run(merged_run: DagRun, deployment: Deployment) -> DagRun:
    """A run whose first training takes longer than all tests. It starts beside the merged run."""
    return deployment.trigger("given-up", seed=4, train_biencoder__num_train_epochs=1000)


@pytest.fixture(scope="module")
def training_pod(endless_run: DagRun) -> str:
    """Name of a training pod."""
    return str(endless_run.running_pod("train-biencoder", says="step ")["metadata"]["name"])


@pytest.fixture(scope="module")
def given_up_run(endless_run: DagRun, training_pod: str) -> DagRun:
    """The endless run, marked as failed during its training."""
    endless_run.give_up()
    return endless_run


def test_pods_are_not_root_and_have_no_writable_root_or_token(deployment: Deployment, training_pod: str) -> None:
    assert look_from_inside(deployment, training_pod) == {
        "user": 50000, "writable": ["/scratch", "/dev/shm"], "token": False, "capabilities": 0,
        "no_new_privileges": "1", "seccomp": "2",
    }  # fmt: skip


def test_mlflow_client_works_in_a_pod(first_run: DagRun, deployment: Deployment, training_pod: str) -> None:
    """Uses a folder for MLflow, in scratch, the only writable place. A server would have an address instead."""
    mlflow = ("MLFLOW_TRACKING_URI=file:///scratch/mlruns", "MLFLOW_ALLOW_FILE_STORE=true")
    command = ("zeshel", "track", f"--run=s3://{BUCKET}/test/runs/{first_run.name}")
    deployment.namespace.run("exec", training_pod, "--", "env", *mlflow, *command)
    told = deployment.namespace.run("exec", training_pod, "--", "env", *mlflow, "python", "-c", SHOW_CHAMPION)
    assert told.strip().endswith(first_run.name)


@pytest.mark.usefixtures("given_up_run")  # leaves the CPU to this run
def test_additional_worlds_are_trained_and_evaluated(merged_run: DagRun, first_run: DagRun) -> None:
    tasks = merged_run.succeed().tasks()
    assert {name: task.state for name, task in tasks.items()} == dict.fromkeys(tasks, "success")
    assert "quill" in merged_run.metrics("eval-crossencoder-test")["worlds"]
    assert [merged_run.metrics(name)["mentions"] for name in HELDOUT] == [1, 6, 1, 6]
    compared = merged_run.metrics("compare")
    assert compared["champion"]["run"] == first_run.name
    assert "quill" in compared["worlds"], "the champion has been evaluated on the new mentions"
    assert merged_run.metrics("promote")["promoted"] is False


def test_run_marked_as_failed_leaves_no_pod(given_up_run: DagRun) -> None:
    namespace = given_up_run.deployment.namespace
    eventually(lambda: namespace.pods(run=given_up_run.name) == [], "the end of the run's pods", 120)


def look_from_inside(deployment: Deployment, pod: str) -> dict[str, Any]:
    """Returns what a process of the pod can do."""
    return dict(json.loads(deployment.namespace.run("exec", pod, "--", "python", "-c", LOOK_FROM_INSIDE)))
