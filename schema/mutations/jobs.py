"""Mutations of orchestration jobs."""

from __future__ import annotations

import strawberry
from strawberry.scalars import JSON

from app.db.uow import Transaction
from app.services import jobs, signals
from schema.context import Info
from schema.enums import CancelMode, CancelOutcome, RollbackResolution
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import DeletedPayload, JobPayload, mapping, mutate

_JOB = "OrchestrationJob"


@strawberry.input
class CancelJobInput:
    idempotency_key: str
    job_id: strawberry.ID
    mode: CancelMode = CancelMode.GRACEFUL
    outcome: CancelOutcome = CancelOutcome.KEEP
    reason: str | None = None


@strawberry.input
class RollbackResolutionInput:
    step_key: str
    action: RollbackResolution


@strawberry.input
class ContinueRollbackInput:
    idempotency_key: str
    job_id: strawberry.ID
    resolutions: list[RollbackResolutionInput]


@strawberry.input(description="A field that is left out or null stays as it is.")
class UpdateJobInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int
    description: str | None = None
    metadata: JSON | None = None


@strawberry.input
class SignalJobInput:
    idempotency_key: str
    job_id: strawberry.ID
    name: str = strawberry.field(description="The key of a step whose gate is of kind SIGNAL.")
    payload: JSON | None = strawberry.field(default=None, description="Becomes the step's outputs.")


@strawberry.input
class DeleteJobInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None


@strawberry.type
class JobMutations:
    @described(
        "GRACEFUL waits for running steps, INTERRUPT asks them to stop, FORCE does not wait. Of several requests the"
        " strongest counts. FORCE also ends a rollback: it is ROLLBACK_FAILED then, and can be continued."
    )
    async def cancel_job(self, info: Info, input: CancelJobInput) -> JobPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = jobs.CancelJob(number_in(input.job_id, _JOB), input.mode, input.outcome, input.reason)
            job = await jobs.cancel(transaction, info.context.principal, command, info.context.dependencies)
            return {"job": job.id, "plan": job.plan_id}

        return await mutate(info, JobPayload, "cancelJob", input, verb)

    @described("Tells a job what a step of it waits for. One that has not begun yet finds the newest signal then.")
    async def signal_job(self, info: Info, input: SignalJobInput) -> JobPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = signals.SignalJob(number_in(input.job_id, _JOB), input.name, mapping(input.payload, "payload"))
            job = await signals.signal(transaction, info.context.principal, command, info.context.dependencies)
            return {"job": job.id, "plan": job.plan_id}

        return await mutate(info, JobPayload, "signalJob", input, verb)

    @described(
        "Goes on with a rollback that failed, in a new job; steps that are not named are tried again. What makes sense"
        " for a step is in `rollbackIssues`. SKIP_KEEP_UNKNOWN leaves its resource as it is, to be looked at later;"
        " ACCEPT_ACTUAL reads it, and what is there counts as applied; MARK_DELETED says that it is not there."
    )
    async def continue_rollback(self, info: Info, input: ContinueRollbackInput) -> JobPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            resolutions = tuple((item.step_key, item.action) for item in input.resolutions)
            command = jobs.ContinueRollback(number_in(input.job_id, _JOB), resolutions)
            context = info.context
            job = await jobs.continue_rollback(transaction, context.principal, command, context.dependencies)
            return {"job": job.id, "plan": job.plan_id}

        return await mutate(info, JobPayload, "continueRollback", input, verb)

    @described("What people note about a job. A job that has ended does not change any more.")
    async def update_orchestration_job(self, info: Info, input: UpdateJobInput) -> JobPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = jobs.UpdateJob(
                id=number_in(input.id, _JOB),
                expected_version=input.expected_version,
                description=input.description,
                metadata=mapping(input.metadata, "metadata"),
            )
            job = await jobs.update(transaction, info.context.principal, command)
            return {"job": job.id, "plan": job.plan_id}

        return await mutate(info, JobPayload, "updateOrchestrationJob", input, verb)

    @described("Hides a job that has ended.")
    async def delete_orchestration_job(self, info: Info, input: DeleteJobInput) -> DeletedPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = jobs.DeleteJob(number_in(input.id, _JOB), input.expected_version)
            await jobs.delete(transaction, info.context.principal, command)
            return {}

        return await mutate(info, DeletedPayload, "deleteOrchestrationJob", input, verb, deleted_id=input.id)
