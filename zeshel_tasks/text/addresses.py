"""Checks of addresses and paths from users, before they reach the file system, a server or a log."""

from __future__ import annotations

import os
import unicodedata
from urllib.parse import unquote

MAX_CHARACTERS = 4096  # PATH_MAX of Linux
DRIVE_HOSTS = {"drive.google.com", "docs.google.com", "drive.usercontent.google.com"}
_MAX_NAME_BYTES = 255  # NAME_MAX of Linux, for each part of a path
_NOT_TEXT = ("Cc", "Cs")  # control characters, halves of surrogate pairs (bytes of a name that are not UTF-8)


def checked_address(text: str) -> str:
    """Return the text if it can be a path or an address.

    Raises:
        ValueError: it is too long, has control characters or is not UTF-8.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"expected at most {MAX_CHARACTERS:,} characters, got {len(text):,}")
    plain = unquote(text.removeprefix("file://")) if text.startswith("file://") else text
    if any(unicodedata.category(character) in _NOT_TEXT for character in plain):
        raise ValueError("expected a name in UTF-8 without control characters")
    if "://" not in plain and any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in plain.split("/")):
        raise ValueError(f"expected names of at most {_MAX_NAME_BYTES} bytes, got a longer one")
    return text
