"""Behaviour that only occurs with a local store."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from zeshel_tasks.errors import ConfigError, StoreUnavailable, ZeshelError
from zeshel_tasks.store import LocalStore


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EROFS, ConfigError),
        (errno.EACCES, ConfigError),
        (errno.EPERM, ConfigError),
        (errno.ENAMETOOLONG, ConfigError),
        (errno.EIO, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
        (errno.ENOSPC, StoreUnavailable),
    ],
)
def test_store_that_cannot_be_written_is_a_config_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[ZeshelError]
) -> None:
    """A commit waits for a store that is unavailable, but a read-only one stays read-only."""

    def fail(path: Path, *arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    store = LocalStore(tmp_path / "store")
    (tmp_path / "file").write_bytes(b"x")
    for name in ("mkdir", "open", "replace"):
        monkeypatch.setattr(Path, name, fail)
    monkeypatch.setattr(os, "open", fail)
    for write in (
        lambda: store.put("key", b"x"),
        lambda: store.put_if_absent("key", b"x"),
        lambda: store.put_if_unchanged("key", b"x", "version"),
        lambda: store.upload(tmp_path / "file", "key"),
    ):
        with pytest.raises(kind, match=os.strerror(number)):
            write()


def test_folder_in_the_place_of_an_object_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(ConfigError, match="expected a directory for the store"):
        LocalStore(tmp_path).put("key", b"x")
