"""The DAG ``zeshel_link``: its shape, its form, and what its tasks run and return."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.serialization.serialized_objects import DagSerialization

from zeshel_tasks.config.link import LinkConfig
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.link_files.counts import LinkedCounts
from zeshel_tasks.link_files.plan import LinkPlan
from zeshel_tasks.link_files.shards import link_shards
from zeshel_tasks.location import store_location
from zeshel_tasks.orchestration.grouping import groups
from zeshel_tasks.orchestration.knowledge_base_commands import KnowledgeBaseCommand, PublishCommand
from zeshel_tasks.orchestration.link_commands import LinkCommand, ListCommand
from zeshel_tasks.orchestration.link_operators import ASSET, ChooseModels, SumUpLinks
from zeshel_tasks.orchestration.link_params import link_schemas, request_of
from zeshel_tasks.orchestration.task_command import NotDone, finish

LoadDagFile = Callable[..., ModuleType]
FILES = ("a.jsonl", "b.jsonl", "c.jsonl")
PLANNED = {"models": "m1", "knowledge_base": "k1"}


class TaskInstance:
    """A task instance whose upstream task has chosen these models."""

    def __init__(self, chosen: dict[str, str] | None) -> None:
        self._chosen = chosen

    def xcom_pull(self, task_ids: str, map_indexes: int) -> Any:
        """Returns the XCom of the task ``models``."""
        assert (task_ids, map_indexes) == ("models", -1)
        return self._chosen


@pytest.fixture
def context(tmp_path: Path) -> dict[str, Any]:
    """Airflow's context of a run that links the files of a folder."""
    (tmp_path / "in").mkdir()
    for name in FILES:
        (tmp_path / "in" / name).write_text("{}")
    params = {"kb": "products", "in": f"{tmp_path}/in", "out": f"{tmp_path}/out"}
    chosen = TaskInstance({"models": "f1", "promoted_by": "r7"})
    return {"run_id": "r1", "params": params, "ti": chosen, "outlet_events": OutletEventAccessors()}


@pytest.fixture(autouse=True)
def _execute_without_a_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"{tmp_path}/store"


@pytest.fixture
def planned(store: str) -> None:
    """The task ``list`` has written its plan."""
    LinkPlan(made_from=PLANNED, files=FILES).write(store_location(f"{store}/links/r1/plan.json"))


@pytest.fixture
def link(context: dict[str, Any], tmp_path: Path) -> Callable[..., None]:
    """``link("a.jsonl")`` links files as a link task does."""
    source, target = (store_location(context["params"][name]) for name in ("in", "out"))

    def link_file(_: Path, __: str, made: Path) -> LinkedCounts:
        made.write_text("linked")
        return LinkedCounts(lines=1, mentions=2, nil=1, rated=2, probability=1.0)

    def link_files(*names: str, made_from: dict[str, str] = PLANNED) -> None:
        list(link_shards(source, target, names, made_from, link_file, tmp_path))

    return link_files


# -- shape


def test_dag_links_in_mapped_tasks_between_a_list_and_a_sum(load_dag_file: LoadDagFile) -> None:
    dag = load_dag_file("zeshel_link", ZESHEL_RETRIES="4", ZESHEL_OWNER="me", ZESHEL_POOL="gpu").files.dag
    assert (dag.dag_id, dag.schedule) == ("zeshel_link", None)
    chain = ["models", "knowledge-base", "encode-segment", "publish", "list", "link", "join"]
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        task: set(chain[place + 1 : place + 2]) for place, task in enumerate(chain)
    }
    assert [task for task in chain if dag.get_task(task).is_mapped] == ["encode-segment", "link"]
    for task in dag.tasks:
        assert (task.retries, task.owner, task.pool, task.retry_exponential_backoff) == (4, "me", "gpu", 2)
        assert len(task.doc_md) > 5
    for name in ("publish", "list"):
        assert dag.get_task(name).trigger_rule == "none_failed", "the knowledge base may be small, or left as it is"
    assert [task for task in chain if dag.get_task(task).outlets] == ["join"]


@pytest.mark.parametrize(
    "runner", [{}, {"ZESHEL_RUNNER": "kubernetes", "ZESHEL_PODS": '{"image": "i", "namespace": "n"}'}]
)
def test_dag_survives_serialization(load_dag_file: LoadDagFile, runner: dict[str, str]) -> None:
    dag = load_dag_file("zeshel_link", ZESHEL_MAX_ACTIVE_LINKS="7", **runner).files.dag
    first, again = (json.dumps(DagSerialization.to_dict(dag), sort_keys=True) for _ in range(2))
    assert first == again
    assert " at 0x" not in first, "an address in memory would be another version of the DAG each time"
    link = DagSerialization.from_dict(json.loads(first)).task_dict["link"]
    assert (link.is_mapped, link.max_active_tis_per_dagrun, link.max_active_tis_per_dag) == (True, 7, None)


