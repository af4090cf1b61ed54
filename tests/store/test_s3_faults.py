"""Artifacts and whole stages on a faulty store, over real sockets."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.retries.standard import ExponentialBackoff

from tests.stages.fake_stage import FakeStage, leaves
from tests.store.faulty_s3 import (
    Trouble,
    flips_a_bit_down,
    flips_a_bit_up,
    hangs_up,
    ignores_conditions,
    loses_the_answer,
    refuses,
    resets_in_mid_body,
    stalls,
    truncates,
)
from tests.store.s3_proxy import Answer, Forward, Request, s3_proxy
from tests.support.faults import Fault
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import ConfigError, CorruptArtifact, DataError, StoreUnavailable, TryAgain, ZeshelError
from zeshel_tasks.pipeline import commit as commit_module
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Artifact, Attempt, Manifest, Metrics, Run, open_run, s3, s3_client
from zeshel_tasks.store.artifacts import read_manifest
from zeshel_tasks.store.s3 import S3Store

Behind = Callable[[Callable[[Request, Forward], Answer]], S3Store]

FOLDER = "artifacts/convert/abc"
BIG = random.Random(0).randbytes(6 << 20)
BURST = 3

# Temporary faults: kind -> (fault, methods)
PASSING = {
    "500 burst": (refuses(500, "InternalError"), "GET PUT HEAD"),
    "503 burst": (refuses(503, "ServiceUnavailable"), "GET PUT HEAD"),
    "SlowDown": (refuses(503, "SlowDown"), "GET PUT HEAD"),
    "connection reset before the answer": (hangs_up, "GET PUT HEAD"),
    "lost answer": (loses_the_answer, "PUT"),
    "connection reset in a download": (resets_in_mid_body, "GET"),
    "truncated body": (truncates, "GET"),
    "stall": (stalls(0.6), "GET PUT"),
    "flipped bit in a download": (flips_a_bit_down, "GET"),
}
# Permanent faults: kind -> (fault, error of the stage)
LASTING: dict[str, tuple[Any, type[ZeshelError]]] = {
    "500 without end": (refuses(500, "InternalError"), StoreUnavailable),
    "SlowDown without end": (refuses(503, "SlowDown"), StoreUnavailable),
    "resets without end": (hangs_up, StoreUnavailable),
    "stall without end": (stalls(0.6), StoreUnavailable),
    "expired credentials": (refuses(400, "ExpiredToken"), StoreUnavailable),
    "clock skew": (refuses(403, "RequestTimeTooSkewed"), StoreUnavailable),
    "access denied": (refuses(403, "AccessDenied"), ConfigError),
    "unknown access key": (refuses(403, "InvalidAccessKeyId"), ConfigError),
    "wrong signature": (refuses(403, "SignatureDoesNotMatch"), ConfigError),
    "vanished bucket": (refuses(404, "NoSuchBucket"), ConfigError),
}


@pytest.fixture(autouse=True)
def _no_waiting(aws_environment: pytest.MonkeyPatch) -> None:
    """Retries as often as in production, without pauses."""
    aws_environment.setattr(ExponentialBackoff, "delay_amount", lambda self, context: 0)
    aws_environment.setattr(s3_client, "READ_TIMEOUT_SECONDS", 0.3)
    aws_environment.setattr(commit_module, "COMMIT_PAUSES", (0, 0))
    aws_environment.setenv("AWS_MAX_ATTEMPTS", "5")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {"small": tmp_path / "small", "big": tmp_path / "big"}
    paths["small"].write_bytes(b"small")
    paths["big"].write_bytes(BIG)
    return paths


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses parts of 5 MiB, the smallest that S3 accepts."""
    monkeypatch.setattr(s3, "_TRANSFER", s3.TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))


@pytest.fixture
def recipe() -> Recipe:
    return build_recipe("smoke")


def commit(store: S3Store, files: dict[str, Path], facts: dict[str, Any]) -> Manifest:
    attempt = Attempt(store, FOLDER)
    for name, path in files.items():
        attempt.add(name, path)
    return attempt.commit(facts)


