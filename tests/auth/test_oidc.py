"""Tokens of an OpenID provider: a real one's shape, signed by real keys that a real server publishes, and forgeries."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import structs

from app import clock
from app.auth import oidc
from app.auth.authenticator import Authenticator, Unauthenticated
from app.auth.oidc import Issuer, IssuerAway, NotOurs
from app.db.uow import Database
from app.domain.addresses import Allowed
from app.domain.enums import Role
from app.domain.permissions import ROLE_PERMISSIONS
from app.egress import Caller, Egress
from app.settings import Settings, SettingsError
from tests.factories.databases import run
from tests.factories.tenants import member, tenant

ISSUER, AUDIENCE = "https://login.example/", "windlass"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ELLIPTIC = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEYS: dict[str, tuple[str, Any]] = {
    "rsa": ("RS256", RSA),
    "elliptic": ("ES256", ELLIPTIC),
    "edwards": ("EdDSA", EDWARDS),
}


def published(kid: str) -> dict[str, Any]:
    algorithm, key = KEYS[kid]
    document = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**document, "kid": kid, "alg": algorithm, "use": "sig"}


@dataclass
class Provider:
    """A server on loopback that publishes what it is told to."""

    keys: list[dict[str, Any]] = field(default_factory=lambda: [published(kid) for kid in KEYS])
    status: int = 200
    asked: int = 0
    body: bytes | None = None
    url: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
        lines = [f"HTTP/1.1 {self.status} x", f"Content-Length: {len(body)}", f"Location: {self.url}2", "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()
        writer.close()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    server = await asyncio.start_server(provider.answer, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    async with server:
        yield provider


@pytest.fixture
async def issuer(provider: Provider) -> AsyncIterator[Issuer]:
    loopback = Egress(Allowed.parse(["127.0.0.1"]))
    issuer = Issuer(ISSUER, AUDIENCE, provider.url, tenant_claim="windlass_tenant", egress=loopback)
    yield issuer
    await issuer.close()


def claims(**changed: Any) -> dict[str, Any]:
    now = int(clock.utc_now().timestamp())
    usual = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "7", "iat": now, "exp": now + 300,
        "email": "Admin@acme.example", "email_verified": True, "windlass_tenant": "acme",
    }  # fmt: skip
    return {name: value for name, value in {**usual, **changed}.items() if value is not None}


def signed(
    kid: str = "rsa", key: Any = None, algorithm: str | None = None, /, headers: Any = None, **changed: Any
) -> str:
    known, usual = KEYS.get(kid, ("RS256", RSA))
    return jwt.encode(claims(**changed), key or usual, algorithm or known, {"kid": kid, **(headers or {})})


def tampered() -> str:
    head, _, signature = signed().split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims(email="root@acme.example")).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


def with_public_key_as_secret() -> str:
    """The oldest trick: HMAC under the key that everybody knows."""
    secret = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "HS256", "typ": "JWT", "kid": "rsa"}, claims())
    ]
    text = ".".join(parts)
    mac = hmac.new(secret, text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def unsigned() -> str:
    return jwt.encode(claims(), "", "none", {"kid": "rsa"})


PAST = int(clock.utc_now().timestamp()) - 3600
FORGED: dict[str, Callable[[], str]] = {
    "another key": lambda: signed("rsa", STRANGER),
    "a key that is not published": lambda: signed("nobody", STRANGER),
    "no key named": lambda: jwt.encode(claims(), RSA, "RS256"),
    "not signed": unsigned,
    "signed with the public key": with_public_key_as_secret,
    "another algorithm of the same key": lambda: signed("rsa", RSA, "PS256"),
    "an algorithm that is not the key's": lambda: signed("rsa", ELLIPTIC, "ES256"),
    "changed afterwards": tampered,
    "expired": lambda: signed(exp=PAST),
    "no end": lambda: signed(exp=None),
    "not yet valid": lambda: signed(nbf=int(clock.utc_now().timestamp()) + 600),
    "issued later": lambda: signed(iat=int(clock.utc_now().timestamp()) + 600),
    "no time of issue": lambda: signed(iat=None),
    "another issuer": lambda: signed(iss="https://evil.example/"),
    "for somebody else": lambda: signed(aud="other"),
    "for several": lambda: signed(aud=[AUDIENCE, "other"]),
    "for nobody": lambda: signed(aud=None),
    "of nobody": lambda: signed(sub=None),
    "no tenant": lambda: signed(windlass_tenant=None),
    "a tenant that is a list": lambda: signed(windlass_tenant=["acme"]),
    "no address": lambda: signed(email=None),
    "an address that was not verified": lambda: signed(email_verified=False),
    "an address that may have been verified": lambda: signed(email_verified="true"),
    "an extension that has to be understood": lambda: signed(headers={"crit": ["x"], "x": 1}),
    "too long": lambda: signed(more="x" * 9000),
    "nonsense": lambda: "a.b.c",
}


@pytest.mark.parametrize("kid", KEYS)
async def test_a_token_is_believed(issuer: Issuer, kid: str) -> None:
    found = await issuer.claims(signed(kid))
    assert (found.tenant, found.email) == ("acme", "admin@acme.example")
    assert timedelta(seconds=290) < found.expires_at - clock.utc_now() <= timedelta(seconds=300)


@pytest.mark.parametrize("name", FORGED)
async def test_nothing_forged_is_believed(issuer: Issuer, name: str) -> None:
    with pytest.raises(NotOurs):
        await issuer.claims(FORGED[name]())


async def test_keys_are_asked_for_once_and_made_up_ones_not_again_and_again(
    issuer: Issuer, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await issuer.claims(signed())
    assert provider.asked == 1
    for number in range(5):
        with pytest.raises(NotOurs):
            await issuer.claims(signed(f"made up {number}", STRANGER))
    assert provider.asked == 1
    # A provider that changes its keys is heard once the cool-down is over.
    KEYS["new"] = ("RS256", STRANGER)
    try:
        provider.keys.append(published("new"))
        monkeypatch.setattr(oidc, "_COOL_DOWN_SECONDS", 0.0)
        assert (await issuer.claims(signed("new"))).tenant == "acme"
    finally:
        del KEYS["new"]


async def test_many_at_once_ask_once(issuer: Issuer, provider: Provider) -> None:
    await asyncio.gather(*(issuer.claims(signed()) for _ in range(20)))
    assert provider.asked == 1


@pytest.mark.parametrize(
    "trouble",
    [{"status": 500}, {"status": 302}, {"body": b"[]"}, {"body": b"no"}, {"body": b" " * 300_000}, {"keys": []}],
)
async def test_keys_that_cannot_be_had_let_nobody_in_and_are_not_the_askers_fault(
    issuer: Issuer, provider: Provider, trouble: dict[str, Any]
) -> None:
    for name, value in trouble.items():
        setattr(provider, name, value)
    with pytest.raises(IssuerAway):
        await issuer.claims(signed())
    # No redirect was followed.
    assert provider.asked == 1


async def test_keys_are_not_had_from_inside_by_a_name_that_leads_there(
    provider: Provider,
) -> None:
    """The name looks like anybody's; where it leads is judged when it is dialled."""
    port = int(provider.url.rpartition(":")[2].partition("/")[0])

    async def inside(_: str, __: int) -> list[Any]:
        return [ipaddress.ip_address("127.0.0.1")]

    named = Egress(Allowed.parse([f"10.0.0.1:{port}"]))
    issuer = Issuer(ISSUER, AUDIENCE, "https://login.example/keys", tenant_claim="windlass_tenant", egress=named)
    await issuer._keys._caller.close()
    issuer._keys._caller = Caller(named, resolve=inside)
    with pytest.raises(IssuerAway):
        await issuer.claims(signed())
    assert provider.asked == 0
    await issuer.close()


