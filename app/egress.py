"""Requests to addresses that a tenant names: within a deadline, to nowhere that the tenant could not reach.

The address is judged when the connection is made, and the connection is made to the address that was judged: a name
that leads elsewhere a moment later leads nowhere. No redirects, no proxies of the environment, and no more of an answer
than somebody wants to read.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import httpcore
import httpx

from app.domain.addresses import Address, Allowed, refusal
from app.settings import Settings, SettingsError

DEADLINE_SECONDS = 10.0
URL_LIMIT = 2000
EXCERPT_CHARACTERS = 1000
BODY_LIMIT = 1024 * 1024
_EXCERPT_BYTES = 4096
# A receiver that has said yes is not waited for much longer.
_BODY_SECONDS = 2.0
_LEAVE_SECONDS = 0.1
_KEPT_SECONDS = 5.0
_ADDRESSES = 4
_CONNECT_SECONDS = 3.0
# A name or an address; what else a parser makes of a text is no server.
_HOST = re.compile(rb"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+")
_PORTS = {"https": 443, "http": 80}

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
Found = TypeVar("Found")


class EgressRefused(Exception):
    """The address is none that may be reached; the message says why, and nothing of what is there."""


class Unreachable(Exception):
    """No answer came; the message says what happened instead."""


class Unsent(Unreachable):
    """Nothing of the request has left this machine: sending it again does no harm."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered, whole: the names of `headers` are in lower case, the last of several counts."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """The seconds of a Retry-After; one that is a date is not read."""
        wish = self.headers.get("retry-after", "")
        return float(wish[:9]) if wish.isascii() and wish.isdigit() else None


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered: the status, the beginning of the body as text, and the seconds of a Retry-After."""

    status_code: int
    excerpt: str
    retry_after: float | None = None


async def resolve(host: str, port: int) -> Sequence[Address]:
    """All addresses of a name. Raises OSError when it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Egress:
    """The rule: https on its own port to public addresses; what `allowed` names may be anything."""

    allowed: Allowed = field(default_factory=Allowed)

    @classmethod
    def of(cls, settings: Settings) -> Egress:
        """The rule for webhooks, with what the installation allows beside it. Raises SettingsError."""
        return cls._opened("WEBHOOK_ALLOWED_TARGETS", settings.webhook_allowed_targets)

    @classmethod
    def for_providers(cls, settings: Settings) -> Egress:
        """The rule for what providers ask, with what the installation allows beside it. Raises SettingsError."""
        return cls._opened("HTTP_ALLOWED_TARGETS", settings.http_allowed_targets)

    @classmethod
    def _opened(cls, setting: str, targets: Sequence[str]) -> Egress:
        try:
            return cls(Allowed.parse(targets))
        except ValueError as error:
            message = f"WINDLASS_{setting}: {error}"
            raise SettingsError(message) from error

    def check(self, url: str) -> None:
        """Raises EgressRefused for a URL that may not be reached, as far as can be said without its addresses."""
        parts = _parse(url)
        host, port = parts.host, _port(parts)
        named = self.allowed.names_host(host, port)
        if parts.scheme != "https" and not named:
            message = "the URL begins with https://"
            raise EgressRefused(message)
        if port != _PORTS["https"] and not named:
            message = "https is spoken on port 443"
            raise EgressRefused(message)
        with contextlib.suppress(ValueError):
            self.judge(host, port, [ipaddress.ip_address(host)])

    def judge(self, host: str, port: int, addresses: Sequence[Address]) -> None:
        """Raises EgressRefused when one of the addresses may not be reached."""
        reason = refusal(host, port, addresses, self.allowed)
        if reason is not None:
            raise EgressRefused(reason)


