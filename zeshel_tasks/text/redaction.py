"""Hides secrets in everything that is stored or printed: manifests, reports, logs, errors.

The user, password, query (such as a URL's signature) and fragment of an address may be secret. So may environment
variables with names like AWS_SECRET_ACCESS_KEY, in any form in which libraries quote them. A secret in the path of an
address looks like a folder and is not hidden.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlencode

from zeshel_tasks.text.json_text import to_json

HIDDEN = "***"
DRIVE_HOSTS = {"drive.google.com", "docs.google.com", "drive.usercontent.google.com"}

_WIKI = "(?:[Ww][Ii][Kk][Ii]:)?"  # before the address of a wiki's dump
_ADDRESS = re.compile(rf"\s*({_WIKI}(?:[A-Za-z][A-Za-z0-9+.-]*://|(?:https?|ftp|s3):/*))([^/?#;\\]*)(.*)", re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|[^:@]*)(:\d*)?")
# The look-behind avoids quadratic time on a long word.
_IN_TEXT = re.compile(
    r"(?<![A-Za-z0-9+.-])(?:[A-Za-z][A-Za-z0-9+.-]{0,30}://|(?:https?|ftp|s3):/)[^\s'\"<>`]*[^\s'\"<>`.,:;)\]}]"
)
# Query parameters of Google Drive that name a public file.
_NAMES_A_DRIVE_FILE = {"id", "export"}

_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE_KEY|ACCESS_KEY", re.IGNORECASE)
_NAMES_ANOTHER_THING = re.compile(r"_(FILE|PATH|DIR|URI|URL|ARN|ID|ENDPOINT)$", re.IGNORECASE)
_NEVER_ESCAPED = re.compile(r"[ -!#-&(-\[\]-~]+")  # printable ASCII except quotes and the backslash
_SHORTEST_SECRET = 8  # a shorter value may also be an ordinary word of the log


def without_secrets(address: str) -> str:
    """The address without its secrets: ``https://***@host/path?***``. Local paths and hub names do not change.

    If it is not clear which part of a malformed address is the host (a password with an unquoted slash), only the
    scheme remains.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return address
    scheme, authority, rest = found.groups()
    _, at, host = authority.rpartition("@")
    if scheme.lower().endswith("file://"):
        return f"{scheme}{HIDDEN + at if at else ''}{host}{rest}"
    path, separator, after = _parted(rest)
    if not _HOST.fullmatch(host) or "@" in path or (":" in authority and "@" in after):
        return f"{scheme}{HIDDEN}"
    return f"{scheme}{HIDDEN + at if at else ''}{host}{path}{separator}{_shown_query(host, separator, after)}"


def secrets_of(address: str) -> set[str]:
    """The parts of an address that :func:`without_secrets` hides, so that they can be masked in other texts."""
    found = _ADDRESS.fullmatch(address)
    if found is None or without_secrets(address) == address:
        return set()
    _, authority, rest = found.groups()
    user = authority.rpartition("@")[0]
    parts = {user, user.partition(":")[2], _parted(rest)[2]}
    return {text for part in parts for text in (part, unquote(part)) if text}


def redacted(text: str) -> str:
    """The text without the secrets of the addresses in it and of this process's environment."""
    for secret in _secrets_of_the_environment():
        text = text.replace(secret, HIDDEN)
    return _IN_TEXT.sub(lambda found: without_secrets(found[0]), text)


def recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the secrets in their addresses, for manifests, reports and people."""
    return {name: without_secrets(value) if isinstance(value, str) else value for name, value in settings.items()}


def _parted(rest: str) -> tuple[str, str, str]:
    """The path, the character that ends it, and the rest."""
    found = re.search(r"[?#;]", rest)
    return (rest, "", "") if found is None else (rest[: found.start()], found[0], rest[found.end() :])


def _shown_query(host: str, separator: str, after: str) -> str:
    if not after or separator != "?" or host.lower() not in DRIVE_HOSTS:
        return HIDDEN if after else ""
    given = parse_qsl(after, keep_blank_values=True)
    kept = [pair for pair in given if pair[0] in _NAMES_A_DRIVE_FILE]
    return "&".join([urlencode(kept)] * bool(kept) + [HIDDEN] * (len(kept) < len(given)))


def _secrets_of_the_environment() -> list[str]:
    """Longest first, because one secret may be part of another."""
    found = {form for name, value in os.environ.items() for form in _forms_of_variable(name, value)}
    return sorted(found, key=len, reverse=True)


@lru_cache(maxsize=1024)  # without it, the forms of all variables take half a millisecond for each line of a log
def _forms_of_variable(name: str, value: str) -> frozenset[str]:
    forms = (form for secret in _secrets_of_variable(name, value) for form in _forms(secret))
    return frozenset(form for form in forms if len(form) >= _SHORTEST_SECRET)


def _secrets_of_variable(name: str, value: str) -> set[str]:
    if name.lower().endswith("_proxy") or "://" in value:
        return secrets_of(value if "://" in value else f"http://{value}")
    return {value} if _SECRET_NAME.search(name) and not _NAMES_ANOTHER_THING.search(name) else set()


def _forms(secret: str) -> Iterator[str]:
    """A secret as it is and as libraries quote it in their messages, and its parts that no library escapes."""
    for text in (secret, secret.strip(), *(part.strip() for part in _NEVER_ESCAPED.findall(secret))):
        raw = text.encode(errors="surrogateescape")  # os.environ has surrogates for bytes that are not UTF-8
        yield from (text, repr(text)[1:-1], repr(raw)[2:-1], to_json(text)[1:-1])
        yield from (quote(raw), quote(raw, safe=""), quote_plus(raw))