async def test_keys_that_are_known_outlive_a_provider_that_is_away(
    issuer: Issuer, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await issuer.claims(signed())
    provider.status = 503
    monkeypatch.setattr(oidc, "_FRESH_SECONDS", 0.0)
    assert (await issuer.claims(signed())).tenant == "acme"
    assert provider.asked == 2


async def test_keys_for_something_else_are_not_used(issuer: Issuer, provider: Provider) -> None:
    symmetric = {"kty": "oct", "k": "c2VjcmV0", "kid": "oct", "alg": "HS256"}
    provider.keys = [{**published("rsa"), "use": "enc"}, symmetric, {"kid": "bad", "kty": "RSA"}, published("edwards")]
    await issuer.claims(signed("edwards"))
    with pytest.raises(NotOurs):
        await issuer.claims(signed("rsa"))


# ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_whoever_is_a_user_of_the_tenant_comes_in_as_that_user(
    database: Database, issuer: Issuer, database_url: str
) -> None:
    acme = await tenant(database)
    await tenant(database, "rival")
    viewer = await member(acme, Role.VIEWER, "viewer@acme.example")
    subject = Authenticator(database, issuer)
    found = await subject.authenticate(signed(email="viewer@acme.example"))
    assert (found.user_id, found.role, found.permissions) == (
        viewer.principal.user_id, Role.VIEWER, ROLE_PERMISSIONS[Role.VIEWER],
    )  # fmt: skip
    assert (await subject.authenticate(acme.token)).user_id == acme.principal.user_id
    for stranger in ({"email": "nobody@acme.example"}, {"windlass_tenant": "rival"}, {"windlass_tenant": "none"}):
        with pytest.raises(Unauthenticated):
            await subject.authenticate(signed(**{"email": "viewer@acme.example", **stranger}))
    both = {found, acme.principal}
    assert await subject.still_good(both) == both
    await run(database_url, f"UPDATE app_user SET role = 'OPERATOR' WHERE id = {found.user_id}")
    assert await subject.still_good(both) == {acme.principal}
    again = await Authenticator(database, issuer).authenticate(signed(email="viewer@acme.example"))
    assert again.role is Role.OPERATOR
    await run(database_url, f"UPDATE app_user SET is_deleted = true WHERE id = {found.user_id}")
    assert await subject.still_good([again]) == set()


