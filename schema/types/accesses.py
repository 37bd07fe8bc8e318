"""Platform administrators who were let in."""

from __future__ import annotations

from datetime import datetime

import strawberry

from app import clock
from app.db import models
from app.domain.enums import Role
from schema.context import Info
from schema.fields import computed, described
from schema.nodes import Node
from schema.types.entities import actor_of
from schema.types.references import ActorRef


@strawberry.type(
    description="One time that somebody who runs the installation is in the tenant. What they do there is done by it."
)
class PlatformAccess(Node):
    row: strawberry.Private[models.PlatformAccess]

    @described("The e-mail address of the platform administrator.")
    def administrator(self) -> str:
        return self.row.administrator

    @described("What they may.")
    def role(self) -> Role:
        return self.row.role

    @described("Why they came, in their words.")
    def reason(self) -> str:
        return self.row.reason

    @strawberry.field
    def opened_at(self) -> datetime:
        return self.row.created_at

    @described("It is over then at the latest.")
    def expires_at(self) -> datetime:
        return self.row.expires_at

    @described("When it was ended before its time.")
    def ended_at(self) -> datetime | None:
        return self.row.ended_at

    @strawberry.field
    async def ended_by(self, info: Info) -> ActorRef | None:
        actor: ActorRef | None = await actor_of(info, self.row.ended_by)
        return actor

    @computed("expires_at ended_at", "Whether they can do anything now.")
    def active(self) -> bool:
        return self.row.expires_at > clock.utc_now() and self.row.ended_at is None
