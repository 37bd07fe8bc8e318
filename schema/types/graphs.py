"""Dependency graphs as data: every edge says which expression made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import strawberry

from app.domain.enums import ChangeAction
from app.domain.estimating import Usual, seconds_of
from app.domain.graph import DependencyGraph, Edge
from schema.context import Info
from schema.fields import described
from schema.scalars import Duration


async def usual_of(info: Info) -> Usual:
    """How long the tenant's steps usually take."""
    return await info.context.loaders.usual_seconds.load(info.context.tenant_id) or {}


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
    # The resource type or the task, and what is done to it.
    deed: strawberry.Private[tuple[str, ChangeAction] | None] = None

    @described("From how long the like took before; null for what was never done here, or where that is not known.")
    async def estimated_duration(self, info: Info) -> Duration | None:
        seconds = None if self.deed is None else seconds_of(*self.deed, await usual_of(info))
        return None if seconds is None else Duration(seconds)


@strawberry.type(description="What depends on what.")
class ResourceGraph:
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    critical_path: list[str]
    waves: list[list[str]]

    @classmethod
    def of(cls, graph: DependencyGraph, kind: str, type_of: Callable[[str], str]) -> ResourceGraph:
        """The graph of a definition; `type_of` names the type of a node. Resources are to be created."""
        waves = graph.waves()
        return cls(
            nodes=[
                GraphNode(
                    key=key,
                    kind=kind,
                    type=type_of(key),
                    wave=number,
                    deed=(type_of(key), ChangeAction.CREATE) if kind == "resource" else None,
                )
                for number, wave in enumerate(waves)
                for key in wave
            ],
            edges=[GraphEdge.of(edge) for edge in graph.edges],
            critical_path=list(graph.critical_path(dict.fromkeys(graph.nodes, 1.0))),
            waves=[list(wave) for wave in waves],
        )

    @classmethod
    def of_json(cls, stored: Mapping[str, Any] | None, preview: Mapping[str, Any] | None) -> ResourceGraph:
        """The graph as stored with a plan, whose `preview` says what is done; without one there is nothing in it."""
        stored = stored or {}
        deeds = {
            change["key"]: (change["type"], ChangeAction(change["action"]))
            for change in (preview or {}).get("changes", ())
        }
        return cls(
            nodes=[
                GraphNode(
                    key=node["key"],
                    kind=node["kind"],
                    type=node["type"],
                    wave=node["wave"],
                    deed=deeds.get(node["key"]),
                )
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
