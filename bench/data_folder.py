"""The data set that a bench was given."""

from __future__ import annotations

from pathlib import Path

from zeshel_tasks.download.archive import unpack

_MOST_UNPACKED = 32 * 10**9


def data_folder(data: Path, scratch: Path) -> Path:
    """The data set in a folder, unpacked below ``scratch`` where it is an archive."""
    if data.is_dir():
        return data
    unpack(data, scratch / "data", _MOST_UNPACKED)
    return scratch / "data"
