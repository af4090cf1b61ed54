"""Removing what no run refers to, while runs work.

A run refers to an artifact by a record, and an artifact refers to those that it ``uses`` by its manifest. The caller
names further roots, such as the champions' models. What nothing refers to is removed once it is old. A run may be
about to reuse something old at this very moment; an order that both sides keep shows it:

* a run writes its record first, then looks whether the manifest is there, and makes the artifact again if it is not;
* a cleanup takes the manifest away first, then looks for records, and puts it back if there is one.

One of the two sees the other. Until it is decided, the manifest lies beside its place as ``manifest.removed.json`` and
no file is touched: a cleanup that dies leaves the decision to the next one.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from zeshel_tasks.store.artifacts import Manifest, manifest_key, put_aside, read_manifest_now, removed_manifest_key
from zeshel_tasks.store.base import Store, StoredObject
from zeshel_tasks.store.lock import locked
from zeshel_tasks.store.runs import listed_records, read_record

log = logging.getLogger(__name__)

Reason = Literal["no run refers to it", "never finished", "left by an attempt", "an upload that did not end"]


class Garbage(NamedTuple):
    """Something that can go: where, since when it is there (seconds since 1970), how many bytes, and why it can go."""

    place: str
    modified: float
    size: int
    reason: Reason


@dataclass
class Cleanup:
    """What a cleanup removed, or would remove; what it keeps, in artifacts and bytes."""

    removed: list[Garbage] = field(default_factory=list)
    kept: int = 0
    kept_bytes: int = 0


Roots = Callable[[Store], Iterable[str]]
"""Reads from the store which artifacts' folders must stay besides those that runs refer to."""


def clean_up(store: Store, before: datetime, *, roots: Roots, dry_run: bool = False) -> Cleanup:
    """Removes what neither a run nor ``roots`` refers to and what was put into the store before ``before``.

    Args:
        store: its artifacts and unfinished uploads; of runs nothing is removed.
        before: a time, by the store's clock, two days or more in the past: what an attempt uploads before its manifest,
            and a live training's checkpoints, must be younger. (S3 refuses a client whose clock is 15 minutes off.)
        roots: asked once before anything is changed, and once more after the manifests were put aside.
        dry_run: nothing is changed.

    Raises:
        TryAgain: another cleanup is at work.
        CorruptArtifact: a record, or a manifest that a run refers to, is broken, so that nobody knows what the run
            needs; nothing was removed.
    """
    if dry_run:
        return _Cleaner(store, before.timestamp(), roots).sorted_out().done
    with locked(store) as lock:
        cleaner = _Cleaner(store, before.timestamp(), roots).sorted_out()
        lock.check()
        cleaner.remove(lock.hold)
    return cleaner.done


@dataclass(frozen=True)
class _Folder:
    """An artifact's folder, as listed."""

    name: str
    objects: tuple[StoredObject, ...]

    @property
    def manifest(self) -> StoredObject | None:
        return self._named(manifest_key(self.name))

    @property
    def is_undecided(self) -> bool:
        """A cleanup died before it had decided about it."""
        return self.manifest is None and self._named(removed_manifest_key(self.name)) is not None

    @property
    def files(self) -> list[StoredObject]:
        """All but the manifest, in its place or aside."""
        manifests = (manifest_key(self.name), removed_manifest_key(self.name))
        return [found for found in self.objects if found.key not in manifests]

    @property
    def size(self) -> int:
        return sum(found.size for found in self.objects)

    def _named(self, key: str) -> StoredObject | None:
        return next((found for found in self.objects if found.key == key), None)


class _References:
    """Which artifacts' folders runs refer to; a second look reads only what has changed since the first."""

    def __init__(self, store: Store, roots: Roots) -> None:
        self._store, self._roots = store, roots
        self._named_by: dict[StoredObject, str] = {}
        self._manifests: dict[str, Manifest] = {}

    def look(self, young: Iterable[str]) -> set[str]:
        """Folders that are referred to now: by a record, by a root, or from ``young``, which are among them."""
        for listed in listed_records(self._store):
            if listed not in self._named_by:
                record = read_record(self._store, listed.key)
                if record is not None:
                    self._named_by[listed] = record.artifact
        # Records that are gone since the first look still count: it does no harm to spare too much.
        waiting = [*self._named_by.values(), *self._roots(self._store), *young]
        referred = set[str]()
        while waiting:
            folder = waiting.pop()
            if folder not in referred:
                referred.add(folder)
                manifest = self.manifest(folder)
                waiting.extend(manifest.uses if manifest else ())
        return referred

    def manifest(self, folder: str) -> Manifest | None:
        """The manifest in a folder, in its place or aside."""
        if folder not in self._manifests:
            found = read_manifest_now(self._store, folder) or put_aside(self._store, folder)
            if found is None:
                return None
            self._manifests[folder] = found
        return self._manifests[folder]


