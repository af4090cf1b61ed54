"""``zeshel promote``, ``rollback`` and ``gc`` as processes of their own, on a real S3 server."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.store.cleanups import folder_of, is_whole
from tests.store.s3_proxy import Answer, Forward, Request, s3_proxy
from tests.support.s3_servers.chosen import needs_processes
from zeshel_tasks.champion.champions import KEY, read_champions
from zeshel_tasks.champion.metrics import ComparedChampion, ComparedGroup, ComparisonMetrics
from zeshel_tasks.errors import EXIT_OK, EXIT_TRY_AGAIN
from zeshel_tasks.store import Attempt, Manifest, Run, Store, artifact_folder
from zeshel_tasks.store.lock import LOCK
from zeshel_tasks.store.s3 import S3Store

pytestmark = needs_processes

Compare = Callable[..., Run]
# Objects in a bucket cannot be made older, so the shortest age of `--older-than` is the only thing that differs here.
_GC_OF_ANY_AGE = """
import sys
from datetime import timedelta
from zeshel_tasks import cli
from zeshel_tasks.commands import gc
gc._SHORTEST = timedelta()
sys.exit(cli.main(["gc", "--older-than", "0d", *sys.argv[1:]]))
"""


def started(*command: str, endpoint: str | None = None) -> subprocess.Popen[str]:
    """Starts Python with some arguments, and with another endpoint if there is one."""
    environment = os.environ | ({} if endpoint is None else {"AWS_ENDPOINT_URL": endpoint})
    return subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Returns the exit code of a process and everything that it printed."""
    printed, _ = process.communicate(timeout=240)
    return process.returncode, printed


def promote(run: Run) -> list[str]:
    return ["-m", "zeshel_tasks", "promote", "--run", run.address]


def rollback(store: Store) -> list[str]:
    return ["-m", "zeshel_tasks", "rollback", "--store", store.address, "--reason", "odd links"]


def gc(store: Store, *flags: str) -> list[str]:
    return ["-c", _GC_OF_ANY_AGE, "--store", store.address, *flags]


@pytest.fixture
def store(bucket: str) -> S3Store:
    return S3Store(bucket, "some/prefix")


@pytest.fixture
def compared(store: S3Store, manifest_facts: dict[str, Any], tmp_path: Path) -> Compare:
    """A function that makes a run whose model is better than another run's, or the first one."""

    def artifact(run: Run, stage: str, metrics: dict[str, Any]) -> None:
        path = tmp_path / "work"
        path.write_text(f"{stage} of {run.run_id}")
        fingerprint = f"{run.run_id:x<64}"
        attempt = Attempt(store, artifact_folder(stage, fingerprint))
        attempt.add("result", path)
        own = {"stage": stage, "fingerprint": fingerprint, "metrics": metrics, "inputs": {}, "uses": ()}
        run.write_record(stage, attempt.commit({**manifest_facts, **own}), reused=False, wall_seconds=1)

    def make(name: str, champion: Run | None = None) -> Run:
        run = Run(store, name)
        metrics = ComparisonMetrics(unnormalized_accuracy=0.5, champion=None)
        if champion is not None:
            model, fused = champion.record("train-crossencoder"), champion.record("fuse")
            assert model is not None
            assert fused is not None
            figures = ComparedGroup(
                mentions=1000, new=0.5, champion=0.4, difference=0.1, interval=(0.05, 0.15), won=100, lost=0,
                may_be_chance=False,
            )  # fmt: skip
            metrics = ComparisonMetrics(
                unnormalized_accuracy=0.5,
                champion=ComparedChampion(
                    run=champion.run_id, crossencoder=model.artifact, fusion=fused.artifact, promoted_at="2026-11-24"
                ),
                overall=figures,
                worlds={"elves": figures},
            )
        for stage in ("train-biencoder", "fit-retrieval", "train-crossencoder", "fuse", "calibrate"):
            artifact(run, stage, {})
        artifact(run, "compare", metrics.dump())
        return run

    return make


def champions(store: Store) -> tuple[list[str], list[str]]:
    """Returns the runs of the champion and of the champions before it, and those that were rolled back."""
    found = read_champions(store)
    known = [] if found.champion is None else [found.champion, *found.earlier]
    return [champion.run for champion in known], [each.champion.run for each in found.all_rolled_back]


@contextmanager
def first_writes_at_once(endpoint: str, key: str) -> Iterator[str]:
    """Runs a proxy that passes the first two writes of an object on when both have come, and yields its address.

    The second one waits for another second, in which the first writer may find that its own has succeeded. Nothing is
    deleted before that.
    """
    together, writes, written = threading.Barrier(2), itertools.count(), threading.Event()

    def answer(request: Request, forward: Forward) -> Answer:
        if request.method == "PUT" and request.path.endswith(f"/{key}") and (number := next(writes)) < 2:
            together.wait(timeout=120)
            time.sleep(number)
            answer = forward(request)
            if number == 1:
                written.set()
            return answer
        if request.method in ("DELETE", "POST") and "/probe/" not in request.path:
            written.wait(timeout=120)
        return forward(request)

    with s3_proxy(endpoint, answer) as address:
        yield address


