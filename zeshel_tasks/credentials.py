"""Checks the environment's credentials, because libraries quote a value in the error that says they cannot send it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from zeshel_tasks.errors import ConfigError


def check_credentials(names: Iterable[str]) -> None:
    """Check variables that a client sends in the headers of its requests. The last line end of a file is often in them.

    Raises:
        ConfigError: a value has spaces or line ends around it, or contains control characters.
    """
    for name in names:
        value = os.environ.get(name, "")
        if value != value.strip() or not value.isprintable():
            raise ConfigError(f"{name}: expected printable text without spaces or line ends around it, got another one")