# -- form


def test_form_has_all_settings_of_the_links_and_requires_what_to_link(load_dag_file: LoadDagFile) -> None:
    params = load_dag_file("zeshel_link", ZESHEL_LINK_DEFAULTS='{"kb": "mine", "top_k": 3}').files.dag.params
    assert list(params) == list(link_schemas())
    assert set(LinkConfig.model_fields) <= set(params)
    assert (params["kb"], params["top_k"]) == ("mine", 3)
    schemas = link_schemas()
    assert {name for name, schema in schemas.items() if "null" not in schema["type"]} == {"kb", "in", "out"}
    assert schemas["top_k"]["maximum"] == 10_000
    assert "Default: **5**" in schemas["top_k"]["description_md"]
    assert "Default" not in schemas["candidates"]["description_md"], "the evaluation's number"
    assert "approve" not in schemas
    assert all(schema["description_md"] for schema in schemas.values())


@pytest.mark.parametrize(
    ("defaults", "problem"),
    [
        ('{"preset": "smoke"}', "ZESHEL_LINK_DEFAULTS: expected names of the trigger form, got preset"),
        ('{"top_k": 0}', "top_k: "),
        ('{"entities.format": "xml"}', "format: "),
    ],
)
def test_wrong_defaults_are_refused(load_dag_file: LoadDagFile, defaults: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_dag_file("zeshel_link", ZESHEL_LINK_DEFAULTS=defaults)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"kb": None}, "kb: Field required"),
        ({"kb": "a/b"}, "knowledge base: expected a name that can be a folder, such as products, got 'a/b'"),
        ({"in": "ftp://x"}, "in: expected "),
        ({"run": "s3://bucket/r1"}, "run: expected <store>/runs/<run id>"),
        ({"ignore_case": True}, "ignore_case: expected false unless mentions is titles"),
        ({"entities.max_skipped": "some"}, "max_skipped: expected a number of rows"),
        ({"max_tasks": 1001}, "max_tasks: "),
        ({"preset": "smoke"}, "preset: expected names of the trigger form"),
        ({"memory": "much"}, "memory: "),
    ],
)
def test_wrong_params_fail_the_first_task_without_retry(
    context: dict[str, Any], store: str, given: dict[str, Any], problem: str
) -> None:
    context["params"] |= given
    with pytest.raises(AirflowFailException) as caught:
        ChooseModels(store=store).execute(context)
    assert str(caught.value).startswith("models: bad configuration, not retried:\n")
    assert problem in str(caught.value)


# -- command lines


def test_link_tasks_get_the_chosen_models_and_the_settings(context: dict[str, Any], store: str, tmp_path: Path) -> None:
    context["params"] |= {"threshold": "precision=0.95", "ignore_case": True, "mentions": "titles", "gpus": 1}
    places = ["--kb=products", f"--in={tmp_path}/in/", f"--out={tmp_path}/out/"]
    settings = ["--threshold=precision=0.95", "--ignore_case=true", "--mentions=titles"]
    shared = ["link", f"--store={store}", "--models=f1", *places, *settings]
    assert ListCommand(store).arguments(context) == [*shared, f"--plan={store}/links/r1/plan.json"]
    linked = LinkCommand(store).for_files(["a.jsonl", "b c.jsonl"])
    assert linked.arguments(context) == [*shared, "--shard=a.jsonl", "--shard=b c.jsonl"]
    context["ti"] = TaskInstance({"run": "/data/runs/r5"})
    assert "--run=/data/runs/r5" in linked.arguments(context)
    context["ti"] = TaskInstance(None)
    with pytest.raises(AirflowFailException, match="expected the XCom of the task `models`, got none"):
        linked.arguments(context)


def test_knowledge_base_is_built_refreshed_or_left(context: dict[str, Any], store: str) -> None:
    command = KnowledgeBaseCommand(store)
    base = [f"--store={store}", "--name=products", "--models=f1", "--record=links-r1"]
    cut = "--sharded_from=250000"
    assert command.arguments(context) == ["kb", "refresh", *base, cut]
    context["params"]["refresh"] = False
    with pytest.raises(AirflowSkipException, match="products is left as it is"):
        command.reused(context)
    context["params"] |= {"entities": ["s3://b/x.csv", "y.csv"], "entities.format": "csv", "entities.text": "about"}
    context["params"] |= {"device": "cpu", "top_k": 7}
    built = ["--device=cpu", "--format=csv", "--text=about", "--", "s3://b/x.csv", "y.csv"]
    assert command.arguments(context) == ["kb", "build", *base, cut, *built]
    assert PublishCommand(store).arguments(context) == ["kb", "build", *base, *built]


