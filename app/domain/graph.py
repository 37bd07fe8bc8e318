"""What has to be there before what: a graph of keys whose edges remember which text made them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from typing import Protocol, TypeVar

from app.domain.errors import Cyclic


@dataclass(frozen=True, slots=True)
class Edge:
    """`target` needs `source`.

    `path` says where that is written ("subnet.properties.vpcId") and `expression` what is written there
    ("${resources.vpc.outputs.id}"); `explicit` means that it was declared rather than found in an expression.
    """

    source: str
    target: str
    explicit: bool
    path: str | None = None
    expression: str | None = None


class DependencyGraph:
    """Immutable. Every answer depends only on the order in which nodes and edges were given.

    Cycles are allowed in, so that they can be shown; `order`, `waves` and `critical_path` raise Cyclic then.
    """

    def __init__(self, nodes: Iterable[str], edges: Iterable[Edge]) -> None:
        self.nodes = tuple(dict.fromkeys(nodes))
        self.edges = tuple(dict.fromkeys(edges))
        self._rank = {key: position for position, key in enumerate(self.nodes)}
        self._needs: dict[str, dict[str, Edge]] = {key: {} for key in self.nodes}
        self._dependents: dict[str, dict[str, Edge]] = {key: {} for key in self.nodes}
        for edge in self.edges:
            if edge.source not in self._rank or edge.target not in self._rank:
                message = f"the edge from '{edge.source}' to '{edge.target}' leaves the graph"
                raise ValueError(message)
            self._needs[edge.target].setdefault(edge.source, edge)
            self._dependents[edge.source].setdefault(edge.target, edge)

    def __repr__(self) -> str:
        return f"DependencyGraph({len(self.nodes)} nodes, {len(self.edges)} edges)"

    def needs(self, key: str) -> frozenset[str]:
        """What has to be there directly before `key`."""
        return frozenset(self._needs[key])

    def dependents(self, key: str) -> frozenset[str]:
        """What directly needs `key`."""
        return frozenset(self._dependents[key])

    def ancestors(self, key: str) -> frozenset[str]:
        """Everything that `key` needs, directly or not."""
        return _reach(self._needs, key)

    def descendants(self, key: str) -> frozenset[str]:
        """Everything that needs `key`, directly or not."""
        return _reach(self._dependents, key)

    def reversed(self) -> DependencyGraph:
        """The graph of the opposite direction: the order of deletion."""
        return DependencyGraph(self.nodes, (_turned(edge) for edge in self.edges))

    def order(self) -> tuple[str, ...]:
        """All nodes, each after what it needs; where that leaves a choice, in the order given."""
        return self._order

    def waves(self) -> tuple[tuple[str, ...], ...]:
        """The nodes in groups, each as early as its needs allow; no node needs another of its group."""
        level: dict[str, int] = {}
        for key in self._order:
            level[key] = max((level[need] + 1 for need in self._needs[key]), default=0)
        groups: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
        for key in self.nodes:
            groups[level[key]].append(key)
        return tuple(tuple(group) for group in groups)

    def critical_path(self, durations: Mapping[str, float]) -> tuple[str, ...]:
        """The chain of nodes that takes longest, and of such chains one with most nodes.

        Durations are in any one unit; a node without one takes no time.
        """
        finish: dict[str, float] = {}
        length: dict[str, int] = {}
        before: dict[str, str | None] = {}
        for key in self._order:
            latest = max(
                self._needs[key], key=lambda need: (finish[need], length[need], -self._rank[need]), default=None
            )
            before[key] = latest
            finish[key] = durations.get(key, 0.0) + (finish[latest] if latest is not None else 0.0)
            length[key] = 1 + (length[latest] if latest is not None else 0)
        last = max(finish, key=lambda key: (finish[key], length[key], -self._rank[key]), default=None)
        chain: list[str] = []
        while last is not None:
            chain.append(last)
            last = before[last]
        return tuple(reversed(chain))

    def redundant_edges(self) -> tuple[Edge, ...]:
        """Explicit edges between two nodes that a reference connects in the same direction anyway."""
        implied = {(edge.source, edge.target) for edge in self.edges if not edge.explicit}
        return tuple(edge for edge in self.edges if edge.explicit and (edge.source, edge.target) in implied)

    def cycles(self) -> tuple[tuple[Edge, ...], ...]:
        """Every self edge, and a shortest cycle of every strongly connected component.

        The target of each edge is the source of the next, and the last leads back to the first.
        """
        loops = [(self._needs[key][key],) for key in self.nodes if key in self._needs[key]]
        rings = [self._shortest_cycle(part) for part in self._components() if len(part) > 1]
        return (*loops, *rings)

    def check(self) -> None:
        """Raise Cyclic, with every cycle in words, unless there is none."""
        if len(self._sorted) == len(self.nodes):
            return
        cycles = self.cycles()
        raise Cyclic("; ".join(describe_cycle(cycle) for cycle in cycles), cycles=cycles)

    @cached_property
    def _order(self) -> tuple[str, ...]:
        self.check()
        return self._sorted

    @cached_property
    def _sorted(self) -> tuple[str, ...]:
        """Kahn's algorithm; nodes on or behind a cycle are missing from the result."""
        waiting = {key: len(self._needs[key]) for key in self.nodes}
        ready = [self._rank[key] for key, count in waiting.items() if count == 0]
        heapify(ready)
        ordered: list[str] = []
        while ready:
            key = self.nodes[heappop(ready)]
            ordered.append(key)
            for dependent in self._dependents[key]:
                waiting[dependent] -= 1
                if waiting[dependent] == 0:
                    heappush(ready, self._rank[dependent])
        return tuple(ordered)

    def _components(self) -> Iterator[list[str]]:
        """Tarjan's strongly connected components, with an explicit stack: definitions may be 5,000 nodes deep."""
        index: dict[str, int] = {}
        low: dict[str, int] = {}
        stack: list[str] = []
        on_stack: set[str] = set()
        for root in self.nodes:
            if root in index:
                continue
            work: list[tuple[str, Iterator[str]]] = [(root, iter(self._dependents[root]))]
            index[root] = low[root] = len(index)
            stack.append(root)
            on_stack.add(root)
            while work:
                key, following = work[-1]
                successor = next(following, None)
                if successor is None:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[key])
                    if low[key] == index[key]:
                        yield self._pop_component(stack, on_stack, key)
                elif successor not in index:
                    index[successor] = low[successor] = len(index)
                    stack.append(successor)
                    on_stack.add(successor)
                    work.append((successor, iter(self._dependents[successor])))
                elif successor in on_stack:
                    low[key] = min(low[key], index[successor])

    def _pop_component(self, stack: list[str], on_stack: set[str], key: str) -> list[str]:
        part: list[str] = []
        while True:
            member = stack.pop()
            on_stack.discard(member)
            part.append(member)
            if member == key:
                return sorted(part, key=self._rank.__getitem__)

    def _shortest_cycle(self, part: list[str]) -> tuple[Edge, ...]:
        """A shortest cycle of two or more nodes in a component.

        Once the shortest cycle through a node is known, the node is taken out together with all that is then on no
        cycle any more, and later searches stop at the best length so far: a ring of n nodes is searched once, not
        n times.
        """
        alive = set(part)
        best: tuple[str, ...] = ()
        for start in part:
            if start in alive:
                found = self._cycle_through(start, alive, len(best))
                best = found or best
                if len(best) == 2:
                    break
                self._peel(start, alive)
        return tuple(
            self._dependents[source][target] for source, target in zip(best, (*best[1:], best[0]), strict=True)
        )

    def _cycle_through(self, start: str, alive: set[str], bound: int) -> tuple[str, ...] | None:
        """The nodes of a shortest cycle through `start`, if it has fewer than `bound` of them; 0 means no bound."""
        parent = {start: start}
        frontier, length = [start], 1
        while frontier and (bound == 0 or length < bound):
            following: list[str] = []
            for key in frontier:
                for successor in self._dependents[key]:
                    if successor == start and key != start:
                        chain = [key]
                        while chain[-1] != start:
                            chain.append(parent[chain[-1]])
                        return tuple(reversed(chain))
                    if successor in alive and successor not in parent:
                        parent[successor] = key
                        following.append(successor)
            frontier, length = following, length + 1
        return None

    def _peel(self, gone: str, alive: set[str]) -> None:
        """Take `gone` out, and whatever then has nothing before it or nothing behind it."""
        queue = deque([gone])
        while queue:
            key = queue.popleft()
            if key not in alive:
                continue
            alive.discard(key)
            for neighbour in (*self._needs[key], *self._dependents[key]):
                if neighbour in alive and not (
                    any(other in alive and other != neighbour for other in self._needs[neighbour])
                    and any(other in alive and other != neighbour for other in self._dependents[neighbour])
                ):
                    queue.append(neighbour)


