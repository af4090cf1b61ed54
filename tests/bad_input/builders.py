"""Builds small data sets and archives as bytes, which a test can break in one place."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from tests.support.data_set_files import DataSetFiles


def data_set_files(folder: Path) -> dict[str, bytes]:
    """Returns the files of a valid data set of three worlds, by name; ``folder`` is for temporary files."""
    root = DataSetFiles(folder / "zeshel").write()
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.json"))}


def archive_of(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    """Returns an uncompressed tar archive of files, and of more members without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in more:
            tar.addfile(info)
    return buffer.getvalue()


def empty_member(name: str, kind: bytes = tarfile.REGTYPE, headers: dict[str, str] | None = None) -> tarfile.TarInfo:
    """Returns a member without content; ``headers`` go into an extended header before it."""
    info = tarfile.TarInfo(name)
    info.type, info.pax_headers = kind, headers or {}
    return info
