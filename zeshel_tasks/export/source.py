"""What is exported: the models of a run or of the champion, and what their manifests say about their making."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zeshel_tasks.champion.champions import KEY, read_champions
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.pipeline.registry import RECIPE
from zeshel_tasks.store import Artifact, Manifest, Store, artifact_folder, open_run, open_store
from zeshel_tasks.store.artifacts import read_manifest

log = logging.getLogger(__name__)

_STAGES = {stage.name_for(split): stage.name for stage, split in RECIPE}


@dataclass(frozen=True)
class Source:
    """The models to export.

    Attributes:
        run: id of the run that made them.
        biencoder: artifact of train-biencoder. Its files are fetched on first use.
        crossencoder: artifact of train-crossencoder.
        manifests: of the steps from which the models were made and with which they were evaluated, by name, as far as
            the store still has them.
    """

    run: str
    biencoder: Artifact
    crossencoder: Artifact
    manifests: Mapping[str, Manifest]

    @classmethod
    def of_run(cls, address: str, cache: Path) -> Source:
        """Opens the models of a run.

        Raises:
            ConfigError: a model has not been trained, or the cross-encoder was trained with another bi-encoder.
            CorruptArtifact: a record or a manifest is broken.
        """
        run = open_run(address)
        models = run.artifact("train-biencoder", cache), run.artifact("train-crossencoder", cache)
        return cls._of(run.run_id, *models, run.manifest("fuse"))

    @classmethod
    def of_champion(cls, address: str, cache: Path) -> Source:
        """Opens the models of a store's champion.

        Raises:
            ConfigError: there is no champion, or its models are not in the store.
            CorruptArtifact: the champion's record or a manifest is broken.
        """
        store = open_store(address)
        champion = read_champions(store).champion
        if champion is None:
            raise ConfigError(f"--store: expected a store with a champion, got none in {store.address}/{KEY}")
        models = (_opened(store, folder, cache) for folder in (champion.biencoder, champion.crossencoder))
        fused = None if champion.fusion is None else read_manifest(store, champion.fusion)
        return cls._of(champion.run, *models, fused)

    @classmethod
    def _of(cls, run: str, biencoder: Artifact, crossencoder: Artifact, fused: Manifest | None) -> Source:
        store, own = crossencoder.store, biencoder.manifest.fingerprint
        trained_with = crossencoder.manifest.inputs.get("train-biencoder", own)
        if trained_with != own:
            raise ConfigError(
                f"{store.address}/runs/{run}: train-crossencoder: expected one that was made from the run's "
                f"train-biencoder {own[:12]}, got one from {trained_with[:12]}: run train-crossencoder again"
            )
        made = {"train-biencoder": biencoder.manifest, "train-crossencoder": crossencoder.manifest}
        manifests = _with_inputs(store, made)
        if fused is not None:
            evaluated = _with_inputs(store, {"fuse": fused})
            if evaluated.get("train-crossencoder", crossencoder.manifest) == crossencoder.manifest:
                manifests = evaluated | manifests
            else:
                log.warning("left out the metrics of fuse, because train-crossencoder was repeated after it")
        return cls(run, biencoder, crossencoder, manifests)

    @property
    def identity(self) -> dict[str, str]:
        """The fingerprints of the models. Equal ones have the same vectors and scores."""
        models = {"biencoder": self.biencoder, "crossencoder": self.crossencoder}
        return {name: artifact.manifest.fingerprint for name, artifact in models.items()}


def _opened(store: Store, folder: str, cache: Path) -> Artifact:
    manifest = read_manifest(store, folder)
    if manifest is None:
        raise ConfigError(f"{store.address}/{KEY}: expected a champion whose models are in the store, {folder} is gone")
    return Artifact(store, folder, manifest, cache)


def _with_inputs(store: Store, manifests: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """Returns the manifests and those of all steps from which they were made, by name."""
    found, left = dict(manifests), list(manifests.values())
    while left:
        for name, fingerprint in left.pop().inputs.items():
            if name in found or name not in _STAGES:
                continue
            manifest = read_manifest(store, artifact_folder(_STAGES[name], fingerprint))
            if manifest is not None:
                found[name] = manifest
                left.append(manifest)
    return found
