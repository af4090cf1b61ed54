"""Removes artifacts that no run refers to, while runs are active.

A run refers to an artifact with a record. A change of a knowledge base does so, too, until the head of the knowledge
base names the artifact; if the change was killed, its records count until they are old. An artifact refers to the
artifacts that it ``uses`` in its manifest. The caller names further roots: the champions' models and the knowledge
bases. An artifact that nothing refers to is removed once it is old, as are the plans of runs that link files. A run may
be about to reuse an old artifact at the same moment, so both sides keep an order:

* a run writes its record, then checks that the manifest exists, and makes the artifact again if it does not;
* a cleanup sets the manifest aside, then looks for records, and restores the manifest if there is one.

So at least one of them notices the other. Until the cleanup has decided, the manifest is stored as
``manifest.removed.json`` and no file is deleted. If a cleanup dies, the next one decides.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, TypeVar

from zeshel_tasks.store.artifacts import Manifest, manifest_key, put_aside, read_manifest_now, removed_manifest_key
from zeshel_tasks.store.base import Store, StoredObject
from zeshel_tasks.store.lock import locked
from zeshel_tasks.store.retention import OldRun, Retention
from zeshel_tasks.store.runs import listed_records, read_record, records_of_changes

log = logging.getLogger(__name__)

LINKS = "links/"
"""The folder of what runs that link files note for themselves. Their results lie elsewhere."""
_THREADS = 16  # for as many connections as the S3 client keeps
_AT_ONCE = 1000  # objects
Key = TypeVar("Key")
Result = TypeVar("Result")

Reason = Literal[
    "no run refers to it",
    "never finished",
    "left by an attempt",
    "left by a change",
    "plan of a link run",
    "old run",
    "unfinished upload",
]


class Garbage(NamedTuple):
    """Something that can be removed; ``modified`` is in seconds since 1970, ``size`` in bytes."""

    place: str
    modified: float
    size: int
    reason: Reason


@dataclass
class Cleanup:
    """Result of a cleanup, or of a dry run: removed objects, and the number and size of the artifacts that stay."""

    removed: list[Garbage] = field(default_factory=list)
    kept: int = 0
    kept_bytes: int = 0


Roots = Callable[[Store], Iterable[str]]
"""Returns the folders of artifacts that must stay in addition to those that runs refer to."""


def clean_up(
    store: Store, before: datetime, *, roots: Roots, retention: Retention | None = None, dry_run: bool = False
) -> Cleanup:
    """Removes artifacts that neither a run nor ``roots`` refers to and that are older than ``before``.

    Args:
        store: the store. Artifacts and unfinished uploads may be removed, and runs only by ``retention``.
        before: a time by the store's clock, at least two days in the past. The uploads of a live attempt and the
            checkpoints of a live training must be younger. S3 refuses clients whose clock is off by 15 minutes.
        roots: called before anything is changed, and again after the manifests were set aside.
        retention: which runs stay; None keeps all. The others go if nothing in them is younger than ``before``.
        dry_run: True to change nothing.

    Raises:
        TryAgain: another cleanup is running.
        CorruptArtifact: a record, or a manifest that a run refers to, is broken, so it is unknown what the run needs.
            Nothing was removed.
    """
    if dry_run:
        return _Cleaner(store, before.timestamp(), roots, retention).select().done
    with locked(store) as lock:
        cleaner = _Cleaner(store, before.timestamp(), roots, retention).select()
        lock.check()
        cleaner.remove(lock.hold)
    return cleaner.done


@dataclass(frozen=True)
class _Folder:
    """The objects in an artifact's folder."""

    name: str
    objects: tuple[StoredObject, ...]

    @property
    def manifest(self) -> StoredObject | None:
        return self._named(manifest_key(self.name))

    @property
    def is_undecided(self) -> bool:
        """True if a cleanup died before it had decided about the artifact."""
        return self.manifest is None and self._named(removed_manifest_key(self.name)) is not None

    @property
    def files(self) -> list[StoredObject]:
        """All objects except the manifest, committed or set aside."""
        manifests = (manifest_key(self.name), removed_manifest_key(self.name))
        return [found for found in self.objects if found.key not in manifests]

    @property
    def size(self) -> int:
        return sum(found.size for found in self.objects)

    def _named(self, key: str) -> StoredObject | None:
        return next((found for found in self.objects if found.key == key), None)


