"""Disables, one at a time, the safeguards that keep runs and cleanups from harming one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from unittest.mock import patch

from tests.two_at_once.situations import Witness
from zeshel_tasks.pipeline import contract
from zeshel_tasks.pipeline.job import Target
from zeshel_tasks.store import Manifest, Run, Store, artifacts, garbage
from zeshel_tasks.store.artifacts import manifest_key, read_manifest_now


def without_a_second_look_by_the_run() -> AbstractContextManager[object]:
    """The run does not check the manifest again after it has written its record."""

    def made_or_reused(
        run: Run,
        target: Target,
        make: Callable[[], Manifest],
        record: Callable[[Manifest, bool], None],
    ) -> tuple[Manifest, bool]:
        found = artifacts.read_manifest(run.store, target.folder)
        manifest = found or make()
        record(manifest, found is not None)
        return manifest, found is not None

    return patch.object(contract, "_made_or_reused", made_or_reused)


def without_a_second_look_by_the_cleanup() -> AbstractContextManager[object]:
    """The cleanup does not look for records again after it has set the manifests aside."""
    first_look: dict[int, set[str]] = {}
    look = garbage._References.look

    def once(self: garbage._References, roots: list[str]) -> set[str]:
        if id(self) not in first_look:
            first_look[id(self)] = look(self, roots)
        return first_look[id(self)]

    return patch.object(garbage._References, "look", once)


def without_putting_manifests_aside() -> AbstractContextManager[object]:
    """The cleanup looks for records twice, but removes the manifest only afterwards."""

    def forget(self: garbage._Cleaner, folders: Sequence[garbage._Folder], hold: Callable[[], None]) -> None:
        for folder in folders:
            self._store.delete(manifest_key(folder.name))

    changed = ExitStack()
    changed.enter_context(patch.object(garbage._Cleaner, "_put_aside", lambda self, folder: None))
    changed.enter_context(patch.object(garbage._Cleaner, "_forget", forget))
    return changed


def without_a_way_back() -> AbstractContextManager[object]:
    """The cleanup deletes manifests instead of setting them aside."""

    def delete(self: garbage._Cleaner, folder: garbage._Folder) -> None:
        self._store.delete(manifest_key(folder.name))

    return patch.object(garbage._Cleaner, "_put_aside", delete)


def without_records_of_what_is_used() -> AbstractContextManager[object]:
    """Stages do not record the artifacts that they use before they have finished."""
    return patch.object(Run, "write_use", lambda self, manifest, **facts: None)


def without_following_uses() -> AbstractContextManager[object]:
    """The cleanup keeps only artifacts that records name."""
    return patch.object(garbage._References, "manifest", lambda self, folder: read_without_uses(self._store, folder))


def read_without_uses(store: Store, folder: str) -> Manifest | None:
    found = read_manifest_now(store, folder)
    return None if found is None else found.model_copy(update={"uses": ()})


def without_conditional_writes() -> AbstractContextManager[object]:
    """A commit checks for an object and then writes it."""

    def look_then_put(self: Witness, key: str, data: bytes) -> bool:
        if self.get(key) is not None:
            return False
        self.put(key, data)
        return True

    return patch.object(Witness, "put_if_absent", look_then_put)


def without_uploading_before_the_commit() -> AbstractContextManager[object]:
    """An attempt commits its manifest before its files."""
    uploads = artifacts.Uploads.upload

    def commit(self: artifacts.Attempt, facts: dict[str, object]) -> Manifest:
        entries = {name: entry_of(self, name) for name in self._paths}
        manifest = Manifest.model_validate({**facts, "files": entries})
        self._store.put_if_absent(manifest_key(self._folder), artifacts.checksummed(manifest))
        uploads(self._uploads, self._paths)
        return manifest

    def entry_of(attempt: artifacts.Attempt, name: str) -> artifacts.FileEntry:
        path = attempt._paths[name]
        key = f"{attempt._uploads._prefix}/{name}"
        return artifacts.FileEntry(key=key, size=path.stat().st_size, sha256=artifacts.sha256_of(path))

    return patch.object(artifacts.Attempt, "commit", commit)
