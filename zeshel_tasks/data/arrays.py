"""Arrays on the local disk that may be larger than memory."""

from __future__ import annotations

import mmap
import os
from math import prod
from pathlib import Path
from typing import Any, Self

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

    ``np.asarray`` of a mapped array is mapped, too, and a slice of it takes 0.1 us instead of 6 us.

    Raises:
        DataError: not an array, or one of Python objects.
    """
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError("not a readable array", file=str(path), expected="numbers", got=str(error)) from error
    return array


class RowReader:
    """Reads rows of a ``.npy`` file, which is open only while they are read.

    Args:
        path: of the file.

    Raises:
        DataError: not an array, or one of Python objects.
    """

    def __init__(self, path: Path) -> None:
        table = read_array(path, mapped=True)
        assert isinstance(table, np.memmap)
        self._path, self._start, self._rows, self._shape = path, table.offset, len(table), table.shape[1:]
        self.dtype = table.dtype

    def __len__(self) -> int:
        """Returns the number of rows."""
        return self._rows

    def read(self, first: int = 0, last: int | None = None) -> npt.NDArray[Any]:
        """Reads the rows from ``first`` up to, but without, ``last``; all that follow if it is None."""
        shape = (self._rows if last is None else last) - first, *self._shape
        start = self._start + first * prod(self._shape) * self.dtype.itemsize
        return np.fromfile(self._path, self.dtype, prod(shape), offset=start).reshape(shape)


class ArrayWriter:
    """Writes a ``.npy`` file row by row, of which the number of rows is known only at the end.

    Args:
        path: of the new file, which is complete once the context is left.
        dtype: of the values.
        shape: of a row.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...] = ()) -> None:
        self._file, self._dtype, self._shape, self._rows = path.open("wb"), np.dtype(dtype), shape, 0
        self._write_header()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Adds rows: [n, *shape]."""
        self._rows += len(rows)
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data)

    def close(self) -> None:
        """Completes the file."""
        self._file.seek(0)
        self._write_header()  # is as long as the first one: numpy leaves space for the number of rows
        self._file.close()

    def _write_header(self) -> None:
        shape, descr = (self._rows, *self._shape), np.lib.format.dtype_to_descr(self._dtype)
        np.lib.format.write_array_header_1_0(self._file, {"descr": descr, "fortran_order": False, "shape": shape})
