"""Vectors in a ``.npy`` file, stored in the requested precision and mapped block by block.

A block is mapped and not read, which saves a copy. The whole file is not mapped, because mapped pages count as resident
memory: a memory limit would see a process that needs as much memory as its largest world.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zeshel_tasks.config.retrieval import VectorDtype
from zeshel_tasks.data.arrays import read_array, release
from zeshel_tasks.errors import ConfigError, DataError


class VectorFile:
    """A file of vectors: float32 or float16 [rows, dimension].

    Raises:
        DataError: the file has another type or shape.
    """

    def __init__(self, path: Path) -> None:
        array = read_array(path, mapped=True)
        expected = "float32 or float16 [rows, dimension], row by row"
        if array.ndim != 2 or array.dtype not in (np.float32, np.float16) or not array.flags.c_contiguous:
            raise DataError("no vectors", file=path.name, expected=expected, got=f"{array.dtype} {array.shape}")
        assert isinstance(array, np.memmap)
        self._path, self._offset, self.dtype = path, array.offset, array.dtype
        self._first, self._rows, self.dimension = 0, int(array.shape[0]), int(array.shape[1])

    def __len__(self) -> int:
        return self._rows

    def since(self, first: int) -> Self:
        """Returns the rows from ``first`` on."""
        rest = copy(self)
        rest._first, rest._rows = self._first + first, self._rows - first
        return rest

    def rows(self, positions: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Reads some rows: float32 [..., dimension] for ``positions`` [...]. Keeps none of their pages in memory."""
        array = read_array(self._path, mapped=True)
        found: npt.NDArray[np.float32] = array[self._first + positions].astype(np.float32)
        release(array)
        return found

    def blocks(self, size: int) -> Iterator[npt.NDArray[Any]]:
        """Yields the rows in order, ``size`` at a time: [size, dimension]. The last block may be shorter.

        A block is in memory as long as something refers to it.

        Raises:
            DataError: the file has become shorter.
        """
        with self._path.open("rb") as file:
            for start in range(0, self._rows, size):
                yield self._mapped(file.fileno(), start, min(size, self._rows - start))

    def _mapped(self, file: int, start: int, count: int) -> npt.NDArray[Any]:
        numbers = count * self.dimension
        begin = self._offset + (self._first + start) * self.dimension * self.dtype.itemsize
        end, skipped = begin + numbers * self.dtype.itemsize, begin % mmap.ALLOCATIONGRANULARITY
        missing = end - os.fstat(file).st_size
        if missing > 0:  # to read it would end the process with SIGBUS
            raise DataError(
                "vectors are missing", file=self._path.name, expected=f"{missing:,} more bytes", got="the end"
            )
        # Private, because torch warns of arrays that are read-only.
        pages = mmap.mmap(file, end - begin + skipped, access=mmap.ACCESS_COPY, offset=begin - skipped)
        return np.frombuffer(pages, self.dtype, numbers, skipped).reshape(count, self.dimension)


def storable(vectors: npt.NDArray[np.float32], dtype: VectorDtype) -> npt.NDArray[Any]:
    """Converts vectors to the precision of the file.

    Raises:
        ConfigError: a number is too large for ``dtype``: as infinity, every mention would retrieve its entity.
        DataError: a vector has an infinite number or NaN.
    """
    if not np.isfinite(vectors).all():
        raise DataError(
            "the bi-encoder gives vectors that are not numbers", expected="finite weights", got="nan or inf"
        )
    highest, limit = float(np.abs(vectors).max(initial=0)), float(np.finfo(dtype).max)
    if highest > limit:
        raise ConfigError(
            f"vector_dtype: expected one for the bi-encoder's vectors, whose numbers go up to {highest:,.0f}; "
            f"got {dtype}, whose maximum is {limit:,.0f}: use float32"
        )
    return vectors.astype(dtype)
