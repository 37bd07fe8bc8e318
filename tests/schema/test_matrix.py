"""Every role at every root field, with what is its own tenant's and what is another's: cell by cell."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from app.domain.enums import Permission, Role
from app.domain.permissions import ROLE_PERMISSIONS
from schema.requirements import MUTATIONS, QUERIES, SUBSCRIPTIONS
from tests.schema.belongings import KIND_OF, Owned, belongings, ids_in
from tests.schema.conftest import Access, Api
from tests.schema.test_isolation_of_mutations import APART, GIVEN, WITHOUT_ID, given_type
from tests.schema.test_mutations import _MADE
from tests.schema.verbs import done, send

# What ends those who ask comes after everything else.
LAST = ("rotateApiToken", "deleteUser", "revokeApiToken")
# Whoever may not see a token is not told that it is there.
UNSEEN = {"revokeApiToken", "rotateApiToken"}
NOT_FOUND, FORBIDDEN = "NOT_FOUND", "FORBIDDEN"


# A role that a tenant has named: neither a part of a built-in one nor more than it.
CUSTOM = "CUSTOM"
ALLOWED: dict[str, frozenset[Permission]] = {role.value: allowed for role, allowed in ROLE_PERMISSIONS.items()}
ALLOWED[CUSTOM] = frozenset({Permission.READ, Permission.CANCEL, Permission.APPROVE})


async def somebody(api: Api, role: str) -> Access:
    given: dict[str, Any] = {"role": role}
    if role == CUSTOM:
        allowed = [permission.value for permission in ALLOWED[role]]
        given = {"customRoleId": (await done(api, "createRole", name="own", permissions=allowed))["role"]["id"]}
    user = (await done(api, "createUser", email=f"{role.lower()}@m.example", displayName="x", **given))["user"]
    text = (await done(api, "createApiToken", name="t", userId=user["id"]))["text"]
    return replace(api.acme, token=text)


def order() -> list[str]:
    names = sorted(MUTATIONS.keys() - APART, key=lambda name: (name.startswith(("delete", "detach")), name))
    return [*(name for name in names if name not in LAST), *LAST]


def given(name: str, owned: Owned, role: str) -> dict[str, Any]:
    """What the mutation is sent, about things of `owned`."""
    if name in WITHOUT_ID:
        made = dict(_MADE[name])
        if "name" in made and name != "updateTenant":
            made["name"] = f"{name} {role}"
        return made
    kind, more = GIVEN[name]
    return {**more, **{field: owned.gid(KIND_OF.get(field) or kind or "") for field in ids_in(given_type(name))}}


def needed(name: str) -> Permission:
    # To give somebody else a token takes more than to have one.
    return Permission.ADMIN if name == "createApiToken" else MUTATIONS[name]


@pytest.mark.parametrize("role", [*Role, CUSTOM])
async def test_every_mutation_is_for_those_who_may_and_about_their_own(api: Api, role: str) -> None:
    access = await somebody(api, role)
    theirs, ours = await belongings(api.rival, f"theirs-{role}"), await belongings(api.acme, f"ours-{role}")
    cells: Counter[str] = Counter()
    for name in order():
        may = needed(name) in ALLOWED[role]
        for owned in (theirs, ours):
            if name in WITHOUT_ID and owned is theirs:
                continue
            payload = await send(api, name, given(name, owned, role), access)
            codes = [error["code"] for error in payload["userErrors"]]
            where = (role, name, owned is ours, payload["userErrors"])
            if name in UNSEEN:
                seen = owned is ours and role == Role.ADMIN
                assert codes == ([] if seen else [NOT_FOUND]), where
                cells["allowed" if seen else "refused"] += 1
            elif not may:
                assert codes == [FORBIDDEN], where
                cells["refused"] += 1
            elif owned is theirs:
                assert codes == [NOT_FOUND], where
                cells["not found"] += 1
            else:
                # What the state of things has against it is another question; nothing is in the way of the role.
                assert not {FORBIDDEN} & set(codes), where
                cells["allowed"] += 1
    assert cells.total() == 2 * len(MUTATIONS.keys() - APART) - len(WITHOUT_ID)
    mine = {name for name in order() if name not in UNSEEN and needed(name) in ALLOWED[role]}
    assert cells["allowed"] == len(mine) + len(UNSEEN) * (role == Role.ADMIN)
    assert cells["not found"] == len(mine - WITHOUT_ID)


@pytest.mark.parametrize("role", list(Role))
async def test_every_role_reads(role: Role) -> None:
    apart = {QUERIES["auditLog"]}
    assert ({*QUERIES.values(), *SUBSCRIPTIONS.values()} - apart) <= ROLE_PERMISSIONS[role]
