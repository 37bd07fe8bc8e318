"""Mutations of workflows and their steps."""

from __future__ import annotations

import strawberry
from strawberry.scalars import JSON

from app.db.uow import Transaction
from app.services import workflows
from schema.context import Info
from schema.enums import WorkflowType
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import DeletedPayload, WorkflowPayload, WorkflowStepPayload, mapping, mutate

_WORKFLOW, _STEP = "Workflow", "WorkflowStep"


@strawberry.input
class CreateWorkflowInput:
    idempotency_key: str
    name: str
    type: WorkflowType
    definition: JSON = strawberry.field(description="{parameters?, steps}")
    description: str | None = None
    parameters: JSON | None = None
    triggers: JSON | None = None
    conditions: JSON | None = None
    actions: JSON | None = None
    metadata: JSON | None = None


@strawberry.input(description="A field that is left out or null stays as it is.")
class UpdateWorkflowInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int
    name: str | None = None
    type: WorkflowType | None = None
    definition: JSON | None = None
    description: str | None = None
    parameters: JSON | None = None
    triggers: JSON | None = None
    conditions: JSON | None = None
    actions: JSON | None = None
    metadata: JSON | None = None
    is_active: bool | None = None


@strawberry.input
class DeleteWorkflowInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None


@strawberry.input
class CreateWorkflowStepInput:
    idempotency_key: str
    workflow_id: strawberry.ID
    step: JSON = strawberry.field(description="A step as in a workflow's definition.")
    expected_version: int | None = strawberry.field(default=None, description="The workflow's version.")


@strawberry.input
class UpdateWorkflowStepInput:
    idempotency_key: str
    id: strawberry.ID
    step: JSON = strawberry.field(description="The step as it shall be; its key stays.")
    expected_version: int | None = strawberry.field(default=None, description="The step's version.")


@strawberry.input
class DeleteWorkflowStepInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None


@strawberry.type
class WorkflowMutations:
    @strawberry.mutation
    async def create_workflow(self, info: Info, input: CreateWorkflowInput) -> WorkflowPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = workflows.CreateWorkflow(
                name=input.name,
                type=input.type,
                definition=mapping(input.definition, "definition") or {},
                description=input.description,
                parameters=mapping(input.parameters, "parameters"),
                triggers=input.triggers,
                conditions=input.conditions,
                actions=input.actions,
                metadata=mapping(input.metadata, "metadata"),
            )
            context = info.context
            workflow = await workflows.create(transaction, context.principal, command, context.dependencies)
            return {"workflow": workflow.id}

        return await mutate(info, WorkflowPayload, "createWorkflow", input, verb)

    @described("Jobs that exist keep the steps that they were made with.")
    async def update_workflow(self, info: Info, input: UpdateWorkflowInput) -> WorkflowPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = workflows.UpdateWorkflow(
                id=number_in(input.id, _WORKFLOW),
                expected_version=input.expected_version,
                name=input.name,
                type=input.type,
                definition=mapping(input.definition, "definition"),
                description=input.description,
                parameters=mapping(input.parameters, "parameters"),
                triggers=input.triggers,
                conditions=input.conditions,
                actions=input.actions,
                metadata=mapping(input.metadata, "metadata"),
                is_active=input.is_active,
            )
            context = info.context
            workflow = await workflows.update(transaction, context.principal, command, context.dependencies)
            return {"workflow": workflow.id}

        return await mutate(info, WorkflowPayload, "updateWorkflow", input, verb)

    @strawberry.mutation
    async def delete_workflow(self, info: Info, input: DeleteWorkflowInput) -> DeletedPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = workflows.WorkflowAction(number_in(input.id, _WORKFLOW), input.expected_version)
            await workflows.delete(transaction, info.context.principal, command)
            return {}

        return await mutate(info, DeletedPayload, "deleteWorkflow", input, verb, deleted_id=input.id)

    @described("Adds a step at the end of the workflow's definition.")
    async def create_workflow_step(self, info: Info, input: CreateWorkflowStepInput) -> WorkflowStepPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            step = mapping(input.step, "step") or {}
            number = number_in(input.workflow_id, _WORKFLOW)
            command = workflows.CreateStep(number, step, input.expected_version)
            context = info.context
            row = await workflows.create_step(transaction, context.principal, command, context.dependencies)
            return {"workflow_step": row.id, "workflow": row.workflow_id}

        return await mutate(info, WorkflowStepPayload, "createWorkflowStep", input, verb)

    @strawberry.mutation
    async def update_workflow_step(self, info: Info, input: UpdateWorkflowStepInput) -> WorkflowStepPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            step = mapping(input.step, "step") or {}
            command = workflows.UpdateStep(number_in(input.id, _STEP), step, input.expected_version)
            context = info.context
            row = await workflows.update_step(transaction, context.principal, command, context.dependencies)
            return {"workflow_step": row.id, "workflow": row.workflow_id}

        return await mutate(info, WorkflowStepPayload, "updateWorkflowStep", input, verb)

    @strawberry.mutation
    async def delete_workflow_step(self, info: Info, input: DeleteWorkflowStepInput) -> WorkflowStepPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = workflows.WorkflowAction(number_in(input.id, _STEP), input.expected_version)
            context = info.context
            row = await workflows.delete_step(transaction, context.principal, command, context.dependencies)
            return {"workflow": row.workflow_id}

        return await mutate(info, WorkflowStepPayload, "deleteWorkflowStep", input, verb)
