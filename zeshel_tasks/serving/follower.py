"""Follows the store: a new champion, a rollback, a changed knowledge base.

For each knowledge base, the newest champion whose bi-encoder has encoded it links. A champion with another one takes
over as soon as `zeshel kb refresh` has encoded the knowledge base for it, and the earlier one links until then.
New models are loaded beside those in use and link something before they take over, or in turn; see
:mod:`~zeshel_tasks.serving.in_turn`. A request keeps the pair of models and knowledge base that it began with.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from zeshel_tasks.champion.champions import Champion, read_champions
from zeshel_tasks.errors import ConfigError, TryAgain, ZeshelError
from zeshel_tasks.knowledge_base import follower
from zeshel_tasks.knowledge_base.calibrating import own_calibration
from zeshel_tasks.knowledge_base.head import KnowledgeBase
from zeshel_tasks.linking.entity_set import EntitySet
from zeshel_tasks.serving.batcher import Batcher
from zeshel_tasks.serving.in_turn import Fetched, Leaving
from zeshel_tasks.serving.lasting import LastingProblems
from zeshel_tasks.serving.metrics import Metrics
from zeshel_tasks.serving.served import ServedBase, ServedModels, champion_for, fetched_models
from zeshel_tasks.store import Store, artifact_folder

log = logging.getLogger(__name__)

_WAITING = "waiting: "
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0  # seconds, after models could not be loaded


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
        leaving: replaces models in turn; None loads new ones beside those in use.

    Attributes:
        error: why a knowledge base cannot be served at all; None if there is no such error.
        waits_for: what is missing at first.
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
        leaving: Leaving | None = None,
    ) -> None:
        self._store, self.names, self._settings, self._cache = store, tuple(names), dict(settings), cache
        self._batcher, self._metrics, self._poll_seconds = batcher, metrics, poll_seconds
        self._waits, self._leaving = waits, leaving
        self._bases: Mapping[str, ServedBase] = MappingProxyType({})
        self._followed: dict[str, follower.Follower] = {}
        self._look_now, self._closed = threading.Event(), False
        self._is_champion: dict[str, bool] = {}
        self._problems, self.waits_for = LastingProblems(), tuple[str, ...]()
        self._were_served: set[str] = set()
        self._fetched: Fetched | None = None
        self._failed = _Failed()
        self.error: ZeshelError | None = None
        self._thread = threading.Thread(target=self._loop, name="follower", daemon=True)

    @property
    def bases(self) -> Mapping[str, ServedBase]:
        """What is served, by name. Each access returns a consistent state."""
        return self._bases

    @property
    def is_ready(self) -> bool:
        """True once every knowledge base was linked to, unless this replica makes room for other models."""
        return len(self._bases) == len(self.names) and not (self._leaving is not None and self._leaving.has_left)

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
        deadline = time.monotonic() + seconds
        if self._leaving is not None:
            self._leaving.close(seconds)
        if self._thread.is_alive():
            self._thread.join(max(0, deadline - time.monotonic()))
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
        problems = [self._problem("the champion", self._make_room, is_vital=False)]
        for name in self.names:
            problems.append(self._problem(name, partial(self._update, name), is_vital=name not in self._were_served))
        if self._leaving is not None and self._leaving.has_left and len(self._bases) == len(self.names):
            self._leaving.has_returned()
        found = list(filter(None, problems))
        self._problems.note(found)
        self.waits_for = tuple(problem for problem in found if problem.startswith(_WAITING))

    def _problem(self, what: str, act: Callable[[], None], *, is_vital: bool) -> str | None:
        """Acts, and returns the problem if that fails. If it is vital, nothing can be served without it."""
        if self._closed:
            return None
        try:
            act()
        except ZeshelError as error:
            if is_vital and self._waits and isinstance(error, ConfigError):
                return f"{_WAITING}{error}"
            if is_vital and not isinstance(error, TryAgain):
                self.error = error
            problem = str(error)
        except Exception as error:  # the next look may be luckier, and the service goes on
            problem = f"{what}: {error!r}"
            if problem not in self._problems:
                log.exception("following %s failed", what)
        else:
            return None
        self._metrics.follow_errors.inc()
        return problem if is_vital or not self._bases else f"serving what was served before: {problem}"

    def _make_room(self) -> None:
        """In turn, frees the models in use if those of another champion are to be loaded for all knowledge bases."""
        if self._leaving is None or len(self._bases) < len(self.names):
            return  # at the start, or after it has made room
        champions = read_champions(self._store)
        heads = [KnowledgeBase.read(self._store, name).head for name in self.names]
        wanted = [champion_for(champions, head.encoding.biencoder) for head in heads]
        champion = wanted[0]
        if self._in_use(champion) is not None or any(other.folders != champion.folders for other in wanted):
            return
        self._fetch(champion)
        if self._leaving.may_leave(champion):
            used = [weakref.ref(base.models.loaded) for base in self._bases.values()]
            self._bases = MappingProxyType({})
            self._leaving.free(used)

    def _update(self, name: str) -> None:
        """Switches one knowledge base, if it, its calibration or its champion has changed."""
        champions, entities = read_champions(self._store), self._newest(name)
        biencoder = artifact_folder("train-biencoder", entities.biencoder)
        champion = champion_for(champions, biencoder)
        if self._leaving is not None and name in self._bases and self._in_use(champion) is None:
            champion = self._bases[name].models.record  # until it is this replica's turn
            if champion.biencoder != biencoder:
                return
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

    def _in_use(self, champion: Champion) -> ServedModels | None:
        for base in self._bases.values():
            if base.models.record.folders == champion.folders:
                return base.models
        return None

    def _models(self, champion: Champion) -> ServedModels:
        """Returns the models of a champion; loads them unless a knowledge base uses them."""
        if (used := self._in_use(champion)) is not None:
            return used
        with self._failed.attempt(champion) as is_first:
            if is_first:
                log.info("loading the models of %s", champion.run)
            if self._fetched is not None and self._fetched.champion.folders == champion.folders:
                models = ServedModels.load(self._store, champion, self._settings, self._fetched.folder)
                self._fetched = None
                return models
            with self._new_folder() as folder:
                return ServedModels.load(self._store, champion, self._settings, folder)

    def _fetch(self, champion: Champion) -> None:
        """Fetches the models of a champion, so that it takes less time to load them."""
        if self._fetched is not None:
            if self._fetched.champion.folders == champion.folders:
                return
            shutil.rmtree(self._fetched.folder, ignore_errors=True)
            self._fetched = None
        with self._failed.attempt(champion), self._new_folder() as folder:
            fetched_models(self._store, champion, self._settings, folder)
            self._fetched = Fetched(champion, folder)

    @contextmanager
    def _new_folder(self) -> Iterator[Path]:
        """Yields a folder for fetched models, which is removed after an error: there may be many attempts."""
        folder = self._cache / "models" / uuid4().hex
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _switch(self, name: str, base: ServedBase) -> None:
        self._bases = MappingProxyType({**self._bases, name: base})
        self._were_served.add(name)
        by = base.linked_by(base.mode)
        log.info("%s: serving %d entities with the models of %s", name, len(base.entities), by["run"])
        self._metrics.show_serving(name, by, len(base.entities))


class _Failed:
    """Which champion's models could not be loaded, and when to try again."""

    def __init__(self) -> None:
        self._champion: Champion | None = None
        self._error: Exception | None = None
        self._pause, self._at = _FIRST_PAUSE, 0.0

    @contextmanager
    def attempt(self, champion: Champion) -> Iterator[bool]:
        """Yields False if this was tried before. Raises the error of the last attempt if that was a moment ago."""
        is_first = self._champion is None or self._champion.folders != champion.folders
        if not is_first and self._error is not None and time.monotonic() < self._at:
            raise self._error.with_traceback(None)
        try:
            yield is_first
        except Exception as error:
            self._pause = _FIRST_PAUSE if is_first else min(2 * self._pause, _LONGEST_PAUSE)
            self._champion, self._error, self._at = champion, error, time.monotonic() + self._pause
            raise
        self._champion = self._error = None
