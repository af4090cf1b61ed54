"""Creates the DAG's arguments and its tasks from the deployment's settings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from airflow.sdk import Asset, AssetOrTimeSchedule, BaseOperator, CronTriggerTimetable
from airflow.sdk.exceptions import AirflowTimetableInvalid

from zeshel_tasks.config import Split
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.orchestration.alerts import alerts, question_notifiers
from zeshel_tasks.orchestration.approval import ApprovePromotion
from zeshel_tasks.orchestration.params import dag_params
from zeshel_tasks.orchestration.process.operator import ZeshelProcessOperator
from zeshel_tasks.orchestration.settings import Deployment
from zeshel_tasks.orchestration.stage_command import StageCommand
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step


class TaskMaker(Protocol):
    """Creates the task of a stage within the current DAG."""

    def __call__(self, name: str, split: Split | None = None, **kwargs: Any) -> BaseOperator: ...


def dag_arguments(deployment: Deployment) -> dict[str, Any]:
    """Return the arguments of ``DAG(...)``.

    Raises:
        ConfigError: the deployment's defaults or its schedule are not valid.
    """
    return {
        "schedule": _schedule(deployment),
        "start_date": datetime(2026, 1, 1, tzinfo=UTC),
        "catchup": False,
        "max_active_runs": deployment.max_active_runs,
        "params": dag_params(deployment.defaults),
        "tags": ["zeshel", "entity-linking"],
        **alerts(deployment),
        "default_args": {
            "owner": deployment.owner,
            "pool": deployment.pool,
            # max_active_runs does not count the runs of a backfill, so each stage has a limit, too.
            "max_active_tis_per_dag": deployment.max_active_runs,
            "retries": deployment.retries,
            "retry_delay": timedelta(seconds=deployment.retry_delay_seconds),
            "retry_exponential_backoff": 2,
            "max_retry_delay": timedelta(seconds=deployment.max_retry_delay_seconds),
        },
    }


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
    return ApprovePromotion(store=deployment.store, notifiers=question_notifiers(deployment))


def task_maker(deployment: Deployment) -> TaskMaker:
    """Return the function ``stage_task("eval-biencoder", "test")``, whose tasks use the deployment's runner."""
    operator = _operator(deployment)

    def stage_task(name: str, split: Split | None = None, **kwargs: Any) -> BaseOperator:
        stage = STAGES[name]
        command = StageCommand(Step(stage, split), deployment.store)
        return operator(command, doc_md=f"{stage.summary} {stage.notes}", **kwargs)

    return stage_task


def _operator(deployment: Deployment) -> Callable[..., BaseOperator]:
    """Return the operator of the deployment's runner. No other code depends on the kind of runner."""
    if deployment.runner == "process":
        return lambda command, **kwargs: ZeshelProcessOperator(
            command=command, grace_seconds=deployment.grace_seconds, **kwargs
        )
    if deployment.pods is None:
        raise ConfigError(
            "ZESHEL_PODS: expected settings of pods, as JSON, with ZESHEL_RUNNER=kubernetes; it is not set"
        )
    from zeshel_tasks.orchestration.pods.operator import ZeshelPodOperator  # Kubernetes' client is slow to import

    pods = deployment.pods
    return lambda command, **kwargs: ZeshelPodOperator(command=command, pods=pods, **kwargs)
