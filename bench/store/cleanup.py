"""Measures a cleanup of a bucket: python -m bench.store.cleanup s3://bucket/prefix [--artifacts 500]

Boto3's own settings name the server. Half of the artifacts are removed, and a run refers to the others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from bench.store.__main__ import FACTS
from zeshel_tasks.store import Attempt, Run, Store, artifact_folder, open_store
from zeshel_tasks.store.garbage import clean_up
from zeshel_tasks.store.s3 import S3Store

_FILES = 4


def main() -> None:
    """Print the seconds of a cleanup with and without deleting many objects at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--artifacts", type=int, default=500)
    options = parser.parse_args()
    for way in ("one by one", "at once"):
        store = open_store(f"{options.store}/{way.replace(' ', '-')}")
        fill(store, options.artifacts)
        with patch.object(S3Store, "delete_all", _one_by_one) if way == "one by one" else nullcontext():
            begun = time.monotonic()
            done = clean_up(store, datetime.now(UTC), roots=lambda _: [])
            seconds = time.monotonic() - begun
        print(f"{way}: {len(done.removed)} artifacts removed, {done.kept} kept, {seconds:.1f} s", flush=True)


def fill(store: Store, artifacts: int) -> None:
    """Commits artifacts with a few files each. Every second one is an artifact of a run."""

    def commit(number: int) -> None:
        attempt = Attempt(store, artifact_folder("bench", f"{number:064}"))
        for name in range(_FILES):
            attempt.add(str(name), path)
        manifest = attempt.commit({**FACTS, "fingerprint": f"{number:064}"})
        if number % 2:
            Run(store, f"r{number}").write_record("bench", manifest, reused=False, wall_seconds=1)

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(8) as pool:
        path = Path(folder) / "file"
        path.write_bytes(b"x" * 1000)
        list(pool.map(commit, range(artifacts)))


def _one_by_one(store: S3Store, keys: Sequence[str]) -> None:
    for key in keys:
        store.delete(key)


if __name__ == "__main__":
    main()
