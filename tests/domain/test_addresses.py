"""Which addresses may be reached: every form of one that may not, and nothing that an installation did not open."""

from __future__ import annotations

import ipaddress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.addresses import Allowed, refusal

NOTHING = Allowed()
EVERYTHING = Allowed.parse(["0.0.0.0/0", "::/0", "hooks.example"])
CLOSED = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.0.1", "172.16.0.1", "172.31.255.255",
    "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a00:1::1", "100::1", "2001::1", "2001:db8::1",
    "fc00::1", "fd12:3456::1", "fe80::1", "fec0::1", "ff02::1",
]  # fmt: skip
METADATA = [
    "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254",
    "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "::ffff:168.63.129.16",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450::1"]


@pytest.mark.parametrize("address", CLOSED)
def test_what_is_not_public_is_refused_unless_it_was_opened(address: str) -> None:
    assert refusal("hooks.example", 443, [ip_address(address)], NOTHING) is not None
    assert refusal("hooks.example", 443, [ip_address(address)], EVERYTHING) is None


@pytest.mark.parametrize("address", METADATA)
def test_the_clouds_own_services_stay_closed(address: str) -> None:
    for allowed in (NOTHING, EVERYTHING, Allowed.parse([address])):
        assert "cloud" in (refusal("hooks.example", 443, [ip_address(address)], allowed) or "")


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_reached(address: str) -> None:
    assert refusal("hooks.example", 443, [ip_address(address)], NOTHING) is None


def test_one_address_that_may_not_be_reached_refuses_the_name() -> None:
    mixed = [ip_address("1.1.1.1"), ip_address("10.0.0.1")]
    assert refusal("hooks.example", 443, mixed, NOTHING) is not None
    assert refusal("hooks.example", 443, mixed[::-1], NOTHING) is not None
    assert refusal("hooks.example", 443, [], NOTHING) is not None


@given(st.ip_addresses(v=4))
def test_no_private_address_gets_through_in_any_dress(address: ipaddress.IPv4Address) -> None:
    public = refusal("a", 443, [address], NOTHING) is None
    assert not (public and not address.is_global)
    number = int(address)
    for carrier in (0xFFFF << 32, 0x64FF9B << 96, 0):
        assert (refusal("a", 443, [ipaddress.IPv6Address(carrier + number)], NOTHING) is None) <= public


@pytest.mark.parametrize(
    ("entries", "host", "port", "address", "reached"),
    [
        (["hooks.internal"], "HOOKS.internal.", 8080, "10.0.0.1", True),
        (["hooks.internal:8080"], "hooks.internal", 8080, "10.0.0.1", True),
        (["hooks.internal:8080"], "hooks.internal", 8081, "10.0.0.1", False),
        (["hooks.internal"], "other.internal", 443, "10.0.0.1", False),
        (["10.0.0.0/8"], "anything", 443, "10.1.2.3", True),
        (["10.0.0.0/8"], "anything", 443, "192.168.0.1", False),
        (["10.0.0.1:9000"], "anything", 9000, "10.0.0.1", True),
        (["10.0.0.1:9000"], "anything", 443, "10.0.0.1", False),
        (["[::1]:9000"], "anything", 9000, "::1", True),
        (["::1"], "anything", 1, "::1", True),
        (["127.0.0.1"], "anything", 443, "::ffff:127.0.0.1", True),
    ],
)
def test_an_installation_opens_what_it_names(
    entries: list[str], host: str, port: int, address: str, reached: bool
) -> None:
    assert (refusal(host, port, [ip_address(address)], Allowed.parse(entries)) is None) is reached


@pytest.mark.parametrize("entry", ["", "10.0.0.0/33", "host:", "host:port", "host:0", "host:65536", "a/b", "[::1]:x"])
def test_an_entry_that_means_nothing_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match=r"is neither|has no port"):
        Allowed.parse([entry])
