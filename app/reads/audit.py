"""Questions about the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import AuditEntry, AuditSeal
from app.db.pages import Order
from app.reads import rows
from app.reads.filters import DateRange, TextFilter

ORDER = Order("audit", (), AuditEntry.id, descending=True)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    actor: str | None = None
    target: tuple[str, int] | None = None
    action: TextFilter | None = None
    at: DateRange | None = None


def listed(tenant_id: int, wanted: AuditFilter) -> Select[AuditEntry]:
    """The tenant's entries, as `wanted` describes."""
    query = select(AuditEntry).where(AuditEntry.tenant_id == tenant_id)
    if wanted.actor is not None:
        query = query.where(AuditEntry.actor == wanted.actor)
    if wanted.target is not None:
        kind, number = wanted.target
        query = query.where(AuditEntry.target_type == kind, AuditEntry.target_id == number)
    return query.where(
        *rows.text_conditions(AuditEntry.action, wanted.action), *rows.range_conditions(AuditEntry.at, wanted.at)
    )


async def seals_of(session: AsyncSession, tenant_id: int, entry_ids: Sequence[int]) -> dict[int, AuditSeal]:
    """By entry: its place in the chain, where it has one already."""
    found = await session.scalars(
        select(AuditSeal).where(AuditSeal.tenant_id == tenant_id, AuditSeal.entry_id.in_(entry_ids))
    )
    return {seal.entry_id: seal for seal in found}


async def chain(session: AsyncSession, tenant_id: int, after: int, limit: int) -> list[tuple[int, str, str]]:
    """The next sealed entries behind place `after`: place, hash and the text that was hashed."""
    entry: str = "audit_text(audit_entry)"
    found = await session.execute(
        select(AuditSeal.seq, func.encode(AuditSeal.hash, "hex"), literal_column(entry))
        .select_from(AuditSeal)
        .join(AuditEntry, (AuditEntry.tenant_id == AuditSeal.tenant_id) & (AuditEntry.id == AuditSeal.entry_id))
        .where(AuditSeal.tenant_id == tenant_id, AuditSeal.seq > after)
        .order_by(AuditSeal.seq)
        .limit(limit)
    )
    return [(row[0], row[1], row[2]) for row in found]
