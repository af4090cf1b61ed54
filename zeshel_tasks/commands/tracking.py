"""MLflow, where a tracking address is set: what a run did, and which model is the champion.

A stage that has done its work tells MLflow of every stage of its run that MLflow has not heard of: what could not be
told at one stage's end, since the server was down, is told at the next one's. ``zeshel track`` does the same by hand.
The store is the truth, and no stage fails because of MLflow.

What MLflow shows of a run is what the store has of it now. Parameters and steps cannot be taken back, so where a stage
was done again, the MLflow run is deleted and another one told from the start. MLflow is told of what has finished, and
by nobody of what failed, was rejected or was never begun: to MLflow, a run is FINISHED as far as it was told.
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
"""Tag of an MLflow run: tells our run, as a hash, since addresses have characters that no search takes."""

_LAST_STAGE = "promote"
# A stage holds a GPU while it tells MLflow. MLflow's own settings wait for many minutes for a silent server; with these
# the first request that stays without an answer costs 16 seconds, and is the last.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "8", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# MLflow prints the address of a run that has ended, with the password that is in it.
_PRINTS_NO_ADDRESS = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
_TURNS = 5  # each is lost to another process that has told the whole run meanwhile
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


@dataclass(frozen=True)
class _Stage:
    """A stage of a run that has finished."""

    name: str
    record: RunRecord
    manifest: Manifest

    def tags_of_its_making(self, run: Run) -> dict[str, str]:
        """What tells this artifact from another one that the stage had before, or has later."""
        address = _address(run.store, self.record.artifact)
        return {f"artifact.{self.name}": address, f"made.{self.name}": self.manifest.finished_at}

    @property
    def tag_of_its_reuse(self) -> tuple[str, str]:
        return f"reused.{self.name}", str(self.record.reused).lower()

    @property
    def tag_of_all(self) -> tuple[str, str]:
        """MLflow has heard all of it."""
        return f"stage.{self.name}", self.manifest.fingerprint


class _Tracking:
    """Writes to an MLflow server."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def run(self, run: Run) -> None:
        """All stages of ``run`` that MLflow has not heard of."""
        for _ in range(_TURNS):
            stages = self._turn(run)
            if stages is not None:
                break
        else:
            raise StoreUnavailable(f"{run.address}: its MLflow run was replaced {_TURNS} times while it was told")
        if any(stage.name == _LAST_STAGE for stage in stages):
            self.champion(run.store)

    def _turn(self, run: Run) -> list[_Stage] | None:
        """The stages that MLflow has heard of now; None where another process has replaced the MLflow run."""
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
        """The MLflow run, its tags, and the run's stages. One that shows what the run no longer has is replaced."""
        known = self._only_run(run)
        tags = {} if known is None else self._tags(known)
        stages = _finished(run)  # after the tags: what others told of was in the store by then
        if not stages:
            raise ConfigError(f"--run: expected a run with finished stages, got none at {run.address}")
        making = [item for stage in stages for item in stage.tags_of_its_making(run).items()]
        if known is not None and all(tags.get(key, value) == value for key, value in making):
            return known, tags, stages
        if known is not None:
            log.info("MLflow: run %s shows what was done again since: it is deleted, and told anew", known)
            self._client.delete_run(known)
        made = self._new_run(run, min(stage.manifest.started_at for stage in stages))
        return made, self._tags(made), stages

    def _tags(self, run_id: str) -> dict[str, str]:
        return dict(self._client.get_run(run_id).data.tags)

    def champion(self, store: Store) -> None:
        """The alias is at the version that is the store's champion; one that is not registered yet is."""
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
        # Not by the model's name: no search takes every name that a model may have.
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
        """A new MLflow run for ``run``, or that of another process that has made one meanwhile."""
        tags = {KEY: _key(run), "zeshel.run": without_secrets(run.address)}
        made = self._client.create_run(
            self._experiment(), start_time=_milliseconds(started_at), run_name=run.run_id, tags=tags
        )
        return self._only_run(run) or str(made.info.run_id)

    def _only_run(self, run: Run) -> str | None:
        """The MLflow run that stands for ``run``, if any.

        Evaluations that end side by side may each make one: all take the same for the right one and delete the others.
        Who was telling one of these finds it gone, and tells the right one.
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
        # First: where this breaks off, it is known of which artifact there may be numbers.
        self._client.log_batch(run_id, tags=[RunTag(*tag) for tag in making])
        for start in range(0, len(params), _PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_A_BATCH])
        for start in range(0, len(metrics), _METRICS_A_BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _METRICS_A_BATCH])
        self._client.set_tag(run_id, *stage.tag_of_all)


def _client() -> MlflowClient:
    if not os.environ.get(ADDRESS):
        raise ConfigError(f"{ADDRESS}: expected the address of an MLflow server; it is not set")
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
        log.warning("MLflow was not told, which changes nothing else: %s", error)
    except Exception as error:  # of whatever library: the stage is done, and is not to end red for a note about it
        # No traceback: it would show the address, in the words of whatever library.
        problem = f"{type(error).__name__}: {_without_secrets(error)}"
        log.warning("MLflow was not told, which changes nothing else: %s", problem)


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
        raise StoreUnavailable(f"{without_secrets(os.environ[ADDRESS])}: {_without_secrets(error)}") from error


def _without_secrets(error: Exception) -> str:
    """The first line of an error's message. Its library may quote the address, or a part of it."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    for secret in sorted(secrets_of(os.environ[ADDRESS]), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return redacted(text)[:500]


def _finished(run: Run) -> list[_Stage]:
    """The finished stages, without those whose inputs were done again since: they are not this run's results now."""
    found: dict[str, _Stage] = {}
    outdated: set[str] = set()
    for stage, split in RECIPE:
        name = stage.name_for(split)
        record = run.record(name)
        # One that a cleanup has in hand is not waited for: it is told at the next stage's end.
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
    """MLflow takes no local path for a model that lies outside of its own folders."""
    return address if "://" in address else f"zeshel:{Path(address).absolute()}"


def _numbers(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers in nested metrics: ``eval-biencoder-test.recall.micro.64``."""
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
    """Names of worlds may have characters that MLflow does not take, and be too long for it.

    A long one loses its middle: its end says which number it is (``recall.64``), and a hash which world.
    """
    plain = re.sub(r"[^\w\-. /]", "_", name)
    if len(plain) <= _METRIC_CHARACTERS:
        return plain
    middle = f"_{hashlib.sha256(name.encode()).hexdigest()[:16]}_"
    kept = (_METRIC_CHARACTERS - len(middle)) // 2
    return f"{plain[:kept]}{middle}{plain[-kept:]}"


def _milliseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)
