"""What a deployment decides, from environment variables ``ZESHEL_*``; and what a person decides for one run.

The chart (or ``make demo``) writes the variables; hyper-parameters are not among them, they are Params of the
DAG (:mod:`zeshel_tasks.orchestration.params`). ``ZESHEL_DEFAULTS`` changes the Params' defaults, so that a
scheduled run, which nobody fills a form for, is configurable too.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.orchestration.pods.settings import PodSettings

Runner = Literal["process", "kubernetes"]
ENV_PREFIX = "ZESHEL_"
MAX_RUN_NAME = 200


class Notifier(BaseModel):
    """One of Airflow's notifiers, as JSON: ``{"class": "airflow.providers....SmtpNotifier", "kwargs": {...}}``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(alias="class", pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$", description="Where to import it from.")
    kwargs: dict[str, Any] = Field({}, description="Its arguments.")
    late: dict[str, Any] = Field(
        {}, description="Those that are others for a late run, of which Airflow tells no task: a subject, say."
    )
    question: dict[str, Any] = Field(
        {}, description="Those that are others for a question that waits for an answer: whether to promote."
    )


class Deployment(BaseSettings):
    """The environment variables that the DAG reads; the name of each is the field's with ``ZESHEL_`` before it."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    store: str = Field(min_length=1, description="Root of all runs and artifacts: s3://bucket/prefix or a directory.")
    runner: Runner = Field("process", description="What runs a stage: a child process, or a pod.")
    pods: PodSettings | None = Field(None, description="How pods are made, as JSON; for the kubernetes runner.")
    schedule: str | None = Field(None, description="Cron expression or @daily etc.; empty: only by hand.")
    schedule_asset: str | None = Field(
        None, min_length=1, description="URI of an Airflow Asset, the data set: a run begins whenever it is updated."
    )
    deadline_minutes: float | None = Field(
        None,
        gt=0,
        le=525_600,
        description="The notifier is told of a run that is not done so long after it was queued.",
    )
    notifier: Notifier | None = Field(
        None,
        description="Who is told of failed runs, missed deadlines and open questions, as JSON: class and kwargs of a "
        "notifier.",
    )
    defaults: dict[str, Any] = Field({}, description="Defaults of the trigger form, as JSON.")
    owner: str = Field("zeshel", min_length=1, description="Shown as the owner of the DAG's tasks.")
    pool: str = Field("default_pool", min_length=1, description="The Airflow pool that stages take a slot of.")
    max_active_runs: int = Field(1, ge=1, le=1000, description="Runs at the same time.")
    retries: int = Field(3, ge=0, le=100, description="Retries of a stage that crashed or asked to be tried again.")
    retry_delay_seconds: float = Field(30.0, gt=0, le=86_400, description="Before the first retry; then it doubles.")
    max_retry_delay_seconds: float = Field(1800.0, gt=0, le=86_400, description="It does not grow beyond this.")
    grace_seconds: float = Field(
        60.0, ge=0, le=3600, description="Process runner: what a stage gets to save a checkpoint when stopped."
    )


class RunConfig(BaseModel):
    """What a person decides for one run besides the recipe's settings; none of it changes a result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    approve: bool | None = Field(
        None, description="Ask a person before a better model is promoted: the task `approve` waits for the answer."
    )
    gpus: int | None = Field(
        None,
        ge=0,
        le=64,
        description="GPUs of a training, with one process each; an evaluation takes one. 0: the CPU. Empty: the "
        "deployment's number for pods, all that are there on one machine.",
    )
    memory: str | None = Field(
        None,
        pattern=r"^[1-9]\d*(\.\d+)?(Mi|Gi|Ti|M|G|T)$",
        max_length=20,
        description="Memory of each pod that runs a model (16Gi); only the kubernetes runner uses it. Empty: the "
        "deployment's.",
    )
    image: str | None = Field(
        None,
        pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$",
        max_length=500,
        description="Container image of the stages; only the kubernetes runner uses it. Empty: the deployment's.",
    )


def read_deployment() -> Deployment:
    """The deployment's settings from the environment.

    Raises:
        ConfigError: a variable is missing or wrong; all of them are named.
    """
    try:
        return Deployment()
    except ValidationError as error:
        raise ConfigError(*(_problem(item) for item in error.errors())) from error
    except SettingsError as error:  # a variable that is to hold JSON does not
        field = re.search('field "(.*?)"', str(error))
        variable = ENV_PREFIX + (field[1].upper() if field else "*")
        raise ConfigError(f"{variable}: expected a JSON object, got text that is not JSON") from error


def run_address(store: str, run_id: str) -> str:
    """Where the DAG run ``run_id`` keeps what it made: ``<store>/runs/<name>``."""
    return f"{store.rstrip('/')}/runs/{path_safe(run_id)}"


def path_safe(run_id: str) -> str:
    """``run_id`` as one path component that is safe in any file system and any object store.

    Airflow's own ids have colons and plus signs. Where something had to be replaced, a hash keeps two ids apart.
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
    message = "expected a JSON object" if item["type"].startswith("model_") else item["msg"]
    return f"{variable}: {message}; got {_shown(item['input'], field, within)}"


def _shown(value: Any, field: str, within: list[str]) -> str:
    """These messages are the DAG's import error, for all to see, and a notifier's settings may hold a password."""
    may_be_secret = field == "notifier" or "env" in within
    return f"a {type(value).__name__}" if may_be_secret else repr(value)
