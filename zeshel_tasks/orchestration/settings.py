"""Settings of a deployment, from environment variables ``ZESHEL_*``, and of a single run.

The chart or ``make demo`` sets the variables. Hyper-parameters are not among them: they are Params of the DAG
(:mod:`zeshel_tasks.orchestration.params`). ``ZESHEL_DEFAULTS`` overrides the defaults of the Params and thereby
configures scheduled runs, for which nobody fills in the form.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from zeshel_tasks.config.stage_config import takes
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.location import store_location
from zeshel_tasks.orchestration.pod_settings import PodSettings

Runner = Literal["process", "kubernetes"]
ENV_PREFIX = "ZESHEL_"
MAX_RUN_NAME = 200


class Notifier(BaseModel):
    """An Airflow notifier as JSON: ``{"class": "airflow.providers....SmtpNotifier", "kwargs": {...}}``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(
        alias="class", pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$", description="Import path of the class."
    )
    kwargs: dict[str, Any] = Field({}, description="Arguments of the notifier.")
    late: dict[str, Any] = Field(
        {}, description="Arguments that override ``kwargs`` for a late run. Their templates have no task."
    )
    question: dict[str, Any] = Field(
        {}, description="Arguments that override ``kwargs`` when a promotion waits for approval."
    )


class Approver(BaseModel):
    """A person who may approve promotions, as Airflow's auth manager knows them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1, max_length=256, description="Id of the user.")
    name: str | None = Field(None, min_length=1, max_length=256, description="Name that the question shows.")


class Deployment(BaseSettings):
    """The environment variables that the DAG reads. Each is named ``ZESHEL_`` plus the field's name."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    store: Annotated[str, takes(store_location)] = Field(
        min_length=1, description="the address of the store, s3://bucket/prefix or a directory"
    )
    runner: Runner = Field("process", description="Run each stage as a child process or as a pod.")
    pods: PodSettings | None = Field(None, description="Settings of pods for the kubernetes runner, as JSON.")
    schedule: str | None = Field(None, description="Cron expression, or a preset such as @daily. Empty: no schedule.")
    schedule_asset: str | None = Field(
        None,
        min_length=1,
        description="URI of the Airflow Asset that stands for the data set. Each update starts a run.",
    )
    deadline_minutes: float | None = Field(
        None,
        gt=0,
        le=525_600,
        description="Alert when a run has not finished this many minutes after it was queued.",
    )
    notifier: Notifier | None = Field(
        None,
        description="Notifier that reports failed runs, missed deadlines and open questions, as JSON with class and "
        "kwargs.",
    )
    approvers: tuple[Approver, ...] = Field(
        (),
        description="The only people who may approve a promotion, as JSON with id and name. Every promotion needs one "
        "of them then. Empty: the Param `approve` decides, and whoever may edit the DAG's tasks may answer.",
    )
    defaults: dict[str, Any] = Field({}, description="Defaults of the trigger form, as JSON.")
    link_defaults: dict[str, Any] = Field({}, description="Defaults of the trigger form of zeshel_link, as JSON.")
    owner: str = Field("zeshel", min_length=1, description="Owner that Airflow shows for the DAG's tasks.")
    pool: str = Field("default_pool", min_length=1, description="Airflow pool of the stages.")
    max_active_runs: int = Field(1, ge=1, le=1000, description="Maximum number of concurrent runs.")
    max_active_links: int = Field(
        4, ge=1, le=1000, description="Maximum number of concurrent tasks of a run that link files, or encode shards."
    )
    retries: int = Field(3, ge=0, le=100, description="Retries of a stage that crashed or exited with code 75.")
    retry_delay_seconds: float = Field(
        30.0, gt=0, le=86_400, description="Delay before the first retry. It then doubles."
    )
    max_retry_delay_seconds: float = Field(1800.0, gt=0, le=86_400, description="Maximum delay between retries.")
    grace_seconds: float = Field(
        60.0, ge=0, le=3600, description="Time that a stopped stage has to save a checkpoint, for the process runner."
    )


class RunConfig(BaseModel):
    """Settings of one run besides the recipe. None of them affects a result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    approve: bool | None = Field(
        None, description="Ask a person before promoting a better model. The task `approve` waits for the answer."
    )
    refresh: bool | None = Field(
        None,
        description="Encode the store's knowledge bases again if the new champion has another bi-encoder. False leaves "
        "them to `zeshel kb refresh`.",
    )
    gpus: int | None = Field(
        None,
        ge=0,
        le=64,
        description="GPUs per training, with one process each; an evaluation uses one GPU. 0: use the CPU. Empty: the "
        "deployment's default for pods, or all GPUs of the machine without pods.",
    )
    memory: str | None = Field(
        None,
        pattern=r"^[1-9]\d*(\.\d+)?(Mi|Gi|Ti|M|G|T)$",
        max_length=20,
        description="Memory of each pod that runs a model (16Gi), for the kubernetes runner only. Empty: the "
        "deployment's default.",
    )
    image: str | None = Field(
        None,
        pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$",
        max_length=500,
        description="Container image of the stages, for the kubernetes runner only. Empty: the deployment's default.",
    )


def read_deployment() -> Deployment:
    """Read the deployment's settings from the environment.

    Raises:
        ConfigError: variables are missing or wrong. The message names all of them.
    """
    try:
        return Deployment()
    except ValidationError as error:
        raise ConfigError(*(_problem(item) for item in error.errors())) from error
    except SettingsError as error:  # a variable does not contain valid JSON
        field = re.search('field "(.*?)"', str(error))
        variable = ENV_PREFIX + (field[1].upper() if field else "*")
        raise ConfigError(f"{variable}: expected a JSON object, got text that is not JSON") from error


def run_address(store: str, run_id: str) -> str:
    """Return the address of the DAG run ``run_id`` in the store: ``<store>/runs/<name>``."""
    return f"{store.rstrip('/')}/runs/{path_safe(run_id)}"


def path_safe(run_id: str) -> str:
    """Convert ``run_id`` to one path component that is valid in any file system and any object store.

    Airflow's ids contain colons and plus signs. If characters are replaced, an appended hash keeps the names distinct.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", run_id)[:MAX_RUN_NAME]
    if name == run_id and not name.startswith("."):
        return name
    return f"{name.strip('.-') or 'run'}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def _problem(item: Any) -> str:
    field, *within = [str(part) for part in item["loc"]]
    variable = ".".join([ENV_PREFIX + field.upper(), *within])
    if item["type"] == "missing":
        what = "a value" if within else Deployment.model_fields[field].description
        return f"{variable}: expected {what}; it is not set"
    message = (
        "expected a JSON object" if item["type"].startswith("model_") else item["msg"].removeprefix("Value error, ")
    )
    return f"{variable}: {message}; got {_value_text(item['input'], field, within)}"


def _value_text(value: Any, field: str, within: list[str]) -> str:
    """Return the value for a message, without settings that may contain passwords.

    Everyone can see the message as the DAG's import error.
    """
    may_be_secret = field == "notifier" or "env" in within
    return f"a {type(value).__name__}" if may_be_secret else repr(value)
