"""The task ``knowledge-base`` of ``zeshel_link``: for which models it encodes a knowledge base again."""

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from tests.orchestration.test_refresh_command import NEW, OLD, cut, encode
from tests.support.finished import finish_stage
from zeshel_tasks.champion.champions import Champion, read_champions
from zeshel_tasks.orchestration.knowledge_base_commands import KnowledgeBaseCommand, PublishCommand
from zeshel_tasks.orchestration.task_command import Outcome, finish
from zeshel_tasks.store import Run, open_run

MODELS = {
    biencoder: Champion(run=run, biencoder=biencoder, crossencoder=run, promoted_at="y", decision={})
    for run, biencoder in (("r0", OLD), ("r1", NEW))
}
DONE, PUBLISHED = Outcome([], {}), Outcome({"kb": "products"}, {})


class TaskInstance:
    """A task instance whose upstream task has chosen models."""

    def __init__(self, chosen: dict[str, str]) -> None:
        self._chosen = chosen

    def xcom_pull(self, **_: Any) -> dict[str, str]:
        """Returns the XCom of the task ``models``."""
        return self._chosen


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of a store with the champion ``NEW``, whose own bi-encoder is ``OLD``, the one of the earlier champion."""
    run = open_run(f"{tmp_path}/runs/r0")
    for champion in MODELS.values():
        assert read_champions(run.store).promote(champion)
    finish_stage(run, "train-biencoder", "b" * 64)
    return run


def command(run: Run) -> KnowledgeBaseCommand:
    return KnowledgeBaseCommand(run.store.address)


def publish(run: Run) -> PublishCommand:
    return PublishCommand(run.store.address)


def context(chosen: dict[str, str], **params: Any) -> dict[str, Any]:
    return {
        "run_id": "r1",
        "ti": TaskInstance(chosen),
        "params": {"kb": "products", "in": "/in", "out": "/out", **params},
    }


def of_champion(biencoder: str) -> dict[str, str]:
    return {"models": MODELS[biencoder].models}


@pytest.mark.parametrize("entities", [[], ["x.jsonl"]])
@pytest.mark.parametrize("named", [False, True])
def test_base_in_use_is_encoded_for_another_model_only_if_the_param_says_so(
    run: Run, named: bool, entities: list[str]
) -> None:
    """Another model is one that a Param names, or the champion of an older run, a task of which is cleared."""
    chosen = {"run": run.address} if named else of_champion(OLD)
    encode(run, "products", NEW)
    with pytest.raises(AirflowFailException, match="products has vectors of another bi-encoder than the run's models"):
        command(run).reused(context(chosen, entities=entities))
    assert command(run).reused(context(chosen, entities=entities, refresh=True)) is None
    with pytest.raises(AirflowException, match=f"vectors of another bi-encoder than {OLD}"):
        finish(command(run), 0, [], context(chosen))
    encode(run, "products", OLD)
    assert command(run).reused(context(chosen)) == DONE, "no pod is needed"


def test_base_is_encoded_for_the_champion_if_another_biencoder_has_encoded_it(run: Run) -> None:
    chosen = of_champion(NEW)
    encode(run, "products", OLD)
    assert command(run).reused(context(chosen)) is None
    encode(run, "products", NEW)
    assert command(run).reused(context(chosen)) == DONE
    assert finish(command(run), None, [], context(chosen)) == [], "although its pod is gone"
    assert publish(run).reused(context(chosen)) == PUBLISHED
    assert command(run).reused(context(chosen, entities=["x.jsonl"])) is None, "it may have other entities"


def test_end_of_a_build_is_not_seen_in_the_store(run: Run) -> None:
    built = context(of_champion(OLD), entities=["x.jsonl"])
    assert command(run).reused(built) is None, "nobody uses it yet"
    with pytest.raises(AirflowException, match="there is no knowledge base products at"):
        finish(command(run), 0, [], built)
    encode(run, "products", OLD)
    assert finish(command(run), 0, [], built) == []
    assert publish(run).reused(built) == PUBLISHED
    with pytest.raises(AirflowException, match="the end of its command is unknown"):
        finish(command(run), None, [], built)


def test_missing_base_and_unfinished_run_are_named_without_a_pod(run: Run) -> None:
    with pytest.raises(AirflowFailException, match=r"bad configuration.*\n.*expected a knowledge base of"):
        command(run).reused(context(of_champion(NEW)))
    unfinished = f"{run.store.address}/runs/r5"
    with pytest.raises(
        AirflowFailException, match=r"\nrun: expected a run that has finished train-biencoder, got .*r5"
    ):
        command(run).reused(context({"run": unfinished}))


@pytest.mark.parametrize("entities", [[], ["x.jsonl"]])
def test_large_base_is_published_once_its_segments_are_encoded(run: Run, entities: list[str]) -> None:
    given = context(of_champion(NEW), entities=entities, sharded_from=29_000)
    encode(run, "products", OLD)
    cut(run, "products", NEW, "links-r1")
    assert finish(command(run), 0, [], given) == [["products/0"], ["products/1"]]
    assert publish(run).reused(given) is None
    with pytest.raises(AirflowException, match="products has vectors of another bi-encoder"):
        finish(publish(run), 0, [], given)
    encode(run, "products", NEW)
    assert finish(publish(run), 0, [], given) == {"kb": "products"}


def test_base_that_is_left_as_it_is_is_not_published(run: Run) -> None:
    encode(run, "products", OLD)
    with pytest.raises(AirflowSkipException, match="products is left as it is"):
        publish(run).reused(context(of_champion(NEW), refresh=False))