def test_champion_changes_twice_and_back(store: S3Store, compared: Compare) -> None:
    monday = compared("monday")
    tuesday = compared("tuesday", monday)
    for run in (monday, tuesday, monday):
        code, printed = ended(started(*promote(run)))
        assert code == EXIT_OK, printed
    assert champions(store) == (["tuesday", "monday"], [])
    code, printed = ended(started(*rollback(store)))
    assert code == EXIT_OK
    assert printed.endswith("run monday is the champion again, instead of run tuesday\n")
    code, printed = ended(started(*promote(tuesday)))
    assert code == EXIT_OK
    assert "not promoted: this model was rolled back" in printed
    assert champions(store) == (["monday"], ["tuesday"])


@pytest.mark.parametrize("is_first", [True, False], ids=["the first champion", "a later champion"])
def test_one_of_two_promotions_at_once_wins(
    store: S3Store, compared: Compare, s3_endpoint: str, is_first: bool
) -> None:
    before = None if is_first else compared("before")
    if before is not None:
        assert ended(started(*promote(before)))[0] == EXIT_OK
    rivals = [compared(name, before) for name in ("one", "other")]
    with first_writes_at_once(s3_endpoint, KEY) as proxy:
        codes = [ended(process)[0] for process in [started(*promote(run), endpoint=proxy) for run in rivals]]
    assert sorted(codes) == [EXIT_OK, EXIT_TRY_AGAIN]
    winner, loser = (rivals[codes.index(code)] for code in (EXIT_OK, EXIT_TRY_AGAIN))
    known = [winner.run_id] if before is None else [winner.run_id, before.run_id]
    assert champions(store) == (known, [])
    code, printed = ended(started(*promote(loser)))
    assert (code, "not promoted: it was compared with another champion" in printed) == (EXIT_OK, True), printed
    assert champions(store) == (known, [])


def test_promotion_or_rollback_at_once_wins(store: S3Store, compared: Compare, s3_endpoint: str) -> None:
    monday = compared("monday")
    tuesday = compared("tuesday", monday)
    for run in (monday, tuesday):
        assert ended(started(*promote(run)))[0] == EXIT_OK
    wednesday = compared("wednesday", tuesday)
    with first_writes_at_once(s3_endpoint, KEY) as proxy:
        processes = [started(*command, endpoint=proxy) for command in (promote(wednesday), rollback(store))]
        codes = tuple(ended(process)[0] for process in processes)
    expected = {
        (EXIT_OK, EXIT_TRY_AGAIN): (["wednesday", "tuesday", "monday"], []),
        (EXIT_TRY_AGAIN, EXIT_OK): (["monday"], ["tuesday"]),
    }
    assert champions(store) == expected[codes]


def test_gc_removes_what_neither_a_run_nor_a_champion_needs(
    store: S3Store, compared: Compare, bucket: str, tmp_path: Path
) -> None:
    kept, gone = compared("kept"), compared("gone")
    assert ended(started(*promote(kept)))[0] == EXIT_OK
    model = [
        kept.manifest(stage)
        for stage in ("train-biencoder", "fit-retrieval", "train-crossencoder", "fuse", "calibrate")
    ]
    for key in list(store.keys("runs/")):
        store.delete(key)
    place = {"Bucket": bucket, "Key": "some/prefix/artifacts/train-biencoder/f/attempts/x/model"}
    boto3.client("s3").create_multipart_upload(**place)
    Run(store, "later").write_use(_manifest(model[0]), reused=True, wall_seconds=0)
    before = set(store.keys(""))
    code, said = ended(started(*gc(store, "--dry-run")))
    assert (code, set(store.keys(""))) == (EXIT_OK, before), said
    code, printed = ended(started(*gc(store)))
    assert (code, printed.endswith(said.replace("would remove", "removed"))) == (EXIT_OK, True), printed
    assert {"/".join(key.split("/")[:3]) for key in store.keys("artifacts/")} == {
        folder_of(_manifest(found)) for found in model
    }
    assert all(is_whole(store, _manifest(found), tmp_path / "cache") for found in model)
    assert list(store.unfinished("artifacts/")) == []
    assert gone.record("compare") is None
    assert "removed 0.0 kB; " in ended(started(*gc(store)))[1]


def test_one_of_two_cleanups_at_once_ends(store: S3Store, compared: Compare, s3_endpoint: str) -> None:
    compared("gone")
    for key in list(store.keys("runs/")):
        store.delete(key)
    with first_writes_at_once(s3_endpoint, LOCK) as proxy:
        processes = [started(*gc(store), endpoint=proxy) for _ in range(2)]
        codes = [ended(process)[0] for process in processes]
    assert sorted(codes) == [EXIT_OK, EXIT_TRY_AGAIN]
    assert list(store.keys("")) == []


def _manifest(found: Manifest | None) -> Manifest:
    assert found is not None
    return found
