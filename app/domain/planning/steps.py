"""Turns rendered resources and workflow steps into planned steps, and finds the edges between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from app.domain.definitions.gates import GateDefinition
from app.domain.definitions.workflow import StepDefinition
from app.domain.enums import ChangeAction, Reversibility, StepType
from app.domain.errors import Diagnostic, Severity
from app.domain.expressions import embedded
from app.domain.graph import Edge
from app.domain.operations import OperationKind, Phase
from app.domain.planning.deployment import Origin, PlannedStep, PlanningInput, RecordedResource, ResourceChange
from app.domain.planning.resources import RenderedResource
from app.domain.planning.targets import Targets
from app.domain.retrying import RetryPolicy
from app.domain.values import Value

DEFAULT_TIMEOUT_SECONDS = 600.0
ACTIONS = {
    StepType.RESOURCE_BACKUP: "backup",
    StepType.RESOURCE_RESTORE: "restore",
    StepType.RESOURCE_MIGRATE: "migrate",
}
_BY_ACTION = {
    ChangeAction.CREATE: StepType.RESOURCE_CREATE,
    ChangeAction.REPLACE: StepType.RESOURCE_CREATE,
    ChangeAction.DELETE: StepType.RESOURCE_DELETE,
}

Draft = tuple[PlannedStep, ResourceChange]


class StepPlanner:
    """Makes the steps of one plan and remembers which step stands for which resource and workflow step."""

    def __init__(
        self,
        given: PlanningInput,
        rendered: Mapping[str, RenderedResource],
        recorded: Mapping[str, RecordedResource],
        scope: Mapping[str, Value],
        diagnostics: list[Diagnostic],
    ) -> None:
        self.given = given
        self.catalogue = given.catalogue
        self.rendered = rendered
        self.recorded = recorded
        self.diagnostics = diagnostics
        self.targets = Targets(given.catalogue, rendered, recorded, scope, diagnostics)
        self._of_resource: dict[str, list[str]] = {}
        self._of_workflow_step: dict[str, list[str]] = {}

    def application(self, resource: RenderedResource, step: StepDefinition | None) -> Draft:
        """The step that brings `resource` about; under the workflow step's key when that one names the resource."""
        definition = resource.definition
        key = resource.key
        if step is not None and step.resource == resource.definition_key:
            key = step.key if resource.each is None else f"{step.key}[{resource.each['key']}]"
        spec = {
            "type": definition.type,
            "provider": self.catalogue.provider_name(definition.type),
            "connection": definition.connection,
            "resourceKey": resource.key,
            "properties": definition.properties,
            "each": resource.each,
            "dependsOnResources": sorted(self._resources_needed(resource)),
            "predecessorNeeds": self._predecessor_needs(resource.key),
            "retain": definition.retain,
            "preventDestroy": definition.prevent_destroy,
            "when": step.when if step is not None else definition.when,
        }
        action = resource.difference.action
        return self._draft(
            key,
            step,
            OperationKind.APPLY,
            spec,
            action,
            type_name=definition.type,
            resource_key=resource.key,
            definition_key=resource.definition_key,
            changes=resource.changes,
            reversibility=self._reversibility(definition.type, action),
            downtime=action is ChangeAction.REPLACE and self.catalogue.deletes_first(definition.type),
        )

    def workflow_step(self, step: StepDefinition) -> Iterator[Draft]:
        """The planned steps of one workflow step; several where it names a resource with forEach."""
        if step.type is StepType.CUSTOM:
            yield self._task(step) if step.gate is None else self._gate(step, step.gate)
            return
        if step.type in (StepType.RESOURCE_CREATE, StepType.RESOURCE_UPDATE):
            if step.resource is None:
                yield self._inline(step)
            for resource in self.rendered.values():
                if step.resource == resource.definition_key:
                    yield self.application(resource, step)
            return
        for target in self.targets.of(step):
            if step.type is StepType.RESOURCE_DELETE:
                yield self.removal(target, step)
            elif step.type is StepType.RESOURCE_SCALE:
                yield self._scaling(target, step)
            else:
                yield self._action(target, step)

    def removal(self, resource: RecordedResource, step: StepDefinition | None = None) -> Draft:
        """The step that deletes `resource`: last, in COMMIT, unless a workflow says when."""
        if resource.prevent_destroy:
            message = f"'{resource.key}' is protected by preventDestroy and would be deleted"
            self.diagnostics.append(
                Diagnostic(Severity.ERROR, "PREVENT_DESTROY", message, ("content", "resources", resource.key))
            )
        spec = {
            "type": resource.type,
            "provider": self.catalogue.provider_name(resource.type),
            "connection": resource.connection,
            "resourceKey": resource.key,
            "predecessorNeeds": self._predecessor_needs(resource.key),
            "when": step.when if step else None,
            "detach": resource.retain,
        }
        action = ChangeAction.DETACH if resource.retain else ChangeAction.DELETE
        return self._draft(
            step.key if step else resource.key,
            step,
            OperationKind.DELETE,
            spec,
            action,
            type_name=resource.type,
            resource_key=resource.key,
            definition_key=None if step else resource.key,
            phase=Phase.APPLY if step else Phase.COMMIT,
            reversibility=self._reversibility(resource.type, action),
        )

    def edges(self, drafts: list[Draft]) -> Iterator[Edge]:
        """Every edge between the planned steps: from the template, from the workflow, and for deletions."""
        template, workflow = self.given.template, self.given.workflow
        if template is not None:
            yield from self._between(template.graph.edges, self._of_resource)
        if workflow is not None:
            yield from self._between(workflow.graph.edges, self._of_workflow_step)
            for step in workflow.steps:
                yield from self._uses_of_resources(step)
        yield from self._deletions([step for step, _ in drafts if step.operation is OperationKind.DELETE])

    def _deletions(self, deletions: list[PlannedStep]) -> Iterator[Edge]:
        """Whoever depends on a thing goes before it."""
        by_resource = {step.resource_key: step for step in deletions}
        for resource_key, step in by_resource.items():
            recorded = self.recorded.get(resource_key or "")
            for need in recorded.depends_on if recorded else ():
                if need in by_resource:
                    path = f"{resource_key} is deleted first"
                    yield Edge(step.key, by_resource[need].key, explicit=False, path=path)

    def _predecessor_needs(self, resource_key: str) -> list[str]:
        """What the resource as it is recorded depends on: none of that may go before it, whatever it is to become."""
        recorded = self.recorded.get(resource_key)
        return sorted(recorded.depends_on) if recorded is not None else []

    def points_of_no_return(self, changes: tuple[ResourceChange, ...]) -> Iterator[str]:
        """Keys whose effects a rollback cannot take back."""
        for change in changes:
            if change.reversibility is not Reversibility.REVERSIBLE:
                yield change.key

    def _inline(self, step: StepDefinition) -> Draft:
        type_name = step.resource_type or ""
        before = self.recorded.get(step.key)
        difference, changes = self.targets.inline(step, before)
        spec = {
            "type": type_name,
            "provider": self.catalogue.provider_name(type_name),
            "connection": step.connection,
            "resourceKey": step.key,
            "properties": step.inputs,
            "when": step.when,
            "dependsOnResources": [],
        }
        return self._draft(
            step.key,
            step,
            OperationKind.APPLY,
            spec,
            difference.action,
            type_name=type_name,
            resource_key=step.key,
            definition_key=step.key,
            changes=changes,
            reversibility=self._reversibility(type_name, difference.action),
        )

    def _scaling(self, target: RecordedResource, step: StepDefinition) -> Draft:
        difference, changes = self.targets.scaling(step, target)
        spec = {
            "type": target.type,
            "provider": self.catalogue.provider_name(target.type),
            "connection": target.connection,
            "resourceKey": target.key,
            "overlay": step.inputs,
            "when": step.when,
            "dependsOnResources": list(target.depends_on),
        }
        return self._draft(
            step.key,
            step,
            OperationKind.APPLY,
            spec,
            difference.action,
            type_name=target.type,
            resource_key=target.key,
            changes=changes,
            reversibility=Reversibility.REVERSIBLE,
        )

    def _action(self, target: RecordedResource, step: StepDefinition) -> Draft:
        action = ACTIONS[step.type]
        reversibility = Reversibility.REVERSIBLE
        if action in self.catalogue.actions(target.type):
            reversibility = self.catalogue.action_reversibility(target.type, action)
        else:
            message = f"{target.type} has no action '{action}'"
            self.diagnostics.append(
                Diagnostic(Severity.ERROR, "UNKNOWN_ACTION", message, ("definition", "steps", step.key, "type"))
            )
        spec = {
            "type": target.type,
            "provider": self.catalogue.provider_name(target.type),
            "connection": target.connection,
            "resourceKey": target.key,
            "action": action,
            "inputs": step.inputs,
            "when": step.when,
        }
        return self._draft(
            step.key,
            step,
            OperationKind.ACT,
            spec,
            ChangeAction.RUN,
            type_name=target.type,
            resource_key=target.key,
            reversibility=reversibility,
        )

    def _task(self, step: StepDefinition) -> Draft:
        name = step.task or ""
        known = self.catalogue.has_task(name)
        if known:
            self.targets.check_task(step)
        else:
            message = f"there is no task '{name}'"
            self.diagnostics.append(
                Diagnostic(
                    Severity.ERROR, "UNKNOWN_REFERENCE", message, ("definition", "steps", step.key, "configuration")
                )
            )
        undoable = (known and self.catalogue.task_undoable(name, step.inputs or {})) or step.compensate is not None
        spec = {"task": name, "inputs": step.inputs, "connection": step.connection, "when": step.when}
        if known and step.compensate is None and self.catalogue.task_pure(name):
            # There will be nothing to journal and to take back (decision 45).
            spec["pure"] = True
        return self._draft(
            step.key,
            step,
            OperationKind.RUN,
            spec,
            ChangeAction.RUN,
            type_name=name,
            reversibility=Reversibility.REVERSIBLE if undoable else Reversibility.IRREVERSIBLE,
        )

    def _gate(self, step: StepDefinition, gate: GateDefinition) -> Draft:
        return self._draft(
            step.key,
            step,
            OperationKind.GATE,
            {"gate": gate.document(), "when": step.when},
            ChangeAction.RUN,
            type_name=f"gate.{gate.kind.value.lower()}",
            reversibility=Reversibility.REVERSIBLE,
        )

    def _draft(
        self,
        key: str,
        step: StepDefinition | None,
        operation: OperationKind,
        spec: Mapping[str, Value],
        action: ChangeAction,
        *,
        type_name: str,
        reversibility: Reversibility,
        resource_key: str | None = None,
        definition_key: str | None = None,
        phase: Phase = Phase.APPLY,
        changes: tuple[tuple[object, Origin], ...] = (),
        downtime: bool = False,
    ) -> Draft:
        if definition_key is not None:
            self._of_resource.setdefault(definition_key, []).append(key)
        if step is not None:
            self._of_workflow_step.setdefault(step.key, []).append(key)
        recorded = self.recorded.get(resource_key) if resource_key else None
        spec = {
            **spec,
            "ignore": step.ignore if step else False,
            "compensate": step.compensate if step else None,
            **({"onConflict": step.on_conflict.value} if step is not None and step.on_conflict else {}),
            **({"checkpoint": step.key} if step is not None and step.checkpoint else {}),
        }
        planned = PlannedStep(
            key=key,
            name=(step.name if step and key == step.key else None) or key,
            type=step.type if step else _BY_ACTION.get(action, StepType.RESOURCE_UPDATE),
            operation=operation,
            phase=phase,
            change=action,
            needs=(),
            spec={**spec, "references": references(spec)},
            timeout_seconds=float((step.timeout_seconds if step else None) or DEFAULT_TIMEOUT_SECONDS),
            retry=step.retry if step else RetryPolicy(),
            total_seconds=step.total_seconds if step else None,
            heartbeat_seconds=self._heartbeat(step, operation, spec),
            strategy=step.strategy if step else None,
            resource_key=resource_key,
            workflow_step_key=step.key if step else None,
        )
        change = ResourceChange(
            key=key,
            type=type_name,
            action=action,
            wave=0,
            reversibility=reversibility,
            downtime=downtime,
            resource_id=recorded.resource_id if recorded else None,
            properties=changes,  # type: ignore[arg-type]
            before=recorded.found if recorded else None,
        )
        return planned, change

    def _heartbeat(
        self, step: StepDefinition | None, operation: OperationKind, spec: Mapping[str, Value]
    ) -> float | None:
        """A step may stand for several: those whose provider says nothing while it works are not waited for."""
        acts_on = spec.get("task") if operation is OperationKind.RUN else spec.get("type")
        heard = step is not None and acts_on is not None and self.catalogue.reports(str(acts_on))
        return step.heartbeat_seconds if step is not None and heard else None

    def _reversibility(self, type_name: str, action: ChangeAction) -> Reversibility:
        deletes = action is ChangeAction.DELETE
        if deletes or (action is ChangeAction.REPLACE and self.catalogue.deletes_first(type_name)):
            return Reversibility.IRREVERSIBLE if self.catalogue.is_stateful(type_name) else Reversibility.LOSSY
        return Reversibility.REVERSIBLE

    def _resources_needed(self, resource: RenderedResource) -> Iterator[str]:
        graph = self.given.template.graph if self.given.template else None
        needed = graph.needs(resource.definition_key) if graph else frozenset()
        yield from (other.key for other in self.rendered.values() if other.definition_key in needed)
        if self.given.target is not None:
            # What a restored resource needs is not restored with it where it has stayed as it was.
            yield from self.given.target.stays(resource.definition, self.recorded)

    def _between(self, edges: tuple[Edge, ...], placed: Mapping[str, list[str]]) -> Iterator[Edge]:
        for edge in edges:
            for source in placed.get(edge.source, ()):
                for target in placed.get(edge.target, ()):
                    yield Edge(source, target, edge.explicit, edge.path, edge.expression)

    def _uses_of_resources(self, step: StepDefinition) -> Iterator[Edge]:
        for found in embedded.find(
            {"inputs": step.inputs, "when": step.when, "prompt": step.gate.prompt if step.gate else None}
        ):
            for reference in found.expression.references:
                if reference.root != "resources" or not reference.path:
                    continue
                for source in self._of_resource.get(reference.path[0], ()):
                    for target in self._of_workflow_step.get(step.key, ()):
                        if source != target:
                            path = ".".join((step.key, *found.path))
                            yield Edge(source, target, explicit=False, path=path, expression=found.text)


def references(spec: Mapping[str, Value]) -> dict[str, list[str]]:
    """The names of resources, steps and other plans that the spec's expressions read when they are evaluated."""
    named: dict[str, set[str]] = {"resources": set(), "steps": set(), "plans": set()}
    read = {name: spec.get(name) for name in ("properties", "overlay", "inputs", "when", "compensate")}
    read["prompt"] = (spec.get("gate") or {}).get("prompt")
    for found in embedded.find(read):
        for reference in found.expression.references:
            if reference.root in named and reference.path:
                named[reference.root].add(reference.path[0])
    return {root: sorted(names) for root, names in named.items()}
