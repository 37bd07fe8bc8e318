"""The one place with policy, without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from app.auth.principal import Principal
from app.domain.enums import Permission, Role
from app.domain.errors import Forbidden
from app.services.authorizing import authorize


class Receipts:
    """A transaction, as much of it as matters here."""

    tenant_id = 7

    def __init__(self) -> None:
        self.receipts: list[str] = []

    def authorize(self, receipt: str) -> None:
        self.receipts.append(receipt)


def asked(tenant_id: int, *permissions: Permission, subject: str | None = None) -> list[str]:
    until = datetime(2027, 1, 1, tzinfo=UTC)
    principal = Principal(tenant_id, "acme", 12, Role.OPERATOR, frozenset(permissions), 1, until)
    receipts = Receipts()
    try:
        authorize(cast("Any", receipts), principal, Permission.WRITE, subject)
    except Forbidden:
        assert receipts.receipts == []
        raise
    return receipts.receipts


def test_who_may_leaves_a_receipt_that_says_who_what_and_to_what() -> None:
    assert asked(7, Permission.WRITE) == ["user:12 WRITE tenant"]
    assert asked(7, Permission.WRITE, Permission.READ, subject="plan 3") == ["user:12 WRITE plan 3"]


@pytest.mark.parametrize(
    ("tenant_id", "permissions", "message"),
    [
        (7, (), "this needs the permission WRITE"),
        (7, (Permission.READ, Permission.ADMIN), "this needs the permission WRITE"),
        (8, (Permission.WRITE,), "this belongs to another tenant"),
        (8, tuple(Permission), "this belongs to another tenant"),
        (8, (), "this belongs to another tenant"),
    ],
)
def test_who_may_not_is_told_what_it_takes(tenant_id: int, permissions: tuple[Permission, ...], message: str) -> None:
    with pytest.raises(Forbidden) as refused:
        asked(tenant_id, *permissions)
    assert (refused.value.message, refused.value.required) == (message, "WRITE")
