"""Measures the memory of a process that writes a large artifact to an S3 store and fetches it again.

    python -m bench.store [--gigabytes 10] [--scratch DIRECTORY]

It needs twice the size on the disk. The S3 server runs in a separate process, so that only the client counts.
Exits with 1 if the memory above the baseline exceeds the limit.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from zeshel_tasks.compute.machine import peak_memory_mb, reset_peak_memory
from zeshel_tasks.store import Artifact, Attempt, Manifest
from zeshel_tasks.store.s3 import S3Store

LIMIT_MB = 256 * 2**20 / 1e6
_FOLDER = "artifacts/bench/large"
FACTS: dict[str, Any] = {
    "stage": "bench",
    "split": None,
    "fingerprint": "large",
    "package_version": "bench",
    "config": {},
    "inputs": {},
    "metrics": {},
    "started_at": "",
    "finished_at": "",
    "wall_seconds": 0.0,
    "peak_memory_mb": 0.0,
    "peak_gpu_memory_mb": None,
    "device": "cpu",
    "versions": {},
    "hardware": {},
}


def main() -> int:
    """Print the figures. Return 1 if they exceed the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--scratch", type=Path, help="directory for temporary files; default: the system's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="store-memory-", dir=options.scratch) as folder:
        above = memory_above_baseline(int(options.gigabytes * 1e9), Path(folder))
    highest = max(above.values())
    print(f"limit {LIMIT_MB:.0f} MB, highest {highest:.0f} MB: {highest / LIMIT_MB:.2f} of it")
    return int(highest > LIMIT_MB)


def memory_above_baseline(size: int, folder: Path) -> dict[str, float]:
    """Return the peak resident memory above that of an idle client, in MB (10^6 bytes), by action."""
    with _disk_s3_server(folder):
        store = S3Store("bucket", "store")
        _commit(store, _written(folder / "small", 1), f"{_FOLDER}-warm-up")
        source = _written(folder / "source", size)
        baseline = psutil.Process().memory_info().rss / 1e6
        print(f"idle client: {baseline:.0f} MB", flush=True)
        with _measured(f"put {size / 1e9:.2f} GB", baseline) as put:
            manifest = _commit(store, source, _FOLDER)
        source.unlink()
        with _measured(f"fetch {size / 1e9:.2f} GB", baseline) as fetched:
            Artifact(store, _FOLDER, manifest, folder / "cache").path("file")
    return {"put": put[0], "fetch": fetched[0]}


def _commit(store: S3Store, path: Path, folder: str) -> Manifest:
    attempt = Attempt(store, folder)
    attempt.add("file", path)
    return attempt.commit(FACTS)


def _written(path: Path, size: int) -> Path:
    """Write a file of random blocks, of which no two neighbours are equal."""
    blocks = [random.Random(number).randbytes(1 << 20) for number in range(3)]
    with path.open("wb") as file:
        for number in range(size >> 20):
            file.write(blocks[number % 3])
        file.write(blocks[0][: size % (1 << 20)])
    return path


@contextmanager
def _measured(what: str, baseline: float) -> Iterator[list[float]]:
    """Measure the peak resident memory above the baseline, in MB, and append it to the list."""
    above: list[float] = []
    reset_peak_memory()
    started = time.monotonic()
    yield above
    above.append(peak_memory_mb() - baseline)
    seconds = time.monotonic() - started
    print(f"{what}: peak {above[0]:.0f} MB above the idle client, {seconds:.0f} s", flush=True)


@contextmanager
def _disk_s3_server(folder: Path) -> Iterator[None]:
    (folder / "server").mkdir()
    script = Path(__file__).with_name("disk_s3_server.py")
    with subprocess.Popen([sys.executable, script, folder / "server"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            os.environ.update(
                AWS_ENDPOINT_URL=server.stdout.readline().strip(),
                AWS_ACCESS_KEY_ID="bench",
                AWS_SECRET_ACCESS_KEY="bench",
                AWS_DEFAULT_REGION="us-east-1",
                AWS_EC2_METADATA_DISABLED="true",
                NO_PROXY="127.0.0.1",
            )
            yield
        finally:
            server.kill()


if __name__ == "__main__":
    sys.exit(main())
