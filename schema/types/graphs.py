"""Dependency graphs as data: every edge says which expression made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import strawberry

from app.domain.graph import DependencyGraph, Edge


@strawberry.type(description="`from` has to be there before `to`.")
class GraphEdge:
    from_: str = strawberry.field(name="from")
    to: str
    explicit: bool = strawberry.field(description="Declared, not found in an expression.")
    path: str | None = strawberry.field(description="Where the reference stands, e.g. subnet.properties.vpcId.")
    expression: str | None = strawberry.field(description="e.g. ${resources.vpc.outputs.id}")

    @classmethod
    def of(cls, edge: Edge) -> GraphEdge:
        return cls(
            from_=edge.source, to=edge.target, explicit=edge.explicit, path=edge.path, expression=edge.expression
        )


@strawberry.type
class GraphNode:
    key: str
    kind: str = strawberry.field(description="resource or step")
    type: str = strawberry.field(description="The type of the resource or of the step.")
    wave: int = strawberry.field(description="Nodes of one wave do not depend on each other.")


@strawberry.type(description="What depends on what.")
class ResourceGraph:
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    critical_path: list[str]
    waves: list[list[str]]

    @classmethod
    def of(cls, graph: DependencyGraph, kind: str, type_of: Callable[[str], str]) -> ResourceGraph:
        """The graph of a definition; `type_of` names the type of a node."""
        waves = graph.waves()
        return cls(
            nodes=[
                GraphNode(key=key, kind=kind, type=type_of(key), wave=number)
                for number, wave in enumerate(waves)
                for key in wave
            ],
            edges=[GraphEdge.of(edge) for edge in graph.edges],
            critical_path=list(graph.critical_path(dict.fromkeys(graph.nodes, 1.0))),
            waves=[list(wave) for wave in waves],
        )

    @classmethod
    def of_json(cls, stored: Mapping[str, Any] | None) -> ResourceGraph:
        """The graph as stored with a plan; without one there is nothing in it."""
        stored = stored or {}
        return cls(
            nodes=[
                GraphNode(key=node["key"], kind=node["kind"], type=node["type"], wave=node["wave"])
                for node in stored.get("nodes", ())
            ],
            edges=[
                GraphEdge(
                    from_=edge["from"],
                    to=edge["to"],
                    explicit=edge["explicit"],
                    path=edge.get("path"),
                    expression=edge.get("expression"),
                )
                for edge in stored.get("edges", ())
            ],
            critical_path=list(stored.get("criticalPath", ())),
            waves=[list(wave) for wave in stored.get("waves", ())],
        )
