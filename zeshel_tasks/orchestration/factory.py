"""Creates the arguments and the tasks of the DAGs from the deployment's settings."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from airflow.sdk import Asset, AssetOrTimeSchedule, BaseOperator, CronTriggerTimetable, TriggerRule
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowTimetableInvalid

from zeshel_tasks.config.splits import Split
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.orchestration.alerts import alerts, question_notifiers
from zeshel_tasks.orchestration.approval import ApprovedPromotion, ApprovePromotion
from zeshel_tasks.orchestration.knowledge_base_commands import KnowledgeBaseCommand, PublishCommand
from zeshel_tasks.orchestration.link_commands import LinkCommand, ListCommand
from zeshel_tasks.orchestration.link_operators import ChooseModels, SumUpLinks
from zeshel_tasks.orchestration.link_params import link_params
from zeshel_tasks.orchestration.params import dag_params
from zeshel_tasks.orchestration.process.operator import ZeshelProcessOperator
from zeshel_tasks.orchestration.refresh_command import PublishRefreshed, RefreshCommand
from zeshel_tasks.orchestration.segment_commands import FOR_CHAMPION, EncodeSegments
from zeshel_tasks.orchestration.settings import Deployment
from zeshel_tasks.orchestration.shard_commands import CutCommand, EncodeCommand
from zeshel_tasks.orchestration.stage_command import StageCommand
from zeshel_tasks.orchestration.task_command import TaskCommand
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step


class TaskMaker(Protocol):
    """Creates the task of a stage within the current DAG."""

    def __call__(self, name: str, split: Split | None = None, **kwargs: Any) -> BaseOperator: ...


def dag_arguments(deployment: Deployment) -> dict[str, Any]:
    """Return the arguments of ``DAG("zeshel", ...)``, without ``params``: see :func:`trigger_form`.

    Raises:
        ConfigError: the deployment's schedule is not valid.
    """
    common = _common_arguments(deployment)
    # max_active_runs does not count the runs of a backfill, so each stage has a limit, too.
    limit = {"max_active_tis_per_dag": deployment.max_active_runs}
    return common | {
        "schedule": _schedule(deployment),
        "max_active_runs": deployment.max_active_runs,
        "default_args": common["default_args"] | limit,
    }


def trigger_form(deployment: Deployment) -> ParamsDict:
    """Return ``params`` of the DAG ``zeshel``. The DAG gets them after its tasks.

    A task copies the Params that its DAG has. The copies of all tasks were 94% of the serialized DAG, which Airflow
    writes at every look at the file (3.5 s of CPU time) and reads whenever it schedules. A run does not need them: it
    takes the DAG's own Params.

    Raises:
        ConfigError: the deployment's defaults are not valid.
    """
    return ParamsDict(dag_params(deployment.defaults, _fixed(deployment)))


def link_dag_arguments(deployment: Deployment) -> dict[str, Any]:
    """Return the arguments of ``DAG("zeshel_link", ...)``, without ``params``: see :func:`link_form`."""
    return _common_arguments(deployment) | {"schedule": None}


def link_form(deployment: Deployment) -> ParamsDict:
    """Return ``params`` of the DAG ``zeshel_link``, which gets them after its tasks, as in :func:`trigger_form`.

    Raises:
        ConfigError: the deployment's defaults are not valid.
    """
    return ParamsDict(link_params(deployment.link_defaults, _fixed(deployment)))


def _common_arguments(deployment: Deployment) -> dict[str, Any]:
    return {
        "start_date": datetime(2026, 1, 1, tzinfo=UTC),
        "catchup": False,
        "tags": ["zeshel", "entity-linking"],
        **alerts(deployment),
        "default_args": {
            "owner": deployment.owner,
            "pool": deployment.pool,
            "retries": deployment.retries,
            "retry_delay": timedelta(seconds=deployment.retry_delay_seconds),
            "retry_exponential_backoff": 2,
            "max_retry_delay": timedelta(seconds=deployment.max_retry_delay_seconds),
        },
    }


def _fixed(deployment: Deployment) -> list[str]:
    """Return the fields that the forms do not have."""
    pods: list[str] = [] if deployment.pods is None else [*deployment.pods.fixed_params]
    return [*pods, "approve"] if deployment.approvers else pods


def _schedule(deployment: Deployment) -> str | list[Asset] | AssetOrTimeSchedule | None:
    """Return the schedule: a timetable, updates of the data set, both or neither."""
    assets = [] if deployment.schedule_asset is None else [_asset(deployment.schedule_asset)]
    if deployment.schedule is None:
        return assets or None
    timetable = _timetable(deployment.schedule)
    return AssetOrTimeSchedule(timetable=timetable, assets=assets) if assets else deployment.schedule


def _timetable(schedule: str) -> CronTriggerTimetable:
    """Check the schedule here: Airflow would check it only on serialization, and would not name the setting."""
    timetable = CronTriggerTimetable(schedule, timezone="UTC")
    try:
        timetable.validate()
    except AirflowTimetableInvalid as error:
        raise ConfigError(f"ZESHEL_SCHEDULE: expected a cron expression or @daily etc., got {schedule!r}") from error
    return timetable


def _asset(uri: str) -> Asset:
    try:
        return Asset(uri)
    except ValueError as error:
        raise ConfigError(f"ZESHEL_SCHEDULE_ASSET: expected the URI of an Asset, got {uri!r}: {error}") from error


def approval(deployment: Deployment) -> BaseOperator:
    """Return the task that asks a person to approve the model before ``promote``."""
    return ApprovePromotion(
        store=deployment.store, approvers=deployment.approvers, notifiers=question_notifiers(deployment)
    )


def task_maker(deployment: Deployment) -> TaskMaker:
    """Return the function ``stage_task("eval-biencoder", "test")``, whose tasks use the deployment's runner."""
    operator, settings = _runner(deployment)

    def stage_task(name: str, split: Split | None = None, **kwargs: Any) -> BaseOperator:
        stage = STAGES[name]
        command = StageCommand(Step(stage, split), deployment.store)
        if stage is STAGES["promote"] and deployment.approvers:
            approvers = frozenset(person.id for person in deployment.approvers)
            command = ApprovedPromotion(command.step, command.store, approvers)
        return operator(command=command, doc_md=f"{stage.summary} {stage.notes}", **settings, **kwargs)

    return stage_task


