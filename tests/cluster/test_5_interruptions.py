"""The release is upgraded and Airflow killed during the first training of a run. A pod is deleted in the second.

The run succeeds with the same metrics, and no stage ran twice at once. The pods of the second training have a sidecar
that never ends. No other run is active, except one whose pod waits for memory until the run is marked as failed while
the triggerer is down.
"""

from itertools import pairwise
from typing import Any

import pytest

from tests.cluster.conftest import PYTHON_FOLDER
from tests.cluster.deployment import DAG_ID, DagRun, Deployment, stopwatch
from tests.cluster.kubectl import eventually
from tests.cluster.pod_watch import PodWatch

RETRIES = 5  # another number than before the upgrade
WITH_SIDECAR = "train-crossencoder"
SIDECAR = f"""
from kubernetes.client import V1Container

LIVE = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit()); signal.pause()"

def pod_mutation_hook(pod):
    base = pod.spec.containers[0]
    if (pod.metadata.labels or {{}}).get("zeshel/stage") == {WITH_SIDECAR!r}:
        sidecar = V1Container(name="sidecar", image=base.image, command=["python", "-c", LIVE])
        sidecar.image_pull_policy, sidecar.security_context = base.image_pull_policy, base.security_context
        pod.spec.containers.append(sidecar)
"""
MODELS = ("train-biencoder", "eval-biencoder-test", "train-crossencoder", "eval-crossencoder-test")


@pytest.fixture(scope="module")
def run(first_run: DagRun, deployment: Deployment) -> DagRun:
    """A run with the settings of the first one, which must train both models again."""
    first_run.forget("train-biencoder", "train-crossencoder")
    return deployment.trigger("interrupted")


@pytest.fixture(scope="module")
def unwatched_run(run: DagRun, deployment: Deployment) -> DagRun:  # starts beside it
    """A run that is marked as failed while its task waits for a pod and no triggerer runs."""
    deployment.namespace.apply(pod_of_another_deployment("unwatched", "train-biencoder"))
    unwatched = deployment.trigger("unwatched", seed=5, memory="999Gi")
    unwatched.wait_for_deferred("train-biencoder")
    assert len(deployment.namespace.pods(run=unwatched.name)) == 2, "one of each deployment"
    stop_triggerer(deployment)
    unwatched.give_up()
    return unwatched


def test_airflow_that_was_upgraded_and_killed_resumes_the_run(
    run: DagRun, unwatched_run: DagRun, first_run: DagRun, deployment: Deployment, pods: PodWatch
) -> None:
    run.running_pod("train-biencoder", says="step ")
    assert unwatched_run.state() == "failed"
    add_sidecar(deployment)
    keys = deployment.namespace.get("secret", f"{deployment.release.name}-keys")["data"]
    killed = deployment.airflow_pod()["metadata"]["name"]
    seconds = stopwatch()
    deployment.release.apply("upgrade", {"dag": {"retries": RETRIES}})
    kill_airflow(deployment, killed)
    eventually(lambda: deployment.airflow.health()["scheduler"]["status"] == "healthy", "Airflow's return", 600)
    print(f"\nAirflow is back {seconds():.0f} s after its upgrade and death")
    assert deployment.namespace.get("secret", f"{deployment.release.name}-keys")["data"] == keys
    run.running_pod("train-crossencoder")
    assert run.metrics("train-biencoder") == first_run.metrics("train-biencoder")
    assert_no_stage_ran_twice_at_once(run, pods)


def test_deleted_pod_is_retried_with_the_same_results(
    run: DagRun, first_run: DagRun, deployment: Deployment, pods: PodWatch
) -> None:
    pod = run.running_pod("train-crossencoder", says="step ")
    deployment.namespace.run("delete", "pod", pod["metadata"]["name"], "--wait=false")
    run.succeed()
    assert run.tasks()["train-crossencoder"].try_number == 2
    assert "train-crossencoder: " in run.log_text("train-crossencoder", 1)
    assert {stage: run.metrics(stage) for stage in MODELS} == {stage: first_run.metrics(stage) for stage in MODELS}
    assert_no_stage_ran_twice_at_once(run, pods)
    eventually(lambda: deployment.namespace.pods(run=run.name) == [], "the end of the run's pods", 60)
    second = run.log("train-crossencoder", 2)
    resumed = [line.text for line in second if "resum" in line.text or "checkpoint" in line.text]
    print("\nsecond try:", *resumed, sep="\n  ")


