"""Replaces models where those of two champions do not fit into memory together.

One replica after the other says that it is not ready, goes on to answer until nobody asks it any more, frees its models
and loads the new ones. It keeps its turn if that fails, so the others go on with what they have.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from zeshel_tasks.champion.champions import Champion
from zeshel_tasks.compute.memory import release_free_memory
from zeshel_tasks.linking.loaded_models import LoadedModels
from zeshel_tasks.serving.turns import Turns

log = logging.getLogger(__name__)

_MOST_SECONDS = 120.0  # for requests in progress to end
_POLL_SECONDS = 0.05


class Fetched(NamedTuple):
    """Files of models that are about to be loaded.

    Attributes:
        champion: whose models.
        folder: has them.
    """

    champion: Champion
    folder: Path


class Leaving:
    """Makes room for the models of another champion, once it is this replica's turn.

    Args:
        turns: of this replica.
        seconds: for which it answers although it is not ready, and is ready before the next one's turn.
        frees: free what others keep of the models.

    Attributes:
        has_left: True from when it is not ready until it serves the new models.
    """

    def __init__(self, turns: Turns, seconds: float, frees: Sequence[Callable[[], None]] = ()) -> None:
        self._turns, self._seconds, self._frees = turns, seconds, frees
        self._closed = threading.Event()
        self._announced = ""
        self.has_left = False

    def may_leave(self, champion: Champion) -> bool:
        """Takes the turn, if it is free, and waits until nobody asks this replica any more.

        Args:
            champion: whose models will be loaded.

        Returns:
            False if it is another replica's turn, or if the service ends.

        Raises:
            ZeshelError: the store does not answer, or refuses.
        """
        if not self._turns.take():
            if self._announced != champion.run:
                log.info("the models of %s are loaded after another replica has loaded them", champion.run)
                self._announced = champion.run
            return False
        self._announced = ""
        log.info("not ready, because the models in use make room for those of %s", champion.run)
        self.has_left = True
        return not self._closed.wait(self._seconds)

    def free(self, used: Sequence[weakref.ref[LoadedModels]]) -> None:
        """Waits until the last request has been answered by models to which only requests refer."""
        for free in self._frees:
            free()
        deadline = time.monotonic() + _MOST_SECONDS
        while any(models() is not None for models in used):
            gc.collect()
            if self._closed.wait(_POLL_SECONDS) or time.monotonic() > deadline:
                break
        release_free_memory()

    def has_returned(self) -> None:
        """Ends the turn a while later, as this replica serves the new models."""
        self.has_left = False
        self._turns.end(self._seconds)

    def close(self, seconds: float) -> None:
        """Ends the turn, which another replica may take at once."""
        self._closed.set()
        self._turns.close(seconds)
