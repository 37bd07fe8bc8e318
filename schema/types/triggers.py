# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""What standing plans hear."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from app.db import models
from app.domain.automation import TriggerKind
from schema.context import Info
from schema.fields import computed, described
from schema.nodes import load
from schema.scalars import json_of
from schema.types.references import PlanRef

strawberry.enum(TriggerKind)


@strawberry.type(description="What made a run of an AUTOMATED plan.")
class PlanTrigger:
    row: strawberry.Private[models.PlanTrigger]

    @strawberry.field
    def on(self) -> TriggerKind:
        return self.row.kind

    @described("When it was heard.")
    def at(self) -> datetime:
        return self.row.created_at

    @described("What expressions may read as `trigger`, but for the payload of a call.")
    def cause(self) -> JSON | None:
        return json_of(self.row.cause)

    @computed("chain", "The standing plans that led to it, the first first; the one whose run it is comes after them.")
    async def chain(self, info: Info) -> list[PlanRef]:
        plan = info.context.loaders.plan
        found = [await load(plan, number, "DeploymentPlan") for number in self.row.chain]
        return [item for item in found if item is not None]