class _References:
    """Finds the folders that runs refer to. The second call reads only new records."""

    def __init__(self, store: Store, roots: Roots, limit: float) -> None:
        self._store, self._roots, self._limit = store, roots, limit
        self._named_by: dict[StoredObject, str] = {}
        self._manifests: dict[str, Manifest] = {}

    def look(self, young: Iterable[str], but: Collection[StoredObject] = ()) -> set[str]:
        """Returns the folders in ``young`` and those that a record, a root or one of these refers to.

        The records in ``but`` do not count.
        """
        changes = (listed for listed in records_of_changes(self._store) if listed.modified >= self._limit)
        records_there = (*listed_records(self._store), *changes)
        new = [listed for listed in records_there if listed not in self._named_by and listed not in but]
        records = _each(lambda listed: read_record(self._store, listed.key), new)
        self._named_by.update({listed: record.artifact for listed, record in zip(new, records, strict=True) if record})
        # Records that were deleted since the first call still count: keeping too much does no harm.
        waiting = {*self._named_by.values(), *self._roots(self._store), *young}
        referred = set[str]()
        while waiting:
            referred |= waiting
            manifests = _each(self.manifest, sorted(waiting))
            waiting = {folder for manifest in manifests if manifest for folder in manifest.uses} - referred
        return referred

    def manifest(self, folder: str) -> Manifest | None:
        """Returns the manifest in a folder, committed or set aside."""
        if folder not in self._manifests:
            found = read_manifest_now(self._store, folder) or put_aside(self._store, folder)
            if found is None:
                return None
            self._manifests[folder] = found
        return self._manifests[folder]

    def has_manifest(self, folder: str) -> bool:
        """Returns True if there is a manifest in a folder, even a broken one. Asks the store."""
        keys = (manifest_key(folder), removed_manifest_key(folder))
        return any(self._store.get(key) is not None for key in keys)


