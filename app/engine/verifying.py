"""Looks whether what was deployed holds, again and again until its time is over."""

from __future__ import annotations

from app.domain.enums import ChangeAction, ErrorClass
from app.domain.errors import DomainError
from app.domain.expressions import embedded
from app.domain.values import reveal
from app.domain.verification import LIVE
from app.engine.context import StepContext
from app.engine.work import Failed, Outcome, Succeeded, Waiting, Work
from app.providers.base import ResourceState
from app.providers.registry import Registry

_CODE = "VERIFICATION_FAILED"


async def look(registry: Registry, work: Work, context: StepContext) -> Outcome:
    """One look at the resource. How many are still to come is in the handle: no clock of a worker's is asked."""
    if work.prior is None:
        message = "nothing is recorded of the resource"
        raise AssertionError(message)
    kind = registry.resource(work.spec["type"])
    live = await kind.read(context, work.prior)
    fault = "it is gone" if live is None else _fault(registry, work, work.prior, live)
    if fault is not None:
        return Failed(ErrorClass.PERMANENT, _CODE, f"'{work.resource_key}' does not hold: {fault}")
    rounds = int(work.spec["rounds"])
    left = rounds if work.handle is None else int(work.handle["left"])
    if left == 0:
        return Succeeded(outputs={"looks": rounds + 1})
    message = f"holds; {left} more {'look' if left == 1 else 'looks'}"
    percent = 100.0 * (rounds - left) / rounds
    return Waiting({"left": left - 1}, float(work.spec["everySeconds"]), message, percent)


def _fault(registry: Registry, work: Work, applied: ResourceState, live: ResourceState) -> str | None:
    conditions = work.spec["conditions"]
    if not conditions:
        difference = registry.resource(work.spec["type"]).compare(live.properties, applied.properties)
        changed = difference.action is not ChangeAction.NO_CHANGE
        return "it is no longer as it was applied" if changed else None
    scope = {LIVE: {"id": live.id, "properties": live.properties, "outputs": live.outputs}}
    for condition in conditions:
        try:
            outcome = reveal(embedded.render(condition, scope))
        except DomainError as error:
            return f"{condition}: {error.message}"
        if outcome is not True:
            return f"{condition} is not true"
    return None
