# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""What was seen of conditions and triggers."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from app.db import models
from app.domain.enums import StatusReason
from schema.context import Info
from schema.fields import described
from schema.nodes import load
from schema.scalars import BigInt, json_of
from schema.types.references import PlanRef


@strawberry.type(description="One look at what makes a plan run, or several in a row that saw the same.")
class ConditionEvaluation:
    row: strawberry.Private[models.ConditionEvaluation]

    @strawberry.field
    def at(self) -> datetime:
        return self.row.at

    @described("When the same was seen last.")
    def last_at(self) -> datetime:
        return self.row.last_at

    @described("How often the same was seen.")
    def times(self) -> BigInt:
        return BigInt(self.row.times)

    @strawberry.field
    def result(self) -> bool:
        return self.row.result

    @described("What made us look.")
    def trigger(self) -> str:
        return self.row.trigger

    @described("What was read; the newest of them where several saw the same.")
    def inputs(self) -> JSON | None:
        return json_of(self.row.inputs)

    @described("Why nothing ran; null where something did, or will unless it changes.")
    def skip_reason(self) -> StatusReason | None:
        return self.row.skip_reason

    @described("The same for a person.")
    def message(self) -> str | None:
        return self.row.message

    @described("The plan that ran: the plan itself, or the one that it spawned.")
    async def spawned(self, info: Info) -> PlanRef | None:
        return await load(info.context.loaders.plan, self.row.spawned_plan_id, "DeploymentPlan")