class _Cleaner:
    """One cleanup of a store. Keeps everything younger than ``limit`` (seconds since 1970)."""

    def __init__(self, store: Store, limit: float, roots: Roots, retention: Retention | None) -> None:
        self._store, self._limit, self._retention = store, limit, retention
        self._references = _References(store, roots, limit)
        self._old_runs: list[OldRun] = []
        self._young: list[str] = []
        self._doomed: list[_Folder] = []
        self._leftovers: list[StoredObject] = []
        self._uploads: list[StoredObject] = []
        self.done = Cleanup()

    def select(self) -> _Cleaner:
        """Selects the objects to remove. Changes nothing."""
        # List first: artifacts that are committed later are safe.
        folders = _folders(self._store)
        self._young = [folder.name for folder in folders if folder.manifest and not self._is_old(folder.manifest)]
        self._old_runs = self._runs_to_remove()
        for run in self._old_runs:
            self._note(run.folder, run.objects, "old run")
        referred = self._references.look(self._young, but={found for run in self._old_runs for found in run.objects})
        for folder in folders:
            self._sort(folder, folder.name in referred)
        self._add_old(records_of_changes(self._store), "left by a change")
        self._add_old(self._store.objects(LINKS), "plan of a link run")
        self._uploads = [found for found in self._store.unfinished("artifacts/") if self._is_old(found)]
        for upload in self._uploads:
            self._note(upload.key, [upload], "unfinished upload")
        return self

    def remove(self, hold: Callable[[], None]) -> None:
        """Removes the selected objects, unless a run refers to them by now. Calls ``hold`` often."""
        self._remove_runs(hold)
        self._delete([found.key for found in self._leftovers], hold)
        for upload in self._uploads:
            hold()
            self._store.discard(upload)
        undecided = list(self._doomed)
        try:
            for some in _batches(undecided):
                hold()
                _each(self._put_aside, some)
            referred = self._references.look(self._young) if undecided else set()
            for some in _batches([folder for folder in undecided if folder.name in referred]):
                hold()
                _each(self._put_back, some)
                for folder in some:
                    self._keep(folder)
                    self.done.removed = [garbage for garbage in self.done.removed if garbage.place != folder.name]
                    undecided.remove(folder)
            self._forget(undecided, hold)
        except BaseException:
            _each(self._put_back, undecided)
            raise
        # Delete only the listed files, and no manifest: a run that has made the artifact again needs the others.
        self._delete([found.key for folder in undecided for found in folder.files], hold)

    def _remove_runs(self, hold: Callable[[], None]) -> None:
        """Removes the old runs, except those that were resumed since: their artifacts are put back."""
        still_old = self._runs_to_remove()
        resumed = {run.folder for run in self._old_runs if run not in still_old}
        self.done.removed = [garbage for garbage in self.done.removed if garbage.place not in resumed]
        self._delete([found.key for run in self._old_runs if run.folder not in resumed for found in run.objects], hold)

    def _runs_to_remove(self) -> list[OldRun]:
        return [] if self._retention is None else self._retention.old_runs(self._store, self._limit)

    def _forget(self, folders: Sequence[_Folder], hold: Callable[[], None]) -> None:
        """Deletes the manifests that were set aside. After this, the artifacts cannot be restored."""
        self._delete([removed_manifest_key(folder.name) for folder in folders], hold)

    def _delete(self, keys: Sequence[str], hold: Callable[[], None]) -> None:
        for some in _batches(keys):
            hold()
            self._store.delete_all(some)

    def _sort(self, folder: _Folder, is_referred: bool) -> None:
        if folder.is_undecided or (folder.manifest and not is_referred):
            self._doomed.append(folder)
            if not is_referred:
                self._note(folder.name, folder.objects, "no run refers to it")
        elif folder.manifest is None:
            # A younger file may be a checkpoint of a live training, or belong to an attempt that is about to commit.
            is_old = all(self._is_old(found) for found in folder.objects)
            # A listing may be incomplete, so it does not prove that there is no manifest.
            if is_old and not is_referred and not self._references.has_manifest(folder.name):
                self._add_leftovers(folder, folder.objects, "never finished")
        elif manifest := self._references.manifest(folder.name):
            own = {manifest_key(folder.name), *(f"{folder.name}/{entry.key}" for entry in manifest.files.values())}
            stale = [found for found in folder.objects if found.key not in own and self._is_old(found)]
            self._keep(folder, but=sum(found.size for found in stale))
            if stale:
                self._add_leftovers(folder, stale, "left by an attempt")

    def _add_old(self, objects: Iterable[StoredObject], reason: Reason) -> None:
        for found in objects:
            if self._is_old(found):
                self._leftovers.append(found)
                self._note(found.key, [found], reason)

    def _add_leftovers(self, folder: _Folder, files: Sequence[StoredObject], reason: Reason) -> None:
        self._leftovers.extend(files)
        self._note(folder.name, files, reason)

    def _note(self, place: str, found: Sequence[StoredObject], reason: Reason) -> None:
        newest, size = max(one.modified for one in found), sum(one.size for one in found)
        self.done.removed.append(Garbage(place, newest, size, reason))

    def _keep(self, folder: _Folder, but: int = 0) -> None:
        self.done.kept += 1
        self.done.kept_bytes += folder.size - but

    def _is_old(self, found: StoredObject) -> bool:
        return found.modified < self._limit

    def _put_aside(self, folder: _Folder) -> None:
        data = self._store.get(manifest_key(folder.name))
        if data is not None:
            self._store.put(removed_manifest_key(folder.name), data)
            self._store.delete(manifest_key(folder.name))

    def _put_back(self, folder: _Folder) -> None:
        data = self._store.get(removed_manifest_key(folder.name))
        if data is not None:
            # If there is a manifest, a run has made the artifact again.
            self._store.put_if_absent(manifest_key(folder.name), data)
            self._store.delete(removed_manifest_key(folder.name))
            log.info("kept %s: a run may have started to use it", folder.name)


def _folders(store: Store) -> list[_Folder]:
    """Returns the folders of all artifacts. Ignores other objects below ``artifacts/``."""
    found = defaultdict[str, list[StoredObject]](list)
    for listed in store.objects("artifacts/"):
        names = listed.key.split("/")
        if len(names) > 3:
            found["/".join(names[:3])].append(listed)
    return [_Folder(name, tuple(found[name])) for name in sorted(found)]


def _batches(found: Sequence[Key]) -> Iterator[Sequence[Key]]:
    """Yields parts that take less time than the lock may stay without a sign of life."""
    return (found[start : start + _AT_ONCE] for start in range(0, len(found), _AT_ONCE))


def _each(act: Callable[[Key], Result], keys: Collection[Key]) -> list[Result]:
    """Calls a function for each key, several at once if there are many: a store answers only after milliseconds."""
    if len(keys) < _THREADS:
        return [act(key) for key in keys]
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="gc")
    try:
        return list(pool.map(act, keys))
    finally:
        pool.shutdown(cancel_futures=True)
