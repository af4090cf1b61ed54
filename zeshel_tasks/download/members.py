"""Which files of an archive, a folder or a bucket make up a data set."""

from __future__ import annotations

import os

FOLDERS = ("documents", "mentions")
_MAX_NAME_BYTES = 200  # file systems take 255; a world's name with an ending and a prefix of ours is one, too
EXPECTED_NAME = f"a printable one in UTF-8, of at most {_MAX_NAME_BYTES} bytes"


def is_member(folder: str, name: str) -> bool:
    """Whether the file ``name`` in ``folder`` is one: ``documents/*.json`` and ``mentions/*.json``."""
    return folder in FOLDERS and name.endswith(".json") and not name.startswith(".")


def can_be_kept(name: str) -> bool:
    """Whether a file can have this name on every disk and in every store (:data:`EXPECTED_NAME`)."""
    return name.isprintable() and len(os.fsencode(name)) <= _MAX_NAME_BYTES