class ShardTasks:
    """Creates the tasks that encode large worlds in shards.

    Args:
        deployment: the deployment's settings.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._operator, self._settings = _runner(deployment)

    def cut(self) -> BaseOperator:
        """Return the task that divides large worlds into shards."""
        return self._operator(command=CutCommand(self._deployment.store), doc_md=_doc(CutCommand), **self._settings)

    def encode(self, cut: BaseOperator) -> MappedOperator:
        """Return the mapped task that encodes shards; ``cut`` lists them. Without any, it is skipped."""
        return _encode_tasks(self._deployment, EncodeCommand(self._deployment.store), cut, **_per_dag(self._deployment))


class RefreshTasks:
    """Creates the tasks that encode knowledge bases for a new champion.

    Args:
        deployment: the deployment's settings.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._operator, self._settings = _runner(deployment)

    def refresh(self) -> BaseOperator:
        """Return the task that encodes knowledge bases, and cuts large ones into segments."""
        command = RefreshCommand(self._deployment.store)
        return self._operator(command=command, doc_md=_doc(RefreshCommand), **self._settings)

    def encode(self, refresh: BaseOperator) -> MappedOperator:
        """Return the mapped task that encodes segments; ``refresh`` lists them. Without any, it is skipped."""
        command = EncodeSegments(self._deployment.store, purpose=FOR_CHAMPION)
        return _encode_tasks(self._deployment, command, refresh, **_per_dag(self._deployment))

    def publish(self) -> BaseOperator:
        """Return the task that publishes the segments. It runs also if there are none."""
        command, rule = PublishRefreshed(self._deployment.store), TriggerRule.NONE_FAILED
        return self._operator(command=command, doc_md=_doc(PublishRefreshed), trigger_rule=rule, **self._settings)


