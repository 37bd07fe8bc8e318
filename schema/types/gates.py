"""Questions inside a run, and their answers."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from app.db import models
from app.domain.enums import FailureStrategy, GateKind
from schema.context import Info
from schema.fields import computed, described
from schema.scalars import json_of
from schema.types.entities import actor_of
from schema.types.references import ActorRef


@strawberry.type(description="What a step waits for: a person, a word from outside, or a time.")
class Gate:
    row: strawberry.Private[models.Gate]

    @strawberry.field
    def kind(self) -> GateKind:
        return self.row.kind

    @strawberry.field
    def prompt(self) -> str:
        return self.row.prompt

    @described("The form of the answer, as a JSON Schema.")
    def input_schema(self) -> JSON | None:
        return json_of(self.row.input_schema)

    @computed("approvers", "Those who alone may answer; empty, whoever has APPROVE may.")
    async def approvers(self, info: Info) -> list[ActorRef]:
        found = [await actor_of(info, name) for name in self.row.approvers]
        return [actor for actor in found if actor is not None]

    @computed("delegations", "Whom else those who may answer have let do so, the first first.")
    async def delegates(self, info: Info) -> list[ActorRef]:
        found = [await actor_of(info, one["to"]) for one in self.row.delegations or ()]
        return [actor for actor in found if actor is not None]

    @strawberry.field
    def deadline(self) -> datetime | None:
        return self.row.deadline_at

    @described("The failure strategy that applies when nobody answers in time.")
    def on_timeout(self) -> FailureStrategy:
        return self.row.on_timeout

    @described("False: rejected.")
    def approved(self) -> bool | None:
        return self.row.approved

    @strawberry.field
    async def answered_by(self, info: Info) -> ActorRef | None:
        actor: ActorRef | None = await actor_of(info, self.row.answered_by)
        return actor

    @strawberry.field
    def answered_at(self) -> datetime | None:
        return self.row.answered_at

    @strawberry.field
    def answer(self) -> JSON | None:
        return json_of(self.row.answer)

    @strawberry.field
    def comment(self) -> str | None:
        return self.row.comment
