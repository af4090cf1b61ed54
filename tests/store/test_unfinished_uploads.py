"""A large file is uploaded in parts. Parts that never become an object cost money until they are deleted."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.retries.standard import ExponentialBackoff

from tests.stages.fake_stage import FakeStage
from tests.store.s3_proxy import Answer, Forward, Request, refusal
from tests.support.faults import Fault
from zeshel_tasks.compute.termination import ToldToStop, stop
from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.pipeline import commit
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Metrics, open_run, s3
from zeshel_tasks.store.s3 import S3Store

Behind = Callable[[Callable[[Request, Forward], Answer]], S3Store]

CONTENT = random.Random(5).randbytes((16 << 20) + 7)


@pytest.fixture(autouse=True)
def _small_parts_without_waiting(aws_environment: pytest.MonkeyPatch) -> None:
    """Uses parts of 5 MiB, the smallest that S3 accepts, two at a time, so that some are not sent when one fails."""
    parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=2)
    aws_environment.setattr(s3, "_TRANSFER", parts)
    aws_environment.setattr(commit, "COMMIT_PAUSES", ())
    aws_environment.setattr(ExponentialBackoff, "delay_amount", lambda self, context: 0)
    aws_environment.setenv("AWS_MAX_ATTEMPTS", "3")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def stops_on_sigterm() -> Iterator[None]:
    """Handles SIGTERM as the command line does."""
    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


def unfinished(bucket: str, endpoint: str) -> list[str]:
    answer = boto3.client("s3", endpoint_url=endpoint).list_multipart_uploads(Bucket=bucket)
    return [upload["Key"] for upload in answer.get("Uploads", [])]


def is_part(request: Request, number: int) -> bool:
    return request.method == "PUT" and f"partNumber={number}" in request.path


def at_part(number: int, happens: Callable[[Request, Forward], Answer]) -> Callable[[Request, Forward], Answer]:
    return lambda request, forward: happens(request, forward) if is_part(request, number) else forward(request)


def sends_sigterm(request: Request, forward: Forward) -> Answer:
    os.kill(os.getpid(), signal.SIGTERM)
    return forward(request)


def test_helper_detects_an_unfinished_upload(bucket: str, s3_endpoint: str) -> None:
    boto3.client("s3").create_multipart_upload(Bucket=bucket, Key="begun")
    assert unfinished(bucket, s3_endpoint) == ["begun"]


@pytest.mark.parametrize(
    ("status", "code", "error"), [(503, "SlowDown", StoreUnavailable), (403, "AccessDenied", ConfigError)]
)
@pytest.mark.parametrize("number", [1, 3])
def test_upload_that_fails_at_a_part_is_aborted(
    behind_proxy: Behind, bucket: str, s3_endpoint: str, file: Path, fault: Fault,
    status: int, code: str, error: type[Exception], number: int,
) -> None:  # fmt: skip
    store = behind_proxy(at_part(number, lambda request, forward: refusal(status, code)))
    with pytest.raises(error, match=code):
        store.upload(file, "key")
    fault(f"store: {code} in the middle of an upload in parts")
    assert unfinished(bucket, s3_endpoint) == []
    assert store.get("key") is None


def test_upload_that_fails_to_complete_is_aborted(
    behind_proxy: Behind, bucket: str, s3_endpoint: str, file: Path, fault: Fault
) -> None:
    def refuses_to_complete(request: Request, forward: Forward) -> Answer:
        completes = request.method == "POST" and "uploadId" in request.path
        return refusal(500, "InternalError") if completes else forward(request)

    with pytest.raises(StoreUnavailable, match="InternalError"):
        behind_proxy(refuses_to_complete).upload(file, "key")
    fault("store: 500 at the end of an upload in parts")
    assert unfinished(bucket, s3_endpoint) == []


@pytest.mark.usefixtures("stops_on_sigterm")
@pytest.mark.parametrize("number", [1, 2, 4])
def test_sigterm_during_an_upload_aborts_it(
    behind_proxy: Behind, bucket: str, s3_endpoint: str, file: Path, fault: Fault, number: int
) -> None:
    store = behind_proxy(at_part(number, sends_sigterm))
    with pytest.raises(ToldToStop):
        store.upload(file, "key")
    fault("store: SIGTERM in the middle of an upload in parts")
    assert unfinished(bucket, s3_endpoint) == []


@pytest.mark.usefixtures("stops_on_sigterm")
def test_stage_stopped_during_commit_leaves_no_parts_and_reruns(
    behind_proxy: Behind, bucket: str, s3_endpoint: str, tmp_path: Path, fault: Fault
) -> None:
    sent: list[str] = []

    def stops_once(request: Request, forward: Forward) -> Answer:
        if is_part(request, 2) and not sent:
            sent.append(request.path)
            return sends_sigterm(request, forward)
        return forward(request)

    def large(job: Job) -> Metrics:
        path = job.new_folder("out") / "large"
        path.write_bytes(CONTENT)
        job.attempt.add("large", path)
        return {}

    stage, address = FakeStage("download", does=large), f"{behind_proxy(stops_once).address}/runs/r"
    with pytest.raises(ToldToStop):
        run_stage(stage, address, build_recipe("smoke"))
    fault("store: SIGTERM while a stage commits", len(sent))
    assert sent
    assert unfinished(bucket, s3_endpoint) == []
    run = open_run(address)
    assert not [key for key in run.store.keys("") if key.endswith(".json")]
    signal.signal(signal.SIGTERM, stop)
    run_stage(stage, address, build_recipe("smoke"))
    assert run.artifact("download", tmp_path / "cache").path("large").read_bytes() == CONTENT
