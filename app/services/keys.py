"""The turning of keys: each tenant's data key under the ring's first key, and nothing left that is sealed as of old.

It goes tenant by tenant and in small transactions, beside everything that runs, and takes no row that somebody holds:
such are met again on the next round. Whoever ends it in the middle loses nothing; it is run again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Column, Table, Text, and_, cast, func, literal, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import JSONB

from app.db.keys import KeyRing, SealBroken, TenantKeys, WrappedKey
from app.db.models import Base, Tenant, TenantKey
from app.db.sealing import Sealer, is_old, place_of
from app.db.uow import Database, SystemRole, Transaction

_ACTOR = "system:keys"
_TENANTS = 500
# Rows looked at in one transaction, and of those the most that are sealed anew in it.
_WINDOW = 200
_BATCH = 100
# A row that somebody holds is left for the next round.
_ROUNDS = 3
# What app.db.sealing wrote before there were data keys lacks its mark; SQL only narrows, `is_old` decides.
_OLD = r'"\$sealed": "(?!2:)'
# What people wrote or sent, which nobody opens whatever it looks like, and what was masked before it was kept.
_LEFT_ALONE = frozenset(
    {
        "resource_template", "template_revision", "workflow", "workflow_step", "plan_automation", "plan_trigger",
        "plan_signal", "condition_evaluation", "idempotency_key", "audit_entry", "audit_seal", "event_log", "job_log",
    }
)  # fmt: skip
# History that nobody who acts for a tenant may rewrite.
_HISTORY = frozenset({"resource_revision"})

_AS_PLATFORM = text("SELECT set_config('role', 'windlass_platform', true)")
_logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Rotation:
    """What was done: tenants met, data keys wrapped anew, rows sealed anew; and what is left to do or cannot be."""

    tenants: int = 0
    wrapped: int = 0
    resealed: int = 0
    # Rows with old values that somebody held each time.
    held: int = 0
    # By tenant, table and column: keys and rows that no key of the ring opens.
    broken: dict[str, int] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether the ring's other keys can go."""
        return not self.held and not self.broken


@dataclass(frozen=True, slots=True)
class _Place:
    """One table with columns that may hold something sealed."""

    table: Table
    columns: tuple[Column[Any], ...]
    # Without the tenant.
    key: tuple[Column[Any], ...]


async def rotate(database: Database, ring: KeyRing, done: Callable[[Rotation], None] | None = None) -> Rotation:
    """Turn the keys of all tenants; `done` hears how far it is after each of them."""
    sealer = Sealer(TenantKeys(ring))
    sealer.serve(database)
    rotation = Rotation()
    async for tenant_id in _tenants(database):
        await _rotate_tenant(database, sealer, tenant_id, rotation)
        rotation.tenants += 1
        if done is not None:
            done(rotation)
    return rotation


async def _tenants(database: Database) -> AsyncIterator[int]:
    """All of them, those that were deleted as well: their rows are still there."""
    after = 0
    while True:
        async with database.system(SystemRole.AUTH) as transaction:
            query = select(Tenant.id).where(Tenant.id > after).order_by(Tenant.id).limit(_TENANTS)
            found = (await transaction.session.scalars(query)).all()
        for tenant_id in found:
            yield tenant_id
        if len(found) < _TENANTS:
            return
        after = found[-1]


async def _rotate_tenant(database: Database, sealer: Sealer, tenant_id: int, rotation: Rotation) -> None:
    try:
        rotation.wrapped += await _wrap(database, sealer.keys.ring, tenant_id)
    except SealBroken as error:
        # Nothing of the tenant opens without its key.
        _logger.warning("a data key does not open", tenant_id=tenant_id, reason=str(error))
        rotation.broken[f"{tenant_id}/tenant_key.wrapped"] = 1
        return
    for place in sealed_places():
        for _ in range(_ROUNDS):
            held = await _reseal(database, sealer, tenant_id, place, rotation)
            if not held:
                break
        else:
            rotation.held += held


async def _wrap(database: Database, ring: KeyRing, tenant_id: int) -> bool:
    async with _transaction(database, tenant_id) as transaction:
        query = select(TenantKey.ring_key, TenantKey.wrapped).where(TenantKey.tenant_id == tenant_id).with_for_update()
        stored = (await transaction.session.execute(query)).one()
        data_key = ring.unwrap(WrappedKey(stored.ring_key, stored.wrapped), tenant_id)
        if stored.ring_key == ring.first:
            return False
        new = ring.wrap(data_key, tenant_id)
        changed = {"ring_key": new.ring_key, "wrapped": new.wrapped, "wrapped_at": func.clock_timestamp()}
        await transaction.session.execute(update(TenantKey).where(TenantKey.tenant_id == tenant_id).values(changed))
        return True


