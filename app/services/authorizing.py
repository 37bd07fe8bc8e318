"""The only place with policy: may this principal do that, in this tenant."""

from __future__ import annotations

from app.auth.principal import Principal
from app.db.uow import Transaction
from app.domain.enums import Permission
from app.domain.errors import Forbidden


def authorize(
    transaction: Transaction, principal: Principal, permission: Permission, subject: str | None = None
) -> None:
    """Let `principal` do what `permission` names, and leave the receipt without which nothing is committed.

    `subject` names what it is done to, for the receipt. Raises Forbidden.
    """
    if principal.tenant_id != transaction.tenant_id:
        message = "this belongs to another tenant"
        raise Forbidden(message, required=permission.value)
    if not principal.may(permission):
        message = f"this needs the permission {permission.value}"
        raise Forbidden(message, required=permission.value)
    transaction.authorize(f"{principal.actor} {permission.value} {subject or 'tenant'}")
