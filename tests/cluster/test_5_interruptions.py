"""Airflow is killed during the first training of a run, and a pod is deleted during the second.

The run succeeds with the same metrics, and no stage ran twice at once. No other run is active.
"""

from itertools import pairwise

import pytest

from tests.cluster.deployment import DagRun, Deployment, stopwatch
from tests.cluster.kubectl import eventually
from tests.cluster.pod_watch import PodWatch

MODELS = ("train-biencoder", "eval-biencoder-test", "train-crossencoder", "eval-crossencoder-test")


@pytest.fixture(scope="module")
def run(first_run: DagRun, deployment: Deployment) -> DagRun:
    """A run with the settings of the first one, which must train both models again."""
    first_run.forget("train-biencoder", "train-crossencoder")
    return deployment.trigger("interrupted")


def test_killed_airflow_resumes_the_run(run: DagRun, first_run: DagRun, deployment: Deployment, pods: PodWatch) -> None:
    run.running_pod("train-biencoder", says="step ")
    seconds = stopwatch()
    kill_airflow(deployment)
    eventually(lambda: deployment.airflow.health()["scheduler"]["status"] == "healthy", "Airflow's return", 600)
    print(f"\nAirflow is back {seconds():.0f} s after it was killed")
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
    assert deployment.namespace.pods(run=run.name) == [], "no pod is left behind"
    second = run.log("train-crossencoder", 2)
    resumed = [line.text for line in second if "resum" in line.text or "checkpoint" in line.text]
    print("\nsecond try:", *resumed, sep="\n  ")


def kill_airflow(deployment: Deployment) -> None:
    """Kills Airflow without a grace period, like the failure of a node."""
    name = deployment.airflow_pod()["metadata"]["name"]
    deployment.namespace.run("delete", "pod", name, "--grace-period=0", "--force")
    eventually(lambda: deployment.airflow_pod()["metadata"]["name"] != name, "a new Airflow pod", 120)


def assert_no_stage_ran_twice_at_once(run: DagRun, pods: PodWatch) -> None:
    """Compares the times of the stages' containers."""
    seen = pods.of_run(run.name)
    for stage in {pod.stage for pod in seen}:
        intervals = sorted((pod.started, pod.ended) for pod in seen if pod.stage == stage and pod.started and pod.ended)
        assert all(first[1] <= second[0] for first, second in pairwise(intervals)), f"{stage}: {intervals}"
