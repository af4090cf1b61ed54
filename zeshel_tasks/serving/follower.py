"""Follows the store: a new champion, a rollback, a changed knowledge base.

For each knowledge base, the newest champion whose bi-encoder has encoded it links. A champion with another one takes
over as soon as `zeshel kb refresh` has encoded the knowledge base for it, and the earlier one links until then.
New models are loaded beside those in use and link something before they take over. A request keeps the pair of models
and knowledge base that it began with.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from zeshel_tasks.champion.champions import Champion, Champions, read_champions
from zeshel_tasks.errors import ConfigError, TryAgain, ZeshelError
from zeshel_tasks.knowledge_base import follower
from zeshel_tasks.knowledge_base.calibrating import own_calibration
from zeshel_tasks.knowledge_base.head import KnowledgeBase
from zeshel_tasks.linking.entity_set import EntitySet
from zeshel_tasks.serving.batcher import Batcher
from zeshel_tasks.serving.metrics import Metrics
from zeshel_tasks.serving.served import ServedBase, ServedModels, champion_for
from zeshel_tasks.store import Store, artifact_folder

log = logging.getLogger(__name__)


class StoreFollower:
    """Keeps what the service serves up to date.

    Args:
        store: the store.
        names: of the knowledge bases.
        settings: of :class:`~zeshel_tasks.config.link.LinkConfig`, those that differ from the usual ones.
        cache: local directory for fetched models and knowledge bases.
        batcher: warms up what is about to be served.
        metrics: where to count.
        poll_seconds: between looks at the store.
        waits: a champion and knowledge bases may be missing at first.

    Attributes:
        error: why a knowledge base cannot be served at all; None if there is no such error.
    """

    def __init__(
        self,
        store: Store,
        names: Sequence[str],
        settings: Mapping[str, Any],
        cache: Path,
        batcher: Batcher,
        metrics: Metrics,
        poll_seconds: float,
        *,
        waits: bool = False,
    ) -> None:
        self._store, self.names, self._settings, self._cache = store, tuple(names), dict(settings), cache
        self._batcher, self._metrics, self._poll_seconds = batcher, metrics, poll_seconds
        self._waits = waits
        self._bases: Mapping[str, ServedBase] = MappingProxyType({})
        self._followed: dict[str, follower.Follower] = {}
        self._look_now, self._closed = threading.Event(), False
        self._is_champion: dict[str, bool] = {}
        self._last_problems: list[str] = []
        self.error: ZeshelError | None = None
        self._thread = threading.Thread(target=self._loop, name="follower", daemon=True)

    @property
    def bases(self) -> Mapping[str, ServedBase]:
        """What is served, by name. Each access returns a consistent state."""
        return self._bases

    @property
    def is_ready(self) -> bool:
        """True once every knowledge base was linked to."""
        return len(self._bases) == len(self.names)

    def has_champion(self, name: str) -> bool:
        """Returns False if an earlier champion links to a knowledge base, which waits for `zeshel kb refresh`."""
        return self._is_champion.get(name, False)

    def check(self) -> None:
        """Checks that there is something to serve, without loading it.

        Raises:
            ZeshelError: there is no such knowledge base, or no champion for one.
        """
        champions = read_champions(self._store)
        for name in self.names:
            champion_for(champions, KnowledgeBase.read(self._store, name).head.encoding.biencoder)

    def start(self) -> None:
        """Starts to load and to follow."""
        self._thread.start()

    def look_now(self) -> None:
        """Looks at the store soon, because something has changed."""
        self._look_now.set()

    def close(self, seconds: float) -> bool:
        """Stops to follow. Returns False if models are still being loaded after these seconds."""
        self._closed = True
        self._look_now.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while not self._closed:
            self._look_now.clear()
            self._follow()
            if self.error is not None:
                return
            self._look_now.wait(self._poll_seconds)

    def _follow(self) -> None:
        """Looks once. An error is no reason to end a service that serves something."""
        problems = list(filter(None, map(self._problem, self.names)))
        for problem in problems:
            if problem not in self._last_problems:
                log.warning("%s", problem)
        self._last_problems = problems

    def _problem(self, name: str) -> str | None:
        """Updates one knowledge base, and returns the problem if that fails."""
        if self._closed:
            return None
        is_served = name in self._bases
        try:
            self._update(name, read_champions(self._store))
        except ZeshelError as error:
            if not is_served and self._waits and isinstance(error, ConfigError):
                return f"waiting: {error}"
            if not is_served and not isinstance(error, TryAgain):
                self.error = error
            problem = str(error)
        except Exception as error:  # the next look may be luckier, and the service goes on
            log.exception("following %s failed", name)
            problem = repr(error)
        else:
            return None
        self._metrics.follow_errors.inc()
        return f"serving what was served before: {problem}" if is_served else problem

    def _update(self, name: str, champions: Champions) -> None:
        """Switches one knowledge base, if it, its calibration or its champion has changed."""
        entities = self._newest(name)
        champion = champion_for(champions, artifact_folder("train-biencoder", entities.biencoder))
        self._is_champion[name] = champion == champions.champion
        self._metrics.is_champion.labels(name).set(self._is_champion[name])
        served, known = self._bases.get(name), KnowledgeBase.read(self._store, name)
        if (
            served is None
            or served.entities is not entities
            or served.models.record.folders != champion.folders
            or served.named != known.head.calibration
        ):
            models = self._models(champion)
            own = own_calibration(known, models.models.fingerprint, self._cache / "calibrations")
            base = ServedBase.of(models, entities, own, known.head.calibration)
            base.warm_up(self._batcher)
            self._switch(name, base)

    def _newest(self, name: str) -> EntitySet:
        """Returns the newest content of a knowledge base: the same object if it has not changed."""
        if name not in self._followed:
            self._followed[name] = follower.Follower(self._store, name, self._cache / "kb")
        else:
            self._followed[name].update()
        return self._followed[name].entities

    def _models(self, champion: Champion) -> ServedModels:
        """Returns the models of a champion; loads them unless a knowledge base uses them."""
        for base in self._bases.values():
            if base.models.record.folders == champion.folders:
                return base.models
        log.info("loading the models of %s", champion.run)
        folder = self._cache / "models" / uuid4().hex
        return ServedModels.load(self._store, champion, self._settings, folder)

    def _switch(self, name: str, base: ServedBase) -> None:
        self._bases = MappingProxyType({**self._bases, name: base})
        by = base.linked_by(base.mode)
        log.info("%s: serving %d entities with the models of %s", name, len(base.entities), by["run"])
        self._metrics.show_serving(name, by, len(base.entities))
