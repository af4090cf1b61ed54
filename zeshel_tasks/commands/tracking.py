"""Records runs and the champion in MLflow, if a tracking address is set.

A stage that has finished its work sends MLflow every finished stage of its run that MLflow does not know yet. If the
server was down at the end of one stage, the next stage sends its data. ``zeshel track`` does the same by hand. The
store is the source of truth, and no stage fails because of MLflow.

MLflow shows the present state of a run in the store. MLflow cannot remove parameters and steps, so if a stage was
repeated, its MLflow run is deleted and replaced by a new one. MLflow learns only about finished stages, not about those
that failed, were rejected or did not start. Its runs are always marked FINISHED.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from zeshel_tasks.champion.champions import Champion, read_champions
from zeshel_tasks.data.json_lines import read_json_lines
from zeshel_tasks.errors import ConfigError, StoreUnavailable, ZeshelError
from zeshel_tasks.pipeline.lineage import outdated_inputs
from zeshel_tasks.pipeline.registry import RECIPE
from zeshel_tasks.store import Artifact, Manifest, Run, RunRecord, Store, open_run, open_store
from zeshel_tasks.store.artifacts import read_manifest_now
from zeshel_tasks.text.redaction import HIDDEN, recorded, redacted, secrets_of, without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

ADDRESS = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
MODEL = "ZESHEL_MLFLOW_MODEL"
DEFAULT_NAME = "zeshel"
ALIAS = "champion"
KEY = "zeshel.key"
"""Tag that identifies our run, as a hash, because MLflow's search rejects some characters of addresses."""

_LAST_STAGE = "promote"
# A stage holds a GPU while it updates MLflow. By default, MLflow waits many minutes for a silent server. With these
# settings, the first unanswered request fails after 16 seconds and ends the update.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "8", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# At the end of a run, MLflow prints its address, including a password in it.
_PRINTS_NO_ADDRESS = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
_TURNS = 5  # an attempt fails if another process has replaced the MLflow run meanwhile
# MLflow's limits.
_METRICS_A_BATCH, _PARAMS_A_BATCH = 1000, 100
_METRIC_CHARACTERS, _PARAM_CHARACTERS = 250, 6000


def tell_of_run(run_address: str) -> None:
    """Send the finished stages of a run to MLflow, if an address is set. Failures are logged as warnings."""
    _told(lambda: track_run(run_address))


def tell_of_champion(store_address: str) -> None:
    """Send the champion to MLflow, if an address is set. Failures are logged as warnings."""
    _told(lambda: _Tracking(_client()).champion(open_store(store_address)))


def track_run(run_address: str) -> None:
    """Send the finished stages of a run to MLflow, and the champion if the run has finished ``promote``.

    Raises:
        ConfigError: no address is set, MLflow is not installed, or the run has no finished stage.
        StoreUnavailable: MLflow does not answer or rejects a request.
    """
    run = open_run(run_address)
    with _refusals_named():
        _Tracking(_client()).run(run)


@dataclass(frozen=True)
class _Stage:
    """A finished stage of a run."""

    name: str
    record: RunRecord
    manifest: Manifest

    def tags_of_its_making(self, run: Run) -> dict[str, str]:
        """Tags that distinguish this artifact from earlier and later ones of the stage."""
        address = _address(run.store, self.record.artifact)
        return {f"artifact.{self.name}": address, f"made.{self.name}": self.manifest.finished_at}

    @property
    def tag_of_its_reuse(self) -> tuple[str, str]:
        return f"reused.{self.name}", str(self.record.reused).lower()

    @property
    def tag_of_all(self) -> tuple[str, str]:
        """The tag that is set after MLflow has received everything about the stage."""
        return f"stage.{self.name}", self.manifest.fingerprint


