"""The steps that ask the outside world what will stand in the way, before anything is done to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from app.domain.enums import ChangeAction, FailureStrategy, Reversibility, StepType
from app.domain.errors import TypeMismatch
from app.domain.graph import Edge
from app.domain.operations import OperationKind, Phase
from app.domain.planning.deployment import PlannedStep, PlanningCatalogue, ResourceChange
from app.domain.planning.resources import RenderedResource
from app.domain.retrying import RetryPolicy
from app.domain.values import Value, is_known

Draft = tuple[PlannedStep, ResourceChange]
_PREFIX = "preflight:"
_TIMEOUT_SECONDS = 300.0
_ASKED = frozenset({ChangeAction.CREATE, ChangeAction.UPDATE, ChangeAction.REPLACE})


def wants_preflight(configuration: Mapping[str, Value] | None) -> bool:
    """Whether a plan's configuration leaves the preflight on: {"preflight": false} does not. Raises TypeMismatch."""
    given = (configuration or {}).get("preflight", True)
    if not isinstance(given, bool):
        message = "preflight is true or false"
        raise TypeMismatch(message, path=("configuration", "preflight"))
    return given


def preflights(
    drafts: Sequence[Draft],
    edges: Sequence[Edge],
    rendered: Mapping[str, RenderedResource],
    catalogue: PlanningCatalogue,
) -> list[Draft]:
    """A step for each connection through which something is made or changed whose type can be asked beforehand."""
    waiting = {edge.target for edge in edges}
    groups: dict[tuple[str, str | None], list[dict[str, Value]]] = {}
    for step, change in drafts:
        resource = rendered.get(step.resource_key or "")
        if resource is None or step.operation is not OperationKind.APPLY or change.action not in _ASKED:
            continue
        type_name = resource.definition.type
        if catalogue.preflights(type_name):
            place = (catalogue.provider_name(type_name), resource.definition.connection)
            groups.setdefault(place, []).append(_subject(step, resource, first=step.key not in waiting))
    return [_draft(*place, subjects) for place, subjects in sorted(groups.items(), key=lambda item: _key(*item[0]))]


def _subject(step: PlannedStep, resource: RenderedResource, *, first: bool) -> dict[str, Value]:
    """What is asked about: a property of which anything is still unknown is only named.

    `certain`: the change will be made, and nothing of the job comes before it that might remedy what is found.
    """
    known = {name: value for name, value in resource.properties.items() if is_known(value)}
    return {
        "resourceKey": resource.key,
        "type": resource.definition.type,
        "action": resource.difference.action.value,
        "properties": known,
        "certain": first and step.spec.get("when") is None,
        "unknown": sorted(resource.properties.keys() - known.keys()),
    }


def _key(provider: str, connection: str | None) -> str:
    return f"{_PREFIX}{provider}" if connection is None else f"{_PREFIX}{provider}/{connection}"


def _draft(provider: str, connection: str | None, subjects: list[dict[str, Value]]) -> Draft:
    key = _key(provider, connection)
    step = PlannedStep(
        key=key,
        name=key,
        type=StepType.CUSTOM,
        operation=OperationKind.PREFLIGHT,
        phase=Phase.APPLY,
        change=ChangeAction.RUN,
        needs=(),
        spec={"provider": provider, "connection": connection, "subjects": subjects, "ignore": False},
        timeout_seconds=_TIMEOUT_SECONDS,
        retry=RetryPolicy(),
        # Nothing has been done: there is nothing to go on with, and nothing to take back.
        strategy=FailureStrategy.HALT,
    )
    change = ResourceChange(
        key=key, type=provider, action=ChangeAction.RUN, wave=0, reversibility=Reversibility.REVERSIBLE
    )
    return step, change


def before_all_else(drafts: Sequence[Draft], edges: Sequence[Edge]) -> Iterator[Edge]:
    """Edges that let nothing begin before the preflight is over."""
    asking = [step.key for step, _ in drafts if step.operation is OperationKind.PREFLIGHT]
    waiting = {edge.target for edge in edges}
    begins = [
        step.key for step, _ in drafts if step.key not in waiting and step.operation is not OperationKind.PREFLIGHT
    ]
    for key in asking:
        for begin in begins:
            yield Edge(key, begin, explicit=False, path="nothing begins before the preflight")
