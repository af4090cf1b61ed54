"""What ``zeshel link`` links with: models, knowledge base and settings."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zeshel_tasks import RESULTS_VERSION
from zeshel_tasks.errors import ConfigError, TryAgain
from zeshel_tasks.location import StoreLocation
from zeshel_tasks.store import Run, Store, open_run, open_store
from zeshel_tasks.text.json_text import to_json

if TYPE_CHECKING:
    from zeshel_tasks.data.zeshel import Document
    from zeshel_tasks.link_files.answers import Answers
    from zeshel_tasks.link_files.counts import LinkedCounts
    from zeshel_tasks.link_files.lines import FindMentions, LineReader
    from zeshel_tasks.link_files.plan import LinkPlan
    from zeshel_tasks.linking.entity_set import EntitySet
    from zeshel_tasks.linking.linker import Linker

log = logging.getLogger(__name__)


class Linking:
    """Models, knowledge base and settings. Loads the models when they are needed, and keeps them.

    Args:
        store: address of the store that has the knowledge base; None for that of ``run``.
        run: address of the run whose models to use; None for the champion of ``store``.
        kb: name of the knowledge base.
        settings: of :class:`~zeshel_tasks.config.link.LinkConfig`, those that differ from the usual ones.
        cache: local directory for fetched files, which later commands may use, too.
        models: fingerprint of the models of a champion, which may be an earlier one; None for the current one.
        use_own: False ignores the knowledge base's own calibration.

    Attributes:
        config: all settings.
        models: the models.
        store: the store that has the knowledge base.
        name: of the knowledge base.

    Raises:
        ConfigError: there is no champion, run or knowledge base, or a setting does not suit the models.
    """

    def __init__(
        self,
        store: str | None,
        run: str | None,
        kb: str,
        settings: Mapping[str, Any],
        cache: Path,
        models: str | None = None,
        *,
        use_own: bool = True,
    ) -> None:
        from zeshel_tasks.champion.champions import read_champions
        from zeshel_tasks.knowledge_base.head import KnowledgeBase

        self._cache, self.name = cache, kb
        of_run, self.store = _run_and_store(store, run)
        if of_run is None:
            read_champions(self.store).chosen(models)
        self._base = KnowledgeBase.read(self.store, self.name)
        self._seen = self._base.head.fingerprint

        # Import torch, which takes seconds, after the likely mistakes were noticed.
        from zeshel_tasks.knowledge_base.calibrating import own_calibration
        from zeshel_tasks.linking.link_config import link_config, threshold_of
        from zeshel_tasks.linking.models import LinkerModels
        from zeshel_tasks.stages.run_models import models_of_run

        if of_run is None:
            self.models = LinkerModels.of_champion(self.store, cache, models)
        else:
            self.models = models_of_run(of_run, cache)
        self.config = link_config(self.models, settings)
        self._context_tokens = self.models.evaluation().context_tokens
        self._own = own_calibration(self._base, self.models.fingerprint, cache) if use_own else None
        calibrations = replace(self.models.calibrations(), own=None if self._own is None else self._own.calibration)
        calibrations.check(self.config.mode)
        self._threshold = threshold_of(self.config, calibrations, self.models.run)
        if self._threshold is not None:
            log.info("mentions are linked from a probability of %.4f", self._threshold)

    @property
    def identities(self) -> dict[str, str]:
        """What decides the content of the output, besides the input."""
        return {
            "version": RESULTS_VERSION,
            "models": self.models.fingerprint,
            "knowledge_base": self._seen,
            "calibration": "-" if self._own is None else self._own.fingerprint,
            "settings": to_json(self.config.fingerprint_fields(), sort_keys=True),
        }

    def plan(self, source: StoreLocation) -> LinkPlan:
        """Lists the files of a folder or prefix.

        Raises:
            ConfigError: another bi-encoder has encoded the knowledge base.
            DataError: there are no files to link.
        """
        from zeshel_tasks.knowledge_base.opening import check_biencoder
        from zeshel_tasks.link_files.plan import LinkPlan
        from zeshel_tasks.link_files.shards import shard_names

        check_biencoder(self._base, self.models.biencoder.manifest.fingerprint)
        files = tuple(shard_names(source))
        log.info("%d files to link against the %d entities of %s", len(files), self._base.head.entities, self.name)
        return LinkPlan(made_from=self.identities, files=files)

    def lines(self, stream: IO[bytes], name: str, counts: LinkedCounts) -> Iterator[bytes]:
        """Links the lines of a file; ``name`` is for messages."""
        from zeshel_tasks.link_files.batches import linked_lines

        yield from linked_lines(stream, self.reader(name), self.linker, self._answers, counts)
        log.info("%s: linked %s", name, counts)

    @cached_property
    def entities(self) -> EntitySet:
        from zeshel_tasks.knowledge_base.opening import open_knowledge_base

        biencoder = self.models.biencoder.manifest.fingerprint
        found = open_knowledge_base(self.store, self.name, self._cache / "kb", biencoder)
        if found.fingerprint != self._seen:
            raise TryAgain(f"knowledge base {self.name} has just been changed")
        return found

    @cached_property
    def linker(self) -> Linker:
        from zeshel_tasks.linking.linker import Linker
        from zeshel_tasks.linking.loaded_models import LoadedModels

        own = None if self._own is None else self._own.calibration
        return Linker(LoadedModels.load(self.models, self.config), self.entities, own)

    @cached_property
    def _answers(self) -> Answers:
        from zeshel_tasks.link_files.answers import Answers, linked_by

        calibration = None if self._own is None else self._own.fingerprint
        identified = linked_by(self.models, self.config.mode, self.entities, calibration)
        return Answers(self.entities.documents, self.config.top_k, self._threshold, identified)

    def reader(self, name: str) -> LineReader:
        from zeshel_tasks.link_files.lines import LineReader

        return LineReader(
            name, self._context_tokens, self.config.offsets, self.config.tokenized, self._find_page, self._find_mentions
        )

    @cached_property
    def _find_mentions(self) -> FindMentions | None:
        if self.config.mentions == "given":
            return None
        from zeshel_tasks.link_files.titles import TitleFinder

        return TitleFinder(self.entities.documents, ignore_case=self.config.ignore_case).spans

    def _find_page(self, document_id: str) -> Document | None:
        return self.entities.page(document_id)


def _run_and_store(store: str | None, run: str | None) -> tuple[Run | None, Store]:
    if run is None:
        if store is None:
            raise ConfigError("--store: expected the store of the knowledge base, or --run, got neither")
        return None, open_store(store)
    of_run = open_run(run)
    return of_run, of_run.store if store is None else open_store(store)
