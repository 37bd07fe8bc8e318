"""One action on many plans."""

from __future__ import annotations

import hashlib
from enum import StrEnum

import strawberry

from app.db.uow import Transaction
from app.domain.errors import DomainError
from app.services import idempotency
from app.services.plans import bulk
from schema import inputs
from schema.context import Info
from schema.enums import PlanAction
from schema.errors import UserError, user_errors
from schema.fields import described
from schema.nodes import encode_id, load, number_in
from schema.payloads import Payload, document
from schema.types.filters import PlanFilter, wanted_plans
from schema.types.jobs import OrchestrationJob
from schema.types.plans import DeploymentPlan


@strawberry.enum(description="ATOMIC: all of them or none. CONTINUE: each for itself.")
class BulkErrorPolicy(StrEnum):
    ATOMIC = "ATOMIC"
    CONTINUE = "CONTINUE"


@strawberry.input(
    description="Which plans by `planIds` or by `filter`; more than `maxItems` (at most 100) are refused."
)
class BulkPlanActionInput:
    idempotency_key: str
    action: PlanAction
    plan_ids: list[strawberry.ID] | None = None
    filter: PlanFilter | None = None
    error_policy: BulkErrorPolicy = BulkErrorPolicy.CONTINUE
    max_items: int = bulk.MOST_ITEMS


@strawberry.type(description="What came of one plan.")
class BulkItem:
    index: int
    id: strawberry.ID | None
    plan: DeploymentPlan | None
    job: OrchestrationJob | None
    user_errors: list[UserError]


@strawberry.type
class BulkPayload(Payload):
    items: list[BulkItem] = strawberry.field(default_factory=list)
    succeeded: int = 0
    failed: int = 0


@strawberry.type
class BulkMutations:
    @described(
        "SUBMIT, EXECUTE, PAUSE, RESUME, CANCEL, RETRY (RESUME), ROLLBACK or DELETE on many plans. With CONTINUE each"
        " is a mutation of its own: sent again with the same key, what was done is not done again and what was refused"
        " is tried again, on the plans that were meant the first time."
    )
    async def bulk_plan_action(self, info: Info, input: BulkPlanActionInput) -> BulkPayload:
        context = info.context
        try:
            inputs.check(input)
            verb = bulk.verb_of(input.action.value)
            async with context.write() as transaction:
                chosen, replayed = await idempotency.once(
                    transaction,
                    "bulkPlanAction",
                    input.idempotency_key,
                    document(input),
                    lambda: _choose(transaction, info, input, verb),
                )
            if input.error_policy is BulkErrorPolicy.ATOMIC:
                items = [bulk.Item(plan_id or 0, {"plan": plan_id}) for plan_id in chosen.values()]
            else:
                ids = [plan_id or 0 for plan_id in chosen.values()]
                items = [await _each(info, input, plan_id, verb) for plan_id in ids]
        except bulk.Refused as refused:
            items, replayed = list(refused.items), False
        except DomainError as error:
            return BulkPayload(user_errors=user_errors(error), replayed=False, request_id=context.request_id)
        shown = [await _shown(info, index, item) for index, item in enumerate(items)]
        failed = sum(item.error is not None for item in items)
        return BulkPayload(
            user_errors=[],
            replayed=replayed,
            request_id=context.request_id,
            items=shown,
            succeeded=0 if failed and input.error_policy is BulkErrorPolicy.ATOMIC else len(items) - failed,
            failed=failed,
        )


async def _choose(
    transaction: Transaction, info: Info, given: BulkPlanActionInput, verb: bulk.Verb
) -> dict[str, int | None]:
    """The plans that are meant; with ATOMIC it is done to them, too."""
    context = info.context
    ids = None if given.plan_ids is None else [number_in(gid, "DeploymentPlan") for gid in given.plan_ids]
    wanted = None if given.filter is None else wanted_plans(given.filter, info)
    found = await bulk.chosen(transaction.session, context.tenant_id, ids, wanted, given.max_items)
    if given.error_policy is BulkErrorPolicy.ATOMIC:
        await bulk.act_on_all(transaction, context.principal, found, verb, context.dependencies)
    transaction.authorize("bulk: each plan is asked for its own permission")
    return {str(place): plan_id for place, plan_id in enumerate(found)}


async def _each(info: Info, given: BulkPlanActionInput, plan_id: int, verb: bulk.Verb) -> bulk.Item:
    """One plan, in a transaction of its own, under a key of its own."""
    context = info.context
    key = hashlib.sha256(f"{given.idempotency_key}/{plan_id}".encode()).hexdigest()
    try:
        async with context.write() as transaction:
            outcome, _ = await idempotency.once(
                transaction,
                "bulkPlanAction.item",
                key,
                {"action": given.action.value, "plan": plan_id},
                lambda: verb(transaction, context.principal, plan_id, context.dependencies),
            )
    except DomainError as error:
        return bulk.Item(plan_id, error=error)
    return bulk.Item(plan_id, outcome)


async def _shown(info: Info, index: int, item: bulk.Item) -> BulkItem:
    loaders = info.context.loaders
    gid = encode_id("DeploymentPlan", item.plan_id) if item.plan_id else None
    return BulkItem(
        index=index,
        id=gid,
        plan=await load(loaders.plan, item.plan_id, "DeploymentPlan"),
        job=await load(loaders.job, item.outcome.get("job"), "OrchestrationJob"),
        user_errors=[] if item.error is None else user_errors(item.error, gid),
    )
