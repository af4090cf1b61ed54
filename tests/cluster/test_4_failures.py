"""Runs that cannot work fail at once, and Airflow's log says why."""

from io import BytesIO

import pytest

from tests.cluster.deployment import BUCKET, DagRun, Deployment, wait_for_retry
from tests.cluster.kubectl import eventually
from zeshel_tasks.demo.local_airflow.client import AirflowRefused


def test_value_that_the_form_rejects_starts_no_run(deployment: Deployment) -> None:
    with pytest.raises(AirflowRefused) as refused:
        deployment.trigger("refused", train_biencoder__num_train_epochs=-1)
    assert refused.value.status == 400


def test_bad_configuration_fails_without_retry(first_run: DagRun, deployment: Deployment) -> None:
    deployment.forget("train-biencoder")
    run = deployment.trigger("no-such-gpu", device="cuda:3")
    assert run.wait() == "failed"
    assert_red_at_once(run, "train-biencoder", "bad configuration (exit code 2), not retried", "cuda:3")


def test_bad_data_fails_without_retry(first_run: DagRun, deployment: Deployment) -> None:
    deployment.s3.upload_fileobj(BytesIO(b"this is no archive"), BUCKET, "test/inputs/broken.tar.bz2")
    run = deployment.trigger("broken-archive", download__source=f"s3://{BUCKET}/test/inputs/broken.tar.bz2")
    assert run.wait() == "failed"
    assert_red_at_once(run, "download", "bad input data (exit code 3), not retried", "not a tar archive")


def assert_red_at_once(run: DagRun, task_id: str, *words: str) -> None:
    """Checks that a task failed in its first try, with these words in an error line of the log."""
    task = run.tasks()[task_id]
    assert (task.state, task.try_number) == ("failed", 1)
    errors = run.log_text(task_id)
    print(f"\n{task_id} says:\n" + "\n".join(errors.splitlines()[-12:]))
    for part in words:
        assert part in errors, errors


def test_out_of_memory_is_named_in_the_log(first_run: DagRun, deployment: Deployment) -> None:
    run = deployment.trigger("too-little-memory", memory="96Mi", seed=7)
    wait_for_retry(run, "train-biencoder")
    text = run.log_text("train-biencoder", 1)
    stop(run)
    assert "out of memory: the container needed more than its limit of 96Mi" in text, text


def test_image_that_cannot_be_pulled_is_named_in_the_log(first_run: DagRun, deployment: Deployment) -> None:
    deployment.forget("download")  # a finished stage needs no pod and no image
    run = deployment.trigger("no-such-image", image="localhost/no-such-image:1")
    wait_for_retry(run, "download")
    text = run.log_text("download", 1)
    stop(run)
    assert "the image localhost/no-such-image:1 cannot be pulled" in text, text
    eventually(
        lambda: deployment.namespace.pods(run=run.name) == [], "the end of the pod that waits for the image", 120
    )


def stop(run: DagRun) -> None:
    """Marks the run as failed, because the test does not need its end."""
    run.deployment.airflow.fail_unfinished_runs()
