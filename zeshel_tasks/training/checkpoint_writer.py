"""Writes and uploads checkpoints in a thread. Training waits only for the copy in memory."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor

from zeshel_tasks.errors import StoreUnavailable
from zeshel_tasks.training.checkpoints import Checkpoints
from zeshel_tasks.training.snapshot import Snapshot

log = logging.getLogger(__name__)


class CheckpointWriter:
    """Saves one snapshot at a time, so that no more than one is in memory.

    A store that does not answer costs a checkpoint, not the training: that is logged, and the next one is tried in its
    turn. Any other failure (credentials that are refused, a full disk) comes out of the next call, since whatever is
    trained from there on could not be stored either.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._running: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """True while a snapshot is being written."""
        return self._running is not None and not self._running.done()

    def write(self, snapshot: Snapshot) -> None:
        """Begins to save; waits for the snapshot before this one, if it is still on its way."""
        self.wait()
        self._running = self._thread.submit(self._checkpoints.save, snapshot)

    def wait(self) -> StoreUnavailable | None:
        """Waits until the snapshot is saved.

        Returns:
            Why it could not be saved, where the store did not answer.
        """
        running, self._running = self._running, None
        if running is None:
            return None
        try:
            running.result()
        except StoreUnavailable as error:
            log.warning("this checkpoint could not be saved, training goes on: %s", error)
            return error
        return None

    def close(self) -> None:
        """Waits for the thread to end."""
        self._thread.shutdown()
