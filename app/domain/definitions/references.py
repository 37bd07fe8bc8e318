"""Checks that what expressions refer to exists."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.definitions.catalogue import Catalogue
from app.domain.definitions.reading import Findings
from app.domain.errors import Path
from app.domain.expressions import Reference, embedded
from app.domain.expressions.embedded import Embedded
from app.domain.naming import nearest
from app.domain.values import Value

_RESOURCE_FIELDS = ("id", "outputs", "properties")
_FIXED = {"plan": ("name", "stack"), "tenant": ("slug",), "each": ("key", "value")}


@dataclass(frozen=True, slots=True)
class ResourceShape:
    """What a reference to a resource may go on with. `type` is None where nothing is known of it."""

    type: str | None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the expressions of a document can see. None: not known yet, so not checked.

    `roots` are the names an expression may begin with; `each` is allowed only inside a forEach.
    """

    roots: frozenset[str]
    parameters: Mapping[str, Any] | None = None
    resources: Mapping[str, ResourceShape] | None = None
    steps: Collection[str] | None = None
    catalogue: Catalogue | None = None


@dataclass
class ReferenceChecker:
    """Checks references and complains to `findings`."""

    findings: Findings
    surroundings: Surroundings

    def survey(self, value: Value, path: Path, *, each: bool = False) -> Iterator[Embedded]:
        """Every expression in `value`, checked. Paths of the result begin with `path`."""
        found, faults = embedded.survey(value, path)
        self.findings.adopt(faults)
        for item in found:
            self.check(item, each=each)
        yield from found

    def check(self, found: Embedded, *, each: bool = False) -> None:
        """Complain about every reference of one expression that leads nowhere."""
        for reference in found.expression.references:
            root = reference.root
            if root not in self.surroundings.roots or (root == "each" and not each):
                names = sorted(self.surroundings.roots - (set() if each else {"each"}))
                self._complain(f"there is no '{root}' here; there are {', '.join(names)}", found, nearest(root, names))
            elif root == "parameters":
                self._parameter(reference, found)
            elif root == "resources":
                self._resource(reference, found)
            elif root == "steps":
                self._step(reference, found)
            elif root == "plans":
                self._plan(reference, found)
            elif reference.path and reference.path[0] not in _FIXED[root]:
                fields = _FIXED[root]
                self._complain(f"'{root}' has no '{reference.path[0]}'", found, nearest(reference.path[0], fields))

    def _parameter(self, reference: Reference, found: Embedded) -> None:
        schema = self.surroundings.parameters
        if schema is not None and reference.path:
            self._walk(schema, reference.path, "parameters", found, closed=True)

    def _resource(self, reference: Reference, found: Embedded) -> None:
        known = self.surroundings.resources
        if not reference.path:
            self._complain("a reference to a resource has to name it", found)
            return
        key, rest = reference.path[0], reference.path[1:]
        if known is None:
            return
        if key not in known:
            self._complain(f"there is no resource '{key}'", found, nearest(key, known))
            return
        shape = known[key]
        if shape.repeated:
            # One more link: the key of the element.
            rest = rest[1:]
        if rest and rest[0] not in _RESOURCE_FIELDS:
            message = f"the resource '{key}' has id, outputs and properties, but no '{rest[0]}'"
            self._complain(message, found, nearest(rest[0], _RESOURCE_FIELDS))
        elif rest[1:] and rest[0] != "id":
            self._property(shape.type, rest, key, found)

    def _property(self, type_name: str | None, rest: Path, key: str, found: Embedded) -> None:
        catalogue = self.surroundings.catalogue
        if catalogue is None or type_name is None or not catalogue.has_type(type_name):
            return
        outputs = rest[0] == "outputs"
        schema = catalogue.outputs_schema(type_name) if outputs else catalogue.properties_schema(type_name)
        self._walk(schema, rest[1:], f"resources.{key}.{rest[0]}", found, closed=outputs)

    def _step(self, reference: Reference, found: Embedded) -> None:
        known = self.surroundings.steps
        if not reference.path:
            self._complain("a reference to a step has to name it", found)
        elif known is not None and reference.path[0] not in known:
            self._complain(f"there is no step '{reference.path[0]}'", found, nearest(reference.path[0], known))
        elif len(reference.path) > 1 and reference.path[1] != "outputs":
            self._complain(f"a step has outputs, but no '{reference.path[1]}'", found)

    def _plan(self, reference: Reference, found: Embedded) -> None:
        """Whether there is such a plan is asked when the document is deployed."""
        if not reference.path:
            self._complain('a reference to another plan has to name it: plans["name"].outputs', found)
        elif reference.path[1:2] != ("outputs",):
            self._complain(f"of the plan '{reference.path[0]}' outputs can be read and nothing else", found)

    def _walk(self, schema: Any, path: Path, trail: str, found: Embedded, *, closed: bool) -> None:
        """Follow `path` through the properties of a schema; stop without complaint where it says nothing.

        With `closed`, the outermost object has only the properties that are declared.
        """
        for step in path:
            if not isinstance(schema, Mapping) or schema.keys() & {"$ref", "allOf", "anyOf", "oneOf"}:
                return
            declared = schema.get("properties", {})
            if step in declared:
                schema = declared[step]
            elif schema.get("additionalProperties", not closed) is False and "patternProperties" not in schema:
                self._complain(f"'{trail}' has no '{step}'", found, nearest(step, declared))
                return
            else:
                return
            trail, closed = f"{trail}.{step}", False

    def _complain(self, message: str, found: Embedded, suggestion: str | None = None) -> None:
        shown = found.text if len(found.text) < 80 else found.text[:79] + "…"
        self.findings.add("UNKNOWN_REFERENCE", f"in {shown}: {message}", found.path, suggestion)
