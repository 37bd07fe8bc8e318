"""`plan`: parameters checked, resources rendered and compared, steps ordered, removals found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from app.domain.definitions.constraints import ConstraintDefinition, constraints_of
from app.domain.definitions.template import ROOTS, shapes_of
from app.domain.definitions.workflow import WorkflowDefinition
from app.domain.enums import ChangeAction, StepType
from app.domain.errors import Diagnostic, Invalid, Required, Severity
from app.domain.expressions import embedded
from app.domain.graph import DependencyGraph
from app.domain.operations import OperationKind
from app.domain.planning.deployment import Deployment, PlannedStep, PlanningInput, RecordedResource, ResourceChange
from app.domain.planning.narrowing import left_alone, narrowed, refuse_workflow
from app.domain.planning.preflighting import before_all_else, preflights
from app.domain.planning.resources import RenderedResource, render_template
from app.domain.planning.steps import StepPlanner
from app.domain.planning.verifying import after_all_else, verifications
from app.domain.schemas import apply_schema
from app.domain.upstream import awaited, scope_of
from app.domain.values import UNKNOWN, Value, reveal

ALL = "*"
_APPLYING = frozenset({StepType.RESOURCE_CREATE, StepType.RESOURCE_UPDATE})
_NAMING = _APPLYING | {StepType.RESOURCE_DELETE}


def plan(given: PlanningInput) -> Deployment:
    """Work out the deployment. Raises Invalid with every fault found, Cyclic when that is the only fault."""
    if given.target is not None:
        given = replace(given, template=given.target.template())
    if given.template is None and given.workflow is None:
        message = "a plan needs a template or a workflow"
        raise Required(message, path=("templateRevisionId",))
    refuse_workflow(given)
    parameters = _parameters(given)
    scope: dict[str, Value] = {
        "parameters": parameters,
        "plan": {"name": given.plan_name, "stack": given.stack},
        "plans": scope_of(given.upstream),
        "tenant": {"slug": given.tenant_slug},
    }
    diagnostics: list[Diagnostic] = list(given.target.notes) if given.target else []
    diagnostics += awaited(given.upstream)
    if given.template is not None and given.workflow is not None:
        diagnostics += given.workflow.check_against(given.template)
    _refuse(diagnostics)
    recorded = {resource.key: resource for resource in given.recorded}
    rendered = render_template(given.template, scope, recorded, given.catalogue, diagnostics) if given.template else {}
    _refuse(diagnostics)
    everything = rendered
    rendered, recorded = narrowed(given, rendered, recorded)
    diagnostics += left_alone(given, everything, len(rendered))
    _judge("content", given.template.constraints if given.template else (), scope, diagnostics)
    _judge(None, _own_constraints(given), scope, diagnostics)
    planner = StepPlanner(given, rendered, recorded, scope, diagnostics)
    drafts = _drafts(given, rendered, planner)
    diagnostics += _left_out(rendered, drafts)
    if _applies_whole_template(given.workflow, rendered) and given.template is not None:
        drafts += [
            planner.removal(resource)
            for key, resource in sorted(recorded.items())
            if not _kept(key, rendered, drafts) and (given.target is None or key in given.target.absent)
        ]
    diagnostics += _in_doubt(drafts, recorded)
    if given.verification is not None and any(change.action is not ChangeAction.NO_CHANGE for _, change in drafts):
        drafts += verifications(given.verification, rendered, given.catalogue, diagnostics)
    _refuse(diagnostics)
    return replace(_assemble(parameters, drafts, planner, diagnostics), upstream=given.upstream)


def _parameters(given: PlanningInput) -> Mapping[str, Value]:
    """The parameters with defaults filled in and secrets wrapped; schema of the template and of the workflow joined."""
    schema: dict[str, Value] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    for definition in (given.template, given.workflow):
        declared = definition.parameters if definition is not None else None
        if declared:
            schema["properties"] = {**schema["properties"], **declared.get("properties", {})}
            schema["required"] = sorted({*schema["required"], *declared.get("required", ())})
            if declared.get("additionalProperties", False) is not False:
                schema["additionalProperties"] = declared["additionalProperties"]
    value, faults = apply_schema(schema, dict(given.parameters), ("parameters",))
    if faults:
        message = "; ".join(fault.message for fault in faults)
        raise Invalid(message, path=faults[0].path, diagnostics=faults)
    return value if isinstance(value, Mapping) else {}


def _own_constraints(given: PlanningInput) -> tuple[ConstraintDefinition, ...]:
    """Those of the plan itself. Raises Invalid where they speak of what is not there."""
    definition = given.template or given.workflow
    return constraints_of(
        list(given.constraints),
        ROOTS,
        parameters=definition.parameters if definition else None,
        resources=shapes_of(given.template.resources) if given.template else {},
        catalogue=given.catalogue,
    )


def _judge(
    document: str | None,
    constraints: tuple[ConstraintDefinition, ...],
    scope: Mapping[str, Value],
    faults: list[Diagnostic],
) -> None:
    """Find constraints that do not hold, as far as that can be said before anything exists."""
    for position, constraint in enumerate(constraints):
        outcome = embedded.render(constraint.condition, scope)
        if outcome is not UNKNOWN and reveal(outcome) is not True:
            place = ("constraints", str(position))
            path = place if document is None else (document, *place)
            faults.append(Diagnostic(Severity.ERROR, "CONSTRAINT", constraint.message, path))


def _drafts(
    given: PlanningInput, rendered: Mapping[str, RenderedResource], planner: StepPlanner
) -> list[tuple[PlannedStep, ResourceChange]]:
    if given.workflow is None:
        return [planner.application(resource, None) for resource in rendered.values()]
    # A step that merely uses a resource (backs it up, scales it) does not bring it about.
    named = {step.resource for step in given.workflow.steps if step.type in _NAMING}
    drafts: list[tuple[PlannedStep, ResourceChange]] = []
    for step in given.workflow.steps:
        if step.resource == ALL:
            rest = [resource for resource in rendered.values() if resource.definition_key not in named]
            drafts += [planner.application(resource, step) for resource in rest]
        else:
            drafts += planner.workflow_step(step)
    return drafts


def _left_out(
    rendered: Mapping[str, RenderedResource], drafts: list[tuple[PlannedStep, ResourceChange]]
) -> list[Diagnostic]:
    """Resources of the template that are not there, and that no step brings about: the plan may succeed without them.

    One that is there already need not be brought about by a workflow that only uses it.
    """
    handled = {step.resource_key for step, _ in drafts}
    absent = {
        resource.definition_key: None
        for key, resource in rendered.items()
        if resource.difference.action is ChangeAction.CREATE and key not in handled
    }
    return [
        Diagnostic(
            Severity.WARN,
            "NOT_APPLIED",
            f"no step of the workflow brings about '{key}': name it in a RESOURCE_CREATE step, or all by '*'",
            ("content", "resources", key),
        )
        for key in absent
    ]


def _in_doubt(
    drafts: list[tuple[PlannedStep, ResourceChange]], recorded: Mapping[str, RecordedResource]
) -> list[Diagnostic]:
    """Resources of which nobody knows whether an earlier job has made them: the preview can only say what is meant."""
    removed = {step.resource_key: step.operation is OperationKind.DELETE for step, _ in drafts}
    return [
        Diagnostic(
            Severity.WARN,
            "IN_DOUBT",
            f"an earlier job may have made '{key}': it is looked for first, and"
            f" {'removed' if removed[key] else 'taken over'} where it is found",
            ("content", "resources", key),
        )
        for key, resource in recorded.items()
        if resource.in_doubt and key in removed
    ]


def _applies_whole_template(workflow: WorkflowDefinition | None, rendered: Mapping[str, RenderedResource]) -> bool:
    """Only a plan that brings about all of the template may conclude that something else is no longer wanted."""
    if workflow is None:
        return True
    applied = {step.resource for step in workflow.steps if step.type in _APPLYING}
    return bool(rendered) and (ALL in applied or {r.definition_key for r in rendered.values()} <= applied)


def _kept(key: str, rendered: Mapping[str, RenderedResource], drafts: list[tuple[PlannedStep, ResourceChange]]) -> bool:
    return key in rendered or any(step.resource_key == key for step, _ in drafts)


def _assemble(
    parameters: Mapping[str, Value],
    drafts: list[tuple[PlannedStep, ResourceChange]],
    planner: StepPlanner,
    diagnostics: list[Diagnostic],
) -> Deployment:
    keys = {step.key for step, _ in drafts}
    edges = [edge for edge in planner.edges(drafts) if edge.source in keys and edge.target in keys]
    edges += after_all_else(drafts, edges)
    if planner.given.preflight:
        drafts += preflights(drafts, edges, planner.rendered, planner.catalogue)
        edges += before_all_else(drafts, edges)
    graph = DependencyGraph([step.key for step, _ in drafts], edges)
    graph.check()
    wave_of = {key: number for number, wave in enumerate(graph.waves()) for key in wave}
    order = {key: position for position, key in enumerate(graph.order())}
    drafts.sort(key=lambda draft: order[draft[0].key])
    steps = tuple(_placed(step, graph, wave_of) for step, _ in drafts)
    changes = tuple(_in_wave(change, wave_of) for _, change in drafts)
    return Deployment(
        parameters=parameters,
        steps=steps,
        changes=changes,
        graph=graph,
        points_of_no_return=tuple(planner.points_of_no_return(changes)),
        diagnostics=tuple(diagnostics),
    )


def _placed(step: PlannedStep, graph: DependencyGraph, wave_of: Mapping[str, int]) -> PlannedStep:
    return replace(step, needs=tuple(sorted(graph.needs(step.key))), wave=wave_of[step.key])


def _in_wave(change: ResourceChange, wave_of: Mapping[str, int]) -> ResourceChange:
    return replace(change, wave=wave_of[change.key])


def _refuse(diagnostics: list[Diagnostic]) -> None:
    faults = [found for found in diagnostics if found.severity is Severity.ERROR]
    if faults:
        message = "; ".join(fault.message for fault in faults[:5])
        raise Invalid(message, path=faults[0].path, diagnostics=tuple(diagnostics))
