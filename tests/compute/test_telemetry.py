"""The metrics that a collector receives from stages, and stages whose collector is away, slow or wrong."""

import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, get_meter_provider
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.support.fork_server import fork_server
from zeshel_tasks.cli import main
from zeshel_tasks.compute import telemetry
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA, EXIT_OK
from zeshel_tasks.orchestration.task_command import submitted_now
from zeshel_tasks.training import launch

ADDRESS = "OTEL_EXPORTER_OTLP_ENDPOINT"
PASSWORD = "s3cr3t-of-the-collector"

Points = dict[str, list[tuple[dict[str, Any], float]]]


class Collector(ThreadingHTTPServer):
    """Receives metrics by OTLP over HTTP. Answers each request with ``status``."""

    def __init__(self, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.points: Points = {}
        self.services: list[dict[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def receive(self, body: bytes) -> None:
        for of_process in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            self.services.append(_plain(of_process.resource.attributes))
            for metric in (metric for scope in of_process.scope_metrics for metric in scope.metrics):
                for point in metric.gauge.data_points:
                    value = point.as_double if point.HasField("as_double") else point.as_int
                    self.points.setdefault(metric.name, []).append((_plain(point.attributes), value))


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/metrics" and self.server.status == 200:
            self.server.receive(body)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def flags(raw_archive: Path, golden: Path, tmp_path: Path) -> list[str]:
    """Settings of a recipe that takes seconds."""
    settings = {
        "run": tmp_path / "store" / "runs" / "first", "source": raw_archive, "bert_model": golden / "bert",
        "max_mentions_per_world": 6, "max_context_length": 32, "max_cand_length": 32, "max_seq_length": 64, "top_k": 8,
        "device": "cpu", "num_train_epochs": 1, "print_interval": 0.001,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in settings.items()]


def run(arguments: list[str], log: Path, environment: Mapping[str, str]) -> int:
    """Runs ``zeshel`` in a new process, which writes to ``log``. Returns its exit code."""
    process = fork_server().Process(target=_run, args=(arguments, log, dict(environment)))
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def _run(arguments: list[str], log: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    sys.stdout = log.open("a", encoding="utf-8")
    sys.exit(main(arguments))


def test_collector_receives_the_metrics_of_all_stages(collector: Collector, flags: list[str], tmp_path: Path) -> None:
    environment = {ADDRESS: collector.address, **submitted_now(), "OTEL_RESOURCE_ATTRIBUTES": "team=search"}
    assert run(["pipeline", *flags], tmp_path / "log", environment) == EXIT_OK, (tmp_path / "log").read_text()
    ended = {attributes["stage"]: value for attributes, value in collector.points["zeshel.stage.exit_code"]}
    assert {"download", "train-biencoder", "eval-biencoder-test", "promote"} <= set(ended)
    assert set(ended.values()) == {EXIT_OK}
    assert all(attributes["run"] == "first" for attributes, _ in collector.points["zeshel.stage.duration"])
    assert all(value > 0 for _, value in collector.points["zeshel.stage.duration"])
    assert all(value > 0 for _, value in collector.points["zeshel.stage.queue_time"])
    losses = {attributes["stage"]: value for attributes, value in collector.points["zeshel.training.loss"]}
    assert set(losses) == {"train-biencoder", "train-crossencoder"}
    assert all(value > 0 for value in losses.values())
    validations = {(each["stage"], each["measure"]) for each, _ in collector.points["zeshel.training.validation"]}
    assert ("train-biencoder", "valid_recall") in validations
    units = {(attributes["stage"], attributes["unit"]) for attributes, _ in collector.points["zeshel.progress.rate"]}
    assert {("train-biencoder", "mentions"), ("eval-biencoder-test", "entities")} <= units
    assert all(0 <= value <= 1 for _, value in collector.points["zeshel.progress.done"])
    assert all(value > 1e6 for _, value in collector.points["zeshel.process.memory"])
    assert all(each["service.name"] == "zeshel" and each["team"] == "search" for each in collector.services)


@pytest.mark.parametrize(
    ("setting", "code"), [("--source=/nowhere.tar.bz2", EXIT_CONFIG), ("--source={broken}", EXIT_DATA)]
)
def test_collector_learns_how_a_stage_failed(
    collector: Collector, flags: list[str], tmp_path: Path, setting: str, code: int
) -> None:
    (tmp_path / "broken.tar.bz2").write_bytes(b"no archive")
    arguments = ["download", *flags[:1], setting.format(broken=tmp_path / "broken.tar.bz2")]
    assert run(arguments, tmp_path / "log", {ADDRESS: collector.address}) == code
    assert collector.points["zeshel.stage.exit_code"] == [({"stage": "download", "run": "first"}, code)]


@pytest.mark.parametrize(
    "environment", [{}, {ADDRESS: ""}, {ADDRESS: "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}]
)
def test_without_an_address_nothing_is_set_up(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert telemetry._provider() is None


@pytest.mark.parametrize("status", [0, 401, 503])
def test_no_stage_fails_because_of_a_collector(
    collector: Collector, flags: list[str], tmp_path: Path, status: int
) -> None:
    collector.status = status
    address = collector.address if status else f"http://user:{PASSWORD}@127.0.0.1:1"
    environment = {ADDRESS: address, "OTEL_METRIC_EXPORT_INTERVAL": "10"}
    assert run(["download", *flags[:2]], tmp_path / "log", environment) == EXIT_OK
    _check_one_warning(tmp_path / "log", "metrics for http://")


def test_no_stage_waits_long_for_a_silent_collector(flags: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = {ADDRESS: address, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
        assert run(["download", *flags[:2]], tmp_path / "log", environment) == EXIT_OK
    _check_one_warning(tmp_path / "log", "metrics for http://")


@pytest.mark.parametrize(
    "environment",
    [
        {ADDRESS: "collector:4318"},
        {ADDRESS: "http://"},
        {ADDRESS: f"ftp://user:{PASSWORD}@collector"},
        {ADDRESS: "http://collector:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {ADDRESS: "http://collector:4318", "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={PASSWORD}\n"},
        {ADDRESS: "http://collector:4318", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/"},
        {ADDRESS: "http://collector:4318", "OTEL_METRIC_EXPORT_INTERVAL": "-1"},
        {ADDRESS: "http://collector:4318", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
        {ADDRESS: "http://collector:4318", "HTTP_PROXY": "proxy:port"},
    ],
)
def test_wrong_settings_are_named_and_nothing_is_sent(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", environment.get("OTEL_EXPORTER_OTLP_TIMEOUT", "1"))
    with telemetry.exported():
        assert get_meter_provider().__class__.__name__ == "_ProxyMeterProvider"
    [warning] = caplog.messages
    assert warning.startswith(f"no metrics are sent: {[*environment][-1]}")
    assert PASSWORD not in warning


def _check_one_warning(log: Path, beginning: str) -> None:
    text = log.read_text()
    warnings = [line for line in text.splitlines() if line.startswith(("WARNING", "ERROR"))]
    assert [line.removeprefix("WARNING: ").startswith(beginning) for line in warnings] == [True], text
    assert PASSWORD not in text


def test_training_in_several_processes_is_measured_by_the_first(collector: Collector, tmp_path: Path) -> None:
    for rank in (1, 0):
        process = fork_server().Process(target=_train, args=(collector.address, rank, tmp_path))
        process.start()
        process.join(120)
        assert process.exitcode == 0
    assert collector.points["zeshel.training.loss"] == [({"stage": "train-biencoder", "run": "second"}, 0.5)]


def _train(address: str, rank: int, scratch: Path) -> None:
    os.environ[ADDRESS] = address
    attributes = {"stage": "train-biencoder", "run": "second"}
    launch._process(rank, _record, None, launch._Ranks(0, 2, 2, {}), scratch, attributes)


def _record(_: None) -> None:
    telemetry.record_training(7, 0.5 + int(os.environ["RANK"]), 1e-5)


def test_gpus_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 2,
        mem_get_info=lambda gpu: (gpu * 10, 80),
        utilization=lambda gpu: 50 + gpu,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    observe = telemetry._of_gpus(telemetry._share_in_use)
    assert [(each.value, each.attributes["gpu"]) for each in observe(CallbackOptions())] == [(0.5, 0), (0.51, 1)]


def test_gpus_are_not_measured_before_their_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: False)))
    assert list(telemetry._of_gpus(telemetry._share_in_use)(CallbackOptions())) == []


def test_use_of_gpus_is_left_out_without_nvidias_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_library(_: int) -> int:
        raise ModuleNotFoundError("pynvml")

    assert telemetry._share_in_use(SimpleNamespace(utilization=without_library), 0) is None
