"""The models that link text: those of a champion, or of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zeshel_tasks.champion.champions import KEY, Champion, models_fingerprint, read_champions
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.linking import evaluation_settings, retriever
from zeshel_tasks.linking.calibration import CALIBRATION_FILE, Calibration
from zeshel_tasks.linking.cascade import CASCADE_FILE, Calibrations, Cascade
from zeshel_tasks.linking.evaluation_settings import EvaluationSettings
from zeshel_tasks.linking.fusion import CROSSENCODER_ALONE, FUSION_FILE, Fusion
from zeshel_tasks.linking.retriever import Retriever
from zeshel_tasks.store import Artifact, Store
from zeshel_tasks.store.artifacts import read_manifest

STAGES = ("train-biencoder", "fit-retrieval", "train-crossencoder", "fuse")
"""The stages whose artifacts link text."""
CALIBRATE = "calibrate"


@dataclass(frozen=True)
class LinkerModels:
    """Artifacts of the models and of the weights that combine them. Their files are fetched on first use.

    Attributes:
        run: id of the run that made them.
        biencoder: of train-biencoder.
        fitted: of fit-retrieval; None if the bi-encoder retrieves alone (a champion of an earlier version).
        crossencoder: of train-crossencoder.
        fused: of fuse; None if the cross-encoder decides alone (a champion of an earlier version).
        calibrated: of calibrate; None if there are no probabilities (a champion of an earlier version).
    """

    run: str
    biencoder: Artifact
    fitted: Artifact | None
    crossencoder: Artifact
    fused: Artifact | None
    calibrated: Artifact | None = None

    @classmethod
    def of_champion(cls, store: Store, cache: Path, fingerprint: str | None = None) -> LinkerModels:
        """Opens the models of a store's champion.

        Args:
            store: the store.
            cache: local directory for fetched files.
            fingerprint: of the models of a champion, which may be an earlier one; None for the current one.

        Raises:
            ConfigError: there is no such champion, or its models were deleted.
            CorruptArtifact: a manifest, or the record of the champion, is broken.
        """
        return cls.of_record(store, read_champions(store).chosen(fingerprint), cache)

    @classmethod
    def of_record(cls, store: Store, champion: Champion, cache: Path) -> LinkerModels:
        """Opens the models of a champion; see :meth:`of_champion`."""

        def opened(folder: str) -> Artifact:
            manifest = read_manifest(store, folder)
            if manifest is None:
                raise ConfigError(
                    f"{store.address}/{KEY}: expected a champion whose models are in the store, got one whose {folder} "
                    "is gone"
                )
            return Artifact(store, folder, manifest, cache)

        return cls(
            run=champion.run,
            biencoder=opened(champion.biencoder),
            fitted=None if champion.retriever is None else opened(champion.retriever),
            crossencoder=opened(champion.crossencoder),
            fused=None if champion.fusion is None else opened(champion.fusion),
            calibrated=None if champion.calibration is None else opened(champion.calibration),
        )

    @classmethod
    def of_artifacts(cls, run: str, artifacts: Mapping[str, Artifact]) -> LinkerModels:
        """Takes the artifacts of :data:`STAGES` and of calibrate, if any, which were made from one another."""
        biencoder, fitted, crossencoder, fused = (artifacts[name] for name in STAGES)
        calibrated = artifacts.get(CALIBRATE)
        return cls(run, biencoder, fitted, crossencoder, fused, calibrated)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the fingerprints of all artifacts. Equal ones give the same scores."""
        parts = self.biencoder, self.fitted, self.crossencoder, self.fused, self.calibrated
        return models_fingerprint(None if part is None else part.manifest.fingerprint for part in parts)

    def evaluation(self) -> EvaluationSettings:
        """Reads how the evaluation linked mentions with these models."""
        if self.fused is None or evaluation_settings.FILE not in self.fused:
            return EvaluationSettings()
        return EvaluationSettings.read(self.fused.path(evaluation_settings.FILE))

    def retriever(self) -> Retriever:
        """Reads the settings and weights of the retriever."""
        return Retriever() if self.fitted is None else Retriever.read(self.fitted.path(retriever.FILE))

    def fusion(self) -> Fusion:
        """Reads the weights of the final score."""
        if self.fused is None:
            return CROSSENCODER_ALONE
        return Fusion.model_validate_json(self.fused.path(FUSION_FILE).read_bytes())

    def calibrations(self) -> Calibrations:
        """Reads what turns scores into probabilities, and which mentions the retriever makes clear, if known."""
        if self.calibrated is None:
            return Calibrations()
        reranked = Calibration.model_validate_json(self.calibrated.path(CALIBRATION_FILE).read_bytes())
        if CASCADE_FILE not in self.calibrated:
            return Calibrations(reranked)
        return Calibrations(reranked, Cascade.model_validate_json(self.calibrated.path(CASCADE_FILE).read_bytes()))
