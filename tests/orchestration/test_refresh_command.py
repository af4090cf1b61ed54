"""The task after promote: when knowledge bases are encoded again, and when the task is done."""

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from tests.support.finished import finish_stage
from zeshel_tasks.champion.champions import KEY, Champion, read_champions
from zeshel_tasks.knowledge_base.head import Encoding, KnowledgeBase, Segment
from zeshel_tasks.orchestration.refresh_command import RefreshCommand
from zeshel_tasks.orchestration.task_command import NotDone
from zeshel_tasks.store import Run, artifact_folder, open_run

NEW, OLD = artifact_folder("train-biencoder", "a" * 64), artifact_folder("train-biencoder", "b" * 64)
OWN, RIVAL = artifact_folder("fuse", "f" * 64), artifact_folder("fuse", "e" * 64)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that has finished ``fuse``."""
    run = open_run(f"{tmp_path}/runs/r1")
    finish_stage(run, "fuse", "f" * 64)
    return run


def promote(run: Run, fusion: str) -> None:
    champion = Champion(run="r1", biencoder=NEW, crossencoder="c", fusion=fusion, promoted_at="y", decision={})
    assert read_champions(run.store).promote(champion)


def encode(run: Run, name: str, biencoder: str) -> None:
    encoding = Encoding(biencoder=biencoder, candidate_form="blink_eval", precision="fp32", vector_dtype="float32")
    base = KnowledgeBase.read(run.store, name)
    assert base.replace(encoding, (Segment(artifact="a", entities=1),), 1, "d")


def context(**params: Any) -> dict[str, Any]:
    return {"run_id": "r1", "params": {"preset": "smoke", **params}}


def command(run: Run) -> RefreshCommand:
    return RefreshCommand(run.store.address)


def test_bases_of_another_biencoder_need_a_pod_and_are_then_done(run: Run) -> None:
    promote(run, OWN)
    encode(run, "people", NEW)
    encode(run, "products", OLD)
    assert command(run).reused(context()) is None
    with pytest.raises(NotDone, match="the knowledge base products has vectors of another bi-encoder"):
        command(run).outcome(context(), ended=True)
    encode(run, "products", NEW)
    for outcome in (command(run).outcome(context(), ended=True), command(run).reused(context())):
        assert outcome is not None
        assert outcome.value == {"knowledge_bases": ["people", "products"]}
        assert outcome.extra["run"] == run.address
    assert command(run).arguments(context()) == ["kb", "refresh", f"--store={run.store.address}", "--all"]


@pytest.mark.parametrize(
    ("champion", "bases", "params", "reason"),
    [
        (OWN, [], {}, "no knowledge bases"),
        (RIVAL, ["products"], {}, "not the champion"),
        (None, ["products"], {}, "not the champion"),
        (OWN, ["products"], {"refresh": False}, "refresh is false"),
    ],
)
def test_task_is_skipped_if_there_is_nothing_to_refresh(
    run: Run, champion: str | None, bases: list[str], params: dict[str, Any], reason: str
) -> None:
    if champion is not None:
        promote(run, champion)
    for name in bases:
        encode(run, name, OLD)
    with pytest.raises(AirflowSkipException, match=reason):
        command(run).reused(context(**params))


@pytest.mark.parametrize("broken", [KEY, "kb/products/head.json"])
def test_what_airflow_cannot_read_is_left_to_the_command(run: Run, broken: str) -> None:
    promote(run, OWN)
    encode(run, "products", OLD)
    run.store.put(broken, b"{")
    assert command(run).reused(context()) is None


def test_another_champion_in_the_meantime_refreshes_in_its_own_run(run: Run) -> None:
    promote(run, RIVAL)
    encode(run, "products", OLD)
    assert command(run).outcome(context(), ended=True).value == {"knowledge_bases": ["products"]}
