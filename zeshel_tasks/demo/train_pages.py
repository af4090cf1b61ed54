"""Reads pages of the train worlds in a ZESHEL archive."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from zeshel_tasks.compute.termination import scratch_folder
from zeshel_tasks.data.zeshel import BadLines, Dataset
from zeshel_tasks.download.archive import unpack
from zeshel_tasks.errors import DataError

_MAX_UNPACKED_BYTES = 32 * 10**9


@dataclass(frozen=True)
class TrainPage:
    """The beginning of a document."""

    title: str
    text: str


def read_train_pages(
    archive: Path, *, max_pages_per_world: int = 2000, max_words_per_page: int = 128
) -> dict[str, list[TrainPage]]:
    """Read the first pages of every world in ``mentions/train.json``; worlds are in alphabetical order.

    The archive is unpacked into a scratch directory, so memory holds only these pages.

    Raises:
        DataError: the file does not exist, is not the archive of a data set, contains no readable train mention, or
            contains a broken page.
    """
    if not archive.is_file():
        raise DataError("cannot read the archive", file=str(archive), expected="a file", got="none")
    with scratch_folder() as folder:
        unpack(archive, folder, _MAX_UNPACKED_BYTES)
        dataset, bad = Dataset(folder), BadLines("left out")
        worlds = sorted({mention.world for mention in dataset.mentions("train", bad)})
        if not worlds:
            raise bad.first or DataError("no train mentions", file=str(archive))
        return {
            world: [
                TrainPage(page.title, " ".join(page.text.split()[:max_words_per_page]))
                for page in islice(dataset.documents(world), max_pages_per_world)
            ]
            for world in worlds
        }
