"""The models that link text, in memory."""

from __future__ import annotations

from dataclasses import dataclass

from zeshel_tasks.compute.device import Inference
from zeshel_tasks.config.link import LinkConfig, LinkMode
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.evaluation.mention_search import MentionSearch
from zeshel_tasks.linking.cascade import Calibrations
from zeshel_tasks.linking.fusion import Fusion
from zeshel_tasks.linking.models import LinkerModels
from zeshel_tasks.linking.reranker import Reranker
from zeshel_tasks.linking.retriever import Retriever


@dataclass(frozen=True)
class LoadedModels:
    """Models in memory. Linkers of several knowledge bases share them.

    Attributes:
        run: id of the run that made them.
        biencoder: fingerprint of the bi-encoder.
        config: device, precision, batch sizes, number of candidates, mode.
        retriever, fusion: settings and weights that combine scores.
        calibrations: what turns scores into probabilities.
        search: the mention tower of the bi-encoder.
        reranker: the cross-encoder; None if the mode of ``config`` re-ranks nothing.
    """

    run: str
    biencoder: str
    config: LinkConfig
    retriever: Retriever
    fusion: Fusion
    calibrations: Calibrations
    search: MentionSearch
    reranker: Reranker | None

    @classmethod
    def load(cls, models: LinkerModels, config: LinkConfig) -> LoadedModels:
        """Loads models.

        Args:
            models: the models.
            config: see :class:`LoadedModels`.

        Raises:
            ConfigError: the device does not exist, or the models cannot link in the mode of ``config``.
        """
        calibrations = models.calibrations()
        calibrations.check(config.mode)
        placement = Inference.of(config)
        return cls(
            run=models.run,
            biencoder=models.biencoder.manifest.fingerprint,
            config=config,
            retriever=models.retriever(),
            fusion=models.fusion(),
            calibrations=calibrations,
            search=MentionSearch.load(models.biencoder.directory("model"), config, placement),
            reranker=None if config.mode == "retrieve" else Reranker(models.crossencoder.directory("model"), placement),
        )

    def check(self, mode: LinkMode) -> None:
        """Checks that these models can link in a mode.

        Raises:
            ConfigError: they have no cascade, or no cross-encoder was loaded.
        """
        self.calibrations.check(mode)
        if mode != "retrieve" and self.reranker is None:
            raise ConfigError(f"mode: expected retrieve, for which the models were loaded, got {mode}")
