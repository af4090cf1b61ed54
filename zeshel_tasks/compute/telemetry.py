"""Metrics by OTLP, if ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`` is set.

Without an address, the instruments of OpenTelemetry's API do nothing. With one, :func:`exported` sends their values
every ``OTEL_METRIC_EXPORT_INTERVAL`` milliseconds and when the command ends. The store is the source of truth, and no
stage fails or waits long because of a collector.

All instruments are gauges, because a stage is one short process: a counter would begin at zero with each of them.
docs/operations.md lists them.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from zeshel_tasks import __version__
from zeshel_tasks.credentials import check_credentials, check_files
from zeshel_tasks.errors import EXIT_CRASH, EXIT_OK, ConfigError, ZeshelError
from zeshel_tasks.location import is_server
from zeshel_tasks.proxies import check_proxies
from zeshel_tasks.text.redaction import without_secrets
from zeshel_tasks.text.safe_text import quoted

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider

log = logging.getLogger(__name__)

SUBMITTED_AT = "ZESHEL_SUBMITTED_AT"
_ADDRESSES = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HEADERS = ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_FILES = tuple(
    f"OTEL_EXPORTER_OTLP_{kind}{name}"
    for kind in ("METRICS_", "")
    for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
)
# A stage holds a GPU, and a pod that was told to stop has little time, while the last values are sent. The default is
# 10 seconds.
_PATIENCE, _PATIENCE_SECONDS = "OTEL_EXPORTER_OTLP_TIMEOUT", 5
_NUMBERS = (
    _PATIENCE,
    "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_METRIC_EXPORT_TIMEOUT",
)
_OF_THE_PROCESS: dict[str, str] = {}  # attributes of every value: the run and the stage at work

_meter = metrics.get_meter("zeshel", __version__)
_duration = _meter.create_gauge("zeshel.stage.duration", "s", "Time that the command took for a stage")
_queue_time = _meter.create_gauge("zeshel.stage.queue_time", "s", "Time from the creation of the pod to its first work")
_exit_code = _meter.create_gauge("zeshel.stage.exit_code", "", "How a stage ended, as the command's exit code")
_done = _meter.create_gauge("zeshel.progress.done", "1", "Share of the present work that is done, from 0 to 1")
_rate = _meter.create_gauge("zeshel.progress.rate", "1/s", "Mentions, entities or other units in a second")
_step = _meter.create_gauge("zeshel.training.step", "{step}", "Optimizer steps of a training")
_loss = _meter.create_gauge("zeshel.training.loss", "", "Mean loss of the last steps")
_learning_rate = _meter.create_gauge("zeshel.training.learning_rate", "", "Learning rate of the last step")
_validation = _meter.create_gauge("zeshel.training.validation", "1", "Recall or accuracy on the valid worlds")


@contextmanager
def exported() -> Iterator[None]:
    """Sends the values of all instruments meanwhile, if an address is set. Problems are logged as warnings."""
    provider = _provider()
    try:
        yield
    finally:
        if provider is not None:
            _shut_down(provider)


@contextmanager
def stage(name: str, run: str | None = None) -> Iterator[None]:
    """Gives all values the attributes ``stage`` and ``run``, and measures how long the stage takes and how it ends.

    Args:
        name: name of the step, such as ``eval-biencoder-test``, or of another command.
        run: id of the run, if the command belongs to one.
    """
    started, code = time.monotonic(), EXIT_OK
    _OF_THE_PROCESS.update({"stage": name} if run is None else {"stage": name, "run": run})
    if (waited := _seconds_in_queue()) is not None:
        _queue_time.set(waited, _OF_THE_PROCESS)
    try:
        yield
    except BaseException as error:
        code = error.exit_code if isinstance(error, ZeshelError) else EXIT_CRASH
        raise
    finally:
        _duration.set(time.monotonic() - started, _OF_THE_PROCESS)
        _exit_code.set(code, _OF_THE_PROCESS)


def attributes() -> dict[str, str]:
    """Returns the attributes of the stage at work, for :func:`take_over` in a process of it."""
    return dict(_OF_THE_PROCESS)


def take_over(attributes: Mapping[str, str]) -> None:
    """Gives the values of this process the attributes of the process that started it."""
    _OF_THE_PROCESS.update(attributes)


def record_progress(what: str, share: float | None, rate: float, unit: str) -> None:
    """Records how far the work is.

    Args:
        what: the work, as the progress line names it.
        share: share of the work that is done, from 0 to 1; None if the whole is not known.
        rate: units in a second.
        unit: what ``rate`` counts, in the plural.
    """
    if share is not None:
        _done.set(share, {**_OF_THE_PROCESS, "work": what})
    _rate.set(rate, {**_OF_THE_PROCESS, "work": what, "unit": unit})


def record_training(step: int, loss: float, learning_rate: float) -> None:
    """Records a point of a training's curve."""
    _step.set(step, _OF_THE_PROCESS)
    _loss.set(loss, _OF_THE_PROCESS)
    _learning_rate.set(learning_rate, _OF_THE_PROCESS)


