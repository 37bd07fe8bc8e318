"""Mutations of deployment plans."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from app.db.uow import Transaction
from app.domain.errors import DomainError
from app.services import plans
from schema.context import Info
from schema.enums import FailureStrategy, PlanType, RetryMode, ReviewDecision, RollbackScope
from schema.errors import StalePreviewError
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import JobPayload, PlanPayload, mapping, mutate
from schema.types.schedules import ScheduleInput

_PLAN = "DeploymentPlan"


@strawberry.input
class CreatePlanInput:
    idempotency_key: str
    name: str
    type: PlanType
    description: str | None = None
    workflow_id: strawberry.ID | None = None
    template_revision_id: strawberry.ID | None = None
    parameters: JSON | None = None
    configuration: JSON | None = strawberry.field(
        default=None,
        description="An object of `approvals`, `automation`, `concurrency`, `drift`, `pause`, `preflight`, `rollback`,"
        " `timeouts`, `ttl`, `verification`, and of nothing else: what is your own goes into `metadata`.",
    )
    stack: str | None = strawberry.field(
        default=None, description="Plans of the same stack change the same resources; the plan's name by default."
    )
    schedule: ScheduleInput | None = None
    condition: JSON | None = strawberry.field(
        default=None,
        description="What a CONDITIONAL plan waits for: an object of `when`, `for`, `fire`, `coolDown`, `timeZone`.",
    )
    failure_strategy: FailureStrategy = FailureStrategy.ROLLBACK
    rollback_scope: RollbackScope = RollbackScope.JOB
    valid_until: datetime | None = None
    constraints: JSON | None = strawberry.field(
        default=None,
        description="What has to hold beside what the template asks for: a list of `assert`, an expression, and"
        " `message`.",
    )
    depends_on_plan_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Plans that have to have succeeded before it runs; its job waits for them."
    )
    resource_ids: list[strawberry.ID] | None = strawberry.field(
        default=None,
        description="Resources of the stack that alone it is about, with all that they need; all of them by default.",
    )
    submit: bool = True
    metadata: JSON | None = None

    def command(self) -> plans.CreatePlan:
        return plans.CreatePlan(
            name=self.name,
            type=self.type,
            description=self.description,
            workflow_id=None if self.workflow_id is None else number_in(self.workflow_id, "Workflow"),
            template_revision_id=None
            if self.template_revision_id is None
            else number_in(self.template_revision_id, "TemplateRevision"),
            parameters=mapping(self.parameters, "parameters"),
            configuration=mapping(self.configuration, "configuration"),
            stack=self.stack,
            schedule=None if self.schedule is None else self.schedule.value(),
            condition=mapping(self.condition, "condition"),
            failure_strategy=self.failure_strategy,
            rollback_scope=self.rollback_scope,
            valid_until=self.valid_until,
            constraints=self.constraints,
            upstream_ids=_numbers(self.depends_on_plan_ids, _PLAN) or (),
            resource_ids=_numbers(self.resource_ids, "CloudResource") or (),
            metadata=mapping(self.metadata, "metadata"),
            submit=self.submit,
        )


@strawberry.input(description="A field that is left out or null stays as it is.")
class UpdatePlanInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int
    name: str | None = None
    description: str | None = None
    parameters: JSON | None = None
    configuration: JSON | None = None
    schedule: ScheduleInput | None = None
    condition: JSON | None = None
    failure_strategy: FailureStrategy | None = None
    constraints: JSON | None = None
    depends_on_plan_ids: list[strawberry.ID] | None = None


@strawberry.input
class PlanActionInput:
    idempotency_key: str
    plan_id: strawberry.ID
    expected_version: int | None = None
    comment: str | None = None

    def command(self) -> plans.PlanAction:
        return plans.PlanAction(number_in(self.plan_id, _PLAN), self.expected_version, self.comment)


@strawberry.input
class ExecutePlanInput:
    idempotency_key: str
    plan_id: strawberry.ID
    expected_preview_hash: str | None = strawberry.field(
        default=None,
        description="Refused with StalePreviewError when what would happen has changed since; MANUAL plans need it.",
    )
    simulate: bool = strawberry.field(
        default=False,
        description="Only shows what would happen, in a job that is `simulated`: the plan, its resources and the "
        "outside world stay as they are. Neither an approval nor the hash is needed.",
    )
    simulate_failure_at: list[str] | None = strawberry.field(
        default=None, description='Keys of steps that shall fail in a simulation; "key:undo" for their undoing.'
    )

    def command(self) -> plans.ExecutePlan:
        return plans.ExecutePlan(
            number_in(self.plan_id, _PLAN),
            self.expected_preview_hash,
            self.simulate,
            tuple(self.simulate_failure_at or ()),
        )


@strawberry.input(description="What the asker says of the preview with this hash.")
class ReviewPlanInput:
    idempotency_key: str
    plan_id: strawberry.ID
    preview_hash: str
    decision: ReviewDecision
    comment: str | None = None


@strawberry.input(description="A word from outside that the condition of a waiting plan reads by its name.")
class SignalPlanInput:
    idempotency_key: str
    plan_id: strawberry.ID
    name: str
    payload: JSON | None = None


@strawberry.input
class RetryPlanInput:
    idempotency_key: str
    plan_id: strawberry.ID
    mode: RetryMode
    step_keys: list[str] | None = strawberry.field(
        default=None,
        description="With RESUME: steps to run again although they succeeded, and all that needs them with them.",
    )


@strawberry.input
class RollbackPlanInput:
    idempotency_key: str
    plan_id: strawberry.ID
    scope: RollbackScope = RollbackScope.JOB
    to_checkpoint: str | None = strawberry.field(
        default=None,
        description="With TO_CHECKPOINT: the key of the step to go back to; the last one passed otherwise.",
    )

    def command(self) -> plans.RollbackPlan:
        return plans.RollbackPlan(number_in(self.plan_id, _PLAN), self.scope, self.to_checkpoint)


def _numbers(ids: list[strawberry.ID] | None, kind: str) -> list[int] | None:
    return None if ids is None else [number_in(item, kind) for item in ids]


@strawberry.type
class PlanMutations:
    @described("Validated, previewed and, if IMMEDIATE, started at once; stored as a draft with submit: false.")
    async def create_plan(self, info: Info, input: CreatePlanInput) -> PlanPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            context = info.context
            plan = await plans.create(transaction, context.principal, input.command(), context.dependencies)
            return {"plan": plan.id}

        return await mutate(info, PlanPayload, "createPlan", input, verb)

    @described("Only what has not begun can be changed; it is a draft again afterwards.")
    async def update_plan(self, info: Info, input: UpdatePlanInput) -> PlanPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = plans.UpdatePlan(
                id=number_in(input.id, _PLAN),
                expected_version=input.expected_version,
                name=input.name,
                description=input.description,
                parameters=mapping(input.parameters, "parameters"),
                configuration=mapping(input.configuration, "configuration"),
                schedule=None if input.schedule is None else input.schedule.value(),
                condition=mapping(input.condition, "condition"),
                failure_strategy=input.failure_strategy,
                constraints=input.constraints,
                upstream_ids=_numbers(input.depends_on_plan_ids, _PLAN),
            )
            plan = await plans.update(transaction, info.context.principal, command, info.context.dependencies)
            return {"plan": plan.id}

        return await mutate(info, PlanPayload, "updatePlan", input, verb)

    @described("Validates and previews a draft. One with faults becomes INVALID and shows them as diagnostics.")
    async def submit_plan(self, info: Info, input: PlanActionInput) -> PlanPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            context = info.context
            plan = await plans.submit(transaction, context.principal, input.command(), context.dependencies)
            return {"plan": plan.id}

        return await mutate(info, PlanPayload, "submitPlan", input, verb)

    @described("The last approval needed lets the plan go on; one rejection ends it. Needs APPROVE.")
    async def review_plan(self, info: Info, input: ReviewPlanInput) -> PlanPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = plans.ReviewPlan(
                number_in(input.plan_id, _PLAN), input.preview_hash, input.decision, input.comment
            )
            plan = await plans.review(transaction, info.context.principal, command, info.context.dependencies)
            return {"plan": plan.id}

        return await mutate(info, PlanPayload, "reviewPlan", input, verb)

    @described(
        "Runs a plan that is READY, or simulates one. One that is no longer what was approved goes back for approval."
    )
    async def execute_plan(self, info: Info, input: ExecutePlanInput) -> JobPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            job = await plans.execute(transaction, info.context.principal, input.command(), info.context.dependencies)
            return {"job": job.id, "plan": job.plan_id}

        payload = await mutate(info, JobPayload, "executePlan", input, verb)
        if not input.simulate and any(isinstance(error, StalePreviewError) for error in payload.user_errors):
            context = info.context
            # Whoever asks next does it where somebody else was faster, or deleted the plan.
            with suppress(DomainError):
                async with context.write() as transaction:
                    await plans.send_back(
                        transaction, context.principal, number_in(input.plan_id, _PLAN), context.dependencies
                    )
        return payload

    @described("A running plan is stopped gracefully and keeps what it has; see cancelJob for more.")
    async def cancel_plan(self, info: Info, input: PlanActionInput) -> PlanPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            context = info.context
            plan = await plans.cancel(transaction, context.principal, input.command(), context.dependencies)
            return {"plan": plan.id}

        return await mutate(info, PlanPayload, "cancelPlan", input, verb)

    @described("What runs finishes, nothing new starts, the stack stays locked; ends by resumePlan or at its deadline.")
    async def pause_plan(self, info: Info, input: PlanActionInput) -> PlanPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            context = info.context
            plan = await plans.pause(transaction, context.principal, input.command(), context.dependencies)
            return {"plan": plan.id}

        return await mutate(info, PlanPayload, "pausePlan", input, verb)

    @described("Lets a paused plan go on.")
    async def resume_plan(self, info: Info, input: PlanActionInput) -> PlanPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            context = info.context
            plan = await plans.resume(transaction, context.principal, input.command(), context.dependencies)
            return {"plan": plan.id}

        return await mutate(info, PlanPayload, "resumePlan", input, verb)

    @described(
        "Runs a plan again in a new job: RESUME keeps what succeeded, RESTART begins anew, with approval if needed."
    )
    async def retry_plan(self, info: Info, input: RetryPlanInput) -> JobPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = plans.RetryPlan(number_in(input.plan_id, _PLAN), input.mode, tuple(input.step_keys or ()))
            job = await plans.retry(transaction, info.context.principal, command, info.context.dependencies)
            return {"job": None if job is None else job.id, "plan": command.plan_id}

        return await mutate(info, JobPayload, "retryPlan", input, verb)

    @described("Undoes the last job of a plan that failed, in a new job, or that of a paused plan, in the same one.")
    async def rollback_plan(self, info: Info, input: RollbackPlanInput) -> JobPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = input.command()
            job = await plans.rollback(transaction, info.context.principal, command, info.context.dependencies)
            return {"job": job.id, "plan": job.plan_id}

        return await mutate(info, JobPayload, "rollbackPlan", input, verb)

    @described("Tells a WAITING plan. The newest signal of a name stays until the plan has run because of it.")
    async def signal_plan(self, info: Info, input: SignalPlanInput) -> PlanPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = plans.SignalPlan(number_in(input.plan_id, _PLAN), input.name, mapping(input.payload, "payload"))
            plan = await plans.signal(transaction, info.context.principal, command, info.context.dependencies)
            return {"plan": plan.id}

        return await mutate(info, PlanPayload, "signalPlan", input, verb)

    @described("Makes a new plan that takes back what a plan that succeeded has done; it is previewed and approved.")
    async def create_rollback_plan(self, info: Info, input: RollbackPlanInput) -> PlanPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            context = info.context
            plan = await plans.create_rollback_plan(
                transaction, context.principal, input.command(), context.dependencies
            )
            return {"plan": plan.id}

        return await mutate(info, PlanPayload, "createRollbackPlan", input, verb)

    @described("Leaves what a rollback could not take back as it is; the plan that was ROLLBACK_FAILED has FAILED.")
    async def accept_current_state(self, info: Info, input: PlanActionInput) -> PlanPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            context = info.context
            plan = await plans.accept_current_state(
                transaction, context.principal, input.command(), context.dependencies
            )
            return {"plan": plan.id}

        return await mutate(info, PlanPayload, "acceptCurrentState", input, verb)

    @described(
        "Hides a plan that is not under way. What it deployed stays. Done if there are no userErrors: `plan` is null,"
        " as nobody sees it any more."
    )
    async def delete_plan(self, info: Info, input: PlanActionInput) -> PlanPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            context = info.context
            await plans.delete(transaction, context.principal, input.command(), context.dependencies)
            return {}

        return await mutate(info, PlanPayload, "deletePlan", input, verb)
