"""What a plan would change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import strawberry
from strawberry.scalars import JSON

from app.domain.enums import ChangeAction, ChangeSource, Reversibility
from app.domain.estimating import in_rounds, seconds_of
from app.domain.planning import forecast
from schema.context import Info
from schema.fields import described
from schema.nodes import load
from schema.scalars import Duration, json_of
from schema.types.diagnostics import Diagnostic
from schema.types.graphs import ResourceGraph, usual_of
from schema.types.policies import PolicyResult
from schema.types.references import ResourceRef

Stored = Mapping[str, Any]


@strawberry.type(description="How many resources each action meets.")
class ChangeSummary:
    create: int
    update: int
    replace: int
    delete: int
    import_: int = strawberry.field(name="import")
    no_change: int
    run: int

    @classmethod
    def of_json(cls, stored: Stored) -> ChangeSummary:
        return cls(
            create=stored.get("create", 0),
            update=stored.get("update", 0),
            replace=stored.get("replace", 0),
            delete=stored.get("delete", 0),
            import_=stored.get("import", 0),
            no_change=stored.get("noChange", 0),
            run=stored.get("run", 0),
        )


@strawberry.type(description="One property that gets another value. Sensitive values are never shown.")
class PropertyChange:
    path: list[str]
    before: JSON | None
    after: JSON | None
    after_unknown: bool = strawberry.field(description="Only the provider will know the new value.")
    sensitive: bool
    forces_replacement: bool
    source: ChangeSource
    cause: str | None = strawberry.field(description="The expression or upstream change behind it.")
    actual: JSON | None = strawberry.field(description="What is there now, where drift is the source.")

    @classmethod
    def of_json(cls, stored: Stored) -> PropertyChange:
        return cls(
            path=[str(part) for part in stored["path"]],
            before=json_of(stored.get("before")),
            after=json_of(stored.get("after")),
            after_unknown=stored["afterUnknown"],
            sensitive=stored["sensitive"],
            forces_replacement=stored["forcesReplacement"],
            source=ChangeSource(stored["source"]),
            cause=stored.get("cause"),
            actual=json_of(stored.get("actual")),
        )


@strawberry.type(description="What happens to one resource, or one task that is run.")
class ResourceChange:
    stored: strawberry.Private[Stored]
    key: str
    type: str
    action: ChangeAction
    wave: int
    properties: list[PropertyChange]
    reversibility: Reversibility
    downtime: bool
    warnings: list[Diagnostic]

    @strawberry.field
    async def resource(self, info: Info) -> ResourceRef | None:
        row: ResourceRef | None = await load(
            info.context.loaders.resource, self.stored.get("resourceId"), "CloudResource"
        )
        return row

    @classmethod
    def of_json(cls, stored: Stored) -> ResourceChange:
        return cls(
            stored=stored,
            key=stored["key"],
            type=stored["type"],
            action=ChangeAction(stored["action"]),
            wave=stored["wave"],
            properties=[PropertyChange.of_json(change) for change in stored.get("properties", ())],
            reversibility=Reversibility(stored["reversibility"]),
            downtime=bool(stored.get("downtime")),
            warnings=[Diagnostic.of_json(found) for found in stored.get("warnings", ())],
        )


@strawberry.type(description="What a plan would change, as it was computed at `computedAt`.")
class Preview:
    plan_id: strawberry.Private[int | None]
    hash: str
    computed_at: datetime
    summary: ChangeSummary
    changes: list[ResourceChange]
    points_of_no_return: list[str] = strawberry.field(
        description="Keys after which rollback can no longer restore the previous state."
    )

    @described("From how long the like took before; null where a step waits for people or is the first of its kind.")
    async def estimated_duration(self, info: Info) -> Duration | None:
        usual = await usual_of(info)
        seconds = in_rounds((change.wave, seconds_of(change.type, change.action, usual)) for change in self.changes)
        return None if seconds is None else Duration(seconds)

    @described("Whether a resource of the stack has changed since it was computed.")
    async def stale(self, info: Info) -> bool:
        if self.plan_id is None:
            return False
        changed = await info.context.loaders.stack_changed_at.load(self.plan_id)
        return changed is not None and changed > self.computed_at

    @classmethod
    def of_json(cls, stored: Stored, plan_id: int | None = None) -> Preview:
        """From a stored or just computed preview; `plan_id` names the plan whose it is."""
        return cls(
            plan_id=plan_id,
            hash=stored["hash"],
            computed_at=datetime.fromisoformat(stored["computedAt"]),
            summary=ChangeSummary.of_json(stored["summary"]),
            changes=[ResourceChange.of_json(change) for change in stored.get("changes", ())],
            points_of_no_return=list(stored.get("pointsOfNoReturn", ())),
        )


@strawberry.type(description="How one step would be taken back. Those of equal `order` go side by side.")
class Compensation:
    key: str
    order: int
    action: ChangeAction
    reversibility: Reversibility
    detail: str | None

    @classmethod
    def of(cls, found: forecast.Compensation) -> Compensation:
        return cls(
            key=found.key,
            order=found.order,
            action=found.action,
            reversibility=found.reversibility,
            detail=found.detail,
        )


@strawberry.type(
    description="What rollback would do if the plan failed at `failAt`, and all that does not wait for that were done."
)
class RollbackPreview:
    fail_at: str
    compensations: list[Compensation]
    not_reversible: list[Compensation] = strawberry.field(description="Steps that nothing known would undo.")
    residual: list[str] = strawberry.field(description="Steps whose effects would stay.")
    estimated_duration: Duration | None = strawberry.field(
        description="From how long the like took before; null while some of it was never undone."
    )

    @classmethod
    def of(cls, found: forecast.Forecast, seconds: float | None) -> RollbackPreview:
        return cls(
            fail_at=found.fail_at,
            compensations=[Compensation.of(one) for one in found.compensations],
            not_reversible=[Compensation.of(one) for one in found.not_reversible],
            residual=list(found.residual),
            estimated_duration=None if seconds is None else Duration(seconds),
        )


@strawberry.type(description="A dry run. Without a preview, the diagnostics say what is wrong.")
class PreviewResult:
    preview: Preview | None
    graph: ResourceGraph | None
    diagnostics: list[Diagnostic]
    policy_results: list[PolicyResult] = strawberry.field(
        description="What policies say of it. The hash of the preview holds which SOFT_MANDATORY ones fail."
    )
