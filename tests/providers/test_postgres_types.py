"""What the PostgreSQL types do beyond what the conformance kit asks of every type."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import pytest

from app.domain.diffing import Difference
from app.domain.enums import ChangeAction
from app.domain.values import reveal
from app.providers.base import ErrorKind, ProviderError, ResourceState
from app.providers.faults import Fault, FaultKind, FaultyType
from app.providers.postgres.address import Address
from app.providers.postgres.archives import Archives
from app.providers.postgres.database import DatabaseType
from app.providers.postgres.failures import kind_of
from app.providers.postgres.grant import GrantType
from app.providers.postgres.passwords import fingerprint, verifier
from app.providers.postgres.provider import PostgresProvider
from app.providers.postgres.role import RoleType
from app.providers.postgres.server import Server, digest, identifier, literal
from tests.providers.conftest import MakeContext

ROLES, DATABASES, GRANTS = RoleType(), DatabaseType(Archives()), GrantType()


def _declared(resource: Any, **properties: Any) -> dict[str, Any]:
    value, diagnostics = resource.check(properties)
    assert diagnostics == []
    revealed: dict[str, Any] = reveal(value)
    return revealed


@pytest.fixture(autouse=True)
async def _clean(server: Server) -> AsyncIterator[None]:
    yield
    async with server.writing() as connection:
        for row in await connection.fetch("SELECT datname FROM pg_database WHERE datname ~ '^(windlass|type_)'"):
            await connection.execute(f"DROP DATABASE {identifier(row[0])} WITH (FORCE)")
        for row in await connection.fetch("SELECT rolname FROM pg_roles WHERE rolname ~ '^type_'"):
            await connection.execute(f"DROP OWNED BY {identifier(row[0])}; DROP ROLE {identifier(row[0])}")


async def _stored(server: Server, role: str) -> str:
    async with server.reading() as connection:
        stored: str = await connection.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = $1", role)
    return stored


async def test_a_password_is_stored_as_the_verifier_that_the_server_would_make(server: Server) -> None:
    """The server's own hash of the same password, with the salt of ours, is ours."""
    import base64
    import hashlib
    import hmac

    ours = verifier("geheim")
    _, rest, keys = ours.split("$")
    salted = hashlib.pbkdf2_hmac("sha256", b"geheim", base64.b64decode(rest.partition(":")[2]), 4096)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    assert keys.partition(":")[0] == base64.b64encode(stored).decode()
    async with server.writing() as connection:
        await connection.execute(f"CREATE ROLE type_raw PASSWORD {literal(ours)}")
    assert await _stored(server, "type_raw") == ours
    assert verifier("geheim") != ours


async def test_a_password_changed_by_somebody_else_shows_as_a_change(server: Server, make_context: MakeContext) -> None:
    declared = _declared(ROLES, name="type_role", password="first")
    state = await ROLES.create(make_context(), declared)
    assert state.private["fingerprint"] == fingerprint(await _stored(server, "type_role"))
    assert "first" not in str(state.private)
    async with server.writing() as connection:
        await connection.execute("ALTER ROLE type_role PASSWORD 'other'")
    found = await ROLES.read(make_context(), state)
    assert found is not None
    difference = ROLES.compare(found.properties, declared)
    assert difference.paths == {("password",)}
    repaired = await ROLES.update(make_context("two"), found, declared, difference)
    assert ROLES.compare(repaired.properties, declared).action is ChangeAction.NO_CHANGE


async def test_an_update_that_leaves_the_password_out_leaves_it_alone(
    server: Server, make_context: MakeContext
) -> None:
    state = await ROLES.create(make_context(), _declared(ROLES, name="type_role", password="first"))
    before = await _stored(server, "type_role")
    scaled = _declared(ROLES, name="type_role", password="first", connectionLimit=5)
    await ROLES.update(make_context("two"), state, scaled, ROLES.compare(state.properties, scaled))
    assert await _stored(server, "type_role") == before


async def test_the_same_moment_written_otherwise_is_no_change() -> None:
    prior = _declared(ROLES, name="type_role", validUntil="2030-01-01T00:00:00+00:00")
    same = _declared(ROLES, name="type_role", validUntil="2030-01-01T01:00:00+01:00")
    assert ROLES.compare(prior, same) == Difference(ChangeAction.NO_CHANGE)


