"""Writes runs and champions to an MLflow server."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeshel_tasks.champion.champions import Champion, read_champions
from zeshel_tasks.commands.tracked_stages import TrackedStage, finished_stages, milliseconds, public_address
from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.store import Run, Store
from zeshel_tasks.text.redaction import without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
MODEL = "ZESHEL_MLFLOW_MODEL"
DEFAULT_NAME = "zeshel"
ALIAS = "champion"
KEY = "zeshel.key"
"""Tag that identifies our run, as a hash, because MLflow's search rejects some characters of addresses."""

_LAST_STAGE = "promote"
_TURNS = 5  # an attempt fails if another process has replaced the MLflow run meanwhile
# MLflow's limits.
_METRICS_A_BATCH, _PARAMS_A_BATCH = 1000, 100


class Tracking:
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

    def _turn(self, run: Run) -> list[TrackedStage] | None:
        """Return the stages that MLflow now knows, or None if another process has replaced the MLflow run."""
        from mlflow.exceptions import RestException

        run_id, tags, stages = self._run_to_tell(run)
        try:
            for stage in stages:
                if tags.get(stage.tag_of_all[0]) != stage.tag_of_all[1]:
                    self._tell(run_id, run, stage)
                elif tags.get(stage.tag_of_its_reuse[0]) != stage.tag_of_its_reuse[1]:
                    self._client.set_tag(run_id, *stage.tag_of_its_reuse)
            ended = max(milliseconds(stage.manifest.finished_at) for stage in stages)
            self._client.set_terminated(run_id, end_time=ended)
        except RestException:
            if self._only_run(run) == run_id:
                raise
            return None
        if self._only_run(run) != run_id:
            return None
        log.info("MLflow: run %s", run_id)
        return stages

    def _run_to_tell(self, run: Run) -> tuple[str, dict[str, str], list[TrackedStage]]:
        """Return the MLflow run, its tags, and the run's stages. Replace an MLflow run that shows outdated results."""
        known = self._only_run(run)
        tags = {} if known is None else self._tags(known)
        stages = finished_stages(run)  # read after the tags: what other processes sent was in the store by then
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
        part = "crossencoder" if champion.fusion is None else "fusion"
        found = self._client.search_model_versions(f"tags.{part} = '{champion.identity}'")
        return next((version for version in found if version.name == name), None)

    def _register(self, name: str, store: Store, champion: Champion) -> Any:
        run_id = self._only_run(Run(store, champion.run))
        folders = {"biencoder": champion.biencoder, "crossencoder": champion.crossencoder}
        folders |= {} if champion.retriever is None else {"retriever": champion.retriever}
        folders |= {} if champion.fusion is None else {"fusion": champion.fusion}
        folders |= {} if champion.calibration is None else {"calibration": champion.calibration}
        addresses = {f"{part}_address": public_address(store, folder) for part, folder in folders.items()}
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
            self._experiment(), start_time=milliseconds(started_at), run_name=run.run_id, tags=tags
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

    def _tell(self, run_id: str, run: Run, stage: TrackedStage) -> None:
        from mlflow.entities import Metric, Param, RunTag

        params = [Param(key, value) for key, value in stage.params().items()]
        ended = milliseconds(stage.manifest.finished_at)
        metrics = [Metric(key, value, ended, step) for key, step, value in stage.points(run)]
        making = [*stage.tags_of_its_making(run).items(), stage.tag_of_its_reuse]
        # First, so that after a failure the tags say which artifact the recorded numbers may belong to.
        self._client.log_batch(run_id, tags=[RunTag(*tag) for tag in making])
        for start in range(0, len(params), _PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_A_BATCH])
        for start in range(0, len(metrics), _METRICS_A_BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _METRICS_A_BATCH])
        self._client.set_tag(run_id, *stage.tag_of_all)


def _key(run: Run) -> str:
    return hashlib.sha256(run.address.encode()).hexdigest()[:32]


def _as_uri(address: str) -> str:
    """MLflow rejects the local path of a model outside of its own folders."""
    return address if "://" in address else f"zeshel:{Path(address).absolute()}"
