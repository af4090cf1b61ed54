"""Hostile Params in Airflow's own API are refused with a message, or become one literal argument of the command."""

import os
import traceback
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk._shared.secrets_masker import redact
from airflow.sdk.exceptions import AirflowFailException

from tests.orchestration.real_airflow import DAG, ended
from tests.support.faults import Fault
from tests.support.whole_airflow import RENDERED
from zeshel_tasks.cli import _parser
from zeshel_tasks.demo.local_airflow import LocalAirflow
from zeshel_tasks.demo.local_airflow.client import AirflowRefused
from zeshel_tasks.orchestration.process.operator import _child_environment
from zeshel_tasks.orchestration.settings import path_safe
from zeshel_tasks.orchestration.stage_command import command_line
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step
from zeshel_tasks.text.safe_text import quoted

SHELL = "$(touch {canary}) `touch {canary}`; touch {canary} & touch {canary} | cat > {canary} ${IFS} \\ \"'"
TEMPLATE = "{{ var.value.hostile }} {{{{ run_id }}}} {% raw %} {{ ''.__class__ }} ${var.value.hostile}"
HOSTILE = {
    "shell, template and unicode": f"/no/{TEMPLATE} {SHELL} \u202e\u00e9\U0001f600",
    "yaml": "!!python/object/apply:os.system ['touch {canary}']",
    "flag": "--run={canary} --preset=blink",
}
DOWNLOAD = Step(STAGES["download"])


def source(text: str, folder: Path) -> str:
    return text.replace("{canary}", str(folder / "canary"))


def failed_log(airflow: LocalAirflow, run_id: str, params: dict[str, Any]) -> str:
    """Runs the DAG until its first task fails, and returns the log of that task."""
    airflow.client.trigger(DAG, {"preset": "smoke", **params}, run_id)
    return ended_log(airflow, run_id)


def ended_log(airflow: LocalAirflow, run_id: str) -> str:
    """Waits until the first task of a run fails, and returns the log of that task."""
    states = ended(airflow, run_id)
    assert states.pop("download") == "failed"
    assert set(states.values()) == {"upstream_failed"}
    return "\n".join(line.text for line in airflow.client.log(DAG, run_id, "download", 1))


@pytest.mark.timeout(400)
def test_hostile_text_arrives_as_one_literal_argument(
    airflow: LocalAirflow, airflow_folder: Path, fault: Fault
) -> None:
    """Each value is the address of the data set, which may be any text. The stage quotes it unchanged."""
    texts = [source(text, airflow_folder) for text in HOSTILE.values()]
    for number, text in enumerate(texts):
        airflow.client.trigger(DAG, {"preset": "smoke", "download.source": text}, f"hostile-{number}")
    for number, text in enumerate(texts):
        log = ended_log(airflow, f"hostile-{number}")
        assert f"source: expected a file, got {quoted(text)}: no such file" in log
        assert RENDERED not in log
        fault("params: hostile text")
    assert not (airflow_folder / "canary").exists()


@pytest.mark.timeout(400)
def test_secret_in_param_reaches_no_log_or_xcom(airflow: LocalAirflow, airflow_folder: Path, fault: Fault) -> None:
    address = "ftp://user:canary-password@host/x?token=canary-token"
    log = failed_log(airflow, "secret", {"download.source": address})
    assert "got 'ftp://***@host/x?***'" in log
    with pytest.raises(AirflowRefused):
        airflow.client.xcom(DAG, "secret", "download")
    # Airflow's database keeps the values from its form, see docs/security.md.
    files = [path for path in airflow_folder.rglob("*") if path.is_file() and not path.name.startswith("airflow.db")]
    logs = [path for path in files if path.suffix == ".log"]
    assert any(b"***@host" in path.read_bytes() for path in logs), "the log is not among the files"
    assert [path for path in files if b"canary-" in path.read_bytes()] == []
    fault("secrets: in a Param")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("download.source", "https://host/" + "x" * 1_000_000),
        ("download.source", "/no/first\nsecond"),
        ("download.source", "/no/\x00"),
        ("download.source", "/no/\x1b[31m"),
        ("download.source", ["/no"]),
        ("download.source", {"a": 1}),
        ("download.source", ""),
        ("bert_model", "x" * 5000),
        ("train_biencoder.biencoder_weights", "a\tb"),
        ("preset", "{{ var.value.hostile }}"),
        ("train_biencoder.learning_rate", "1e-3; touch canary"),
        ("train_biencoder.learning_rate", "{{ 1 }}"),
        ("memory", "16Gi --privileged"),
        ("image", "--privileged"),
        ("image", "x;y"),
        ("gpus", 10**30),
    ],
)
def test_api_refuses_invalid_param(airflow: LocalAirflow, name: str, value: Any, fault: Fault) -> None:
    with pytest.raises(AirflowRefused, match=name) as caught:
        airflow.client.trigger(DAG, {"preset": "smoke", name: value})
    assert caught.value.status == 400
    fault("params: refused by the API")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("run_id", ["../../../etc/x", "a/../b", "a b; touch canary", "{{ run_id }}", "-\n-"])
