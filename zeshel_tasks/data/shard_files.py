"""Writes the entities of each shard into a file of its own.

shards.npy             uint16 [entities], the shard of each entity, in their order
documents/000.jsonl    the lines of the entities of the first shard, in their order; one file for each shard
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import Rows, read_array
from zeshel_tasks.data.shards import shard_file, shard_of
from zeshel_tasks.data.zeshel import Document, document_line

SHARDS = "shards.npy"
_BUFFERED = 2**26


def cut(documents: Iterable[Document], shards: int, folder: Path) -> int:
    """Writes all files into ``folder`` and returns the number of entities.

    Memory holds 64 MB of lines and 2 bytes of each entity. No more than one file is open at a time.
    """
    of_entities, buffers, buffered = array("H"), [bytearray() for _ in range(shards)], 0
    (folder / shard_file(0)).parent.mkdir(parents=True)
    for document in documents:
        shard, line = shard_of(document.document_id, shards), document_line(document)
        of_entities.append(shard)
        buffers[shard] += line
        buffered += len(line)
        if buffered > _BUFFERED:
            _flush(buffers, folder)
            buffered = 0
    _flush(buffers, folder)
    np.save(folder / SHARDS, np.frombuffer(of_entities, dtype=np.uint16))
    return len(of_entities)


def cut_in_order(lines: Iterable[bytes], entities: int, folder: Path) -> list[int]:
    """Writes lines of entities into files in their order, ``entities`` into each, and returns how many each one has.

    The last file may have fewer. There is no ``shards.npy``. Memory holds a line.
    """
    rest, sizes = iter(lines), list[int]()
    (folder / shard_file(0)).parent.mkdir(parents=True)
    for shard in count():
        if (first := next(rest, None)) is None:
            break
        sizes.append(0)
        with (folder / shard_file(shard)).open("wb") as file:
            for line in chain([first], islice(rest, entities - 1)):
                file.write(line)
                sizes[-1] += 1
    return sizes


def rows_of_shards(path: Path, shards: int) -> list[Rows]:
    """Returns which entities belong to each shard, in their order, given ``shards.npy``. Takes 8 bytes an entity."""
    of_entities: npt.NDArray[np.uint16] = read_array(path)
    order = np.argsort(of_entities, kind="stable")
    return np.split(order, np.cumsum(np.bincount(of_entities, minlength=shards))[:-1])


def _flush(buffers: list[bytearray], folder: Path) -> None:
    for shard, lines in enumerate(buffers):
        with (folder / shard_file(shard)).open("ab") as file:
            file.write(lines)
        lines.clear()
