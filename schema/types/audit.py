# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""The audit log."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from app.db import models
from app.domain.audit import AuditOutcome
from schema.context import Info
from schema.fields import computed, described
from schema.nodes import Node, encode_id, load
from schema.scalars import json_of
from schema.types.entities import actor_of
from schema.types.references import ActorRef


@strawberry.type(description="Something that somebody did, or was refused. It is written with the deed, or not at all.")
class AuditEntry:
    row: strawberry.Private[models.AuditEntry]

    @strawberry.field
    def id(self) -> strawberry.ID:
        return encode_id("AuditEntry", self.row.id)

    @strawberry.field
    def at(self) -> datetime:
        return self.row.at

    @strawberry.field
    async def actor(self, info: Info) -> ActorRef | None:
        return await actor_of(info, self.row.actor)

    @described("The name of the mutation, or `login`, `logout`, `setPassword`.")
    def action(self) -> str:
        return self.row.action

    @strawberry.field
    def outcome(self) -> AuditOutcome:
        return self.row.outcome

    @computed("target_type target_id", "What it was about; null where that is no more, or was nothing by itself.")
    async def target(self, info: Info) -> Node | None:
        kind = self.row.target_type or ""
        loader = info.context.loaders.of_type(kind)
        return None if loader is None else await load(loader, self.row.target_id, kind)

    @described("By 'Type:number', the columns that changed, as they were. No secrets; what is long is left out.")
    def before(self) -> JSON | None:
        return json_of(self.row.before)

    @described("The same as they are since; for what was refused, the reason.")
    def after(self) -> JSON | None:
        return json_of(self.row.after)

    @described("Where the request came from.")
    def ip(self) -> str | None:
        return self.row.address

    @described("Joins it with the events and log lines of the same request.")
    def request_id(self) -> str:
        return self.row.request_id

    @computed("", "Null for the few seconds until it is sealed.")
    async def chain_hash(self, info: Info) -> str | None:
        seal = await info.context.loaders.audit_seal.load(self.row.id)
        return None if seal is None else seal.hash.hex()
