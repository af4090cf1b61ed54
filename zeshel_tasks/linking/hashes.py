"""64-bit hashes of words and names, which the files of a lexical index have instead of these.

Two different ones have the same hash with a probability of less than one in a million even among a million.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]


def hashes(texts: Sequence[str]) -> Hashes:
    """Returns the hashes of words or names: uint64 [n]."""
    data = b"".join(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(data, dtype="<u8")
