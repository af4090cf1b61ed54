"""Unpacks the data set of a benchmark."""

from __future__ import annotations

from pathlib import Path

from zeshel_tasks.download.archive import unpack

_MOST_UNPACKED = 32 * 10**9


def data_folder(data: Path, scratch: Path) -> Path:
    """Return the folder of a data set. An archive is unpacked below ``scratch``."""
    if data.is_dir():
        return data
    unpack(data, scratch / "data", _MOST_UNPACKED)
    return scratch / "data"
