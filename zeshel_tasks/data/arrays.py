"""Arrays on the local disk that may be larger than memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeshel_tasks.errors import DataError

Rows = npt.NDArray[np.int64]
"""Positions of rows in a table: int64 [n]."""


def new_array(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Creates a memory-mapped ``.npy`` file and reserves its space on the disk.

    Otherwise a write to a full disk would end the process with SIGBUS and no message.

    Raises:
        OSError: the disk is too full.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def release(array: npt.NDArray[Any]) -> None:
    """Drops the pages of a memory-mapped array from this process's memory. The next access reads them again.

    Written data is not lost: it belongs to the file. Without this call, a table that is filled from start to end is
    completely resident at the end. Does nothing for an array that is not mapped.
    """
    pages = array.base
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def read_array(path: Path, *, mapped: bool = False) -> npt.NDArray[Any]:
    """Reads a ``.npy`` file, memory-mapped if ``mapped``. Never unpickles.

    Raises:
        DataError: not an array, or one of Python objects.
    """
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError("not a readable array", file=str(path), expected="numbers", got=str(error)) from error
    return array