# -- tasks


def test_first_task_returns_the_champion_or_the_named_run(
    context: dict[str, Any], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = SimpleNamespace(models="f9", run="r9", promoted_at="2026-01-01")
    found = SimpleNamespace(champion=champion)
    monkeypatch.setattr("zeshel_tasks.orchestration.link_operators.read_champions", lambda _: found)
    assert ChooseModels(store=store).execute(context) == {"models": "f9", "promoted_by": "r9"}
    found.champion = None
    with pytest.raises(AirflowFailException, match=r"expected a champion at .*/champion.json, got none: name a run"):
        ChooseModels(store=store).execute(context)
    context["params"]["run"] = f"{store}/runs/r2"
    assert ChooseModels(store=store).execute(context) == {"run": f"{store}/runs/r2"}


def test_folder_without_files_fails_before_anything_runs(context: dict[str, Any], store: str, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / "in" / name).unlink()
    with pytest.raises(AirflowFailException, match=r"bad input data.*\n.*/in: nothing to link; expected files whose"):
        ChooseModels(store=store).execute(context)


@pytest.mark.usefixtures("planned")
def test_files_are_divided_among_tasks_whose_labels_name_them(context: dict[str, Any], store: str) -> None:
    assert finish(ListCommand(store), 0, [], context) == [["a.jsonl"], ["b.jsonl"], ["c.jsonl"]]
    with pytest.raises(AirflowException, match="no plan is at"):
        finish(ListCommand(store), None, [], context)  # it may be an older one
    context["params"]["max_tasks"] = 2
    divided = finish(ListCommand(store), 0, [], context)
    assert divided == [["a.jsonl"], ["b.jsonl", "c.jsonl"]]
    assert [LinkCommand(store).for_files(files).label for files in divided] == [
        "a.jsonl", "b.jsonl to c.jsonl (2 files)",
    ]  # fmt: skip
    many = groups([str(number) for number in range(1003)], 100)
    assert [name for files in many for name in files] == [str(number) for number in range(1003)]
    assert {len(files) for files in many} == {10, 11}
    assert len(many) == 100


@pytest.mark.usefixtures("planned")
def test_linked_files_need_no_pod(context: dict[str, Any], store: str, link: Callable[..., None]) -> None:
    command = LinkCommand(store).for_files(["a.jsonl", "b.jsonl"])
    link("a.jsonl")
    assert command.reused(context) is None
    with pytest.raises(NotDone, match=r"/out/finished says that b.jsonl is linked as planned"):
        command.outcome(context, ended=True)
    link("b.jsonl", made_from={**PLANNED, "models": "m2"})
    assert command.reused(context) is None, "linked with other models"
    link("b.jsonl")
    done = command.reused(context)
    assert done is not None
    assert done.value == {
        "files": ["a.jsonl", "b.jsonl"], "documents": 2, "mentions": 4, "linked": 2, "nil": 2, "mean_probability": 0.5,
    }  # fmt: skip


def test_link_task_without_a_plan_says_which_task_to_clear(context: dict[str, Any], store: str) -> None:
    with pytest.raises(AirflowException, match=r"expected the plan of the task `list` at .*, got none; clear that"):
        LinkCommand(store).for_files(["a.jsonl"]).reused(context)


@pytest.mark.usefixtures("planned")
def test_last_task_adds_up_and_updates_the_asset(
    context: dict[str, Any], store: str, link: Callable[..., None], tmp_path: Path
) -> None:
    link("a.jsonl", "b.jsonl")
    with pytest.raises(AirflowFailException, match=r"not linked as planned, or changed since: c.jsonl"):
        SumUpLinks(store=store).execute(context)
    link("c.jsonl")
    figures = SumUpLinks(store=store).execute(context)
    assert (figures["kb"], figures["files"], figures["mentions"]) == ("products", 3, 6)
    assert context["outlet_events"][ASSET].extra == {**figures, "made_from": PLANNED}
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["mentions"] == 6


def test_settings_of_a_run_are_told_apart() -> None:
    params = {"kb": "k", "in": "a", "out": "b", "entities.format": "csv", "top_k": 2, "gpus": 1, "image": None}
    request = request_of(params)
    assert (request.entity_files, request.settings) == ({"format": "csv"}, {"top_k": 2})
    assert request.run.max_tasks == 100
