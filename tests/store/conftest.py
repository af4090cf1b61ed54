"""Fixtures: stores of each kind, and S3 settings that a test can change."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.store.cleanups import MakeArtifact, folder_of
from tests.store.memory import MemoryStore
from tests.store.s3_proxy import Answer, Forward, Request, s3_proxy
from tests.store.wrapped import AgedStore
from tests.support.s3_servers import chosen
from zeshel_tasks.store import Attempt, LocalStore, Manifest, Store, artifact_folder, s3
from zeshel_tasks.store.s3 import S3Store
from zeshel_tasks.store.s3_client import s3_client


@pytest.fixture(autouse=True)
def _writers_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers that a test starts are later than one another by less than those of several machines."""
    monkeypatch.setattr(s3, "_SECONDS_TO_WRITE", 0.3 if chosen.NAME == "swift" else 0)


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind, or of the kind that an indirect parameter selects."""
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    if request.param == "memory":
        return MemoryStore()
    return S3Store(request.getfixturevalue("bucket"), "some/prefix")


@pytest.fixture
def aws_environment(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Sets environment variables for the next S3 client. It does not retry, so that errors come at once."""

    def forget_clients() -> None:
        boto3.DEFAULT_SESSION = None
        s3_client.cache_clear()

    forget_clients()
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    yield monkeypatch
    forget_clients()


@pytest.fixture
def behind_proxy(
    s3_endpoint: str, bucket: str, aws_environment: pytest.MonkeyPatch
) -> Iterator[Callable[[Callable[[Request, Forward], Answer]], S3Store]]:
    """Puts a proxy between a store and its server. The test decides its answers."""
    with ExitStack() as proxies:

        def make(answer: Callable[[Request, Forward], Answer]) -> S3Store:
            aws_environment.setenv("AWS_ENDPOINT_URL", proxies.enter_context(s3_proxy(s3_endpoint, answer)))
            return S3Store(bucket, "some/prefix")

        yield make


@pytest.fixture(scope="session")
def manifest_facts() -> dict[str, Any]:
    """All fields of a manifest except its files."""
    return {
        "stage": "train-biencoder",
        "split": None,
        "fingerprint": "f" * 64,
        "package_version": "1.2.3",
        "config": {"learning_rate": 1e-5, "seed": 7},
        "inputs": {"convert": "c" * 64},
        "uses": (f"artifacts/candidate-encodings/{'e' * 64}",),
        "metrics": {"valid_accuracy": 0.5, "epochs": [{"epoch": 1}]},
        "started_at": "2026-01-02T03:04:05+00:00",
        "finished_at": "2026-01-02T03:05:05+00:00",
        "wall_seconds": 60.125,
        "peak_memory_mb": 512.5,
        "peak_gpu_memory_mb": None,
        "device": "cpu",
        "versions": {"python": "3.11.9"},
        "hardware": {"cpus": 2, "gpus": []},
    }


@pytest.fixture
def aged(store: Store) -> AgedStore:
    return AgedStore(store)


@pytest.fixture
def make_artifact(tmp_path: Path, manifest_facts: dict[str, Any]) -> MakeArtifact:
    """A function that commits an artifact that uses others."""

    def make(store: Store, fingerprint: str, *uses: Manifest, stage: str = "train-biencoder") -> Manifest:
        path = tmp_path / "work"
        path.unlink(missing_ok=True)  # the local store has a hard link to it
        path.write_text(f"result of {stage} {fingerprint}")
        attempt = Attempt(store, artifact_folder(stage, fingerprint))
        attempt.add("result", path)
        attempt.add("folder/other", path)
        folders = [folder_of(used) for used in uses]
        return attempt.commit({**manifest_facts, "stage": stage, "fingerprint": fingerprint, "uses": folders})

    return make
