"""A state of a stack that is to be had again, taken from the journal and not from a template.

Stored with the plan that restores it, sealed:

    {"present": {key: {"type", "connection", "properties", "dependsOn", "retain", "preventDestroy"}},
     "absent": [key], "notes": [diagnostic]}
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.definitions.template import ResourceDefinition, TemplateDefinition
from app.domain.errors import Diagnostic, Severity
from app.domain.graph import DependencyGraph, Edge
from app.domain.values import Value, transform


@dataclass(frozen=True, slots=True)
class Target:
    """Resources as they shall be, by key, and those that shall not be; all others stay as they are."""

    present: Mapping[str, ResourceDefinition]
    absent: tuple[str, ...] = ()
    notes: tuple[Diagnostic, ...] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Target:
        """From its stored form, opened."""
        present = {
            key: ResourceDefinition(
                key=key,
                type=stored["type"],
                connection=stored["connection"],
                properties=stored["properties"],
                depends_on=tuple(stored["dependsOn"]),
                retain=stored["retain"],
                prevent_destroy=stored["preventDestroy"],
            )
            # The order decides among equals, and the database does not keep it.
            for key, stored in sorted(document["present"].items())
        }
        notes = (
            Diagnostic(Severity(note["severity"]), note["code"], note["message"], tuple(note["path"]))
            for note in document["notes"]
        )
        return cls(present, tuple(document["absent"]), tuple(notes))

    def stays(self, resource: ResourceDefinition, recorded: Container[str]) -> Iterator[str]:
        """What `resource` needs of the stack's recorded resources that are neither restored nor removed."""
        for need in resource.depends_on:
            if need in recorded and need not in self.present and need not in self.absent:
                yield need

    def document(self) -> dict[str, Value]:
        """Its stored form, to be sealed."""
        return {
            "present": {
                key: {
                    "type": one.type,
                    "connection": one.connection,
                    "properties": one.properties,
                    "dependsOn": list(one.depends_on),
                    "retain": one.retain,
                    "preventDestroy": one.prevent_destroy,
                }
                for key, one in self.present.items()
            },
            "absent": list(self.absent),
            "notes": [
                {
                    "severity": note.severity.value,
                    "code": note.code,
                    "message": note.message,
                    "path": [str(part) for part in note.path],
                }
                for note in self.notes
            ],
        }

    def template(self) -> TemplateDefinition:
        """The template whose resources are exactly those that shall be."""
        edges = [
            Edge(need, key, explicit=True, path=f"{key} depended on it")
            for key, one in self.present.items()
            for need in one.depends_on
            if need in self.present
        ]
        return TemplateDefinition(
            parameters={},
            resources=self.present,
            outputs={},
            constraints=(),
            graph=DependencyGraph(list(self.present), edges),
            notes=self.notes,
        )


def literal(tree: Value) -> Value:
    """The tree so that no text in it is taken for an expression."""
    return transform(tree, lambda leaf: leaf.replace("${", "$${") if isinstance(leaf, str) else leaf)
