"""Mutations of step runs: answers to gates, and decisions about failures."""

from __future__ import annotations

import strawberry
from strawberry.scalars import JSON

from app.db.uow import Transaction
from app.services import gates, steps
from schema.context import Info
from schema.enums import StepAction
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import JobPayload, mapping, mutate

_STEP = "StepRun"


@strawberry.input
class AnswerGateInput:
    idempotency_key: str
    step_run_id: strawberry.ID
    approve: bool | None = strawberry.field(default=None, description="Required for APPROVAL; false rejects any gate.")
    answer: JSON | None = strawberry.field(default=None, description="What the gate's inputSchema asks for.")
    comment: str | None = None


@strawberry.input
class DelegateGateInput:
    idempotency_key: str
    step_run_id: strawberry.ID
    user_id: strawberry.ID
    comment: str | None = None


@strawberry.input
class StepActionInput:
    idempotency_key: str
    step_run_id: strawberry.ID
    action: StepAction
    inputs: JSON | None = strawberry.field(
        default=None, description="For RETRY: these replace the step's inputs of the same names."
    )


@strawberry.type
class StepMutations:
    @described("Answers a step that waits; the answer becomes its outputs.")
    async def answer_gate(self, info: Info, input: AnswerGateInput) -> JobPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = gates.AnswerGate(
                number_in(input.step_run_id, _STEP),
                input.approve,
                mapping(input.answer, "answer"),
                input.comment,
            )
            job = await gates.answer(transaction, info.context.principal, command, info.context.dependencies)
            return {"job": job.id, "plan": job.plan_id}

        return await mutate(info, JobPayload, "answerGate", input, verb)

    @described("Lets another person answer a step that waits, which somebody does who may.")
    async def delegate_gate(self, info: Info, input: DelegateGateInput) -> JobPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            user = number_in(input.user_id, "User")
            command = gates.DelegateGate(number_in(input.step_run_id, _STEP), user, input.comment)
            job = await gates.delegate(transaction, info.context.principal, command, info.context.dependencies)
            return {"job": job.id, "plan": job.plan_id}

        return await mutate(info, JobPayload, "delegateGate", input, verb)

    @described(
        "Decides about a failed step of a paused job, which goes on when nothing is left to decide. ADOPT and ABANDON"
        " are for tasks and actions of which nobody can tell whether they were carried out: it was, or it does not"
        " count. These, and RETRY, are taken also when the job has ended, and count when its plan is resumed or undone."
    )
    async def step_action(self, info: Info, input: StepActionInput) -> JobPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = steps.DecideStep(
                number_in(input.step_run_id, _STEP), input.action, mapping(input.inputs, "inputs")
            )
            job = await steps.decide(transaction, info.context.principal, command, info.context.dependencies)
            return {"job": job.id, "plan": job.plan_id}

        return await mutate(info, JobPayload, "stepAction", input, verb)