class _Cleaner:
    """One cleanup of a store; what is younger than ``limit`` (seconds since 1970) stays."""

    def __init__(self, store: Store, limit: float, roots: Roots) -> None:
        self._store, self._limit = store, limit
        self._references = _References(store, roots)
        self._young: list[str] = []
        self._doomed: list[_Folder] = []
        self._leftovers: list[StoredObject] = []
        self._uploads: list[StoredObject] = []
        self.done = Cleanup()

    def sorted_out(self) -> _Cleaner:
        """Looks at everything once, and changes nothing."""
        # The listing comes first: what is committed after it is in no danger.
        folders = list(_folders(self._store))
        self._young = [folder.name for folder in folders if folder.manifest and not self._is_old(folder.manifest)]
        referred = self._references.look(self._young)
        for folder in folders:
            self._sort(folder, folder.name in referred)
        self._uploads = [found for found in self._store.unfinished("artifacts/") if self._is_old(found)]
        for upload in self._uploads:
            self._note(upload.key, [upload], "an upload that did not end")
        return self

    def remove(self, hold: Callable[[], None]) -> None:
        """Removes what was sorted out, unless a run has come to refer to it; calls ``hold`` now and then."""
        for found in self._leftovers:
            hold()
            self._store.delete(found.key)
        for upload in self._uploads:
            hold()
            self._store.discard(upload)
        undecided = list(self._doomed)
        try:
            for folder in undecided:
                hold()
                self._put_aside(folder)
            referred = self._references.look(self._young) if undecided else set()
            while undecided:
                hold()
                folder = undecided[-1]
                if folder.name in referred:
                    self._put_back(folder)
                    self._keep(folder)
                    self.done.removed = [garbage for garbage in self.done.removed if garbage.place != folder.name]
                else:
                    self._remove(folder)
                undecided.pop()
        except BaseException:
            for folder in undecided:
                self._put_back(folder)
            raise

    def _sort(self, folder: _Folder, is_referred: bool) -> None:
        if folder.is_undecided or (folder.manifest and not is_referred):
            self._doomed.append(folder)
            if not is_referred:
                self._note(folder.name, folder.objects, "no run refers to it")
        elif folder.manifest is None:
            # A younger file is a sign of life: of a training's checkpoint, or an attempt about to commit.
            if all(self._is_old(found) for found in folder.objects):
                self._leave_behind(folder, folder.objects, "never finished")
        elif manifest := self._references.manifest(folder.name):
            own = {manifest_key(folder.name), *(f"{folder.name}/{entry.key}" for entry in manifest.files.values())}
            stale = [found for found in folder.objects if found.key not in own and self._is_old(found)]
            self._keep(folder, but=sum(found.size for found in stale))
            if stale:
                self._leave_behind(folder, stale, "left by an attempt")

    def _leave_behind(self, folder: _Folder, files: Sequence[StoredObject], reason: Reason) -> None:
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
            # Where there is a manifest, a run has made the artifact again.
            self._store.put_if_absent(manifest_key(folder.name), data)
            self._store.delete(removed_manifest_key(folder.name))
            log.info("kept %s after all: a run may have begun to use it", folder.name)

    def _remove(self, folder: _Folder) -> None:
        self._store.delete(removed_manifest_key(folder.name))  # from here on there is no way back
        # Only what was listed, and no manifest: a run that has made the artifact again by now needs the rest.
        for found in folder.files:
            self._store.delete(found.key)


def _folders(store: Store) -> Iterator[_Folder]:
    """All artifacts' folders; anything else below ``artifacts/`` is none of ours."""
    parts = ((found.key.split("/"), found) for found in store.objects("artifacts/"))
    ours = (("/".join(names[:3]), found) for names, found in parts if len(names) > 3)
    for name, group in itertools.groupby(ours, key=lambda pair: pair[0]):
        yield _Folder(name, tuple(found for _, found in group))