def test_api_refuses_path_or_command_as_run_id(airflow: LocalAirflow, run_id: str, fault: Fault) -> None:
    with pytest.raises(AirflowRefused) as caught:
        airflow.client.trigger(DAG, {"preset": "smoke", "download.source": "/no"}, run_id)
    assert caught.value.status in (400, 422)
    fault("params: hostile run id")


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_round_trips_through_command_line(kind: str, tmp_path: Path, fault: Fault) -> None:
    """For all texts, the parser reads the same values that the operators pass. Needs no Airflow."""
    text = source(HOSTILE[kind], tmp_path)
    arguments = command_line(DOWNLOAD, "/store/runs/r1", {"preset": "smoke", "download.source": text})
    assert arguments[-1] == f"--source={text}"
    options = vars(_parser().parse_args(arguments))
    assert (options["setting:source"], options["run"]) == (text, "/store/runs/r1")
    fault("params: hostile text")


@pytest.mark.parametrize(
    "params",
    [
        {"download.source": "\ud800"},
        {"download.source": "a\n"},
        {"--run": "/elsewhere"},
        {"download.source --run": "/elsewhere"},
        {"download.__class__": "x"},
        {"download": {"source": "x"}},
        {"image": "mine:2\n"},
        {"train_biencoder.device": "cpu\n"},
        {"device": "cpu\n"},
    ],
)
def test_params_the_form_would_refuse_make_no_command(params: dict[str, Any], fault: Fault) -> None:
    """A run that another DAG or a plugin created has not been checked by the form."""
    with pytest.raises(AirflowFailException, match="bad configuration, not retried"):
        command_line(DOWNLOAD, "/store/runs/r1", {"preset": "smoke", **params})
    fault("params: refused by the DAG")


def test_traceback_of_refused_param_has_no_secret() -> None:
    """Airflow writes the traceback of a failed task to its log, with those of all causes."""
    address = "ftp://user:canary-password@host/x?token=canary-token"
    with pytest.raises(AirflowFailException) as caught:
        command_line(DOWNLOAD, "/store/runs/r1", {"preset": "smoke", "download.source": address})
    assert "canary-" not in "".join(traceback.format_exception(caught.value))


def test_airflow_redacts_address_secrets_in_arguments() -> None:
    address = "https://someone:canary-password@host/x?signature=canary-signature"
    arguments = command_line(DOWNLOAD, "/store/runs/r1", {"download.source": address})
    assert arguments[-1] == f"--source={address}"
    shown = redact({"arguments": arguments})
    assert "--source=https://***@host/x?***" in shown["arguments"]


def test_stage_environment_has_no_airflow_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW_CONN_MY_DB", "AIRFLOW_VAR_PASSWORD"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "what the store needs")
    environment = _child_environment({})
    assert "canary" not in environment.values()
    assert environment["AWS_SECRET_ACCESS_KEY"] == "what the store needs"


@pytest.mark.parametrize("run_id", ["../../x", "..", ".", "a/b", "a\\b", "\x00", "x" * 5000, "--run=x", "{{ x }}"])
def test_hostile_run_id_stays_in_runs_folder(run_id: str) -> None:
    name = path_safe(run_id)
    assert Path(os.path.normpath(f"/store/runs/{name}")).parent == Path("/store/runs")
    assert name not in ("", ".", "..")
    assert len(name) < 256
