"""Tokens of an OpenID provider: signed by a key that it publishes, for us, by whom we expect, and not for long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import jwt
import orjson
import structlog

from app import clock
from app.domain.addresses import Allowed
from app.egress import Caller, Egress, EgressRefused, Unreachable
from app.settings import Settings, SettingsError

# Named here and nowhere else: what a token says of its own algorithm only has to be among them.
ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
LONGEST_TOKEN: Final = 8_192
_LEEWAY_SECONDS: Final = 30
_FRESH_SECONDS: Final = 600.0
# A key that nobody knows is asked for this often at most, whoever makes them up.
_COOL_DOWN_SECONDS: Final = 30.0
_DEADLINE_SECONDS: Final = 5.0
_LARGEST_KEYS: Final = 256 * 1024
_MOST_KEYS: Final = 50

_log = structlog.get_logger("windlass.oidc")


class NotOurs(Exception):
    """The token proves nothing to us; the message is for our log."""


class IssuerAway(ConnectionError):
    """The keys cannot be had, and none that were had before fits: nobody can say whether a token is good."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token that is believed says."""

    tenant: str
    email: str
    expires_at: datetime


class Issuer:
    """The one OpenID provider of an installation; one for a process, because it keeps the keys."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        keys_url: str,
        *,
        tenant_claim: str,
        email_claim: str = "email",
        egress: Egress | None = None,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._tenant_claim = tenant_claim
        self._email_claim = email_claim
        self._keys = _Keys(keys_url, egress or Egress())

    @classmethod
    def of(cls, settings: Settings) -> Issuer | None:
        """As the settings say; None where they name none. Raises SettingsError where they are incomplete."""
        named = {
            "oidc_issuer": settings.oidc_issuer,
            "oidc_audience": settings.oidc_audience,
            "oidc_keys_url": settings.oidc_keys_url,
        }
        if not any(named.values()):
            return None
        for name, value in named.items():
            if value is None:
                message = f"WINDLASS_{name.upper()} is not set, and the others of OIDC are"
                raise SettingsError(message)
        egress = _egress(settings)
        try:
            egress.check(str(settings.oidc_keys_url))
        except EgressRefused as error:
            message = f"WINDLASS_OIDC_KEYS_URL: {error}; WINDLASS_OIDC_ALLOWED_TARGETS opens what is your own"
            raise SettingsError(message) from error
        return cls(
            str(settings.oidc_issuer),
            str(settings.oidc_audience),
            str(settings.oidc_keys_url),
            tenant_claim=settings.oidc_tenant_claim,
            email_claim=settings.oidc_email_claim,
            egress=egress,
        )

    async def claims(self, text: str) -> Claims:
        """What the token says. Raises NotOurs, IssuerAway."""
        if len(text) > LONGEST_TOKEN:
            message = "longer than a token is"
            raise NotOurs(message)
        try:
            header = jwt.get_unverified_header(text)
            kid, algorithm = header.get("kid"), header.get("alg")
            if not isinstance(kid, str) or algorithm not in ALGORITHMS:
                message = "no key, or no algorithm of ours"
                raise NotOurs(message)
            key = await self._keys.get(kid)
            said = jwt.decode(
                text,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub"], "strict_aud": True},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            message = f"{type(error).__name__}: {error}"
            raise NotOurs(message) from error
        tenant, email = said.get(self._tenant_claim), said.get(self._email_claim)
        if not isinstance(tenant, str) or not isinstance(email, str) or said.get("email_verified", True) is not True:
            message = "no tenant, or no address that was verified"
            raise NotOurs(message)
        return Claims(tenant, email.strip().lower(), datetime.fromtimestamp(said["exp"], UTC))

    async def close(self) -> None:
        await self._keys.close()


def _egress(settings: Settings) -> Egress:
    """The rule for the keys, with what the installation allows beside it. Raises SettingsError."""
    try:
        return Egress(Allowed.parse(settings.oidc_allowed_targets))
    except ValueError as error:
        message = f"WINDLASS_OIDC_ALLOWED_TARGETS: {error}"
        raise SettingsError(message) from error


class _Keys:
    """The keys that the provider publishes, asked for again when they are old or one is missing."""

    def __init__(self, url: str, egress: Egress) -> None:
        self._url = url
        self._known: dict[str, jwt.PyJWK] = {}
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()
        # Where keys are had from is written down by the operator: no redirect, and no name that changes its mind, leads
        # anywhere else.
        self._caller = Caller(egress, connections=1, deadline_seconds=_DEADLINE_SECONDS)

    async def get(self, kid: str) -> jwt.PyJWK:
        """The key. Raises NotOurs for one that is not published, IssuerAway."""
        if kid not in self._known or self._age() > _FRESH_SECONDS:
            async with self._asking:
                await self._refresh(kid)
        if kid not in self._known:
            message = "a key that is not published"
            raise NotOurs(message)
        return self._known[kid]

    def _age(self) -> float:
        return float("inf") if self._asked_at is None else clock.monotonic() - self._asked_at

    async def _refresh(self, kid: str) -> None:
        if self._age() <= (_COOL_DOWN_SECONDS if kid not in self._known else _FRESH_SECONDS):
            return
        self._asked_at = clock.monotonic()
        try:
            self._known = _read(await self._fetch())
        except (EgressRefused, Unreachable, ValueError) as error:
            _log.warning("the keys of the OpenID provider cannot be had", error=str(error))
            if kid not in self._known:
                # Not the cool-down of a key that is made up: whoever has a good token may come in soon.
                self._asked_at = clock.monotonic() - _COOL_DOWN_SECONDS + 1
                message = "the OpenID provider does not answer"
                raise IssuerAway(message) from error

    async def _fetch(self) -> bytes:
        answer = await self._caller.request("GET", self._url, {}, limit=_LARGEST_KEYS)
        if answer.status_code != 200:
            message = f"the answer is {answer.status_code}"
            raise ValueError(message)
        return answer.body

    async def close(self) -> None:
        await self._caller.close()


def _read(document: bytes) -> dict[str, jwt.PyJWK]:
    """The keys for signing, by their ids. Raises ValueError."""
    given: Any = orjson.loads(document)
    listed = given.get("keys") if isinstance(given, dict) else None
    if not listed or not isinstance(listed, list):
        message = "no set of keys"
        raise ValueError(message)
    found = {}
    for entry in listed[:_MOST_KEYS]:
        if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str) or entry.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(entry)
        except jwt.PyJWTError:
            continue
        if key.algorithm_name in ALGORITHMS:
            found[entry["kid"]] = key
    return found
