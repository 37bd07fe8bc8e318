"""Workflows: steps that are taken in order, or where they declare it, by dependency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

from app.domain.definitions.catalogue import Catalogue
from app.domain.definitions.reading import MAX_EDGES, MAX_NODES, Findings, Section
from app.domain.definitions.references import ReferenceChecker, ResourceShape, Surroundings
from app.domain.definitions.steps import ALL, APPLYING, StepDefinition, StepReader, survey_step
from app.domain.definitions.template import TemplateDefinition
from app.domain.errors import Diagnostic, Path
from app.domain.graph import DependencyGraph, Edge
from app.domain.naming import nearest
from app.domain.values import Value

__all__ = ["StepDefinition", "WorkflowDefinition", "parse_workflow"]

ROOTS = frozenset({"parameters", "resources", "steps", "plan", "plans", "tenant"})


@dataclass(frozen=True)
class WorkflowDefinition:
    """A workflow without faults in itself. Whether it fits a template is for `check_against` to say."""

    parameters: Mapping[str, Any]
    steps: tuple[StepDefinition, ...]
    graph: DependencyGraph = field(repr=False, compare=False)
    notes: tuple[Diagnostic, ...] = ()

    def check_against(self, template: TemplateDefinition, *, path: Path = ("definition",)) -> list[Diagnostic]:
        """What keeps the workflow from working on the template, paths beginning with `path`."""
        findings = Findings("workflow", path)
        checker = ReferenceChecker(findings, self._surroundings(template))
        for position, step in enumerate(self.steps):
            here = ("steps", str(position))
            # Other steps may also name a resource that is gone from the template but still recorded in the stack.
            if step.type in APPLYING and step.resource not in (None, ALL, *template.resources):
                message = f"the template has no resource '{step.resource}'"
                suggestion = nearest(step.resource or "", template.resources)
                findings.add("UNKNOWN_REFERENCE", message, (*here, "configuration", "resource"), suggestion)
            for _ in survey_step(checker, step, here):
                pass
        return findings.diagnostics

    def _surroundings(self, template: TemplateDefinition) -> Surroundings:
        """A plan's parameters are those of its template and of its workflow together."""
        declared = {**template.parameters.get("properties", {}), **self.parameters.get("properties", {})}
        joined: dict[str, Any] = {"type": "object", "properties": declared}
        for schema in (template.parameters, self.parameters):
            if schema.get("additionalProperties", False) is not False:
                joined["additionalProperties"] = schema["additionalProperties"]
        shapes = {
            key: ResourceShape(found.type, found.for_each is not None) for key, found in template.resources.items()
        }
        for step in self.steps:
            if step.resource_type is not None:
                shapes.setdefault(step.key, ResourceShape(step.resource_type))
        return Surroundings(ROOTS, parameters=joined, resources=shapes, steps={step.key for step in self.steps})


def parse_workflow(definition: Value, catalogue: Catalogue | None = None, *, path: Path = ()) -> WorkflowDefinition:
    """The workflow that `definition` describes; with a catalogue, checked against the types and tasks there are.

    Raises Invalid with every fault as a diagnostic, whose path begins with `path`; Cyclic when the only fault is that
    steps wait for each other; LimitExceeded for a definition that is too large to look at.
    """
    findings = Findings("workflow", path)
    findings.begin(definition)
    return _read(findings, definition, catalogue)


def _read(findings: Findings, definition: Value, catalogue: Catalogue | None) -> WorkflowDefinition:
    document = Section(findings, definition, (), ("parameters", "steps", "description"))
    document.prose("description")
    parameters = document.schema("parameters")
    document.require("steps")
    raw = document.sequence("steps")
    findings.bound(len(raw), MAX_NODES, "steps", ("steps",))
    steps = _steps(findings, raw, catalogue)
    places = {step.key: ("steps", str(position)) for position, step in enumerate(steps)}
    edges = _edges(findings, steps, catalogue)
    findings.bound(len(edges), MAX_EDGES, "dependencies", ("steps",))
    graph = findings.graph(places, edges, places.__getitem__)
    return WorkflowDefinition(parameters, steps, graph, tuple(findings.diagnostics))


def _steps(findings: Findings, raw: list[Value], catalogue: Catalogue | None) -> tuple[StepDefinition, ...]:
    keys = [value.get("key") for value in raw if isinstance(value, Mapping)]
    reader = StepReader(findings, frozenset(key for key in keys if isinstance(key, str)), catalogue)
    steps: list[StepDefinition] = []
    seen: set[str] = set()
    # Steps that say nothing about order run one after the other, as they are written.
    order = 0
    for position, value in enumerate(raw):
        here = ("steps", str(position))
        step = reader.read(value, here, order + 1)
        order = step.order
        if step.key in seen:
            findings.add("INVALID", f"there is more than one step '{step.key}'", (*here, "key"))
        elif step.key:
            seen.add(step.key)
        steps.append(step)
    return tuple(steps)


def _edges(findings: Findings, steps: tuple[StepDefinition, ...], catalogue: Catalogue | None) -> list[Edge]:
    keys = {step.key for step in steps}
    checker = ReferenceChecker(findings, Surroundings(ROOTS, steps=keys, catalogue=catalogue))
    inline = {step.key for step in steps if step.resource_type is not None}
    edges: list[Edge] = []
    # By key: of steps that share one, which is a fault, the last stands for all.
    in_order: dict[str, StepDefinition] = {}
    for position, step in enumerate(steps):
        own = [*_references(checker, step, ("steps", str(position)), inline)]
        own += [Edge(need, step.key, explicit=True, path=f"{step.key}.dependsOn") for need in step.depends_on]
        edges += own
        if not own:
            in_order[step.key] = step
    return edges + _barriers(findings, [*in_order.values()])


def _references(checker: ReferenceChecker, step: StepDefinition, here: Path, inline: set[str]) -> Iterator[Edge]:
    """Edges from the steps, and from the steps' own resources, that the expressions of `step` read."""
    for found in survey_step(checker, step, here):
        # What undoes a step, and what it gives, may read what the step itself gave.
        of_itself = found.path[2] in ("errorHandling", "outputs")
        for reference in found.expression.references:
            source = reference.path[0] if reference.path else None
            reads_step = reference.root == "steps" or (reference.root == "resources" and source in inline)
            if source is not None and reads_step and not (of_itself and source == step.key):
                place = ".".join((step.key, *found.path[2:]))
                yield Edge(source, step.key, explicit=False, path=place, expression=found.text)


def _barriers(findings: Findings, steps: list[StepDefinition]) -> list[Edge]:
    """Each step after every step of the order before it, among those that declare nothing else."""
    groups = [
        [step.key for step in group]
        for _, group in groupby(sorted(steps, key=lambda step: step.order), key=lambda step: step.order)
    ]
    # Counted before they are made: two orders of 2,500 steps each would be six million edges.
    findings.bound(sum(len(a) * len(b) for a, b in pairwise(groups)), MAX_EDGES, "dependencies", ("steps",))
    return [
        Edge(source, target, explicit=True, path="order")
        for before, after in pairwise(groups)
        for target in after
        for source in before
    ]