async def test_without_a_provider_no_such_token_means_anything(database: Database) -> None:
    await tenant(database)
    with pytest.raises(Unauthenticated):
        await Authenticator(database).authenticate(signed())


def test_the_settings_name_all_of_it_or_nothing() -> None:
    assert Issuer.of(Settings()) is None
    for given in (
        {"oidc_issuer": ISSUER},
        {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE},
        {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_keys_url": "http://login.example/keys"},
    ):
        with pytest.raises(SettingsError, match="OIDC"):
            Issuer.of(Settings(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/keys",
        "https://127.0.0.1/keys",
        "https://[::ffff:10.0.0.1]/keys",
        "http://login.example/keys",
        "https://login.example:8443/keys",
        "https://user:word@login.example/keys",
        "file:///etc/passwd",
        "login.example",
    ],
)
def test_keys_are_asked_for_on_the_public_internet_unless_the_installation_says_otherwise(url: str) -> None:
    given: dict[str, Any] = {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_keys_url": url}
    with pytest.raises(SettingsError, match="OIDC_KEYS_URL"):
        Issuer.of(Settings(**given))


async def test_an_installation_opens_a_provider_of_its_own_and_never_a_clouds_own_services() -> None:
    opened = Settings.from_environment({"WINDLASS_OIDC_ALLOWED_TARGETS": "login.internal:8443,169.254.169.254"})
    assert opened.oidc_allowed_targets == ("login.internal:8443", "169.254.169.254")
    named = structs.replace(opened, oidc_issuer=ISSUER, oidc_audience=AUDIENCE)
    own = structs.replace(named, oidc_keys_url="http://login.internal:8443/keys")
    issuer = Issuer.of(own)
    assert issuer is not None
    await issuer.close()
    with pytest.raises(SettingsError, match="cloud's own services"):
        Issuer.of(structs.replace(own, oidc_keys_url="http://169.254.169.254/keys"))
    with pytest.raises(SettingsError, match="OIDC_ALLOWED_TARGETS"):
        Issuer.of(structs.replace(own, oidc_allowed_targets=("a:b",)))
