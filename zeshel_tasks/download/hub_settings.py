"""The environment variables of huggingface_hub, a package that the scheduler's image lacks."""

from __future__ import annotations

import os
from pathlib import Path

from zeshel_tasks.credentials import check_files
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.location import is_server
from zeshel_tasks.text.redaction import without_secrets
from zeshel_tasks.text.safe_text import quoted

_SECONDS = ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")
_DEFAULT_SECONDS = 10


def check_timeouts() -> None:
    """Check the variables that huggingface_hub reads when it is imported, where a wrong one ends in a traceback.

    Raises:
        ConfigError: a timeout is not a number of seconds.
    """
    for name in _SECONDS:
        _seconds(name)


def question_timeout() -> int:
    """Seconds to wait for the hub's answer to a question: ``HF_HUB_ETAG_TIMEOUT``.

    Raises:
        ConfigError: it is not a number of seconds.
    """
    return _seconds("HF_HUB_ETAG_TIMEOUT")


def download_timeout() -> int:
    """Seconds to wait for the next bytes of a file: ``HF_HUB_DOWNLOAD_TIMEOUT``.

    Raises:
        ConfigError: it is not a number of seconds.
    """
    return _seconds("HF_HUB_DOWNLOAD_TIMEOUT")


def endpoint() -> str:
    """Address of the hub, without a slash at its end: ``HF_ENDPOINT``.

    Raises:
        ConfigError: it is not the address of a web server.
    """
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if not is_server(address) or not {"?", "#"}.isdisjoint(address):
        shown = quoted(without_secrets(address))
        raise ConfigError(f"HF_ENDPOINT: expected an address like https://host, without spaces or '?', got {shown}")
    return address.rstrip("/")


def is_offline() -> bool:
    """True if the hub must not be asked."""
    return _is_true("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def token_header() -> dict[str, str]:
    """The header that identifies the user, if there is a token.

    Raises:
        ConfigError: see :func:`token`.
    """
    known = "" if _is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") else token()
    return {"Authorization": f"Bearer {known}"} if known else {}


def token() -> str:
    """The user's token, from the environment or its file; empty if there is none.

    Raises:
        ConfigError: the token cannot be sent in a header, or its file cannot be read.
    """
    check_files(["HF_TOKEN_PATH"])
    found = _first("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") or _read(_path("HF_TOKEN_PATH") or _home() / "token")
    if not found.isascii() or not found.isprintable() or " " in found:
        raise ConfigError("HF_TOKEN: expected a token of ASCII characters without spaces, got another text")
    return found


def cache_folder() -> Path:
    """The folder of the cached models."""
    return _path("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE") or _home() / "hub"


def _home() -> Path:
    return _path("HF_HOME") or (_path("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "huggingface"


def _path(*names: str) -> Path | None:
    """The path in the first variable that is set, with its variables and ``~`` replaced, as huggingface_hub does."""
    text = next(filter(None, map(os.environ.get, names)), None)
    return None if text is None else Path(os.path.expandvars(os.path.expanduser(text)))  # noqa: PTH111  # never raises


def _first(*names: str) -> str:
    return next(filter(None, (os.environ.get(name, "").strip() for name in names)), "")


def _is_true(*names: str) -> bool:
    return _first(*names).upper() in ("1", "ON", "YES", "TRUE")


def _seconds(name: str) -> int:
    text = os.environ.get(name) or "0"
    try:
        seconds = int(text)
    except ValueError:
        seconds = -1
    if seconds < 0:
        raise ConfigError(f"{name}: expected a whole number of seconds, got {quoted(text)}")
    return seconds or _DEFAULT_SECONDS  # as in huggingface_hub


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
