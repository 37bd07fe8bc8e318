"""Making tokens useless, one row after the other: so that the audit log says which they were."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, select

from app import clock
from app.db.models import ApiToken
from app.db.uow import Transaction


async def revoke_where(transaction: Transaction, *conditions: ColumnElement[bool]) -> Sequence[ApiToken]:
    """Revoke the tenant's tokens that meet all conditions and are not revoked yet; those are what is given back.

    One that somebody else revokes meanwhile is not among them.
    """
    found = await transaction.session.scalars(
        select(ApiToken)
        .where(ApiToken.tenant_id == transaction.tenant_id, ApiToken.revoked_at.is_(None), *conditions)
        .order_by(ApiToken.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    tokens = found.all()
    now = clock.utc_now()
    for token in tokens:
        token.revoked_at, token.updated_by = now, transaction.actor
    await transaction.session.flush()
    return tokens