def every_second(methods: str, most: int) -> Callable[[Request], bool]:
    """Chooses every second request with one of these methods, at most ``most``."""
    state = {"seen": 0, "struck": 0}

    def chosen(request: Request) -> bool:
        if request.method not in methods or state["struck"] == most or "probe" in request.path:
            return False
        state["seen"] += 1
        state["struck"] += state["seen"] % 2
        return bool(state["seen"] % 2)

    return chosen


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("kind", PASSING)
def test_commit_survives_temporary_faults(
    behind_proxy: Behind, files: dict[str, Path], manifest_facts: dict[str, Any], tmp_path: Path, kind: str,
    fault: Fault,
) -> None:  # fmt: skip
    answer, methods = PASSING[kind]
    trouble = Trouble(lambda: answer, every_second(methods, BURST))
    store = behind_proxy(trouble)
    manifest = commit(store, files, manifest_facts)
    assert read_manifest(store, FOLDER) == manifest
    artifact = Artifact(store, FOLDER, manifest, tmp_path / "cache")
    assert {name: artifact.path(name).read_bytes() for name in files} == {"small": b"small", "big": BIG}
    assert trouble.injected == BURST
    fault(f"store: {kind}", trouble.injected)
    manifests = [key for key in store.keys("") if key.endswith("manifest.json")]
    assert manifests == [f"{FOLDER}/manifest.json"]
    assert len(list(store.keys(f"{FOLDER}/attempts/"))) == len(files), "no file is stored twice"


@pytest.mark.usefixtures("small_parts")
def test_upload_is_retried_after_connection_resets(
    s3_endpoint: str, bucket: str, aws_environment: pytest.MonkeyPatch, files: dict[str, Path], fault: Fault
) -> None:
    hung_up: list[str] = []

    def hangs_up_now(method: str, path: str) -> bool:
        strikes = method == "PUT" and len(hung_up) < BURST
        hung_up.extend([path] if strikes else [])
        return strikes

    with s3_proxy(s3_endpoint, lambda request, forward: forward(request), hangs_up_now) as address:
        aws_environment.setenv("AWS_ENDPOINT_URL", address)
        S3Store(bucket, "p").upload(files["big"], "big")
    fault("store: connection reset in an upload", len(hung_up))
    assert boto3.client("s3", endpoint_url=s3_endpoint).get_object(Bucket=bucket, Key="p/big")["Body"].read() == BIG


def test_bit_flipped_in_upload_is_refused_and_sent_again(
    behind_proxy: Behind, tmp_path: Path, recipe: Recipe, fault: Fault
) -> None:
    trouble = Trouble(lambda: flips_a_bit_up, every_second("PUT", 2))
    run = f"{behind_proxy(trouble).address}/runs/r"
    manifest = run_stage(FakeStage("download", does=leaves("data")), run, recipe)
    fault("store: flipped bit in an upload", trouble.injected)
    assert trouble.injected == 2
    assert open_run(run).artifact("download", tmp_path).path("result.txt").read_text() == "data"
    assert open_run(run).manifest("download") == manifest


def test_damaged_file_error_says_what_to_delete(
    behind_proxy: Behind, files: dict[str, Path], manifest_facts: dict[str, Any], tmp_path: Path, fault: Fault
) -> None:
    store = behind_proxy(lambda request, forward: forward(request))
    manifest = commit(store, files, manifest_facts)
    store.put(f"{FOLDER}/{manifest.files['small'].key}", b"smalk")
    fault("store: damaged object")
    with pytest.raises(CorruptArtifact) as raised:
        Artifact(store, FOLDER, manifest, tmp_path / "cache").path("small")
    assert f"; delete {store.address}/{FOLDER}/manifest.json to run the stage again" in str(raised.value)


@pytest.mark.parametrize("kind", LASTING)
@pytest.mark.parametrize("moment", ["before the work", "at the commit"])
def test_lasting_fault_raises_a_one_line_error_and_rerun_succeeds(
    behind_proxy: Behind, tmp_path: Path, recipe: Recipe, kind: str, moment: str, fault: Fault
) -> None:
    answer, error = LASTING[kind]
    broken = [moment == "before the work"]
    trouble = Trouble(lambda: answer, lambda request: broken[0])
    run = f"{behind_proxy(lambda request, forward: trouble(request, forward)).address}/runs/r"
    work = leaves("data")

    def then_it_breaks(job: Job) -> Metrics:
        metrics = work(job)
        broken[0] = True
        return metrics

    with pytest.raises(error) as raised:
        run_stage(FakeStage("download", does=then_it_breaks), run, recipe)
    fault(f"store: {kind}", trouble.injected)
    assert trouble.injected
    assert "\n" not in str(raised.value)
    assert type(raised.value) is error
    assert "s3://" in str(raised.value)
    broken[0] = False
    assert open_run(run).record("download") is None
    assert run_stage(FakeStage("download", does=leaves("data")), run, recipe).metrics == {"length": 4}
    assert open_run(run).artifact("download", tmp_path).path("result.txt").read_text() == "data"