class _Tracking:
    """Writes to an MLflow server."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def run(self, run: Run) -> None:
        """Send the stages of ``run`` that MLflow does not know, and the champion after the last stage."""
        for _ in range(_TURNS):
            stages = self._turn(run)
            if stages is not None:
                break
        else:
            raise StoreUnavailable(
                f"{run.address}: other processes replaced its MLflow run {_TURNS} times during the update"
            )
        if any(stage.name == _LAST_STAGE for stage in stages):
            self.champion(run.store)

    def _turn(self, run: Run) -> list[_Stage] | None:
        """Return the stages that MLflow now knows, or None if another process has replaced the MLflow run."""
        from mlflow.exceptions import RestException

        run_id, tags, stages = self._run_to_tell(run)
        try:
            for stage in stages:
                if tags.get(stage.tag_of_all[0]) != stage.tag_of_all[1]:
                    self._tell(run_id, run, stage)
                elif tags.get(stage.tag_of_its_reuse[0]) != stage.tag_of_its_reuse[1]:
                    self._client.set_tag(run_id, *stage.tag_of_its_reuse)
            ended = max(_milliseconds(stage.manifest.finished_at) for stage in stages)
            self._client.set_terminated(run_id, end_time=ended)
        except RestException:
            if self._only_run(run) == run_id:
                raise
            return None
        if self._only_run(run) != run_id:
            return None
        log.info("MLflow: run %s", run_id)
        return stages

    def _run_to_tell(self, run: Run) -> tuple[str, dict[str, str], list[_Stage]]:
        """Return the MLflow run, its tags, and the run's stages. Replace an MLflow run that shows outdated results."""
        known = self._only_run(run)
        tags = {} if known is None else self._tags(known)
        stages = _finished(run)  # read after the tags: what other processes sent was in the store by then
        if not stages:
            raise ConfigError(f"--run: expected a run with finished stages, got none at {run.address}")
        making = [item for stage in stages for item in stage.tags_of_its_making(run).items()]
        if known is not None and all(tags.get(key, value) == value for key, value in making):
            return known, tags, stages
        if known is not None:
            log.info("MLflow: run %s shows a stage that was repeated since; replacing the MLflow run", known)
            self._client.delete_run(known)
        made = self._new_run(run, min(stage.manifest.started_at for stage in stages))
        return made, self._tags(made), stages

    def _tags(self, run_id: str) -> dict[str, str]:
        return dict(self._client.get_run(run_id).data.tags)

    def champion(self, store: Store) -> None:
        """Point the alias to the version of the store's champion, and register that version if it is missing."""
        champion = read_champions(store).champion
        if champion is None:
            return
        name = os.environ.get(MODEL) or DEFAULT_NAME
        version = self._version(name, champion) or self._register(name, store, champion)
        self._client.set_registered_model_alias(name, ALIAS, version.version)
        log.info("MLflow: version %s of the model %s is the champion", version.version, name)

    def _version(self, name: str, champion: Champion) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name, description="A zero-shot entity linker: bi- and cross-encoder.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # Do not search by the model's name: the search rejects some valid names.
        found = self._client.search_model_versions(f"tags.crossencoder = '{champion.crossencoder}'")
        return next((version for version in found if version.name == name), None)

    def _register(self, name: str, store: Store, champion: Champion) -> Any:
        run_id = self._only_run(Run(store, champion.run))
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

    def _new_run(self, run: Run, started_at: str) -> str:
        """Create an MLflow run for ``run``, or return the one that another process has created meanwhile."""
        tags = {KEY: _key(run), "zeshel.run": without_secrets(run.address)}
        made = self._client.create_run(
            self._experiment(), start_time=_milliseconds(started_at), run_name=run.run_id, tags=tags
        )
        return self._only_run(run) or str(made.info.run_id)

    def _only_run(self, run: Run) -> str | None:
        """Return the MLflow run of ``run``, if any.

        Evaluations that end at the same time may each create one. All processes keep the same MLflow run and delete the
        others. A process whose MLflow run was deleted starts again with the one that was kept.
        """
        found = self._client.search_runs([self._experiment()], f"tags.`{KEY}` = '{_key(run)}'")
        run_ids = sorted(each.info.run_id for each in found)
        for other in run_ids[1:]:
            self._client.delete_run(other)
        return run_ids[0] if run_ids else None

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

    def _tell(self, run_id: str, run: Run, stage: _Stage) -> None:
        from mlflow.entities import Metric, Param, RunTag

        name, manifest = stage.name, stage.manifest
        params = [
            Param(f"{name.replace('-', '_')}.{key}", str(value)[:_PARAM_CHARACTERS])
            for key, value in recorded(manifest.config).items()
        ]
        ended = _milliseconds(manifest.finished_at)
        points = [*((key, 0, value) for key, value in _numbers(name, manifest.metrics)), *_curve(run, stage)]
        metrics = [Metric(_metric_name(key), value, ended, step) for key, step, value in points]
        metrics.append(Metric(f"{name}.work_seconds", manifest.wall_seconds, ended, 0))
        making = [*stage.tags_of_its_making(run).items(), stage.tag_of_its_reuse]
        # First, so that after a failure the tags say which artifact the recorded numbers may belong to.
        self._client.log_batch(run_id, tags=[RunTag(*tag) for tag in making])
        for start in range(0, len(params), _PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_A_BATCH])
        for start in range(0, len(metrics), _METRICS_A_BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _METRICS_A_BATCH])
        self._client.set_tag(run_id, *stage.tag_of_all)


