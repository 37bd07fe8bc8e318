"""Which addresses may be reached on a tenant's behalf, and what an installation allows beyond that.

A name is judged by all the addresses that it has: one that may not be reached refuses the name. `is_global` of the
standard library is not enough: it takes addresses of cloud providers' own services for public ones.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Where clouds keep the credentials of their machines. No setting opens these.
_METADATA: tuple[Address, ...] = tuple(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254", "169.254.169.253", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16",
        "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
    )
)  # fmt: skip
# Not for the public although the standard library may say so, depending on its version.
_CLOSED: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
        "::/128", "::1/128", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16",
        "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
# IPv6 addresses that stand for an IPv4 one: the network, and how far its 32 bits are from the right.
_CARRIERS: tuple[tuple[IPv6Network, int], ...] = tuple(
    (IPv6Network(text), shift)
    for text, shift in (("::/96", 0), ("::ffff:0:0/96", 0), ("::ffff:0:0:0/96", 0), ("64:ff9b::/96", 0),
                        ("64:ff9b:1::/48", 0), ("2002::/16", 80))
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Allowed:
    """What an installation opens: names, or networks, each with a port or for all ports."""

    names: frozenset[tuple[str, int | None]] = frozenset()
    networks: tuple[tuple[Network, int | None], ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Allowed:
        """Entries are `host`, `host:port`, an address, `[v6]:port` or a network. Raises ValueError for others."""
        names: set[tuple[str, int | None]] = set()
        networks: list[tuple[Network, int | None]] = []
        for entry in entries:
            host, port = _split(entry)
            network = _network(host)
            if network is not None:
                networks.append((network, port))
            elif "/" in host or not host:
                message = f"'{entry}' is neither a host, an address nor a network"
                raise ValueError(message)
            else:
                names.add((canonical(host), port))
        return cls(frozenset(names), tuple(networks))

    def names_host(self, host: str, port: int) -> bool:
        """Whether the installation names this host, by its name or as the address that it is."""
        literal = _literal(host)
        if literal is not None:
            return self.holds(literal, port)
        return bool(self.names & {(canonical(host), port), (canonical(host), None)})

    def holds(self, address: Address, port: int) -> bool:
        """Whether the installation opens a network that the address is in."""
        return any(
            wanted in (None, port) and network.version == address.version and address in network
            for network, wanted in self.networks
        )


def refusal(host: str, port: int, addresses: Sequence[Address], allowed: Allowed) -> str | None:
    """Why `host` may not be reached at these, its addresses; None when it may."""
    if not addresses:
        return f"{host} has no address"
    named = allowed.names_host(host, port)
    for address in addresses:
        meant = _meant(address)
        if any(each in _METADATA for each in (address, meant)):
            return f"{host} is an address of the cloud's own services"
        opened = named or allowed.holds(address, port) or allowed.holds(meant, port)
        if not opened and not all(is_public(each) for each in (address, meant)):
            return f"{host} is not an address of the public internet"
    return None


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could reach the address."""
    inside = any(network.version == address.version and address in network for network in _CLOSED)
    return address.is_global and not address.is_multicast and not inside


def canonical(host: str) -> str:
    """A host's name as it is compared."""
    return host.rstrip(".").lower()


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, or the address itself."""
    if isinstance(address, IPv6Address):
        for network, shift in _CARRIERS:
            if address in network:
                return IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
    return address


def _split(entry: str) -> tuple[str, int | None]:
    host, separator, port = entry.rpartition(":")
    if entry.endswith("]") or not separator or ("[" not in entry and entry.count(":") > 1):
        return entry.strip("[]"), None
    if not port.isdigit() or not 0 < int(port) < 65_536:
        message = f"'{entry}' has no port behind its colon"
        raise ValueError(message)
    return host.strip("[]"), int(port)


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
