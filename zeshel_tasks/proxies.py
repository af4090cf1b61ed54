"""Checks the environment's proxies, because libraries take a server behind a wrong one for unreachable."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from importlib.util import find_spec
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.redaction import without_secrets
from zeshel_tasks.text.safe_text import quoted


def check_proxies(kinds: Iterable[str] = ("http", "https", "all")) -> None:
    """Check the variables HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, in either case, before a client reads them.

    Args:
        kinds: the beginnings of the variables that the client reads.

    Raises:
        ConfigError: a variable is not the address of a proxy.
    """
    proxies = getproxies_environment()
    for kind in kinds:
        address = proxies.get(kind, "")
        address = address if "://" in address or not address else f"http://{address}"
        if address and not _is_proxy(address):
            variable = next(name for name in os.environ if name.lower() == f"{kind}_proxy")
            raise ConfigError(
                f"{variable}: expected a proxy like http://proxy:3128, got {quoted(without_secrets(address))}"
            )


def refused_by_proxy(where: str, answer: str) -> str:
    """The message about a proxy that does not connect this process, because of its user or of the host."""
    return f"{where}: expected a proxy (*_PROXY) that lets this process connect, got its answer {answer}"


def is_server(address: str, schemes: Collection[str] = ("http", "https")) -> bool:
    """Returns True if a client can connect to the address: it has a scheme, a host, and no port or a possible one."""
    try:
        parts = urlsplit(address)
        is_possible = parts.scheme.lower() in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port beyond 65535, half an IPv6 address
        return False
    return is_possible and not parts.netloc.endswith(":") and address.isprintable() and " " not in address


def _is_proxy(address: str) -> bool:
    return is_server(address, {"http", "https"} | ({"socks5", "socks5h"} if find_spec("socksio") else set()))
