"""The environment's proxies, checked because libraries take a server behind a wrong one for unreachable."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from urllib.request import getproxies_environment

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.location import is_server
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


def proxy_for(scheme: str, host: str, port: int | None) -> str | None:
    """The proxy to which the environment sends a request; None for a direct connection.

    NO_PROXY may contain networks (``10.0.0.0/8``, ``fd00::/8``), which httpx ignores or refuses, names with all names
    below them, addresses, ports, and ``*``. What is none of these matches nothing, as for curl.

    Args:
        scheme: http or https.
        host: a name or an IP address, without brackets.
        port: None for the scheme's own.
    """
    proxies = getproxies_environment()
    proxy = proxies.get(scheme) or proxies.get("all")
    exceptions = map(str.strip, proxies.get("no", "").split(","))
    default = {"http": 80, "https": 443}.get(scheme)
    if not proxy or any(_covers(exception.lower(), host.lower(), port or default) for exception in exceptions):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _covers(exception: str, host: str, port: int | None) -> bool:
    """True if an entry of NO_PROXY covers a host."""
    if exception == "*":
        return True
    try:
        return ip_address(host) in ip_network(exception, strict=False)
    except ValueError:  # a name, or an address with a port
        pass
    name, only_port = exception.rpartition("://")[2], ""
    if found := re.fullmatch(r"\[?(.+?)\]?(?::(\d+))?", name):
        name, only_port = found[1], found[2] or ""
    name = name.removeprefix("*").removeprefix(".")
    is_named = host == name or (bool(name) and host.endswith(f".{name}"))
    return is_named and only_port in ("", str(port))


def refused_by_proxy(where: str, answer: str) -> str:
    """The message about a proxy that does not connect this process, because of its user or of the host."""
    return f"{where}: expected a proxy (*_PROXY) that lets this process connect, got its answer {answer}"


def _is_proxy(address: str) -> bool:
    return is_server(address, {"http", "https"} | ({"socks5", "socks5h"} if find_spec("socksio") else set()))
