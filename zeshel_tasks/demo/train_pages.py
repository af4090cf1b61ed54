"""Pages of a ZESHEL archive's train worlds."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from zeshel_tasks.data.zeshel import BadLines, Dataset
from zeshel_tasks.download.archive import unpack
from zeshel_tasks.errors import DataError

_MAX_UNPACKED_BYTES = 32 * 10**9


@dataclass(frozen=True)
class TrainPage:
    """The beginning of one document; ``text`` has at most as many words as were asked for."""

    title: str
    text: str


def read_train_pages(
    archive: Path, *, max_pages_per_world: int = 2000, max_words_per_page: int = 128
) -> dict[str, list[TrainPage]]:
    """The first pages of every world that ``mentions/train.json`` names, by world in alphabetical order.

    The archive is unpacked into a scratch directory; in memory are only the bounded pages.

    Raises:
        DataError: no such file, not an archive of a data set, no readable train mention, a broken page.
    """
    if not archive.is_file():
        raise DataError("cannot read the archive", file=str(archive), expected="a file", got="none")
    with tempfile.TemporaryDirectory() as scratch:
        unpack(archive, Path(scratch), _MAX_UNPACKED_BYTES)
        dataset, bad = Dataset(Path(scratch)), BadLines("left out")
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