class _Guarded(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were judged, and to no names."""

    def __init__(self, egress: Egress, resolve: Resolve) -> None:
        self._egress = egress
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the base class has it
        local_address: str | None = None,
        socket_options: Iterable[typing.Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._resolve(host, port)
        self._egress.judge(host, port, addresses)
        failure: Exception = httpcore.ConnectError("no address")
        for address in addresses[:_ADDRESSES]:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout or _CONNECT_SECONDS, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class Caller:
    """Asks at tenants' addresses: one guarded pool of connections. `trust` replaces the certificates that are believed.

    A request is over after `deadline_seconds`, whatever it waited for.
    """

    def __init__(
        self,
        egress: Egress,
        *,
        connections: int = 32,
        deadline_seconds: float = DEADLINE_SECONDS,
        resolve: Resolve = resolve,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._egress = egress
        self._deadline = deadline_seconds
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trust or _trust(),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=_KEPT_SECONDS,
            network_backend=_Guarded(egress, resolve),
        )

    async def close(self) -> None:
        await self._pool.aclose()

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"", *, limit: int = BODY_LIMIT
    ) -> Answer:
        """One request and its whole answer, of at most `limit` bytes.

        Raises EgressRefused; Unsent where nothing has left; Unreachable where nobody knows what became of it.
        """

        async def whole(response: httpcore.Response, _: float) -> Answer:
            found = bytearray()
            async for chunk in response.aiter_stream():
                found += chunk
                if len(found) > limit:
                    message = f"the answer has more than {limit} bytes"
                    raise Unreachable(message)
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return Answer(response.status, headers, bytes(found))

        return await self._exchange(method, url, headers, body, whole)

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        read: Callable[[httpcore.Response, float], Awaitable[Found]],
    ) -> Found:
        """What `read` makes of the answer; it is handed the moment, on the loop's clock, when time is up."""
        self._egress.check(url)
        parts = _parse(url)
        target = httpcore.URL(scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=parts.raw_path)
        listed = [
            (b"host", parts.netloc),
            (b"content-length", str(len(body)).encode()),
            # What is compressed could unfold to more than anybody wants to read.
            (b"accept-encoding", b"identity"),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ]
        lost: type[Unreachable] = Unsent

        async def trace(event: str, _: object) -> None:
            nonlocal lost
            if event.endswith("send_request_headers.started"):
                lost = Unreachable

        try:
            async with asyncio.timeout(self._deadline):
                ends = asyncio.get_running_loop().time() + self._deadline
                more = {"trace": trace}
                async with self._pool.stream(method, target, headers=listed, content=body, extensions=more) as response:
                    return await read(response, ends)
        except TimeoutError as error:
            message = f"no answer within {self._deadline:g} s"
            raise lost(message) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            # An address or a certificate's name may be in it, and whoever registered the URL knows both.
            message = f"{type(error).__name__}: {error}"[:300]
            raise lost(message) from error


class Poster(Caller):
    """Sends webhooks; one for a process. Of an answer it reads what is shown to people."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """One POST. Raises EgressRefused and Unreachable."""

        async def beginning(response: httpcore.Response, ends: float) -> Reply:
            excerpt = await _excerpt(response, ends)
            return Reply(response.status, excerpt, _retry_after(response.headers))

        return await self._exchange("POST", url, headers, body, beginning)


async def _excerpt(response: httpcore.Response, ends: float) -> str:
    """The beginning of the body. One that does not come is no reason to say that nothing was answered."""
    found = b""
    until = min(asyncio.get_running_loop().time() + _BODY_SECONDS, ends - _LEAVE_SECONDS)
    with contextlib.suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
        async with asyncio.timeout_at(until):
            async for chunk in response.aiter_stream():
                found += chunk
                if len(found) >= _EXCERPT_BYTES:
                    break
    return found[:_EXCERPT_BYTES].decode(errors="replace").replace("\0", "\ufffd")[:EXCERPT_CHARACTERS]


def _retry_after(headers: Sequence[tuple[bytes, bytes]]) -> float | None:
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit():
            return float(value[:9])
    return None


def _parse(url: str) -> httpx.URL:
    if len(url) > URL_LIMIT:
        message = f"a URL has at most {URL_LIMIT} characters"
        raise EgressRefused(message)
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        message = "this is no URL"
        raise EgressRefused(message) from error
    if parts.scheme not in _PORTS or not _HOST.fullmatch(parts.raw_host):
        message = "this is no URL of a web server"
        raise EgressRefused(message)
    if parts.userinfo or parts.fragment:
        message = "the URL holds a user or a fragment, which are not sent"
        raise EgressRefused(message)
    return parts


def _port(parts: httpx.URL) -> int:
    return parts.port or _PORTS[parts.scheme]


@cache
def _trust() -> ssl.SSLContext:
    """The certificates that the machine trusts, and those that are usual."""
    context = httpcore.default_ssl_context()
    context.load_default_certs()
    return context
