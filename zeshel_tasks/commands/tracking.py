"""MLflow, where a tracking address is set: what a run did, and which model is the champion.

A stage that has done its work tells MLflow of every stage of its run that MLflow has not heard of: what could not be
told at one stage's end, since the server was down, is told at the next one's. ``zeshel track`` does the same by hand.
MLflow is told, and never asked: the store is the truth, and no stage fails because of MLflow.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from zeshel_tasks.errors import ConfigError, StoreUnavailable, ZeshelError
from zeshel_tasks.redaction import recorded, without_secrets
from zeshel_tasks.stages.json_lines import read_json_lines
from zeshel_tasks.stages.registry import RECIPE
from zeshel_tasks.store import Manifest, Run, Store, open_run, open_store
from zeshel_tasks.store.champions import Champion, read_champions

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

ADDRESS = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
MODEL = "ZESHEL_MLFLOW_MODEL"
DEFAULT_NAME = "zeshel"
ALIAS = "champion"
KEY = "zeshel.key"
"""Tag of an MLflow run: tells our run, as a hash, since addresses have characters that no search takes."""

_LAST_STAGE = "promote"
# A stage is not to wait for minutes for a server that is down; MLflow's own defaults do.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
# MLflow's own bounds.
_METRICS_A_BATCH, _PARAMS_A_BATCH = 1000, 100
_METRIC_CHARACTERS, _PARAM_CHARACTERS = 250, 6000


def tell_of_run(run_address: str) -> None:
    """Tells MLflow of the finished stages of a run, if an address is set; what goes wrong is a warning."""
    _told(lambda: track_run(run_address))


def tell_of_champion(store_address: str) -> None:
    """Tells MLflow who the champion is, if an address is set; what goes wrong is a warning."""
    _told(lambda: _Tracking(_client()).champion(open_store(store_address)))


def track_run(run_address: str) -> None:
    """Tells MLflow of the finished stages of a run, and of the champion where the run came to promoting.

    Raises:
        ConfigError: no address is set, MLflow is not installed, or the run has no finished stage.
        StoreUnavailable: MLflow does not answer, or refuses.
    """
    run = open_run(run_address)
    with _refusals_named():
        _Tracking(_client()).run(run)


class _Tracking:
    """Writes to an MLflow server."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def run(self, run: Run) -> None:
        """All stages of ``run`` that MLflow has not heard of."""
        finished = _finished(run)
        if not finished:
            raise ConfigError(f"--run: expected a run with finished stages, got none at {run.address}")
        run_id = self._run_id(run, min(manifest.started_at for manifest in finished.values()))
        told = self._client.get_run(run_id).data
        params = dict(told.params)  # an MLflow parameter is written once, and two splits of a stage share theirs
        for name, manifest in finished.items():
            if told.tags.get(f"stage.{name}") != manifest.fingerprint:
                self._stage(run_id, run, name, manifest, params)
        if _LAST_STAGE in finished:
            self._client.set_terminated(run_id, end_time=_milliseconds(finished[_LAST_STAGE].finished_at))
            self.champion(run.store)
        log.info("MLflow: run %s", run_id)

    def champion(self, store: Store) -> None:
        """The alias is at the version that is the store's champion; one that is not registered yet is."""
        champion = read_champions(store).champion
        if champion is None:
            return
        name = os.environ.get(MODEL) or DEFAULT_NAME
        versions = self._versions(name)
        version = next((v for v in versions if v.tags.get("crossencoder") == champion.crossencoder), None)
        if version is None:
            version = self._register(name, store, champion)
        self._client.set_registered_model_alias(name, ALIAS, version.version)
        log.info("MLflow: version %s of the model %s is the champion", version.version, name)

    def _versions(self, name: str) -> list[Any]:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name, description="A zero-shot entity linker: bi- and cross-encoder.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return list(self._client.search_model_versions(f"name = '{name}'"))

    def _register(self, name: str, store: Store, champion: Champion) -> Any:
        run_id = self._known_run(Run(store, champion.run))
        folders = {"biencoder": champion.biencoder, "crossencoder": champion.crossencoder}
        addresses = {f"{part}_address": _address(store, folder) for part, folder in folders.items()}
        return self._client.create_model_version(
            name,
            _as_uri(addresses["crossencoder_address"]),
            run_id=run_id,
            description=str(champion.decision.get("reason", "")),
            tags={"zeshel.run": champion.run, "promoted_at": champion.promoted_at, **folders, **addresses},
            await_creation_for=0,
        )

    def _run_id(self, run: Run, started_at: str) -> str:
        """The MLflow run that stands for ``run``; it is made where there is none."""
        known = self._known_run(run)
        if known is not None:
            return known
        tags = {KEY: _key(run), "zeshel.run": without_secrets(run.address)}
        self._client.create_run(
            self._experiment(), start_time=_milliseconds(started_at), run_name=run.run_id, tags=tags
        )
        # Evaluations that end side by side may all have made one: one of them stays, and all find the same.
        first, *others = self._known_runs(run)
        for other in others:
            self._client.delete_run(other)
        return first

    def _known_run(self, run: Run) -> str | None:
        return next(iter(self._known_runs(run)), None)

    def _known_runs(self, run: Run) -> list[str]:
        found = self._client.search_runs([self._experiment()], f"tags.`{KEY}` = '{_key(run)}'")
        return sorted(known.info.run_id for known in found)

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = os.environ.get(EXPERIMENT) or DEFAULT_NAME
        known = self._client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._experiment()

    def _stage(self, run_id: str, run: Run, name: str, manifest: Manifest, params: dict[str, str]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        config = {
            f"{manifest.stage.replace('-', '_')}.{key}": str(value)[:_PARAM_CHARACTERS]
            for key, value in recorded(manifest.config).items()
        }
        new = [Param(key, value) for key, value in config.items() if key not in params]
        params |= config
        ended = _milliseconds(manifest.finished_at)
        points = [*((key, 0, value) for key, value in _numbers(name, manifest.metrics)), *_curve(run, name, manifest)]
        metrics = [Metric(_metric_name(key), value, ended, step) for key, step, value in points]
        metrics.append(Metric(f"{name}.work_seconds", manifest.wall_seconds, ended, 0))
        for start in range(0, len(new), _PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=new[start : start + _PARAMS_A_BATCH])
        for start in range(0, len(metrics), _METRICS_A_BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _METRICS_A_BATCH])
        record = run.record(name)
        assert record is not None
        tags = [
            RunTag(f"artifact.{name}", _address(run.store, record.artifact)),
            RunTag(f"reused.{name}", str(record.reused).lower()),
            RunTag(f"stage.{name}", manifest.fingerprint),  # last: MLflow has now heard of it
        ]
        self._client.log_batch(run_id, tags=tags)


