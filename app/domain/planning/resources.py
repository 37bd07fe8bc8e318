"""Renders the resources of a template, in dependency order, against what is recorded of the stack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from app.domain.definitions.template import ResourceDefinition, TemplateDefinition
from app.domain.diffing import Difference, PropertyChange
from app.domain.enums import ChangeAction, ChangeSource
from app.domain.errors import Diagnostic, DomainError, Invalid, Severity
from app.domain.expressions import embedded
from app.domain.planning.deployment import Origin, PlanningCatalogue, RecordedResource
from app.domain.rendering import ResourceInstance, instances
from app.domain.values import UNKNOWN, Value

MAX_RESOURCES = 5_000
# A forEach over n that depends on another over n makes n² of them.
MAX_DEPENDENCIES = 20_000


@dataclass(frozen=True, slots=True)
class RenderedResource:
    """One resource (one per element of a forEach), its properties as far as they are known, and what they change."""

    key: str
    definition_key: str
    definition: ResourceDefinition
    each: Mapping[str, Value] | None
    properties: Mapping[str, Value]
    difference: Difference
    recorded: RecordedResource | None
    changes: tuple[tuple[PropertyChange, Origin], ...]


def render_template(
    template: TemplateDefinition,
    scope: dict[str, Value],
    recorded: Mapping[str, RecordedResource],
    catalogue: PlanningCatalogue,
    diagnostics: list[Diagnostic],
) -> dict[str, RenderedResource]:
    """Every resource of the template by key. Faults are added to `diagnostics`; `scope["resources"]` is filled."""
    resources: dict[str, Value] = {}
    scope["resources"] = resources
    rendered: dict[str, RenderedResource] = {}
    replaced: set[str] = set()
    counts: dict[str, int] = {}
    dependencies = 0
    for key in template.graph.order():
        definition = template.resources[key]
        here = ("content", "resources", key)
        try:
            found = list(instances(definition, scope))
        except DomainError as error:
            diagnostics.extend(_as_diagnostics(error, here))
            resources[key] = UNKNOWN
            continue
        counts[key] = len(found)
        dependencies += len(found) * sum(counts.get(need, 0) for need in template.graph.needs(key))
        # Counted before they are made.
        if len(rendered) + len(found) > MAX_RESOURCES or dependencies > MAX_DEPENDENCIES:
            message = f"a plan has at most {MAX_RESOURCES} resources and {MAX_DEPENDENCIES} dependencies between them"
            diagnostics.append(Diagnostic(Severity.ERROR, "LIMIT_EXCEEDED", message, here))
            return rendered
        for instance in found:
            resource = _render(instance, scope, recorded, catalogue, diagnostics, replaced)
            if resource is None:
                resources[key] = UNKNOWN
                continue
            rendered[resource.key] = resource
            if resource.difference.action is ChangeAction.REPLACE:
                replaced.add(key)
            # What one faulty instance has made unknown stays so.
            if resources.get(key) is not UNKNOWN:
                _expose(resources, resource)
        if definition.for_each is not None:
            resources.setdefault(key, {})
    return rendered


def _render(
    instance: ResourceInstance,
    scope: Mapping[str, Value],
    recorded: Mapping[str, RecordedResource],
    catalogue: PlanningCatalogue,
    diagnostics: list[Diagnostic],
    replaced: set[str],
) -> RenderedResource | None:
    key, definition = instance.key, instance.definition
    here = ("content", "resources", definition.key, "properties")
    try:
        raw = embedded.render(definition.properties, instance.scope(scope))
    except DomainError as error:
        diagnostics.extend(_as_diagnostics(error, here))
        return None
    properties, faults = catalogue.check(definition.type, raw)
    diagnostics.extend(replace(fault, path=(*here, *fault.path)) for fault in faults)
    if any(fault.severity is Severity.ERROR for fault in faults):
        return None
    before = recorded.get(key)
    if before is not None and before.type != definition.type:
        message = f"'{key}' is recorded as {before.type}; a resource of another type needs another key"
        diagnostics.append(Diagnostic(Severity.ERROR, "TYPE_MISMATCH", message, here[:-1]))
        return None
    difference = compare(catalogue, definition, before, properties, replaced)
    origins = _origins(definition)
    return RenderedResource(
        key=key,
        definition_key=definition.key,
        definition=definition,
        each=instance.each,
        properties=properties,
        difference=difference,
        recorded=before,
        changes=with_drift(before, ((change, _origin(change, origins)) for change in difference.changes)),
    )


def compare(
    catalogue: PlanningCatalogue,
    definition: ResourceDefinition,
    before: RecordedResource | None,
    properties: Mapping[str, Value],
    replaced: set[str],
) -> Difference:
    """The difference, with two things a type cannot know: an unsettled resource is never 'unchanged', and a property
    that cannot be changed in place and comes from a replaced resource will be another one.
    """
    difference = catalogue.compare(definition.type, before.found if before else None, properties)
    if before is None or before.found is None:
        return difference
    if difference.action is ChangeAction.NO_CHANGE and not before.settled:
        return replace(difference, action=ChangeAction.UPDATE)
    fixed = catalogue.create_only(definition.type)
    sources = {
        "/" + "/".join(found.path): {ref.path[0] for ref in found.expression.references if ref.root == "resources"}
        for found in embedded.find(definition.properties)
    }
    for path, names in sources.items():
        if names & replaced and any(path == pointer or path.startswith(pointer + "/") for pointer in fixed):
            return replace(difference, action=ChangeAction.REPLACE)
    if not any(names & replaced for names in sources.values()):
        return difference
    # A type may have reasons of its own to need a replacement: whatever forces it has to come from a replaced resource.
    forced = catalogue.compare(definition.type, before.found, properties, unknown_forces=True)
    reasons = ["/" + "/".join(change.path) for change in forced.changes if change.forces_replacement]
    theirs = [path for path, names in sources.items() if names & replaced]
    if reasons and all(any(path == at or path.startswith(at + "/") for path in theirs) for at in reasons):
        return forced
    return difference


def with_drift(
    recorded: RecordedResource | None, changes: Iterable[tuple[PropertyChange, Origin]]
) -> tuple[tuple[PropertyChange, Origin], ...]:
    """The changes, with those told apart that only take back what somebody else did: before that, it was as applied."""
    if recorded is None or not (recorded.drift or recorded.missing):
        return tuple(changes)
    return tuple(_drifted(recorded, change, origin) for change, origin in changes)


def _drifted(recorded: RecordedResource, change: PropertyChange, origin: Origin) -> tuple[PropertyChange, Origin]:
    if recorded.missing:
        return change, Origin(ChangeSource.DRIFT, "missing")
    for deviation in recorded.drift:
        if deviation.path == change.path:
            return replace(change, before=deviation.expected), Origin(ChangeSource.DRIFT, None, deviation.actual)
    return change, origin


def _expose(resources: dict[str, Value], instance: RenderedResource) -> None:
    """What expressions of later resources see of this one."""
    keeps = (
        instance.difference.action in (ChangeAction.NO_CHANGE, ChangeAction.UPDATE) and instance.recorded is not None
    )
    seen: dict[str, Value] = {
        "properties": instance.properties,
        "outputs": dict(instance.recorded.outputs) if keeps and instance.recorded else UNKNOWN,
        "id": instance.recorded.external_id if keeps and instance.recorded else UNKNOWN,
    }
    if instance.each is None:
        resources[instance.definition_key] = seen
    else:
        resources.setdefault(instance.definition_key, {})[instance.each["key"]] = seen


_SOURCES = {
    "parameters": ChangeSource.PARAMETER,
    "resources": ChangeSource.REFERENCE,
    "plans": ChangeSource.REFERENCE,
}


def _origins(definition: ResourceDefinition) -> dict[tuple[str, ...], Origin]:
    origins: dict[tuple[str, ...], Origin] = {}
    for found in embedded.find(definition.properties):
        for reference in found.expression.references:
            source = _SOURCES.get(reference.root)
            if source is not None:
                origins[found.path] = Origin(source, ".".join((reference.root, *reference.path)))
    return origins


def _origin(change: PropertyChange, origins: Mapping[tuple[str, ...], Origin]) -> Origin:
    for path, origin in origins.items():
        shared = min(len(path), len(change.path))
        if path[:shared] == tuple(change.path)[:shared]:
            return origin
    return Origin(ChangeSource.TEMPLATE)


def _as_diagnostics(error: DomainError, here: tuple[str, ...]) -> list[Diagnostic]:
    if isinstance(error, Invalid) and error.diagnostics:
        return [replace(found, path=(*here, *found.path)) for found in error.diagnostics]
    return [Diagnostic(Severity.ERROR, error.code, error.message, (*here, *error.path))]
