"""Links all files of a folder or of an S3 prefix into another one, each file once.

    OUT/<name>.jsonl                   the linked lines of IN/<name>.jsonl
    OUT/finished/<name>.jsonl.json     written after it: what it was made from, and the identity of its content

A file is finished if its record names the same input, models, knowledge base and settings, and its content is still
the one that was recorded. Whoever finds it finished leaves it as it is. All of this is the user's: no cleanup of a
store removes it.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from zeshel_tasks.errors import CorruptArtifact, DataError, TryAgain
from zeshel_tasks.link_files.counts import LinkedCounts
from zeshel_tasks.location import LocalPath, StoreLocation
from zeshel_tasks.store import Store
from zeshel_tasks.store.checksummed import checksummed, read_checksummed
from zeshel_tasks.store.identity import file_identity
from zeshel_tasks.store.runs import store_at

ENDING = ".jsonl"
_RECORDS = "finished"

log = logging.getLogger(__name__)


class ShardRecord(BaseModel):
    """Says that a file is finished.

    Attributes:
        made_from: what decides its content: input, models, knowledge base and settings, by name.
        content: identity of the finished file; see :func:`~zeshel_tasks.store.identity.file_identity`.
        counts: what was linked; None in the record of an earlier version, whose file is linked again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    made_from: dict[str, str]
    content: str
    counts: LinkedCounts | None = None


@dataclass(frozen=True)
class File:
    """A file in a folder or below an S3 prefix."""

    folder: StoreLocation
    name: str

    @property
    def location(self) -> StoreLocation:
        """Its own address."""
        if isinstance(self.folder, LocalPath):
            return LocalPath(f"{self.folder.address.rstrip('/')}/{self.name}", self.folder.path / self.name)
        key = posixpath.join(self.folder.key, self.name)
        return replace(self.folder, address=f"s3://{self.folder.bucket}/{key}", key=key)

    @property
    def store(self) -> Store:
        """A store of which the file's name is a key."""
        return store_at(self.folder)

    def fetched(self, scratch: Path) -> Path:
        """Returns a local file with its bytes.

        Raises:
            DataError: there is no such file.
        """
        path = self.store.local_copy(self.name, scratch / self.name)
        if path is None:
            raise DataError("no file at this address", file=self.location.name)
        return path


def file_at(location: StoreLocation) -> File:
    """Returns the file at an address; there may be none yet."""
    if isinstance(location, LocalPath):
        return File(replace(location, path=location.path.parent, address=str(location.path.parent)), location.path.name)
    folder, _, name = location.key.rpartition("/")
    return File(replace(location, address=f"s3://{location.bucket}/{folder}", key=folder), name)


def shard_names(folder: StoreLocation) -> list[str]:
    """Returns the names of the files to link, sorted.

    Raises:
        DataError: there are none.
    """
    names = sorted(key for key in store_at(folder).keys("") if "/" not in key and key.endswith(ENDING))
    if not names:
        raise DataError("nothing to link", file=folder.name, expected=f"files whose names end with {ENDING}")
    return names


def link_shards(
    source: StoreLocation,
    target: StoreLocation,
    names: Iterable[str],
    settings: dict[str, str],
    link: Callable[[Path, str, Path], LinkedCounts],
    scratch: Path,
) -> Iterator[str]:
    """Links the files that are not finished. Yields the name of each file once it is finished.

    Args:
        source: folder or prefix of the input.
        target: folder or prefix of the output.
        names: of the files.
        settings: what decides the content of the output besides the input, by name.
        link: links the lines of a local file and counts them; its other arguments are the name for messages and the
            file to write.
        scratch: local directory, of which nothing is kept.

    Raises:
        TryAgain: an input has changed while it was read.
    """
    for name in names:
        given, made = File(source, name), File(target, name)
        made_from = {"input": file_identity(given.location), **settings}
        if _record(made, made_from) is not None:
            log.info("%s is finished", made.location.name)
        else:
            unfinished = scratch / f"{name}.unfinished"
            fetched = given.fetched(scratch)
            counts = link(fetched, given.location.name, unfinished)
            if file_identity(given.location) != made_from["input"]:
                raise TryAgain(f"{given.location.name} has changed while it was read")
            made.store.upload(unfinished, name)
            unfinished.unlink()
            if fetched.parent == scratch:  # a copy of an object of S3
                fetched.unlink()
            record = ShardRecord(made_from=made_from, content=file_identity(made.location), counts=counts)
            made.store.put(_record_key(name), checksummed(record))
        yield name


def finished_counts(
    source: StoreLocation, target: StoreLocation, name: str, settings: dict[str, str]
) -> LinkedCounts | None:
    """Returns what was linked in a file; None if it is not finished. The arguments are those of :func:`link_shards`.

    Raises:
        DataError: the input does not exist.
    """
    made_from = {"input": file_identity(File(source, name).location), **settings}
    record = _record(File(target, name), made_from)
    return None if record is None else record.counts


def _record(made: File, made_from: dict[str, str]) -> ShardRecord | None:
    """The record of a finished file; None if it is not finished."""
    try:
        record = read_checksummed(made.store, _record_key(made.name), ShardRecord, "delete it to link the file again")
        if (
            record is not None
            and record.counts is not None
            and record.made_from == made_from
            and record.content == file_identity(made.location)
        ):
            return record
    except CorruptArtifact as error:
        log.warning("linking it again: %s", error)
    except DataError:  # the file was deleted
        pass
    return None


def _record_key(name: str) -> str:
    return f"{_RECORDS}/{name}.json"