def test_sidecar_that_never_ends_does_not_hold_the_run(run: DagRun, pods: PodWatch) -> None:
    assert run.state() == "success"
    of_both_tries = [pod for pod in pods.of_run(run.name) if pod.stage == WITH_SIDECAR]
    assert [pod.containers for pod in of_both_tries] == [["base", "sidecar"]] * 2
    eventually(lambda: all(pod.deleted for pod in of_both_tries), "the end of the pods and their sidecars", 60)


def test_pod_of_a_run_that_failed_without_a_triggerer_is_deleted(unwatched_run: DagRun) -> None:
    """By its trigger, if a new triggerer still got it, or else by the search for abandoned pods."""
    namespace = unwatched_run.deployment.namespace
    eventually(lambda: len(namespace.pods(run=unwatched_run.name)) == 1, "the end of the run's own pod", 300)


@pytest.mark.usefixtures("unwatched_run")
def test_pod_of_another_deployment_is_left_alone(deployment: Deployment) -> None:
    """It was neither taken over, nor deleted with its namesake."""
    metadata = deployment.namespace.get("pod", "of-another")["metadata"]
    assert "deletionTimestamp" not in metadata
    assert metadata["labels"] == pod_of_another_deployment("unwatched", "train-biencoder")["metadata"]["labels"]


def pod_of_another_deployment(run_id: str, task_id: str) -> dict[str, Any]:
    """Returns a pod with the labels that another deployment's pod of a run of the same name has. No node takes it."""
    labels = {
        "dag_id": DAG_ID, "run_id": run_id, "task_id": task_id, "try_number": "1", "kubernetes_pod_operator": "True",
        "zeshel/run": run_id, "zeshel/stage": task_id, "app.kubernetes.io/name": "zeshel",
        "app.kubernetes.io/component": "stage", "app.kubernetes.io/instance": "another",
    }  # fmt: skip
    spec = {"nodeSelector": {"example.com/no-such": "node"}, "containers": [{"name": "base", "image": "none"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "of-another", "labels": labels}, "spec": spec}


def add_sidecar(deployment: Deployment) -> None:
    """Lets Airflow add a sidecar to pods from its next start on."""
    pod = deployment.airflow_pod()["metadata"]["name"]
    write = f"mkdir -p {PYTHON_FOLDER} && cat > {PYTHON_FOLDER}/airflow_local_settings.py"
    deployment.namespace.run("exec", "-i", pod, "--container=scheduler", "--", "sh", "-c", write, stdin=SIDECAR)


def stop_triggerer(deployment: Deployment) -> None:
    """Stops the triggerer. Kubernetes will start it again, and Airflow will be killed before."""
    pod = deployment.airflow_pod()["metadata"]["name"]
    deployment.namespace.run("exec", pod, "--container=triggerer", "--", "sh", "-c", "kill 1")

    def has_stopped() -> bool:
        (status,) = [s for s in deployment.airflow_pod()["status"]["containerStatuses"] if s["name"] == "triggerer"]
        return "terminated" in status["state"] or status["restartCount"] > 0

    eventually(has_stopped, "the end of the triggerer", 60)


def kill_airflow(deployment: Deployment, pod: str) -> None:
    """Kills Airflow without a grace period, like the failure of a node. An upgrade may have begun to end it."""
    deployment.namespace.run("delete", "pod", pod, "--grace-period=0", "--force", "--ignore-not-found")
    eventually(
        lambda: any(other["metadata"]["name"] != pod for other in deployment.airflow_pods()), "a new Airflow pod", 120
    )


def assert_no_stage_ran_twice_at_once(run: DagRun, pods: PodWatch) -> None:
    """Compares the times of the stages' containers."""
    seen = pods.of_run(run.name)
    for stage in {pod.stage for pod in seen}:
        intervals = sorted((pod.started, pod.ended) for pod in seen if pod.stage == stage and pod.started and pod.ended)
        assert all(first[1] <= second[0] for first, second in pairwise(intervals)), f"{stage}: {intervals}"
