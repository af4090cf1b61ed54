"""Configures the demo's Airflow with environment variables: its own folders, ports and secrets."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from zeshel_tasks.text.json_text import to_json

USER = "admin"
PARALLEL_TASKS = 5  # three evaluations run at once, and a worker stays busy for a moment after its task


@dataclass(frozen=True)
class Secrets:
    """Created once for an Airflow home and stored there, so that its database stays readable."""

    password: str
    fernet_key: str
    jwt_secret: str
    api_secret: str


def airflow_environment(home: Path, dags: Path, port: int, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of every Airflow process: ours without Airflow settings, plus those of the demo.

    Args:
        home: AIRFLOW_HOME, absolute.
        dags: the folder of DAG files, absolute.
        port: of the API server, on 127.0.0.1.
        extra: added last (``ZESHEL_STORE``, ...).
    """
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW_", "_AIRFLOW", "ZESHEL_"))}
    settings = _folders(home, dags) | _server(home, port) | _secrets(home) | _PACE
    # SPT_NOENV: processes that set their title keep their environment, by which processes.py finds them.
    own = {"AIRFLOW_HOME": str(home), "SPT_NOENV": "1"} | {f"AIRFLOW__{key}": value for key, value in settings.items()}
    return {**keep, **own, **extra}


def read_secrets(home: Path) -> Secrets:
    """The secrets of this home; created at first use, readable only by the owner."""
    path = home / "secrets.json"
    if not path.exists():
        made = Secrets(
            password=secrets.token_urlsafe(9),
            fernet_key=base64.urlsafe_b64encode(os.urandom(32)).decode(),
            jwt_secret=secrets.token_urlsafe(64),
            api_secret=secrets.token_urlsafe(32),
        )
        _write_private(path, to_json(asdict(made)))
    return Secrets(**json.loads(path.read_text()))


def free_port() -> int:
    """A free TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _folders(home: Path, dags: Path) -> dict[str, str]:
    return {
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        # Processes write to the one database in turns. With 5 s, SQLite's default, requests fail on a busy machine.
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _server(home: Path, port: int) -> dict[str, str]:
    passwords = home / "passwords.json"
    _write_private(passwords, to_json({USER: read_secrets(home).password}))
    return {
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__BASE_URL": f"http://localhost:{port}",
        "API__WORKERS": "1",
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }


def _secrets(home: Path) -> dict[str, str]:
    made = read_secrets(home)
    return {
        "CORE__FERNET_KEY": made.fernet_key,
        "API_AUTH__JWT_SECRET": made.jwt_secret,
        "API__SECRET_KEY": made.api_secret,
    }


# Leave two cores to the stages: parse rarely, but look for tasks to start often.
_PACE = {
    "CORE__EXECUTOR": "LocalExecutor",
    "CORE__PARALLELISM": str(PARALLEL_TASKS),
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    "DAG_PROCESSOR__PARSING_PROCESSES": "1",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "600",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",  # a worker notices the end of its task at this interval
}


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
