"""Questions about resource templates and their revisions. Public templates of other tenants may be read, too."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import ResourceTemplate, TemplateRevision
from app.db.pages import Order
from app.reads import rows
from app.reads.filters import TemplateFilter

_COLUMNS = {
    "CREATED_AT": ResourceTemplate.created_at,
    "UPDATED_AT": ResourceTemplate.updated_at,
    "NAME": ResourceTemplate.template_name,
}


def order(by: str = "CREATED_AT", *, descending: bool = True) -> Order:
    """By CREATED_AT, UPDATED_AT or NAME."""
    return Order(f"template:{by}:{descending}", (_COLUMNS[by],), ResourceTemplate.id, descending)


def _readable(tenant_id: int) -> Select[ResourceTemplate]:
    return select(ResourceTemplate).where(rows.readable(ResourceTemplate, tenant_id), ~ResourceTemplate.is_deleted)


def _readable_revisions(tenant_id: int) -> Select[TemplateRevision]:
    return select(TemplateRevision).where(rows.readable(TemplateRevision, tenant_id))


def listed(tenant_id: int, wanted: TemplateFilter) -> Select[ResourceTemplate]:
    """The tenant's own templates and the public ones, as `wanted` describes."""
    return _readable(tenant_id).where(
        *rows.one_of(ResourceTemplate.status, wanted.status),
        *rows.one_of(ResourceTemplate.template_type, wanted.type),
        *rows.text_conditions(ResourceTemplate.template_name, wanted.name),
        *rows.exactly(ResourceTemplate.is_public, wanted.is_public),
        *rows.tag_conditions(ResourceTemplate.tags, wanted.tags),
    )


def owned(tenant_id: int, wanted: TemplateFilter) -> Select[ResourceTemplate]:
    """Like `listed`, without those of others."""
    return listed(tenant_id, wanted).where(ResourceTemplate.tenant_id == tenant_id)


async def by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, ResourceTemplate]:
    return await rows.by_ids(session, _readable(tenant_id), ids)


async def revisions_by_ids(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, TemplateRevision]:
    return await rows.by_ids(session, _readable_revisions(tenant_id), ids)


def revisions(tenant_id: int) -> rows.Relation[TemplateRevision]:
    """The revisions of a template, newest first."""
    newest = Order("revision", (TemplateRevision.number,), TemplateRevision.id, descending=True)
    return rows.Relation("revisions", _readable_revisions(tenant_id), TemplateRevision.template_id, newest)
