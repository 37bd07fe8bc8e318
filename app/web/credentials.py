"""What somebody comes with: a bearer token, or the cookie of a browser that somebody logged in with.

A browser sends the cookie along whoever made it ask, so that what comes with one has to come from a page of ours: from
the same origin, or one that the installation allows, and whatever changes something with the header X-Windlass-CSRF,
which no page of another origin can send.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from app.auth.authenticator import Authenticator, Unauthenticated
from app.auth.principal import Principal

# The prefix makes browsers refuse it from anybody but this very host, over TLS; they trust localhost without.
COOKIE: Final = "__Host-windlass"
CSRF_HEADER: Final = "X-Windlass-CSRF"
_SAME_SITE: Final = frozenset({"same-origin", "none"})
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_LONGEST_COOKIES: Final = 8_192


class Crossing(Exception):
    """A cookie came along with what another site may have asked for."""

    message = f"with a cookie, requests come from a page of this origin, and with the header {CSRF_HEADER}"


@dataclass(frozen=True, slots=True)
class Origins:
    """The origins besides its own that pages may ask from."""

    allowed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, origins: Sequence[str]) -> Origins:
        return cls(frozenset(origin.rstrip("/").lower() for origin in origins))

    def admit(self, headers: Mapping[str, str], *, required: bool = False) -> bool:
        """Whether a browser that sent these headers was on a page that may ask. Programs send no Origin."""
        origin = headers.get("origin")
        if origin is not None:
            return origin.lower() in self.allowed or _is_same(origin, headers.get("host", ""))
        return not required and headers.get("sec-fetch-site", "none") in _SAME_SITE

    def require(self, headers: Mapping[str, str]) -> None:
        """Raises Crossing where `admit` says no."""
        if not self.admit(headers):
            raise Crossing


@dataclass(frozen=True, slots=True)
class Shown:
    """The text of a token, and whether a browser's cookie held it."""

    text: str = field(repr=False)
    in_cookie: bool

    async def proven(self, authenticator: Authenticator) -> Principal:
        """Whose it is. Raises Unauthenticated, IssuerAway."""
        return await authenticator.authenticate(self.text, in_cookie=self.in_cookie)


def token_in(headers: Mapping[str, str], origins: Origins, *, changes: bool) -> Shown:
    """The token in the headers of a request; `changes` says whether it may change something.

    Raises Unauthenticated where there is none, Crossing for a cookie that another site may have made a browser send.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return Shown(token.strip(), in_cookie=False)
    cookie = cookie_in(headers)
    if cookie is None:
        reason = "neither a bearer token nor a cookie"
        raise Unauthenticated(reason)
    origins.require(headers)
    if changes and CSRF_HEADER.lower() not in headers:
        raise Crossing
    return Shown(cookie, in_cookie=True)


def cookie_in(headers: Mapping[str, str]) -> str | None:
    """The token in the cookie, if there is one."""
    text = headers.get("cookie", "")
    if COOKIE not in text or len(text) > _LONGEST_COOKIES:
        return None
    try:
        found = SimpleCookie(text).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _is_same(origin: str, host: str) -> bool:
    """Whether an origin is that of the host asked; the scheme may differ, because TLS may end at a proxy."""
    try:
        asked, own = urlsplit(origin), urlsplit(f"//{host}")
        default = _PORTS.get(asked.scheme)
        return bool(asked.hostname) and (asked.hostname, asked.port or default) == (own.hostname, own.port or default)
    except ValueError:
        return False
