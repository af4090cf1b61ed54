"""The data that MLflow receives, read from a real server, and stages whose MLflow server is down."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from tests.champion.test_champions import champion, put_models
from tests.support.finished import NAMES, copy_of, manifest_of
from tests.support.silent_server import connections_of
from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.cli import main
from zeshel_tasks.commands import tracking
from zeshel_tasks.commands.tracked_stages import milliseconds
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.demo.local_airflow.configuration import free_port
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_OK, EXIT_TRY_AGAIN
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.store import LocalStore, Run

START_SECONDS = 180
PASSWORD = "s3cr3t-of-mlflow"


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a tracking server for these tests."""
    folder, address = tmp_path_factory.mktemp("mlflow"), f"http://127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1",
               "--backend-store-uri", f"sqlite:///{folder}/db", "--artifacts-destination", str(folder)]  # fmt: skip
    # Its job runner starts nine processes, which only MLflow's features for language models need.
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, env=env) as server:
        try:
            _wait_for(f"{address}/health", server, folder / "log")
            yield address
        finally:
            server.terminate()


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    with httpx.Client() as client:
        while server.poll() is None and time.monotonic() < give_up:
            try:
                if client.get(address).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
    pytest.fail(f"expected an MLflow server, got:\n{log.read_text()}")


@pytest.fixture
def client(mlflow_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> MlflowClient:
    """A client of that server, with an experiment and a model for each test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)
    monkeypatch.setenv("ZESHEL_MLFLOW_MODEL", request.node.name)
    return MlflowClient(mlflow_server)


def only_run(client: MlflowClient, name: str) -> MlflowRun:
    """Returns the only run of the experiment."""
    (run,) = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    return run


@pytest.fixture
def own_run(finished_run: Run, tmp_path: Path) -> Run:
    """A copy of the finished run that a test may change."""
    return copy_of(finished_run, tmp_path)


def with_password(address: str) -> str:
    return address.replace("://", f"://someone:{PASSWORD}@")


def test_mlflow_run_has_parameters_metrics_curves_and_addresses(
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


def test_repeated_updates_send_a_stage_once(
    client: MlflowClient, finished_run: Run, request: pytest.FixtureRequest
) -> None:
    for _ in range(2):
        assert main(["track", "--run", finished_run.address]) == EXIT_OK
    run_id = only_run(client, request.node.name).info.run_id
    assert len(client.get_metric_history(run_id, "eval-crossencoder-test.mentions")) == 1
    assert len(client.search_model_versions(f"name = '{request.node.name}'")) == 1


def test_stage_sends_earlier_stages_that_mlflow_lacks(
    client: MlflowClient, own_run: Run, request: pytest.FixtureRequest
) -> None:
    """The server was down, and the next stage sends the missing data."""
    assert main(["promote", "--run", own_run.address, "--preset", "smoke"]) == EXIT_OK
    told = only_run(client, request.node.name).data.tags
    assert {name for name in NAMES if f"stage.{name}" in told} == set(NAMES)


def test_incomplete_run_is_marked_finished(client: MlflowClient, own_run: Run, request: pytest.FixtureRequest) -> None:
    """MLflow does not learn about failed stages and rejected promotions."""
    for name in NAMES[NAMES.index("eval-crossencoder-test") + 1 :]:
        own_run.store.delete(f"runs/{own_run.run_id}/stages/{name}.json")
    tracking.track_run(own_run.address)
    run = only_run(client, request.node.name)
    last = manifest_of(own_run, "eval-crossencoder-test").finished_at
    assert (run.info.status, run.info.end_time) == ("FINISHED", milliseconds(last))


def test_repeated_stage_replaces_the_mlflow_run(
    client: MlflowClient, own_run: Run, small_recipe: Recipe, request: pytest.FixtureRequest
) -> None:
    """Other settings have the same run id, and MLflow cannot delete parameters and steps."""
    tracking.track_run(own_run.address)
    before = only_run(client, request.node.name)
    biencoder = small_recipe.train_biencoder.model_copy(update={"learning_rate": 7e-5})
    recipe = small_recipe.model_copy(update={"train_biencoder": biencoder})
    run_stage(STAGES["train-biencoder"], own_run.address, recipe, None)
    tracking.track_run(own_run.address)

    now = only_run(client, request.node.name)
    assert now.data.params["train_biencoder.learning_rate"] == "7e-05"
    steps = [point.step for point in client.get_metric_history(now.info.run_id, "train-biencoder.loss")]
    assert steps == sorted(set(steps)) != []
    told = {name for name in NAMES if f"stage.{name}" in now.data.tags}
    assert told == {"download", "convert", "train-biencoder"}, "what was made from the bi-encoder before is not of it"
    champion = client.get_model_version_by_alias(request.node.name, "champion")
    assert champion.run_id == before.info.run_id
    assert client.get_run(champion.run_id).info.lifecycle_stage == "deleted"

    run_stage(STAGES["fit-retrieval"], own_run.address, recipe)
    tracking.track_run(own_run.address)
    assert only_run(client, request.node.name).info.run_id == now.info.run_id, "it is replaced once, not at each stage"


def test_interrupted_update_resumes_without_duplicates(
    client: MlflowClient, finished_run: Run, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "set_tag", lambda *_: 1 / 0)  # the last request about a stage
        with pytest.raises(ZeroDivisionError):
            tracking.track_run(finished_run.address)
    tracking.track_run(finished_run.address)
    run_id = only_run(client, request.node.name).info.run_id
    assert len(client.get_metric_history(run_id, "download.work_seconds")) == 1


def test_update_continues_in_the_mlflow_run_that_was_kept(
    client: MlflowClient, finished_run: Run, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two evaluations that end at the same time may both have created one."""
    log_batch = MlflowClient.log_batch
    gone: list[str] = []

    def while_another_deletes_it(self: MlflowClient, run_id: str, *args: Any, **options: Any) -> Any:
        if not gone:
            gone.append(run_id)
            client.delete_run(run_id)
        return log_batch(self, run_id, *args, **options)

    monkeypatch.setattr(MlflowClient, "log_batch", while_another_deletes_it)
    tracking.track_run(finished_run.address)
    run = only_run(client, request.node.name)
    assert [run.info.run_id] != gone
    assert {name for name in NAMES if f"stage.{name}" in run.data.tags} == set(NAMES)


def test_one_complete_mlflow_run_remains_of_two_concurrent_ones(
    client: MlflowClient, finished_run: Run, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_run = MlflowClient.create_run
    rival: list[str] = []

    def made_twice(self: MlflowClient, *args: Any, **options: Any) -> Any:
        if not rival:
            rival.append(create_run(self, *args, **options).info.run_id)
        return create_run(self, *args, **options)

    monkeypatch.setattr(MlflowClient, "create_run", made_twice)
    tracking.track_run(finished_run.address)
    run = only_run(client, request.node.name)
    assert {name for name in NAMES if f"stage.{name}" in run.data.tags} == set(NAMES)


def test_model_may_have_any_name_that_mlflow_accepts(
    client: MlflowClient, finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = 'the team\'s "linker" %'
    monkeypatch.setenv("ZESHEL_MLFLOW_MODEL", name)
    for _ in range(2):
        tracking.tell_of_champion(finished_run.store.address)
    assert client.get_model_version_by_alias(name, "champion").version == "1"


def test_password_in_the_address_is_never_printed(
    client: MlflowClient, mlflow_server: str, own_run: Run, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("MLFLOW_TRACKING_URI", with_password(mlflow_server))
    with caplog.at_level(logging.DEBUG):
        tracking.track_run(own_run.address)
        tracking.tell_of_champion(own_run.store.address)
    assert "MLflow: run " in caplog.text
    assert PASSWORD not in caplog.text + "".join(capfd.readouterr())


def test_error_that_quotes_the_address_hides_its_password(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", with_password("http://127.0.0.1:1"))

    def fails(_: str) -> Any:
        raise RuntimeError(f"someone:{PASSWORD}@127.0.0.1 of {with_password('http://127.0.0.1:1')} is no host")

    monkeypatch.setattr("zeshel_tasks.commands.tracking.open_run", fails)
    with caplog.at_level(logging.DEBUG):
        tracking.tell_of_run(finished_run.address)
    assert "RuntimeError: ***@127.0.0.1 of http://***@127.0.0.1:1 is no host" in caplog.text
    assert PASSWORD not in caplog.text


def test_silent_server_gets_two_requests(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # instead of 8 seconds, twice
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system accepts for it
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        tracking.tell_of_run(finished_run.address)
        assert connections_of(silent) == 2
    assert "MLflow was not updated" in caplog.text


def test_alias_points_to_the_champion_and_follows_a_rollback(
    client: MlflowClient, finished_run: Run, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path)
    for name in ("monday", "tuesday"):
        put_models(store, champion(name))
        assert read_champions(store).promote(champion(name))
        tracking.tell_of_champion(store.address)
    model = request.node.name
    assert client.get_model_version_by_alias(model, "champion").tags["crossencoder"] == champion("tuesday").crossencoder
    assert main(["rollback", "--store", store.address]) == EXIT_OK
    version = client.get_model_version_by_alias(model, "champion")
    assert (version.tags["zeshel.run"], version.version) == ("monday", "1")
    assert version.tags["fusion"] == champion("monday").fusion
    assert version.source.endswith(f"/{champion('monday').crossencoder}")


def test_unreachable_server_causes_only_a_warning(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING):
        tracking.tell_of_run(finished_run.address)
    (warning,) = [line for line in caplog.messages if line.startswith("MLflow was not updated")]
    assert "127.0.0.1" in warning
    assert "secret" not in warning
    assert main(["track", "--run", finished_run.address]) == EXIT_TRY_AGAIN


def test_error_of_any_library_causes_only_a_warning(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-such-scheme://nowhere")
    monkeypatch.setattr("zeshel_tasks.commands.tracking_writer.finished_stages", lambda _: 1 / 0)
    with caplog.at_level(logging.WARNING):
        tracking.tell_of_run(finished_run.address)
    assert "MLflow was not updated" in caplog.text


def test_nothing_is_sent_and_mlflow_is_not_imported_without_an_address(finished_run: Run) -> None:
    code = f"""
import sys
from zeshel_tasks.commands.tracking import tell_of_champion, tell_of_run
tell_of_run({finished_run.address!r})
tell_of_champion({finished_run.store.address!r})
assert not [name for name in sys.modules if name.split(".")[0] == "mlflow"]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_track_command_names_what_is_missing(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["track", "--run", finished_run.address]) == EXIT_CONFIG
    assert "MLFLOW_TRACKING_URI: expected the address of an MLflow server" in capsys.readouterr().out


def test_address_without_mlflow_names_the_package_to_install(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with caplog.at_level(logging.WARNING):
        tracking.tell_of_run(finished_run.address)
    assert "pip install 'zeshel-tasks[mlflow]'" in caplog.text
