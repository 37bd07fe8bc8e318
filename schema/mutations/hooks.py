"""Mutations of the hooks of standing plans."""

from __future__ import annotations

import strawberry

from app.db.uow import Transaction
from app.services import hooks
from schema.context import Info
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import PlanHookPayload, PlanPayload, mutate


@strawberry.input
class RotatePlanHookInput:
    idempotency_key: str
    plan_id: strawberry.ID
    signed: bool = strawberry.field(
        default=False, description="Whether calls have to be signed as Standard Webhooks has it."
    )


@strawberry.input
class RevokePlanHookInput:
    idempotency_key: str
    plan_id: strawberry.ID


@strawberry.type
class HookMutations:
    @described(
        "A new address under which the world outside fires an AUTOMATED plan that has a trigger on WEBHOOK. The one"
        " before is of no use from then on. Address and secret are in this answer and nowhere else; a replayed key does"
        " not show them again."
    )
    async def rotate_plan_hook(self, info: Info, input: RotatePlanHookInput) -> PlanHookPayload:
        shown: list[hooks.RotatedHook] = []

        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = hooks.RotateHook(number_in(input.plan_id, "DeploymentPlan"), input.signed)
            context = info.context
            shown.append(await hooks.rotate(transaction, context.principal, command, context.dependencies))
            return {"plan": shown[0].plan.id}

        payload = await mutate(info, PlanHookPayload, "rotatePlanHook", input, verb)
        if payload.plan is not None and shown:
            payload.path, payload.signing_secret = f"/hooks/{shown[0].token}", shown[0].signing_secret
        return payload

    @described("Takes the plan's hook away. Its address is of no use from then on; rotatePlanHook makes another one.")
    async def revoke_plan_hook(self, info: Info, input: RevokePlanHookInput) -> PlanPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            plan_id = number_in(input.plan_id, "DeploymentPlan")
            return {"plan": (await hooks.revoke(transaction, info.context.principal, plan_id)).id}

        return await mutate(info, PlanPayload, "revokePlanHook", input, verb)
