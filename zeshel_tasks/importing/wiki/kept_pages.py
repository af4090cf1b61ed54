"""Parsed pages in the store, where the next attempt to make the same artifact finds them.

    artifacts/download/<fingerprint>/parsed/<source>/<hash of the pages>-<hash of the file>.jsonl

Two attempts may write here at the same time: files with the same name have the same content.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from zeshel_tasks.errors import StoreUnavailable
from zeshel_tasks.store import Store
from zeshel_tasks.store.artifacts import sha256_of

log = logging.getLogger(__name__)

_ENDING = ".jsonl"


class KeptPages:
    """The files of one fingerprint. Several threads may use it.

    Args:
        store: where they are kept.
        folder: key prefix, without a trailing slash.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder = store, folder
        self._found = {self._pages(key): key for key in store.keys(f"{folder}/")}
        if self._found:
            log.info("%s files of parsed pages are there from an earlier attempt", f"{len(self._found):,}")

    def fetch(self, pages: str, path: Path) -> bool:
        """Puts the file of these pages at ``path``, and returns True, if there is an undamaged one.

        Args:
            pages: hash of the pages.
            path: where nothing is.
        """
        key = self._found.get(pages)
        part = path.with_suffix(".fetched")
        if key is None or (copy := self._store.local_copy(key, part)) is None:
            return False
        try:
            if copy != part:  # another attempt may remove it from a local store
                shutil.copyfile(copy, part)
        except FileNotFoundError:
            return False
        if key != self._key(pages, part):
            log.warning("%s/%s is broken, so its pages are parsed again", self._store.address, key)
            part.unlink()
            return False
        part.rename(path)
        return True

    def keep(self, pages: str, path: Path) -> None:
        """Stores a finished file. If the store does not answer, it is not kept, and the import goes on."""
        try:
            self._store.upload(path, self._key(pages, path))
        except StoreUnavailable as error:
            log.warning("a file of parsed pages could not be kept, the import goes on: %s", error)

    def remove(self) -> None:
        """Deletes all files. Call it after the artifact is committed."""
        self._store.delete_all(list(self._store.keys(f"{self._folder}/")))

    def _key(self, pages: str, path: Path) -> str:
        return f"{self._folder}/{pages}-{sha256_of(path)}{_ENDING}"

    def _pages(self, key: str) -> str:
        return key.removeprefix(f"{self._folder}/").partition("-")[0]
