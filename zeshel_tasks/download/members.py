"""Selects the files of an archive, a folder or a bucket that belong to a data set."""

from __future__ import annotations

import os

FOLDERS = ("documents", "mentions")
ALL_FOLDERS = (*FOLDERS, "contexts")
"""Those that every data set has, and the one that it may have."""

UNFINISHED = "unfinished-import"
"""An object beside these folders, which ``import-mentions`` writes before the files and removes after them."""

_MAX_NAME_BYTES = 200  # file systems allow 255; we add endings and prefixes to the names of worlds
EXPECTED_NAME = f"a printable name in UTF-8 of at most {_MAX_NAME_BYTES} bytes"


def is_member(folder: str, name: str) -> bool:
    """Return True for ``documents/*.json``, ``mentions/*.json`` and ``contexts/*.json``."""
    return folder in ALL_FOLDERS and name.endswith(".json") and not name.startswith(".")


def can_be_kept(name: str) -> bool:
    """Return True if every disk and every store accepts the name (:data:`EXPECTED_NAME`)."""
    return name.isprintable() and len(os.fsencode(name)) <= _MAX_NAME_BYTES
