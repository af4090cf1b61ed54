"""Turns a failed allocation into an error that names the setting to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from zeshel_tasks.errors import ConfigError

# torch raises a plain RuntimeError with this word if the host has no memory.
_HOST_IS_FULL = "DefaultCPUAllocator"


@contextmanager
def out_of_memory_named(doing: str, advice: str) -> Iterator[None]:
    """Turns a failed allocation, on the GPU or the host, into a ConfigError. A retry would need as much memory.

    Args:
        doing: ``at step 120``.
        advice: ``lower train_batch_size (now 128)``.

    Raises:
        ConfigError: not enough memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(f"out of GPU memory {doing}: {advice}") from error
    except MemoryError as error:
        raise ConfigError(f"out of memory {doing}: {advice}, or give the process more") from error
    except RuntimeError as error:
        if _HOST_IS_FULL not in str(error):
            raise
        raise ConfigError(f"out of memory {doing}: {advice}, or give the process more") from error
