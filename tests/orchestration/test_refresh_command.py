"""The task after promote: when knowledge bases are encoded again, and when the task is done."""

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from tests.support.finished import FACTS, finish_stage
from zeshel_tasks.champion.champions import KEY, Champion, read_champions
from zeshel_tasks.knowledge_base.head import Encoding, KnowledgeBase, Segment, changes_folder
from zeshel_tasks.orchestration.refresh_command import PublishRefreshed, RefreshCommand
from zeshel_tasks.orchestration.segment_commands import FOR_CHAMPION, FOR_LINKS, EncodeSegments
from zeshel_tasks.orchestration.task_command import NotDone
from zeshel_tasks.pipeline.world_shards import CUT
from zeshel_tasks.store import Attempt, Run, artifact_folder, open_run

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


def publish(run: Run) -> PublishRefreshed:
    return PublishRefreshed(run.store.address)


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
        assert outcome.value == [], "there is no segment to encode"
    for outcome in (publish(run).outcome(context(), ended=True), publish(run).reused(context())):
        assert outcome is not None
        assert outcome.value == {"knowledge_bases": ["people", "products"]}
        assert outcome.extra["run"] == run.address
    arguments = ["kb", "refresh", f"--store={run.store.address}", "--all", "--record=champion-r1"]
    assert command(run).arguments(context(sharded_from=600)) == [*arguments, "--sharded_from=600"]
    assert publish(run).arguments(context()) == arguments


def test_large_bases_are_encoded_by_a_task_for_each_segment(run: Run) -> None:
    promote(run, OWN)
    encode(run, "people", NEW)
    encode(run, "products", OLD)
    cut(run, "products", OLD, "champion-r1")
    with pytest.raises(NotDone, match="products has vectors of another bi-encoder"):
        command(run).outcome(context(), ended=True)
    cut(run, "products", NEW, "champion-r1")
    listed = command(run).reused(context(sharded_from=29_000))
    assert listed is not None
    assert listed.value == [["products/0"], ["products/1"]]
    tasks = [EncodeSegments(run.store.address, purpose=FOR_CHAMPION).for_shards(names) for names in listed.value]
    assert tasks[1].label == "products/1"
    assert tasks[1].arguments(context(device="cpu")) == [
        "kb", "encode-segment", f"--store={run.store.address}", "--record=champion-r1", "--device=cpu",
        "--segment=products/1",
    ]  # fmt: skip
    assert tasks[1].reused(context()) is None
    with pytest.raises(NotDone, match="the segment products/1 is not encoded at"):
        tasks[1].outcome(context(), ended=True)
    Attempt(run.store, segment_folder(1)).commit(FACTS | {"stage": "s", "fingerprint": "1", "metrics": {"entities": 7}})
    done = tasks[1].reused(context())
    assert done is not None
    assert done.value == {"segments": ["products/1"], "entities": 7}
    assert tasks[0].reused(context()) is None
    other = EncodeSegments(run.store.address, purpose=FOR_LINKS).for_shards(["products/1"])
    assert other.reused(context()) is None, "a run of another DAG may have the same id"
    assert publish(run).reused(context()) is None
    encode(run, "products", NEW)
    assert publish(run).reused(context()) is not None


def segment_folder(number: int) -> str:
    return artifact_folder("knowledge-base", f"{number}" * 64)


def cut(run: Run, name: str, biencoder: str, record: str) -> None:
    """Records that a change has cut a knowledge base into two segments."""
    encoding = {"biencoder": biencoder, "candidate_form": "blink_eval", "precision": "fp32", "vector_dtype": "float32"}
    config = {"segments": [segment_folder(0), segment_folder(1)], "encoding": encoding}
    attempt = Attempt(run.store, artifact_folder(CUT, biencoder[-64:]))
    made = attempt.commit(
        FACTS | {"stage": CUT, "fingerprint": biencoder[-64:], "config": config, "metrics": {"entities": 30_000}}
    )
    Run(run.store, record, changes_folder(name)).write_record(CUT, made, reused=False, wall_seconds=1)


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
    for task in (command(run), publish(run)):
        with pytest.raises(AirflowSkipException, match=reason):
            task.reused(context(**params))


@pytest.mark.parametrize("broken", [KEY, "kb/products/head.json"])
def test_what_airflow_cannot_read_is_left_to_the_command(run: Run, broken: str) -> None:
    promote(run, OWN)
    encode(run, "products", OLD)
    run.store.put(broken, b"{")
    assert command(run).reused(context()) is None


def test_another_champion_in_the_meantime_refreshes_in_its_own_run(run: Run) -> None:
    promote(run, RIVAL)
    encode(run, "products", OLD)
    assert command(run).outcome(context(), ended=True).value == []
    assert publish(run).outcome(context(), ended=True).value == {"knowledge_bases": ["products"]}
