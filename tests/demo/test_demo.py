import argparse
import json
import os
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from zeshel_tasks.demo import __main__ as demo
from zeshel_tasks.demo.local_airflow import AirflowFailed, LocalAirflow
from zeshel_tasks.demo.local_airflow.client import LogLine, TaskState
from zeshel_tasks.demo.local_airflow.configuration import airflow_environment, free_port, read_secrets
from zeshel_tasks.demo.local_airflow.processes import end_groups, end_processes_of_home
from zeshel_tasks.demo.local_airflow.server import SCHEDULER
from zeshel_tasks.demo.watch import failed_lines, watch

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
WRITE_OUT = "import sys, pathlib; pathlib.Path(sys.argv[sys.argv.index('--out') + 1]).write_text(' '.join(sys.argv))"


def start(code: str, **env: str) -> subprocess.Popen[bytes]:
    """Starts a Python process in its own group, and waits until it has printed its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, **env}, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout as printed:
        assert printed.readline() == b"up\n"
    return process


def test_environment_has_only_airflow_settings_of_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_CONFIG", "/etc/airflow.cfg")
    monkeypatch.setenv("ZESHEL_RUNNER", "kubernetes")
    env = airflow_environment(tmp_path, Path("/dags"), 4711, {"ZESHEL_STORE": "/s"})
    assert env["AIRFLOW_HOME"] == str(tmp_path)
    assert env["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert env["AIRFLOW__API__PORT"] == "4711"
    assert env["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert "AIRFLOW_CONFIG" not in env
    assert "ZESHEL_RUNNER" not in env
    assert env["ZESHEL_STORE"] == "/s"
    assert env["PATH"] == os.environ["PATH"]


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    made = read_secrets(tmp_path)
    assert read_secrets(tmp_path) == made
    airflow_environment(tmp_path, Path("/dags"), 1, {})
    assert json.loads((tmp_path / "passwords.json").read_text()) == {"admin": made.password}
    for name in ("secrets.json", "passwords.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_free_port_is_in_unprivileged_range() -> None:
    assert 1024 < free_port() < 65536


def test_process_group_ignoring_sigterm_is_killed() -> None:
    process = start(STUBBORN)
    end_groups([process], 0.2)
    assert process.returncode == -signal.SIGKILL


def test_only_processes_of_the_airflow_home_are_ended(tmp_path: Path) -> None:
    ours = start("print('up', flush=True); import time; time.sleep(600)", AIRFLOW_HOME=str(tmp_path))
    stubborn = start(STUBBORN, AIRFLOW_HOME=str(tmp_path))
    other = start(STUBBORN, AIRFLOW_HOME=str(tmp_path / "other"))
    try:
        assert end_processes_of_home(tmp_path, 0.5) == 2
        assert ours.poll() is not None
        assert stubborn.poll() is not None
        assert other.poll() is None
        assert end_processes_of_home(tmp_path, 0.5) == 0
    finally:
        end_groups([ours, stubborn, other], 0)


def options(folder: Path, **given: Any) -> argparse.Namespace:
    return argparse.Namespace(folder=folder, **{"data": None, "model": None, **given})


def test_sample_inputs_are_made_only_on_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "ZESHEL", [sys.executable, "-c", WRITE_OUT])
    found = demo._inputs(options(tmp_path))
    assert found["download.source"] == str(tmp_path / "sample_worlds.tar.bz2")
    model = Path(found["bert_model"])
    assert f"make-small-bert --data {found['download.source']}" in model.read_text()
    monkeypatch.setattr(demo, "ZESHEL", ["false"])
    assert demo._inputs(options(tmp_path)) == found


def test_failed_creation_of_inputs_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "ZESHEL", [sys.executable, "-c", WRITE_OUT + "; sys.exit(1)"])
    with pytest.raises(subprocess.CalledProcessError):
        demo._inputs(options(tmp_path))
    assert not (tmp_path / "sample_worlds.tar.bz2").exists()


def test_each_data_set_gets_its_own_small_bert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "ZESHEL", [sys.executable, "-c", WRITE_OUT])
    first = demo._inputs(options(tmp_path))
    second = demo._inputs(options(tmp_path, data="https://example.org/other.tar.bz2"))
    assert second["download.source"] == "https://example.org/other.tar.bz2"
    assert second["bert_model"] != first["bert_model"]
    assert demo._inputs(options(tmp_path, model="bert-base-uncased"))["bert_model"] == "bert-base-uncased"


def test_command_line_params_are_json_or_text() -> None:
    parsed = demo._parser().parse_args(["--param", "gpus=0", "--param", "device=cpu", "--param", "seed=1e3", "--exit"])
    assert dict(parsed.param) == {"gpus": 0, "device": "cpu", "seed": 1000.0}
    with pytest.raises(SystemExit):
        demo._parser().parse_args(["--param", "gpus"])


def test_end_of_failed_log_is_shown_without_airflow_grouping() -> None:
    log = [LogLine("info", text) for text in ("::group::Pre", "", "one", "two", "::endgroup::")]
    assert failed_lines(log, 2) == ["one", "two"]


class FakeAirflow:
    """Shows three states of a run with one task."""

    LOG = (LogLine("info", "::group::Pre Execute"), LogLine("info", "zeshel report --run=r"), LogLine("info", "50%"))

    def __init__(self) -> None:
        self.look = -1

    def run_state(self, _dag: str, _run: str) -> str:
        self.look += 1
        return ["running", "running", "success"][self.look]

    def task_states(self, _dag: str, _run: str) -> list[TaskState]:
        began = datetime(2026, 1, 1, tzinfo=UTC)
        state = ["queued", "running", "success"][self.look]
        ended = began.replace(minute=1, second=5) if state == "success" else None
        return [TaskState("report", state, 1, None if state == "queued" else began, ended)]

    def log(self, *_: object) -> list[LogLine]:
        return list(self.LOG)


@pytest.mark.parametrize("terminal", [False, True])
def test_watch_follows_run_to_its_end(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeshel_tasks.demo.watch.POLL_SECONDS", 0)
    screen = StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120)
    checks: list[None] = []
    assert watch(FakeAirflow(), "zeshel", "r", console, lambda: checks.append(None)) == "success"
    assert len(checks) == 3
    for expected in ("report", "running", "50%", "success", "1m 05s"):
        assert expected in screen.getvalue()


def test_remote_data_set_needs_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demo.main(["--data", "https://example.org/zeshel.tar.bz2", "--exit"])
    assert "expected a local file, to build a small BERT from it" in capsys.readouterr().err


def test_crashed_scheduler_is_started_again_three_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    airflow = LocalAirflow(tmp_path, tmp_path, {}, "zeshel", said.append)
    code = "import sys; print('the last words'); sys.exit(1)"
    monkeypatch.setattr(LocalAirflow, "_command", staticmethod(lambda _: [sys.executable, "-c", code]))
    airflow._spawn("scheduler", SCHEDULER)
    for _ in range(3):
        airflow._components["scheduler"].wait()
        airflow.check()
    airflow._components["scheduler"].wait()
    with pytest.raises(AirflowFailed, match=r"airflow scheduler ended with exit code 1\nthe last words"):
        airflow.check()
    assert len(said) == 3


def test_other_crashed_component_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    airflow = LocalAirflow(tmp_path, tmp_path, {}, "zeshel", print)
    monkeypatch.setattr(LocalAirflow, "_command", staticmethod(lambda _: [sys.executable, "-c", "raise SystemExit(2)"]))
    airflow._spawn("triggerer", ["triggerer"])
    airflow._components["triggerer"].wait()
    with pytest.raises(AirflowFailed, match="airflow triggerer ended with exit code 2"):
        airflow.check()
