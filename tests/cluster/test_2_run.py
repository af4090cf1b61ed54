"""A run of the whole recipe in pods, and a second run that reuses everything."""

import json
import re
from itertools import pairwise

import pytest
from rich.console import Console
from rich.table import Table

from tests.cluster.deployment import BUCKET, SKIPPED, DagRun, Deployment, stopwatch
from tests.cluster.pod_watch import PodWatch

STAGES = (
    "download", "convert", "train-biencoder", "fit-retrieval",
    "eval-biencoder-train", "eval-biencoder-valid", "eval-biencoder-test",
    "train-crossencoder", "eval-crossencoder-valid", "eval-crossencoder-test",
    "fuse", "calibrate", "compare", "report", "promote",
)  # fmt: skip
# Stages that run one after the other. The others run at the same time as one of these.
CHAIN = (
    "download", "convert", "train-biencoder", "fit-retrieval", "eval-biencoder-train",
    "train-crossencoder", "eval-crossencoder-test", "fuse", "calibrate", "compare", "report", "promote",
)  # fmt: skip


def test_every_stage_is_a_pod_and_succeeds(first_run: DagRun, pods: PodWatch) -> None:
    tasks = first_run.tasks()
    assert {name for name, task in tasks.items() if task.state == "skipped"} == SKIPPED
    assert {
        name: (task.state, task.try_number) for name, task in tasks.items() if name not in SKIPPED
    } == dict.fromkeys((*STAGES, "approve"), ("success", 1))
    assert sorted(pod.stage for pod in pods.of_run(first_run.name)) == sorted(STAGES)
    assert all(pod.deleted for pod in pods.of_run(first_run.name)), "successful pods are removed"


def test_three_evaluations_run_in_parallel(first_run: DagRun, pods: PodWatch) -> None:
    evals = [pod for pod in pods.of_run(first_run.name) if pod.stage.startswith("eval-biencoder")]
    for pod in evals:
        print(f"{pod.stage}: {pod.started} to {pod.ended}")
    assert len(evals) == 3
    assert max(pod.started for pod in evals if pod.started) < min(pod.ended for pod in evals if pod.ended)


@pytest.mark.parametrize("stage", STAGES)
def test_artifact_of_each_stage_is_committed_in_s3(first_run: DagRun, deployment: Deployment, stage: str) -> None:
    record = first_run.record(stage)
    assert record["reused"] is False
    key = f"test/{record['artifact']}/manifest.json"
    head = deployment.s3.head_object(Bucket=BUCKET, Key=key)
    assert head["ContentLength"] > 100
    assert head["ServerSideEncryption"] == "AES256"


def test_report_is_in_the_runs_folder(first_run: DagRun, deployment: Deployment) -> None:
    page = deployment.s3.get_object(Bucket=BUCKET, Key=f"test/runs/{first_run.name}/report/index.html")["Body"].read()
    assert b"<html" in page


def test_metrics_are_in_xcom(first_run: DagRun) -> None:
    assert first_run.metrics("eval-biencoder-test")["recall"]["micro"]["16"] > 0.5
    assert first_run.metrics("fuse")["splits"]["test"]["linker"]["unnormalized_accuracy"]["micro"] > 0.3
    assert first_run.metrics("download")


@pytest.mark.parametrize("stage", STAGES)
def test_airflows_log_shows_the_lines_of_the_stage(first_run: DagRun, stage: str) -> None:
    assert re.search(rf"committed {stage} [0-9a-f]{{12}}", first_run.log_text(stage)), first_run.log_text(stage)


@pytest.mark.parametrize("stage", ["train-biencoder", "train-crossencoder"])
def test_log_shows_progress_during_training(first_run: DagRun, stage: str) -> None:
    steps = re.findall(r"step (\d+)/(\d+).*loss", first_run.log_text(stage))
    assert len(steps) > 1, first_run.log_text(stage)


@pytest.mark.usefixtures("merged_run")  # starts beside it
def test_unchanged_run_reuses_everything_without_pods(
    first_run: DagRun, deployment: Deployment, pods: PodWatch
) -> None:
    seconds = stopwatch()
    run = deployment.trigger("rerun").succeed()
    took = seconds()
    assert {stage: run.record(stage)["reused"] for stage in STAGES} == dict.fromkeys(STAGES, True)
    assert all(run.metrics(stage) == first_run.metrics(stage) for stage in STAGES)
    assert pods.of_run(run.name) == []
    key = f"test/runs/{run.name}/report/metrics.json"
    reported = json.loads(deployment.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())["run"]
    assert reported["address"] == f"s3://{BUCKET}/test/runs/{run.name}"
    assert (reported["wall_seconds"], reported["saved_wall_seconds"] > 0) == (0, True)
    show_overhead(run, took)


def show_overhead(run: DagRun, took: float) -> None:
    """Prints the overhead of each stage. Times on a shared machine are too noisy for an assertion."""
    tasks = run.tasks()
    table = Table("stage", "before: s after the stage before it", "task, s", title="nothing to do")
    for before, stage in pairwise(CHAIN):
        task = tasks[stage]
        gap = (task.started - tasks[before].ended).total_seconds() if task.started and tasks[before].ended else 0.0
        table.add_row(stage, f"{gap:.1f}", f"{task.seconds:.1f}")
    Console(width=120).print(table)
    print(f"rerun: {took:.0f} s for {len(CHAIN)} stages one after the other: {took / len(CHAIN):.1f} s a stage")


def test_collector_receives_metrics_of_every_stage_and_of_airflow(first_run: DagRun, deployment: Deployment) -> None:
    points = [json.loads(line) for line in deployment.namespace.run("logs", "pod/collector").splitlines()]
    of_run = [point for point in points if point.get("run") == first_run.name]
    assert {point["stage"]: point["value"] for point in of_run if point["name"] == "zeshel.stage.exit_code"} == (
        dict.fromkeys(STAGES, 0)
    )
    waits = {point["stage"]: point["value"] for point in of_run if point["name"] == "zeshel.stage.queue_time"}
    print(f"{len(points)} points; waits for pods, in seconds: {waits}")
    assert set(waits) == set(STAGES)
    assert min(waits.values()) > 0
    losses = {point["stage"] for point in of_run if point["name"] == "zeshel.training.loss"}
    assert losses == {"train-biencoder", "train-crossencoder"}
    assert any(point["service"] == "airflow" and point["name"].startswith("airflow.") for point in points)
