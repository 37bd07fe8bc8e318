"""Rows that a verb is about: found, locked, compared with the version that was read, and stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.exc import IntegrityError

from app.db.models import Base, DeploymentPlan, Tenant
from app.db.uow import Transaction
from app.domain.errors import Conflict, DomainError, NotFound, StaleVersion
from app.domain.statuses import PLAN

Row = TypeVar("Row")


async def locked(transaction: Transaction, query: Select[Row], what: str) -> Row:
    """The one row of `query`, locked. Raises NotFound; `what` is a noun."""
    row = (await transaction.session.execute(query.with_for_update())).scalar_one_or_none()
    if row is None:
        message = f"there is no such {what}"
        raise NotFound(message, path=("id",))
    found: Row = row
    return found


def same_version(current: int, expected: int | None, what: str) -> None:
    """Raises StaleVersion when somebody changed the row since it was read as `expected`. None does not care."""
    if expected is not None and current != expected:
        message = f"the {what} has changed: it is at version {current}, not {expected}"
        raise StaleVersion(message, current=current, path=("expectedVersion",))


async def one_at_a_time(transaction: Transaction) -> None:
    """Wait until no other transaction is at such an act in this tenant: for rules about several rows.

    Take it before any other lock. The lock is one that references to the tenant do not wait for.
    """
    await transaction.session.execute(
        select(Tenant.id).where(Tenant.id == transaction.tenant_id).with_for_update(key_share=True)
    )


async def refuse_while_used(transaction: Transaction, uses: ColumnElement[bool], what: str) -> None:
    """Raises Conflict while plans that are not over use the row; `uses` is a condition on DeploymentPlan."""
    used = await transaction.session.scalar(
        select(func.count())
        .select_from(DeploymentPlan)
        .where(
            DeploymentPlan.tenant_id == transaction.tenant_id,
            DeploymentPlan.status.not_in(PLAN.closed | PLAN.settled),
            ~DeploymentPlan.is_deleted,
            uses,
        )
    )
    if used:
        message = f"plans that are not over use this {what}: {used} of them"
        raise Conflict(message, path=("id",))


async def store(transaction: Transaction, row: Base, taken: Mapping[str, DomainError] | None = None) -> None:
    """Write a new or changed row, and read back what the database made of it.

    `taken` says, by name of a unique index, what to raise when another row is already so. After that nothing more can
    be done in this transaction.
    """
    transaction.session.add(row)
    try:
        await transaction.session.flush()
    except IntegrityError as error:
        violated = str(getattr(getattr(error.orig, "__cause__", None), "constraint_name", None))
        refusal = (taken or {}).get(violated)
        if refusal is not None:
            raise refusal from error
        raise
    await transaction.session.refresh(row)
