"""Runs beside the second one.

One has a team's own data. One is given up after a look into its pod and an outage of Kubernetes. The pod of one waits
for memory, is deleted and stays in state Terminating, as if its node were lost.
"""

import json
import os
import subprocess
import time
from typing import Any

import pytest

from tests.cluster.conftest import UNRENDERED, UNRENDERED_VARIABLES
from tests.cluster.deployment import BASES, BUCKET, HELDOUT, DagRun, Deployment
from tests.cluster.kubectl import eventually
from tests.cluster.s3.authority import CERTIFICATE

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


TRAIN = "train-biencoder"
OUTAGE_SECONDS = 60  # Airflow repeats requests for 48 s.


@pytest.fixture(scope="module")
def endless_run(merged_run: DagRun, deployment: Deployment) -> DagRun:
    """A run whose first training takes longer than all tests. It starts beside the merged run."""
    return deployment.trigger("given-up", seed=4, train_biencoder__num_train_epochs=1000)


@pytest.fixture(scope="module")
def stuck_run(merged_run: DagRun, deployment: Deployment) -> DagRun:
    """A run whose first training needs more memory than any node has. It starts beside the merged run."""
    return deployment.trigger("stuck", seed=6, memory="999Gi")


@pytest.fixture(scope="module")
def stuck_pod(stuck_run: DagRun) -> str:
    """Name of a pod that is being deleted, which a finalizer prevents."""
    namespace = stuck_run.deployment.namespace
    stuck_run.wait_for_deferred(TRAIN)
    (pod,) = namespace.pods(run=stuck_run.name, stage=TRAIN)
    name = str(pod["metadata"]["name"])
    namespace.run("patch", "pod", name, "--patch", '{"metadata": {"finalizers": ["example.com/lost-node"]}}')
    namespace.run("delete", "pod", name, "--wait=false")
    return name


@pytest.fixture(scope="module")
def training_pod(endless_run: DagRun) -> str:
    """Name of a training pod."""
    return str(endless_run.running_pod(TRAIN, says="step ")["metadata"]["name"])


@pytest.fixture(scope="module")
def given_up_run(endless_run: DagRun, training_pod: str) -> DagRun:
    """The endless run, marked as failed during its training."""
    endless_run.give_up()
    return endless_run


@pytest.mark.usefixtures("stuck_run")  # starts early
def test_pods_are_not_root_and_have_no_writable_root_or_token(deployment: Deployment, training_pod: str) -> None:
    assert look_from_inside(deployment, training_pod) == {
        "user": 50000, "writable": ["/scratch", "/dev/shm"], "token": False, "capabilities": 0,
        "no_new_privileges": "1", "seccomp": "2",
    }  # fmt: skip


def test_templates_of_other_programs_arrive_unrendered(deployment: Deployment, training_pod: str) -> None:
    pod = deployment.namespace.get("pod", training_pod)
    (container,) = pod["spec"]["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert {**pod["metadata"]["annotations"], **UNRENDERED} == pod["metadata"]["annotations"]
    assert {**env, **UNRENDERED_VARIABLES} == env


def test_pod_has_what_the_template_adds(deployment: Deployment, training_pod: str, authority: dict[str, str]) -> None:
    """Every other stage shows that the certificates of the store are mounted, too."""
    files = f"/etc/team/{CERTIFICATE}", "/etc/zeshel/ca/ca.crt", "/etc/hosts"
    team, store, hosts = (deployment.namespace.run("exec", training_pod, "--", "cat", file) for file in files)
    assert team == store == authority[CERTIFICATE]
    assert "models.example.com" in hosts


def test_mlflow_client_works_in_a_pod(first_run: DagRun, deployment: Deployment, training_pod: str) -> None:
    """Uses a folder for MLflow, in scratch, the only writable place. A server would have an address instead."""
    mlflow = ("MLFLOW_TRACKING_URI=file:///scratch/mlruns", "MLFLOW_ALLOW_FILE_STORE=true")
    command = ("zeshel", "track", f"--run=s3://{BUCKET}/test/runs/{first_run.name}")
    deployment.namespace.run("exec", training_pod, "--", "env", *mlflow, *command)
    told = deployment.namespace.run("exec", training_pod, "--", "env", *mlflow, "python", "-c", SHOW_CHAMPION)
    assert told.strip().endswith(first_run.name)


@pytest.mark.skipif("API_STOP" not in os.environ, reason="needs API_STOP and API_START")
@pytest.mark.usefixtures("stuck_pod")  # is lost meanwhile
def test_outage_of_kubernetes_fails_no_task(endless_run: DagRun, deployment: Deployment, training_pod: str) -> None:
    before = endless_run.tasks()[TRAIN]
    subprocess.run(os.environ["API_STOP"], shell=True, check=True)
    time.sleep(OUTAGE_SECONDS)
    subprocess.run(os.environ["API_START"], shell=True, check=True)
    eventually(lambda: deployment.airflow.health()["triggerer"]["status"] == "healthy", "access to Airflow", 120)
    steps = deployment.namespace.run("logs", training_pod).count("step ")
    assert endless_run.tasks()[TRAIN] == before
    waited = "Kubernetes does not answer, so pod"
    eventually(lambda: waited in endless_run.log_text(TRAIN), "a warning in the task's log", 120)
    eventually(
        lambda: endless_run.log_text(TRAIN).count("step ") > steps, "news of the training in the task's log", 120
    )


@pytest.mark.usefixtures("stuck_pod")  # is lost meanwhile
@pytest.mark.usefixtures("given_up_run")  # leaves the CPU to this run
def test_additional_worlds_are_trained_and_evaluated(merged_run: DagRun, first_run: DagRun) -> None:
    tasks = merged_run.succeed().tasks()
    states = dict.fromkeys(tasks, "success") | dict.fromkeys(BASES, "skipped")  # it is not the champion
    assert {name: task.state for name, task in tasks.items()} == states
    assert "quill" in merged_run.metrics("eval-crossencoder-test")["worlds"]
    assert [merged_run.metrics(name)["mentions"] for name in HELDOUT] == [1, 6, 1, 6]
    compared = merged_run.metrics("compare")
    assert compared["champion"]["run"] == first_run.name
    assert "quill" in compared["worlds"], "the champion has been evaluated on the new mentions"
    assert merged_run.metrics("promote")["promoted"] is False


def test_run_marked_as_failed_leaves_no_pod(given_up_run: DagRun) -> None:
    namespace = given_up_run.deployment.namespace
    eventually(lambda: namespace.pods(run=given_up_run.name) == [], "the end of the run's pods", 120)


def test_pod_that_stays_terminating_is_replaced(stuck_run: DagRun, stuck_pod: str) -> None:
    namespace = stuck_run.deployment.namespace
    stuck_run.wait_for_deferred(TRAIN, try_number=2)
    assert f"the pod {stuck_pod} is lost, probably with its node: it should have been" in stuck_run.log_text(TRAIN, 1)
    assert len(namespace.pods(run=stuck_run.name, stage=TRAIN)) == 2
    stuck_run.give_up()
    namespace.run("patch", "pod", stuck_pod, "--patch", '{"metadata": {"finalizers": null}}')
    eventually(lambda: namespace.pods(run=stuck_run.name) == [], "the end of both pods", 120)


def look_from_inside(deployment: Deployment, pod: str) -> dict[str, Any]:
    """Returns what a process of the pod can do."""
    return dict(json.loads(deployment.namespace.run("exec", pod, "--", "python", "-c", LOOK_FROM_INSIDE)))
