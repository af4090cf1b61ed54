"""What the tasks that encode large worlds in shards run, and when they need no pod."""

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from tests.support.finished import FACTS, finish_stage
from zeshel_tasks.data.shards import MOST_SHARDS, shard_count, shard_file
from zeshel_tasks.orchestration.shard_commands import MOST_TASKS, CutCommand, EncodeCommand
from zeshel_tasks.orchestration.task_command import NotDone
from zeshel_tasks.pipeline.job import Target
from zeshel_tasks.pipeline.world_shards import cut_target, shard_target
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Attempt, Manifest, Run, open_run

ENTITIES = {"alpha": 1500, "beta": 40}
PARAMS = {"preset": "recommended", "sharded_from": 1400, "eval_biencoder.top_k": 8}
SHARDS = 8


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that has converted a data set with a large world."""
    run = open_run(f"{tmp_path}/store/runs/r1")
    documents = tmp_path / "alpha.json"
    documents.write_text("{}")
    commit(run, Target("download", None, {}, {}), {f"documents/{world}.json": documents for world in ENTITIES},
           {"documents_by_world": ENTITIES}, record=True)  # fmt: skip
    finish_stage(run, "convert", "c", {"worlds": {"train": {"alpha": {}, "beta": {}}, "test": {"alpha": {}}}})
    finish_stage(run, "train-biencoder", "b")
    return run


@pytest.fixture
def context() -> dict[str, Any]:
    return {"run_id": "r1", "params": PARAMS}


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"{tmp_path}/store"


def test_commands_get_the_settings_of_the_evaluation(context: dict[str, Any], store: str) -> None:
    cut = CutCommand(store).arguments(context)
    assert cut[0] == "cut-worlds"
    assert {f"--run={store}/runs/r1", "--preset=recommended", "--sharded_from=1400", "--top_k=8"} <= set(cut)
    assert not any(argument.startswith("--split") for argument in cut)
    encode = EncodeCommand(store).for_shards(["alpha/2", "alpha/3"])
    assert encode.arguments(context) == ["encode-shard", *cut[1:], "--shard=alpha/2", "--shard=alpha/3"]
    assert encode.label == "alpha/2, alpha/3"


def test_large_worlds_need_a_pod_until_they_are_cut(run: Run, context: dict[str, Any], store: str) -> None:
    command = CutCommand(store)
    assert command.reused(context) is None
    with pytest.raises(NotDone, match=f"alpha is not cut into {SHARDS} shards"):
        command.outcome(context, ended=True)
    cut(run)
    done = command.reused(context)
    assert done is not None
    assert done.value == [[f"alpha/{shard}"] for shard in range(SHARDS)]


def test_without_large_worlds_there_is_nothing_to_cut_or_encode(run: Run, store: str) -> None:
    with pytest.raises(AirflowSkipException, match="no world has more than 250,000 entities"):
        CutCommand(store).reused({"run_id": "r1", "params": {"preset": "recommended"}})


def test_shard_needs_a_pod_until_it_is_encoded(run: Run, context: dict[str, Any], store: str) -> None:
    made, command = cut(run), EncodeCommand(store).for_shards(["alpha/2"])
    assert command.reused(context) is None
    with pytest.raises(NotDone, match="the shard alpha/2 is not encoded at"):
        command.outcome(context, ended=True)
    config = build_recipe("recommended", {"sharded_from": 1400}).eval_biencoder
    commit(run, shard_target(made, run.finished("train-biencoder"), 2, config), {}, {"entities": 190})
    done = command.reused(context)
    assert done is not None
    assert done.value == {"shards": ["alpha/2"], "entities": 190}


@pytest.mark.parametrize(
    ("entities", "shards"),
    [(250_000, 1), (250_001, 8), (500_000, 8), (500_001, 16), (10_000_000, 256), (100_000_000, MOST_SHARDS)],
)
def test_number_of_shards_doubles_with_the_entities(entities: int, shards: int) -> None:
    assert shard_count(entities, 250_000) == shards <= MOST_TASKS


def cut(run: Run) -> Manifest:
    empty = Path(run.store.address) / "empty"
    files = {}
    for shard in range(SHARDS):
        files[shard_file(shard)] = empty.with_name(f"shard-{shard}")
        files[shard_file(shard)].write_text(f"shard {shard}")
    return commit(run, cut_target(run.finished("download"), "alpha", SHARDS), files, {})


def commit(
    run: Run, target: Target, files: dict[str, Path], metrics: dict[str, Any], *, record: bool = False
) -> Manifest:
    attempt = Attempt(run.store, target.folder)
    for name, path in files.items():
        attempt.add(name, path)
    manifest = attempt.commit(FACTS | {"stage": target.stage, "fingerprint": target.fingerprint, "metrics": metrics})
    if record:
        run.write_record(target.stage, manifest, reused=False, wall_seconds=1)
    return manifest