def describe_cycle(cycle: Iterable[Edge]) -> str:
    """The cycle in words: "a needs b (a.properties.x: ${resources.b.id}), b needs a (b.dependsOn)"."""
    parts: list[str] = []
    for edge in reversed(tuple(cycle)):
        place = ": ".join(text for text in (edge.path, edge.expression) if text)
        parts.append(f"{edge.target} needs {edge.source}" + (f" ({place})" if place else ""))
    return ", ".join(parts)


def _turned(edge: Edge) -> Edge:
    return Edge(edge.target, edge.source, edge.explicit, edge.path, edge.expression)


def _reach(neighbours: Mapping[str, Mapping[str, Edge]], start: str) -> frozenset[str]:
    seen: set[str] = set()
    queue = list(neighbours[start])
    while queue:
        key = queue.pop()
        if key not in seen:
            seen.add(key)
            queue.extend(neighbours[key])
    return frozenset(seen)


class Needing(Protocol):
    """What has a place among others by what it needs."""

    key: str
    needs: tuple[str, ...]


Placed = TypeVar("Placed", bound=Needing)


def in_dependency_order(steps: Iterable[Placed]) -> tuple[Placed, ...]:
    """The steps so that needs come first; needs that name no step of the job are passed over."""
    pending = {step.key: step for step in steps}
    ordered: list[Placed] = []
    placed: set[str] = set()
    known = pending.keys()
    while pending:
        ready = []
        # What was placed in this round counts: steps that come in their order already are placed in one.
        for step in pending.values():
            if all(need in placed or need not in known for need in step.needs):
                ready.append(step)
                placed.add(step.key)
        if not ready:
            message = f"the steps {sorted(pending)} depend on each other in a circle"
            raise ValueError(message)
        ordered.extend(ready)
        for step in ready:
            del pending[step.key]
    return tuple(ordered)
