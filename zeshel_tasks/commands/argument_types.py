"""Types of command-line arguments. Each refuses a wrong value with the expected form and the value."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from zeshel_tasks.location import local_location, store_location
from zeshel_tasks.store.runs import run_location
from zeshel_tasks.text.redaction import without_secrets
from zeshel_tasks.text.safe_text import quoted

T = TypeVar("T")


def run(text: str) -> str:
    """Check the address of a run."""
    parsed(text, run_location)
    return text


def store(text: str) -> str:
    """Check the address of a store."""
    parsed(text, store_location)
    return text


def path(text: str) -> Path:
    """Parse a local path."""
    return parsed(text, local_location).path


def seed(text: str) -> int:
    """Check the seed of a random generator."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to {2**32 - 1}, got {quoted(text)}")
    return number


def parsed(text: str, parse: Callable[[str], T]) -> T:
    """Parse an argument with a function that raises ValueError with the expected form."""
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, got {quoted(without_secrets(text))}") from error
