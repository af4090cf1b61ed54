"""Checks where the results of an import go, and puts them there: all or nothing."""

from __future__ import annotations

import filecmp
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from unicodedata import normalize

from zeshel_tasks.compute.termination import scratch_folder
from zeshel_tasks.download.members import EXPECTED_NAME, UNFINISHED, can_be_kept
from zeshel_tasks.errors import ConfigError, ZeshelError
from zeshel_tasks.location import LocalPath, located, store_location
from zeshel_tasks.store import LocalStore, Store
from zeshel_tasks.store.runs import store_at
from zeshel_tasks.text.safe_text import quoted

log = logging.getLogger(__name__)


def world_name(text: str) -> str:
    """Checks the name of a world, which will be the name of a file, and returns it in the normal form of files.

    Raises:
        ValueError: no file of a data set can have this name. The message is the expected form.
    """
    name = normalize("NFC", text)
    if not name or name.startswith(".") or "/" in name or not can_be_kept(f"{name}.json"):
        raise ValueError(f"expected {EXPECTED_NAME} without '/' that does not begin with '.'")
    return name


def publish(store: Store, files: Mapping[str, Path], scratch: Path, marker: str | None = None) -> None:
    """Puts files into a store in their order.

    Files with the same content may be there already, such as those of an import that was killed. After an error, none
    of the new files stays.

    Args:
        store: where they go.
        files: key -> finished local file, which must not change afterwards.
        scratch: an empty folder.
        marker: key of an object that is there until all files are.

    Raises:
        ConfigError: a file is there with other content.
        StoreUnavailable: the store does not answer.
    """
    missing = [key for key, path in files.items() if not _is_there(store, key, path, scratch)]
    try:
        if marker is not None and missing:
            store.put(marker, b"")
        for key in missing:
            store.upload(files[key], key)
    except BaseException:
        with suppress(ZeshelError):
            store.delete_all(missing)
            _remove(store, marker)
        raise
    _remove(store, marker)
    if not missing:
        log.info("%s: everything is there already", store.address)


def publish_data_set(address: str, data: Path, scratch: Path) -> None:
    """Puts the files of a data set into a store: all or nothing.

    A new local folder appears at once. Elsewhere, the object :data:`~zeshel_tasks.download.members.UNFINISHED` is there
    until all files are, and ``download`` waits for its end.

    Args:
        address: a folder or an S3 prefix.
        data: folder with the finished files, which must not change afterwards.
        scratch: a folder for temporary files.

    Raises:
        ConfigError: a file is there with other content, or mentions that are not among the files.
        StoreUnavailable: the store does not answer.
    """
    files = {path.relative_to(data).as_posix(): path for path in sorted(data.rglob("*")) if path.is_file()}
    location = located("--out", address, store_location)
    if isinstance(location, LocalPath) and not location.path.exists():
        parent = location.path.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(f".{location.path.name[:100]}-", parent) as folder:
            publish(LocalStore(folder / "unfinished"), files, scratch)
            (folder / "unfinished").rename(location.path)
        return
    store = store_at(location)
    for key in store.keys("mentions/"):
        if key not in files:
            raise ConfigError(f"--out: expected no other mentions in {store.address}, got {quoted(key)}")
    publish(store, files, scratch, UNFINISHED)


def _remove(store: Store, marker: str | None) -> None:
    if marker is not None:
        store.delete(marker)


def _is_there(store: Store, key: str, path: Path, scratch: Path) -> bool:
    found = next((found for found in store.objects(key) if found.key == key), None)
    if found is None:
        return False
    copy = store.local_copy(key, scratch / "there") if found.size == path.stat().st_size else None
    if copy is None or not filecmp.cmp(copy, path, shallow=False):
        raise ConfigError(f"--out: expected no other {quoted(key)} in {store.address}, got one of {found.size:,} bytes")
    return True
