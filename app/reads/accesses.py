"""Questions about platform administrators who were let into the tenant."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import PlatformAccess
from app.db.pages import Order
from app.reads import rows

ORDER = Order("accesses", (), PlatformAccess.id, descending=True)


def listed(tenant_id: int) -> Select[PlatformAccess]:
    """All of them, also those that are over."""
    return rows.of_tenant(PlatformAccess, tenant_id)


async def by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, PlatformAccess]:
    return await rows.by_ids(session, rows.of_tenant(PlatformAccess, tenant_id), ids)