class LinkTasks:
    """Creates the tasks of the DAG ``zeshel_link``.

    Args:
        deployment: the deployment's settings.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment, self._store = deployment, deployment.store
        self._operator, self._settings = _runner(deployment)

    def models(self) -> BaseOperator:
        """Return the task that chooses the models."""
        return ChooseModels(store=self._store, doc_md=_doc(ChooseModels))

    def knowledge_base(self) -> BaseOperator:
        """Return the task that builds or refreshes the knowledge base."""
        return self._task(KnowledgeBaseCommand(self._store))

    def encode(self, knowledge_base: BaseOperator) -> MappedOperator:
        """Return the mapped task that encodes segments of a large one, which ``knowledge_base`` lists."""
        return _encode_tasks(self._deployment, EncodeSegments(self._store), knowledge_base)

    def publish(self) -> BaseOperator:
        """Return the task that publishes the segments. It runs also if there are none."""
        return self._task(PublishCommand(self._store), trigger_rule=TriggerRule.NONE_FAILED)

    def files(self) -> BaseOperator:
        """Return the task that lists the files. It runs also if the knowledge base is left as it is."""
        return self._task(ListCommand(self._store), trigger_rule=TriggerRule.NONE_FAILED)

    def link(self, files: BaseOperator) -> MappedOperator:
        """Return the mapped task that links files; ``files`` lists them."""
        command = LinkCommand(self._store)
        task = self._operator.partial(
            task_id=command.name,
            doc_md=_doc(LinkCommand),
            map_index_template="{{ task.command.label }}",
            max_active_tis_per_dagrun=self._deployment.max_active_links,
            **self._settings,
        )
        return task.expand(command=files.output.map(command.for_files))

    def join(self) -> BaseOperator:
        """Return the task that adds up."""
        return SumUpLinks(store=self._store, doc_md=_doc(SumUpLinks))

    def _task(self, command: TaskCommand, **kwargs: Any) -> BaseOperator:
        return self._operator(command=command, doc_md=_doc(type(command)), **self._settings, **kwargs)


def _encode_tasks(
    deployment: Deployment, command: EncodeCommand, listed: BaseOperator, **kwargs: Any
) -> MappedOperator:
    """Return the mapped task whose commands encode what the output of ``listed`` names."""
    operator, settings = _runner(deployment)
    task = operator.partial(
        task_id=command.name,
        doc_md=_doc(type(command)),
        map_index_template="{{ task.command.label }}",
        max_active_tis_per_dagrun=deployment.max_active_links,
        **settings,
        **kwargs,
    )
    return task.expand(command=listed.output.map(command.for_shards))


def _per_dag(deployment: Deployment) -> dict[str, int]:
    """Return the limit of a mapped task in the DAG whose other tasks have one."""
    return {"max_active_tis_per_dag": deployment.max_active_links * deployment.max_active_runs}


def _doc(described: type) -> str:
    """Return the first paragraphs of a docstring, for the task's page."""
    return inspect.cleandoc(described.__doc__ or "").partition("\n\nArgs:")[0].partition("\n\nAttributes:")[0]


def _runner(deployment: Deployment) -> tuple[type[BaseOperator], dict[str, Any]]:
    """Return the operator of the deployment's runner with its settings. No other code depends on the kind of runner."""
    if deployment.runner == "process":
        return ZeshelProcessOperator, {"grace_seconds": deployment.grace_seconds}
    if deployment.pods is None:
        raise ConfigError(
            "ZESHEL_PODS: expected settings of pods, as JSON, with ZESHEL_RUNNER=kubernetes; it is not set"
        )
    from zeshel_tasks.orchestration.pods.operator import ZeshelPodOperator  # Kubernetes' client is slow to import

    return ZeshelPodOperator, {"pods": deployment.pods}
