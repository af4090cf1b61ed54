"""The size of a test: small in the usual run, large in the nightly one (``make test-nightly``)."""

from __future__ import annotations

import os

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "hunt"
"""The profile that makes hypothesis look for new examples makes the other tests thorough, too."""


def rounds(usual: int, nightly: int) -> int:
    """Returns the number of repetitions of a test."""
    return nightly if NIGHTLY else usual