def record_validation(figures: Mapping[str, float]) -> None:
    """Records the measures of a validation, by name."""
    for measure, value in figures.items():
        _validation.set(value, {**_OF_THE_PROCESS, "measure": measure})


def _seconds_in_queue() -> float | None:
    """The time since the creation of the pod: for a place in a queue, a node, an image and the imports of the stage.

    The start of the process, as the system knows it, is wrong by what the clock was set since the node's start.
    """
    submitted = os.environ.get(SUBMITTED_AT)
    return None if submitted is None else max(0.0, time.time() - float(submitted))


def _memory(_: CallbackOptions) -> Iterable[Observation]:
    yield Observation(psutil.Process().memory_info().rss, _OF_THE_PROCESS)


def _share_in_use(cuda: Any, gpu: int) -> float | None:
    """The share of time with a busy GPU, from 0 to 1; None without NVIDIA's library."""
    try:
        share: float = cuda.utilization(gpu) / 100
    except ModuleNotFoundError:
        return None
    return share


def _of_gpus(measure: Callable[[Any, int], float | None]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """A callback that measures each GPU of this process. A stage that has not used torch.cuda has no GPU to measure."""

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return
        for gpu in range(torch.cuda.device_count()):
            if (value := measure(torch.cuda, gpu)) is not None:
                yield Observation(value, {**_OF_THE_PROCESS, "gpu": gpu})

    return observe


_meter.create_observable_gauge("zeshel.process.memory", [_memory], "By", "Resident memory of the process")
_meter.create_observable_gauge(
    "zeshel.gpu.memory.used",
    [_of_gpus(lambda cuda, gpu: cuda.mem_get_info(gpu)[1] - cuda.mem_get_info(gpu)[0])],
    "By",
    "Memory of a GPU that is in use, by all processes",
)
_meter.create_observable_gauge(
    "zeshel.gpu.memory.total", [_of_gpus(lambda cuda, gpu: cuda.mem_get_info(gpu)[1])], "By", "Memory of a GPU"
)
_meter.create_observable_gauge("zeshel.gpu.use", [_of_gpus(_share_in_use)], "1", "Share of time with a busy GPU")


def _provider() -> MeterProvider | None:
    """The provider of the API's instruments, which sends their values; None if there is no address, or a wrong one."""
    variable = next((name for name in _ADDRESSES if os.environ.get(name)), None)
    if variable is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        return _started(variable)
    except ConfigError as error:
        for line in str(error).splitlines():
            log.warning("no metrics are sent: %s", line)
        return None


def _started(variable: str) -> MeterProvider:
    address = os.environ[variable]
    if not is_server(address):
        shown = quoted(without_secrets(address))
        raise ConfigError(f"{variable}: expected an address like http://collector:4318, got {shown}")
    for name in _PROTOCOLS:
        if os.environ.get(name, "http/protobuf") != "http/protobuf":
            raise ConfigError(f"{name}: expected http/protobuf, got {quoted(os.environ[name])}")
    os.environ.setdefault(_PATIENCE, str(_PATIENCE_SECONDS))
    for name in _NUMBERS:
        if name in os.environ and not re.fullmatch(r"\d*[1-9]\d*(\.\d+)?|0?\.\d*[1-9]\d*", os.environ[name]):
            raise ConfigError(f"{name}: expected a number above 0, got {quoted(os.environ[name])}")
    check_proxies()
    check_credentials(_HEADERS)
    check_files(_FILES)
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
    except ImportError as error:
        raise ConfigError(
            f"{variable} is set, but OpenTelemetry's SDK is not installed: pip install 'zeshel-tasks[otlp]'"
        ) from error
    opentelemetry = logging.getLogger("opentelemetry")
    opentelemetry.handlers, opentelemetry.propagate = [_FirstProblem(without_secrets(address))], False
    instance = {"service.instance.id": f"{socket.gethostname()}-{os.getpid()}", "service.version": __version__}
    service = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "zeshel"}
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    provider = MeterProvider([reader], Resource.create(service | instance), shutdown_on_exit=False)
    metrics.set_meter_provider(provider)
    return provider


def _shut_down(provider: MeterProvider) -> None:
    try:
        # A second more, in which a request that gets no answer says so.
        provider.shutdown(timeout_millis=1000 * (float(os.environ[_PATIENCE]) + 1))
    except Exception as error:  # its own class is Exception
        log.warning("the last metrics may be lost: %s", error)


class _FirstProblem(logging.Handler):
    """Turns what OpenTelemetry logs into one warning. It logs a collector that is away as errors, again and again."""

    def __init__(self, address: str) -> None:
        super().__init__(logging.WARNING)
        self._address, self._said = address, False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._said:
            self._said = True
            log.warning("metrics for %s, said once: %s", self._address, record.getMessage())
