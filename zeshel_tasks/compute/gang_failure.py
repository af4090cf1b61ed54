"""The error of one process of a gang, which ends the others with the same exit code."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel

from zeshel_tasks import errors
from zeshel_tasks.errors import TryAgain, ZeshelError


class Failure(BaseModel):
    """An error, and the process that had it first."""

    rank: int
    host: str
    kind: str
    message: str

    @classmethod
    def of(cls, rank: int, error: BaseException) -> Failure:
        """Describes an error of this process."""
        known = isinstance(error, ZeshelError)
        if not isinstance(error, Exception):  # SIGTERM before the first step, or Ctrl-C
            kind, message = TryAgain.__name__, "it was told to stop"
        else:
            kind = type(error).__name__ if known else ZeshelError.__name__
            message = str(error) if known else f"{type(error).__name__}: {error}"
        return cls(rank=rank, host=socket.gethostname(), kind=kind, message=message)

    def error(self) -> ZeshelError:
        """Returns the error for another process."""
        kind = getattr(errors, self.kind, ZeshelError)
        assert issubclass(kind, ZeshelError)
        error: ZeshelError = kind(f"process {self.rank} on {self.host}: {self.message}")
        return error


def may_be_consequence(error: BaseException) -> bool:
    """True for a lost connection, and for the error of a library: another process may have caused it."""
    return type(error) is TryAgain or (isinstance(error, Exception) and not isinstance(error, ZeshelError))


@contextmanager
def lost_contact_named() -> Iterator[None]:
    """Turns the errors with which torch reports a lost process into one that asks for another attempt.

    Raises:
        TryAgain: another process ended, or did not answer in time.
    """
    import torch.distributed as dist

    try:
        yield
    except RuntimeError as error:
        # gloo raises no type of its own, but names its file.
        if not isinstance(error, dist.DistError) and "gloo/" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise TryAgain(f"lost the connection to another process of this training: {reason}") from error
