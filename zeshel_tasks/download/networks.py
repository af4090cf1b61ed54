"""Restricts the networks that a download may reach, by the IP address of each connection.

A server that the user names may be on any network, such as an internal mirror. Its redirects and pages may lead to the
public Internet or to the named server's own kind of network, but not to services that only this machine can reach.
Link-local addresses are always refused, because clouds serve the machine's credentials there.

Names are resolved before a connection, and the peer's address is checked again before a byte is sent, which defeats DNS
rebinding. Behind a proxy, the proxy resolves names and its rules apply, but numeric addresses are still checked.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Literal, NoReturn, get_args

import httpx

from zeshel_tasks.config.data import PrivateAddresses
from zeshel_tasks.download.deadline import Deadline
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.redaction import without_secrets

Network = Literal["public", "private", "loopback", "link-local"]
_BY_DANGER: tuple[Network, ...] = get_args(Network)

SCHEMES = ("http", "https")
# IPv6 networks whose addresses end with an IPv4 address: IPv4-compatible, -mapped and -translated, and NAT64.
_WRAPPERS = tuple(map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")  # RFC 8215
# Metadata services outside of the link-local range: AWS over IPv6, Google over IPv6, Alibaba, Azure and Oracle.
_METADATA = {
    "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192",
}  # fmt: skip
_METADATA_NAMES = {"metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}


def network_of(address: str) -> Network:
    """The kind of network of an IP address; an IPv6 address that wraps an IPv4 address counts as the latter.

    Raises:
        ValueError: the text is not an IP address.
    """
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip in _LOCAL_NAT64:
        # A network chooses its own prefix in it, so the IPv4 address may have several places (RFC 6052).
        return max(("private", *map(_network, _embedded(ip))), key=_BY_DANGER.index)
    return _network(_unwrapped(ip))


def _network(ip: IPv4Address | IPv6Address) -> Network:
    if ip.is_link_local or str(ip) in _METADATA:
        return "link-local"
    if ip.is_loopback or ip.is_unspecified:
        return "loopback"
    return "public" if ip.is_global and not ip.is_multicast else "private"


class Hops:
    """Checks each address of a download, from the one that the user named to the last redirect.

    Args:
        private_addresses: the setting.
        deadline: cuts the connections on expiry.
        setting: that named the first address, for messages.
    """

    def __init__(self, private_addresses: PrivateAddresses, deadline: Deadline, setting: str = "source") -> None:
        self._allow_all, self._setting = private_addresses == "allow", setting
        self.deadline = deadline
        self._home: Network | None = None  # of the server that the user named, once known
        self._url = httpx.URL()
        self._by_proxy = False

    @property
    def extensions(self) -> dict[str, Any]:
        """To pass with each request, so that httpx calls back at each connection."""
        return {"trace": self._on_event}

    def check(self, url: httpx.URL, *, before: httpx.URL | None = None) -> None:
        """Check an address before each request; ``before`` is the address that led to it.

        Raises:
            ConfigError: the scheme is not http or https, or it falls back from https to http.
            StoreUnavailable: the deadline has passed.
        """
        self.deadline.check()
        if url.scheme not in SCHEMES or (before is not None and (before.scheme, url.scheme) == ("https", "http")):
            expected = "https" if url.scheme in SCHEMES else "http or https"
            raise ConfigError(f"{self._setting}: it leads to {without_secrets(str(url))}; expected {expected}")
        self._url = url

    def _on_event(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self._by_proxy = info["host"] != self._url.raw_host.decode("ascii")
            if self._by_proxy:
                self._check_behind_proxy(self._url.host)
            else:
                self._check_addresses(self._looked_up(info["host"]))
        elif event == "connection.connect_tcp.complete":
            stream = info["return_value"]
            self.deadline.cut(stream.get_extra_info("socket"))
            if not self._by_proxy:
                self._check_connection(stream)

    def _looked_up(self, host: str) -> list[str]:
        """The IP addresses of a name; none if it has none, so that the connection fails and says so."""
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except UnicodeError:
            url = without_secrets(str(self._url))
            raise ConfigError(f"{self._setting}: expected the name of a host, got {url}") from None
        except OSError:
            return []
        return [str(address[0]) for *_, address in found]

    def _check_addresses(self, addresses: list[str]) -> None:
        """Called before a connection to one of these addresses."""
        networks = [network_of(address) for address in addresses]
        if networks and all(map(self._is_refused, networks)):
            self._refuse(addresses[0], networks[0])

    def _check_behind_proxy(self, host: str) -> None:
        """Called before a proxy connects to a host. Each address that it may understand must be allowed."""
        networks = {address: network_of(address) for address in numeric(host)}
        for address, network in networks.items():
            if self._is_refused(network):
                self._refuse(address, network)
        if self._home is None:
            self._home = max(networks.values(), key=_BY_DANGER.index, default="public")

    def _check_connection(self, stream: Any) -> None:
        """Called before a byte is sent."""
        address = str(stream.get_extra_info("server_addr")[0])
        network = network_of(address)
        if self._is_refused(network):
            stream.close()
            self._refuse(address, network)
        if self._home is None:
            self._home = network

    def _is_refused(self, network: Network) -> bool:
        if self._allow_all or network == "public":
            return False
        return network == "link-local" or self._home not in (None, network)

    def _refuse(self, address: str, network: Network) -> NoReturn:
        where = f"{without_secrets(str(self._url))} is at {address} ({network})"
        raise ConfigError(
            f"{self._setting}: {where}, {self._expected()}; if it is meant, set private_addresses to allow"
        )

    def _expected(self) -> str:
        if self._home is None:
            return "where clouds hand out credentials"
        return f"where a server that is {self._home} may not lead"


def numeric(host: str) -> list[str]:
    """The IP addresses that a program may understand a host as; none for a name, which the proxy resolves.

    A host can be one to four numbers, decimal, octal or hexadecimal (``0x7f.1``), as the C library reads it.
    """
    host = host.rstrip(".").lower()
    if host.rpartition(".")[2] == "localhost":
        return ["127.0.0.1"]
    if host in _METADATA_NAMES:
        return ["169.254.169.254"]
    if ":" in host:
        return [host]
    decimal = ".".join(part.lstrip("0") or part[-1:] for part in host.split("."))  # some programs know no octal numbers
    return list(dict.fromkeys(found for text in (host, decimal) if (found := _as_c_reads_it(text))))


def _as_c_reads_it(host: str) -> str | None:
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def _unwrapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(ip, IPv4Address) or ip.is_loopback or ip.is_unspecified:
        return ip
    if any(ip in wrapper for wrapper in _WRAPPERS):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.teredo[1] if ip.teredo else ip.sixtofour or ip


def _embedded(ip: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that an address of a NAT64 may wrap, after a prefix of 48, 56, 64 or 96 bits."""
    without_u = int(ip) >> 64 << 56 | int(ip) & (1 << 56) - 1  # bits 64 to 71 are reserved
    found = [int(ip), *(without_u >> 120 - 32 - bits for bits in (48, 56, 64))]
    return [IPv4Address(bits & 0xFFFFFFFF) for bits in found if bits & 0xFFFFFFFF]
