"""Types of command-line arguments. Each refuses a wrong value with the expected form and the value."""

from __future__ import annotations

import argparse
import re
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


def hub_repository(text: str) -> str:
    """Check the full name of a repository on the hub."""
    if not re.fullmatch(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected owner/name, got {quoted(text)}")
    return text


def license_id(text: str) -> str:
    """Check the identifier of a licence on the hub."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,50}", text):
        raise argparse.ArgumentTypeError(f"expected an identifier such as apache-2.0, got {quoted(text)}")
    return text


def record(text: str) -> str:
    """Check the name of the records of a change."""
    if not re.fullmatch(r"[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,254}", text):
        raise argparse.ArgumentTypeError(f"expected a name of letters, digits, _, . and -, got {quoted(text)}")
    return text


def seed(text: str) -> int:
    """Check the seed of a random generator."""
    return _whole_number(text, 2**32 - 1)


def count(text: str) -> int:
    """Check how many of something there may be."""
    return _whole_number(text, 1_000_000)


def entities(text: str) -> int:
    """Check a number of entities."""
    return _whole_number(text, 10**9)


def parsed(text: str, parse: Callable[[str], T]) -> T:
    """Parse an argument with a function that raises ValueError with the expected form."""
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, got {quoted(without_secrets(text))}") from error


def _whole_number(text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) > most:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to {most}, got {quoted(text)}")
    return int(text)