def test_refused_download_raises_an_error_with_its_code(
    behind_proxy: Behind, files: dict[str, Path], manifest_facts: dict[str, Any], tmp_path: Path, fault: Fault
) -> None:
    """A download starts with HEAD, whose answer has no error code, so the code is requested separately."""
    answer = [refuses(400, "ExpiredToken")]
    trouble = Trouble(lambda: answer[0], lambda request: request.method in ("GET", "HEAD"))
    store = behind_proxy(trouble)
    manifest = commit(store, files, manifest_facts)
    artifact = Artifact(store, FOLDER, manifest, tmp_path / "cache")
    with pytest.raises(StoreUnavailable, match="ExpiredToken"):
        artifact.path("small")
    answer[0] = refuses(404, "NoSuchBucket")
    with pytest.raises(ConfigError, match="NoSuchBucket"):
        artifact.path("small")
    fault("store: refusal of a HEAD", trouble.injected)


def test_commit_waits_until_the_store_is_back(
    behind_proxy: Behind, recipe: Recipe, aws_environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    fault: Fault,
) -> None:  # fmt: skip
    slept: list[float] = []
    down = [False]
    trouble = Trouble(lambda: refuses(503, "SlowDown"), lambda request: down[0])
    run = f"{behind_proxy(trouble).address}/runs/r"

    def then_it_is_down(job: Job) -> Metrics:
        down[0] = True
        return leaves("data")(job)

    def comes_back(seconds: float) -> None:
        slept.extend([seconds] if seconds else [])  # boto3's own pauses are zero here
        down[0] = len(slept) < 3

    stage = FakeStage("download", does=then_it_is_down)

    aws_environment.setattr(commit_module, "COMMIT_PAUSES", (5, 10, 20, 40))
    aws_environment.setattr("zeshel_tasks.pipeline.commit.time.sleep", comes_back)
    manifest = run_stage(stage, run, recipe)
    fault("store: down at the commit", trouble.injected)
    assert slept == [5, 10, 20]
    assert open_run(run).manifest("download") == manifest
    assert "the work is done but not committed yet, trying again in 5 s" in caplog.text
    assert len(stage.jobs) == 1, "the work is not done twice"


SEEDS = range(12)
MIX = [*(answer for kind, (answer, _) in PASSING.items() if kind != "stall"), flips_a_bit_up]


@pytest.mark.parametrize("conditional_writes", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_stages_survive_a_random_mix_of_faults(
    behind_proxy: Behind, tmp_path: Path, recipe: Recipe, seed: int, conditional_writes: bool, fault: Fault
) -> None:
    generator = random.Random(seed)
    trouble = Trouble(lambda: generator.choice(MIX), lambda request: generator.random() < 0.25)

    def server(request: Request, forward: Forward) -> Answer:
        return trouble(request, forward if conditional_writes else lambda asked: ignores_conditions(asked, forward))

    address = f"{behind_proxy(server).address}/runs/r"
    first = FakeStage("download", does=leaves("data"))
    second = FakeStage("convert", inputs=("download",), does=copies)
    for stage in (first, second):
        for _ in range(20):
            try:
                run_stage(stage, address, recipe)
                break
            except (TryAgain, DataError):  # DataError: three damaged reads in a row, or a lost record
                continue
    fault("store: any of these, at random", trouble.injected)
    trouble._chosen = lambda request: False
    run = open_run(address)
    assert run.artifact("convert", tmp_path).path("result.txt").read_text() == "data, copied"
    for name, content in contents(run):
        assert content in (b"data", b"data, copied"), name


def copies(job: Job) -> Metrics:
    return leaves(job.inputs["download"].path("result.txt").read_text() + ", copied")(job)


def contents(run: Run) -> Iterator[tuple[str, bytes]]:
    """Yields all files of artifacts, including those of attempts that were not committed."""
    for key in run.store.keys("artifacts/"):
        if not key.endswith("manifest.json"):
            yield key, run.store.get(key) or b""
