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

    If the store does not answer, the checkpoint is lost and the training continues: the failure is logged, and the next
    checkpoint is tried as usual. The next call raises any other error (refused credentials, a full disk), because later
    checkpoints could not be stored either.
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
        """Starts to save a snapshot. Waits until the previous one is saved."""
        self.wait()
        self._running = self._thread.submit(self._checkpoints.save, snapshot)

    def wait(self) -> StoreUnavailable | None:
        """Waits until the snapshot is saved.

        Returns:
            The error, if the store did not answer.
        """
        running, self._running = self._running, None
        if running is None:
            return None
        try:
            running.result()
        except StoreUnavailable as error:
            log.warning("this checkpoint could not be saved, training continues: %s", error)
            return error
        return None

    def close(self) -> None:
        """Waits for the thread to end."""
        self._thread.shutdown()