def sealed_places() -> Sequence[_Place]:
    """Every JSON column of a tenant's table: one that is added later cannot be forgotten."""
    places = []
    for table in Base.metadata.sorted_tables:
        columns = tuple(column for column in table.columns if isinstance(column.type, JSONB))
        if columns and "tenant_id" in table.columns and table.name not in _LEFT_ALONE:
            key = tuple(column for column in table.primary_key if column.name != "tenant_id")
            places.append(_Place(table, columns, key))
    return places


async def _reseal(database: Database, sealer: Sealer, tenant_id: int, place: _Place, rotation: Rotation) -> int:
    """One walk through a tenant's rows of a table; how many rows with old values somebody held."""
    after: Sequence[Any] | None = None
    held = 0
    name = f"{tenant_id}/{place.table.name}"
    # What cannot be opened is counted by this walk anew.
    rotation.broken.pop(name, None)
    while True:
        async with _transaction(database, tenant_id) as transaction:
            if place.table.name in _HISTORY:
                await transaction.session.execute(_AS_PLATFORM)
            window = await _window(transaction, place, after)
            if window is None:
                return held
            resealed, broken, innocent = await _reseal_window(transaction, sealer, place, after, window)
            waiting = await _count_old(transaction, place, after, window)
        rotation.resealed += resealed
        if broken:
            rotation.broken[name] = rotation.broken.get(name, 0) + broken
        held += max(0, waiting - broken - innocent)
        after = window


async def _window(transaction: Transaction, place: _Place, after: Sequence[Any] | None) -> Sequence[Any] | None:
    """The last key of the next rows; None where there are no more."""
    rows = select(*place.key).where(_between(transaction, place, after, None)).order_by(*place.key).limit(_WINDOW)
    numbered = rows.subquery()
    last = select(*numbered.c).order_by(*(column.desc() for column in numbered.c)).limit(1)
    row = (await transaction.session.execute(last)).one_or_none()
    return None if row is None else tuple(row)


async def _reseal_window(
    transaction: Transaction, sealer: Sealer, place: _Place, after: Sequence[Any] | None, upto: Sequence[Any]
) -> tuple[int, int, int]:
    """Seal the window's old values anew; how many rows were, how many do not open, and how many only look like it."""
    resealed = broken = innocent = 0
    last = after
    while True:
        query = (
            select(place.table)
            .where(_between(transaction, place, last, upto), _has_old(place))
            .order_by(*place.key)
            .limit(_BATCH)
            # Whoever waits for nobody is in nobody's way for long.
            .with_for_update(skip_locked=True)
        )
        rows = (await transaction.session.execute(query)).mappings().all()
        for row in rows:
            try:
                new = _anew(row, sealer, place, transaction.tenant_id)
            except SealBroken:
                broken += 1
                continue
            innocent += not new
            if new:
                whose = and_(*(column == row[column.name] for column in place.table.primary_key))
                await transaction.session.execute(update(place.table).where(whose).values(new))
                resealed += 1
        if len(rows) < _BATCH:
            return resealed, broken, innocent
        last = tuple(rows[-1][column.name] for column in place.key)


def _anew(row: Mapping[Any, Any], sealer: Sealer, place: _Place, tenant_id: int) -> dict[str, Any]:
    """The row's columns that were sealed as of old, as they are sealed now."""
    new: dict[str, Any] = {}
    for column in place.columns:
        stored = row[column.name]
        if is_old(stored):
            where = place_of(place.table.name, column.name, row)
            new[column.name] = sealer.seal(sealer.open(stored, tenant_id, where), tenant_id, where)
    if new and "updated_at" in place.table.c:
        # Nobody has changed it.
        new["updated_at"] = row["updated_at"]
    return new


async def _count_old(transaction: Transaction, place: _Place, after: Sequence[Any] | None, upto: Sequence[Any]) -> int:
    query = (
        select(func.count()).select_from(place.table).where(_between(transaction, place, after, upto), _has_old(place))
    )
    return (await transaction.session.execute(query)).scalar_one()


def _has_old(place: _Place) -> Any:
    return or_(*(cast(column, Text).regexp_match(_OLD) for column in place.columns))


def _between(transaction: Transaction, place: _Place, after: Sequence[Any] | None, upto: Sequence[Any] | None) -> Any:
    tenant = place.table.c.tenant_id == transaction.tenant_id
    key = tuple_(*place.key)
    above = literal(True) if after is None else key > tuple_(*_bound(place, after))
    below = literal(True) if upto is None else key <= tuple_(*_bound(place, upto))
    return and_(tenant, above, below)


def _bound(place: _Place, values: Sequence[Any]) -> list[Any]:
    return [literal(value, column.type) for column, value in zip(place.key, values, strict=True)]


@asynccontextmanager
async def _transaction(database: Database, tenant_id: int) -> AsyncIterator[Transaction]:
    async with database.write(tenant_id, actor=_ACTOR, correlation_id="keys") as transaction:
        transaction.authorize("the operator turns the keys")
        yield transaction
