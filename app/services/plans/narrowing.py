"""The resources that alone a plan is about."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from app.db.models import CloudResource
from app.db.uow import Transaction
from app.domain.errors import Invalid, LimitExceeded, NotFound
from app.domain.statuses import RESOURCE

_PATH = ("resourceIds",)
_MOST = 1_000


async def only_keys(transaction: Transaction, stack: str, ids: Sequence[int]) -> list[str] | None:
    """The keys of these resources; None where there are none. Raises NotFound, Invalid for those of another stack."""
    if not ids:
        return None
    if len(ids) > _MOST:
        message = f"a plan names at most {_MOST} resources"
        raise LimitExceeded(message, path=_PATH)
    found = await transaction.session.execute(
        select(CloudResource.id, CloudResource.stack, CloudResource.resource_key).where(
            CloudResource.tenant_id == transaction.tenant_id,
            CloudResource.id.in_(ids),
            CloudResource.status.not_in(RESOURCE.closed),
            ~CloudResource.is_deleted,
        )
    )
    rows = {row.id: row for row in found}
    if len(rows) < len(set(ids)):
        message = "there is no such resource"
        raise NotFound(message, path=_PATH)
    for row in rows.values():
        if row.stack != stack:
            message = f"the resource '{row.resource_key}' is of the stack '{row.stack}', the plan of '{stack}'"
            raise Invalid(message, path=_PATH)
    return sorted({row.resource_key for row in rows.values()})
