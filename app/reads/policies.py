"""Questions about policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Policy
from app.db.pages import Order
from app.domain.enums import PolicyLevel
from app.reads import rows

ORDER = Order("policies", (Policy.name,), Policy.id)


@dataclass(frozen=True, slots=True)
class PolicyFilter:
    level: tuple[PolicyLevel, ...] | None = None
    enabled: bool | None = None


def listed(tenant_id: int, wanted: PolicyFilter) -> Select[Policy]:
    """The tenant's policies, as `wanted` describes."""
    enabled = [] if wanted.enabled is None else [Policy.is_enabled == wanted.enabled]
    return rows.of_tenant(Policy, tenant_id).where(*rows.one_of(Policy.level, wanted.level), *enabled)


async def by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, Policy]:
    return await rows.by_ids(session, rows.of_tenant(Policy, tenant_id), ids)
