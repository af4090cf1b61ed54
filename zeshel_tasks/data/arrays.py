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
    """A memory-mapped ``.npy`` file whose room on the disk is taken at once.

    Without that a write into a page for which the disk has no room ends the process by SIGBUS, without a word.

    Raises:
        OSError: the disk is too full for it.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def release(array: npt.NDArray[Any]) -> None:
    """Takes the pages of a memory-mapped array out of this process's memory; they are read again where needed.

    What was written to them is not lost: it is the file's. Without this, a table that is filled from one end to the
    other is resident memory as a whole in the end. An array that is not mapped stays as it is.
    """
    pages = array.base
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def read_array(path: Path, *, mapped: bool = False) -> npt.NDArray[Any]:
    """The array in a ``.npy`` file, memory-mapped where it may be large. Nothing is unpickled.

    Raises:
        DataError: not an array, or one of Python objects.
    """
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError("not a readable array", file=str(path), expected="numbers", got=str(error)) from error
    return array