async def test_memberships_follow_the_declaration(server: Server, make_context: MakeContext) -> None:
    async with server.writing() as connection:
        await connection.execute("CREATE ROLE type_a; CREATE ROLE type_b; CREATE ROLE type_c")
    state = await ROLES.create(make_context(), _declared(ROLES, name="type_role", memberOf=["type_b", "type_a"]))
    assert state.properties["memberOf"] == ["type_a", "type_b"]
    changed = _declared(ROLES, name="type_role", memberOf=["type_c", "type_b"])
    state = await ROLES.update(make_context("two"), state, changed, ROLES.compare(state.properties, changed))
    assert state.properties["memberOf"] == ["type_b", "type_c"]


async def test_a_role_that_owns_something_cannot_be_deleted_yet(server: Server, make_context: MakeContext) -> None:
    state = await ROLES.create(make_context(), _declared(ROLES, name="type_role"))
    async with server.writing() as connection:
        await connection.execute("CREATE DATABASE type_owned OWNER type_role")
    with pytest.raises(ProviderError) as caught:
        await ROLES.delete(make_context("two"), state)
    assert (caught.value.kind, caught.value.code) == (ErrorKind.DEPENDENCY, "2BP01")
    assert "type_owned" in caught.value.message


@pytest.mark.parametrize(("resource", "name"), [(ROLES, "type_role"), (DATABASES, "type_data")])
async def test_something_imported_is_managed_without_a_mark_until_it_is_another(
    resource: Any, name: str, server: Server, make_context: MakeContext
) -> None:
    kind = "ROLE" if resource is ROLES else "DATABASE"
    async with server.writing() as connection:
        await connection.execute(f"CREATE {kind} {name}")
        await connection.execute(f"COMMENT ON {kind} {name} IS 'made by hand'")
    with pytest.raises(ProviderError, match="did not make it"):
        await resource.create(make_context(), _declared(resource, name=name))
    state = await resource.import_(make_context(), name)
    assert await resource.read(make_context(), state) == state
    assert state in [found async for found in resource.discover(make_context())]
    async with server.writing() as connection:
        await connection.execute(f"DROP {kind} {name}")
        await connection.execute(f"CREATE {kind} {name}")
    assert await resource.read(make_context(), state) is None
    await resource.delete(make_context(), state)
    assert (await resource.import_(make_context(), name)).id == name


async def test_what_another_stack_manages_cannot_be_imported(make_context: MakeContext) -> None:
    await ROLES.create(make_context(owner="windlass:a:b:c"), _declared(ROLES, name="type_role"))
    with pytest.raises(ProviderError, match="managed by windlass:a:b:c"):
        await ROLES.import_(make_context(), "type_role")


async def test_what_an_interrupted_creation_left_is_cleared_away(server: Server, make_context: MakeContext) -> None:
    """CREATE DATABASE went through, and the worker died before the database had its mark and its name."""
    async with server.writing() as connection:
        await connection.execute(f"CREATE DATABASE windlass_{digest('one')}")
    declared = _declared(DATABASES, name="type_data")
    assert await DATABASES.recover(make_context(), declared) is None
    async with server.reading() as connection:
        assert await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname ~ '^windlass_'") == 0


async def test_recovery_waits_for_a_creation_that_the_server_is_still_at(
    server: Server, make_context: MakeContext
) -> None:
    declared = _declared(DATABASES, name="type_data")
    creation = asyncio.create_task(DATABASES.create(make_context(), declared))
    locked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    async with asyncio.timeout(10), server.reading() as connection:
        while True:
            if await connection.fetchval(locked):
                break
            await asyncio.sleep(0.001)
    recovered = await DATABASES.recover(make_context(), declared)
    assert recovered == await creation


