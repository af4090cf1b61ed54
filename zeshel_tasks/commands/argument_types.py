"""Types of command-line arguments. Each refuses a wrong value with the expected form and the value."""

from __future__ import annotations

import argparse
from pathlib import Path

from zeshel_tasks.text.addresses import checked_address
from zeshel_tasks.text.safe_text import quoted


def address(text: str) -> str:
    """Check an address."""
    try:
        return checked_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def path(text: str) -> Path:
    """Check a local path."""
    return Path(address(text))


def seed(text: str) -> int:
    """Check the seed of a random generator."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to {2**32 - 1}, got {quoted(text)}")
    return number
