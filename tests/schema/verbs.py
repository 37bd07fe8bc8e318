"""Mutations as clients send them, and what a database holds before and after."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
from graphql import GraphQLField, GraphQLObjectType, build_schema, get_named_type

from schema.printing import printed
from tests.schema.conftest import Access, Api

SCHEMA = build_schema(printed())
ERRORS = """userErrors { __typename code message path
  ... on ValidationError { diagnostics { severity code message path } }
  ... on CycleError { cycle { from to explicit path expression } }
  ... on ConflictError { currentVersion node { id } }
  ... on IllegalStateError { status availableActions { action allowed } }
  ... on LockedError { blockers { reason message since estimatedStart node { id } } }
  ... on QuotaError { quota { key limit used } }
  ... on PermissionError { required }
  ... on StalePreviewError { current { hash } } }"""
_AUDIT = "id version createdAt updatedAt createdBy { ... on User { email } } updatedBy { ... on User { email } }"
# What is asked of each object that a payload can hold.
OBJECTS = {
    "plan": f"""{_AUDIT} name type status statusReason statusMessage stack description parameters configuration metadata
        failureStrategy diagnostics {{ code path }} activeJob {{ id }} lastJob {{ id }} graph {{ nodes {{ key }} }}
        policyResults {{ policy level passed message path }}
        preview {{ hash summary {{ create noChange }} changes {{ key action }} }}
        approvals {{ required granted previewHash deadline
          reviews {{ decision comment previewHash by {{ email }} }} }}""",
    "job": f"""{_AUDIT} name type status stage direction simulated stack description metadata plan {{ id status }}
        steps {{ key status }}""",
    "resourceTemplate": f"""{_AUDIT} name type status description isPublic tags metadata content parameters outputs
        dependencies latest {{ id number }}""",
    "revision": "id number status checksum content publishedAt",
    "workflow": f"""{_AUDIT} name type status description isActive definition parameters triggers conditions actions
        metadata steps {{ id key version }}""",
    "workflowStep": f"{_AUDIT} key name type stepOrder inputs configuration checkpoint dependsOn {{ key }}",
    "cloudResource": f"""{_AUDIT} key name type status stack retain preventDestroy driftStatus externalId applied
        drift {{ path expected actual sensitive }} driftIgnoreRules {{ path reason expiresAt expired }}
        observationError {{ code message }} ownerPlan {{ id }}""",
    "tenant": f"{_AUDIT} name slug",
    "user": f"{_AUDIT} email displayName role customRole {{ id }}",
    "apiToken": "id name scopes revokedAt user { id } customRole { id }",
    "connection": f"{_AUDIT} name provider config isDefault",
    "policy": f"{_AUDIT} name level subject when require message timeZone enabled description",
    "serviceAccount": f"{_AUDIT} name role mayApprove scopes customRole {{ id }}",
    "role": f"{_AUDIT} name description permissions",
    "platformAccess": "id administrator role reason expiresAt endedAt active endedBy { ... on User { email } }",
    "webhook": f"{_AUDIT} name url types selection status statusReason cursor failures lastError nextAttemptAt",
    "delivery": "id source type messageId cursor attempt status statusCode error answer",
    "secret": "",
    "text": "",
    "path": "",
    "signingSecret": "",
    "deletedId": "",
}
_COMMON = {"userErrors", "replayed", "requestId"}


def mutations() -> dict[str, GraphQLField]:
    """Every mutation of the schema, by name."""
    kind = SCHEMA.mutation_type
    assert kind is not None
    fields: dict[str, GraphQLField] = kind.fields
    return fields


def document(name: str) -> str:
    """The mutation with all that its payload has."""
    field = mutations()[name]
    payload = get_named_type(field.type)
    assert isinstance(payload, GraphQLObjectType)
    found = [
        f"{part} {{ {OBJECTS[part]} }}" if OBJECTS[part] else part for part in payload.fields if part not in _COMMON
    ]
    objects = " ".join(found)
    return (
        f"mutation($input: {field.args['input'].type}) {{ {name}(input: $input) {{ {objects} replayed requestId"
        f" {ERRORS} }} }}"
    )


async def send(api: Api, name: str, given: dict[str, Any], access: Access | None = None) -> dict[str, Any]:
    """The payload of a mutation; with a new idempotency key unless `given` has one."""
    variables = {"input": {"idempotencyKey": uuid4().hex, **given}}
    payload: dict[str, Any] = (await api.data(document(name), variables, access=access))[name]
    return payload


async def done(api: Api, name: str, access: Access | None = None, /, **given: Any) -> dict[str, Any]:
    """The payload of a mutation that must be carried out, and for the first time."""
    payload = await send(api, name, given, access)
    assert (payload["userErrors"], payload["replayed"]) == ([], False), (name, payload["userErrors"])
    return payload


async def refused(api: Api, name: str, access: Access | None = None, /, **given: Any) -> list[dict[str, Any]]:
    """Why a mutation is refused. It must be, and then has nothing else to say."""
    payload = await send(api, name, given, access)
    assert payload["userErrors"], f"{name} was not refused"
    assert payload["replayed"] is False
    assert {payload[part] for part in payload if part not in _COMMON} == {None}
    errors: list[dict[str, Any]] = payload["userErrors"]
    return errors


@dataclass(frozen=True, slots=True)
class Contents:
    """What every table holds, by name: the number of its rows, and a digest of them."""

    tables: dict[str, tuple[int, str]]

    @classmethod
    async def of(cls, url: str) -> Contents:
        """The whole database, of all tenants.

        That a token was used is noted, and so is whatever is refused: that column and that table are left out.
        """
        connection = await asyncpg.connect(url)
        try:
            names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            found = {}
            for name in sorted({row["tablename"] for row in names} - {"audit_entry"}):
                rows = await connection.fetch(
                    f"SELECT (to_jsonb(t) - 'last_used_at')::text AS row FROM {name} t ORDER BY 1"
                )
                digest = hashlib.sha256("\n".join(row["row"] for row in rows).encode())
                found[name] = (len(rows), digest.hexdigest())
            return cls(found)
        finally:
            await connection.close()