async def test_a_lost_answer_is_recovered_and_a_lost_request_is_sent_again(make_context: MakeContext) -> None:
    lost = {"create": [Fault(FaultKind.DROP_BEFORE), Fault(FaultKind.THROTTLE, 0.5), Fault(FaultKind.DROP_AFTER)]}
    for inner, properties in ((ROLES, {"name": "type_role"}), (DATABASES, {"name": "type_data"})):
        resource = FaultyType(inner, lost)
        declared, context = _declared(resource, **properties), make_context()
        with pytest.raises(ProviderError) as first:
            await resource.create(context, declared)
        assert first.value.kind is ErrorKind.OUTCOME_UNKNOWN
        assert await resource.recover(context, declared) is None
        with pytest.raises(ProviderError) as second:
            await resource.create(context, declared)
        assert (second.value.kind, second.value.retry_after_seconds) == (ErrorKind.THROTTLED, 0.5)
        with pytest.raises(ProviderError) as third:
            await resource.create(context, declared)
        assert third.value.kind is ErrorKind.OUTCOME_UNKNOWN
        found = await resource.recover(context, declared)
        assert isinstance(found, ResourceState)
        assert await resource.create(context, declared) == found
        assert resource.calls == ["create", "recover", "create", "create", "recover", "create"]


async def test_a_session_lost_while_writing_leaves_the_outcome_unknown(server: Server) -> None:
    with pytest.raises(ProviderError) as writing:
        await _lose_session(server, server.writing("postgres"), "CREATE ROLE type_role")
    assert writing.value.kind is ErrorKind.OUTCOME_UNKNOWN
    with pytest.raises(ProviderError) as reading:
        await _lose_session(server, server.reading("postgres"), "SELECT 1")
    assert reading.value.kind is ErrorKind.UNAVAILABLE


async def _lose_session(server: Server, opening: AbstractAsyncContextManager[Any], statement: str) -> None:
    async with opening as connection:
        await _cut(server, connection)
        await connection.execute(statement)


async def _cut(server: Server, connection: Any) -> None:
    async with server.reading() as other:
        await other.fetchval("SELECT pg_terminate_backend($1, 5000)", connection.get_server_pid())


async def test_an_account_that_is_no_superuser_suffices_for_roles_and_databases(
    server: Server, new_server_url: str, make_context: MakeContext
) -> None:
    async with server.writing() as connection:
        await connection.execute("CREATE ROLE type_admin LOGIN CREATEROLE CREATEDB")
    url = new_server_url.replace("postgres:@", "type_admin:@")
    async with PostgresProvider().session({"url": url}) as session:
        context = make_context(connection=session)
        declared = _declared(ROLES, name="type_role", password="first")
        role = await ROLES.create(context, declared)
        assert "fingerprint" not in role.private
        found = await ROLES.read(context, role)
        assert found is not None
        assert ROLES.compare(found.properties, declared).action is ChangeAction.NO_CHANGE
        database = await DATABASES.create(context, _declared(DATABASES, name="type_data"))
        assert database.properties["owner"] == "type_admin"
        backup = await DATABASES.act(context, "backup", database, {})
        assert backup.outputs["size"] > 0
        await DATABASES.delete(context, database)
        await ROLES.delete(context, role)
        grant = _declared(GRANTS, role="type_admin", database="postgres", privileges=["CONNECT"])
        with pytest.raises(ProviderError) as caught:
            await GRANTS.create(context, grant)
        assert caught.value.kind is ErrorKind.ACCESS_DENIED


async def test_a_server_that_cannot_be_reached_is_unavailable() -> None:
    async with PostgresProvider().session({"host": "127.0.0.1", "port": 1, "user": "nobody"}) as nowhere:
        with pytest.raises(ProviderError) as caught:
            async with nowhere.writing():
                pass
    assert caught.value.kind is ErrorKind.UNAVAILABLE


async def test_a_grant_gives_and_takes_exactly_its_own(server: Server, make_context: MakeContext) -> None:
    async with server.writing() as connection:
        await connection.execute("CREATE ROLE type_reader")
        await connection.execute("CREATE DATABASE type_data")
    async with server.writing("type_data") as connection:
        await connection.execute("CREATE TABLE kept (a int); GRANT DELETE ON kept TO type_reader")
    where = {"role": "type_reader", "database": "type_data", "schema": "public", "tables": ["kept"]}
    with pytest.raises(ProviderError, match="already has DELETE on kept"):
        await GRANTS.create(make_context(), _declared(GRANTS, **where, privileges=["DELETE", "SELECT"]))
    declared = _declared(GRANTS, **where, privileges=["SELECT", "INSERT"])
    state = await GRANTS.create(make_context(), declared)
    assert await _held(server) == {"DELETE", "INSERT", "SELECT"}
    async with server.writing("type_data") as connection:
        await connection.execute("REVOKE INSERT ON kept FROM type_reader")
    drifted = await GRANTS.read(make_context(), state)
    assert drifted is not None
    assert GRANTS.compare(drifted.properties, declared).paths == {("privileges",)}
    await GRANTS.update(make_context("two"), drifted, declared, GRANTS.compare(drifted.properties, declared))
    assert await _held(server) == {"DELETE", "INSERT", "SELECT"}
    await GRANTS.delete(make_context("three"), drifted)
    assert await _held(server) == {"DELETE"}


