"""Reads the file in a 7z archive as a stream."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from zeshel_tasks.errors import ConfigError

_NEEDS_PY7ZR = "expected the package py7zr: python -m pip install 'zeshel-tasks[import]'"


@contextmanager
def opened_7z(packed: IO[bytes]) -> Iterator[IO[bytes]]:
    """Opens the only file in an archive. py7zr writes its content, so a thread does that into a pipe.

    Raises:
        EOFError: the archive is damaged, encrypted, or has no file or several.
        ConfigError: py7zr is not installed.
    """
    try:
        import py7zr
    except ImportError as error:
        raise ConfigError(f"py7zr: {_NEEDS_PY7ZR}") from error
    with _damage_named(), py7zr.SevenZipFile(packed) as archive:
        names = [found.filename for found in archive.list() if not found.is_directory]
        if len(names) != 1:
            raise EOFError(f"expected one file in the archive, got {len(names):,}")
        receiver, sender = os.pipe()
        writer = _Writer(archive, names[0], sender)
        with io.BufferedReader(_Pipe(receiver, writer)) as stream:
            writer.start()
            yield cast("IO[bytes]", stream)
        writer.join()


class _Writer(threading.Thread):
    """Writes the content of a file into a pipe, until the reader closes its end."""

    def __init__(self, archive: Any, name: str, sender: int) -> None:
        super().__init__(daemon=True)
        self.error: Exception | None = None
        self._archive, self._name, self._sender = archive, name, sender

    def run(self) -> None:
        """Does the work of the thread."""
        with suppress(BrokenPipeError), os.fdopen(self._sender, "wb", buffering=0) as sink:
            try:
                self._archive.extract(targets=[self._name], factory=_Factory(sink))
            except BrokenPipeError:  # the reader has what it needs
                raise
            except Exception as error:
                self.error = error


class _Factory:
    """Makes what py7zr writes to: ``WriterFactory`` and ``Py7zIO`` of py7zr in one."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink, self._size = sink, 0

    def create(self, _name: str) -> _Factory:
        """Returns the target of a file."""
        return self

    def write(self, block: bytes) -> int:
        """Writes a block; a pipe may take it in parts."""
        view = memoryview(block)
        while view:
            view = view[self._sink.write(view) :]
        self._size += len(block)
        return len(block)

    def read(self, _size: int | None = None) -> bytes:
        """Returns nothing: the content is not kept."""
        return b""

    def seek(self, _offset: int, _whence: int = 0) -> int:
        """Does nothing."""
        return self._size

    def flush(self) -> None:
        """Does nothing: a pipe is not buffered."""

    def size(self) -> int:
        """Returns the number of bytes so far."""
        return self._size

    def close(self) -> None:
        """Does nothing: the thread closes the pipe."""


class _Pipe(io.RawIOBase):
    """The reader's end. At the end of the content, it raises the error that the writer met."""

    def __init__(self, receiver: int, writer: _Writer) -> None:
        self._receiver, self._writer = os.fdopen(receiver, "rb", buffering=0), writer

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads into a buffer."""
        count = self._receiver.readinto(buffer) or 0
        if not count:
            self._writer.join()
            if self._writer.error is not None:
                raise EOFError(str(self._writer.error)) from self._writer.error
        return int(count)

    def close(self) -> None:
        """Closes the end, which ends the writer."""
        self._receiver.close()
        super().close()


@contextmanager
def _damage_named() -> Iterator[None]:
    from py7zr.exceptions import ArchiveError

    try:
        yield
    except ArchiveError as error:
        raise EOFError(str(error) or type(error).__name__) from error
