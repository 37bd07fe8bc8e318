"""Replacing the installation's key: what is sealed under an older one is sealed again, while all goes on.

Rows are taken a few at a time, in the order of their keys, and written only where nobody has changed them meanwhile:
what was changed is sealed under the new key already, if whoever changed it has it. So the new key is first given to
every process, with the old one behind it; then this is run; then the old one is taken away. It can be stopped and begun
again.
"""

# Names of tables and columns are those of the catalogue, and of our own making.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.db.places import Place, place_of
from app.db.sealing import Sealer
from app.db.statements import Row, Statement, dumps
from app.db.uow import Database, SystemRole, Transaction

_AT_A_TIME = 200
# Of the parameters that stand for a row's key.
_NAMES = ("one", "two", "three", "four")
# What the places of a table's values are made of.
_KNOWN_BY = {
    "provider_connection": ("provider", "name"),
    "webhook_endpoint": ("id",),
    "plan_hook": ("plan_id",),
    "tofu_state_version": ("state_id", "serial"),
}
_ALIAS = "known_"
# Columns of JSON that the role may write: those where something may be sealed (migration 0031 and later ones).
_COLUMNS = Statement(
    "SELECT c.relname::text AS name, a.attname::text AS column, k.columns, k.types FROM pg_class c"
    " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    "   AND a.atttypid = 'jsonb'::regtype"
    " JOIN LATERAL (SELECT array_agg(p.attname::text ORDER BY array_position(i.indkey::int2[], p.attnum)) AS columns,"
    "   array_agg(format_type(p.atttypid, NULL) ORDER BY array_position(i.indkey::int2[], p.attnum)) AS types"
    "   FROM pg_index i JOIN pg_attribute p ON p.attrelid = c.oid AND p.attnum = ANY (i.indkey)"
    "   WHERE i.indrelid = c.oid AND i.indisprimary) k ON true"
    " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
    " AND has_column_privilege(c.oid, a.attnum, 'UPDATE') AND CAST(:all AS boolean) ORDER BY 1, 2"
)


@dataclass(frozen=True, slots=True)
class Resealed:
    """What was done: values sealed again, in how many rows; `skipped` rows were held or changed by somebody."""

    values: int = 0
    rows: int = 0
    skipped: int = 0

    def beside(self, other: Resealed) -> Resealed:
        return Resealed(self.values + other.values, self.rows + other.rows, self.skipped + other.skipped)


async def reseal(database: Database, sealer: Sealer) -> Resealed:
    """Seal everything under today's key. Raises SealBroken for a value that none of the keys opens."""
    async with database.system(SystemRole.KEYS) as transaction:
        columns = await transaction.fetch(_COLUMNS, {"all": True})
    done = Resealed()
    for row in columns:
        keys = dict(zip(row["columns"], row["types"], strict=True))
        done = done.beside(await _column(database, sealer, row["name"], row["column"], keys))
    return done


async def _column(database: Database, sealer: Sealer, table: str, column: str, keys: Mapping[str, str]) -> Resealed:
    """One column of one table, whose primary key is of `keys` and their types."""
    listed, cast = ", ".join(keys), ", ".join(f"{key}::text" for key in keys)
    tenant = "tenant_id" if table != "tenant" else "id"
    given_key = ", ".join(f":{name}::text::{kind}" for name, kind in zip(_NAMES, keys.values(), strict=False))
    # By value: the row it was read from may be gone by now.
    after = f" AND ({listed}) > ({given_key})"
    known = "".join(f", {name} AS {_ALIAS}{name}" for name in _KNOWN_BY.get(table, ()))
    head = f'SELECT {tenant} AS tenant, ARRAY[{cast}] AS place, "{column}"::text AS stored{known} FROM {table}'
    found = f'"{column}"::text LIKE \'%"$sealed"%\''
    tail = f" ORDER BY {listed} LIMIT :limit"
    first = Statement(f"{head} WHERE {found}{tail}")
    next_ = Statement(f"{head} WHERE {found}{after}{tail}")
    # Whoever waits for nobody while it holds rows cannot be part of a deadlock.
    free = f"SELECT {listed} FROM {table} WHERE ({listed}) = ({given_key}) FOR UPDATE SKIP LOCKED"
    write = Statement(
        f'UPDATE {table} SET "{column}" = :new::jsonb WHERE ({listed}) IN ({free}) AND "{column}"::text = :old'
        " RETURNING 1 AS one"
    )
    done, place = Resealed(), None
    while True:
        async with database.system(SystemRole.KEYS) as transaction:
            given: dict[str, Any] = {"limit": _AT_A_TIME, **_keyed(place)}
            rows = await transaction.fetch(first if place is None else next_, given)
            for row in rows:
                parts = {name: row[f"{_ALIAS}{name}"] for name in _KNOWN_BY.get(table, ())}
                where = place_of(table, column, parts)
                done = done.beside(await _row(transaction, sealer, write, row, where))
        if len(rows) < _AT_A_TIME:
            return done
        place = list(rows[-1]["place"])


async def _row(transaction: Transaction, sealer: Sealer, write: Statement, row: Row, where: Place) -> Resealed:
    renewed, count = sealer.renewed(orjson.loads(row["stored"]), row["tenant"], where)
    if not count:
        return Resealed()
    given: Mapping[str, Any] = {"new": dumps(renewed), "old": row["stored"], **_keyed(list(row["place"]))}
    if await transaction.fetch_one(write, given) is None:
        return Resealed(skipped=1)
    return Resealed(values=count, rows=1)


def _keyed(place: list[str] | None) -> dict[str, str]:
    return dict(zip(_NAMES, place or (), strict=False))
