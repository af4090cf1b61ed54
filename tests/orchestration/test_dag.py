from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from zeshel_tasks.config.splits import HELDOUT_SPLITS
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.orchestration.params import param_schemas

ROOT = Path(__file__).parents[2]
EVALS = {f"eval-biencoder-{split}" for split in ("train", "valid", "test")}
CROSS_EVALS = {f"eval-crossencoder-{split}" for split in ("valid", "test")}
LoadDagFile = Callable[..., ModuleType]


def test_dag_has_the_tasks_and_edges_of_the_recipe(load_dag_file: LoadDagFile) -> None:
    dag = load_dag_file().report.dag
    assert dag.dag_id == "zeshel"
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "download": {"convert"},
        "convert": {"train-biencoder", "cut-worlds"},
        "train-biencoder": {"encode-shard", "fit-retrieval"},
        "cut-worlds": {"encode-shard"},
        "encode-shard": {"fit-retrieval"},
        "fit-retrieval": EVALS,
        **{name: {"train-crossencoder"} for name in EVALS},
        "eval-biencoder-train": {"train-crossencoder", *(f"eval-biencoder-{split}" for split in HELDOUT_SPLITS)},
        **{f"eval-biencoder-{split}": {f"eval-crossencoder-{split}"} for split in HELDOUT_SPLITS},
        "train-crossencoder": CROSS_EVALS | {f"eval-crossencoder-{split}" for split in HELDOUT_SPLITS},
        **{f"eval-crossencoder-{split}": {"fuse"} for split in HELDOUT_SPLITS},
        **{name: {"fuse"} for name in CROSS_EVALS},
        "fuse": {"calibrate", "compare"},
        "calibrate": {"report"},
        "compare": {"report"},
        "report": {"approve"},
        "approve": {"promote"},
        "promote": {"refresh-knowledge-bases"},
        "refresh-knowledge-bases": {"encode-segment"},
        "encode-segment": {"publish-knowledge-bases"},
        "publish-knowledge-bases": set(),
    }


def test_skipped_tasks_skip_nothing_after_them(load_dag_file: LoadDagFile) -> None:
    rules = {task.task_id: task.trigger_rule for task in load_dag_file().report.dag.tasks}
    unusual = {name: rule for name, rule in rules.items() if rule != "all_success"}
    assert unusual == dict.fromkeys(("fit-retrieval", "fuse", "publish-knowledge-bases"), "none_failed")


def test_dag_has_no_schedule_by_default(load_dag_file: LoadDagFile) -> None:
    dag = load_dag_file().report.dag
    assert dag.schedule is None
    assert not dag.catchup
    assert dag.max_active_runs == 1
    assert load_dag_file(ZESHEL_SCHEDULE="0 3 * * 0").report.dag.schedule == "0 3 * * 0"


def test_dag_can_be_scheduled_by_an_asset(load_dag_file: LoadDagFile) -> None:
    data_set = "s3://data/zeshel.tar.bz2"
    by_asset = load_dag_file(ZESHEL_SCHEDULE_ASSET=data_set).report.dag.schedule
    assert [asset.uri for asset in by_asset] == [data_set]
    both = load_dag_file(ZESHEL_SCHEDULE="0 3 * * 0", ZESHEL_SCHEDULE_ASSET=data_set).report.dag.schedule
    assert [asset.uri for asset in both.asset_condition.objects] == [data_set]
    assert both.timetable.expression == "0 3 * * 0"


def test_invalid_schedule_asset_raises_config_error(load_dag_file: LoadDagFile) -> None:
    with pytest.raises(ConfigError, match="ZESHEL_SCHEDULE_ASSET: expected the URI of an Asset, got ' '"):
        load_dag_file(ZESHEL_SCHEDULE_ASSET=" ")


def test_tasks_retry_with_exponential_backoff(load_dag_file: LoadDagFile) -> None:
    dag = load_dag_file(
        ZESHEL_RETRIES="4", ZESHEL_RETRY_DELAY_SECONDS="7", ZESHEL_OWNER="me", ZESHEL_POOL="gpu"
    ).report.dag
    for task in dag.tasks:
        assert (task.retries, task.retry_delay) == (4, timedelta(seconds=7))
        assert task.retry_exponential_backoff == 2
        assert task.max_retry_delay == timedelta(minutes=30)
        assert (task.owner, task.pool) == ("me", "gpu")


def test_dag_and_tasks_have_operator_docs(load_dag_file: LoadDagFile) -> None:
    dag = load_dag_file().report.dag
    for needed in ("| 2 |", "| 3 |", "| 75 |", "Clear task", "zeshel show"):
        assert needed in dag.doc_md
    assert all(len(task.doc_md) > 50 for task in dag.tasks)
    assert {"zeshel", "entity-linking"} <= dag.tags


def test_dag_params_are_the_generated_ones(load_dag_file: LoadDagFile) -> None:
    dag = load_dag_file(ZESHEL_DEFAULTS='{"preset": "blink"}').report.dag
    assert list(dag.params) == list(param_schemas())
    assert dag.params["preset"] == "blink"


@pytest.mark.parametrize("dag_id", ["zeshel", "zeshel_link"])
def test_tasks_do_not_copy_the_form(load_dag_file: LoadDagFile, dag_id: str) -> None:
    """Airflow serializes the copies of each task, and reads them whenever it schedules: they took seconds."""
    (dag,) = (found for found in vars(load_dag_file(dag_id)).values() if isinstance(found, DAG))
    assert dag.params
    assert {task.task_id: list(task.params) for task in dag.tasks if task.params} in ({}, {"approve": ["reason"]})
    serialized = DagSerialization.to_dict(dag)["dag"]
    assert len(serialized["params"]) == len(dag.params)


def test_each_stage_task_has_an_asset_as_outlet(load_dag_file: LoadDagFile) -> None:
    dag = load_dag_file().report.dag
    others = ("approve", "cut-worlds", "encode-shard", "refresh-knowledge-bases", "encode-segment")
    stages = [task for task in dag.tasks if task.task_id not in others]
    assert not any(dag.get_task(name).outlets for name in others)
    for task in stages:
        assert [asset.name for asset in task.outlets] == [f"zeshel-{task.task_id}"]


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"ZESHEL_STORE": ""}, "ZESHEL_STORE"),
        ({"ZESHEL_RUNNER": "kubernetes"}, "ZESHEL_PODS: expected settings of pods"),
        ({"ZESHEL_DEFAULTS": '{"gpus": "many"}'}, "gpus"),
    ],
)
def test_invalid_deployment_raises_config_error(
    load_dag_file: LoadDagFile, variables: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_dag_file(**variables)


def test_invalid_schedule_raises_config_error(load_dag_file: LoadDagFile) -> None:
    with pytest.raises(ConfigError, match="ZESHEL_SCHEDULE"):
        load_dag_file(ZESHEL_SCHEDULE="every now and then")
