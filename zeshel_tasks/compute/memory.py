"""Memory of the host and the GPU: names the setting to change if it runs out, and gives back what is free."""

from __future__ import annotations

import ctypes
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


def release_free_memory() -> None:
    """Returns memory that was freed, and that the C library keeps for later allocations, to the system.

    Tensors of varying shapes leave gaps of varying sizes between each other. glibc keeps them, so the resident memory
    of a training on a CPU rises with every shape. Does nothing with another C library.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
