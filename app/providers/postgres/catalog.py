"""The statements about databases that creation, backup, restoration and migration share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from app.providers.base import JsonObject, ResourceState
from app.providers.postgres.server import Server, identifier, literal

_FIND = """
SELECT d.oid::bigint AS oid, d.datname, pg_get_userbyid(d.datdba)::text AS owner, d.datconnlimit,
       pg_encoding_to_char(d.encoding)::text AS encoding, shobj_description(d.oid, 'pg_database') AS comment,
       d.datacl IS NULL AS default_privileges
FROM pg_database d"""
_PRIVILEGES = """
SELECT a.grantee = 0 AS everyone, pg_get_userbyid(a.grantee)::text AS role, a.privilege_type, a.is_grantable
FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = $1"""
_SETTINGS = """
SELECT pg_get_userbyid(s.setrole)::text AS role, s.setrole = 0 AS everyone, item
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) item
WHERE d.datname = $1"""
_END_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"""

_NAME_LISTS = frozenset({"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"})


async def find(connection: Any, name: str) -> Any:
    """The row of one database, None if there is none."""
    return await connection.fetchrow(f"{_FIND} WHERE d.datname = $1", name)


async def find_all(connection: Any) -> Sequence[Any]:
    """The rows of all databases but the templates."""
    rows: Sequence[Any] = await connection.fetch(f"{_FIND} WHERE NOT d.datistemplate ORDER BY d.datname")
    return rows


def state_of(server: Server, row: Any) -> ResourceState:
    """The resource that a row describes."""
    name = row["datname"]
    properties: JsonObject = {
        "name": name,
        "owner": row["owner"],
        "encoding": row["encoding"],
        "connectionLimit": row["datconnlimit"],
    }
    outputs: JsonObject = {"name": name, "oid": row["oid"], "url": server.address.url(name)}
    return ResourceState(name, properties, outputs, {"oid": row["oid"]})


async def lock(connection: Any, operation: str) -> None:
    """Keeps other sessions of the same operation out until the connection is given back."""
    await connection.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", f"windlass:{operation}")


async def drop(connection: Any, name: str) -> None:
    """Removes a database and ends every session in it; absent is fine."""
    await connection.execute(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")


async def rename(connection: Any, name: str, new_name: str) -> None:
    """Gives a database another name; CONFLICT while somebody is connected to it."""
    await connection.execute(f"ALTER DATABASE {identifier(name)} RENAME TO {identifier(new_name)}")


async def comment(connection: Any, name: str, text: str) -> None:
    """Replaces the comment of a database."""
    await connection.execute(f"COMMENT ON DATABASE {identifier(name)} IS {literal(text)}")


async def end_sessions(connection: Any, name: str) -> None:
    """Ends every session in a database. They may come back."""
    await connection.fetchval(_END_SESSIONS, name)


async def make_like(connection: Any, row: Any, name: str) -> None:
    """An empty database with the encoding and the connection limit of another one."""
    await connection.execute(
        f"CREATE DATABASE {identifier(name)} TEMPLATE template0 ENCODING {literal(row['encoding'])} "
        f"CONNECTION LIMIT {row['datconnlimit']} OWNER {identifier(row['owner'])}"
    )


async def privileges_and_settings(connection: Any, row: Any) -> tuple[Sequence[Any] | None, Sequence[Any]]:
    """What a dump leaves out: the privileges on the database (None: the default ones) and its settings."""
    privileges = None if row["default_privileges"] else await connection.fetch(_PRIVILEGES, row["datname"])
    return privileges, await connection.fetch(_SETTINGS, row["datname"])


async def equip(connection: Any, name: str, privileges: Sequence[Any] | None, settings: Sequence[Any]) -> None:
    """Gives a database the privileges and settings of another one, for those roles that this server has."""
    known = {row["rolname"] for row in await connection.fetch("SELECT rolname::text FROM pg_roles")}
    target = identifier(name)
    if privileges is not None:
        await connection.execute(f"REVOKE ALL ON DATABASE {target} FROM PUBLIC")
    for row in privileges or ():
        if row["everyone"] or row["role"] in known:
            grantee = "PUBLIC" if row["everyone"] else identifier(row["role"])
            option = " WITH GRANT OPTION" if row["is_grantable"] and not row["everyone"] else ""
            await connection.execute(f"GRANT {row['privilege_type']} ON DATABASE {target} TO {grantee}{option}")
    for row in settings:
        if row["everyone"] or row["role"] in known:
            key, _, value = row["item"].partition("=")
            whom = f"DATABASE {target}" if row["everyone"] else f"ROLE {identifier(row['role'])} IN DATABASE {target}"
            await connection.execute(f"ALTER {whom} SET {_setting(key)} TO {_value(key, value)}")


def _setting(key: str) -> str:
    return ".".join(identifier(part) for part in key.split("."))


def _value(key: str, value: str) -> str:
    """A setting's value for SQL. Those that are lists of names are stored as one text of quoted names."""
    if key not in _NAME_LISTS:
        return literal(value)
    names = re.findall(r'"(?:[^"]|"")*"|[^,\s]+', value)
    return ", ".join(literal(name[1:-1].replace('""', '"') if name.startswith('"') else name) for name in names)
