"""Runs that cannot work fail at once or after their retries, and Airflow's log says why."""

import pytest

from tests.cluster.deployment import DagRun, Deployment
from tests.cluster.kubectl import eventually
from zeshel_tasks.demo.local_airflow.client import AirflowRefused

FailingRuns = dict[str, DagRun]
TRIES = 3  # `dag.retries` of the deployment, and the first


def test_value_that_the_form_rejects_starts_no_run(deployment: Deployment) -> None:
    with pytest.raises(AirflowRefused) as refused:
        deployment.trigger("refused", train_biencoder__num_train_epochs=-1)
    assert refused.value.status == 400


def test_bad_configuration_fails_without_retry(failing_runs: FailingRuns) -> None:
    run = failing_runs["no-such-gpu"]
    assert_red(run, "train-biencoder", tries=1)
    assert_says(run, "train-biencoder", "bad configuration (exit code 2), not retried", "cuda:3")


def test_bad_data_fails_without_retry(failing_runs: FailingRuns) -> None:
    run = failing_runs["broken-archive"]
    assert_red(run, "download", tries=1)
    assert_says(run, "download", "bad input data (exit code 3), not retried", "not a tar archive")


def test_out_of_memory_is_named_in_the_log(failing_runs: FailingRuns) -> None:
    run = failing_runs["too-little-memory"]
    assert_red(run, "train-biencoder", tries=TRIES)
    assert_says(run, "train-biencoder", "out of memory: the container needed more than its limit of 96Mi")


def test_image_that_cannot_be_pulled_is_named_in_the_log(failing_runs: FailingRuns) -> None:
    run = failing_runs["no-such-image"]
    assert_red(run, "train-biencoder", tries=TRIES)
    assert_says(run, "train-biencoder", "the image localhost/no-such-image:1 cannot be pulled")
    namespace = run.deployment.namespace
    eventually(lambda: namespace.pods(run=run.name) == [], "the end of the pods that wait for the image", 120)


def assert_red(run: DagRun, task_id: str, tries: int) -> None:
    """Waits for the end of the run, and checks that this task failed after ``tries``."""
    assert run.wait() == "failed"
    task = run.tasks()[task_id]
    assert (task.state, task.try_number) == ("failed", tries)


def assert_says(run: DagRun, task_id: str, *words: str) -> None:
    """Checks that the log of the task's last try contains these words."""
    text = run.log_text(task_id, run.tasks()[task_id].try_number)
    print(f"\n{task_id} says:\n" + "\n".join(text.splitlines()[-12:]))
    for part in words:
        assert part in text, text
