"""Fixtures that several folders of tests share."""

import atexit
import logging
import os
import shutil
import signal
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from uuid import uuid4

import boto3
import botocore.session
import pytest
from hypothesis import settings
from psutil import disk_usage, virtual_memory

from tests.support.data_set_files import DataSetFiles
from tests.support.s3_servers import chosen
from tests.support.s3_servers.processes import ACCESS_KEY, SECRET_KEY
from zeshel_tasks.commands.pipeline import run_pipeline
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Run, open_run
from zeshel_tasks.store.s3_client import s3_client

pytest_plugins = [
    "tests.support.collecting",
    "tests.support.faults",
    "tests.support.forked_workers",
    "tests.support.scheduling",
    "tests.support.whole_airflow",
]

# torch reads this at its first import, also in child processes. Models of a few thousand weights gain nothing from a
# second thread. If other work occupies a core, each operation waits for it, and a test of 3 s takes 60 s.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Airflow reads these at its first import. Each test process has its own folder, so that workers do not share one.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

# Tests change the environment of boto3, so they begin new sessions, each of which would parse what boto3 knows of S3.
botocore.session.create_loader = cache(botocore.session.create_loader)

# Keep pytest's temporary folders in memory if there is space, because a commit to a store waits for the disk twice.
SHARED_MEMORY, ROOM = Path("/dev/shm"), 8 << 30
if SHARED_MEMORY.is_dir() and min(disk_usage(str(SHARED_MEMORY)).free, virtual_memory().available) > ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(SHARED_MEMORY))

GOLDEN = Path(__file__).parent / "golden"

# Use the same examples each time. `HYPOTHESIS_PROFILE=hunt` searches for many new ones.
settings.register_profile("usual", max_examples=50, derandomize=True, deadline=None, database=None)
settings.register_profile("hunt", max_examples=5000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))


@pytest.fixture(autouse=True)
def _no_precision_of_another_test() -> Iterator[None]:
    """Resets accelerate, which keeps device and precision (bf16) for the whole process."""
    yield
    if (state := sys.modules.get("accelerate.state")) is not None:
        state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def _logs_and_signals_of_the_tests() -> Iterator[None]:
    """``cli.main`` configures the logs of its process and handles SIGTERM, which would outlast the test."""
    root = logging.getLogger()
    handlers, level, on_sigterm = root.handlers[:], root.level, signal.getsignal(signal.SIGTERM)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    signal.signal(signal.SIGTERM, on_sigterm)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of BLINK's reference numbers; see tests/golden/README.md."""
    return GOLDEN


@pytest.fixture(scope="session")
def raw_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden data set as an archive in ZESHEL's format."""
    path = tmp_path_factory.mktemp("archive") / "zeshel.tar.bz2"
    with tarfile.open(path, "w:bz2") as archive:
        archive.add(GOLDEN / "raw", "zeshel")
    return path


@pytest.fixture
def data_set(tmp_path: Path) -> DataSetFiles:
    """A small data set that a test can break in one place."""
    return DataSetFiles(tmp_path / "zeshel")


@pytest.fixture(scope="session")
def small_recipe(raw_archive: Path) -> Recipe:
    """The whole recipe on the golden data set in seconds, with a ``top_k`` above the number of a world's entities."""
    overrides = {
        "source": str(raw_archive),
        "bert_model": str(GOLDEN / "bert"),
        "max_mentions_per_world": 6,
        "max_context_length": 32,
        "max_cand_length": 32,
        "max_seq_length": 64,
        "num_train_epochs": 1,
        "train_biencoder.train_batch_size": 8,
        "top_k": 100,
    }
    return build_recipe("smoke", overrides)


@pytest.fixture(scope="session")
def finished_run(small_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of :func:`small_recipe` with all stages done, in a local store."""
    address = str(tmp_path_factory.mktemp("finished") / "store" / "runs" / "first")
    run_pipeline(address, small_recipe)
    return open_run(address)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser. Without one, the tests are skipped on a developer's machine and fail in continuous integration."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("expected chromium on the machine that decides what is merged, got none")
        pytest.skip("no chromium on this machine")
    return found


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an S3 server on a free local port; ``boto3.client("s3")`` without arguments talks to it.

    The server is moto, or the one that ``S3_SERVER`` names.
    """
    with chosen.running(tmp_path_factory.mktemp("s3")) as address, pytest.MonkeyPatch.context() as environment:
        for name, value in _aws_environment(address).items():
            environment.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            environment.delenv(name, raising=False)
        # Both keep the environment of their first use.
        boto3.DEFAULT_SESSION = None
        s3_client.cache_clear()
        yield address
    boto3.DEFAULT_SESSION = None
    s3_client.cache_clear()


@pytest.fixture
def bucket(s3_endpoint: str) -> str:
    """Name of a fresh, empty bucket."""
    name = f"test-{uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


def _aws_environment(address: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
