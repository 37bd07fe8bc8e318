"""What an administrator may do with the tenant itself."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from app.auth.principal import Principal
from app.db.models import Tenant
from app.db.uow import Transaction
from app.domain.enums import Permission
from app.services.authorizing import authorize
from app.services.faults import name_fault, refuse
from app.services.records import locked, same_version, store

NAME_LIMIT = 200


@dataclass(frozen=True, slots=True)
class RenameTenant:
    """Another name for the tenant. Its slug stays: addresses are made of it."""

    name: str
    expected_version: int | None = None


async def rename(transaction: Transaction, principal: Principal, command: RenameTenant) -> Tenant:
    """Give the principal's tenant another name."""
    authorize(transaction, principal, Permission.ADMIN)
    refuse([name_fault(command.name, NAME_LIMIT, "the name of the tenant", "name")])
    query = select(Tenant).where(Tenant.id == transaction.tenant_id, ~Tenant.is_deleted)
    tenant = await locked(transaction, query, "tenant")
    same_version(tenant.version, command.expected_version, "tenant")
    tenant.name = command.name.strip()
    tenant.updated_by = transaction.actor
    await store(transaction, tenant)
    return tenant
