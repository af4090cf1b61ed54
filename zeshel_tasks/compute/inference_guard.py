"""Guards inference against batches that hang and batches that need too much memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from zeshel_tasks.compute.memory import out_of_memory_named
from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.compute.watchdog import Watchdog
from zeshel_tasks.config.compute import ComputeConfig


@contextmanager
def guarded_batches(
    config: ComputeConfig, progress: Progress, doing: str, size: str
) -> Iterator[Callable[[int], None]]:
    """Yields a function to call after each batch with its number of rows.

    Args:
        config: ``stall_minutes``, and ``size``.
        progress: counts the rows.
        doing: description of the work for messages, such as ``encoding lego``.
        size: name of the setting that is the batch size.

    Raises:
        ConfigError: not enough memory; the message names ``size``.
    """
    advice = f"lower {size} (now {getattr(config, size)})"
    with Watchdog(config.stall_minutes) as watchdog, out_of_memory_named(doing, advice):

        def count(rows: int) -> None:
            watchdog.beat()
            progress.update(rows)

        yield count
