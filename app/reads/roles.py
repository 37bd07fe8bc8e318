"""Questions about roles that the tenant has named."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import CustomRole
from app.db.pages import Order
from app.reads import rows

ORDER = Order("roles", (CustomRole.name,), CustomRole.id)


def listed(tenant_id: int) -> Select[CustomRole]:
    """The tenant's own roles."""
    return rows.of_tenant(CustomRole, tenant_id)


async def by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, CustomRole]:
    return await rows.by_ids(session, rows.of_tenant(CustomRole, tenant_id), ids)
