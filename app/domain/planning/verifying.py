"""The steps that look at what was deployed, before anything is removed for good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from app.domain.enums import ChangeAction, FailureStrategy, Reversibility, StepType
from app.domain.errors import Diagnostic, Severity
from app.domain.graph import Edge
from app.domain.naming import hint, nearest
from app.domain.operations import OperationKind, Phase
from app.domain.planning.deployment import PlannedStep, PlanningCatalogue, ResourceChange
from app.domain.planning.resources import RenderedResource
from app.domain.retrying import RetryPolicy
from app.domain.verification import Verification

Draft = tuple[PlannedStep, ResourceChange]
_ALL = "*"
_PREFIX = "verify:"
_TIMEOUT_SECONDS = 60.0


def verifications(
    verification: Verification,
    rendered: Mapping[str, RenderedResource],
    catalogue: PlanningCatalogue,
    diagnostics: list[Diagnostic],
) -> Iterator[Draft]:
    """A step for each resource that is checked; several checks of one resource are one step."""
    wanted: dict[str, list[str]] = {}
    for place, check in enumerate(verification.checks):
        named = [key for key, one in rendered.items() if check.resource in (_ALL, one.definition_key)]
        if not named and check.resource != _ALL:
            near = nearest(check.resource, (one.definition_key for one in rendered.values()))
            message = f"there is no resource '{check.resource}'{hint(near)}"
            path = ("configuration", "verification", "checks", str(place), "resource")
            diagnostics.append(Diagnostic(Severity.ERROR, "UNKNOWN_REFERENCE", message, path))
        for key in named:
            wanted.setdefault(key, []).extend([check.that] if check.that else [])
    for key, conditions in wanted.items():
        yield _draft(rendered[key], conditions, verification, catalogue)


def _draft(
    resource: RenderedResource, conditions: list[str], verification: Verification, catalogue: PlanningCatalogue
) -> Draft:
    definition = resource.definition
    key = f"{_PREFIX}{resource.key}"
    spec = {
        "type": definition.type,
        "provider": catalogue.provider_name(definition.type),
        "connection": definition.connection,
        "resourceKey": resource.key,
        "conditions": conditions,
        "rounds": verification.rounds,
        "everySeconds": verification.every_seconds,
        "ignore": False,
    }
    step = PlannedStep(
        key=key,
        name=key,
        type=StepType.CUSTOM,
        operation=OperationKind.VERIFY,
        phase=Phase.APPLY,
        change=ChangeAction.RUN,
        needs=(),
        spec=spec,
        timeout_seconds=_TIMEOUT_SECONDS,
        retry=RetryPolicy(),
        # Whatever else fails may be kept: what was deployed and does not hold is not what was asked for.
        strategy=FailureStrategy.ROLLBACK,
        resource_key=resource.key,
    )
    change = ResourceChange(
        key=key,
        type=definition.type,
        action=ChangeAction.RUN,
        wave=0,
        reversibility=Reversibility.REVERSIBLE,
    )
    return step, change


def after_all_else(drafts: Sequence[Draft], edges: Sequence[Edge]) -> Iterator[Edge]:
    """Edges that let verification begin when all else in APPLY is over."""
    applying = {
        step.key for step, _ in drafts if step.phase is Phase.APPLY and step.operation is not OperationKind.VERIFY
    }
    ends = applying - {edge.source for edge in edges if edge.target in applying}
    for step, _ in drafts:
        if step.operation is OperationKind.VERIFY:
            for end in sorted(ends):
                yield Edge(end, step.key, explicit=False, path="verification comes after all else")
