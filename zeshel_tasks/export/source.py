"""What is exported: the models of a run or of the champion, and what their manifests say about their making."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zeshel_tasks.linking.models import LinkerModels
from zeshel_tasks.pipeline.registry import RECIPE
from zeshel_tasks.stages.run_models import models_of_run
from zeshel_tasks.store import Artifact, Manifest, Store, artifact_folder, open_run, open_store
from zeshel_tasks.store.artifacts import read_manifest

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
            ConfigError: a stage has not finished, or was not repeated after one that it depends on.
            CorruptArtifact: a record or a manifest is broken.
        """
        return cls._of(models_of_run(open_run(address), cache))

    @classmethod
    def of_champion(cls, address: str, cache: Path) -> Source:
        """Opens the models of a store's champion.

        Raises:
            ConfigError: there is no champion, or its models are not in the store.
            CorruptArtifact: the champion's record or a manifest is broken.
        """
        return cls._of(LinkerModels.of_champion(open_store(address), cache))

    @classmethod
    def _of(cls, models: LinkerModels) -> Source:
        last = models.crossencoder if models.fused is None else models.fused
        made = {part.manifest.stage: part.manifest for part in (models.biencoder, models.crossencoder, last)}
        return cls(models.run, models.biencoder, models.crossencoder, _with_inputs(last.store, made))

    @property
    def identity(self) -> dict[str, str]:
        """The fingerprints of the models. Equal ones have the same vectors and scores."""
        models = {"biencoder": self.biencoder, "crossencoder": self.crossencoder}
        return {name: artifact.manifest.fingerprint for name, artifact in models.items()}


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
