"""Templates: parameters in, resources and outputs out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain.definitions.catalogue import Catalogue
from app.domain.definitions.constraints import ConstraintDefinition, read_constraints
from app.domain.definitions.reading import MAX_EDGES, MAX_NODES, Findings, Section, check_key
from app.domain.definitions.references import ReferenceChecker, ResourceShape, Surroundings
from app.domain.errors import Diagnostic, Path, Severity
from app.domain.expressions import ExpressionError, embedded
from app.domain.graph import DependencyGraph, Edge
from app.domain.naming import nearest
from app.domain.values import Value

# What expressions may begin with.
ROOTS = frozenset({"parameters", "resources", "plan", "plans", "tenant", "each"})
_SECTIONS = ("parameters", "resources", "outputs", "constraints", "description")
_RESOURCE = ("type", "connection", "properties", "dependsOn", "when", "forEach", "lifecycle", "description")


@dataclass(frozen=True)
class ResourceDefinition:
    """One resource. `properties`, `when` and `for_each` have their expressions unevaluated."""

    key: str
    type: str
    connection: str | None = None
    properties: Mapping[str, Value] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    when: Value = None
    for_each: Value = None
    retain: bool = False
    prevent_destroy: bool = False


@dataclass(frozen=True)
class OutputDefinition:
    """One output of a deployment; `value` is an expression or a tree with expressions."""

    name: str
    value: Value
    description: str = ""


@dataclass(frozen=True)
class TemplateDefinition:
    """A template without faults. `notes` are findings that do not matter much: what is written twice, for instance."""

    parameters: Mapping[str, Any]
    resources: Mapping[str, ResourceDefinition]
    outputs: Mapping[str, OutputDefinition]
    constraints: tuple[ConstraintDefinition, ...]
    graph: DependencyGraph = field(repr=False, compare=False)
    notes: tuple[Diagnostic, ...] = ()


def parse_template(content: Value, catalogue: Catalogue | None = None, *, path: Path = ()) -> TemplateDefinition:
    """The template that `content` describes; with a catalogue, checked against the resource types there are.

    Raises Invalid with every fault as a diagnostic, whose path begins with `path`; Cyclic when the only fault is that
    resources need each other; LimitExceeded for content that is too large to look at.
    """
    findings = Findings("template", path)
    findings.begin(content)
    return _TemplateReader(findings, content, catalogue).read()


class _TemplateReader:
    def __init__(self, findings: Findings, content: Value, catalogue: Catalogue | None) -> None:
        self.findings, self.catalogue = findings, catalogue
        self.document = Section(findings, content, (), _SECTIONS)
        self.document.prose("description")

    def read(self) -> TemplateDefinition:
        parameters = self.document.schema("parameters")
        raw = self.document.mapping("resources")
        self.findings.bound(len(raw), MAX_NODES, "resources", ("resources",))
        resources = {key: self._resource(key, value, raw) for key, value in raw.items()}
        checker = ReferenceChecker(
            self.findings,
            Surroundings(ROOTS, parameters=parameters, resources=shapes_of(resources), catalogue=self.catalogue),
        )
        edges = [edge for found in resources.values() for edge in self._edges(found, checker)]
        self.findings.bound(len(edges), MAX_EDGES, "dependencies", ("resources",))
        outputs = {name: self._output(name, value, checker) for name, value in self.document.mapping("outputs").items()}
        constraints = tuple(read_constraints(self.document.sequence("constraints"), checker))
        graph = self.findings.graph(resources, edges, lambda key: ("resources", key))
        for edge in graph.redundant_edges():
            message = f"'{edge.target}' refers to '{edge.source}', so that dependsOn says nothing new"
            place = ("resources", edge.target, "dependsOn")
            self.findings.add("REDUNDANT_DEPENDENCY", message, place, severity=Severity.INFO)
        notes = tuple(self.findings.diagnostics)
        return TemplateDefinition(parameters, resources, outputs, constraints, graph, notes)

    def _resource(self, key: str, value: Value, siblings: Mapping[str, Value]) -> ResourceDefinition:
        here = ("resources", key)
        check_key(self.findings, key, here)
        section = Section(self.findings, value, here, _RESOURCE)
        section.require("type")
        section.prose("description")
        lifecycle = Section(
            self.findings, section.mapping("lifecycle"), (*here, "lifecycle"), ("retain", "preventDestroy")
        )
        found = ResourceDefinition(
            key=key,
            type=section.text("type") or "",
            connection=section.text("connection"),
            properties=section.mapping("properties"),
            depends_on=section.keys_of("dependsOn", siblings, "resource"),
            when=section.condition("when"),
            for_each=section.collection("forEach"),
            retain=lifecycle.flag("retain"),
            prevent_destroy=lifecycle.flag("preventDestroy"),
        )
        check_type(self.findings, self.catalogue, found.type, found.properties, (*here, "type"), (*here, "properties"))
        return found

    def _edges(self, resource: ResourceDefinition, checker: ReferenceChecker) -> Iterator[Edge]:
        here = ("resources", resource.key)
        repeated = resource.for_each is not None
        places = (("properties", resource.properties), ("when", resource.when), ("forEach", resource.for_each))
        for name, value in places:
            for found in checker.survey(value, (*here, name), each=repeated and name == "properties"):
                place = ".".join(found.path[1:])
                for reference in found.expression.references:
                    if reference.root == "resources" and reference.path:
                        yield Edge(reference.path[0], resource.key, explicit=False, path=place, expression=found.text)
        for need in resource.depends_on:
            yield Edge(need, resource.key, explicit=True, path=f"{resource.key}.dependsOn")

    def _output(self, name: str, value: Value, checker: ReferenceChecker) -> OutputDefinition:
        here = ("outputs", name)
        section = Section(self.findings, value, here, ("value", "description"))
        if "value" not in section.value:
            section.require("value")
        for _ in checker.survey(section.value.get("value"), (*here, "value")):
            pass
        return OutputDefinition(name, section.value.get("value"), section.prose("description"))


def shapes_of(resources: Mapping[str, ResourceDefinition]) -> dict[str, ResourceShape]:
    """What references to the resources may go on with."""
    return {key: ResourceShape(found.type, found.for_each is not None) for key, found in resources.items()}


def check_type(
    findings: Findings,
    catalogue: Catalogue | None,
    type_name: str,
    properties: Mapping[str, Value],
    type_at: Path,
    properties_at: Path,
) -> None:
    """Complain about a type that there is not, or about properties it does not take, as far as they are known."""
    if catalogue is None or not type_name:
        return
    if not catalogue.has_type(type_name):
        suggestion = nearest(type_name, catalogue.type_names())
        findings.add("UNKNOWN_REFERENCE", f"there is no resource type '{type_name}'", type_at, suggestion)
        return
    try:
        known = embedded.render_known(properties)
    except ExpressionError:
        # The survey of references complains about it, with the exact place.
        return
    findings.adopt(catalogue.check(type_name, known)[1], properties_at)