def _client() -> MlflowClient:
    if not os.environ.get(ADDRESS):
        raise ConfigError(f"{ADDRESS}: expected the address of an MLflow server, got nothing")
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    os.environ.update(_PRINTS_NO_ADDRESS)
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
        log.warning("MLflow was not updated; nothing else is affected: %s", error)
    except Exception as error:  # of any library: the stage has finished and must not fail because of MLflow
        # No traceback, because any library in it may show the address.
        problem = f"{type(error).__name__}: {_without_secrets(error)}"
        log.warning("MLflow was not updated; nothing else is affected: %s", problem)


@contextmanager
def _refusals_named() -> Iterator[None]:
    """Convert MLflow's errors, which fill a page if the server is down, to one line."""
    try:
        yield
    except ZeshelError:
        raise
    except Exception as error:  # of any library below MLflow's client: requests, urllib3, protobuf
        if not type(error).__module__.startswith(("mlflow", "requests", "urllib3", "google.protobuf")):
            raise
        raise StoreUnavailable(f"{without_secrets(os.environ[ADDRESS])}: {_without_secrets(error)}") from error


def _without_secrets(error: Exception) -> str:
    """Return the first line of an error's message, without secrets of the address that the library may quote."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    for secret in sorted(secrets_of(os.environ[ADDRESS]), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return redacted(text)[:500]


def _finished(run: Run) -> list[_Stage]:
    """Return the finished stages, except those whose inputs were repeated since: their results are outdated."""
    found: dict[str, _Stage] = {}
    outdated: set[str] = set()
    for stage, split in RECIPE:
        name = stage.name_for(split)
        record = run.record(name)
        # Do not wait for an artifact that a cleanup is checking: the next stage sends it.
        manifest = None if record is None else read_manifest_now(run.store, record.artifact)
        if record is None or manifest is None:
            continue
        manifests = {other: done.manifest for other, done in found.items()}
        if outdated.intersection(manifest.inputs) or any(outdated_inputs(manifest, manifests)):
            outdated.add(name)
        else:
            found[name] = _Stage(name, record, manifest)
    return list(found.values())


def _key(run: Run) -> str:
    return hashlib.sha256(run.address.encode()).hexdigest()[:32]


def _address(store: Store, folder: str) -> str:
    return f"{without_secrets(store.address)}/{folder}"


def _as_uri(address: str) -> str:
    """MLflow rejects the local path of a model outside of its own folders."""
    return address if "://" in address else f"zeshel:{Path(address).absolute()}"


def _numbers(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Flatten the numbers in nested metrics: ``eval-biencoder-test.recall.micro.64``."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(f"{prefix}.{key}", value)
        elif isinstance(value, int | float):  # true and false too, as 1 and 0
            yield f"{prefix}.{key}", float(value)


def _curve(run: Run, stage: _Stage) -> Iterator[tuple[str, int, float]]:
    """Loss, learning rate and validation accuracy of a training, by step."""
    if "curve.jsonl" not in stage.manifest.files:
        return
    with TemporaryDirectory() as cache:
        artifact = Artifact(run.store, stage.record.artifact, stage.manifest, Path(cache))
        for point in read_json_lines(artifact.path("curve.jsonl")):
            for key in ("loss", "learning_rate", "valid_accuracy"):
                if point.get(key) is not None:
                    yield f"{stage.name}.{key}", int(point["step"]), float(point[key])


def _metric_name(name: str) -> str:
    """Replace characters that MLflow rejects, and shorten long names, which may come from names of worlds.

    A long name loses its middle. Its end identifies the metric (``recall.64``), and a hash identifies the world.
    """
    plain = re.sub(r"[^\w\-. /]", "_", name)
    if len(plain) <= _METRIC_CHARACTERS:
        return plain
    middle = f"_{hashlib.sha256(name.encode()).hexdigest()[:16]}_"
    kept = (_METRIC_CHARACTERS - len(middle)) // 2
    return f"{plain[:kept]}{middle}{plain[-kept:]}"


def _milliseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)
