"""Pods and Airflow are killed. In the end, the run succeeds with the same figures, and no stage ran twice at once."""

from itertools import pairwise

from tests.cluster.deployment import DagRun, Deployment, stopwatch
from tests.cluster.kubectl import eventually
from tests.cluster.pod_watch import PodWatch

DOWNSTREAM = ("train-biencoder", "eval-biencoder-test", "train-crossencoder", "eval-crossencoder-test")


def test_deleted_pod_is_retried_with_the_same_results(first_run: DagRun, deployment: Deployment) -> None:
    deployment.forget("train-biencoder")
    run = deployment.trigger("pod-deleted")
    pod = run.running_pod("train-biencoder", says="step ")
    deployment.namespace.run("delete", "pod", pod["metadata"]["name"], "--wait=false")
    run.succeed()
    assert run.tasks()["train-biencoder"].try_number == 2
    assert "train-biencoder: " in run.log_text("train-biencoder", 1)
    assert {stage: run.metrics(stage) for stage in DOWNSTREAM} == {
        stage: first_run.metrics(stage) for stage in DOWNSTREAM
    }
    resumed = [line.text for line in run.log("train-biencoder", 2) if "resum" in line.text or "checkpoint" in line.text]
    print("\nsecond try:", *resumed, sep="\n  ")


def test_killed_airflow_resumes_the_run(first_run: DagRun, deployment: Deployment, pods: PodWatch) -> None:
    deployment.forget("train-biencoder", "train-crossencoder")
    run = deployment.trigger("airflow-killed")
    run.running_pod("train-biencoder", says="step ")
    seconds = stopwatch()
    kill_airflow(deployment)
    eventually(lambda: deployment.airflow.health()["scheduler"]["status"] == "healthy", "Airflow's return", 600)
    print(f"\nAirflow is back {seconds():.0f} s after it was killed")
    run.succeed()
    assert {stage: run.metrics(stage) for stage in DOWNSTREAM} == {
        stage: first_run.metrics(stage) for stage in DOWNSTREAM
    }
    assert_no_stage_ran_twice_at_once(run, pods)
    assert deployment.namespace.pods(run=run.name) == [], "no pod is left behind"


def test_run_marked_as_failed_leaves_no_pod(first_run: DagRun, deployment: Deployment) -> None:
    deployment.forget("train-biencoder")
    run = deployment.trigger("given-up")
    run.running_pod("train-biencoder", says="step ")
    deployment.airflow.fail_unfinished_runs()
    eventually(lambda: deployment.namespace.pods(run=run.name) == [], "the end of the run's pods", 120)


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