def _client() -> MlflowClient:
    if not os.environ.get(ADDRESS):
        raise ConfigError(f"{ADDRESS}: expected the address of an MLflow server; it is not set")
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise ConfigError(
            f"{ADDRESS} is set, but MLflow is not installed: pip install 'zeshel-tasks[mlflow]'"
        ) from error
    return MlflowClient()


def _told(tell: Callable[[], None]) -> None:
    if not os.environ.get(ADDRESS):
        return
    try:
        with _refusals_named():
            tell()
    except ZeshelError as error:
        log.warning("MLflow was not told, which changes nothing else: %s", error)
    except Exception:  # of whatever library: the stage is done, and is not to end red for a note about it
        log.warning("MLflow was not told, which changes nothing else", exc_info=True)


@contextmanager
def _refusals_named() -> Iterator[None]:
    """MLflow's errors as ours; of a server that is down they have a page of text."""
    try:
        yield
    except ZeshelError:
        raise
    except Exception as error:  # of any library below MLflow's client: requests, urllib3, protobuf
        if not type(error).__module__.startswith(("mlflow", "requests", "urllib3", "google.protobuf")):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreUnavailable(f"{without_secrets(os.environ[ADDRESS])}: {without_secrets(first)[:500]}") from error


def _finished(run: Run) -> dict[str, Manifest]:
    names = [stage.name_for(split) for stage, split in RECIPE]
    return {name: manifest for name in names if (manifest := run.manifest(name)) is not None}


def _key(run: Run) -> str:
    return hashlib.sha256(run.address.encode()).hexdigest()[:32]


def _address(store: Store, folder: str) -> str:
    return f"{without_secrets(store.address)}/{folder}"


def _as_uri(address: str) -> str:
    """MLflow takes no local path for a model that lies outside of its own folders."""
    return address if "://" in address else f"zeshel:{Path(address).absolute()}"


def _numbers(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers in nested metrics: ``eval-biencoder-test.recall.micro.64``."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(f"{prefix}.{key}", value)
        elif isinstance(value, int | float):  # true and false too, as 1 and 0
            yield f"{prefix}.{key}", float(value)


def _curve(run: Run, name: str, manifest: Manifest) -> Iterator[tuple[str, int, float]]:
    """Loss, learning rate and validation accuracy of a training, by step."""
    if "curve.jsonl" not in manifest.files:
        return
    with TemporaryDirectory() as cache:
        for point in read_json_lines(run.artifact(name, Path(cache)).path("curve.jsonl")):
            for key in ("loss", "learning_rate", "valid_accuracy"):
                if point.get(key) is not None:
                    yield f"{name}.{key}", int(point["step"]), float(point[key])


def _metric_name(name: str) -> str:
    """Names of worlds may have characters that MLflow does not take."""
    return re.sub(r"[^\w\-. /]", "_", name)[:_METRIC_CHARACTERS]


def _milliseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)
