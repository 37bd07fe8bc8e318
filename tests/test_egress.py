"""Requests go to the address that was judged, and to nothing inside: whatever a name or a URL looks like."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app import egress
from app.domain.addresses import Address, Allowed
from app.egress import Egress, EgressRefused, Poster, Unreachable, Unsent, resolve
from app.settings import Settings, SettingsError


class Names:
    """A resolver of a test's own: what each name leads to, the next time it is asked."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers = {name.replace("_", "."): list(addresses) for name, addresses in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, _: int) -> Sequence[Address]:
        self.asked.append(host)
        return [ipaddress.ip_address(self.answers[host].pop(0))]


@asynccontextmanager
async def listening(context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server on this machine that says yes; its port, and the heads of what it was sent."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


@asynccontextmanager
async def poster(*allowed: str, **given: object) -> AsyncIterator[Poster]:
    made = Poster(Egress(Allowed.parse(allowed)), deadline_seconds=5, **given)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.close()


# Every one of these is this machine, or a place inside, in some dress. None may be reached.
DRESSES = [
    "127.0.0.1", "127.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1",
    "127.0.0.1.", "localhost", "localhost.", "LOCALHOST", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "①②⑦.⓪.⓪.①", "169.254.169.254",
    "[fd00:ec2::254]", "10.0.0.1", "192.168.0.1", "[fe80::1]",
]  # fmt: skip


@pytest.mark.parametrize("host", DRESSES)
async def test_no_dress_of_an_inner_address_is_reached(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dial(*_: object) -> None:
        message = "a connection was made"
        raise AssertionError(message)

    async with poster() as sender:
        # A stub that cannot leave: were the guard to fail, nothing would be dialled.
        monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", dial)
        with pytest.raises((EgressRefused, Unreachable)) as refused:
            await sender.post(f"https://{host}/", {}, b"")
    assert "a connection was made" not in str(refused.value)


async def test_a_name_that_leads_elsewhere_a_moment_later_leads_to_what_was_judged() -> None:
    """DNS rebinding: the name is asked once, and what it said is what is dialled."""
    async with listening() as (port, heads):
        names = Names(hooks_example=["127.0.0.1", "10.0.0.1"])
        async with poster(f"127.0.0.1:{port}", "hooks.example", resolve=names) as sender:
            reply = await sender.post(f"http://hooks.example:{port}/", {}, b"{}")
    assert (reply.status_code, reply.excerpt, names.asked) == (200, "ok", ["hooks.example"])
    assert f"host: hooks.example:{port}".encode() in heads[0].lower()


async def test_a_public_name_that_leads_inside_is_refused_when_it_is_dialled() -> None:
    names = Names(hooks_example=["127.0.0.1"])
    async with poster(resolve=names) as sender:
        with pytest.raises(EgressRefused, match="not an address of the public internet"):
            await sender.post("https://hooks.example/", {}, b"")
    assert names.asked == ["hooks.example"]


async def test_an_address_that_is_opened_does_not_open_http_for_names_that_lead_there() -> None:
    async with poster("127.0.0.0/8", resolve=Names(hooks_example=["127.0.0.1"])) as sender:
        with pytest.raises(EgressRefused, match="begins with https"):
            await sender.post("http://hooks.example/", {}, b"")


async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as (port, heads), listening() as (proxy, asked):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        async with poster("127.0.0.1") as sender:
            await sender.post(f"http://127.0.0.1:{port}/a?b=c", {"x-test": "1"}, b"{}")
    assert (len(heads), asked) == (1, [])
    assert heads[0].startswith(b"POST /a?b=c HTTP/1.1\r\n")


async def test_nobody_there_is_told_in_a_line() -> None:
    async with listening() as (port, _):
        pass
    async with poster("127.0.0.1") as sender:
        with pytest.raises(Unreachable, match="ConnectError: All connection attempts failed"):
            await sender.post(f"http://127.0.0.1:{port}/", {}, b"")


async def test_what_has_not_left_is_told_apart_from_what_got_no_answer() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with listening() as (closed, _):
        pass
    cutting = await asyncio.start_server(cut, "127.0.0.1", 0)
    async with cutting, poster("127.0.0.1") as sender:
        port = cutting.sockets[0].getsockname()[1]
        with pytest.raises(Unsent):
            await sender.request("PUT", f"http://127.0.0.1:{closed}/", {})
        with pytest.raises(Unreachable) as lost:
            await sender.request("PUT", f"http://127.0.0.1:{port}/", {})
    assert type(lost.value) is Unreachable


async def test_an_answer_is_whole_or_refused() -> None:
    async with listening() as (port, heads), poster("127.0.0.1") as sender:
        answer = await sender.request("DELETE", f"http://127.0.0.1:{port}/a?b=c", {"x-test": "1"}, b"{}")
        assert (answer.status_code, answer.body, answer.headers["content-length"]) == (200, b"ok", "2")
        with pytest.raises(Unreachable, match="more than 1 bytes"):
            await sender.request("GET", f"http://127.0.0.1:{port}/", {}, limit=1)
    assert heads[0].startswith(b"DELETE /a?b=c HTTP/1.1\r\n")
    assert b"accept-encoding: identity" in heads[0].lower()


async def test_what_does_not_resolve_is_told_in_a_line() -> None:
    async with poster() as sender:
        with pytest.raises(Unreachable, match="gaierror"):
            await sender.post("https://nobody.invalid/", {}, b"")


def authority(name: str) -> tuple[bytes, bytes]:
    """A certificate for `name` that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), encoded


async def test_a_certificate_is_for_the_name_and_from_somebody_who_is_trusted(tmp_path: Path) -> None:
    certificate, key = authority("hooks.example")
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    async with listening(server) as (port, _):
        names = Names(hooks_example=["127.0.0.1"] * 2, other_example=["127.0.0.1"])
        async with poster("hooks.example", "other.example", resolve=names, trust=trust) as sender:
            assert (await sender.post(f"https://hooks.example:{port}/", {}, b"{}")).status_code == 200
            with pytest.raises(Unreachable, match="Hostname mismatch"):
                await sender.post(f"https://other.example:{port}/", {}, b"{}")
        async with poster("hooks.example", resolve=names) as sender:
            with pytest.raises(Unreachable, match="self-signed certificate"):
                await sender.post(f"https://hooks.example:{port}/", {}, b"{}")


async def test_all_addresses_of_a_name_are_judged() -> None:
    assert ipaddress.ip_address("127.0.0.1") in await resolve("localhost", 443)


def test_a_setting_that_means_nothing_is_named() -> None:
    settings = Settings.from_environment({"WINDLASS_WEBHOOK_ALLOWED_TARGETS": "10.0.0.0/8, host:port"})
    with pytest.raises(SettingsError, match="WINDLASS_WEBHOOK_ALLOWED_TARGETS: 'host:port' has no port"):
        Egress.of(settings)
    opened = Settings.from_environment({"WINDLASS_WEBHOOK_ALLOWED_TARGETS": "127.0.0.1, [::1]:80"})
    Egress.of(opened).check("http://127.0.0.1:9000/")
    assert egress.DEADLINE_SECONDS == 10


def test_what_webhooks_may_reach_is_not_what_providers_may_ask() -> None:
    settings = Settings.from_environment({"WINDLASS_WEBHOOK_ALLOWED_TARGETS": "127.0.0.1"})
    Egress.of(settings).check("http://127.0.0.1:9000/")
    with pytest.raises(EgressRefused):
        Egress.for_providers(settings).check("http://127.0.0.1:9000/")
    wrong = Settings.from_environment({"WINDLASS_HTTP_ALLOWED_TARGETS": "host:port"})
    with pytest.raises(SettingsError, match="WINDLASS_HTTP_ALLOWED_TARGETS: 'host:port' has no port"):
        Egress.for_providers(wrong)
