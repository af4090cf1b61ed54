"""A knowledge base with the models that link to it. A request uses one such pair from its beginning to its end."""

from __future__ import annotations

import logging
import shutil
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zeshel_tasks.champion.champions import Champion, Champions
from zeshel_tasks.config.link import LinkConfig, LinkMode, Offsets
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.knowledge_base.calibrating import Own
from zeshel_tasks.knowledge_base.head import HeadCalibration
from zeshel_tasks.link_files.answers import Answers, linked_by
from zeshel_tasks.link_files.contexts import mention_of_text
from zeshel_tasks.link_files.lines import LineReader
from zeshel_tasks.linking.entity_set import EntitySet
from zeshel_tasks.linking.link_config import link_config, threshold_of
from zeshel_tasks.linking.linker import Linked, Linker
from zeshel_tasks.linking.loaded_models import LoadedModels
from zeshel_tasks.linking.models import LinkerModels
from zeshel_tasks.serving.batcher import Batcher
from zeshel_tasks.store import Store

_WARM_UP = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ServedModels:
    """The models of a champion, in memory.

    Attributes:
        record: the champion.
        models: its artifacts.
        loaded: the same in memory.
        context_tokens: tokens of context on each side of a mention.
    """

    record: Champion
    models: LinkerModels
    loaded: LoadedModels
    context_tokens: int

    @classmethod
    def load(cls, store: Store, record: Champion, settings: Mapping[str, Any], folder: Path) -> ServedModels:
        """Loads the models of a champion.

        Args:
            store: the store.
            record: the champion.
            settings: of :class:`~zeshel_tasks.config.link.LinkConfig`, those that differ from the usual ones.
            folder: local directory for fetched files, which is removed once nothing refers to the models.

        Raises:
            ConfigError: the models were deleted, or a setting does not suit them.
        """
        models, config = fetched_models(store, record, settings, folder)
        served = cls(record, models, LoadedModels.load(models, config), models.evaluation().context_tokens)
        weakref.finalize(served, shutil.rmtree, folder, ignore_errors=True)
        return served

    @property
    def config(self) -> LinkConfig:
        """All settings."""
        return self.loaded.config


def fetched_models(
    store: Store, record: Champion, settings: Mapping[str, Any], folder: Path
) -> tuple[LinkerModels, LinkConfig]:
    """Fetches the models of a champion without loading them, and checks the settings; see :meth:`ServedModels.load`."""
    models = LinkerModels.of_record(store, record, folder)
    config, calibrations = link_config(models, settings), models.calibrations()
    calibrations.check(config.mode)
    threshold_of(config, calibrations, record.run)  # raises if the models do not allow it
    models.biencoder.directory("model")
    if config.mode != "retrieve":
        models.crossencoder.directory("model")
    return models, config


class ServedBase:
    """A knowledge base with the models that link to it.

    Args:
        models: the models.
        entities: the knowledge base, encoded with their bi-encoder.
        own: its own calibration, if it has one for these models.
        named: what its head says of that.

    Attributes:
        linker: links mentions.
    """

    def __init__(
        self, models: ServedModels, entities: EntitySet, own: Own | None = None, named: HeadCalibration | None = None
    ) -> None:
        self.models, self.entities, self.named = models, entities, named
        self._calibration = None if own is None else own.fingerprint
        self.linker = Linker(models.loaded, entities, None if own is None else own.calibration)

    @classmethod
    def of(
        cls, models: ServedModels, entities: EntitySet, own: Own | None, named: HeadCalibration | None
    ) -> ServedBase:
        """Returns a base with its own calibration, unless the threshold of the settings does not suit that."""
        base = cls(models, entities, own, named)
        try:
            threshold_of(models.config, base.linker.calibrations, models.loaded.run)
        except ConfigError as error:
            log.warning("%s: its own calibration is not used: %s", entities.name, error)
            return cls(models, entities, None, named)
        return base

    @property
    def mode(self) -> LinkMode:
        """How mentions are linked, unless a request says otherwise."""
        return self.models.config.mode

    @property
    def calibrated_by(self) -> Literal["kb", "champion"] | None:
        """Whose calibration turns scores into probabilities; None if there is none."""
        calibrations = self.linker.calibrations
        if calibrations.own is not None:
            return "kb"
        return None if calibrations.of_reranked is None else "champion"

    def linked_by(self, mode: LinkMode) -> dict[str, str | None]:
        """Returns what identifies models, mode and knowledge base."""
        return linked_by(self.models.models, mode, self.entities, self._calibration)

    def reader(self, offsets: Offsets) -> LineReader:
        """Returns what reads the documents of a request."""
        config = self.models.config
        return LineReader("body", self.models.context_tokens, offsets, config.tokenized, self.entities.page)

    def answers(self, top_k: int | None, threshold: float | str | None, mode: LinkMode) -> Answers:
        """Returns what writes the answers for a request; None stands for the value of the settings.

        Raises:
            ConfigError: the threshold does not suit the models.
        """
        changed: dict[str, Any] = {"mode": mode, "top_k": top_k}
        if threshold is not None:
            changed["threshold"] = threshold if isinstance(threshold, str) else f"{threshold:.9f}"
        given = {name: value for name, value in changed.items() if value is not None}
        config = self.models.config.model_copy(update=given)
        found = threshold_of(config, self.linker.calibrations, self.models.loaded.run)
        return Answers(self.entities.documents, config.top_k, found, self.linked_by(mode))

    def warm_up(self, batcher: Batcher) -> None:
        """Links mentions of some titles, so that the first request takes no longer than others."""
        for document in self.entities.documents[:_WARM_UP]:
            text = f"{document.title} {document.text[:1000]}"
            mention = mention_of_text(text, 0, len(document.title), self.models.context_tokens)
            done: Future[list[Linked]] = batcher.submit(self.linker, self.mode, [mention], urgent=True)
            done.result()


def champion_for(champions: Champions, biencoder: str) -> Champion:
    """Returns the newest champion whose bi-encoder has encoded a knowledge base.

    After a promotion, this is an earlier champion until ``zeshel kb refresh`` has encoded the knowledge base again.
    After a rollback, it is the one that was rolled back, if no other has this bi-encoder.

    Args:
        champions: of the store.
        biencoder: folder of the bi-encoder in the store.

    Raises:
        ConfigError: there is none.
    """
    for champion in _newest_first(champions):
        if champion.biencoder == biencoder:
            return champion
    raise ConfigError(
        f"--kb: expected a knowledge base that the bi-encoder of a champion has encoded, got one by {biencoder}; "
        "`zeshel kb refresh` encodes it again"
    )


def _newest_first(champions: Champions) -> Sequence[Champion]:
    known = [*champions.earlier, *(found.champion for found in champions.all_rolled_back)]
    return known if champions.champion is None else [champions.champion, *known]
