"""Batches of a model that only computes: watched, so that they neither hang nor end in a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from zeshel_tasks.compute.memory import out_of_memory_named
from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.compute.watchdog import Watchdog
from zeshel_tasks.config import ComputeConfig


@contextmanager
def watched_batches(
    config: ComputeConfig, progress: Progress, doing: str, size: str
) -> Iterator[Callable[[int], None]]:
    """Yields what is to be called with the number of rows after each batch.

    Args:
        config: ``stall_minutes``, and ``size``.
        progress: gets the rows.
        doing: ``encoding lego``, for messages.
        size: the setting that says how many rows a batch has.

    Raises:
        ConfigError: there was not enough memory; the message names ``size``.
    """
    advice = f"lower {size} (now {getattr(config, size)})"
    with Watchdog(config.stall_minutes) as watchdog, out_of_memory_named(doing, advice):

        def count(rows: int) -> None:
            watchdog.beat()
            progress.update(rows)

        yield count
