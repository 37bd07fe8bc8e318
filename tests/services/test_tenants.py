from __future__ import annotations

import pytest

from app.db.models import Tenant
from app.domain.enums import Permission, Role
from app.domain.errors import DomainError, Forbidden, Invalid, Required, StaleVersion
from app.services.authorizing import authorize
from app.services.tenants import RenameTenant, rename
from tests.factories.tenants import Access, member


async def _rename(access: Access, name: str, expected_version: int | None = None) -> Tenant:
    async with access.write() as transaction:
        return await rename(transaction, access.principal, RenameTenant(name, expected_version))


async def test_an_administrator_renames_the_tenant(acme: Access, rival: Access) -> None:
    tenant = await _rename(acme, "  Acme & Sons ", 1)
    assert (tenant.name, tenant.slug, tenant.version) == ("Acme & Sons", "acme", 2)
    assert tenant.updated_by == acme.principal.actor
    assert tenant.updated_at > tenant.created_at
    async with rival.database.read(rival.tenant_id) as session:
        other = await session.get_one(Tenant, rival.tenant_id)
    assert other.name == "Rival"


@pytest.mark.parametrize(("name", "kind"), [("", Required), ("  ", Required), ("x" * 201, Invalid)])
async def test_a_name_is_there_and_bounded(acme: Access, name: str, kind: type[DomainError]) -> None:
    with pytest.raises(kind) as refused:
        await _rename(acme, name)
    assert refused.value.path == ("name",)


async def test_a_stale_version_is_refused_with_the_current_one(acme: Access) -> None:
    await _rename(acme, "Second", 1)
    with pytest.raises(StaleVersion) as refused:
        await _rename(acme, "Third", 1)
    assert refused.value.current == 2
    assert refused.value.path == ("expectedVersion",)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.APPROVER])
async def test_only_an_administrator_may(acme: Access, role: Role) -> None:
    somebody = await member(acme, role)
    with pytest.raises(Forbidden) as refused:
        await _rename(somebody, "Taken over")
    assert refused.value.required == Permission.ADMIN


async def test_a_principal_of_another_tenant_is_never_authorized(acme: Access, rival: Access) -> None:
    async with acme.write() as transaction:
        with pytest.raises(Forbidden):
            authorize(transaction, rival.principal, Permission.READ)
        assert transaction.receipt is None
        authorize(transaction, acme.principal, Permission.READ, "plan:1")
        assert transaction.receipt == f"{acme.principal.actor} READ plan:1"
