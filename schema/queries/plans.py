"""Deployment plans, and what a plan would do."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry.scalars import JSON

from app.domain.errors import TypeMismatch
from app.reads import plans as reads
from app.services import plans, previews
from schema.connections import Connection, connect
from schema.context import Info
from schema.fields import described
from schema.nodes import number_in
from schema.queries.nodes import node_of
from schema.scalars import Cursor
from schema.types.diagnostics import Diagnostic
from schema.types.filters import PlanFilter, PlanOrder, ordered, page, wanted_plans
from schema.types.graphs import ResourceGraph
from schema.types.plans import DeploymentPlan
from schema.types.policies import PolicyResult
from schema.types.previews import Preview, PreviewResult, RollbackPreview


@strawberry.input(description="What to preview: a template revision, a workflow, or both.")
class PreviewPlanInput:
    workflow_id: strawberry.ID | None = None
    template_revision_id: strawberry.ID | None = None
    parameters: JSON | None = None
    stack: str | None = strawberry.field(
        default=None, description="The stack whose recorded resources it is compared with; `preview` by default."
    )
    against_plan_id: strawberry.ID | None = strawberry.field(
        default=None, description="A plan: what is left out here is as that plan has it."
    )
    constraints: JSON | None = None
    refresh: bool = strawberry.field(
        default=True, description="Whether drift that was found counts; otherwise it is compared with what was applied."
    )


@strawberry.type
class PlanQueries:
    @strawberry.field
    async def deployment_plan(self, info: Info, id: strawberry.ID) -> DeploymentPlan | None:
        found: DeploymentPlan | None = await node_of(info, id, "DeploymentPlan")
        return found

    @described("Newest first unless ordered otherwise; pages of 20 unless asked, of 100 at most.")
    async def deployment_plans(
        self,
        info: Info,
        filter: PlanFilter | None = None,
        order_by: PlanOrder | None = None,
        first: int | None = None,
        after: Cursor | None = None,
        last: int | None = None,
        before: Cursor | None = None,
    ) -> Connection[DeploymentPlan]:
        order = ordered(reads.order, order_by)
        query = reads.listed(info.context.tenant_id, wanted_plans(filter, info))
        return await connect(info, DeploymentPlan.of, query, order, page(first, after, last, before))

    @described("Dry run without storing anything. Faults of the documents come as diagnostics.")
    async def preview_plan(self, info: Info, input: PreviewPlanInput) -> PreviewResult:
        context = info.context
        command = previews.PreviewPlan(
            workflow_id=None if input.workflow_id is None else number_in(input.workflow_id, "Workflow"),
            template_revision_id=(
                None
                if input.template_revision_id is None
                else number_in(input.template_revision_id, "TemplateRevision")
            ),
            parameters=_object(input.parameters),
            stack=input.stack,
            against_plan_id=(
                None if input.against_plan_id is None else number_in(input.against_plan_id, "DeploymentPlan")
            ),
            constraints=input.constraints,
            refresh=input.refresh,
        )
        async with context.read() as session:
            outcome = await previews.preview(
                session, context.tenant_id, context.principal, command, context.dependencies
            )
        return PreviewResult(
            preview=None if outcome.preview is None else Preview.of_json(outcome.preview),
            graph=None if outcome.graph is None else ResourceGraph.of_json(outcome.graph, outcome.preview),
            diagnostics=[Diagnostic.of(found) for found in outcome.diagnostics],
            policy_results=[PolicyResult.of(found) for found in outcome.findings],
        )

    @described("What would be taken back, in which order, if the plan failed at a step; at its last one by default.")
    async def rollback_preview(self, info: Info, plan_id: strawberry.ID, fail_at: str | None = None) -> RollbackPreview:
        context = info.context
        number = number_in(plan_id, "DeploymentPlan")
        async with context.read() as session:
            found, seconds = await plans.rollback_preview(
                session, context.principal, number, fail_at, context.dependencies
            )
        return RollbackPreview.of(found, seconds)


def _object(given: JSON | None) -> dict[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        message = "parameters are a JSON object"
        raise TypeMismatch(message, path=("input", "parameters"))
    return given
