from __future__ import annotations

from itertools import combinations

import pytest

from app.domain.enums import Permission, Role
from app.domain.permissions import ROLE_PERMISSIONS, effective, granted

MATRIX = {
    Role.VIEWER: "READ",
    Role.OPERATOR: "READ WRITE EXECUTE CANCEL ROLLBACK DELETE",
    Role.APPROVER: "READ APPROVE",
    Role.ADMIN: "READ WRITE APPROVE EXECUTE CANCEL ROLLBACK DELETE ADMIN",
}


def test_roles_are_the_documented_sets() -> None:
    assert {role: frozenset(Permission(name) for name in names.split()) for role, names in MATRIX.items()} == dict(
        ROLE_PERMISSIONS
    )


@pytest.mark.parametrize("role", list(Role))
def test_a_token_never_widens_its_role(role: Role) -> None:
    for size in range(len(Permission) + 1):
        for scopes in combinations(Permission, size):
            names = [scope.value for scope in scopes]
            assert effective(ROLE_PERMISSIONS[role], names, None) == ROLE_PERMISSIONS[role] & set(scopes)
            assert effective(ROLE_PERMISSIONS[role], list(Permission), names) == ROLE_PERMISSIONS[role] & set(scopes)
            assert granted(role, names) == set(scopes)


def test_unknown_scopes_give_nothing() -> None:
    everything = ROLE_PERMISSIONS[Role.ADMIN]
    assert effective(everything, ["EVERYTHING", "read", ""], None) == frozenset()
    assert effective(everything, list(Permission), ["EVERYTHING", "read", ""]) == frozenset()
    assert granted(Role.ADMIN, ["EVERYTHING", "read", ""]) == frozenset()


def test_nobody_but_an_administrator_both_asks_and_approves() -> None:
    both = {role for role, granted in ROLE_PERMISSIONS.items() if {Permission.WRITE, Permission.APPROVE} <= granted}
    assert both == {Role.ADMIN}
