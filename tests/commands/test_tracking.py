"""What an MLflow server is told, asked of a real one; and that a stage does not suffer from one that is down."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from tests.finished import NAMES, manifest_of
from zeshel_tasks.cli import main
from zeshel_tasks.commands import tracking
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_OK, EXIT_TRY_AGAIN
from zeshel_tasks.orchestration.demo.airflow_config import free_port
from zeshel_tasks.store import LocalStore, Run
from zeshel_tasks.store.champions import Champion, read_champions

START_SECONDS = 180


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a tracking server of its own."""
    folder, address = tmp_path_factory.mktemp("mlflow"), f"http://127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1",
               "--backend-store-uri", f"sqlite:///{folder}/db", "--artifacts-destination", str(folder)]  # fmt: skip
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            _wait_for(f"{address}/health", server, folder / "log")
            yield address
        finally:
            server.terminate()


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < give_up:
        try:
            if httpx.get(address).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"expected an MLflow server, got:\n{log.read_text()}")


@pytest.fixture
def client(mlflow_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> MlflowClient:
    """Of that server, with an experiment and a model of the test's own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)
    monkeypatch.setenv("ZESHEL_MLFLOW_MODEL", request.node.name)
    return MlflowClient(mlflow_server)


def only_run(client: MlflowClient, name: str) -> MlflowRun:
    """The one run of the experiment."""
    (run,) = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    return run


def test_a_run_is_there_with_parameters_metrics_curves_and_addresses(
    client: MlflowClient, finished_run: Run, request: pytest.FixtureRequest
) -> None:
    assert main(["track", "--run", finished_run.address]) == EXIT_OK
    run = only_run(client, request.node.name)
    assert (run.info.run_name, run.info.status) == (finished_run.run_id, "FINISHED")
    config = manifest_of(finished_run, "train-biencoder").config
    assert run.data.params["train_biencoder.learning_rate"] == str(config["learning_rate"])
    recall = manifest_of(finished_run, "eval-biencoder-test").metrics["recall"]["micro"]
    assert {at: run.data.metrics[f"eval-biencoder-test.recall.micro.{at}"] for at in recall} == recall
    assert run.data.metrics["promote.promoted"] == 1
    losses = client.get_metric_history(run.info.run_id, "train-crossencoder.loss")
    assert [point.step for point in losses] == sorted({point.step for point in losses}) != []
    assert all(0 < point.value < 20 for point in losses)
    for name in NAMES:
        record = finished_run.record(name)
        assert record is not None
        assert run.data.tags[f"artifact.{name}"] == f"{finished_run.store.address}/{record.artifact}"


def test_it_is_told_once_however_often_it_is_told(
    client: MlflowClient, finished_run: Run, request: pytest.FixtureRequest
) -> None:
    for _ in range(2):
        assert main(["track", "--run", finished_run.address]) == EXIT_OK
    run_id = only_run(client, request.node.name).info.run_id
    assert len(client.get_metric_history(run_id, "eval-crossencoder-test.mentions")) == 1
    assert len(client.search_model_versions(f"name = '{request.node.name}'")) == 1


def test_a_stage_tells_of_those_before_it_that_could_not(
    client: MlflowClient, finished_run: Run, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """As after a night in which the server was down: the next stage makes up for it."""
    shutil.copytree(finished_run.store.address, tmp_path / "store")  # what is told is recorded in the run
    assert main(["promote", "--run", f"{tmp_path}/store/runs/{finished_run.run_id}", "--preset", "smoke"]) == EXIT_OK
    told = only_run(client, request.node.name).data.tags
    assert {name for name in NAMES if f"stage.{name}" in told} == set(NAMES)


def test_the_alias_is_at_the_champion_and_follows_a_roll_back(
    client: MlflowClient, finished_run: Run, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path)
    for name in ("monday", "tuesday"):
        made = Champion(
            run=name, biencoder=f"b/{name}", crossencoder=f"c/{name}", promoted_at="now", decision={"reason": "better"}
        )
        assert read_champions(store).promote(made)
        tracking.tell_of_champion(store.address)
    model = request.node.name
    assert client.get_model_version_by_alias(model, "champion").tags["crossencoder"] == "c/tuesday"
    assert main(["rollback", "--store", store.address]) == EXIT_OK
    champion = client.get_model_version_by_alias(model, "champion")
    assert (champion.tags["zeshel.run"], champion.version) == ("monday", "1")
    assert champion.source.endswith("/c/monday")


def test_a_server_that_is_down_is_a_warning_and_nothing_else(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING):
        tracking.tell_of_run(finished_run.address)
    (warning,) = [line for line in caplog.messages if line.startswith("MLflow was not told")]
    assert "127.0.0.1" in warning
    assert "secret" not in warning
    assert main(["track", "--run", finished_run.address]) == EXIT_TRY_AGAIN


def test_an_error_of_any_library_is_a_warning_too(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-such-scheme://nowhere")
    monkeypatch.setattr("zeshel_tasks.commands.tracking._finished", lambda _: 1 / 0)
    with caplog.at_level(logging.WARNING):
        tracking.tell_of_run(finished_run.address)
    assert "MLflow was not told" in caplog.text


def test_without_an_address_nothing_is_told_and_mlflow_is_not_imported(finished_run: Run) -> None:
    code = f"""
import sys
from zeshel_tasks.commands.tracking import tell_of_champion, tell_of_run
tell_of_run({finished_run.address!r})
tell_of_champion({finished_run.store.address!r})
assert not [name for name in sys.modules if name.split(".")[0] == "mlflow"]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_track_by_hand_says_what_is_missing(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["track", "--run", finished_run.address]) == EXIT_CONFIG
    assert "MLFLOW_TRACKING_URI: expected the address of an MLflow server" in capsys.readouterr().out


def test_an_address_without_mlflow_says_what_to_install(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with caplog.at_level(logging.WARNING):
        tracking.tell_of_run(finished_run.address)
    assert "pip install 'zeshel-tasks[mlflow]'" in caplog.text
