# mypy: disable-error-code="no-any-return"
# Objects of other modules are made by name (schema.nodes), because types refer to each other in circles.
"""Workflows and the steps they define."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from app.db import models
from app.domain import retrying
from app.domain.definitions.workflow import StepDefinition
from app.domain.enums import DefinitionStatus, ErrorClass, FailureStrategy, StepType, WorkflowType
from app.reads import plans as plan_reads
from schema.connections import Connection, connect_children
from schema.context import Info
from schema.fields import computed, described
from schema.nodes import load, view
from schema.scalars import BigInt, Cursor, Duration, json_of, required_json_of
from schema.types.entities import Entity
from schema.types.filters import PlanFilter, page, wanted_plans
from schema.types.graphs import ResourceGraph
from schema.types.references import PlanRef, TenantRef, WorkflowRef


@strawberry.type(description="How often and when a failed step is tried again.")
class RetryPolicy:
    max_attempts: int
    initial_interval: Duration
    multiplier: float
    max_interval: Duration
    jitter: bool
    retry_on: list[ErrorClass]
    non_retryable_codes: list[str] = strawberry.field(
        description="Errors with these codes are not tried again, whatever their class."
    )

    @classmethod
    def of(cls, policy: retrying.RetryPolicy) -> RetryPolicy:
        return cls(
            max_attempts=policy.max_attempts,
            initial_interval=Duration(policy.initial_seconds),
            multiplier=policy.multiplier,
            max_interval=Duration(policy.max_seconds),
            jitter=policy.jitter,
            retry_on=list(policy.retry_on),
            non_retryable_codes=list(policy.never_on),
        )


@strawberry.type(description="What follows when a step fails for good.")
class ErrorHandling:
    strategy: FailureStrategy | None = strawberry.field(description="Null: as the plan says.")
    compensate: JSON | None = strawberry.field(description="The task that undoes this step.")
    ignore: bool = strawberry.field(description="Whether the job goes on as if nothing had happened.")


@strawberry.type(description="One step as defined.")
class WorkflowStep(Entity):
    row: strawberry.Private[models.WorkflowStep]

    @described("Unique within the workflow.")
    def key(self) -> str:
        return self.row.step_key

    @strawberry.field
    def name(self) -> str:
        return self.row.step_name

    @strawberry.field
    def description(self) -> str | None:
        return self.row.description

    @described("Equal means in parallel, the next one waits for all before it.")
    def step_order(self) -> int:
        return self.row.step_order

    @strawberry.field
    def type(self) -> StepType:
        return self.row.step_type

    @strawberry.field
    def status(self) -> DefinitionStatus:
        return self.row.status

    @strawberry.field
    def configuration(self) -> JSON | None:
        return json_of(self.row.configuration)

    @strawberry.field
    def inputs(self) -> JSON | None:
        return json_of(self.row.inputs)

    @strawberry.field
    def outputs(self) -> JSON | None:
        return json_of(self.row.outputs)

    @strawberry.field
    def conditions(self) -> JSON | None:
        return json_of(self.row.conditions)

    @strawberry.field
    def actions(self) -> JSON | None:
        return json_of(self.row.actions)

    @strawberry.field
    def metadata(self) -> JSON | None:
        return json_of(self.row.metadata_)

    @computed("timeout_seconds", "How long one attempt may take.")
    def timeout(self) -> Duration | None:
        return None if self.row.timeout_seconds is None else Duration(self.row.timeout_seconds)

    @computed(
        "workflow_id step_key", "How long all attempts may take together, polling included. Null: as the plan says."
    )
    async def total_timeout(self, info: Info) -> Duration | None:
        defined = await self._defined(info)
        return None if defined is None or defined.total_seconds is None else Duration(defined.total_seconds)

    @computed(
        "workflow_id step_key",
        "How long a provider that says how far it is may say nothing. Null: as long as it likes.",
    )
    async def heartbeat(self, info: Info) -> Duration | None:
        defined = await self._defined(info)
        return None if defined is None or defined.heartbeat_seconds is None else Duration(defined.heartbeat_seconds)

    @strawberry.field
    def retry_count(self) -> int:
        return self.row.retry_count

    @strawberry.field
    async def workflow(self, info: Info) -> WorkflowRef | None:
        return await load(info.context.loaders.workflow, self.row.workflow_id, "Workflow")

    @computed("workflow_id step_key", "The steps that have to be done before this one.")
    async def depends_on(self, info: Info) -> list[WorkflowStep]:
        definition = await info.context.loaders.workflow_definition.load(self.row.workflow_id)
        if definition is None or self.row.step_key not in definition.graph.nodes:
            return []
        needed = definition.graph.needs(self.row.step_key)
        steps = await info.context.loaders.workflow_steps.load(self.row.workflow_id)
        return [WorkflowStep.of(row) for row in steps if row.step_key in needed]

    @computed("workflow_id step_key")
    async def retry(self, info: Info) -> RetryPolicy:
        defined = await self._defined(info)
        return RetryPolicy.of(retrying.RetryPolicy() if defined is None else defined.retry)

    @computed("workflow_id step_key error_handling")
    async def error_handling(self, info: Info) -> ErrorHandling:
        defined = await self._defined(info)
        stored = self.row.error_handling or {}
        return ErrorHandling(
            strategy=None if defined is None else defined.strategy,
            compensate=json_of(stored.get("compensate")),
            ignore=bool(stored.get("ignore")),
        )

    @computed("workflow_id step_key", "A rollback to a checkpoint ends here.")
    async def checkpoint(self, info: Info) -> bool:
        defined = await self._defined(info)
        return defined is not None and defined.checkpoint

    async def _defined(self, info: Info) -> StepDefinition | None:
        definition = await info.context.loaders.workflow_definition.load(self.row.workflow_id)
        if definition is None:
            return None
        return next((step for step in definition.steps if step.key == self.row.step_key), None)


@strawberry.type(description="A process of steps, reusable by many plans.")
class Workflow(Entity):
    row: strawberry.Private[models.Workflow]

    @strawberry.field
    def name(self) -> str:
        return self.row.workflow_name

    @strawberry.field
    def description(self) -> str | None:
        return self.row.description

    @strawberry.field
    def type(self) -> WorkflowType:
        return self.row.workflow_type

    @strawberry.field
    def status(self) -> DefinitionStatus:
        return self.row.status

    @strawberry.field
    def is_active(self) -> bool:
        return self.row.is_active

    @strawberry.field
    def definition(self) -> JSON:
        return required_json_of(self.row.definition)

    @strawberry.field
    def parameters(self) -> JSON | None:
        return json_of(self.row.parameters)

    @strawberry.field
    def triggers(self) -> JSON | None:
        return json_of(self.row.triggers)

    @strawberry.field
    def conditions(self) -> JSON | None:
        return json_of(self.row.conditions)

    @strawberry.field
    def actions(self) -> JSON | None:
        return json_of(self.row.actions)

    @strawberry.field
    def metadata(self) -> JSON | None:
        return json_of(self.row.metadata_)

    @strawberry.field
    async def tenant(self, info: Info) -> TenantRef | None:
        return await load(info.context.loaders.tenant, self.row.tenant_id, "Tenant")

    @described("In their order.")
    async def steps(self, info: Info) -> list[WorkflowStep]:
        return [WorkflowStep.of(row) for row in await info.context.loaders.workflow_steps.load(self.row.id)]

    @computed("", "Null while the definition does not make sense.")
    async def graph(self, info: Info) -> ResourceGraph | None:
        definition = await info.context.loaders.workflow_definition.load(self.row.id)
        if definition is None:
            return None
        types = {step.key: step.type.value for step in definition.steps}
        return ResourceGraph.of(definition.graph, "step", types.__getitem__)

    @strawberry.field
    def last_executed_at(self) -> datetime | None:
        return self.row.last_executed

    @strawberry.field
    def execution_count(self) -> BigInt:
        return BigInt(self.row.execution_count)

    @strawberry.field
    def success_count(self) -> BigInt:
        return BigInt(self.row.success_count)

    @strawberry.field
    def failure_count(self) -> BigInt:
        return BigInt(self.row.failure_count)

    @described("The plans that execute it, newest first.")
    async def plans(
        self, info: Info, filter: PlanFilter | None = None, first: int = 20, after: Cursor | None = None
    ) -> Connection[PlanRef]:
        relation = plan_reads.of_workflow(info.context.tenant_id, wanted_plans(filter, info))
        return await connect_children(info, view("DeploymentPlan"), relation, self.row.id, page(first, after))
