"""What a workflow step works on, and what its inputs mean there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from app.domain.definitions.workflow import StepDefinition
from app.domain.diffing import Difference, PropertyChange
from app.domain.enums import ChangeAction, ChangeSource
from app.domain.errors import Diagnostic, DomainError, Severity
from app.domain.expressions import embedded
from app.domain.planning.deployment import Origin, PlanningCatalogue, RecordedResource
from app.domain.planning.resources import RenderedResource, with_drift
from app.domain.values import UNKNOWN, Value

Changes = tuple[tuple[PropertyChange, Origin], ...]


class Targets:
    """Finds the resources that workflow steps name, in the template or among the recorded ones of the stack."""

    def __init__(
        self,
        catalogue: PlanningCatalogue,
        rendered: Mapping[str, RenderedResource],
        recorded: Mapping[str, RecordedResource],
        scope: Mapping[str, Value],
        diagnostics: list[Diagnostic],
    ) -> None:
        self.catalogue = catalogue
        self.rendered = rendered
        self.recorded = recorded
        # What other steps will give is not known yet.
        self.scope = {**scope, "steps": UNKNOWN, "resources": scope.get("resources", {})}
        self.diagnostics = diagnostics

    def of(self, step: StepDefinition) -> Iterator[RecordedResource]:
        """The resources that `step` acts on: recorded ones, or ones that this plan will make before it."""
        name = step.resource or step.key
        found = False
        for resource in self.rendered.values():
            if resource.definition_key == name:
                found = True
                yield resource.recorded or RecordedResource(
                    key=resource.key,
                    type=resource.definition.type,
                    properties=resource.properties,
                    outputs={},
                    connection=resource.definition.connection,
                )
        if not found and name in self.recorded:
            found = True
            yield self.recorded[name]
        if not found:
            message = f"step '{step.key}' works on '{name}', which neither the template nor the stack has"
            self._fault("UNKNOWN_REFERENCE", message, step, "configuration")

    def inline(self, step: StepDefinition, before: RecordedResource | None) -> tuple[Difference, Changes]:
        """What a step that declares its resource itself will change."""
        type_name = step.resource_type or ""
        properties = self._render(step)
        checked, faults = self.catalogue.check(type_name, properties)
        self._adopt(faults, step)
        if any(fault.severity is Severity.ERROR for fault in faults):
            return Difference(ChangeAction.CREATE, ()), ()
        difference = self.catalogue.compare(type_name, before.found if before else None, checked)
        if (
            before is not None
            and before.found is not None
            and not before.settled
            and difference.action is ChangeAction.NO_CHANGE
        ):
            difference = replace(difference, action=ChangeAction.UPDATE)
        self._expose(step, before, checked, difference)
        return difference, with_drift(before, _from_workflow(difference, step))

    def _expose(
        self, step: StepDefinition, before: RecordedResource | None, properties: Value, difference: Difference
    ) -> None:
        """What expressions of later steps see of a resource that a step declares itself."""
        keeps = before if difference.action in (ChangeAction.NO_CHANGE, ChangeAction.UPDATE) else None
        seen = {
            "properties": properties,
            "outputs": dict(keeps.outputs) if keeps else UNKNOWN,
            "id": keeps.external_id if keeps else UNKNOWN,
        }
        resources = self.scope["resources"]
        self.scope["resources"] = {**(resources if isinstance(resources, Mapping) else {}), step.key: seen}

    def scaling(self, step: StepDefinition, target: RecordedResource) -> tuple[Difference, Changes]:
        """What a scaling step will change; it may touch scalable properties only."""
        overlay = self._render(step)
        allowed = self.catalogue.scalable(target.type)
        for name in overlay:
            if f"/{name}" not in allowed:
                message = f"{target.type} cannot scale '{name}'; it can scale {sorted(p[1:] for p in allowed)}"
                self._fault("INVALID", message, step, "inputs", name)
        difference = self.catalogue.compare(target.type, target.properties, {**target.properties, **overlay})
        return difference, _from_workflow(difference, step)

    def check_task(self, step: StepDefinition) -> None:
        """Add the faults of a task's inputs."""
        _, faults = self.catalogue.check_task(step.task or "", self._render(step))
        self._adopt(faults, step)

    def _render(self, step: StepDefinition) -> Mapping[str, Value]:
        try:
            rendered = embedded.render(step.inputs or {}, self.scope)
        except DomainError as error:
            self._fault(error.code, error.message, step, "inputs", *error.path)
            return {}
        return rendered if isinstance(rendered, Mapping) else {}

    def _adopt(self, faults: list[Diagnostic], step: StepDefinition) -> None:
        here = ("definition", "steps", step.key, "inputs")
        self.diagnostics.extend(replace(fault, path=(*here, *fault.path)) for fault in faults)

    def _fault(self, code: str, message: str, step: StepDefinition, *path: str) -> None:
        self.diagnostics.append(Diagnostic(Severity.ERROR, code, message, ("definition", "steps", step.key, *path)))


def _from_workflow(difference: Difference, step: StepDefinition) -> Changes:
    origin = Origin(ChangeSource.WORKFLOW, f"steps.{step.key}.inputs")
    return tuple((change, origin) for change in difference.changes)