async def _held(server: Server) -> set[str]:
    async with server.reading("type_data") as connection:
        rows = await connection.fetch(
            "SELECT a.privilege_type FROM pg_class c, aclexplode(c.relacl) a WHERE c.relname = 'kept' "
            "AND a.grantee = 'type_reader'::regrole"
        )
    return {row[0] for row in rows}


def test_privileges_that_the_object_cannot_have_are_named() -> None:
    _, (found,) = GRANTS.check({"role": "r", "database": "d", "privileges": ["CONNECT", "SELECT"]})
    assert found.path == ("privileges", "1")


@pytest.mark.parametrize(
    ("config", "url", "password"),
    [
        ({"url": "postgresql://u:p%40ss@h:5433/d?sslmode=require"}, "postgresql://u@h:5433/d?sslmode=require", "p@ss"),
        ({"url": "postgresql://postgres:@/postgres?host=/tmp/x"}, "postgresql://postgres@/postgres?host=/tmp/x", None),
        ({"url": "postgres://h/d?user=a%20b&password=c"}, "postgresql://a%20b@h/d", "c"),
        ({"host": "h", "user": "u", "password": "p"}, "postgresql://u@h:5432/postgres", "p"),
        ({"host": "::1", "user": "u", "port": 1}, "postgresql://u@[::1]:1/postgres", None),
    ],
)
def test_an_address_is_understood_and_shown_without_its_password(
    config: dict[str, Any], url: str, password: str | None
) -> None:
    address = Address.parse(config)
    assert (address.url(), address.password) == (url, password)
    assert "p@ss" not in repr(address)


def test_an_address_leads_to_another_database_of_the_same_server() -> None:
    address = Address.parse({"url": "postgresql://postgres@/postgres?host=/tmp/x"})
    assert address.url("a b/c") == "postgresql://postgres@/a%20b%2Fc?host=/tmp/x"


@pytest.mark.parametrize("url", ["mysql://u@h/d", "postgresql://u@h/d?sslkey=/etc/key", "postgresql://u@h/d?service=x"])
def test_an_address_that_would_read_the_workers_files_is_refused(url: str) -> None:
    with pytest.raises(ProviderError):
        Address.parse({"url": url})


async def test_sockets_can_be_forbidden() -> None:
    with pytest.raises(ProviderError, match="sockets"):
        async with PostgresProvider(sockets=False).session({"url": "postgresql://u@/d?host=/tmp"}):
            pass


def test_identifiers_and_texts_are_quoted() -> None:
    assert identifier('a"b') == '"a""b"'
    assert literal("it's \\ here") == "E'it''s \\\\ here'"
    for name in ("", "x" * 64, "ä" * 32, "a\0b"):
        with pytest.raises(ProviderError):
            identifier(name)


async def test_a_hostile_name_stays_a_name(server: Server, make_context: MakeContext) -> None:
    hostile = {"name": "type_role", "validUntil": "infinity'; DROP ROLE type_role; --"}
    with pytest.raises((ProviderError, asyncpg.PostgresError)):
        await ROLES.create(make_context(), hostile)
    async with server.reading() as connection:
        assert await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = 'type_role'") == 0


def test_sqlstates_have_meanings() -> None:
    kinds = {"42P04": ErrorKind.ALREADY_EXISTS, "53300": ErrorKind.THROTTLED, "53100": ErrorKind.QUOTA,
             "28P01": ErrorKind.ACCESS_DENIED, "08006": ErrorKind.UNAVAILABLE, "22P02": ErrorKind.INVALID,
             "P0001": ErrorKind.INTERNAL}  # fmt: skip
    assert {state: kind_of(state) for state in kinds} == kinds
