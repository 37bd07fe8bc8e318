"""One row of every table, made from what the models say about their columns: a new table is covered at once."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import Base

NOT_OF_TENANTS = frozenset({"worker", "platform_administrator"})


@dataclass(slots=True)
class Specimens:
    """The rows of one tenant, by table."""

    tenant_id: int
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def values(self, table: sa.Table) -> dict[str, Any]:
        """Values for a new row of `table` that would be accepted."""
        values = {column.name: _value(column) for column in table.columns if _needed(column)}
        for constraint in table.foreign_key_constraints:
            target = constraint.elements[0].column.table.name
            if target == table.name:
                continue
            for element in constraint.elements:
                name = element.parent.name
                values[name] = self.tenant_id if name == "tenant_id" else self.rows[target][element.column.name]
        if "tenant_id" in table.columns:
            values["tenant_id"] = self.tenant_id
        return values


async def specimens(connection: AsyncConnection, tenant_id: int) -> Specimens:
    """Write one row of every tenant table but `tenant`, which must have one already."""
    made = Specimens(tenant_id, {"tenant": {"id": tenant_id}})
    for table in tables():
        if table.name != "tenant":
            row = (
                await connection.execute(sa.insert(table).values(made.values(table)).returning(*table.columns))
            ).one()
            made.rows[table.name] = dict(row._mapping)
    return made


def tables() -> list[sa.Table]:
    """All tenant tables, each after those it refers to."""
    return [table for table in Base.metadata.sorted_tables if table.name not in NOT_OF_TENANTS]


def owner_of(table: sa.Table) -> sa.Column[Any]:
    """The column that says whose a row is."""
    return table.columns["id" if table.name == "tenant" else "tenant_id"]


def _needed(column: sa.Column[Any]) -> bool:
    return not column.nullable and column.identity is None and column.server_default is None


def _value(column: sa.Column[Any]) -> Any:
    kind = column.type
    if isinstance(kind, sa.Enum):
        return kind.enums[0]
    for types, value in _VALUES:
        if isinstance(kind, types):
            return value()
    if isinstance(kind, sa.String):
        return uuid.uuid4().hex[: min(kind.length or 32, 12)]
    message = f"no value for a {kind!r}"
    raise TypeError(message)


# Numbers and texts are new each time, so that unique indexes never decide a test about something else.
_numbers = itertools.count(1)
_VALUES: list[tuple[Any, Callable[[], Any]]] = [
    (JSONB, dict),
    (ARRAY, list),
    (sa.Boolean, bool),
    (sa.Integer, lambda: next(_numbers)),
    (sa.Float, float),
    (sa.LargeBinary, lambda: uuid.uuid4().bytes),
    (sa.Uuid, uuid.uuid4),
    (sa.DateTime, lambda: datetime(2026, 1, 31, tzinfo=UTC)),
]
