"""Reads an xz file in bounded memory. ``lzma.open`` takes as much as the file asks for, up to 4 GB."""

from __future__ import annotations

import lzma
from typing import IO

from zeshel_tasks.errors import DataError

MEMORY_MB = 256
"""Memory of the decompression, in MiB. A file of ``xz -9`` needs 65."""
_BLOCK = 2**16


class BoundedXz:
    """The decompressed bytes of an xz file, which may have several streams, one after another.

    Args:
        packed: the file.
        name: of the file in messages.
    """

    def __init__(self, packed: IO[bytes], name: str) -> None:
        self._packed, self._name = packed, name
        self._stream = self._new_stream()

    def read(self, size: int, /) -> bytes:
        """Returns the next bytes, at most ``size`` of them, and none at the end.

        Raises:
            DataError: the file needs more memory than allowed.
            EOFError: the file ends within a stream.
            lzma.LZMAError: the file is damaged.
        """
        data = b""
        while size and not data:
            block = self._next_block()
            if self._stream.eof:
                if not block:
                    break
                self._stream = self._new_stream()
            data = self._decompressed(block, size)
        return data

    def _next_block(self) -> bytes:
        """Returns the bytes that the stream needs, or with which the next one begins: there may be zeros between."""
        if not self._stream.eof:
            block = self._packed.read(_BLOCK) if self._stream.needs_input else b""
            if self._stream.needs_input and not block:
                raise EOFError("it ends in the middle of an xz stream")
            return block
        rest = self._stream.unused_data
        while not (block := rest.lstrip(b"\0")) and (rest := self._packed.read(_BLOCK)):
            pass
        return block

    def _decompressed(self, block: bytes, size: int) -> bytes:
        try:
            return self._stream.decompress(block, size)
        except lzma.LZMAError as error:
            if "memory" not in str(error).lower():
                raise
            expected = f"at most {MEMORY_MB} MiB (xz -9 needs 65)"
            raise DataError("needs too much memory to unpack", file=self._name, expected=expected) from error

    @staticmethod
    def _new_stream() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_MB << 20)
