"""The client of all downloads, with the proxies and certificates of the environment."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import httpx

from zeshel_tasks import __version__
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.proxies import check_proxies, proxy_for
from zeshel_tasks.text.redaction import HIDDEN

# Ask for the stored bytes, because a server that compresses them cannot resume.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"zeshel-tasks/{__version__}"}
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def http_client(timeout_seconds: float, headers: Mapping[str, str] = MappingProxyType({})) -> httpx.Client:
    """A client with this timeout, these headers and the environment's proxies.

    Raises:
        ConfigError: the environment's settings for proxies or certificates are wrong.
    """
    check_proxies()
    try:
        transport = _ByProxy(_certificates(*map(os.environ.get, _CERTIFICATES)))
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"SSL_CERT_FILE, SSL_CERT_DIR or SSLKEYLOGFILE: expected files that can be used, got: {unquoted(error)}"
        ) from error
    # HttpSource follows redirects, because httpx would read the whole body of each one.
    return httpx.Client(
        timeout=timeout_seconds, follow_redirects=False, headers={**_HEADERS, **headers}, transport=transport
    )


@cache
def _certificates(*_variables: str | None) -> ssl.SSLContext:
    """The certificates that the environment's variables name, read once: the usual ones take 30 ms.

    Raises:
        ValueError, OSError: they cannot be used.
    """
    return httpx.create_ssl_context()


class _ByProxy(httpx.BaseTransport):
    """Sends each request through the proxy that the environment names for it."""

    def __init__(self, certificates: ssl.SSLContext) -> None:
        self._certificates: ssl.SSLContext = certificates
        self._transports: dict[str | None, httpx.HTTPTransport] = {None: httpx.HTTPTransport(verify=certificates)}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        proxy = proxy_for(request.url.scheme, request.url.host, request.url.port)
        if proxy not in self._transports:
            self._transports[proxy] = httpx.HTTPTransport(verify=self._certificates, proxy=proxy)
        return self._transports[proxy].handle_request(request)

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()


def unquoted(error: Exception) -> str:
    """A library's message without the quoted part of an address, because a wrong port may be half a password."""
    return re.sub(r"'[^']*'", f"'{HIDDEN}'", str(error))
