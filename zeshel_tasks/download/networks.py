"""Which networks a download may reach, decided by the address that is connected to.

A server that a user names is taken at its word, also on a private network (an internal mirror). Where that server
leads by a redirect or a page was decided by somebody else: it may be the public Internet, or the kind of network
that the named server is in itself, but not a service that only this machine can reach. Link-local addresses are
never reached: there clouds hand out the machine's own credentials.

A name is looked up before a connection, and what was connected to is looked at again before a byte is sent, so that
a name which changes its address in between (DNS rebinding) is of no use. Behind a proxy the proxy looks names up,
and its own rules decide; addresses in numbers are checked all the same.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Literal, NoReturn

import httpx

from zeshel_tasks.config import PrivateAddresses
from zeshel_tasks.download.deadline import Deadline
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.redaction import without_secrets

Network = Literal["public", "private", "loopback", "link-local"]

SCHEMES = ("http", "https")
_NAT64 = IPv6Network("64:ff9b::/96")
# Metadata services that are not at a link-local address: of AWS over IPv6, and of Alibaba Cloud.
_METADATA = {"fd00:ec2::254", "100.100.100.200"}


def network_of(address: str) -> Network:
    """The kind of network of an IP address. One that wraps an IPv4 address is where that one is.

    Raises:
        ValueError: not an IP address.
    """
    ip = _unwrapped(ip_address(address.partition("%")[0]))
    if ip.is_link_local or str(ip) in _METADATA:
        return "link-local"
    if ip.is_loopback or ip.is_unspecified:
        return "loopback"
    return "public" if ip.is_global and not ip.is_multicast else "private"


class Hops:
    """Watches over the addresses that one download passes, from the one that the user named on.

    Args:
        private_addresses: the setting.
        deadline: cuts the connections when it has passed.
    """

    def __init__(self, private_addresses: PrivateAddresses, deadline: Deadline) -> None:
        self._allow_all = private_addresses == "allow"
        self.deadline = deadline
        self._home: Network | None = None  # of the server that the user named, once it is known
        self._url = httpx.URL()
        self._by_proxy = False

    @property
    def extensions(self) -> dict[str, Any]:
        """For each request: httpx calls back at each connection."""
        return {"trace": self._on_event}

    def check(self, url: httpx.URL, *, before: httpx.URL | None = None) -> None:
        """To be called with each address before it is asked; ``before`` led there.

        Raises:
            ConfigError: another scheme than http and https, or from https back to http.
            StoreUnavailable: it has all taken too long.
        """
        self.deadline.check()
        if url.scheme not in SCHEMES or (before is not None and (before.scheme, url.scheme) == ("https", "http")):
            expected = "https" if url.scheme in SCHEMES else "http or https"
            raise ConfigError(f"source: it leads to {without_secrets(str(url))}; expected {expected}")
        self._url = url

    def _on_event(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self._by_proxy = info["host"] != self._url.raw_host.decode("ascii")
            self._check_addresses(_numeric(self._url.host) if self._by_proxy else _looked_up(info["host"], self._url))
        elif event == "connection.connect_tcp.complete":
            stream = info["return_value"]
            self.deadline.cut(stream.get_extra_info("socket"))
            if not self._by_proxy:
                self._check_connection(stream)

    def _check_addresses(self, addresses: list[str]) -> None:
        """Before a connection, to one of these."""
        networks = [network_of(address) for address in addresses]
        if networks and all(map(self._is_refused, networks)):
            self._refuse(addresses[0], networks[0])
        if self._by_proxy and self._home is None:
            self._home = networks[0] if networks else "public"

    def _check_connection(self, stream: Any) -> None:
        """Before a byte is sent."""
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
        raise ConfigError(f"source: {where}, {self._expected()}; if it is meant, set private_addresses to allow")

    def _expected(self) -> str:
        if self._home is None:
            return "where clouds hand out credentials"
        return f"where a server that is {self._home} may not lead"


def _looked_up(host: str, url: httpx.URL) -> list[str]:
    """The IP addresses of a name; none where it has none, for the connection to fail and say so."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise ConfigError(f"source: expected the name of a host, got {without_secrets(str(url))}") from None
    except OSError:
        return []
    return [str(address[0]) for *_, address in found]


def _numeric(host: str) -> list[str]:
    """The IP address that a host is written as; none for a name, which only the proxy looks up."""
    if host.rpartition(".")[2] == "localhost":
        return ["127.0.0.1"]
    try:
        return [str(ip_address(host))]
    except ValueError:
        return []


def _unwrapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
