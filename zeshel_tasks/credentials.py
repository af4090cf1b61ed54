"""Checks the environment's credentials before a library quotes them in an error, or goes on without them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.safe_text import quoted


def check_credentials(names: Iterable[str]) -> None:
    """Check variables that a client sends in the headers of its requests. The last line end of a file is often in them.

    Raises:
        ConfigError: a value has spaces or line ends around it, or contains control characters.
    """
    for name in names:
        value = os.environ.get(name, "")
        if value != value.strip() or not value.isprintable():
            raise ConfigError(f"{name}: expected printable text without spaces or line ends around it, got another one")


def check_files(names: Iterable[str]) -> None:
    """Check variables that name files of boto3 or huggingface_hub, which say nothing if they cannot read one.

    A file that does not exist, or /dev/null, means that there is none.

    Raises:
        ConfigError: a variable names a folder, or a file that this process may not read.
    """
    for name in names:
        text = os.path.expandvars(os.environ.get(name) or os.devnull)
        if text == os.devnull:
            continue
        path = Path(os.path.expanduser(text))  # noqa: PTH111  # never raises
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise OSError("not a file")
            path.open("rb").close()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, ValueError) as error:  # ValueError: no file can have this name
            raise ConfigError(f"{name}: expected a file that can be read, got {quoted(text)}: {error}") from error
